// SPDX-License-Identifier: MIT
//
// da3infer between two test pads, with the stub engine behind it and its bus at hand.
#pragma once

#include <dlfcn.h>
#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#undef fail  // a macro of check that std::ios::fail() does not survive

#include <gst/da3/da3.h>
#include <gst/video/video.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "../stub_engine/stub_engine.h"
#include "engine/api/engine.h"

namespace da3::testing {

struct Rgb {
  uint8_t r = 0, g = 0, b = 0;
};

// What the stub engine makes of a colour.
inline float stub_depth(Rgb c) {
  return 1.0f + 9.0f * float(c.r + c.g + c.b) / 765.0f;
}
inline float stub_confidence(Rgb c) {
  return 1.0f + float(c.r) / 255.0f;
}
inline float stub_sky(Rgb c) {
  return float(c.b) / 255.0f;
}

inline const Da3StubControl& stub() {
  static const Da3StubControl* control = [] {
    void* module = dlopen(g_getenv("DA3_STUB_ENGINE"), RTLD_NOW | RTLD_LOCAL);
    fail_unless(module != nullptr, "%s", dlerror());
    auto* get = reinterpret_cast<const Da3StubControl* (*)()>(dlsym(module, DA3_STUB_ENTRY));
    fail_unless(get != nullptr);
    return get();
  }();
  return *control;
}

inline Da3StubCounters stub_counters() {
  Da3StubCounters counters;
  stub().counters(&counters);
  return counters;
}

// Before gst_check_init(): the elements find the stub instead of the real engine.
inline void use_stub_engine() {
  const char* path = g_getenv("DA3_STUB_ENGINE");
  if (path) g_setenv("DA3_ENGINE_PATH", path, TRUE);
}

inline std::string rgb_caps(int width, int height) {
  return "video/x-raw,format=RGB,width=" + std::to_string(width) + ",height=" + std::to_string(height) +
         ",framerate=25/1,pixel-aspect-ratio=1/1";
}

constexpr GstClockTime kFrameTime = 40 * GST_MSECOND;

// An RGB frame of one colour with the timestamps of frame `number` of a 25/s stream.
inline GstBuffer* solid_frame(int width, int height, Rgb colour, int number) {
  GstVideoInfo info;
  gst_video_info_set_format(&info, GST_VIDEO_FORMAT_RGB, width, height);
  GstBuffer* buffer = gst_buffer_new_allocate(nullptr, info.size, nullptr);
  GstVideoFrame frame;
  fail_unless(gst_video_frame_map(&frame, &info, buffer, GST_MAP_WRITE));
  for (int y = 0; y < height; ++y) {
    auto* row = static_cast<uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(&frame, 0)) +
                size_t(y) * GST_VIDEO_FRAME_PLANE_STRIDE(&frame, 0);
    for (int x = 0; x < width; ++x) {
      row[3 * x] = colour.r;
      row[3 * x + 1] = colour.g;
      row[3 * x + 2] = colour.b;
    }
  }
  gst_video_frame_unmap(&frame);
  GST_BUFFER_PTS(buffer) = GstClockTime(number) * kFrameTime;
  GST_BUFFER_DURATION(buffer) = kFrameTime;
  GST_BUFFER_OFFSET(buffer) = guint64(number);
  return buffer;
}

// A colour that tells frames apart.
inline Rgb colour_of(int number) {
  return {uint8_t(10 + 7 * (number % 30)), uint8_t(200 - 5 * (number % 30)), uint8_t(3 * (number % 30))};
}

inline GstBuffer* numbered_frame(int width, int height, int number) {
  return solid_frame(width, height, colour_of(number), number);
}

// Says "da3preprocess made this picture".
inline void mark_processed(GstBuffer* buffer, int width, int height) {
  GstDa3View view;
  gst_da3_view_init(&view);
  view.processed = TRUE;
  view.image_width = width;
  view.image_height = height;
  fail_unless(gst_buffer_add_da3_view(buffer, &view));
}

inline std::vector<float> tensor_of(GstBuffer* buffer, const char* id, std::vector<gsize>* dims = nullptr) {
  GstDa3Tensor tensor;
  fail_unless(gst_buffer_get_da3_tensor(buffer, id, &tensor), "no tensor %s", id);
  std::vector<float> values(gst_buffer_get_size(tensor.data) / sizeof(float));
  gst_buffer_extract(tensor.data, 0, values.data(), values.size() * sizeof(float));
  if (dims) dims->assign(tensor.dims, tensor.dims + tensor.n_dims);
  return values;
}

inline bool has_tensor(GstBuffer* buffer, const char* id) {
  GstDa3Tensor tensor;
  return gst_buffer_get_da3_tensor(buffer, id, &tensor);
}

inline GstDa3View view_of(GstBuffer* buffer) {
  GstDa3View view;
  fail_unless(gst_buffer_get_da3_view(buffer, &view), "no view meta");
  return view;
}

