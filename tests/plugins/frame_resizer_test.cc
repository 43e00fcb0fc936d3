// SPDX-License-Identifier: MIT
#include "common/frame_resizer.h"

#include <gst/check/gstcheck.h>
#include <gst/video/video.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/guard.h"

using da3::image::ProcessResMethod;
using da3::image::Size;
using da3::plugin::ElementError;
using da3::plugin::FrameResizer;

namespace {

using Rgb = std::array<int, 3>;
using Picture = std::vector<uint8_t>;
constexpr auto kResize = ProcessResMethod::upper_bound_resize;

const Rgb kColours[] = {{0, 0, 0},     {255, 255, 255}, {255, 0, 0},   {0, 255, 0},  {0, 0, 255},
                        {255, 255, 0}, {200, 30, 90},   {12, 180, 77}, {64, 64, 64}, {250, 200, 10}};

GstVideoInfo info_of(const std::string& fields) {
  GstCaps* caps = gst_caps_from_string(("video/x-raw,framerate=30/1," + fields).c_str());
  GstVideoInfo info;
  fail_unless(caps && gst_video_info_from_caps(&info, caps), "%s", fields.c_str());
  gst_caps_unref(caps);
  return info;
}

// A mapped frame of its own.
class Frame {
 public:
  explicit Frame(const GstVideoInfo& info, GstBuffer* buffer = nullptr) : buffer_(buffer) {
    if (!buffer_) buffer_ = gst_buffer_new_allocate(nullptr, GST_VIDEO_INFO_SIZE(&info), nullptr);
    gst_buffer_memset(buffer_, 0, 0xA5, gst_buffer_get_size(buffer_));
    fail_unless(gst_video_frame_map(&frame_, &info, buffer_, GST_MAP_READWRITE));
  }
  ~Frame() {
    gst_video_frame_unmap(&frame_);
    gst_buffer_unref(buffer_);
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
  GstVideoFrame* get() { return &frame_; }

  // `value(component, x, y)` in [0, 1] of the component's full code range.
  void fill(const std::function<double(guint, int, int)>& value) {
    const GstVideoFormatInfo* format = frame_.info.finfo;
    for (guint c = 0; c < GST_VIDEO_FRAME_N_COMPONENTS(&frame_); ++c) {
      const guint depth = GST_VIDEO_FORMAT_INFO_DEPTH(format, c),
                  shift = GST_VIDEO_FORMAT_INFO_SHIFT(format, c);
      auto* data = static_cast<uint8_t*>(GST_VIDEO_FRAME_COMP_DATA(&frame_, c));
      // The table of GStreamer 1.22 has Cr of this format one byte, not one word, after Cb.
      if (GST_VIDEO_FRAME_FORMAT(&frame_) == GST_VIDEO_FORMAT_P010_10LE && c == 2) {
        data = static_cast<uint8_t*>(GST_VIDEO_FRAME_COMP_DATA(&frame_, 1)) + 2;
      }
      for (int y = 0; y < GST_VIDEO_FRAME_COMP_HEIGHT(&frame_, c); ++y) {
        for (int x = 0; x < GST_VIDEO_FRAME_COMP_WIDTH(&frame_, c); ++x) {
          uint8_t* at = data + y * GST_VIDEO_FRAME_COMP_STRIDE(&frame_, c) +
                        x * GST_VIDEO_FRAME_COMP_PSTRIDE(&frame_, c);
          const auto code = static_cast<guint>(std::lround(value(c, x, y) * ((1u << depth) - 1))) << shift;
          if (depth <= 8) {
            *at = static_cast<uint8_t>(code);
          } else {
            GST_WRITE_UINT16_LE(at, static_cast<guint16>(code));
          }
        }
      }
    }
  }

 private:
  GstBuffer* buffer_;
  GstVideoFrame frame_;
};

Picture process(FrameResizer& resizer, Frame& frame) {
  const Size size = resizer.plan().final;
  Picture out(size_t(size.width) * size.height * 3, 0xEE);
  resizer.process(frame.get(), {out.data(), size.width, size.height, size.width * 3});
  return out;
}

Picture process(const GstVideoInfo& info, Frame& frame, unsigned threads = 1) {
  FrameResizer resizer;
  resizer.configure(info, 504, kResize, threads);
  return process(resizer, frame);
}

int worst(const Picture& out, const Rgb& expected) {
  int error = 0;
  for (size_t i = 0; i < out.size(); ++i) error = std::max(error, std::abs(out[i] - expected[i % 3]));
  return error;
}

// The definition of Y'CbCr: codes of `depth` bits in [0, 1] of the code range.
std::array<double, 3> yuv_of(const Rgb& rgb, double kr, double kb, bool full, guint depth) {
  const double r = rgb[0] / 255.0, g = rgb[1] / 255.0, b = rgb[2] / 255.0;
  const double y = kr * r + (1 - kr - kb) * g + kb * b;
  const double cb = (b - y) / (2 * (1 - kb)), cr = (r - y) / (2 * (1 - kr));
  const double top = (1 << depth) - 1, unit = 1 << (depth - 8), middle = 1 << (depth - 1);
  if (full) return {y, (middle + cb * top) / top, (middle + cr * top) / top};
  return {(16 + 219 * y) * unit / top, (middle + 224 * unit * cb) / top, (middle + 224 * unit * cr) / top};
}

struct Matrix {
  const char* colorimetry;
  double kr, kb;
  bool full;
};

// range:matrix:transfer:primaries as GStreamer writes them; 1 = full, 2 = limited.
const Matrix kMatrices[] = {{"bt601", 0.299, 0.114, false},
                            {"bt709", 0.2126, 0.0722, false},
                            {"1:4:0:0", 0.299, 0.114, true},
                            {"1:3:5:1", 0.2126, 0.0722, true},
                            {"bt2020", 0.2627, 0.0593, false}};

void check_yuv(const char* format, const char* size, guint depth, const Matrix& m) {
  const GstVideoInfo info =
      info_of(std::string("format=") + format + "," + size + ",colorimetry=(string)" + m.colorimetry);
  Frame frame(info);
  for (Rgb colour : kColours) {
    if (m.full) {  // chroma of the purest colours lies half a code above the range
      for (int& v : colour) v = std::clamp(v, 1, 254);
    }
    const auto yuv = yuv_of(colour, m.kr, m.kb, m.full, depth);
    frame.fill([&](guint c, int, int) { return yuv[c]; });
    FrameResizer resizer;
    resizer.configure(info, 112, kResize, 1);
    const int error = worst(process(resizer, frame), colour);
    fail_unless(error <= 2, "%s %s: %d,%d,%d is off by %d", format, m.colorimetry, colour[0], colour[1],
                colour[2], error);
  }
}

void check_rgb(const char* format) {
  const GstVideoInfo info = info_of(std::string("format=") + format + ",width=112,height=56");
  FrameResizer resizer;
  resizer.configure(info, 112, kResize, 1);
  Frame frame(info);
  for (const Rgb& colour : kColours) {
    // Transparent: the colour counts all the same.
    frame.fill([&](guint c, int, int) { return c < 3 ? colour[c] / 255.0 : 0.0; });
    const int error = worst(process(resizer, frame), colour);
    fail_unless(error == 0, "%s is off by %d", format, error);
  }
}

std::optional<ElementError> refusal(const std::string& fields, ProcessResMethod method = kResize) {
  try {
    FrameResizer().configure(info_of(fields), 504, method, 1);
  } catch (const ElementError& e) {
    fail_unless(e.domain() == GST_STREAM_ERROR && e.code() == GST_STREAM_ERROR_FORMAT);
    return e;
  }
  return std::nullopt;
}

void assert_refused(const std::string& fields, const char* text, ProcessResMethod method = kResize) {
  const auto error = refusal(fields, method);
  fail_unless(error.has_value(), "%s was taken", fields.c_str());
  fail_unless(std::string(error->what()).find(text) != std::string::npos, "%s", error->what());
}

// The frame with chroma for every pixel, as GStreamer's own converter makes it.
Picture converted_by_gstreamer(const GstVideoInfo& info, Frame& frame) {
  GstVideoInfo full;
  gst_video_info_set_interlaced_format(&full, GST_VIDEO_FORMAT_Y444, GST_VIDEO_INFO_INTERLACE_MODE(&info),
                                       GST_VIDEO_INFO_WIDTH(&info), GST_VIDEO_INFO_HEIGHT(&info));
  full.colorimetry = GST_VIDEO_INFO_COLORIMETRY(&info);
  full.fps_n = info.fps_n;
  full.fps_d = info.fps_d;
  Frame planes(full);
  GstVideoConverter* converter = gst_video_converter_new(
      &info, &full,
      gst_structure_new("GstVideoConverter", GST_VIDEO_CONVERTER_OPT_DITHER_METHOD,
                        GST_TYPE_VIDEO_DITHER_METHOD, GST_VIDEO_DITHER_NONE, nullptr));
  gst_video_converter_frame(converter, frame.get(), planes.get());
  gst_video_converter_free(converter);
  return process(full, planes);
}

double noise(guint c, int x, int y) {
  return ((x * 97 + y * 57 + int(c) * 31 + x * y * 13 + x * x * 7) % 251) / 250.0;
}

double ramp(guint c, int x, int y) {
  return ((x * 7 + y * 13 + int(c) * 50) % 256) / 255.0;
}

}  // namespace

GST_START_TEST(rgb_is_resized_as_it_is) {
  const GstVideoInfo info = info_of("format=RGB,width=640,height=480");
  Frame frame(info);
  frame.fill(ramp);
  FrameResizer resizer;
  resizer.configure(info, 504, kResize, 1);
  fail_if(resizer.identity());
  Picture expected(504 * 378 * 3);
  da3::image::resize_rgb({static_cast<uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(frame.get(), 0)), 640, 480, 1920},
                         resizer.plan(), {expected.data(), 504, 378, 1512});
  fail_unless(process(resizer, frame) == expected);
}
GST_END_TEST

