// SPDX-License-Identifier: MIT
//
// da3infer behind a live source: which frames are inferred when there are too many, what takes the place of
// the others, quality of service. The engine computes when it is told to.
#include "infer_live.h"

using namespace da3::testing;

// ---- which frames go
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(the_newest_wins_behind_a_live_source) {
  Infer infer(kBlocked, Source::live);
  Tape tape(infer);
  push_first(infer);
  // 0 runs, 1 waits in the engine, one place in the line.
  infer.push_numbered(56, 28, 1, 9);
  fail_unless_equals_uint64(infer.drops("overrun"), 7);
  stub().release(-1);
  expect_tape(tape, "0 1 gap2+280 9d");
  fail_unless_equals_int(stub_counters().submitted, 3);
  fail_unless_equals_uint64(infer.stat("frames-dropped"), 7);
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_QOS), 7);
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(the_newest_goes_if_asked_to) {
  Infer infer(std::string(kBlocked) + "drop-policy=newest", Source::live);
  Tape tape(infer);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 9);
  fail_unless_equals_uint64(infer.drops("overrun"), 7);
  stub().release(-1);
  expect_tape(tape, "0 1 2 gap3+280");
}
GST_END_TEST

GST_START_TEST(upstream_waits_if_asked_to) {
  Infer infer(std::string(kBlocked) + "drop-policy=never", Source::live);
  Tape tape(infer);
  infer.caps(56, 28);
  std::thread pusher([&] { infer.push_numbered(56, 28, 0, 12); });
  stub().wait_submitted(2);
  fail_unless(infer.stat("queue-level") <= 2);
  stub().release(-1);
  pusher.join();
  expect_tape(tape, "0 1 2 3 4 5 6 7 8 9 10 11");
  fail_unless_equals_uint64(infer.stat("frames-dropped"), 0);
}
GST_END_TEST

GST_START_TEST(a_file_is_never_dropped_from) {
  Infer infer(kBlocked, Source::file);
  infer.caps(56, 28);
  std::thread pusher([&] { infer.push_numbered(56, 28, 0, 12); });
  stub().wait_submitted(2);
  send_qos(infer, 10 * GST_SECOND, 0);  // downstream is far behind; that is no reason to lose a frame
  stub().release(-1);
  for (int i = 0; i < 12; ++i) {
    GstBuffer* buffer = infer.pull();
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
  pusher.join();
  fail_unless_equals_uint64(infer.stat("frames-dropped"), 0);
  fail_unless_equals_int(stub_counters().warm_ups, 0);
}
GST_END_TEST

GST_START_TEST(a_file_is_dropped_from_if_asked_to) {
  Infer infer(std::string(kBlocked) + "drop-policy=oldest", Source::file);
  Tape tape(infer);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 5);
  stub().release(-1);
  expect_tape(tape, "0 1 gap2+120 5d");
}
GST_END_TEST

GST_START_TEST(a_new_stream_may_be_live_where_the_old_one_was_not) {
  Infer infer(kBlocked, Source::file);
  Tape tape(infer);
  push_first(infer);
  stub().release(1);
  gst_buffer_unref(infer.pull());
  gst_harness_set_live(infer.harness, TRUE);
  infer.event(gst_event_new_stream_start("camera"));
  infer.event(gst_event_new_caps(gst_caps_from_string(rgb_caps(56, 28).c_str())));
  restart_segment(infer);
  infer.push_numbered(56, 28, 1, 1);
  stub().wait_submitted(2);
  infer.push_numbered(56, 28, 2, 4);
  stub().release(-1);
  expect_tape(tape, "0 1 2 gap3+80 5d");
}
GST_END_TEST

GST_START_TEST(who_could_not_say_whether_it_is_live_is_asked_again) {
  Infer infer(kBlocked, Source::live);
  Tape tape(infer);
  int unanswered = 1;
  gst_pad_add_probe(
      infer.harness->srcpad,
      GstPadProbeType(GST_PAD_PROBE_TYPE_QUERY_BOTH | GST_PAD_PROBE_TYPE_PUSH | GST_PAD_PROBE_TYPE_PULL),
      [](GstPad*, GstPadProbeInfo* info, gpointer user) {
        GstQuery* query = GST_PAD_PROBE_INFO_QUERY(info);
        const bool refused = GST_QUERY_TYPE(query) == GST_QUERY_LATENCY && (*static_cast<int*>(user))-- > 0;
        return refused ? GST_PAD_PROBE_DROP : GST_PAD_PROBE_OK;
      },
      &unanswered, nullptr);
  push_first(infer);
  fail_unless(unanswered <= 0);
  infer.push_numbered(56, 28, 1, 5);  // behind a file the last of them would have to wait
  fail_unless(infer.skipped("overrun") > 0);
  stub().release(-1);
  const std::string came = tape.read();
  fail_unless(came.find("gap") != std::string::npos && came.find("5d") != std::string::npos, "%s",
              came.c_str());
}
GST_END_TEST

GST_START_TEST(a_stream_is_drained_again_after_what_waited_at_its_end) {
  Infer infer(kBlocked, Source::live);
  Tape tape(infer);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 2);  // 2 waits for its turn
  infer.event(gst_event_new_eos());
  fail_unless_equals_int(stub_counters().drains, 1);
  fail_unless_equals_int(stub_counters().submitted, 2);
  stub().release(-1);
  expect_tape(tape, "0 1 2");
  gst_element_set_state(infer.element, GST_STATE_READY);  // the thread that submitted has ended
  fail_unless_equals_int(stub_counters().submitted, 3);
  fail_unless_equals_int(stub_counters().drains, 2);
}
GST_END_TEST

