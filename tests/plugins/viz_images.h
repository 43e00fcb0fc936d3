// SPDX-License-Identifier: MIT
//
// Frames with depth for da3depthviz, the pixels that it makes of them, and upstream's rule written a second
// time.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "depth_frames.h"
#include "image/colormap.h"

namespace da3::testing {

using image::color_table;
using image::Colormap;
using image::ColorTable;
using image::Rgb;

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr const char* kRgb64 = "video/x-raw,format=RGB,width=64,height=48,framerate=30/1";
// Upstream's rule: every frame on its own, at the size of the map, nothing drawn over it.
inline constexpr const char* kPlain = "da3depthviz smoothing=0 legend=false output-size=model";
inline constexpr const char* kPlainSource = "da3depthviz smoothing=0 legend=false";

// --- an independent version of upstream's rule
// ----------------------------------------------------------------------

inline double numpy_percentile(std::vector<double> sorted, double q) {
  std::sort(sorted.begin(), sorted.end());
  const double at = q / 100 * double(sorted.size() - 1);
  const size_t k = size_t(std::floor(at));
  if (k + 1 >= sorted.size()) return sorted.back();
  return sorted[k] + (sorted[k + 1] - sorted[k]) * (at - double(k));
}

inline std::vector<int> upstream_entries(const FloatMap& depth) {
  std::vector<double> valid;
  for (float d : depth.values)
    if (d > 0) valid.push_back(1.0f / d);
  double lo = 0, hi = 0;
  if (valid.size() > 10) {
    lo = numpy_percentile(valid, 2);
    hi = numpy_percentile(valid, 98);
  }
  if (lo == hi) {
    lo -= 1e-6;
    hi += 1e-6;
  }
  std::vector<int> entries;
  for (float d : depth.values) {
    const double disparity = d > 0 ? 1.0f / d : d;
    const double v = 1 - std::clamp((disparity - lo) / (hi - lo), 0.0, 1.0);
    entries.push_back(std::min(int(256 * v), 255));
  }
  return entries;
}

// --- frames
// ---------------------------------------------------------------------------------------------------------

inline GstBuffer* frame(Bench& bench, const FloatMap& depth, GstClockTime pts = 0,
                        const GstDa3View* view = nullptr) {
  GstBuffer* buffer = picture(bench.info, pts);
  attach(buffer, GST_DA3_TENSOR_DEPTH, depth);
  const GstDa3View usual =
      example_view(GST_VIDEO_INFO_WIDTH(&bench.info), GST_VIDEO_INFO_HEIGHT(&bench.info));
  gst_buffer_add_da3_view(buffer, view ? view : &usual);
  return buffer;
}

// The pixels of an output frame.
struct Image {
  int width = 0, height = 0;
  std::vector<Rgb> pixels;
  Rgb at(int x, int y) const { return pixels[size_t(y) * width + x]; }
  bool operator==(const Image&) const = default;
};

inline Image image_of(GstHarness* h, GstBuffer* buffer) {
  GstCaps* caps = gst_pad_get_current_caps(h->sinkpad);
  GstVideoInfo info;
  fail_unless(gst_video_info_from_caps(&info, caps));
  gst_caps_unref(caps);
  GstVideoFrame video;
  fail_unless(gst_video_frame_map(&video, &info, buffer, GST_MAP_READ));
  Image image{info.width, info.height, {}};
  for (int y = 0; y < info.height; ++y) {
    for (int x = 0; x < info.width; ++x) {
      uint8_t rgb[3];
      for (int c = 0; c < 3; ++c) {
        const auto* data = static_cast<const uint8_t*>(GST_VIDEO_FRAME_COMP_DATA(&video, c));
        rgb[c] =
            data[y * GST_VIDEO_FRAME_COMP_STRIDE(&video, c) + x * GST_VIDEO_FRAME_COMP_PSTRIDE(&video, c)];
      }
      image.pixels.push_back({rgb[0], rgb[1], rgb[2]});
    }
  }
  gst_video_frame_unmap(&video);
  return image;
}

inline Image show(Bench& bench, GstBuffer* in) {
  GstBuffer* out = gst_harness_push_and_pull(bench.h, in);
  fail_unless(out != nullptr);
  Image image = image_of(bench.h, out);
  gst_buffer_unref(out);
  return image;
}

inline Image show_once(const char* launch, const FloatMap& depth, const char* caps = kRgb64) {
  Bench bench(launch);
  bench.caps(caps);
  return show(bench, frame(bench, depth));
}

inline void assert_entries(const Image& image, const std::vector<int>& entries, const ColorTable& table) {
  fail_unless_equals_int(int(image.pixels.size()), int(entries.size()));
  for (size_t i = 0; i < entries.size(); ++i)
    fail_unless(image.pixels[i] == table[entries[i]], "pixel %d", int(i));
}

inline void assert_all(const Image& image, Rgb color) {
  for (const Rgb& pixel : image.pixels) fail_unless(pixel == color, "%d %d %d", pixel.r, pixel.g, pixel.b);
}

inline FloatMap ramp(int w, int h, float first, float last) {
  FloatMap map(w, h);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) map.at(x, y) = first + (last - first) * float(x) / float(w - 1);
  return map;
}

}  // namespace da3::testing
