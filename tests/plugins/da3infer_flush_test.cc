// SPDX-License-Identifier: MIT
//
// da3infer stopped in the middle of its work: by downstream, by flushes, by state changes. Each case ends in
// one clear error or a defined result.
#include "infer_live.h"

using namespace da3::testing;

namespace {

void flush(Infer& infer) {
  fail_unless(infer.event(gst_event_new_flush_start()));
  fail_unless(infer.event(gst_event_new_flush_stop(TRUE)));
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  fail_unless(infer.event(gst_event_new_segment(&segment)));
}

}  // namespace

// ---- downstream
// ---------------------------------------------------------------------------------------------------------------

GST_START_TEST(downstream_has_enough) {
  Infer infer("model=stub: process-res=28 views=2");
  Answer answer;
  answer.flow = GST_FLOW_EOS;
  answer_with(infer, answer);
  infer.caps(56, 28);
  fail_unless_equals_int(push_until_refused(infer), GST_FLOW_EOS);
  fail_unless_equals_int(answer.buffers.load(), 1);
  // A new segment is a new chance.
  answer.flow = GST_FLOW_OK;
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  fail_unless(infer.event(gst_event_new_segment(&segment)));
  infer.push_numbered(56, 28, 50, 4);
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  fail_unless_equals_int(answer.buffers.load(), 5);
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(downstream_has_enough_before_a_queued_segment) {
  Infer infer("model=stub:block=1 process-res=28 max-batch=8");
  Answer answer;
  answer.flow = GST_FLOW_EOS;
  answer_with(infer, answer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 3);
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  infer.event(gst_event_new_segment(&segment));
  infer.push_numbered(56, 28, 3, 2);
  infer.event(gst_event_new_eos());
  stub().release(-1);
  infer.wait_eos();
  // One refused in the first segment, one in the second; what stood behind them was not offered.
  fail_unless_equals_int(answer.buffers.load(), 2);
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(downstream_fails) {
  Infer infer("model=stub: process-res=28");
  Answer answer;
  answer.flow = GST_FLOW_ERROR;
  answer_with(infer, answer);
  infer.caps(56, 28);
  fail_unless_equals_int(push_until_refused(infer), GST_FLOW_ERROR);
  fail_unless_equals_int(answer.buffers.load(), 1);
  // Whoever failed has said so; upstream knows.
  infer.bus.expect_no_error();
  fail_if(infer.event(gst_event_new_eos()));
}
GST_END_TEST

GST_START_TEST(downstream_fails_when_upstream_has_ended) {
  Infer infer("model=stub:block=1 process-res=28");
  Answer answer;
  answer.flow = GST_FLOW_ERROR;
  answer_with(infer, answer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  infer.event(gst_event_new_eos());
  stub().release(-1);
  // Nobody pushes any more who could hear of it.
  infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "");
  infer.wait_eos();
}
GST_END_TEST

GST_START_TEST(downstream_is_flushing) {
  Infer infer("model=stub: process-res=28");
  Answer answer;
  answer.flow = GST_FLOW_FLUSHING;
  answer_with(infer, answer);
  infer.caps(56, 28);
  fail_unless_equals_int(push_until_refused(infer), GST_FLOW_FLUSHING);
  infer.bus.expect_no_error();
  answer.flow = GST_FLOW_OK;
  flush(infer);
  infer.push_numbered(56, 28, 0, 2);
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  fail_unless_equals_int(answer.buffers.load(), 3);
}
GST_END_TEST

GST_START_TEST(downstream_is_unlinked_and_linked_again) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  GstPad* source = gst_element_get_static_pad(infer.element, "src");
  gst_pad_unlink(source, infer.harness->sinkpad);
  fail_unless_equals_int(push_until_refused(infer), GST_FLOW_NOT_LINKED);
  fail_unless_equals_int(gst_pad_link(source, infer.harness->sinkpad), GST_PAD_LINK_OK);
  gst_object_unref(source);
  while (GstBuffer* buffer = gst_harness_try_pull(infer.harness)) gst_buffer_unref(buffer);
  infer.push_numbered(56, 28, 50, 1);
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  GstBuffer* last = nullptr;
  while (GstBuffer* buffer = gst_harness_try_pull(infer.harness)) {
    gst_clear_buffer(&last);
    last = buffer;
  }
  fail_unless(last != nullptr, "nothing came after the pads were linked again");
  fail_unless_equals_uint64(GST_BUFFER_PTS(last), 50 * kFrameTime);
  assert_depth_of(last, colour_of(50));
  gst_buffer_unref(last);
  infer.bus.expect_no_error();
}
GST_END_TEST

// ---- flushes
// ----------------------------------------------------------------------------------------------------------------

GST_START_TEST(flush_with_frames_in_flight) {
  Infer infer("model=stub:block=1 process-res=28 max-batch=4");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 6);
  stub().wait_submitted(6);
  flush(infer);
  fail_unless_equals_int(stub_counters().cancelled, 6);
  stub().release(-1);
  infer.push_numbered(56, 28, 10, 3);
  for (int i = 10; i < 13; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_uint64(GST_BUFFER_PTS(buffer), i * kFrameTime);
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
  fail_unless_equals_int(infer.received(), 3);
  fail_unless_equals_uint64(infer.stat("frames-dropped"), 6);
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(flush_drops_a_partial_group) {
  Infer infer("model=stub: process-res=28 views=3");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  flush(infer);
  infer.push_numbered(56, 28, 5, 3);
  for (int i = 5; i < 8; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_int(view_of(buffer).views, 3);
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
  fail_unless_equals_int(stub_counters().submitted, 1);
}
GST_END_TEST

GST_START_TEST(caps_and_tags_behind_flushed_frames_survive) {
  Infer infer("model=stub:block=1 process-res=28");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  infer.caps(28, 56);
  infer.event(gst_event_new_tag(gst_tag_list_new(GST_TAG_TITLE, "kept", nullptr)));
  infer.push_numbered(28, 56, 1, 1);
  flush(infer);
  stub().release(-1);
  infer.push_numbered(28, 56, 2, 1);
  GstBuffer* buffer = infer.pull();
  fail_unless_equals_int(view_of(buffer).image_width, 28);
  gst_buffer_unref(buffer);
  GstCaps* caps = gst_pad_get_current_caps(infer.harness->sinkpad);
  GstVideoInfo info;
  fail_unless(gst_video_info_from_caps(&info, caps));
  fail_unless_equals_int(GST_VIDEO_INFO_WIDTH(&info), 28);
  gst_caps_unref(caps);
  GstEvent* tag = gst_pad_get_sticky_event(infer.harness->sinkpad, GST_EVENT_TAG, 0);
  fail_unless(tag != nullptr);
  gst_event_unref(tag);
}
GST_END_TEST

GST_START_TEST(flush_of_one_stream_leaves_the_other_alone) {
  Infer one("model=stub:block=1 process-res=28"), other("model=stub:block=1 process-res=28");
  one.caps(56, 28);
  other.caps(56, 28);
  one.push_numbered(56, 28, 0, 3);
  other.push_numbered(56, 28, 0, 3);
  flush(one);
  fail_unless_equals_int(stub_counters().cancelled, 3);
  stub().release(-1);
  for (int i = 0; i < 3; ++i) {
    GstBuffer* buffer = other.pull();
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
  fail_unless_equals_int(one.received(), 0);
}
GST_END_TEST

GST_START_TEST(flush_frees_a_blocked_upstream) {
  Infer infer("model=stub:block=1 process-res=28 max-batch=1");
  infer.caps(56, 28);
  GstFlowReturn flow = GST_FLOW_OK;
  std::thread pusher([&] { flow = push_until_refused(infer); });
  stub().wait_submitted(2);
  fail_unless(infer.event(gst_event_new_flush_start()));
  pusher.join();
  fail_unless_equals_int(flow, GST_FLOW_FLUSHING);
  fail_unless(infer.event(gst_event_new_flush_stop(TRUE)));
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(flush_frees_a_waiting_query) {
  Infer infer("model=stub:block=1 process-res=28");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  gboolean answered = TRUE;
  std::thread asker([&] {
    GstQuery* query = gst_query_new_drain();
    answered = gst_pad_peer_query(infer.harness->srcpad, query);
    gst_query_unref(query);
  });
  stub().wait_submitted(1);
  fail_unless(infer.event(gst_event_new_flush_start()));
  asker.join();
  fail_if(answered);
  fail_unless(infer.event(gst_event_new_flush_stop(TRUE)));
}
GST_END_TEST

GST_START_TEST(flush_without_frames_and_twice) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  flush(infer);
  fail_unless(infer.event(gst_event_new_flush_start()));
  GstPad* sink = gst_element_get_static_pad(infer.element, "sink");
  gst_pad_send_event(sink, gst_event_new_flush_start());  // the test pad itself would refuse a second one
  gst_object_unref(sink);
  fail_unless(infer.event(gst_event_new_flush_stop(TRUE)));
  flush(infer);
  infer.push_numbered(56, 28, 0, 1);
  gst_buffer_unref(infer.pull());
}
GST_END_TEST

GST_START_TEST(flush_start_without_stop_then_null) {
  Infer infer("model=stub:block=1 process-res=28");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  infer.event(gst_event_new_flush_start());
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_NULL), GST_STATE_CHANGE_SUCCESS);
  fail_unless_equals_int(stub_counters().results_alive, 0);
}
GST_END_TEST

GST_START_TEST(flush_after_the_end_opens_again) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  flush(infer);
  infer.push_numbered(56, 28, 1, 1);
  for (int i = 0; i < 2; ++i) gst_buffer_unref(infer.pull());
}
GST_END_TEST

GST_START_TEST(flush_after_an_error_opens_again) {
  Infer infer("model=stub:fail-at=1 process-res=28");
  infer.caps(56, 28);
  fail_unless_equals_int(push_until_refused(infer), GST_FLOW_ERROR);
  infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "");
  flush(infer);
  infer.push_numbered(56, 28, 1, 1);
  gst_buffer_unref(infer.pull());
  infer.bus.expect_no_error();
}
GST_END_TEST

