// SPDX-License-Identifier: MIT
//
// da3preprocess as an element: events and queries, settings that change while playing, life cycle, pipelines.
#include <atomic>

#include "preprocess_rig.h"

using namespace da3::testing;

GST_START_TEST(events_pass) {
  Rig rig(rgb_caps(640, 480).c_str());
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480))));
  while (GstEvent* event = gst_harness_try_pull_event(rig.h)) gst_event_unref(event);
  gst_harness_push_event(rig.h, gst_event_new_tag(gst_tag_list_new(GST_TAG_TITLE, "t", nullptr)));
  gst_harness_push_event(rig.h, gst_event_new_gap(GST_SECOND, GST_SECOND));
  gst_harness_push_event(rig.h, gst_event_new_eos());
  for (GstEventType type : {GST_EVENT_TAG, GST_EVENT_GAP, GST_EVENT_EOS}) {
    GstEvent* event = gst_harness_try_pull_event(rig.h);
    fail_unless(event && GST_EVENT_TYPE(event) == type, "%s", gst_event_type_get_name(type));
    gst_event_unref(event);
  }
}
GST_END_TEST

GST_START_TEST(eos_before_any_buffer) {
  Rig rig;
  gst_harness_push_event(rig.h, gst_event_new_stream_start("test"));
  fail_unless(gst_harness_push_event(rig.h, gst_event_new_eos()));
  rig.assert_no_error();
}
GST_END_TEST

GST_START_TEST(flush_between_frames) {
  Rig rig(rgb_caps(640, 480).c_str());
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480))));
  gst_harness_push_event(rig.h, gst_event_new_flush_start());
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 480))), GST_FLOW_FLUSHING);
  gst_harness_push_event(rig.h, gst_event_new_flush_stop(TRUE));
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_harness_push_event(rig.h, gst_event_new_segment(&segment));
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480))));
  rig.assert_no_error();
}
GST_END_TEST

GST_START_TEST(upstream_may_send_padded_frames) {
  Rig rig(rgb_caps(640, 480).c_str());
  GstCaps* caps = gst_caps_from_string(rgb_caps(640, 480).c_str());
  GstQuery* query = gst_query_new_allocation(caps, TRUE);
  GstPad* pad = gst_element_get_static_pad(rig.h->element, "sink");
  fail_unless(gst_pad_query(pad, query));
  fail_unless(gst_query_find_allocation_meta(query, GST_VIDEO_META_API_TYPE, nullptr));
  gst_object_unref(pad);
  gst_query_unref(query);
  gst_caps_unref(caps);
}
GST_END_TEST

GST_START_TEST(process_res_changes_while_playing) {
  Rig rig(rgb_caps(640, 480).c_str());
  const Bytes frame = rgb_frame(640, 480);
  for (guint res : {504u, 280u, 140u, 504u}) {
    rig.set("process-res", res);
    Size final;
    const Bytes expected = reference(frame, 640, 480, int(res), kMethods[0], &final);
    GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(frame));
    assert_size(rig.h, final.width, final.height);
    fail_unless(pixels_of(out, final.width, final.height) == expected);
    gst_buffer_unref(out);
  }
}
GST_END_TEST

// Caps stay the same, so nothing is renegotiated; the picture must change all the same.
GST_START_TEST(method_changes_while_playing_at_equal_size) {
  Rig rig(rgb_caps(321, 243).c_str());
  const Bytes frame = rgb_frame(321, 243);
  Size final;
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(frame)));
  caps_events(rig.h);
  rig.method(ProcessResMethod::upper_bound_crop);
  GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(frame));
  fail_unless_equals_int(caps_events(rig.h), 0);
  fail_unless(pixels_of(out, 504, 378) ==
              reference(frame, 321, 243, 504, ProcessResMethod::upper_bound_crop, &final));
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(threads_change_while_playing) {
  Rig rig("video/x-raw,format=I420,width=640,height=480,framerate=30/1");
  const Bytes frame = pattern(640 * 480 * 3 / 2);
  Bytes first;
  for (guint threads : {1u, 0u, 3u, 1024u}) {
    rig.set("n-threads", threads);
    GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(frame));
    const Bytes pixels = pixels_of(out, 504, 378);
    if (first.empty()) first = pixels;
    fail_unless(pixels == first);
    gst_buffer_unref(out);
  }
}
GST_END_TEST

