// SPDX-License-Identifier: MIT
//
// da3infer behind a live source: ages and deadlines, the latency that it answers, the warm-up. Time is that
// of a test clock.
#include <string>

#include "infer_live.h"

using namespace da3::testing;

// ---- ages
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(a_frame_that_waited_too_long_is_not_submitted) {
  Infer infer(std::string(kBlocked) + "max-latency=50000000", Source::live);
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  Tape tape(infer);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 2);  // 2 waits in the line
  gst_test_clock_advance_time(clock, 60 * GST_MSECOND);
  stub().release(1);
  gst_buffer_unref(infer.pull());
  stub().release(1);
  gst_buffer_unref(infer.pull());
  infer.push_numbered(56, 28, 3, 1);
  stub().release(-1);
  expect_tape(tape, "0 1 gap2+40 3d");
  fail_unless_equals_uint64(infer.drops("late"), 1);
  fail_unless_equals_int(stub_counters().submitted, 3);
  gst_object_unref(clock);
}
GST_END_TEST

GST_START_TEST(a_frame_just_young_enough_is) {
  Infer infer(std::string(kBlocked) + "max-latency=50000000", Source::live);
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  Tape tape(infer);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 2);
  gst_test_clock_advance_time(clock, 49 * GST_MSECOND);
  stub().release(-1);
  expect_tape(tape, "0 1 2");
  gst_object_unref(clock);
}
GST_END_TEST

GST_START_TEST(what_expires_in_the_engine_is_a_late_frame_and_no_error) {
  Infer infer("model=stub:expire-at=2,single-us=1000 process-res=28 max-batch=1", Source::live);
  Tape tape(infer);
  infer.caps(56, 28);
  for (int i = 0; i < 4; ++i) {
    infer.push_numbered(56, 28, i, 1);
    stub().wait_finished(i + 1);
  }
  expect_tape(tape, "0 gap1+40 2d 3");
  fail_unless_equals_uint64(infer.drops("late"), 1);
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_QOS), 1);
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(what_expires_in_the_engine_can_pass) {
  Infer infer("model=stub:expire-at=2,single-us=1000 process-res=28 max-batch=1 on-drop=pass", Source::live);
  Tape tape(infer);
  infer.caps(56, 28);
  for (int i = 0; i < 3; ++i) {
    infer.push_numbered(56, 28, i, 1);
    stub().wait_finished(i + 1);
  }
  expect_tape(tape, "0 1- 2");
  fail_unless_equals_uint64(infer.stat("frames-passed"), 1);
  fail_unless_equals_uint64(infer.skipped("late"), 1);
  fail_unless_equals_uint64(infer.drops("late"), 0);
}
GST_END_TEST

GST_START_TEST(deadlines_reach_the_engine) {
  const auto deadline = [](const char* properties, Source source) {
    Infer infer(std::string("model=stub: process-res=28 ") + properties, source);
    infer.caps(56, 28);
    const gint64 before = g_get_monotonic_time() * 1000;
    infer.push_numbered(56, 28, 0, 1);
    gst_buffer_unref(infer.pull());
    const gint64 value = stub_counters().last_deadline_ns;
    return value ? value - before : 0;
  };
  const gint64 live = deadline("max-latency=3600000000000", Source::live);
  fail_unless(live > 3500 * gint64(GST_SECOND) && live <= 3700 * gint64(GST_SECOND));
  fail_unless_equals_int(stub_counters().last_flags, DA3_REQUEST_DROP_EXPIRED);
  fail_unless(deadline("", Source::live) > 0, "three passes, at least 100 ms");
  // A file has time; a live stream of which nothing may be lost is in a hurry and loses nothing.
  fail_unless_equals_int64(deadline("max-latency=1000000000", Source::file), 0);
  fail_unless_equals_int(stub_counters().last_flags, 0);
  fail_unless_equals_int64(deadline("drop-policy=never", Source::live), 0);
  fail_unless(deadline("drop-policy=never max-latency=1000000000", Source::live) > 0);
  fail_unless_equals_int(stub_counters().last_flags, 0);
}
GST_END_TEST