// ---- state changes
// ----------------------------------------------------------------------------------------------------------

GST_START_TEST(ready_with_frames_in_flight) {
  Infer infer("model=stub:block=1 process-res=28 views=2");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 5);
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  fail_unless_equals_int(stub_counters().cancelled, 2);
  fail_unless_equals_int(infer.received(), 0);
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_NULL), GST_STATE_CHANGE_SUCCESS);
  fail_unless_equals_int(stub_counters().engines_alive, 0);
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(stopping_one_stream_leaves_the_other_alone) {
  Infer one("model=stub:block=1 process-res=28"), other("model=stub:block=1 process-res=28");
  one.caps(56, 28);
  other.caps(56, 28);
  one.push_numbered(56, 28, 0, 2);
  other.push_numbered(56, 28, 0, 4);
  gst_element_set_state(one.element, GST_STATE_NULL);
  fail_unless_equals_int(stub_counters().cancelled, 2);
  stub().release(-1);
  for (int i = 0; i < 4; ++i) gst_buffer_unref(other.pull());
  other.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(null_while_downstream_blocks) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  GstPad* source = gst_element_get_static_pad(infer.element, "src");
  gst_pad_add_probe(
      source, GstPadProbeType(GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER),
      [](GstPad*, GstPadProbeInfo*, gpointer) { return GST_PAD_PROBE_OK; }, nullptr, nullptr);
  infer.push_numbered(56, 28, 0, 3);
  stub().wait_finished(3);
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_NULL), GST_STATE_CHANGE_SUCCESS);
  fail_unless_equals_int(infer.received(), 0);
  gst_object_unref(source);
}
GST_END_TEST

