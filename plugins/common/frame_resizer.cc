// SPDX-License-Identifier: MIT
#include "common/frame_resizer.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/guard.h"

namespace da3::plugin {
namespace {

// One patch of the network: a smaller picture holds nothing to infer from.
constexpr int kMinSide = 14;
constexpr int kMaxSide = 32767;

struct ConverterDeleter {
  void operator()(GstVideoConverter* converter) const { gst_video_converter_free(converter); }
};
using ConverterPtr = std::unique_ptr<GstVideoConverter, ConverterDeleter>;

ElementError format_error(const std::string& message, std::string detail = {}) {
  return {GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, message, std::move(detail)};
}

std::string size_text(int width, int height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

std::string describe(const GstVideoInfo& info) {
  const std::string par =
      std::to_string(GST_VIDEO_INFO_PAR_N(&info)) + "/" + std::to_string(GST_VIDEO_INFO_PAR_D(&info));
  const char* name = GST_VIDEO_INFO_NAME(&info);
  return std::string(name ? name : "?") + " " +
         size_text(GST_VIDEO_INFO_WIDTH(&info), GST_VIDEO_INFO_HEIGHT(&info)) + ", pixel-aspect-ratio " + par;
}

void require_readable(const GstVideoInfo& info) {
  const GstVideoFormat format = GST_VIDEO_INFO_FORMAT(&info);
  if (!info.finfo || format == GST_VIDEO_FORMAT_UNKNOWN || format == GST_VIDEO_FORMAT_ENCODED) {
    throw format_error("The video is not raw: decode it first (decodebin3).", describe(info));
  }
  if (GST_VIDEO_INFO_INTERLACE_MODE(&info) == GST_VIDEO_INTERLACE_MODE_ALTERNATE) {
    throw format_error("Every buffer holds one field of an interlaced picture: put 'deinterlace' in front.",
                       describe(info));
  }
}

// The resize works for any size, but what is below one patch or above what the planner takes is refused here.
image::Size checked_display_size(const GstVideoInfo& info) {
  const image::Size size = displayed_size(info);
  if (size.width < kMinSide || size.height < kMinSide) {
    throw format_error(
        "A picture of " + size_text(size.width, size.height) +
            " pixels is too small: each side must have at least 14 pixels, one patch of the network.",
        describe(info));
  }
  if (size.width > kMaxSide || size.height > kMaxSide) {
    throw format_error("A picture that is displayed at " + size_text(size.width, size.height) +
                           " pixels is too large: a side may have at most 32767 pixels.",
                       describe(info));
  }
  return size;
}

// RGB as da3preprocess puts it out; all but format and colours is that of the input, which the converter
// requires.
GstVideoInfo rgb_info(const GstVideoInfo& in) {
  GstVideoInfo out;
  if (!gst_video_info_set_interlaced_format(&out, GST_VIDEO_FORMAT_RGB, GST_VIDEO_INFO_INTERLACE_MODE(&in),
                                            GST_VIDEO_INFO_WIDTH(&in), GST_VIDEO_INFO_HEIGHT(&in))) {
    throw format_error("The picture is too large to be converted to RGB.", describe(in));
  }
  gst_video_colorimetry_from_string(&out.colorimetry, GST_VIDEO_COLORIMETRY_SRGB);
  out.fps_n = in.fps_n;
  out.fps_d = in.fps_d;
  out.par_n = in.par_n;
  out.par_d = in.par_d;
  return out;
}

ConverterPtr make_converter(const GstVideoInfo& in, const GstVideoInfo& out, unsigned threads) {
  // Without dithering: a measurement must not get a pattern laid over it.
  GstStructure* options = gst_structure_new("GstVideoConverter", GST_VIDEO_CONVERTER_OPT_THREADS, G_TYPE_UINT,
                                            threads, GST_VIDEO_CONVERTER_OPT_DITHER_METHOD,
                                            GST_TYPE_VIDEO_DITHER_METHOD, GST_VIDEO_DITHER_NONE, nullptr);
  ConverterPtr converter(gst_video_converter_new(&in, &out, options));
  if (!converter) throw format_error("This video format cannot be converted to RGB.", describe(in));
  return converter;
}

// A picture in RGB that lives as long as the configuration.
class RgbBuffer {
 public:
  explicit RgbBuffer(const GstVideoInfo& info) {
    buffer_ = gst_buffer_new_allocate(nullptr, GST_VIDEO_INFO_SIZE(&info), nullptr);
    if (!buffer_) throw std::bad_alloc();
    if (!gst_video_frame_map(&frame_, &info, buffer_, GST_MAP_READWRITE)) {
      gst_buffer_unref(buffer_);
      throw std::bad_alloc();
    }
  }
  ~RgbBuffer() {
    gst_video_frame_unmap(&frame_);
    gst_buffer_unref(buffer_);
  }
  RgbBuffer(const RgbBuffer&) = delete;
  RgbBuffer& operator=(const RgbBuffer&) = delete;
  GstVideoFrame* frame() { return &frame_; }

 private:
  GstBuffer* buffer_ = nullptr;
  GstVideoFrame frame_;
};

image::ConstImage image_of(const GstVideoFrame* frame) {
  return {static_cast<const uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(frame, 0)), GST_VIDEO_FRAME_WIDTH(frame),
          GST_VIDEO_FRAME_HEIGHT(frame), GST_VIDEO_FRAME_PLANE_STRIDE(frame, 0)};
}

}  // namespace

image::Size displayed_size(const GstVideoInfo& info) {
  const int par_n = GST_VIDEO_INFO_PAR_N(&info), par_d = GST_VIDEO_INFO_PAR_D(&info);
  image::Size size{GST_VIDEO_INFO_WIDTH(&info), GST_VIDEO_INFO_HEIGHT(&info)};
  if (par_n <= 0 || par_d <= 0 || size.width <= 0 || size.height <= 0) return size;
  const auto stretch = [](int side, int num, int den) {
    return static_cast<int>(std::min<guint64>(gst_util_uint64_scale_int_round(side, num, den), G_MAXINT));
  };
  if (par_n > par_d) size.width = stretch(size.width, par_n, par_d);
  if (par_n < par_d) size.height = stretch(size.height, par_d, par_n);
  return size;
}

struct FrameResizer::State {
  GstVideoInfo input;
  image::ProcessPlan plan;
  int threads = 0;
  ConverterPtr converter;
  std::unique_ptr<RgbBuffer> rgb;
};

FrameResizer::FrameResizer() = default;
FrameResizer::~FrameResizer() = default;
FrameResizer::FrameResizer(FrameResizer&&) noexcept = default;
FrameResizer& FrameResizer::operator=(FrameResizer&&) noexcept = default;

image::ProcessPlan plan_frame(const GstVideoInfo& input, int process_res, image::ProcessResMethod method) {
  require_readable(input);
  try {
    return image::plan_process_size(checked_display_size(input), process_res, method);
  } catch (const std::invalid_argument& e) {
    throw format_error(e.what(), describe(input));
  }
}

void FrameResizer::configure(const GstVideoInfo& input, int process_res, image::ProcessResMethod method,
                             unsigned threads) {
  auto state = std::make_unique<State>();
  state->plan = plan_frame(input, process_res, method);
  state->input = input;
  state->threads = static_cast<int>(std::min(threads, 1024u));
  if (GST_VIDEO_INFO_FORMAT(&input) != GST_VIDEO_FORMAT_RGB) {
    const GstVideoInfo rgb = rgb_info(input);
    state->converter = make_converter(input, rgb, static_cast<unsigned>(state->threads));
    state->rgb = std::make_unique<RgbBuffer>(rgb);
  }
  state_ = std::move(state);
}

const image::ProcessPlan& FrameResizer::plan() const {
  if (!state_) throw std::logic_error("FrameResizer is used before it is configured.");
  return state_->plan;
}

bool FrameResizer::identity() const {
  const image::Size stored{GST_VIDEO_INFO_WIDTH(&state_->input), GST_VIDEO_INFO_HEIGHT(&state_->input)};
  return !state_->converter && stored == plan().boundary && stored == plan().final;
}

void FrameResizer::process(GstVideoFrame* frame, const image::MutableImage& out) {
  const image::ProcessPlan& plan = this->plan();
  const GstVideoInfo& input = state_->input;
  if (GST_VIDEO_FRAME_WIDTH(frame) != GST_VIDEO_INFO_WIDTH(&input) ||
      GST_VIDEO_FRAME_HEIGHT(frame) != GST_VIDEO_INFO_HEIGHT(&input) ||
      GST_VIDEO_FRAME_FORMAT(frame) != GST_VIDEO_INFO_FORMAT(&input)) {
    throw format_error("A buffer says that it holds " + describe(frame->info) + ", but its caps say " +
                       describe(input) + ".");
  }
  if (!state_->converter) return image::resize_rgb(image_of(frame), plan, out, state_->threads);
  gst_video_converter_frame(state_->converter.get(), frame, state_->rgb->frame());
  image::resize_rgb(image_of(state_->rgb->frame()), plan, out, state_->threads);
}

}  // namespace da3::plugin