inline void assert_near(double value, double expected, double tolerance = 1e-5) {
  // check writes to a file at every fail_unless(), which is too slow for every pixel.
  if (std::fabs(value - expected) <= tolerance) return;
  fail_unless(false, "%.9g is not %.9g", value, expected);
}

// The depth of a frame is what the stub makes of `colour`, everywhere.
inline void assert_depth_of(GstBuffer* buffer, Rgb colour) {
  for (const float value : tensor_of(buffer, GST_DA3_TENSOR_DEPTH)) assert_near(value, stub_depth(colour));
}

// ---- the bus
// ------------------------------------------------------------------------------------------------------

struct BusError {
  bool found = false;
  GQuark domain = 0;
  gint code = 0;
  std::string text, debug;
};

inline BusError read_message(GstMessage* message) {
  BusError result;
  if (!message) return result;
  GError* error = nullptr;
  gchar* debug = nullptr;
  if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
    gst_message_parse_error(message, &error, &debug);
  } else {
    gst_message_parse_warning(message, &error, &debug);
  }
  result = {true, error->domain, error->code, error->message, debug ? debug : ""};
  g_error_free(error);
  g_free(debug);
  gst_message_unref(message);
  return result;
}

class Bus {
 public:
  explicit Bus(GstElement* element) : element_(GST_ELEMENT(gst_object_ref(element))), bus_(gst_bus_new()) {
    gst_element_set_bus(element, bus_);
  }
  ~Bus() {
    gst_element_set_bus(element_, nullptr);
    gst_object_unref(element_);
    gst_object_unref(bus_);
  }
  Bus(const Bus&) = delete;
  Bus& operator=(const Bus&) = delete;

  BusError pop(GstMessageType type) { return read_message(gst_bus_pop_filtered(bus_, type)); }
  BusError wait(GstMessageType type) {
    return read_message(gst_bus_timed_pop_filtered(bus_, 60 * GST_SECOND, type));
  }
  // Exactly one error, of this kind, with `part` in its text.
  void expect_one_error(GQuark domain, gint code, const char* part) {
    const BusError error = wait(GST_MESSAGE_ERROR);
    fail_unless(error.found, "no error on the bus");
    fail_unless(error.domain == domain && error.code == code, "wrong kind: %s %d: %s",
                g_quark_to_string(error.domain), error.code, error.text.c_str());
    fail_unless(error.text.find(part) != std::string::npos, "'%s' is not in: %s", part, error.text.c_str());
    expect_no_error();
  }
  void expect_no_error() {
    const BusError error = pop(GST_MESSAGE_ERROR);
    fail_if(error.found, "unexpected error: %s (%s)", error.text.c_str(), error.debug.c_str());
  }

 private:
  GstElement* element_;
  GstBus* bus_;
};

// ---- the element
// --------------------------------------------------------------------------------------------------

// An element made from launch-like properties ("model=stub: views=3").
inline GstElement* make_infer(const std::string& properties) {
  const std::string launch = "da3infer " + properties;
  GError* error = nullptr;
  GstElement* element = gst_parse_launch_full(launch.c_str(), nullptr, GST_PARSE_FLAG_NONE, &error);
  fail_unless(element != nullptr && error == nullptr, "%s", error ? error->message : "no element");
  return GST_ELEMENT(gst_object_ref_sink(element));
}

enum class Source { file, live };

// Frames in = frames out + drops by reason + frames inside. Returns how many are inside.
inline guint assert_accounts(GstElement* element) {
  GstStructure* stats = nullptr;
  g_object_get(element, "stats", &stats, nullptr);
  const auto number = [](const GstStructure* s, const char* field) {
    guint64 value = 0;
    fail_unless(gst_structure_get_uint64(s, field, &value), "no field %s", field);
    return value;
  };
  guint inside = 0;
  gst_structure_get_uint(stats, "queue-level", &inside);
  const GstStructure* drops = gst_value_get_structure(gst_structure_get_value(stats, "drops"));
  guint64 dropped = 0;
  for (const char* reason : {"flush", "stopped", "refused", "error", "overrun", "late", "qos"}) {
    dropped += number(drops, reason);
  }
  const guint64 in = number(stats, "frames-in"), out = number(stats, "frames-out");
  fail_unless(in == out + dropped + inside && dropped == number(stats, "frames-dropped"),
              "%" G_GUINT64_FORMAT " in, %" G_GUINT64_FORMAT " out, %" G_GUINT64_FORMAT " dropped, %u inside",
              in, out, dropped, inside);
  const guint64 special =
      number(stats, "frames-reused") + number(stats, "frames-passed") + number(stats, "frames-gap");
  fail_unless(special <= out, "%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " frames have no result", special,
              out);
  gst_structure_free(stats);
  return inside;
}