GST_START_TEST(a_blocked_downstream_holds_up_its_own_stream_only) {
  Infer one("model=stub: process-res=28"), other("model=stub: process-res=28");
  one.caps(56, 28);
  other.caps(56, 28);
  Door door;
  gst_pad_add_probe(one.harness->sinkpad, GST_PAD_PROBE_TYPE_BUFFER, wait_at_door, &door, nullptr);
  one.push_numbered(56, 28, 0, 2);
  door.wait_reached();
  other.push_numbered(56, 28, 0, 20);
  for (int i = 0; i < 20; ++i) gst_buffer_unref(other.pull());
  door.open();
  for (int i = 0; i < 2; ++i) gst_buffer_unref(one.pull());
}
GST_END_TEST

GST_START_TEST(stop_frees_a_blocked_upstream) {
  Infer infer("model=stub:block=1 process-res=28 max-batch=1");
  infer.caps(56, 28);
  GstFlowReturn flow = GST_FLOW_OK;
  std::thread pusher([&] { flow = push_until_refused(infer); });
  stub().wait_submitted(2);
  gst_element_set_state(infer.element, GST_STATE_READY);
  pusher.join();
  fail_unless_equals_int(flow, GST_FLOW_FLUSHING);
}
GST_END_TEST

GST_START_TEST(never_started_and_never_stopped) {
  GstElement* element = make_infer("model=stub:");
  gst_object_unref(element);
  element = gst_element_factory_make("da3infer", nullptr);
  GstPad* pad = gst_element_get_static_pad(element, "sink");
  fail_unless_equals_int(gst_pad_chain(pad, gst_buffer_new()), GST_FLOW_FLUSHING);
  gst_object_unref(pad);
  gst_object_unref(element);
}
GST_END_TEST

