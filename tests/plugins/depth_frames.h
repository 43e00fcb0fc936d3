// SPDX-License-Identifier: MIT
//
// Video frames with depth attached by the public functions of libgstda3, and small helpers around a harness
// and its bus.
#pragma once

#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#include <gst/da3/da3.h>
#include <gst/video/video.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace da3::testing {

struct FloatMap {
  int width = 0, height = 0;
  std::vector<float> values;
  FloatMap() = default;
  FloatMap(int w, int h, float value = 1) : width(w), height(h), values(size_t(w) * size_t(h), value) {}
  float& at(int x, int y) { return values[size_t(y) * width + x]; }
  float at(int x, int y) const { return values[size_t(y) * width + x]; }
};

// The same numbers on every machine.
struct Noise {
  uint32_t state = 1;
  float next(float low, float high) {
    state = state * 1664525u + 1013904223u;
    return low + (high - low) * float(state >> 8) / float(1 << 24);
  }
};

inline FloatMap noisy_map(int w, int h, float low, float high, uint32_t seed = 1) {
  FloatMap map(w, h);
  Noise noise{seed};
  for (float& v : map.values) v = noise.next(low, high);
  return map;
}

inline void attach(GstBuffer* buffer, const char* id, const FloatMap& map) {
  GstBuffer* data = gst_buffer_new_memdup(map.values.data(), map.values.size() * sizeof(float));
  const gsize dims[3] = {1, gsize(map.height), gsize(map.width)};
  fail_unless(gst_buffer_add_da3_tensor(buffer, id, data, 3, dims));
}

inline GstDa3View example_view(int width, int height, GstDa3DepthKind kind = GST_DA3_DEPTH_KIND_RELATIVE) {
  GstDa3View view;
  gst_da3_view_init(&view);
  view.kind = kind;
  view.unit_scale = kind == GST_DA3_DEPTH_KIND_METRIC ? 1 : 0;
  view.image_width = width;
  view.image_height = height;
  view.source_width = width;
  view.source_height = height;
  view.source_w = width;
  view.source_h = height;
  view.depth_w = width;
  view.depth_h = height;
  g_strlcpy(view.model, "da3-small", sizeof view.model);
  return view;
}

// A picture whose bytes depend on their place.
inline GstBuffer* picture(const GstVideoInfo& info, GstClockTime pts = 0) {
  GstBuffer* buffer = gst_buffer_new_allocate(nullptr, GST_VIDEO_INFO_SIZE(&info), nullptr);
  GstMapInfo map;
  gst_buffer_map(buffer, &map, GST_MAP_WRITE);
  for (gsize i = 0; i < map.size; ++i) map.data[i] = uint8_t(i * 7 + i / 251);
  gst_buffer_unmap(buffer, &map);
  GST_BUFFER_PTS(buffer) = pts;
  GST_BUFFER_DURATION(buffer) = GST_SECOND / 30;
  return buffer;
}

inline GstVideoInfo video_info(const char* caps_text) {
  GstCaps* caps = gst_caps_from_string(caps_text);
  GstVideoInfo info;
  fail_unless(gst_video_info_from_caps(&info, caps), "%s", caps_text);
  gst_caps_unref(caps);
  return info;
}

inline std::vector<uint8_t> bytes_of(GstBuffer* buffer) {
  std::vector<uint8_t> bytes(gst_buffer_get_size(buffer));
  gst_buffer_extract(buffer, 0, bytes.data(), bytes.size());
  return bytes;
}

// One element between two pads, with its own bus.
class Bench {
 public:
  explicit Bench(const char* launch) : h(gst_harness_new_parse(launch)) {
    bus = gst_bus_new();
    gst_element_set_bus(h->element, bus);
  }
  ~Bench() {
    gst_element_set_bus(h->element, nullptr);
    gst_object_unref(bus);
    gst_harness_teardown(h);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void caps(const char* text) {
    info = video_info(text);
    gst_harness_set_src_caps_str(h, text);
  }
  GstElement* element(const char* factory) { return gst_harness_find_element(h, factory); }
  // The first message of that type, or null; the caller owns it.
  GstMessage* message(GstMessageType type) { return gst_bus_pop_filtered(bus, type); }

  GstHarness* h;
  GstBus* bus;
  GstVideoInfo info{};
};

struct BusText {
  GQuark domain = 0;
  int code = -1;
  std::string text;
};

inline BusText parse(GstMessage* message) {
  BusText result;
  if (!message) return result;
  GError* error = nullptr;
  if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
    gst_message_parse_error(message, &error, nullptr);
  } else {
    gst_message_parse_warning(message, &error, nullptr);
  }
  result = {error->domain, error->code, error->message};
  g_error_free(error);
  gst_message_unref(message);
  return result;
}

inline int count_warnings(Bench& bench) {
  int count = 0;
  while (GstMessage* message = bench.message(GST_MESSAGE_WARNING)) {
    gst_message_unref(message);
    ++count;
  }
  return count;
}

// Exactly one error, of that kind, with that part in its text.
inline void assert_error(Bench& bench, GQuark domain, int code, const char* part) {
  const BusText error = parse(bench.message(GST_MESSAGE_ERROR));
  fail_unless(error.domain == domain && error.code == code, "domain %s code %d: %s",
              g_quark_to_string(error.domain), error.code, error.text.c_str());
  fail_unless(error.text.find(part) != std::string::npos, "\"%s\" is not in \"%s\"", part,
              error.text.c_str());
  fail_unless(bench.message(GST_MESSAGE_ERROR) == nullptr, "a second error");
}

inline std::string sink_caps_text(GstHarness* h) {
  GstCaps* caps = gst_pad_get_current_caps(h->sinkpad);
  gchar* text = gst_caps_to_string(caps);
  std::string result = text;
  g_free(text);
  gst_caps_unref(caps);
  return result;
}

inline int sink_caps_int(GstHarness* h, const char* field) {
  GstCaps* caps = gst_pad_get_current_caps(h->sinkpad);
  int value = -1;
  gst_structure_get_int(gst_caps_get_structure(caps, 0), field, &value);
  gst_caps_unref(caps);
  return value;
}

// How often each event came out; drains the harness.
inline std::vector<GstEventType> events_out(GstHarness* h) {
  std::vector<GstEventType> types;
  while (GstEvent* event = gst_harness_try_pull_event(h)) {
    types.push_back(GST_EVENT_TYPE(event));
    gst_event_unref(event);
  }
  return types;
}

}  // namespace da3::testing