GST_START_TEST(groups_of_views_go_as_a_whole) {
  Infer infer(std::string(kBlocked) + "views=2", Source::live);
  Tape tape(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  stub().wait_submitted(1);
  infer.push_numbered(56, 28, 2, 9);  // 2 3 submitted, 4 5 and 6 7 give way to 8 9, 10 waits for a partner
  stub().release(-1);
  expect_tape(tape, "0 1 2 3 gap4+160 8d 9 10");
  fail_unless_equals_uint64(infer.drops("overrun"), 4);
}
GST_END_TEST

GST_START_TEST(gap_frames_and_events_keep_their_place_among_skipped_ones) {
  Infer infer(kBlocked, Source::live);
  Tape tape(infer);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 2);
  GstBuffer* gap = gst_buffer_new();
  GST_BUFFER_FLAG_SET(gap, GST_BUFFER_FLAG_GAP);
  GST_BUFFER_PTS(gap) = 3 * kFrameTime;
  GST_BUFFER_OFFSET(gap) = 3;
  fail_unless_equals_int(infer.push(gap), GST_FLOW_OK);
  infer.push_numbered(56, 28, 4, 2);
  stub().release(-1);
  expect_tape(tape, "0 1 gap2+40 3d- gap4+40 5d");
  fail_unless_equals_uint64(infer.stat("frames-gap"), 1);
}
GST_END_TEST

GST_START_TEST(skipped_frames_without_timestamps_leave_a_discont) {
  Infer infer(kBlocked, Source::live);
  Tape tape(infer);
  push_first(infer);
  for (int i = 1; i < 5; ++i) {
    GstBuffer* buffer = numbered_frame(56, 28, i);
    GST_BUFFER_PTS(buffer) = GST_BUFFER_DURATION(buffer) = GST_CLOCK_TIME_NONE;
    fail_unless_equals_int(infer.push(buffer), GST_FLOW_OK);
  }
  stub().release(-1);
  expect_tape(tape, "0 1 4d");
}
GST_END_TEST

GST_START_TEST(a_flush_takes_the_line_with_it) {
  Infer infer(kBlocked, Source::live);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 4);
  infer.event(gst_event_new_flush_start());
  infer.event(gst_event_new_flush_stop(TRUE));
  restart_segment(infer);
  fail_unless_equals_uint64(infer.drops("flush"), 3);
  fail_unless_equals_uint64(infer.drops("overrun"), 2);
  stub().release(-1);
  infer.push_numbered(56, 28, 7, 1);
  GstBuffer* buffer = infer.pull();
  fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), 7);
  gst_buffer_unref(buffer);
  fail_unless_equals_int(infer.received(), 1);
}
GST_END_TEST

GST_START_TEST(a_flush_between_the_line_and_the_engine_leaves_nothing_with_it) {
  Door door;  // the sink pad's thread stands there, about to submit
  std::atomic<bool> armed{true};
  StubHooks hooks([&] {
    if (armed.exchange(false)) door.pass();
  });
  Infer infer("model=stub:block=1 process-res=28");
  infer.caps(56, 28);
  // The task has nothing left to do: it would wait for the door, too, and the flush for it.
  for (bool segment = false; !segment;) {
    GstEvent* event = gst_harness_pull_event(infer.harness);
    segment = GST_EVENT_TYPE(event) == GST_EVENT_SEGMENT;
    gst_event_unref(event);
  }
  std::thread pusher([&] { infer.push(numbered_frame(56, 28, 0)); });
  door.wait_reached();
  infer.event(gst_event_new_flush_start());
  door.open();
  pusher.join();
  fail_unless_equals_int(stub_counters().submitted, 1);
  fail_unless_equals_int(stub_counters().cancelled, 1);
  infer.event(gst_event_new_flush_stop(TRUE));
  fail_unless_equals_uint64(infer.drops("flush"), 1);
  // The next frames are not meant.
  restart_segment(infer);
  infer.push_numbered(56, 28, 1, 2);
  stub().release(-1);
  for (int i = 0; i < 2; ++i) gst_buffer_unref(infer.pull());
  fail_unless_equals_int(stub_counters().cancelled, 1);
}
GST_END_TEST

GST_START_TEST(stopping_does_not_wait_for_the_pass_that_runs) {
  StubHooks hooks;
  Door door;  // the engine's thread stands there while it ends the request
  MemoryHook giving_back(MemoryHook::At::unmap, [&] { door.pass(); });
  {
    Infer infer("model=stub:");
    infer.caps(28, 14);
    GstBuffer* lent = numbered_frame(28, 14, 0);
    mark_processed(lent, 28, 14);
    giving_back.arm();
    fail_unless_equals_int(infer.push(lent), GST_FLOW_OK);
    door.wait_reached();
    fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
    fail_unless_equals_uint64(infer.drops("stopped"), 1);
    fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_NULL), GST_STATE_CHANGE_SUCCESS);
    fail_unless_equals_int(stub_counters().engines_alive, 1);
    door.open();
    hooks.wait_closed(1);
    infer.bus.expect_no_error();
  }
  // What an element leaves to be closed is closed when the element is gone.
  fail_unless_equals_int(stub_counters().engines_alive, 0);
  fail_unless_equals_int(stub_counters().results_alive, 0);
}
GST_END_TEST

