// SPDX-License-Identifier: MIT
//
// da3infer behind a live source: which frames are inferred when there are too many, what takes the place of
// the others, quality of service, ages, latency. Time is that of a test clock; the engine computes when it is
// told to.
#include <algorithm>
#include <condition_variable>
#include <map>
#include <memory>
#include <random>

#include "infer_harness.h"

using namespace da3::testing;

namespace {

// A live stream of 56x28 frames with an engine that waits to be released, two requests at most in it.
constexpr char kBlocked[] = "model=stub:block=1 process-res=28 max-batch=1 ";

// What came out, as text: "0", "1d" (discont), "2-" (no depth), "3s" (stale depth), "gap2+280" (from frame 2,
// ms).
class Tape {
 public:
  explicit Tape(Infer& infer) : infer_(infer) {
    gst_pad_add_probe(infer.harness->sinkpad,
                      GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM), write,
                      this, nullptr);
  }
  // After the end of the stream.
  std::string read() {
    infer_.event(gst_event_new_eos());
    infer_.wait_eos();
    const std::lock_guard lock(mutex_);
    end_gap();
    return text_;
  }

 private:
  static GstPadProbeReturn write(GstPad*, GstPadProbeInfo* info, gpointer user) {
    auto* self = static_cast<Tape*>(user);
    const std::lock_guard lock(self->mutex_);
    if (info->type & GST_PAD_PROBE_TYPE_BUFFER) {
      self->end_gap();
      self->add(buffer_text(GST_PAD_PROBE_INFO_BUFFER(info)));
    } else if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_GAP) {
      GstClockTime start = 0, duration = 0;
      gst_event_parse_gap(GST_PAD_PROBE_INFO_EVENT(info), &start, &duration);
      if (start != self->gap_end_) {
        self->end_gap();
        self->gap_start_ = start;
      }
      self->gap_end_ = start + duration;
    }
    return GST_PAD_PROBE_OK;
  }
  void end_gap() {
    if (gap_start_ == GST_CLOCK_TIME_NONE) return;
    add("gap" + std::to_string(gap_start_ / kFrameTime) + "+" +
        std::to_string((gap_end_ - gap_start_) / GST_MSECOND));
    gap_start_ = gap_end_ = GST_CLOCK_TIME_NONE;
  }
  void add(const std::string& entry) { text_ += (text_.empty() ? "" : " ") + entry; }
  static std::string buffer_text(GstBuffer* buffer) {
    std::string entry = std::to_string(GST_BUFFER_OFFSET(buffer));
    if (GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT)) entry += "d";
    if (!has_tensor(buffer, GST_DA3_TENSOR_DEPTH)) return entry + "-";
    return view_of(buffer).stale ? entry + "s" : entry;
  }

  Infer& infer_;
  std::mutex mutex_;
  std::string text_;
  GstClockTime gap_start_ = GST_CLOCK_TIME_NONE, gap_end_ = GST_CLOCK_TIME_NONE;
};

void expect_tape(Tape& tape, const char* expected) {
  const std::string text = tape.read();
  fail_unless(text == expected, "came: %s\nexpected: %s", text.c_str(), expected);
}

// Frame 0, and the warm-up before it, have passed: what follows is decided by the test alone.
void push_first(Infer& infer) {
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  stub().wait_submitted(1);
}

int count_messages(Infer& infer, GstMessageType type) {
  GstBus* bus = gst_element_get_bus(infer.element);
  int count = 0;
  while (GstMessage* message = gst_bus_pop_filtered(bus, type)) {
    ++count;
    gst_message_unref(message);
  }
  gst_object_unref(bus);
  return count;
}

void send_qos(Infer& infer, GstClockTimeDiff jitter, GstClockTime timestamp) {
  gst_harness_push_upstream_event(
      infer.harness, gst_event_new_qos(jitter > 0 ? GST_QOS_TYPE_UNDERFLOW : GST_QOS_TYPE_OVERFLOW,
                                       jitter > 0 ? 2.0 : 0.5, jitter, timestamp));
}

void restart_segment(Infer& infer) {
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  fail_unless(infer.event(gst_event_new_segment(&segment)));
}

}  // namespace

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

struct Door {
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = false, open = false;
};

