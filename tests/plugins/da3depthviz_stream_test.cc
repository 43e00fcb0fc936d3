// SPDX-License-Identifier: MIT
//
// da3depthviz as an element: times, metas, caps, events, broken input, pipelines, properties.
#include <cstring>
#include <utility>

#include "viz_images.h"

using namespace da3::testing;

// --- stream
// ---------------------------------------------------------------------------------------------------------

GST_START_TEST(test_times_flags_and_metas_are_kept) {
  Bench bench("da3depthviz");
  bench.caps(kRgb64);
  GstBuffer* in = frame(bench, ramp(28, 14, 1, 5), 7 * GST_SECOND);
  GST_BUFFER_DTS(in) = 6 * GST_SECOND;
  GST_BUFFER_DURATION(in) = 33;
  GST_BUFFER_OFFSET(in) = 5;
  GST_BUFFER_OFFSET_END(in) = 6;
  GST_BUFFER_FLAG_SET(in, GST_BUFFER_FLAG_DISCONT | GST_BUFFER_FLAG_CORRUPTED);
  GstCaps* reference = gst_caps_from_string("timestamp/x-unix");
  gst_buffer_add_reference_timestamp_meta(in, reference, 1234567, GST_CLOCK_TIME_NONE);
  GstBuffer* out = gst_harness_push_and_pull(bench.h, in);
  fail_unless_equals_uint64(GST_BUFFER_PTS(out), 7 * GST_SECOND);
  fail_unless_equals_uint64(GST_BUFFER_DTS(out), 6 * GST_SECOND);
  fail_unless_equals_uint64(GST_BUFFER_DURATION(out), 33);
  fail_unless_equals_uint64(GST_BUFFER_OFFSET(out), 5);
  fail_unless_equals_uint64(GST_BUFFER_OFFSET_END(out), 6);
  fail_unless(GST_BUFFER_FLAG_IS_SET(out, GST_BUFFER_FLAG_DISCONT));
  fail_unless(GST_BUFFER_FLAG_IS_SET(out, GST_BUFFER_FLAG_CORRUPTED));
  GstReferenceTimestampMeta* meta = gst_buffer_get_reference_timestamp_meta(out, reference);
  fail_unless(meta != nullptr && meta->timestamp == 1234567);
  GstDa3Tensor tensor;
  fail_if(gst_buffer_get_da3_tensor(out, GST_DA3_TENSOR_DEPTH, &tensor), "colours carry no measurements");
  gst_caps_unref(reference);
  gst_buffer_unref(out);
}
GST_END_TEST;

GST_START_TEST(test_view_follows_the_picture) {
  GstDa3View view = example_view(64, 48);
  view.has_intrinsics = TRUE;
  view.fx = view.fy = 60;
  view.cx = 32;
  view.cy = 24;
  const auto view_out = [&](const char* launch, GstDa3View* got) {
    Bench bench(launch);
    bench.caps(kRgb64);
    GstBuffer* out = gst_harness_push_and_pull(bench.h, frame(bench, ramp(32, 12, 1, 5), 0, &view));
    const bool found = gst_buffer_get_da3_view(out, got);
    gst_buffer_unref(out);
    return found;
  };
  GstDa3View got;
  fail_unless(view_out("da3depthviz layout=overlay", &got));
  fail_unless(got.fx == 60 && got.cx == 32 && got.image_width == 64);
  fail_unless(view_out("da3depthviz output-size=model", &got));
  fail_unless(got.fx == 30 && got.cx == 16 && got.fy == 15 && got.cy == 6 && got.image_width == 32 &&
              got.image_height == 12);
  fail_if(view_out("da3depthviz layout=side-by-side", &got), "K does not fit two pictures");
}
GST_END_TEST;