GST_START_TEST(a_new_life_may_begin_while_a_pass_of_the_last_one_runs) {
  Infer infer("model=stub:");
  infer.caps(28, 14);
  Door door;
  MemoryHook giving_back(MemoryHook::At::unmap, [&] { door.pass(); });
  const auto lent_frame = [](int number) {
    GstBuffer* buffer = numbered_frame(28, 14, number);
    mark_processed(buffer, 28, 14);
    return buffer;
  };
  GstBuffer* earlier = lent_frame(0);
  GstBuffer* later = lent_frame(1);
  giving_back.arm();
  fail_unless_equals_int(infer.push(earlier), GST_FLOW_OK);
  door.wait_reached();
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_PLAYING), GST_STATE_CHANGE_SUCCESS);
  infer.restarted = true;
  infer.event(gst_event_new_stream_start("again"));
  infer.event(gst_event_new_caps(gst_caps_from_string(rgb_caps(28, 14).c_str())));
  restart_segment(infer);
  fail_unless_equals_int(infer.push(later), GST_FLOW_OK);
  door.open();
  GstBuffer* buffer = infer.pull();
  fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), 1);
  assert_depth_of(buffer, colour_of(1));
  gst_buffer_unref(buffer);
  fail_unless_equals_uint64(infer.stat("frames-in"), 1);
  fail_unless_equals_uint64(infer.stat("frames-dropped"), 0);
  infer.bus.expect_no_error();
}
GST_END_TEST

// ---- what takes their place
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(skipped_frames_can_pass_without_depth) {
  Infer infer(std::string(kBlocked) + "on-drop=pass", Source::live);
  Tape tape(infer);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 5);
  stub().release(-1);
  expect_tape(tape, "0 1 2- 3- 4- 5");
  fail_unless_equals_uint64(infer.stat("frames-passed"), 3);
  fail_unless_equals_uint64(infer.stat("frames-out"), 6);
  fail_unless_equals_uint64(infer.stat("frames-dropped"), 0);
}
GST_END_TEST

GST_START_TEST(skipped_frames_can_have_the_last_depth_marked_stale) {
  Infer infer(std::string(kBlocked) + "on-drop=reuse", Source::live);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 5);
  stub().release(-1);
  for (int i = 0; i < 6; ++i) {
    GstBuffer* buffer = infer.pull();
    const GstDa3View view = view_of(buffer);
    const bool stale = i >= 2 && i < 5;
    fail_unless_equals_int(view.stale, stale);
    fail_unless_equals_int64(view.frame, i);
    fail_unless_equals_int64(view.window, stale ? 1 : i);
    fail_unless(view.has_extrinsics == !stale, "a pose of another frame");
    fail_unless(view.has_intrinsics);
    assert_depth_of(buffer, colour_of(stale ? 1 : i));
    fail_if(GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT));
    gst_buffer_unref(buffer);
  }
  fail_unless_equals_uint64(infer.stat("frames-reused"), 3);
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_QOS), 3);
}
GST_END_TEST

GST_START_TEST(depth_of_another_size_is_not_used_again) {
  Infer infer(std::string(kBlocked) + "on-drop=reuse", Source::live);
  Tape tape(infer);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 1);
  infer.caps(28, 28);
  infer.push_numbered(28, 28, 2, 3);
  stub().release(-1);
  expect_tape(tape, "0 1 2- 3- 4");
}
GST_END_TEST

GST_START_TEST(without_an_earlier_depth_there_is_none_to_use_again) {
  Infer infer("model=stub: process-res=28 on-drop=reuse", Source::live);
  Tape tape(infer);
  infer.caps(56, 28);
  send_qos(infer, 2 * kFrameTime, 0);
  infer.push_numbered(56, 28, 0, 1);
  infer.push_numbered(56, 28, 20, 1);
  expect_tape(tape, "0- 20");
  fail_unless_equals_uint64(infer.stat("frames-passed"), 1);
}
GST_END_TEST

namespace {

// Downstream stands still; 300 frames come. How many are inside then.
guint64 inside_behind_a_blocked_downstream(const char* on_drop) {
  Infer infer(std::string("model=stub: process-res=28 max-batch=2 on-drop=") + on_drop, Source::live);
  Door door;
  gst_pad_add_probe(infer.harness->sinkpad, GST_PAD_PROBE_TYPE_BUFFER, wait_at_door, &door, nullptr);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  door.wait_reached();
  infer.push_numbered(56, 28, 1, 300);
  const guint64 inside = infer.stat("queue-level");
  infer.assert_accounts();
  door.open();
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  return inside;
}

GstBuffer* gap_frame(int number) {
  GstBuffer* gap = gst_buffer_new();
  GST_BUFFER_FLAG_SET(gap, GST_BUFFER_FLAG_GAP);
  GST_BUFFER_PTS(gap) = GstClockTime(number) * kFrameTime;
  GST_BUFFER_DURATION(gap) = kFrameTime;
  GST_BUFFER_OFFSET(gap) = guint64(number);
  return gap;
}

}  // namespace