GstPadProbeReturn wait_at_door(GstPad*, GstPadProbeInfo*, gpointer user) {
  auto* door = static_cast<Door*>(user);
  std::unique_lock lock(door->mutex);
  door->reached = true;
  door->changed.notify_all();
  door->changed.wait(lock, [door] { return door->open; });
  return GST_PAD_PROBE_OK;
}

// Downstream stands still; 300 frames come. How many are inside then.
guint64 inside_behind_a_blocked_downstream(const char* on_drop) {
  Infer infer(std::string("model=stub: process-res=28 max-batch=2 on-drop=") + on_drop, Source::live);
  Door door;
  gst_pad_add_probe(infer.harness->sinkpad, GST_PAD_PROBE_TYPE_BUFFER, wait_at_door, &door, nullptr);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  {
    std::unique_lock lock(door.mutex);
    door.changed.wait(lock, [&] { return door.reached; });
  }
  infer.push_numbered(56, 28, 1, 300);
  const guint64 inside = infer.stat("queue-level");
  infer.assert_accounts();
  {
    const std::lock_guard lock(door.mutex);
    door.open = true;
  }
  door.changed.notify_all();
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  return inside;
}

}  // namespace

GST_START_TEST(a_blocked_downstream_does_not_make_the_list_grow) {
  fail_unless(inside_behind_a_blocked_downstream("gap") <= 8 + 2);
  fail_unless(inside_behind_a_blocked_downstream("pass") <= 4 + 32 + 1);
  fail_unless(inside_behind_a_blocked_downstream("reuse") <= 4 + 32 + 1);
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
  {
    const std::lock_guard lock(door.mutex);
    door.open = true;
  }
  door.changed.notify_all();
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  gst_object_unref(clock);
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
  Infer infer("model=stub:expire-at=2 process-res=28 max-batch=1", Source::live);
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
  Infer infer("model=stub:expire-at=2 process-res=28 max-batch=1 on-drop=pass", Source::live);
  Tape tape(infer);
  infer.caps(56, 28);
  for (int i = 0; i < 3; ++i) {
    infer.push_numbered(56, 28, i, 1);
    stub().wait_finished(i + 1);
  }
  expect_tape(tape, "0 1- 2");
  fail_unless_equals_uint64(infer.stat("frames-passed"), 1);
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
    fail_unless_equals_int(int(counters.last_max_pending), 6);
    fail_unless_equals_int64(counters.last_interval_ns, 2 * kFrameTime);
    infer.event(gst_event_new_eos());
    fail_unless_equals_int(stub_counters().drains, 1);
    gst_element_set_state(infer.element, GST_STATE_READY);
    fail_unless_equals_int(stub_counters().streams, 0);
  }
  Infer file("model=stub: process-res=28");
  file.caps(56, 28);
  file.push_numbered(56, 28, 0, 1);
  gst_buffer_unref(file.pull());
  fail_unless_equals_int64(stub_counters().last_interval_ns, 0);
}
GST_END_TEST

// ---- latency and warm-up
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(an_unchanging_service_time_posts_one_latency_message) {
  Infer infer("model=stub:queued-us=2000,inference-us=3000 process-res=28 max-batch=1 drop-policy=never",
              Source::live);
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

// ---- load
// ----------------------------------------------------------------------------------------------------

namespace {

// What reaches downstream of all streams.
struct Monitor {
  std::mutex mutex;
  std::condition_variable changed;
  GstClock* clock = nullptr;
  int count = 0;
  std::vector<std::vector<GstClockTime>> ages;            // by stream, in order
  std::vector<std::map<guint64, GstClockTime>> arrivals;  // by stream and frame
  void wait(int frames) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return count >= frames; });
  }
};

struct Camera {
  Monitor* monitor;
  int index;
  std::unique_ptr<Infer> infer;
  int pushed = 0;
};

GstFlowReturn record_age(GstPad* pad, GstObject*, GstBuffer* buffer) {
  auto* camera = static_cast<Camera*>(g_object_get_data(G_OBJECT(pad), "camera"));
  Monitor& monitor = *camera->monitor;
  const GstClockTime now = gst_clock_get_time(monitor.clock);
  {
    const std::lock_guard lock(monitor.mutex);
    const auto arrival = monitor.arrivals[camera->index].at(GST_BUFFER_OFFSET(buffer));
    monitor.ages[camera->index].push_back(now - arrival);
    ++monitor.count;
  }
  monitor.changed.notify_all();
  gst_buffer_unref(buffer);
  return GST_FLOW_OK;
}