GST_START_TEST(test_caps_follow_input_and_layout) {
  Bench bench("da3depthviz");
  bench.caps("video/x-raw,format=I420,width=64,height=48,framerate=25/1,pixel-aspect-ratio=4/3");
  GstElement* element = bench.element("da3depthviz");
  gst_buffer_unref(gst_harness_push_and_pull(bench.h, frame(bench, ramp(28, 14, 1, 5))));
  std::string caps = sink_caps_text(bench.h);
  fail_unless(caps.find("framerate=(fraction)25/1") != std::string::npos, "%s", caps.c_str());
  fail_unless(caps.find("pixel-aspect-ratio=(fraction)4/3") != std::string::npos, "%s", caps.c_str());
  gst_util_set_object_arg(G_OBJECT(element), "layout", "side-by-side");
  gst_buffer_unref(gst_harness_push_and_pull(bench.h, frame(bench, ramp(28, 14, 1, 5))));
  fail_unless_equals_int(sink_caps_int(bench.h, "width"), 128);
  gst_util_set_object_arg(G_OBJECT(element), "output-size", "model");
  gst_buffer_unref(gst_harness_push_and_pull(bench.h, frame(bench, ramp(28, 14, 1, 5))));
  fail_unless_equals_int(sink_caps_int(bench.h, "width"), 56);
  caps = sink_caps_text(bench.h);
  fail_unless(caps.find("pixel-aspect-ratio=(fraction)1/1") != std::string::npos, "%s", caps.c_str());
  bench.caps("video/x-raw,format=NV12,width=32,height=96,framerate=25/1");
  gst_util_set_object_arg(G_OBJECT(element), "output-size", "source");
  gst_buffer_unref(gst_harness_push_and_pull(bench.h, frame(bench, ramp(14, 28, 1, 5))));
  fail_unless_equals_int(sink_caps_int(bench.h, "width"), 64);
  fail_unless_equals_int(sink_caps_int(bench.h, "height"), 96);
  gst_object_unref(element);
}
GST_END_TEST;

GST_START_TEST(test_fifty_size_changes) {
  Bench bench("da3depthviz layout=overlay");
  Noise noise;
  const char* formats[] = {"I420", "RGB", "NV12", "YUY2"};
  for (int i = 0; i < 50; ++i) {
    gchar* caps = g_strdup_printf("video/x-raw,format=%s,width=%d,height=%d,framerate=30/1", formats[i % 4],
                                  int(noise.next(1, 300)), int(noise.next(1, 300)));
    bench.caps(caps);
    const FloatMap depth = noisy_map(int(noise.next(1, 90)), int(noise.next(1, 90)), 0.1f, 9, i);
    const Image image = show(bench, frame(bench, depth, i * GST_SECOND / 30));
    fail_unless(image.width == GST_VIDEO_INFO_WIDTH(&bench.info) &&
                image.height == GST_VIDEO_INFO_HEIGHT(&bench.info));
    g_free(caps);
  }
}
GST_END_TEST;

GST_START_TEST(test_events_come_in_order) {
  Bench bench("da3depthviz");
  bench.caps(kRgb64);
  fail_unless(events_out(bench.h) == std::vector<GstEventType>{GST_EVENT_STREAM_START}, "caps need a frame");
  gst_harness_push_event(bench.h, gst_event_new_tag(gst_tag_list_new(GST_TAG_TITLE, "a", nullptr)));
  gst_harness_push_event(bench.h, gst_event_new_gap(0, 1));
  gst_buffer_unref(gst_harness_push_and_pull(bench.h, frame(bench, ramp(28, 14, 1, 5))));
  fail_unless(events_out(bench.h) ==
              std::vector<GstEventType>({GST_EVENT_CAPS, GST_EVENT_SEGMENT, GST_EVENT_TAG}));
  gst_harness_push_event(bench.h, gst_event_new_gap(0, 1));
  fail_unless(events_out(bench.h) == std::vector<GstEventType>{GST_EVENT_GAP});
}
GST_END_TEST;

GST_START_TEST(test_eos_before_any_frame) {
  Bench bench("da3depthviz");
  bench.caps(kRgb64);
  gst_harness_push_event(bench.h, gst_event_new_eos());
  fail_unless(events_out(bench.h) ==
              std::vector<GstEventType>({GST_EVENT_STREAM_START, GST_EVENT_SEGMENT, GST_EVENT_EOS}));
  fail_unless(bench.message(GST_MESSAGE_ERROR) == nullptr);
}
GST_END_TEST;

