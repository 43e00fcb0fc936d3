// SPDX-License-Identifier: MIT
//
// da3preprocess in a harness, RGB frames for it, and what the resizer makes of them.
#pragma once

#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#undef fail  // a macro of check that std::ios::fail() does not survive

#include <gst/video/gstvideometa.h>
#include <gst/video/video.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "gst/da3/da3.h"
#include "image/process_size.h"
#include "image/resize.h"

namespace da3::testing {

using image::ProcessResMethod;
using image::Size;

using Bytes = std::vector<uint8_t>;

inline constexpr ProcessResMethod kMethods[] = {
    ProcessResMethod::upper_bound_resize, ProcessResMethod::upper_bound_crop,
    ProcessResMethod::lower_bound_resize, ProcessResMethod::lower_bound_crop};

// The element in a harness, with a bus for its errors.
struct Rig {
  GstHarness* h;
  GstBus* bus;

  explicit Rig(const char* caps = nullptr) : h(gst_harness_new("da3preprocess")), bus(gst_bus_new()) {
    gst_element_set_bus(h->element, bus);
    if (caps) gst_harness_set_src_caps_str(h, caps);
  }
  ~Rig() {
    gst_element_set_bus(h->element, nullptr);
    gst_harness_teardown(h);
    gst_object_unref(bus);
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  void set(const char* property, guint value) { g_object_set(h->element, property, value, nullptr); }
  void method(ProcessResMethod method) {
    g_object_set(h->element, "process-res-method", int(method), nullptr);
  }

  // The text of the only error on the bus, empty if there is none.
  std::string error() {
    std::string text;
    int count = 0;
    while (GstMessage* message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR)) {
      GError* e = nullptr;
      gst_message_parse_error(message, &e, nullptr);
      text = e->message;
      g_error_free(e);
      gst_message_unref(message);
      ++count;
    }
    fail_unless(count <= 1, "%d errors, the last one: %s", count, text.c_str());
    return text;
  }
  void assert_no_error() {
    const std::string text = error();
    fail_unless(text.empty(), "%s", text.c_str());
  }
  void assert_error(const char* part) {
    const std::string text = error();
    fail_unless(text.find(part) != std::string::npos, "expected '%s' in '%s'", part, text.c_str());
  }
};

inline std::string rgb_caps(int width, int height) {
  return "video/x-raw,format=RGB,width=" + std::to_string(width) + ",height=" + std::to_string(height) +
         ",framerate=30/1";
}

inline Bytes pattern(size_t size) {
  Bytes bytes(size);
  uint32_t seed = 12345;
  for (size_t i = 0; i < size; ++i) {
    seed = seed * 1664525u + 1013904223u;
    bytes[i] = uint8_t((i / 7) + (seed >> 29));
  }
  return bytes;
}

inline GstBuffer* buffer_of(const Bytes& bytes) {
  GstBuffer* buffer = bytes.empty() ? gst_buffer_new() : gst_buffer_new_memdup(bytes.data(), bytes.size());
  GST_BUFFER_PTS(buffer) = 0;
  GST_BUFFER_DURATION(buffer) = GST_SECOND / 30;
  return buffer;
}

// RGB rows of GStreamer are padded to 4 bytes.
inline Bytes rgb_frame(int width, int height) {
  return pattern(size_t(GST_ROUND_UP_4(width * 3)) * height);
}

inline Bytes pixels_of(GstBuffer* buffer, int width, int height) {
  GstVideoInfo info;
  gst_video_info_set_format(&info, GST_VIDEO_FORMAT_RGB, guint(width), guint(height));
  GstVideoFrame frame;
  fail_unless(gst_video_frame_map(&frame, &info, buffer, GST_MAP_READ));
  Bytes out;
  for (int y = 0; y < height; ++y) {
    const auto* row = static_cast<uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(&frame, 0)) +
                      std::ptrdiff_t(y) * GST_VIDEO_FRAME_PLANE_STRIDE(&frame, 0);
    out.insert(out.end(), row, row + width * 3);
  }
  gst_video_frame_unmap(&frame);
  return out;
}

inline Bytes reference(const Bytes& frame, int width, int height, int process_res, ProcessResMethod method,
                       Size* size) {
  const auto plan = da3::image::plan_process_size({width, height}, process_res, method);
  *size = plan.final;
  Bytes out(size_t(plan.final.width) * plan.final.height * 3);
  da3::image::resize_rgb({frame.data(), width, height, GST_ROUND_UP_4(width * 3)}, plan,
                         {out.data(), plan.final.width, plan.final.height, plan.final.width * 3});
  return out;
}

inline Size output_size(GstHarness* h) {
  GstCaps* caps = gst_pad_get_current_caps(h->sinkpad);
  fail_unless(caps != nullptr);
  Size size;
  gst_structure_get_int(gst_caps_get_structure(caps, 0), "width", &size.width);
  gst_structure_get_int(gst_caps_get_structure(caps, 0), "height", &size.height);
  gst_caps_unref(caps);
  return size;
}

inline void assert_size(GstHarness* h, int width, int height) {
  const Size size = output_size(h);
  fail_unless(size.width == width && size.height == height, "%dx%d instead of %dx%d", size.width, size.height,
              width, height);
}

inline guint caps_events(GstHarness* h) {
  guint count = 0;
  while (GstEvent* event = gst_harness_try_pull_event(h)) {
    count += GST_EVENT_TYPE(event) == GST_EVENT_CAPS;
    gst_event_unref(event);
  }
  return count;
}

}  // namespace da3::testing
