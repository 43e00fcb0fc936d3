// SPDX-License-Identifier: MIT
//
// Frames with depth for da3extract, and the samples that it makes of them.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "depth_frames.h"

namespace da3::testing {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr const char* kRgb64 = "video/x-raw,format=RGB,width=64,height=48,framerate=30/1";

inline GstBuffer* frame(Bench& bench, const char* id, const FloatMap& map, GstClockTime pts = 0,
                        const GstDa3View* view = nullptr) {
  GstBuffer* buffer = picture(bench.info, pts);
  attach(buffer, id, map);
  const GstDa3View usual =
      example_view(GST_VIDEO_INFO_WIDTH(&bench.info), GST_VIDEO_INFO_HEIGHT(&bench.info));
  gst_buffer_add_da3_view(buffer, view ? view : &usual);
  return buffer;
}

inline GstBuffer* depth_frame(Bench& bench, const FloatMap& map, GstClockTime pts = 0,
                              const GstDa3View* view = nullptr) {
  return frame(bench, GST_DA3_TENSOR_DEPTH, map, pts, view);
}

// The samples of an output frame without the padding of its rows.
inline std::vector<int> samples_of(GstHarness* h, GstBuffer* buffer) {
  GstCaps* caps = gst_pad_get_current_caps(h->sinkpad);
  GstVideoInfo info;
  fail_unless(gst_video_info_from_caps(&info, caps));
  gst_caps_unref(caps);
  const bool wide = GST_VIDEO_INFO_FORMAT(&info) == GST_VIDEO_FORMAT_GRAY16_LE;
  fail_unless(wide || GST_VIDEO_INFO_FORMAT(&info) == GST_VIDEO_FORMAT_GRAY8);
  const std::vector<uint8_t> bytes = bytes_of(buffer);
  fail_unless_equals_int(int(bytes.size()), int(GST_VIDEO_INFO_SIZE(&info)));
  std::vector<int> samples;
  for (int y = 0; y < info.height; ++y)
    for (int x = 0; x < info.width; ++x) {
      const uint8_t* p = &bytes[y * GST_VIDEO_INFO_PLANE_STRIDE(&info, 0) + x * (wide ? 2 : 1)];
      samples.push_back(wide ? p[0] | p[1] << 8 : p[0]);
    }
  return samples;
}

inline std::vector<int> extract(Bench& bench, GstBuffer* in) {
  GstBuffer* out = gst_harness_push_and_pull(bench.h, in);
  fail_unless(out != nullptr);
  const std::vector<int> samples = samples_of(bench.h, out);
  gst_buffer_unref(out);
  return samples;
}

inline void assert_equal(const std::vector<int>& got, const std::vector<int>& want) {
  fail_unless_equals_int(int(got.size()), int(want.size()));
  for (size_t i = 0; i < got.size(); ++i)
    fail_unless(got[i] == want[i], "%d: %d, not %d", int(i), got[i], want[i]);
}

inline void assert_caps_has(GstHarness* h, const char* part) {
  const std::string caps = sink_caps_text(h);
  fail_unless(caps.find(part) != std::string::npos, "%s is not in %s", part, caps.c_str());
}

}  // namespace da3::testing