GST_START_TEST(test_frame_before_caps) {
  Bench bench("da3depthviz");
  GstBuffer* in = gst_buffer_new_allocate(nullptr, 100, nullptr);
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_harness_push_event(bench.h, gst_event_new_stream_start("x"));
  gst_harness_push_event(bench.h, gst_event_new_segment(&segment));
  fail_unless(gst_pad_push(bench.h->srcpad, in) == GST_FLOW_ERROR);
  assert_error(bench, GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, "before the caps");
}
GST_END_TEST;

GST_START_TEST(test_frame_smaller_than_its_caps) {
  Bench bench("da3depthviz layout=overlay");
  bench.caps(kRgb64);
  GstBuffer* in = gst_buffer_new_allocate(nullptr, 1000, nullptr);
  attach(in, GST_DA3_TENSOR_DEPTH, ramp(28, 14, 1, 5));
  fail_unless(gst_harness_push(bench.h, in) == GST_FLOW_ERROR);
  assert_error(bench, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "1000 bytes is no RGB frame of 64x48");
}
GST_END_TEST;

GST_START_TEST(test_tensor_of_another_shape) {
  const gsize shapes[][4] = {{2, 4, 4, 0}, {1, 2, 16, 1}, {32, 1, 1, 0}};
  for (const auto& dims : shapes) {
    Bench bench("da3depthviz");
    bench.caps(kRgb64);
    GstBuffer* in = picture(bench.info);
    const guint n = dims[3] ? 4 : 3;
    gst_buffer_add_da3_tensor(in, GST_DA3_TENSOR_DEPTH, gst_buffer_new_allocate(nullptr, 128, nullptr), n,
                              dims);
    fail_unless(gst_harness_push(bench.h, in) == GST_FLOW_ERROR);
    assert_error(bench, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "[1, height, width]");
  }
}
GST_END_TEST;

GST_START_TEST(test_downstream_takes_no_rgb) {
  Bench bench("da3depthviz");
  gst_harness_set_sink_caps_str(bench.h, "video/x-raw,format=NV12");
  bench.caps(kRgb64);
  fail_unless(gst_harness_push(bench.h, frame(bench, ramp(28, 14, 1, 5))) == GST_FLOW_ERROR);
  assert_error(bench, GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, "NV12");
}
GST_END_TEST;

GST_START_TEST(test_flow_of_downstream_goes_up) {
  for (GstFlowReturn flow : {GST_FLOW_EOS, GST_FLOW_NOT_LINKED, GST_FLOW_FLUSHING, GST_FLOW_CUSTOM_ERROR}) {
    Bench bench("da3depthviz");
    bench.caps(kRgb64);
    gst_pad_add_probe(
        bench.h->sinkpad, GST_PAD_PROBE_TYPE_BUFFER,
        [](GstPad*, GstPadProbeInfo* info, gpointer result) {
          gst_buffer_unref(GST_PAD_PROBE_INFO_BUFFER(info));
          GST_PAD_PROBE_INFO_FLOW_RETURN(info) = GstFlowReturn(GPOINTER_TO_INT(result));
          return GST_PAD_PROBE_HANDLED;
        },
        GINT_TO_POINTER(flow), nullptr);
    fail_unless_equals_int(gst_harness_push(bench.h, frame(bench, ramp(28, 14, 1, 5))), flow);
    fail_unless(bench.message(GST_MESSAGE_ERROR) == nullptr);
  }
}
GST_END_TEST;

// Runs a pipeline to its end; returns the text of an error, empty if there was none.
std::string run_pipeline(const char* launch) {
  GError* error = nullptr;
  GstElement* pipeline = gst_parse_launch(launch, &error);
  fail_unless(error == nullptr, "%s", error ? error->message : "");
  GstBus* bus = gst_element_get_bus(pipeline);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  GstMessage* message =
      gst_bus_timed_pop_filtered(bus, 30 * GST_SECOND, GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  fail_unless(message != nullptr, "no end: %s", launch);
  std::string text;
  if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
    text = parse(message).text;
  } else {
    gst_message_unref(message);
  }
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(bus);
  gst_object_unref(pipeline);
  return text;
}