GST_START_TEST(identity_only_without_any_work) {
  FrameResizer resizer;
  resizer.configure(info_of("format=RGB,width=504,height=280"), 504, kResize, 1);
  fail_unless(resizer.identity());
  for (const char* fields : {"format=BGR,width=504,height=280", "format=RGB,width=504,height=284",
                             "format=RGB,width=252,height=280,pixel-aspect-ratio=2/1"}) {
    resizer.configure(info_of(fields), 504, kResize, 1);
    fail_if(resizer.identity(), "%s", fields);
  }
}
GST_END_TEST

GST_START_TEST(packed_rgb_formats_lose_nothing_but_alpha) {
  for (const char* format :
       {"BGR", "RGBx", "BGRx", "xRGB", "xBGR", "RGBA", "BGRA", "ARGB", "ABGR", "GBR", "RGBP"}) {
    check_rgb(format);
  }
}
GST_END_TEST

GST_START_TEST(yuv_8_bit_colours) {
  for (const char* format : {"I420", "NV12", "NV21", "YV12", "YUY2", "UYVY", "Y42B", "Y444"}) {
    for (const Matrix& m : kMatrices) check_yuv(format, "width=112,height=56", 8, m);
  }
}
GST_END_TEST

GST_START_TEST(yuv_10_bit_colours) {
  for (const char* format : {"I420_10LE", "P010_10LE", "I422_10LE"}) {
    for (const Matrix& m : kMatrices) check_yuv(format, "width=112,height=56", 10, m);
  }
}
GST_END_TEST