GST_START_TEST(a_deadline_counts_from_the_arrival_of_a_frame) {
  Infer infer("model=stub: process-res=28 max-latency=3600000000000", Source::live);
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);  // after the warm-up, which counts for nobody
  gst_buffer_unref(infer.pull());
  MemoryHook resizing(MemoryHook::At::map, [&] { gst_test_clock_advance_time(clock, 1800 * GST_SECOND); });
  GstBuffer* buffer = numbered_frame(56, 28, 1);
  resizing.arm();
  const gint64 before = g_get_monotonic_time() * 1000;
  fail_unless_equals_int(infer.push(buffer), GST_FLOW_OK);
  gst_buffer_unref(infer.pull());
  const gint64 left = stub_counters().last_deadline_ns - before;
  fail_unless(left > 1700 * gint64(GST_SECOND) && left < 1900 * gint64(GST_SECOND), "%" G_GINT64_FORMAT,
              left);
  gst_object_unref(clock);
}
GST_END_TEST

GST_START_TEST(a_frame_that_took_too_long_to_resize_is_late) {
  Infer infer("model=stub: process-res=28 max-latency=50000000", Source::live);
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  Tape tape(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  gst_buffer_unref(infer.pull());
  MemoryHook resizing(MemoryHook::At::map, [&] { gst_test_clock_advance_time(clock, 51 * GST_MSECOND); });
  GstBuffer* buffer = numbered_frame(56, 28, 1);
  resizing.arm();
  fail_unless_equals_int(infer.push(buffer), GST_FLOW_OK);
  infer.push_numbered(56, 28, 2, 1);
  expect_tape(tape, "0 gap1+40 2d");
  fail_unless_equals_uint64(infer.drops("late"), 1);
  gst_object_unref(clock);
}
GST_END_TEST

GST_START_TEST(a_group_is_as_old_as_its_last_view) {
  Infer infer("model=stub:single-us=1000 process-res=28 views=4", Source::live);
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  infer.caps(56, 28);
  // The fourth view comes 120 ms after the first, which is more than the 100 ms that a frame may wait.
  for (int i = 0; i < 8; ++i) {
    infer.push_numbered(56, 28, i, 1);
    gst_test_clock_advance_time(clock, 40 * GST_MSECOND);
    for (int k = 0; i % 4 == 3 && k < 4; ++k) gst_buffer_unref(infer.pull());
  }
  // Views that wait for others in vain are not late when the stream ends.
  infer.push_numbered(56, 28, 8, 2);
  gst_test_clock_advance_time(clock, 10 * GST_SECOND);
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  fail_unless_equals_int(infer.received(), 10);
  fail_unless_equals_uint64(infer.drops("late"), 0);
  gst_object_unref(clock);
}
GST_END_TEST

GST_START_TEST(the_engine_knows_the_stream_while_it_lives) {
  {
    Infer infer("model=stub: process-res=28 max-batch=3 views=2", Source::live);
    infer.caps(56, 28);
    for (int i = 0; i < 4; i += 2) {
      infer.push_numbered(56, 28, i, 2);
      for (int k = 0; k < 2; ++k) gst_buffer_unref(infer.pull());
    }
    const Da3StubCounters counters = stub_counters();
    fail_unless_equals_int(counters.streams, 1);
    fail_unless_equals_int(counters.stream_begins, 1);
    fail_unless_equals_int(int(counters.last_max_pending), 2);  // one runs, one waits: no rate is known yet
    fail_unless_equals_int64(counters.last_interval_ns, 2 * kFrameTime);
    infer.event(gst_event_new_eos());
    fail_unless_equals_int(stub_counters().drains, 1);
    gst_element_set_state(infer.element, GST_STATE_READY);
    fail_unless_equals_int(stub_counters().streams, 0);
  }
  Infer file("model=stub: process-res=28 max-batch=3");
  file.caps(56, 28);
  file.push_numbered(56, 28, 0, 1);
  gst_buffer_unref(file.pull());
  fail_unless_equals_int64(stub_counters().last_interval_ns, 0);
  fail_unless_equals_int(int(stub_counters().last_max_pending), 6);
}
GST_END_TEST

GST_START_TEST(the_engine_is_told_how_many_can_come) {
  Infer infer("model=stub:single-us=1000 process-res=28 max-batch=4", Source::live);
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  infer.caps(56, 28);
  int frame = 0;
  const auto run = [&](int frames, GstClockTime between) {
    for (int i = 0; i < frames; ++i) {
      infer.push_numbered(56, 28, frame++, 1);
      gst_buffer_unref(infer.pull());
      gst_test_clock_advance_time(clock, between);
    }
    return int(stub_counters().last_max_pending);
  };
  // Two or three are asked for within 100 ms at 25 frames a second, and at 100 as many as two batches hold.
  for (int i = 0; i < 2; ++i) {
    const int slow = run(40, 40 * GST_MSECOND);
    fail_unless(slow == 2 || slow == 3, "%d", slow);
    fail_unless_equals_int(run(40, 10 * GST_MSECOND), 8);
  }
  gst_object_unref(clock);
}
GST_END_TEST

GST_START_TEST(a_new_clock_makes_no_old_frames) {
  Infer infer(std::string(kBlocked) + "max-latency=50000000", Source::live);
  gst_harness_use_testclock(infer.harness);
  Tape tape(infer);
  push_first(infer);
  infer.push_numbered(56, 28, 1, 2);
  GstClock* other = GST_CLOCK(g_object_new(GST_TYPE_TEST_CLOCK, "start-time", 3600 * GST_SECOND, nullptr));
  gst_element_set_clock(infer.element, other);
  stub().release(-1);
  expect_tape(tape, "0 1 2");
  gst_object_unref(other);
}
GST_END_TEST

// ---- latency and warm-up
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(an_unchanging_service_time_posts_one_latency_message) {
  Infer infer("model=stub:queued-us=2000,inference-us=3000 process-res=28 max-batch=1 drop-policy=never",
              Source::live);
  gst_harness_use_testclock(infer.harness);  // no time passes but what the stub says
  infer.caps(56, 28);
  for (int i = 0; i < 200; ++i) {
    infer.push_numbered(56, 28, i, 1);
    gst_buffer_unref(infer.pull());
  }
  fail_unless_equals_uint64(gst_harness_query_latency(infer.harness), 5 * GST_MSECOND);
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_LATENCY), 1);
  fail_unless_equals_uint64(infer.stat("latency-messages"), 1);
}
GST_END_TEST