GST_START_TEST(test_in_pipelines) {
  const char* launches[] = {
      "videotestsrc num-buffers=5 ! video/x-raw,format=NV12 ! da3depthviz ! videoconvert ! "
      "video/x-raw,format=I420 ! fakesink",
      "videotestsrc num-buffers=5 ! video/x-raw,format=I420 ! da3depthviz layout=side-by-side ! videoconvert "
      "! fakesink",
      "videotestsrc num-buffers=5 ! da3depthviz ! da3depthviz layout=overlay ! fakesink",
      // What downstream wants reaches the source.
      "videotestsrc num-buffers=5 ! da3depthviz ! video/x-raw,format=BGRA,width=102,height=66,framerate=7/1 "
      "! fakesink",
      "videotestsrc num-buffers=5 ! da3depthviz layout=side-by-side ! video/x-raw,framerate=7/1 ! fakesink",
      "videotestsrc num-buffers=5 ! video/x-raw,interlace-mode=interleaved,format=I420 ! da3depthviz "
      "layout=overlay ! fakesink"};
  for (const char* launch : launches) {
    const std::string error = run_pipeline(launch);
    fail_unless(error.empty(), "%s: %s", launch, error.c_str());
  }
}
GST_END_TEST;

GST_START_TEST(test_impossible_caps_downstream_are_one_clear_error) {
  const struct {
    const char *launch, *made, *wanted;
  } cases[] = {{"layout=side-by-side ! video/x-raw,width=64", "width=(int)128", "width=(int)64"},
               // What downstream wants reaches the source, which would only say "not-negotiated".
               {"output-size=source ! video/x-raw,width=100", "width=(int)64", "width=(int)100"},
               {"layout=overlay ! video/x-raw,height=50", "height=(int)48", "height=(int)50"},
               {"! video/x-raw,framerate=7/1", "framerate=(fraction)30/1", "framerate=(fraction)7/1"}};
  for (const auto& c : cases) {
    const std::string launch =
        "videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48,framerate=30/1 ! da3depthviz " +
        std::string(c.launch) + " ! fakesink";
    const std::string error = run_pipeline(launch.c_str());
    const size_t takes = error.find("it takes");
    fail_unless(error.find(c.made) < takes && takes != std::string::npos, "%s: %s", c.launch, error.c_str());
    fail_unless(error.find(c.wanted, takes) != std::string::npos, "%s: %s", c.launch, error.c_str());
  }
}
GST_END_TEST;

GST_START_TEST(test_up_and_down_again) {
  GstElement* pipeline =
      gst_parse_launch("videotestsrc ! video/x-raw,width=160,height=120 ! da3depthviz ! fakesink", nullptr);
  for (int i = 0; i < 20; ++i) {
    gst_element_set_state(pipeline, i % 2 ? GST_STATE_PAUSED : GST_STATE_PLAYING);
    gst_element_get_state(pipeline, nullptr, nullptr, GST_CLOCK_TIME_NONE);
    gst_element_set_state(pipeline, i % 3 ? GST_STATE_READY : GST_STATE_NULL);
  }
  GstBus* bus = gst_element_get_bus(pipeline);
  fail_unless(gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR) == nullptr);
  gst_object_unref(bus);
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(pipeline);
}
GST_END_TEST;

GST_START_TEST(test_properties) {
  GstElement* element = gst_element_factory_make("da3depthviz", nullptr);
  guint count = 0;
  GParamSpec** specs = g_object_class_list_properties(G_OBJECT_GET_CLASS(element), &count);
  int own = 0;
  for (guint i = 0; i < count; ++i) {
    if (specs[i]->owner_type != G_OBJECT_TYPE(element)) continue;
    ++own;
    fail_unless(specs[i]->flags & GST_PARAM_MUTABLE_PLAYING, "%s", specs[i]->name);
    fail_unless(strlen(g_param_spec_get_blurb(specs[i])) > 10, "%s", specs[i]->name);
    // What is set is read back, and the default is what the description says.
    GValue value = G_VALUE_INIT;
    g_object_get_property(G_OBJECT(element), specs[i]->name, &value);
    fail_unless(g_param_value_defaults(specs[i], &value), "%s", specs[i]->name);
    g_object_set_property(G_OBJECT(element), specs[i]->name, &value);
    g_value_unset(&value);
  }
  fail_unless_equals_int(own, 12);
  g_free(specs);
  gst_object_unref(element);
}
GST_END_TEST;