GST_START_TEST(odd_sizes_reach_the_last_pixel) {
  for (const char* format : {"I420", "NV12", "YUY2", "Y41B"}) {
    check_yuv(format, "width=113,height=57", 8, kMatrices[0]);
    check_yuv(format, "width=115,height=75", 8, kMatrices[3]);
  }
}
GST_END_TEST

// GStreamer's converter asks where the samples lie if they are interleaved in a plane of their own; in other
// layouts it repeats them or resizes the plane. Here the layout makes no difference.
GST_START_TEST(chroma_is_filled_in_as_gstreamer_does_with_a_plane_for_both) {
  const struct {
    const char *format, *of_gstreamer;
  } rows[] = {{"I420", "NV12"}, {"YV12", "NV12"}, {"NV12", "NV12"}, {"NV21", "NV12"},
              {"YUY2", "NV16"}, {"UYVY", "NV16"}, {"YVYU", "NV16"}, {"A420", "NV12"},
              {"Y42B", "NV16"}, {"NV16", "NV16"}, {"NV61", "NV16"}};
  // 504x280 and 252x126 are not resized.
  for (const char* size : {"width=504,height=280", "width=505,height=281", "width=252,height=126",
                           "width=14,height=15", "width=35,height=17", "width=71,height=16"}) {
    for (const char* site :
         {"", ",chroma-site=(string)jpeg", ",chroma-site=(string)mpeg2", ",chroma-site=(string)cosited"}) {
      // Without colorimetry GStreamer takes no notice of a chroma-site.
      for (const auto& row : rows) {
        // GStreamer takes these, and repeats chroma or does not ask a plane of its own where it lies.
        const bool by_gstreamer = row.of_gstreamer == std::string("NV12") && std::strstr(site, "cosited");
        if (by_gstreamer && row.format != row.of_gstreamer) continue;
        const std::string fields = std::string(size) + ",colorimetry=bt601" + site;
        const GstVideoInfo info = info_of("format=" + (row.format + ("," + fields)));
        const GstVideoInfo of_gstreamer = info_of("format=" + (row.of_gstreamer + ("," + fields)));
        Frame frame(info), interleaved(of_gstreamer);
        frame.fill(noise);
        interleaved.fill(noise);
        fail_unless(process(info, frame) == converted_by_gstreamer(of_gstreamer, interleaved), "%s %s",
                    row.format, fields.c_str());
      }
    }
  }
}
GST_END_TEST