GST_START_TEST(what_downstream_did_not_take_is_in_no_account) {
  for (const bool gaps : {false, true}) {
    Infer infer("model=stub: process-res=28 on-drop=pass", Source::live);
    Answer answer;
    answer.flow = GST_FLOW_EOS;
    answer_with(infer, answer);
    infer.caps(56, 28);
    send_qos(infer, 10 * GST_SECOND, 0);
    GstFlowReturn flow = GST_FLOW_OK;
    for (int i = 0; flow == GST_FLOW_OK; ++i)
      flow = infer.push(gaps ? gap_frame(i) : numbered_frame(56, 28, i));
    fail_unless_equals_int(flow, GST_FLOW_EOS);
    fail_unless_equals_uint64(infer.stat("frames-out"), 0);
    fail_unless_equals_uint64(infer.stat("frames-passed"), 0);
    fail_unless_equals_uint64(infer.stat("frames-gap"), 0);
    // Messages of what comes next count what was really done.
    answer.flow = GST_FLOW_OK;
    restart_segment(infer);
    send_qos(infer, 10 * GST_SECOND, 0);
    infer.push_numbered(56, 28, 1, 1);
    GstBus* bus = gst_element_get_bus(infer.element);
    int messages = 0;
    while (GstMessage* message = gst_bus_pop_filtered(bus, GST_MESSAGE_QOS)) {
      guint64 processed = 1;
      gst_message_parse_qos_stats(message, nullptr, &processed, nullptr);
      fail_unless_equals_uint64(processed, 0);
      ++messages;
      gst_message_unref(message);
    }
    fail_unless(messages > 0);
    gst_object_unref(bus);
  }
}
GST_END_TEST

GST_START_TEST(what_is_skipped_has_a_reason_whatever_takes_its_place) {
  for (const char* on_drop : {"gap", "reuse", "pass"}) {
    stub().reset();
    Infer infer(std::string(kBlocked) + "on-drop=" + on_drop, Source::live);
    push_first(infer);
    infer.push_numbered(56, 28, 1, 5);  // 2, 3 and 4 give way to 5
    send_qos(infer, GST_SECOND, 0);
    infer.push_numbered(56, 28, 6, 1);  // too late at the door, and 5 in the line
    stub().release(-1);
    infer.event(gst_event_new_eos());
    infer.wait_eos();
    fail_unless_equals_uint64(infer.skipped("overrun"), 3);
    fail_unless_equals_uint64(infer.skipped("qos"), 2);
    fail_unless_equals_uint64(infer.skipped("late"), 0);
    fail_unless_equals_int(count_messages(infer, GST_MESSAGE_QOS), 5);
    const bool gap = std::string(on_drop) == "gap";
    fail_unless_equals_uint64(infer.stat("frames-dropped"), gap ? 5 : 0);
  }
}
GST_END_TEST

GST_START_TEST(a_blocked_downstream_does_not_make_the_list_grow) {
  fail_unless(inside_behind_a_blocked_downstream("gap") <= 8 + 2);
  fail_unless(inside_behind_a_blocked_downstream("pass") <= 4 + 32 + 1);
  fail_unless(inside_behind_a_blocked_downstream("reuse") <= 4 + 32 + 1);
}
GST_END_TEST

GST_START_TEST(frames_that_upstream_marked_as_gaps_do_not_make_the_list_grow) {
  Infer infer(std::string(kBlocked) + "on-drop=pass", Source::live);
  Tape tape(infer);
  push_first(infer);
  for (int i = 1; i < 300; ++i) fail_unless_equals_int(infer.push(gap_frame(i)), GST_FLOW_OK);
  // Those that have waited longest give way: two in the line, and 32 that only wait for their turn.
  fail_unless_equals_uint64(infer.stat("queue-level"), 2 + 32);
  fail_unless_equals_uint64(infer.drops("overrun"), 300 - 2 - 32);
  infer.assert_accounts();
  stub().release(-1);
  const std::string text = tape.read();
  fail_unless(text.starts_with("0 gap1+" + std::to_string(40 * (300 - 2 - 32)) + " 267d- 268- "), "came: %s",
              text.c_str());
  fail_unless(text.ends_with(" 299-"), "came: %s", text.c_str());
}
GST_END_TEST

GST_START_TEST(frames_marked_as_gaps_wait_like_others_if_nothing_may_be_lost) {
  Infer infer(std::string(kBlocked) + "drop-policy=never", Source::live);
  infer.caps(56, 28);
  std::thread pusher([&] {
    infer.push_numbered(56, 28, 0, 1);
    for (int i = 1; i < 100; ++i) infer.push(gap_frame(i));
  });
  stub().wait_submitted(1);
  fail_unless(infer.stat("queue-level") <= 2 + 1);
  stub().release(-1);
  pusher.join();
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  fail_unless_equals_int(infer.received(), 100);
}
GST_END_TEST

GST_START_TEST(the_accounts_add_up_in_the_middle_of_a_frame) {
  for (const Source source : {Source::file, Source::live}) {
    Infer infer("model=stub: process-res=28", source);
    infer.caps(56, 28);
    MemoryHook resizing(MemoryHook::At::map, [&] {
      infer.assert_accounts();
      fail_unless_equals_uint64(infer.stat("queue-level"), 1);
    });
    for (int i = 0; i < 3; ++i) {
      GstBuffer* buffer = numbered_frame(56, 28, i);
      resizing.arm();
      fail_unless_equals_int(infer.push(buffer), GST_FLOW_OK);
      fail_unless_equals_int(resizing.runs(), i + 1);
      gst_buffer_unref(infer.pull());
    }
  }
}
GST_END_TEST

