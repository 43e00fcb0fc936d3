// SPDX-License-Identifier: MIT
#include "common/frame_resizer.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/guard.h"
#include "image/yuv.h"

namespace da3::plugin {
namespace {

// One patch of the network: a smaller picture holds nothing to infer from.
constexpr int kMinSide = 14;
constexpr int kMaxSide = 32767;
constexpr GstVideoFormat kDeepPlanes =
    G_BYTE_ORDER == G_LITTLE_ENDIAN ? GST_VIDEO_FORMAT_Y444_16LE : GST_VIDEO_FORMAT_Y444_16BE;

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

// All but format and colours is that of the input, which the converter requires.
GstVideoInfo like(const GstVideoInfo& in, GstVideoFormat format, const GstVideoColorimetry& colorimetry) {
  GstVideoInfo out;
  if (!gst_video_info_set_interlaced_format(&out, format, GST_VIDEO_INFO_INTERLACE_MODE(&in),
                                            GST_VIDEO_INFO_WIDTH(&in), GST_VIDEO_INFO_HEIGHT(&in))) {
    throw format_error("The picture is too large to be converted to RGB.", describe(in));
  }
  out.colorimetry = colorimetry;
  out.fps_n = in.fps_n;
  out.fps_d = in.fps_d;
  out.par_n = in.par_n;
  out.par_d = in.par_d;
  return out;
}

GstVideoColorimetry srgb() {
  GstVideoColorimetry colorimetry;
  gst_video_colorimetry_from_string(&colorimetry, GST_VIDEO_COLORIMETRY_SRGB);
  return colorimetry;
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

// Y'CbCr and grey are brought to RGB by lib/image: GstVideoConverter's matrix is off by up to six levels, and
// by three on average. Nothing if the frame's colours follow no luma coefficients.
std::optional<image::YuvCoding> coding_of(const GstVideoInfo& info, GstVideoFormat planes) {
  image::YuvCoding coding;
  const GstVideoColorimetry& colorimetry = GST_VIDEO_INFO_COLORIMETRY(&info);
  if (!GST_VIDEO_INFO_IS_YUV(&info) && !GST_VIDEO_INFO_IS_GRAY(&info)) return std::nullopt;
  if (!gst_video_color_matrix_get_Kr_Kb(colorimetry.matrix, &coding.kr, &coding.kb)) return std::nullopt;
  gint offset[GST_VIDEO_MAX_COMPONENTS], scale[GST_VIDEO_MAX_COMPONENTS];
  gst_video_color_range_offsets(colorimetry.range, gst_video_format_get_info(planes), offset, scale);
  for (int c = 0; c < 3; ++c) {
    coding.offset[c] = offset[c];
    coding.scale[c] = scale[c];
  }
  return coding;
}

// A picture that lives as long as the configuration.
class Scratch {
 public:
  explicit Scratch(const GstVideoInfo& info) {
    buffer_ = gst_buffer_new_allocate(nullptr, GST_VIDEO_INFO_SIZE(&info), nullptr);
    if (!buffer_) throw std::bad_alloc();
    if (!gst_video_frame_map(&frame_, &info, buffer_, GST_MAP_READWRITE)) {
      gst_buffer_unref(buffer_);
      throw std::bad_alloc();
    }
  }
  ~Scratch() {
    gst_video_frame_unmap(&frame_);
    gst_buffer_unref(buffer_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  GstVideoFrame* frame() { return &frame_; }

 private:
  GstBuffer* buffer_ = nullptr;
  GstVideoFrame frame_;
};

image::ConstImage image_of(const GstVideoFrame* frame) {
  return {static_cast<const uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(frame, 0)), GST_VIDEO_FRAME_WIDTH(frame),
          GST_VIDEO_FRAME_HEIGHT(frame), GST_VIDEO_FRAME_PLANE_STRIDE(frame, 0)};
}

image::MutableImage writable(GstVideoFrame* frame) {
  return {static_cast<uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(frame, 0)), GST_VIDEO_FRAME_WIDTH(frame),
          GST_VIDEO_FRAME_HEIGHT(frame), GST_VIDEO_FRAME_PLANE_STRIDE(frame, 0)};
}

image::ConstYuv yuv_of(const GstVideoFrame* frame) {
  image::ConstYuv yuv;
  yuv.bits = static_cast<int>(GST_VIDEO_FRAME_COMP_DEPTH(frame, 0));
  for (int c = 0; c < 3; ++c) {
    yuv.data[c] = static_cast<const uint8_t*>(GST_VIDEO_FRAME_COMP_DATA(frame, c));
    yuv.stride[c] = GST_VIDEO_FRAME_COMP_STRIDE(frame, c);
    if (yuv.bits == 8) yuv.step[c] = GST_VIDEO_FRAME_COMP_PSTRIDE(frame, c);
  }
  yuv.width = GST_VIDEO_FRAME_WIDTH(frame);
  yuv.height = GST_VIDEO_FRAME_HEIGHT(frame);
  yuv.half_width = GST_VIDEO_FORMAT_INFO_W_SUB(frame->info.finfo, 1) == 1;
  yuv.half_height = GST_VIDEO_FORMAT_INFO_H_SUB(frame->info.finfo, 1) == 1;
  yuv.cosited = (frame->info.chroma_site & GST_VIDEO_CHROMA_SITE_H_COSITED) != 0;
  return yuv;
}

// Without a step in between: two to three times as fast, and chroma lies where the caps say, whatever the
// layout (the converter asks only where a plane holds Cb and Cr by turns: there the bytes are the same). Not
// VYUY: GStreamer 1.22 has its Cb and Cr the wrong way round in the table of formats.
bool is_read_as_it_lies(const GstVideoInfo& info) {
  switch (GST_VIDEO_INFO_FORMAT(&info)) {
    case GST_VIDEO_FORMAT_I420:
    case GST_VIDEO_FORMAT_A420:
    case GST_VIDEO_FORMAT_YV12:
    case GST_VIDEO_FORMAT_NV12:
    case GST_VIDEO_FORMAT_NV21:
      // Fields have chroma of their own.
      return !GST_VIDEO_INFO_IS_INTERLACED(&info) && !(info.chroma_site & GST_VIDEO_CHROMA_SITE_V_COSITED);
    case GST_VIDEO_FORMAT_YUY2:
    case GST_VIDEO_FORMAT_UYVY:
    case GST_VIDEO_FORMAT_YVYU:
    case GST_VIDEO_FORMAT_Y42B:
    case GST_VIDEO_FORMAT_NV16:
    case GST_VIDEO_FORMAT_NV61:
      return true;
    default:
      return false;
  }
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

// frame -> (converter) -> planes -> (coding) -> rgb -> resize; what is not needed is empty.
struct FrameResizer::State {
  GstVideoInfo input;
  image::ProcessPlan plan;
  int threads = 0;
  ConverterPtr converter;
  std::optional<image::YuvCoding> coding;
  std::unique_ptr<Scratch> planes, rgb;

  void plan_conversion();
  const GstVideoFrame* to_rgb(GstVideoFrame* frame);
};

void FrameResizer::State::plan_conversion() {
  const GstVideoFormat format = GST_VIDEO_INFO_FORMAT(&input);
  if (format == GST_VIDEO_FORMAT_RGB) return;
  const bool deep = GST_VIDEO_INFO_COMP_DEPTH(&input, 0) > 8;
  const GstVideoFormat full = deep ? kDeepPlanes : GST_VIDEO_FORMAT_Y444;
  const GstVideoInfo rgb_info = like(input, GST_VIDEO_FORMAT_RGB, srgb());
  coding = coding_of(input, full);
  if (!coding) {
    converter = make_converter(input, rgb_info, unsigned(threads));
  } else if (format != full && !is_read_as_it_lies(input)) {
    const GstVideoInfo planes_info = like(input, full, GST_VIDEO_INFO_COLORIMETRY(&input));
    converter = make_converter(input, planes_info, unsigned(threads));
    planes = std::make_unique<Scratch>(planes_info);
  }
  rgb = std::make_unique<Scratch>(rgb_info);
}

const GstVideoFrame* FrameResizer::State::to_rgb(GstVideoFrame* frame) {
  if (!rgb) return frame;
  GstVideoFrame* converted = planes ? planes->frame() : coding ? frame : rgb->frame();
  if (converter) gst_video_converter_frame(converter.get(), frame, converted);
  if (coding) image::yuv_to_rgb(yuv_of(converted), *coding, writable(rgb->frame()), threads);
  return rgb->frame();
}

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
  state->plan_conversion();
  state_ = std::move(state);
}

const image::ProcessPlan& FrameResizer::plan() const {
  if (!state_) throw std::logic_error("FrameResizer is used before it is configured.");
  return state_->plan;
}

bool FrameResizer::identity() const {
  const image::ProcessPlan& plan = this->plan();
  const image::Size stored{GST_VIDEO_INFO_WIDTH(&state_->input), GST_VIDEO_INFO_HEIGHT(&state_->input)};
  return !state_->rgb && stored == plan.boundary && stored == plan.final;
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
  image::resize_rgb(image_of(state_->to_rgb(frame)), plan, out, state_->threads);
}

}  // namespace da3::plugin