GST_START_TEST(pads_without_an_engine) {
  GstElement* element = make_infer("");
  Bus bus(element);
  GstPad* sink = gst_element_get_static_pad(element, "sink");
  GstPad* source = gst_element_get_static_pad(element, "src");
  gst_pad_set_active(source, TRUE);
  gst_pad_set_active(sink, TRUE);
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_pad_send_event(sink, gst_event_new_stream_start("s"));
  gst_pad_send_event(sink, gst_event_new_caps(gst_caps_from_string(rgb_caps(56, 28).c_str())));
  gst_pad_send_event(sink, gst_event_new_segment(&segment));
  fail_unless_equals_int(gst_pad_chain(sink, numbered_frame(56, 28, 0)), GST_FLOW_ERROR);
  bus.expect_one_error(GST_CORE_ERROR, GST_CORE_ERROR_STATE_CHANGE, "before the model");
  gst_pad_set_active(sink, FALSE);
  gst_pad_set_active(source, FALSE);
  gst_object_unref(sink);
  gst_object_unref(source);
  gst_object_unref(element);
}
GST_END_TEST

GST_START_TEST(properties_from_many_threads_while_playing) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  std::atomic<bool> stop{false};
  std::vector<std::thread> setters;
  for (int t = 0; t < 4; ++t) {
    setters.emplace_back([&, t] {
      for (guint i = 0; !stop; ++i) {
        g_object_set(infer.element, "views", 1 + (i + t) % 5, "process-res", 28 + 14 * int(i % 3), nullptr);
        infer.stat("frames-in");
      }
    });
  }
  infer.push_numbered(56, 28, 0, 200);
  stop = true;
  for (std::thread& setter : setters) setter.join();
  infer.event(gst_event_new_eos());
  for (int i = 0; i < 200; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_uint64(GST_BUFFER_PTS(buffer), i * kFrameTime);
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(flushes_from_another_thread_at_random) {
  GstElement* pipeline = gst_parse_launch(
      "videotestsrc ! video/x-raw,format=RGB,width=32,height=28 ! da3infer name=infer model=stub: "
      "process-res=28 views=3 "
      "max-batch=2 ! fakesink name=sink sync=false",
      nullptr);
  GstBus* bus = gst_element_get_bus(pipeline);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  gst_element_get_state(pipeline, nullptr, nullptr, GST_CLOCK_TIME_NONE);
  GstElement* infer = gst_bin_get_by_name(GST_BIN(pipeline), "infer");
  for (int i = 0; i < 60; ++i) {
    fail_unless(gst_element_seek_simple(pipeline, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH, i * GST_SECOND));
    assert_accounts(infer);
  }
  GstMessage* message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
  fail_unless(message == nullptr);
  gst_element_set_state(pipeline, GST_STATE_NULL);
  fail_unless_equals_int(int(assert_accounts(infer)), 0);
  gst_object_unref(infer);
  gst_object_unref(bus);
  gst_object_unref(pipeline);
  fail_unless_equals_int(stub_counters().results_alive, 0);
}
GST_END_TEST

static Suite* da3infer_flush_suite() {
  Suite* suite = suite_create("da3infer-flush");
  TCase* downstream = tcase_create("downstream");
  tcase_add_test(downstream, downstream_has_enough);
  tcase_add_test(downstream, downstream_has_enough_before_a_queued_segment);
  tcase_add_test(downstream, downstream_fails);
  tcase_add_test(downstream, downstream_fails_when_upstream_has_ended);
  tcase_add_test(downstream, downstream_is_flushing);
  tcase_add_test(downstream, downstream_is_unlinked_and_linked_again);
  suite_add_tcase(suite, downstream);

  TCase* flushes = tcase_create("flush");
  tcase_add_test(flushes, flush_with_frames_in_flight);
  tcase_add_test(flushes, flush_drops_a_partial_group);
  tcase_add_test(flushes, caps_and_tags_behind_flushed_frames_survive);
  tcase_add_test(flushes, flush_of_one_stream_leaves_the_other_alone);
  tcase_add_test(flushes, flush_frees_a_blocked_upstream);
  tcase_add_test(flushes, flush_frees_a_waiting_query);
  tcase_add_test(flushes, flush_without_frames_and_twice);
  tcase_add_test(flushes, flush_start_without_stop_then_null);
  tcase_add_test(flushes, flush_after_the_end_opens_again);
  tcase_add_test(flushes, flush_after_an_error_opens_again);
  suite_add_tcase(suite, flushes);

  TCase* states = tcase_create("states");
  tcase_add_test(states, ready_with_frames_in_flight);
  tcase_add_test(states, stopping_one_stream_leaves_the_other_alone);
  tcase_add_test(states, null_while_downstream_blocks);
  tcase_add_test(states, a_blocked_downstream_holds_up_its_own_stream_only);
  tcase_add_test(states, stop_frees_a_blocked_upstream);
  tcase_add_test(states, never_started_and_never_stopped);
  tcase_add_test(states, pads_without_an_engine);
  tcase_add_test(states, properties_from_many_threads_while_playing);
  tcase_add_test(states, flushes_from_another_thread_at_random);
  suite_add_tcase(suite, states);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_flush_suite(), "da3infer_flush", __FILE__);
}