struct Load {
  int cameras;
  double load;  // of capacity
  bool gpu;     // four items cost little more than one; else four times as much
  GstClockTime max_latency = 0;
  // Of a full batch: what makes this load of cameras with kFrameTime between frames.
  double pass_ns() const { return load * double(kFrameTime) * batch() / cameras; }
  int batch() const { return gpu ? 4 : 1; }
};

struct Outcome {
  std::vector<GstClockTime> ages;       // all
  std::vector<GstClockTime> halves[2];  // of the time
  std::vector<guint64> dropped;         // by camera
  GstClockTime service = 0;             // of a full batch
  int batch = 0;
};

// Cameras of 25 frames/s with jitter before one engine, in virtual time.
class Simulation {
 public:
  explicit Simulation(const Load& load) : load_(load), clock_(gst_test_clock_new()) {
    stub().reset();
    batch_ = load.batch();
    const double full = load.pass_ns();
    single_ = load.gpu ? full * 0.4 : full / batch_;
    step_ = load.gpu ? full * 0.6 / (batch_ - 1) : full / batch_;
    monitor_.clock = clock_;
    monitor_.ages.resize(load.cameras);
    monitor_.arrivals.resize(load.cameras);
    for (int i = 0; i < load.cameras; ++i) add_camera(i);
  }
  ~Simulation() {
    stub().release(-1);
    cameras_.clear();
    gst_object_unref(clock_);
  }

  Outcome run(int frames) {
    start();
    struct Arrival {
      GstClockTime at;
      int camera;
    };
    std::vector<Arrival> arrivals;
    std::mt19937 random(7);
    std::uniform_real_distribution<double> jitter(0, 0.4);
    for (int c = 0; c < load_.cameras; ++c) {
      for (int f = 1; f <= frames; ++f) {
        const double at = f + double(c) / load_.cameras + jitter(random);
        arrivals.push_back({GstClockTime(at * double(kFrameTime)), c});
      }
    }
    std::sort(arrivals.begin(), arrivals.end(),
              [](const Arrival& a, const Arrival& b) { return a.at < b.at; });
    for (const Arrival& arrival : arrivals) {
      serve_until(arrival.at);
      push(*cameras_[arrival.camera], arrival.at);
    }
    serve_until(GST_CLOCK_TIME_NONE);
    return outcome();
  }

 private:
  void add_camera(int index) {
    auto camera = std::make_unique<Camera>();
    camera->monitor = &monitor_;
    camera->index = index;
    camera->infer = std::make_unique<Infer>(
        "model=stub:block=1,queued-us=0 process-res=14 max-batch=" + std::to_string(batch_) +
            " max-latency=" + std::to_string(load_.max_latency),
        Source::live);
    GstHarness* h = camera->infer->harness;
    g_object_set_data(G_OBJECT(h->sinkpad), "camera", camera.get());
    gst_pad_set_chain_function(h->sinkpad, record_age);
    gst_element_set_clock(camera->infer->element, clock_);
    camera->infer->caps(14, 14);
    cameras_.push_back(std::move(camera));
  }

  void push(Camera& camera, GstClockTime at) {
    const int frame = camera.pushed++;
    {
      const std::lock_guard lock(monitor_.mutex);
      monitor_.arrivals[camera.index][guint64(frame)] = at;
    }
    set_time(at);
    fail_unless_equals_int(camera.infer->push(numbered_frame(14, 14, frame)), GST_FLOW_OK);
  }

  // The first frame of each passes the warm-up.
  void start() {
    for (const auto& camera : cameras_) push(*camera, 0);
    stub().wait_submitted(load_.cameras);
    stub().release(load_.cameras);
    monitor_.wait(load_.cameras);
    stub().wait_finished(load_.cameras);
    done_ = load_.cameras;
    for (auto& ages : monitor_.ages) ages.clear();
  }

  void set_time(GstClockTime time) {
    if (time > gst_clock_get_time(clock_)) gst_test_clock_set_time(GST_TEST_CLOCK(clock_), time);
  }

  void serve_until(GstClockTime until) {
    while (true) {
      const Da3StubCounters counters = stub_counters();
      const int waiting = counters.submitted - counters.finished;
      if (running_ == 0 && waiting > 0) {
        running_ = std::min(waiting, batch_);
        free_at_ = gst_clock_get_time(clock_) + GstClockTime(single_ + step_ * (running_ - 1));
      }
      if (running_ == 0 || free_at_ > until) return;
      set_time(free_at_);
      stub().release(running_);
      done_ += running_;
      monitor_.wait(done_);
      stub().wait_finished(done_);
      running_ = 0;
    }
  }