GST_START_TEST(a_flush_does_not_wait_for_the_pass_that_runs) {
  Infer infer("model=stub:");
  infer.caps(28, 14);
  Door door;  // the engine's thread stands there while it ends the request
  MemoryHook giving_back(MemoryHook::At::unmap, [&] { door.pass(); });
  const auto lent_frame = [](int number) {
    GstBuffer* buffer = numbered_frame(28, 14, number);
    mark_processed(buffer, 28, 14);
    return buffer;
  };
  GstBuffer* lent = lent_frame(0);
  giving_back.arm();
  fail_unless_equals_int(infer.push(lent), GST_FLOW_OK);
  door.wait_reached();
  infer.event(gst_event_new_flush_start());
  door.open();
  infer.event(gst_event_new_flush_stop(TRUE));
  restart_segment(infer);
  fail_unless_equals_int(infer.push(lent_frame(1)), GST_FLOW_OK);
  GstBuffer* buffer = infer.pull();
  fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), 1);
  assert_depth_of(buffer, colour_of(1));
  gst_buffer_unref(buffer);
  fail_unless_equals_uint64(infer.drops("flush"), 1);
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(a_sink_that_holds_frames_back_does_not_slow_the_engine_down) {
  Infer infer("model=stub: process-res=28 max-batch=1", Source::live);
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  gst_harness_push_upstream_event(infer.harness, gst_event_new_latency(400 * GST_MSECOND));
  Door door;
  gst_pad_add_probe(infer.harness->sinkpad, GST_PAD_PROBE_TYPE_BUFFER, wait_at_door, &door, nullptr);
  infer.caps(56, 28);
  // The first one is held at the sink; five more are inferred meanwhile, within the latency of the pipeline.
  for (int i = 0; i < 6; ++i) {
    infer.push_numbered(56, 28, i, 1);
    stub().wait_finished(i + 1);
    gst_test_clock_advance_time(clock, 40 * GST_MSECOND);
  }
  fail_unless_equals_uint64(infer.drops("overrun"), 0);
  // A downstream that takes nothing for longer is no such sink: nothing more is inferred.
  gst_test_clock_advance_time(clock, 500 * GST_MSECOND);
  infer.push_numbered(56, 28, 6, 4);
  fail_unless_equals_uint64(infer.drops("overrun"), 3);
  fail_unless_equals_int(stub_counters().submitted, 6);
  door.open();
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  gst_object_unref(clock);
}
GST_END_TEST

// ---- groups that are not completed
// ----------------------------------------------------------------------------------------------------

namespace {

std::string caps_of_rate(const char* rate) {
  std::string caps = rgb_caps(56, 28);
  return caps.replace(caps.find("25/1"), 4, rate);
}

// Takes so many frames and returns the size of the group that the last one was in.
int views_of_next(Infer& infer, int frames = 1) {
  int views = 0;
  for (int i = 0; i < frames; ++i) {
    GstBuffer* buffer = infer.pull();
    views = view_of(buffer).views;
    gst_buffer_unref(buffer);
  }
  return views;
}

}  // namespace

GST_START_TEST(a_gap_ends_a_group_of_a_live_stream) {
  Infer infer("model=stub: process-res=28 views=3", Source::live);
  infer.caps(caps_of_rate("1/3600"));  // nothing else ends it today
  infer.push_numbered(56, 28, 0, 1);
  infer.event(gst_event_new_gap(kFrameTime, kFrameTime));
  fail_unless_equals_int(views_of_next(infer), 1);
  infer.push_numbered(56, 28, 2, 2);
  GstBuffer* gap = gap_frame(4);
  fail_unless_equals_int(infer.push(gap), GST_FLOW_OK);
  fail_unless_equals_int(views_of_next(infer, 2), 2);
  gst_buffer_unref(infer.pull());
  infer.push_numbered(56, 28, 5, 3);
  fail_unless_equals_int(views_of_next(infer, 3), 3);
}
GST_END_TEST

GST_START_TEST(a_gap_does_not_end_a_group_of_a_file) {
  Infer infer("model=stub: process-res=28 views=3");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  infer.event(gst_event_new_gap(kFrameTime, kFrameTime));
  infer.push_numbered(56, 28, 2, 2);
  fail_unless_equals_int(views_of_next(infer, 3), 3);
}
GST_END_TEST

GST_START_TEST(a_live_group_does_not_wait_for_ever) {
  Infer infer("model=stub: process-res=28 views=3", Source::live);
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  gst_test_clock_advance_time(clock, 10 * GST_SECOND);
  fail_unless_equals_int(views_of_next(infer), 1);
  infer.push_numbered(56, 28, 1, 2);
  gst_test_clock_advance_time(clock, 10 * GST_SECOND);
  fail_unless_equals_int(views_of_next(infer, 2), 2);
  // Whose time has not come waits.
  infer.push_numbered(56, 28, 3, 1);
  gst_test_clock_advance_time(clock, 200 * GST_MSECOND);
  infer.push_numbered(56, 28, 4, 2);
  fail_unless_equals_int(views_of_next(infer, 3), 3);
  gst_object_unref(clock);
}
GST_END_TEST