GST_START_TEST(behind_a_file_the_latency_is_not_announced_until_a_live_source_follows) {
  Infer infer("model=stub:queued-us=2000,inference-us=3000 process-res=28 max-batch=1 drop-policy=never");
  gst_harness_use_testclock(infer.harness);
  infer.caps(56, 28);
  for (int i = 0; i < 20; ++i) {
    infer.push_numbered(56, 28, i, 1);
    gst_buffer_unref(infer.pull());
  }
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_LATENCY), 0);
  fail_unless_equals_uint64(infer.stat("latency-messages"), 0);
  gst_harness_set_live(infer.harness, TRUE);
  fail_unless(gst_harness_push_event(infer.harness, gst_event_new_stream_start("another")));
  for (int i = 20; i < 23; ++i) {
    infer.push_numbered(56, 28, i, 1);
    gst_buffer_unref(infer.pull());
  }
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_LATENCY), 1);
}
GST_END_TEST

GST_START_TEST(latency_counts_from_the_arrival_of_a_frame) {
  Infer infer("model=stub:queued-us=2000,inference-us=3000 process-res=28 max-batch=1 drop-policy=never",
              Source::live);
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  MemoryHook resizing(MemoryHook::At::map, [&] { gst_test_clock_advance_time(clock, 30 * GST_MSECOND); });
  infer.caps(56, 28);
  for (int i = 0; i < 20; ++i) {
    GstBuffer* buffer = numbered_frame(56, 28, i);
    resizing.arm();
    fail_unless_equals_int(infer.push(buffer), GST_FLOW_OK);
    gst_buffer_unref(infer.pull());
  }
  fail_unless_equals_uint64(gst_harness_query_latency(infer.harness), 35 * GST_MSECOND);
  gst_object_unref(clock);
}
GST_END_TEST