  Outcome outcome() {
    Outcome out;
    out.batch = batch_;
    out.service = GstClockTime(single_ + step_ * (batch_ - 1));
    for (const auto& ages : monitor_.ages) {
      for (size_t i = 0; i < ages.size(); ++i) {
        out.ages.push_back(ages[i]);
        out.halves[i < ages.size() / 2 ? 0 : 1].push_back(ages[i]);
      }
    }
    for (auto* ages : {&out.ages, &out.halves[0], &out.halves[1]}) std::sort(ages->begin(), ages->end());
    for (const auto& camera : cameras_) {
      camera->infer->assert_accounts();
      out.dropped.push_back(camera->infer->stat("frames-dropped"));
    }
    return out;
  }

  const Load load_;
  GstClock* clock_;
  Monitor monitor_;
  std::vector<std::unique_ptr<Camera>> cameras_;
  int batch_ = 1, running_ = 0, done_ = 0;
  double single_ = 0, step_ = 0;
  GstClockTime free_at_ = 0;
};

GstClockTime p95(const std::vector<GstClockTime>& ages) {
  return ages[ages.size() * 95 / 100];
}

std::string describe(const Load& load, const Outcome& outcome) {
  guint64 dropped = 0;
  for (const guint64 d : outcome.dropped) dropped += d;
  return std::to_string(load.cameras) + " cameras at " + std::to_string(load.load) +
         (load.gpu ? " gpu" : " cpu") + ": p95 " + std::to_string(p95(outcome.ages) / GST_MSECOND) +
         " ms, worst " + std::to_string(outcome.ages.back() / GST_MSECOND) + " ms, " +
         std::to_string(outcome.ages.size()) + " inferred, " + std::to_string(dropped) + " dropped, a pass " +
         std::to_string(outcome.service / GST_MSECOND) + " ms";
}

}  // namespace

GST_START_TEST(half_the_load_loses_nothing) {
  for (const bool gpu : {false, true}) {
    for (const int cameras : {1, 4, 16}) {
      const Load load{cameras, 0.5, gpu};
      const Outcome outcome = Simulation(load).run(100);
      GST_INFO("%s", describe(load, outcome).c_str());
      for (const guint64 dropped : outcome.dropped) fail_unless_equals_uint64(dropped, 0);
      fail_unless(p95(outcome.ages) <= 100 * GST_MSECOND, "%s", describe(load, outcome).c_str());
    }
  }
}
GST_END_TEST

GST_START_TEST(near_the_limit_ages_keep_to_the_budget) {
  for (const bool gpu : {false, true}) {
    for (const int cameras : {1, 4, 16}) {
      Load load{cameras, 0.9, gpu};
      // A frame may find a pass that has just begun, and then waits for its own.
      load.max_latency = GstClockTime(std::max(2.5 * load.pass_ns(), 150.0 * GST_MSECOND));
      const Outcome outcome = Simulation(load).run(150);
      const std::string text = describe(load, outcome);
      GST_INFO("%s", text.c_str());
      fail_unless(p95(outcome.ages) <= load.max_latency, "%s", text.c_str());
      guint64 dropped = 0;
      for (const guint64 d : outcome.dropped) dropped += d;
      fail_unless(dropped * 50 <= guint64(150 * cameras), "more than 2 %% lost: %s", text.c_str());
    }
  }
}
GST_END_TEST