GST_START_TEST(settings_that_do_not_fit_the_stream_can_be_taken_back) {
  Rig rig(rgb_caps(640, 17).c_str());  // 504x14
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 17))), GST_FLOW_OK);
  rig.set("process-res", 100);
  for (int i = 0; i < 3; ++i) fail_if(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 17))) == GST_FLOW_OK);
  rig.assert_error("process-res 100");
  rig.set("process-res", 504);
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 17))), GST_FLOW_OK);
  rig.assert_no_error();
  fail_unless_equals_int(gst_harness_buffers_received(rig.h), 2);
}
GST_END_TEST

GST_START_TEST(settings_that_downstream_does_not_take) {
  Rig rig;
  gst_harness_set_sink_caps_str(rig.h, "video/x-raw,format=RGB,width=504,height=378");
  gst_harness_set_src_caps_str(rig.h, rgb_caps(640, 480).c_str());
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 480))), GST_FLOW_OK);
  rig.set("process-res", 280);
  for (int i = 0; i < 3; ++i) fail_if(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 480))) == GST_FLOW_OK);
  rig.assert_error("280x210");
  rig.set("process-res", 504);
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 480))), GST_FLOW_OK);
}
GST_END_TEST

GST_START_TEST(properties_have_true_ranges_and_flags) {
  Rig rig;
  GObjectClass* klass = G_OBJECT_GET_CLASS(rig.h->element);
  for (const char* name : {"process-res", "process-res-method", "n-threads"}) {
    GParamSpec* spec = g_object_class_find_property(klass, name);
    fail_unless(spec && (spec->flags & GST_PARAM_MUTABLE_PLAYING), "%s", name);
  }
  guint res = 0, threads = 1;
  int method = -1;
  g_object_get(rig.h->element, "process-res", &res, "n-threads", &threads, "process-res-method", &method,
               nullptr);
  fail_unless_equals_int(res, 504);
  fail_unless_equals_int(threads, 0);
  fail_unless_equals_int(method, int(ProcessResMethod::upper_bound_resize));
  gst_util_set_object_arg(G_OBJECT(rig.h->element), "process-res-method", "lower_bound_crop");
  g_object_get(rig.h->element, "process-res-method", &method, nullptr);
  fail_unless_equals_int(method, int(ProcessResMethod::lower_bound_crop));
  auto* range = G_PARAM_SPEC_UINT(g_object_class_find_property(klass, "process-res"));
  fail_unless_equals_int(range->minimum, 14);
  fail_unless(range->maximum >= 4096);
}
GST_END_TEST

GST_START_TEST(restart_begins_anew) {
  Rig rig(rgb_caps(640, 480).c_str());
  for (int i = 0; i < 3; ++i) {
    GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480)));
    GstDa3View v;
    fail_unless(gst_buffer_get_da3_view(out, &v));
    fail_unless_equals_int64(v.frame, 0);
    gst_buffer_unref(out);
    gst_element_set_state(rig.h->element, GST_STATE_NULL);
    gst_element_set_state(rig.h->element, GST_STATE_PLAYING);
    gst_harness_set_src_caps_str(rig.h, rgb_caps(640, 480).c_str());
  }
}
GST_END_TEST

struct Changer {
  Rig* rig;
  std::atomic<bool> done{false};
};

static gpointer change_properties(gpointer data) {
  auto* changer = static_cast<Changer*>(data);
  for (guint i = 0; !changer->done; ++i) {
    changer->rig->set("process-res", 56 + 14 * (i % 9));
    changer->rig->method(kMethods[i % 4]);
    changer->rig->set("n-threads", 1 + i % 2);
  }
  return nullptr;
}