// GStreamer's own table of formats has mistakes, so the bytes are written out.
GST_START_TEST(cb_and_cr_are_where_the_format_says) {
  const uint8_t y = 81, cb = 90, cr = 240;  // red in BT.601
  struct {
    const char* format;
    std::vector<std::vector<uint8_t>> planes;  // what each repeats
  } rows[] = {{"I420", {{y}, {cb}, {cr}}}, {"YV12", {{y}, {cr}, {cb}}}, {"Y42B", {{y}, {cb}, {cr}}},
              {"NV12", {{y}, {cb, cr}}},   {"NV21", {{y}, {cr, cb}}},   {"NV16", {{y}, {cb, cr}}},
              {"NV61", {{y}, {cr, cb}}},   {"YUY2", {{y, cb, y, cr}}},  {"UYVY", {{cb, y, cr, y}}},
              {"YVYU", {{y, cr, y, cb}}},  {"VYUY", {{cr, y, cb, y}}},  {"A420", {{y}, {cb}, {cr}, {0}}},
              {"AYUV", {{0, y, cb, cr}}},  {"v308", {{y, cb, cr}}}};
  for (const auto& row : rows) {
    const GstVideoInfo info =
        info_of(std::string("format=") + row.format + ",width=112,height=56,colorimetry=bt601");
    Frame frame(info);
    fail_unless_equals_int(int(row.planes.size()), int(GST_VIDEO_INFO_N_PLANES(&info)));
    for (guint p = 0; p < row.planes.size(); ++p) {
      const std::vector<uint8_t>& turns = row.planes[p];
      auto* bytes = static_cast<uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(frame.get(), p));
      const int stride = GST_VIDEO_FRAME_PLANE_STRIDE(frame.get(), p);
      const int lines = GST_VIDEO_FRAME_COMP_HEIGHT(frame.get(), p);
      for (int i = 0; i < stride * lines; ++i) bytes[i] = turns[size_t(i % stride) % turns.size()];
    }
    const int error = worst(process(info, frame), {255, 0, 0});
    fail_unless(error <= 2, "%s is off by %d", row.format, error);
  }
}
GST_END_TEST