GST_START_TEST(overload_stays_young_and_fair) {
  for (const bool gpu : {false, true}) {
    for (const int cameras : {1, 4, 16}) {
      Load load{cameras, 5, gpu};
      load.max_latency = GstClockTime(std::max(2.5 * load.pass_ns(), 200.0 * GST_MSECOND));
      const Outcome outcome = Simulation(load).run(150);
      const std::string text = describe(load, outcome);
      GST_INFO("%s", text.c_str());
      const auto [least, most] = std::minmax_element(outcome.dropped.begin(), outcome.dropped.end());
      fail_unless(*least > 0 && double(*most) <= 1.2 * double(*least), "%s", text.c_str());
      // One runs, one waits in the engine, one in the line: of each camera.
      const GstClockTime round =
          outcome.service * GstClockTime((cameras + outcome.batch - 1) / outcome.batch);
      fail_unless(outcome.ages.back() <= 3 * round + outcome.service, "%s", text.c_str());
      const GstClockTime before = p95(outcome.halves[0]), after = p95(outcome.halves[1]);
      fail_unless(after <= std::max(before + kFrameTime, load.max_latency), "ages grow: %s", text.c_str());
      // The engine is never idle: a fifth of the frames is inferred.
      fail_unless(outcome.ages.size() * 5 >= size_t(150 * cameras), "%s", text.c_str());
    }
  }
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

static Suite* da3infer_live_suite() {
  Suite* suite = suite_create("da3infer-live");
  TCase* drops = tcase_create("drops");
  tcase_add_test(drops, the_newest_wins_behind_a_live_source);
  tcase_add_test(drops, the_newest_goes_if_asked_to);
  tcase_add_test(drops, upstream_waits_if_asked_to);
  tcase_add_test(drops, a_file_is_never_dropped_from);
  tcase_add_test(drops, a_file_is_dropped_from_if_asked_to);
  tcase_add_test(drops, a_new_stream_may_be_live_where_the_old_one_was_not);
  tcase_add_test(drops, groups_of_views_go_as_a_whole);
  tcase_add_test(drops, gap_frames_and_events_keep_their_place_among_skipped_ones);
  tcase_add_test(drops, skipped_frames_without_timestamps_leave_a_discont);
  tcase_add_test(drops, a_flush_takes_the_line_with_it);
  tcase_add_test(drops, skipped_frames_can_pass_without_depth);
  tcase_add_test(drops, skipped_frames_can_have_the_last_depth_marked_stale);
  tcase_add_test(drops, depth_of_another_size_is_not_used_again);
  tcase_add_test(drops, without_an_earlier_depth_there_is_none_to_use_again);
  tcase_add_test(drops, a_blocked_downstream_does_not_make_the_list_grow);
  tcase_add_test(drops, a_sink_that_holds_frames_back_does_not_slow_the_engine_down);
  suite_add_tcase(suite, drops);

  TCase* quality = tcase_create("quality");
  tcase_add_test(quality, what_downstream_gave_up_is_not_inferred);
  tcase_add_test(quality, quality_messages_say_what_was_lost);
  tcase_add_test(quality, quality_is_forgotten_with_the_segment_the_flush_and_the_latency);
  tcase_add_test(quality, frames_without_timestamps_are_not_judged);
  tcase_add_test(quality, quality_events_go_on_upstream);
  tcase_add_test(quality, never_means_never_for_quality_too);
  suite_add_tcase(suite, quality);

  TCase* ages = tcase_create("ages");
  tcase_add_test(ages, a_frame_that_waited_too_long_is_not_submitted);
  tcase_add_test(ages, a_frame_just_young_enough_is);
  tcase_add_test(ages, what_expires_in_the_engine_is_a_late_frame_and_no_error);
  tcase_add_test(ages, what_expires_in_the_engine_can_pass);
  tcase_add_test(ages, deadlines_reach_the_engine);
  tcase_add_test(ages, the_engine_knows_the_stream_while_it_lives);
  tcase_add_test(ages, a_new_clock_makes_no_old_frames);
  suite_add_tcase(suite, ages);

  TCase* latency = tcase_create("latency");
  tcase_add_test(latency, an_unchanging_service_time_posts_one_latency_message);
  tcase_add_test(latency, latency_is_no_more_than_what_the_user_allows);
  tcase_add_test(latency, a_warm_up_tells_the_latency_before_the_first_frame);
  tcase_add_test(latency, a_warm_up_that_fails_is_no_error);
  tcase_add_test(latency, stopping_does_not_wait_for_a_warm_up);
  tcase_add_test(latency, during_a_warm_up_the_newest_wins);
  tcase_add_test(latency, who_waited_for_a_warm_up_is_not_late);
  suite_add_tcase(suite, latency);

  TCase* load = tcase_create("load");
  tcase_set_timeout(load, 60);
  tcase_add_test(load, half_the_load_loses_nothing);
  tcase_add_test(load, near_the_limit_ages_keep_to_the_budget);
  tcase_add_test(load, overload_stays_young_and_fair);
  suite_add_tcase(suite, load);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_live_suite(), "da3infer_live", __FILE__);
}