GST_START_TEST(properties_race_with_frames) {
  Rig rig(rgb_caps(322, 242).c_str());
  const Bytes frame = rgb_frame(322, 242);
  Changer changer{&rig};
  GThread* thread = g_thread_new("changer", change_properties, &changer);
  for (int i = 0; i < 300; ++i) {
    GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(frame));
    fail_unless(out != nullptr);
    const Size size = output_size(rig.h);
    GstDa3View v;
    fail_unless(gst_buffer_get_da3_view(out, &v));
    fail_unless_equals_int(v.image_width, size.width);
    fail_unless_equals_int(v.image_height, size.height);
    fail_unless_equals_int(gst_buffer_get_size(out), GST_ROUND_UP_4(size.width * 3) * size.height);
    gst_buffer_unref(out);
  }
  changer.done = true;
  g_thread_join(thread);
  rig.assert_no_error();
}
GST_END_TEST

// Runs a pipeline to its end and returns what the bus said: "eos" or the first error's text.
static std::string run_pipeline(const char* description) {
  GError* parse_error = nullptr;
  GstElement* pipeline = gst_parse_launch(description, &parse_error);
  fail_unless(pipeline && !parse_error, "%s", parse_error ? parse_error->message : description);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  GstBus* bus = gst_element_get_bus(pipeline);
  GstMessage* message =
      gst_bus_timed_pop_filtered(bus, 30 * GST_SECOND, GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  std::string text = "timeout";
  if (message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS) text = "eos";
  if (message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
    GError* e = nullptr;
    gst_message_parse_error(message, &e, nullptr);
    text = e->message;
    g_error_free(e);
  }
  if (message) gst_message_unref(message);
  gst_object_unref(bus);
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(pipeline);
  return text;
}

GST_START_TEST(in_pipelines) {
  for (const char* description : {"videotestsrc num-buffers=5 ! "
                                  "video/x-raw,format=I420,width=1280,height=720 ! queue ! da3preprocess ! "
                                  "video/x-raw,width=504,height=280 ! videoconvert ! fakesink",
                                  "videotestsrc num-buffers=5 ! da3preprocess process-res=140 ! "
                                  "da3preprocess process-res=140 ! videoscale ! "
                                  "video/x-raw,width=64,height=64 ! fakesink"}) {
    const std::string end = run_pipeline(description);
    fail_unless(end == "eos", "%s: %s", description, end.c_str());
  }
}
GST_END_TEST

GST_START_TEST(pipelines_that_cannot_work_say_why) {
  const std::string tiny =
      run_pipeline("videotestsrc num-buffers=2 ! video/x-raw,width=1,height=1 ! da3preprocess ! fakesink");
  fail_unless(tiny.find("1x1") != std::string::npos, "%s", tiny.c_str());
  const std::string thin =
      run_pipeline("videotestsrc num-buffers=2 ! video/x-raw,width=1,height=4000 ! da3preprocess ! fakesink");
  fail_unless(thin.find("1x4000") != std::string::npos, "%s", thin.c_str());
}
GST_END_TEST

static Suite* da3preprocess_stream_suite() {
  Suite* s = suite_create("da3preprocess-stream");
  TCase* t = tcase_create("general");
  suite_add_tcase(s, t);
  tcase_set_timeout(t, 60);
  tcase_add_test(t, events_pass);
  tcase_add_test(t, eos_before_any_buffer);
  tcase_add_test(t, flush_between_frames);
  tcase_add_test(t, upstream_may_send_padded_frames);
  tcase_add_test(t, process_res_changes_while_playing);
  tcase_add_test(t, method_changes_while_playing_at_equal_size);
  tcase_add_test(t, threads_change_while_playing);
  tcase_add_test(t, settings_that_do_not_fit_the_stream_can_be_taken_back);
  tcase_add_test(t, settings_that_downstream_does_not_take);
  tcase_add_test(t, properties_have_true_ranges_and_flags);
  tcase_add_test(t, restart_begins_anew);
  tcase_add_test(t, properties_race_with_frames);
  tcase_add_test(t, in_pipelines);
  tcase_add_test(t, pipelines_that_cannot_work_say_why);
  return s;
}

GST_CHECK_MAIN(da3preprocess_stream)