GST_START_TEST(other_layouts_are_unpacked_by_gstreamer) {
  for (const char* fields :
       {"format=Y41B", "format=YUV9", "format=IYU1", "format=v308", "format=AYUV",
        "format=I420,chroma-site=(string)cosited", "format=NV12,chroma-site=(string)cosited",
        "format=I420,chroma-site=(string)mpeg2,interlace-mode=interleaved",
        "format=NV12,chroma-site=(string)mpeg2,interlace-mode=interleaved"}) {
    const GstVideoInfo info = info_of(std::string(fields) + ",colorimetry=bt601,width=252,height=126");
    Frame frame(info);
    frame.fill(noise);
    fail_unless(process(info, frame) == converted_by_gstreamer(info, frame), "%s", fields);
  }
}
GST_END_TEST

GST_START_TEST(interlaced_yuv_is_converted_as_fields) {
  check_yuv("I420", "width=112,height=56,interlace-mode=interleaved", 8, kMatrices[0]);
  check_yuv("NV12", "width=112,height=56,interlace-mode=mixed", 8, kMatrices[1]);
}
GST_END_TEST

// Without colorimetry in the caps GStreamer's rule holds: up to 576 lines BT.601, above BT.709.
GST_START_TEST(missing_colorimetry_follows_the_size) {
  struct {
    const char* size;
    Matrix matrix;
  } rows[] = {{"width=640,height=480", kMatrices[0]}, {"width=1280,height=720", kMatrices[1]}};
  const Rgb colour = {200, 30, 90};
  for (const auto& row : rows) {
    const GstVideoInfo info = info_of(std::string("format=NV12,") + row.size);
    const auto yuv = yuv_of(colour, row.matrix.kr, row.matrix.kb, false, 8);
    Frame frame(info);
    frame.fill([&](guint c, int, int) { return yuv[c]; });
    fail_unless(worst(process(info, frame), colour) <= 2, "%s", row.size);
  }
}
GST_END_TEST

GST_START_TEST(grey_of_8_and_16_bit) {
  for (const char* format : {"GRAY8", "GRAY16_LE"}) {
    const GstVideoInfo info = info_of(std::string("format=") + format + ",width=112,height=56");
    Frame frame(info);
    for (int level : {0, 1, 77, 128, 254, 255}) {
      frame.fill([&](guint, int, int) { return level / 255.0; });
      FrameResizer resizer;
      resizer.configure(info, 112, kResize, 1);
      const int error = worst(process(resizer, frame), {level, level, level});
      fail_unless(error <= 1, "%s level %d is off by %d", format, level, error);
    }
  }
}
GST_END_TEST

GST_START_TEST(strides_and_offsets_of_a_video_meta) {
  const GstVideoInfo info = info_of("format=NV12,width=321,height=243,colorimetry=bt601");
  Frame tight(info);
  tight.fill(ramp);
  const Picture expected = process(info, tight);
  gint stride[GST_VIDEO_MAX_PLANES] = {384, 512};
  gsize offset[GST_VIDEO_MAX_PLANES] = {128, 128 + 384 * 250};
  GstBuffer* buffer = gst_buffer_new_allocate(nullptr, offset[1] + 512 * 130, nullptr);
  gst_buffer_add_video_meta_full(buffer, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_NV12, 321, 243, 2,
                                 offset, stride);
  Frame padded(info, buffer);
  padded.fill(ramp);
  fail_unless(process(info, padded) == expected);
}
GST_END_TEST