GST_START_TEST(groups_of_files_and_of_unknown_rates_wait) {
  for (const Source source : {Source::file, Source::live}) {
    Infer infer("model=stub: process-res=28 views=2 stats-interval=1000000", source);
    gst_harness_use_testclock(infer.harness);
    GstTestClock* clock = gst_harness_get_testclock(infer.harness);
    infer.caps(source == Source::live ? caps_of_rate("0/1") : rgb_caps(56, 28));
    infer.push_numbered(56, 28, 0, 1);
    count_messages(infer, GST_MESSAGE_ELEMENT);
    gst_test_clock_advance_time(clock, 3600 * GST_SECOND);
    // The task has looked at the time since.
    GstBus* bus = gst_element_get_bus(infer.element);
    GstMessage* message = gst_bus_timed_pop_filtered(bus, 60 * GST_SECOND, GST_MESSAGE_ELEMENT);
    fail_unless(message != nullptr);
    gst_message_unref(message);
    gst_object_unref(bus);
    infer.push_numbered(56, 28, 1, 1);
    fail_unless_equals_int(views_of_next(infer, 2), 2);
    gst_object_unref(clock);
  }
}
GST_END_TEST

// ---- quality of service
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(what_downstream_gave_up_is_not_inferred) {
  Infer infer("model=stub: process-res=28", Source::live);
  Tape tape(infer);
  push_first(infer);
  gst_buffer_unref(infer.pull());
  // Frame 0 came 60 ms late: earlier than 0 + 2 * 60 + 40 ms is lost.
  send_qos(infer, 60 * GST_MSECOND, 0);
  infer.push_numbered(56, 28, 1, 4);
  expect_tape(tape, "0 gap1+120 4d");
  fail_unless_equals_int(stub_counters().submitted, 2);
  fail_unless_equals_uint64(infer.drops("qos"), 3);
}
GST_END_TEST

GST_START_TEST(what_downstream_gave_up_while_it_waited_is_not_inferred) {
  Infer infer(kBlocked, Source::live);
  Tape tape(infer);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 2);  // 2 waits in the line
  send_qos(infer, 60 * GST_MSECOND, 0);
  stub().release(1);
  gst_buffer_unref(infer.pull());
  infer.push_numbered(56, 28, 4, 1);
  stub().release(-1);
  expect_tape(tape, "0 1 gap2+40 4d");
  fail_unless_equals_uint64(infer.drops("qos"), 1);
  fail_unless_equals_int(stub_counters().submitted, 3);
  GstBus* bus = gst_element_get_bus(infer.element);
  GstMessage* message = gst_bus_pop_filtered(bus, GST_MESSAGE_QOS);
  gint64 jitter = 0;
  gst_message_parse_qos_values(message, &jitter, nullptr, nullptr);
  fail_unless_equals_int64(jitter, 80 * GST_MSECOND);  // 160 ms are too late for frame 2
  gst_message_unref(message);
  gst_object_unref(bus);
}
GST_END_TEST

GST_START_TEST(a_group_of_which_one_view_is_wanted_is_inferred) {
  Infer infer(std::string(kBlocked) + "views=2", Source::live);
  Tape tape(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  stub().wait_submitted(1);
  infer.push_numbered(56, 28, 2, 4);     // 4 and 5 wait in the line
  send_qos(infer, 80 * GST_MSECOND, 0);  // 4 is too late with its 160 ms, 5 is not
  stub().release(-1);
  expect_tape(tape, "0 1 2 3 4 5");
  fail_unless_equals_uint64(infer.drops("qos"), 0);
}
GST_END_TEST

GST_START_TEST(a_group_has_no_holes) {
  Infer infer("model=stub: process-res=28 views=2", Source::live);
  Tape tape(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);  // the warm-up is over when they are there
  for (int i = 0; i < 2; ++i) gst_buffer_unref(infer.pull());
  infer.push_numbered(56, 28, 2, 1);
  send_qos(infer, 60 * GST_MSECOND, 2 * kFrameTime);  // up to 5 they are too late
  infer.push_numbered(56, 28, 3, 5);
  // 2 and 3 belong together and go together; 4 and 5 are not even begun.
  expect_tape(tape, "0 1 gap2+160 6d 7");
  fail_unless_equals_uint64(infer.drops("qos"), 4);
  fail_unless_equals_int(stub_counters().submitted, 2);
  fail_unless_equals_int(stub_counters().view_counts[1], 2);
}
GST_END_TEST

GST_START_TEST(a_slow_reader_of_messages_holds_up_nobody_else) {
  Infer infer(std::string(kBlocked) + "max-latency=50000000", Source::live);
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  Tape tape(infer);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 2);
  Door door;
  GstBus* bus = gst_element_get_bus(infer.element);
  const GstBusSyncHandler handler = [](GstBus*, GstMessage* message, gpointer user) {
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_QOS) static_cast<Door*>(user)->pass();
    return GST_BUS_PASS;
  };
  gst_bus_set_sync_handler(bus, handler, &door, nullptr);
  gst_test_clock_advance_time(clock, 60 * GST_MSECOND);
  stub().release(1);
  door.wait_reached();  // the task says that 2 is too old
  infer.push_numbered(56, 28, 3, 1);
  stub().wait_submitted(3);
  door.open();
  stub().release(-1);
  expect_tape(tape, "0 1 gap2+40 3d");
  gst_bus_set_sync_handler(bus, nullptr, nullptr, nullptr);
  gst_object_unref(bus);
  gst_object_unref(clock);
}
GST_END_TEST