class Infer {
 public:
  explicit Infer(const std::string& properties, Source source = Source::file)
      : element(make_infer(properties)), bus(element) {
    harness = gst_harness_new_with_element(element, "sink", "src");
    gst_harness_set_live(harness, source == Source::live);
    harness_chain_ = GST_PAD_CHAINFUNC(harness->sinkpad);
  }
  // Whatever a test does: every frame that came in came out or is counted under a reason.
  ~Infer() {
    gst_element_set_state(element, GST_STATE_NULL);  // nothing comes out any more
    const guint64 received = harness ? gst_harness_buffers_received(harness) : 0;
    const GstPadChainFunction last_chain = harness ? GST_PAD_CHAINFUNC(harness->sinkpad) : nullptr;
    if (harness) gst_harness_teardown(harness);
    assert_accounts();
    const bool all = harness_chain_ == last_chain;  // of another function the harness does not know
    const guint64 counted = stat("frames-out");
    fail_unless(restarted || (all ? received == counted : received <= counted),
                "%u frames came out, %u are counted", guint(received), guint(counted));
    gst_object_unref(element);
  }
  Infer(const Infer&) = delete;
  Infer& operator=(const Infer&) = delete;

  void caps(const std::string& text) { gst_harness_set_src_caps_str(harness, text.c_str()); }
  void caps(int width, int height) { caps(rgb_caps(width, height)); }
  GstFlowReturn push(GstBuffer* buffer) { return gst_harness_push(harness, buffer); }
  void push_numbered(int width, int height, int first, int count) {
    for (int i = first; i < first + count; ++i) {
      fail_unless_equals_int(push(numbered_frame(width, height, i)), GST_FLOW_OK);
    }
  }
  GstBuffer* pull() {
    GstBuffer* buffer = gst_harness_pull(harness);
    fail_unless(buffer != nullptr, "no buffer came");
    return buffer;
  }
  bool event(GstEvent* event) { return gst_harness_push_event(harness, event); }
  // Blocks until downstream got EOS.
  void wait_eos() {
    while (true) {
      GstEvent* event = gst_harness_pull_event(harness);
      fail_unless(event != nullptr, "EOS did not come");
      const bool end = GST_EVENT_TYPE(event) == GST_EVENT_EOS;
      gst_event_unref(event);
      if (end) return;
    }
  }
  int received() { return int(gst_harness_buffers_received(harness)); }
  guint64 stat(const char* field) {
    GstStructure* stats = nullptr;
    g_object_get(element, "stats", &stats, nullptr);
    guint64 value = 0;
    guint small = 0;
    if (!gst_structure_get_uint64(stats, field, &value)) {
      fail_unless(gst_structure_get_uint(stats, field, &small), "no field %s", field);
      value = small;
    }
    gst_structure_free(stats);
    return value;
  }

  void assert_accounts() { da3::testing::assert_accounts(element); }
  guint64 drops(const char* reason) { return by_reason("drops", reason); }
  guint64 skipped(const char* reason) { return by_reason("skipped", reason); }

  GstElement* element;
  Bus bus;
  GstHarness* harness;
  bool restarted = false;  // by the test: the counters began anew

 private:
  GstPadChainFunction harness_chain_;

  guint64 by_reason(const char* field, const char* reason) {
    GstStructure* stats = nullptr;
    g_object_get(element, "stats", &stats, nullptr);
    guint64 value = 0;
    const GValue* part = gst_structure_get_value(stats, field);
    fail_unless(gst_structure_get_uint64(gst_value_get_structure(part), reason, &value), "no %s in %s",
                reason, field);
    gst_structure_free(stats);
    return value;
  }
};

// Pushes numbered frames until they are refused; back-pressure makes that come. Returns the flow.
inline GstFlowReturn push_until_refused(Infer& infer, int first = 0) {
  GstFlowReturn flow = GST_FLOW_OK;
  for (int i = first; flow == GST_FLOW_OK; ++i) flow = infer.push(numbered_frame(56, 28, i));
  return flow;
}

// ---- downstream that says something else than OK
// --------------------------------------------------------------------

struct Answer {
  std::atomic<int> flow{GST_FLOW_OK};
  std::atomic<int> buffers{0};
};

inline GstFlowReturn answer_chain(GstPad* pad, GstObject*, GstBuffer* buffer) {
  auto* answer = static_cast<Answer*>(g_object_get_data(G_OBJECT(pad), "answer"));
  gst_buffer_unref(buffer);
  ++answer->buffers;
  return GstFlowReturn(answer->flow.load());
}

inline void answer_with(Infer& infer, Answer& answer) {
  g_object_set_data(G_OBJECT(infer.harness->sinkpad), "answer", &answer);
  gst_pad_set_chain_function(infer.harness->sinkpad, answer_chain);
}

}  // namespace da3::testing