GST_START_TEST(latency_is_no_more_than_what_the_user_allows) {
  Infer infer("model=stub:queued-us=2000,inference-us=3000 process-res=28 max-latency=4000000", Source::live);
  infer.caps(56, 28);
  for (int i = 0; i < 10; ++i) {
    infer.push_numbered(56, 28, i, 1);
    gst_buffer_unref(infer.pull());
  }
  fail_unless_equals_uint64(gst_harness_query_latency(infer.harness), 4 * GST_MSECOND);
}
GST_END_TEST

namespace {

void infer_numbered(Infer& infer, int first, int count) {
  infer.push_numbered(56, 28, first, count);
  for (int i = 0; i < count; ++i) gst_buffer_unref(infer.pull());
}

}  // namespace

GST_START_TEST(other_views_and_another_frame_rate_are_another_latency) {
  Infer infer("model=stub:queued-us=2000,inference-us=3000 process-res=28 max-batch=1 drop-policy=never",
              Source::live);
  gst_harness_use_testclock(infer.harness);
  infer.caps(56, 28);
  infer_numbered(infer, 0, 8);
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_LATENCY), 1);
  g_object_set(infer.element, "views", 4, nullptr);
  infer_numbered(infer, 8, 4);
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_LATENCY), 1);
  fail_unless_equals_uint64(gst_harness_query_latency(infer.harness), 125 * GST_MSECOND);
  infer_numbered(infer, 12, 8);
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_LATENCY), 0);  // said once
  std::string faster = rgb_caps(56, 28);
  faster.replace(faster.find("25/1"), 4, "50/1");
  infer.caps(faster);
  infer_numbered(infer, 20, 4);
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_LATENCY), 1);
  fail_unless_equals_uint64(gst_harness_query_latency(infer.harness), 65 * GST_MSECOND);
  g_object_set(infer.element, "views", 1, nullptr);
  infer_numbered(infer, 24, 1);
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_LATENCY), 1);
  // Of single frames the frame rate is no part of it.
  infer.caps(56, 28);
  infer_numbered(infer, 25, 4);
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_LATENCY), 0);
  fail_unless_equals_uint64(infer.stat("latency-messages"), 4);
}
GST_END_TEST

GST_START_TEST(another_limit_is_another_latency_if_it_limits) {
  Infer infer("model=stub:queued-us=2000,inference-us=3000 process-res=28 max-latency=4000000", Source::live);
  gst_harness_use_testclock(infer.harness);
  infer.caps(56, 28);
  for (int i = 0; i < 8; ++i) infer_numbered(infer, i, 1);
  count_messages(infer, GST_MESSAGE_LATENCY);
  const auto messages_after = [&](guint64 limit, int frame) {
    g_object_set(infer.element, "max-latency", limit, nullptr);
    infer_numbered(infer, frame, 1);
    return count_messages(infer, GST_MESSAGE_LATENCY);
  };
  fail_unless_equals_int(messages_after(3 * GST_MSECOND, 8), 1);
  fail_unless_equals_uint64(gst_harness_query_latency(infer.harness), 3 * GST_MSECOND);
  fail_unless_equals_int(messages_after(GST_SECOND, 9), 1);
  fail_unless_equals_uint64(gst_harness_query_latency(infer.harness), 5 * GST_MSECOND);
  // It is 5 ms whatever more is allowed.
  fail_unless_equals_int(messages_after(2 * GST_SECOND, 10), 0);
  fail_unless_equals_int(messages_after(6 * GST_MSECOND, 11), 0);
}
GST_END_TEST