GST_START_TEST(quality_messages_say_what_was_lost) {
  Infer infer("model=stub: process-res=28", Source::live);
  push_first(infer);
  gst_buffer_unref(infer.pull());
  send_qos(infer, 60 * GST_MSECOND, 0);
  infer.push_numbered(56, 28, 2, 1);
  GstBus* bus = gst_element_get_bus(infer.element);
  GstMessage* message = gst_bus_pop_filtered(bus, GST_MESSAGE_QOS);
  fail_unless(message != nullptr);
  gboolean live = FALSE;
  guint64 running = 0, stream = 0, timestamp = 0, duration = 0, processed = 0, dropped = 0;
  gint64 jitter = 0;
  gdouble proportion = 0;
  gint quality = 0;
  GstFormat format = GST_FORMAT_UNDEFINED;
  gst_message_parse_qos(message, &live, &running, &stream, &timestamp, &duration);
  gst_message_parse_qos_values(message, &jitter, &proportion, &quality);
  gst_message_parse_qos_stats(message, &format, &processed, &dropped);
  fail_unless(live);
  fail_unless_equals_uint64(running, 2 * kFrameTime);
  fail_unless_equals_uint64(stream, 2 * kFrameTime);
  fail_unless_equals_uint64(timestamp, 2 * kFrameTime);
  fail_unless_equals_uint64(duration, kFrameTime);
  fail_unless_equals_int64(jitter, 80 * GST_MSECOND);
  assert_near(proportion, 2);
  fail_unless_equals_int(format, GST_FORMAT_BUFFERS);
  fail_unless_equals_uint64(processed, 1);
  fail_unless_equals_uint64(dropped, 1);
  gst_message_unref(message);
  gst_object_unref(bus);
}
GST_END_TEST

GST_START_TEST(quality_is_forgotten_with_the_segment_the_flush_and_the_latency) {
  for (int way = 0; way < 4; ++way) {
    Infer infer("model=stub: process-res=28", Source::live);
    infer.caps(56, 28);
    send_qos(infer, GST_SECOND, 0);
    if (way == 0) restart_segment(infer);
    if (way == 1) {
      infer.event(gst_event_new_flush_start());
      infer.event(gst_event_new_flush_stop(TRUE));
      restart_segment(infer);
    }
    if (way == 2) gst_harness_push_upstream_event(infer.harness, gst_event_new_latency(GST_SECOND));
    if (way == 3) send_qos(infer, 0, GST_CLOCK_TIME_NONE);
    infer.push_numbered(56, 28, 1, 1);
    gst_buffer_unref(infer.pull());
    fail_unless_equals_uint64(infer.drops("qos"), 0);
  }
}
GST_END_TEST

GST_START_TEST(frames_without_timestamps_are_not_judged) {
  Infer infer("model=stub: process-res=28", Source::live);
  infer.caps(56, 28);
  send_qos(infer, GST_SECOND, 0);
  GstBuffer* buffer = numbered_frame(56, 28, 0);
  GST_BUFFER_PTS(buffer) = GST_CLOCK_TIME_NONE;
  infer.push(buffer);
  gst_buffer_unref(infer.pull());
}
GST_END_TEST

GST_START_TEST(quality_events_go_on_upstream) {
  Infer infer("model=stub: process-res=28", Source::live);
  infer.caps(56, 28);
  send_qos(infer, GST_SECOND, 0);
  bool seen = false;
  while (GstEvent* event = gst_harness_try_pull_upstream_event(infer.harness)) {
    seen |= GST_EVENT_TYPE(event) == GST_EVENT_QOS;
    gst_event_unref(event);
  }
  fail_unless(seen);
}
GST_END_TEST

GST_START_TEST(never_means_never_for_quality_too) {
  Infer infer("model=stub: process-res=28 drop-policy=never", Source::live);
  infer.caps(56, 28);
  send_qos(infer, GST_SECOND, 0);
  infer.push_numbered(56, 28, 0, 3);
  for (int i = 0; i < 3; ++i) gst_buffer_unref(infer.pull());
}
GST_END_TEST

// ---- sequence numbers
// ----------------------------------------------------------------------------------------------------

namespace {

// Begins a segment; the number that what follows in it must have.
guint32 begin_segment(Infer& infer) {
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  GstEvent* event = gst_event_new_segment(&segment);
  const guint32 number = gst_event_get_seqnum(event);
  fail_unless(infer.event(event));
  return number;
}

// Reads events up to the end of the stream; how many of `type` have this number, and none another one.
int events_of(Infer& infer, GstEventType type, guint32 number) {
  int count = 0;
  for (bool end = false; !end;) {
    GstEvent* event = gst_harness_pull_event(infer.harness);
    fail_unless(event != nullptr, "EOS did not come");
    end = GST_EVENT_TYPE(event) == GST_EVENT_EOS;
    if (GST_EVENT_TYPE(event) == type) {
      fail_unless_equals_int(int(gst_event_get_seqnum(event)), int(number));
      ++count;
    }
    gst_event_unref(event);
  }
  return count;
}

}  // namespace

GST_START_TEST(gaps_belong_to_their_segment) {
  Infer infer(kBlocked, Source::live);
  push_first(infer);
  const guint32 number = begin_segment(infer);
  infer.push_numbered(56, 28, 1, 5);
  stub().release(-1);
  infer.event(gst_event_new_eos());
  fail_unless_equals_int(events_of(infer, GST_EVENT_GAP, number), 1);
}
GST_END_TEST