GST_START_TEST(test_properties_change_while_playing) {
  Bench bench("da3depthviz");
  bench.caps(kRgb64);
  GstElement* element = bench.element("da3depthviz");
  const std::pair<const char*, const char*> settings[] = {
      {"colormap", "turbo"},     {"mode", "depth"},  {"invert", "no"},   {"percentile-low", "30"},
      {"percentile-high", "60"}, {"smoothing", "0"}, {"min-depth", "2"}, {"max-depth", "9"}};
  Image last = show(bench, frame(bench, ramp(28, 14, 1, 20)));
  for (const auto& [name, value] : settings) {
    gst_util_set_object_arg(G_OBJECT(element), name, value);
    const Image image = show(bench, frame(bench, ramp(28, 14, 1, 20), GST_SECOND));
    if (strcmp(name, "smoothing") != 0) fail_if(image == last, "%s has no effect", name);
    last = image;
  }
  fail_unless(bench.message(GST_MESSAGE_WARNING) == nullptr);
  gst_object_unref(element);
}
GST_END_TEST;

// Layout and size change from another thread while frames pass.
GST_START_TEST(test_properties_from_another_thread) {
  GstElement* pipeline = gst_parse_launch(
      "videotestsrc num-buffers=300 ! video/x-raw,width=64,height=48 ! da3depthviz name=v ! fakesink",
      nullptr);
  GstElement* element = gst_bin_get_by_name(GST_BIN(pipeline), "v");
  GstBus* bus = gst_element_get_bus(pipeline);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  GstMessage* message = nullptr;
  for (int i = 0; !message; ++i) {
    g_object_set(element, "layout", i % 3, "output-size", i % 2, "alpha", 0.1 * (i % 10), nullptr);
    message = gst_bus_pop_filtered(bus, GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  }
  fail_unless(
      GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS, "%s",
      GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR ? parse(gst_message_ref(message)).text.c_str() : "");
  gst_message_unref(message);
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(bus);
  gst_object_unref(element);
  gst_object_unref(pipeline);
}
GST_END_TEST;

static Suite* da3depthviz_stream_suite(void) {
  Suite* suite = suite_create("da3depthviz-stream");
  TCase* tc = tcase_create("all");
  tcase_set_timeout(tc, 120);
  suite_add_tcase(suite, tc);
  tcase_add_test(tc, test_times_flags_and_metas_are_kept);
  tcase_add_test(tc, test_view_follows_the_picture);
  tcase_add_test(tc, test_caps_follow_input_and_layout);
  tcase_add_test(tc, test_fifty_size_changes);
  tcase_add_test(tc, test_events_come_in_order);
  tcase_add_test(tc, test_eos_before_any_frame);
  tcase_add_test(tc, test_frame_before_caps);
  tcase_add_test(tc, test_frame_smaller_than_its_caps);
  tcase_add_test(tc, test_tensor_of_another_shape);
  tcase_add_test(tc, test_downstream_takes_no_rgb);
  tcase_add_test(tc, test_flow_of_downstream_goes_up);
  tcase_add_test(tc, test_in_pipelines);
  tcase_add_test(tc, test_impossible_caps_downstream_are_one_clear_error);
  tcase_add_test(tc, test_up_and_down_again);
  tcase_add_test(tc, test_properties);
  tcase_add_test(tc, test_properties_change_while_playing);
  tcase_add_test(tc, test_properties_from_another_thread);
  return suite;
}

GST_CHECK_MAIN(da3depthviz_stream)