GST_START_TEST(a_warm_up_tells_the_latency_before_the_first_frame) {
  Infer infer(std::string("model=stub:block=1,single-us=7000 process-res=28"), Source::live);
  push_first(infer);
  fail_unless_equals_int(stub_counters().warm_ups, 1);
  fail_unless_equals_uint64(gst_harness_query_latency(infer.harness), 14 * GST_MSECOND);
  stub().release(-1);
  gst_buffer_unref(infer.pull());
  fail_unless_equals_int(count_messages(infer, GST_MESSAGE_LATENCY), 1);
}
GST_END_TEST

GST_START_TEST(a_warm_up_that_fails_is_no_error) {
  Infer infer("model=stub:warm-fail=1 process-res=28", Source::live);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  gst_buffer_unref(infer.pull());
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(stopping_does_not_wait_for_a_warm_up) {
  Infer infer("model=stub:warm-block=1 process-res=28", Source::live);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 5);
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_NULL), GST_STATE_CHANGE_SUCCESS);
  fail_unless_equals_int(infer.received(), 0);
  infer.assert_accounts();
}
GST_END_TEST

GST_START_TEST(during_a_warm_up_the_newest_wins) {
  Infer infer("model=stub:warm-block=1 process-res=28", Source::live);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 6);
  fail_unless_equals_int(stub_counters().submitted, 0);
  fail_unless_equals_uint64(infer.drops("overrun"), 5);
  stub().release(-1);
  GstBuffer* buffer = infer.pull();
  fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), 5);
  fail_unless(GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT));
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(who_waited_for_a_warm_up_is_not_late) {
  Infer infer("model=stub:warm-block=1 process-res=28 max-latency=50000000", Source::live);
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  gst_test_clock_advance_time(clock, 10 * GST_SECOND);
  infer.event(gst_event_new_eos());
  stub().release(-1);
  infer.wait_eos();
  fail_unless_equals_int(infer.received(), 1);
  gst_object_unref(clock);
}
GST_END_TEST

static Suite* da3infer_latency_suite() {
  Suite* suite = suite_create("da3infer-latency");
  TCase* ages = tcase_create("ages");
  tcase_add_test(ages, a_frame_that_waited_too_long_is_not_submitted);
  tcase_add_test(ages, a_frame_just_young_enough_is);
  tcase_add_test(ages, what_expires_in_the_engine_is_a_late_frame_and_no_error);
  tcase_add_test(ages, what_expires_in_the_engine_can_pass);
  tcase_add_test(ages, deadlines_reach_the_engine);
  tcase_add_test(ages, a_deadline_counts_from_the_arrival_of_a_frame);
  tcase_add_test(ages, a_frame_that_took_too_long_to_resize_is_late);
  tcase_add_test(ages, a_group_is_as_old_as_its_last_view);
  tcase_add_test(ages, the_engine_knows_the_stream_while_it_lives);
  tcase_add_test(ages, the_engine_is_told_how_many_can_come);
  tcase_add_test(ages, a_new_clock_makes_no_old_frames);
  suite_add_tcase(suite, ages);

  TCase* latency = tcase_create("latency");
  tcase_add_test(latency, an_unchanging_service_time_posts_one_latency_message);
  tcase_add_test(latency, behind_a_file_the_latency_is_not_announced_until_a_live_source_follows);
  tcase_add_test(latency, latency_counts_from_the_arrival_of_a_frame);
  tcase_add_test(latency, latency_is_no_more_than_what_the_user_allows);
  tcase_add_test(latency, other_views_and_another_frame_rate_are_another_latency);
  tcase_add_test(latency, another_limit_is_another_latency_if_it_limits);
  tcase_add_test(latency, a_warm_up_tells_the_latency_before_the_first_frame);
  tcase_add_test(latency, a_warm_up_that_fails_is_no_error);
  tcase_add_test(latency, stopping_does_not_wait_for_a_warm_up);
  tcase_add_test(latency, during_a_warm_up_the_newest_wins);
  tcase_add_test(latency, who_waited_for_a_warm_up_is_not_late);
  suite_add_tcase(suite, latency);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_latency_suite(), "da3infer_latency", __FILE__);
}