GST_START_TEST(the_end_after_an_error_belongs_to_its_segment) {
  Infer infer("model=stub:fail-at=1 process-res=28");
  infer.caps(56, 28);
  const guint32 number = begin_segment(infer);
  infer.push(numbered_frame(56, 28, 0));
  fail_unless_equals_int(events_of(infer, GST_EVENT_EOS, number), 1);
  infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "");
}
GST_END_TEST

GST_START_TEST(the_end_that_downstream_brings_about_belongs_to_its_segment) {
  Infer infer("model=stub:block=1 process-res=28");
  Answer answer;
  answer.flow = GST_FLOW_ERROR;
  answer_with(infer, answer);
  infer.caps(56, 28);
  const guint32 number = begin_segment(infer);
  infer.push_numbered(56, 28, 0, 2);
  infer.event(gst_event_new_eos());
  stub().release(-1);
  fail_unless_equals_int(events_of(infer, GST_EVENT_EOS, number), 1);
  infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "");
}
GST_END_TEST

static Suite* da3infer_live_suite() {
  Suite* suite = suite_create("da3infer-live");
  TCase* drops = tcase_create("drops");
  tcase_add_test(drops, the_newest_wins_behind_a_live_source);
  tcase_add_test(drops, the_newest_goes_if_asked_to);
  tcase_add_test(drops, upstream_waits_if_asked_to);
  tcase_add_test(drops, a_file_is_never_dropped_from);
  tcase_add_test(drops, a_file_is_dropped_from_if_asked_to);
  tcase_add_test(drops, a_new_stream_may_be_live_where_the_old_one_was_not);
  tcase_add_test(drops, who_could_not_say_whether_it_is_live_is_asked_again);
  tcase_add_test(drops, a_stream_is_drained_again_after_what_waited_at_its_end);
  tcase_add_test(drops, groups_of_views_go_as_a_whole);
  tcase_add_test(drops, gap_frames_and_events_keep_their_place_among_skipped_ones);
  tcase_add_test(drops, skipped_frames_without_timestamps_leave_a_discont);
  tcase_add_test(drops, a_flush_takes_the_line_with_it);
  tcase_add_test(drops, skipped_frames_can_pass_without_depth);
  tcase_add_test(drops, skipped_frames_can_have_the_last_depth_marked_stale);
  tcase_add_test(drops, depth_of_another_size_is_not_used_again);
  tcase_add_test(drops, without_an_earlier_depth_there_is_none_to_use_again);
  tcase_add_test(drops, a_blocked_downstream_does_not_make_the_list_grow);
  tcase_add_test(drops, frames_that_upstream_marked_as_gaps_do_not_make_the_list_grow);
  tcase_add_test(drops, frames_marked_as_gaps_wait_like_others_if_nothing_may_be_lost);
  tcase_add_test(drops, the_accounts_add_up_in_the_middle_of_a_frame);
  tcase_add_test(drops, a_flush_does_not_wait_for_the_pass_that_runs);
  tcase_add_test(drops, a_flush_between_the_line_and_the_engine_leaves_nothing_with_it);
  tcase_add_test(drops, stopping_does_not_wait_for_the_pass_that_runs);
  tcase_add_test(drops, a_new_life_may_begin_while_a_pass_of_the_last_one_runs);
  tcase_add_test(drops, what_downstream_did_not_take_is_in_no_account);
  tcase_add_test(drops, what_is_skipped_has_a_reason_whatever_takes_its_place);
  tcase_add_test(drops, a_sink_that_holds_frames_back_does_not_slow_the_engine_down);
  suite_add_tcase(suite, drops);

  TCase* groups = tcase_create("groups");
  tcase_add_test(groups, a_gap_ends_a_group_of_a_live_stream);
  tcase_add_test(groups, a_gap_does_not_end_a_group_of_a_file);
  tcase_add_test(groups, a_live_group_does_not_wait_for_ever);
  tcase_add_test(groups, groups_of_files_and_of_unknown_rates_wait);
  suite_add_tcase(suite, groups);

  TCase* quality = tcase_create("quality");
  tcase_add_test(quality, what_downstream_gave_up_is_not_inferred);
  tcase_add_test(quality, what_downstream_gave_up_while_it_waited_is_not_inferred);
  tcase_add_test(quality, a_group_of_which_one_view_is_wanted_is_inferred);
  tcase_add_test(quality, a_group_has_no_holes);
  tcase_add_test(quality, a_slow_reader_of_messages_holds_up_nobody_else);
  tcase_add_test(quality, quality_messages_say_what_was_lost);
  tcase_add_test(quality, quality_is_forgotten_with_the_segment_the_flush_and_the_latency);
  tcase_add_test(quality, frames_without_timestamps_are_not_judged);
  tcase_add_test(quality, quality_events_go_on_upstream);
  tcase_add_test(quality, never_means_never_for_quality_too);
  suite_add_tcase(suite, quality);

  TCase* numbers = tcase_create("sequence numbers");
  tcase_add_test(numbers, gaps_belong_to_their_segment);
  tcase_add_test(numbers, the_end_after_an_error_belongs_to_its_segment);
  tcase_add_test(numbers, the_end_that_downstream_brings_about_belongs_to_its_segment);
  suite_add_tcase(suite, numbers);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_live_suite(), "da3infer_live", __FILE__);
}