GST_START_TEST(threads_do_not_change_a_byte) {
  const GstVideoInfo info = info_of("format=I420,width=1280,height=720");
  Frame frame(info);
  frame.fill(ramp);
  const Picture one = process(info, frame, 1);
  for (unsigned threads : {0u, 2u, 5u, 100000u}) fail_unless(process(info, frame, threads) == one);
}
GST_END_TEST

GST_START_TEST(pixel_aspect_ratio_never_shrinks) {
  const auto displayed = [](const char* par, int width, int height) {
    return da3::plugin::displayed_size(info_of("format=RGB,width=" + std::to_string(width) + ",height=" +
                                               std::to_string(height) + ",pixel-aspect-ratio=" + par));
  };
  fail_unless((displayed("1/1", 720, 576) == Size{720, 576}));
  fail_unless((displayed("16/15", 720, 576) == Size{768, 576}));
  fail_unless((displayed("8/9", 720, 480) == Size{720, 540}));
  fail_unless((displayed("40/33", 720, 480) == Size{873, 480}));
  fail_unless((displayed("1/2", 720, 576) == Size{720, 1152}));
  fail_unless((displayed("2147483647/1", 720, 576) == Size{G_MAXINT, 576}));
}
GST_END_TEST

GST_START_TEST(anamorphic_picture_is_planned_as_seen) {
  FrameResizer resizer;
  resizer.configure(info_of("format=RGB,width=720,height=576,pixel-aspect-ratio=64/45"), 504, kResize, 1);
  fail_unless((resizer.plan().input == Size{1024, 576}));
  fail_unless((resizer.plan().final == Size{504, 280}));
  Frame frame(info_of("format=RGB,width=720,height=576,pixel-aspect-ratio=64/45"));
  frame.fill([](guint, int, int) { return 0.5; });
  fail_unless(worst(process(resizer, frame), {128, 128, 128}) == 0);
}
GST_END_TEST

GST_START_TEST(too_small_pictures) {
  assert_refused("format=RGB,width=1,height=1", "1x1");
  assert_refused("format=I420,width=13,height=13", "at least 14");
  assert_refused("format=RGB,width=1,height=4000", "1x4000");
  assert_refused("format=NV12,width=4000,height=13", "too small");
  fail_if(refusal("format=I420,width=14,height=14").has_value());
}
GST_END_TEST

GST_START_TEST(too_extreme_aspect_ratios) {
  assert_refused("format=RGB,width=20,height=4000", "aspect ratio");
  assert_refused("format=RGB,width=14,height=4000", "32767", ProcessResMethod::lower_bound_resize);
  assert_refused("format=RGB,width=640,height=480,pixel-aspect-ratio=100/1", "too large");
  assert_refused("format=RGB,width=100,height=480,pixel-aspect-ratio=1/40", "aspect ratio");
}
GST_END_TEST

GST_START_TEST(single_fields_and_coded_video_are_refused) {
  GstVideoInfo info = info_of("format=RGB,width=640,height=480");
  GST_VIDEO_INFO_INTERLACE_MODE(&info) = GST_VIDEO_INTERLACE_MODE_ALTERNATE;
  FrameResizer resizer;
  const auto refused = [&](const char* text) {
    try {
      resizer.configure(info, 504, kResize, 1);
    } catch (const ElementError& e) {
      return std::string(e.what()).find(text) != std::string::npos;
    }
    return false;
  };
  fail_unless(refused("deinterlace"));
  gst_video_info_set_format(&info, GST_VIDEO_FORMAT_ENCODED, 640, 480);
  fail_unless(refused("not raw"));
  gst_video_info_init(&info);
  fail_unless(refused("not raw"));
}
GST_END_TEST

GST_START_TEST(a_refusal_keeps_the_old_configuration) {
  const GstVideoInfo good = info_of("format=RGB,width=640,height=480");
  FrameResizer resizer;
  resizer.configure(good, 280, kResize, 1);
  gboolean thrown = FALSE;
  try {
    resizer.configure(info_of("format=RGB,width=1,height=1"), 504, kResize, 1);
  } catch (const ElementError&) {
    thrown = TRUE;
  }
  fail_unless(thrown);
  fail_unless((resizer.plan().final == Size{280, 210}));
  Frame frame(good);
  fail_unless(process(resizer, frame).size() == 280 * 210 * 3);
}
GST_END_TEST

GST_START_TEST(a_frame_of_another_size_or_format_is_refused) {
  FrameResizer resizer;
  resizer.configure(info_of("format=NV12,width=640,height=480"), 504, kResize, 1);
  for (const char* other : {"format=NV12,width=320,height=480", "format=NV12,width=640,height=482",
                            "format=I420,width=640,height=480"}) {
    Frame frame(info_of(other));
    gboolean thrown = FALSE;
    try {
      process(resizer, frame);
    } catch (const ElementError& e) {
      thrown = TRUE;
      fail_unless(std::string(e.what()).find("640x480") != std::string::npos, "%s", e.what());
    }
    fail_unless(thrown, "%s", other);
  }
}
GST_END_TEST

GST_START_TEST(use_before_configure_throws) {
  FrameResizer resizer;
  Frame frame(info_of("format=RGB,width=640,height=480"));
  for (int what = 0; what < 3; ++what) {
    gboolean thrown = FALSE;
    try {
      if (what == 0) resizer.plan();
      if (what == 1) resizer.identity();
      if (what == 2) resizer.process(frame.get(), {});
    } catch (const std::logic_error&) {
      thrown = TRUE;
    }
    fail_unless(thrown);
  }
}
GST_END_TEST

static Suite* frame_resizer_suite() {
  Suite* s = suite_create("frame_resizer");
  TCase* t = tcase_create("general");
  suite_add_tcase(s, t);
  tcase_set_timeout(t, 60);
  tcase_add_test(t, rgb_is_resized_as_it_is);
  tcase_add_test(t, identity_only_without_any_work);
  tcase_add_test(t, packed_rgb_formats_lose_nothing_but_alpha);
  tcase_add_test(t, yuv_8_bit_colours);
  tcase_add_test(t, yuv_10_bit_colours);
  tcase_add_test(t, odd_sizes_reach_the_last_pixel);
  tcase_add_test(t, chroma_is_filled_in_as_gstreamer_does_with_a_plane_for_both);
  tcase_add_test(t, cb_and_cr_are_where_the_format_says);
  tcase_add_test(t, other_layouts_are_unpacked_by_gstreamer);
  tcase_add_test(t, interlaced_yuv_is_converted_as_fields);
  tcase_add_test(t, missing_colorimetry_follows_the_size);
  tcase_add_test(t, grey_of_8_and_16_bit);
  tcase_add_test(t, strides_and_offsets_of_a_video_meta);
  tcase_add_test(t, threads_do_not_change_a_byte);
  tcase_add_test(t, pixel_aspect_ratio_never_shrinks);
  tcase_add_test(t, anamorphic_picture_is_planned_as_seen);
  tcase_add_test(t, too_small_pictures);
  tcase_add_test(t, too_extreme_aspect_ratios);
  tcase_add_test(t, single_fields_and_coded_video_are_refused);
  tcase_add_test(t, a_refusal_keeps_the_old_configuration);
  tcase_add_test(t, a_frame_of_another_size_or_format_is_refused);
  tcase_add_test(t, use_before_configure_throws);
  return s;
}

GST_CHECK_MAIN(frame_resizer)
