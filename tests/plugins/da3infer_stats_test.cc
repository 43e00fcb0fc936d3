// SPDX-License-Identifier: MIT
//
// The statistics of da3infer: the property, the messages at their interval, and what counts as copied.
#include <utility>

#include "infer_model.h"

using namespace da3::testing;

GST_START_TEST(statistics_say_what_happened) {
  Infer infer("model=stub:block=1,queued-us=2000,inference-us=5000 process-res=28 max-batch=4");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 6);
  stub().release(-1);
  for (int i = 0; i < 6; ++i) gst_buffer_unref(infer.pull());
  const Stats stats(infer);
  fail_unless_equals_uint64(Stats::number(stats.all, "frames-in"), 6);
  fail_unless_equals_uint64(Stats::number(stats.all, "frames-out"), 6);
  // 56x28 is resized to 28x14: three bytes each.
  fail_unless_equals_uint64(Stats::number(stats.all, "bytes-copied"), 6 * 3 * 28 * 14);
  // Which frames shared a pass is the engine's business; every request is in one.
  guint64 requests = 0;
  const GstStructure* batches = stats.part("batches");
  for (int i = 0; i < gst_structure_n_fields(batches); ++i) {
    requests += Stats::number(batches, gst_structure_nth_field_name(batches, guint(i)));
  }
  fail_unless_equals_uint64(requests, 6);
  const GstStructure* stages = stats.part("stages");
  for (const auto& [stage, ns] : {std::pair{"queue", 2000000}, std::pair{"inference", 5000000}}) {
    const GstStructure* s = gst_value_get_structure(gst_structure_get_value(stages, stage));
    for (const char* field : {"p50-ns", "p95-ns", "p99-ns"}) {
      gint64 value = 0;
      fail_unless(gst_structure_get_int64(s, field, &value));
      fail_unless_equals_int64(value, ns);
    }
  }
  const GstStructure* engine = stats.part("engine");
  fail_unless_equals_uint64(Stats::number(engine, "memory-weights"), 1234);
  fail_unless_equals_uint64(Stats::number(Stats::part(engine, "passes"), "size-3"), 5);
  fail_unless(!gst_structure_has_field(Stats::part(engine, "passes"), "size-1"));
  gint64 ns = 0;
  fail_unless(gst_structure_get_int64(Stats::part(engine, "service"), "p95-ns", &ns) && ns == 678);
  fail_unless(gst_structure_get_int64(Stats::part(engine, "queue-wait"), "p50-ns", &ns) && ns == 90);
  fail_unless_equals_uint64(Stats::number(engine, "submitted"), 6);
}
GST_END_TEST

GST_START_TEST(lent_frames_are_not_copied) {
  Infer infer("model=stub:");
  infer.caps(28, 14);
  GstBuffer* buffer = numbered_frame(28, 14, 0);
  mark_processed(buffer, 28, 14);
  infer.push(buffer);
  gst_buffer_unref(infer.pull());
  fail_unless_equals_uint64(infer.stat("bytes-copied"), 0);
}
GST_END_TEST

GST_START_TEST(planes_that_are_scaled_are_copied) {
  Infer infer("model=stub:focal=1,outputs=depth+sky process-res=28");
  infer.caps(56, 28);
  guint64 expected = 0;
  for (const bool known : {false, true}) {
    GstBuffer* buffer = numbered_frame(56, 28, 0);
    GstDa3View view;
    gst_da3_view_init(&view);
    view.has_intrinsics = known;
    view.fx = view.fy = 500;
    fail_unless(gst_buffer_add_da3_view(buffer, &view));
    infer.push(buffer);
    gst_buffer_unref(infer.pull());
    expected += 3 * 28 * 14 + (known ? sizeof(float) * 28 * 14 : 0);
    fail_unless_equals_uint64(infer.stat("bytes-copied"), expected);
  }
}
GST_END_TEST

GST_START_TEST(memory_that_must_not_be_shared_is_copied) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  guint64 expected = 0;
  for (const bool shareable : {true, false}) {
    GstBuffer* buffer = numbered_frame(56, 28, 0);
    GstMemory* memory = gst_buffer_peek_memory(buffer, 0);
    if (!shareable) GST_MINI_OBJECT_FLAG_SET(memory, GST_MEMORY_FLAG_NO_SHARE);
    gst_buffer_ref(buffer);  // somebody else has it, too
    infer.push(buffer);
    GstBuffer* out = infer.pull();
    fail_unless((gst_buffer_peek_memory(out, 0) == memory) == shareable);
    expected += 3 * 28 * 14 + (shareable ? 0 : 3 * 56 * 28);
    fail_unless_equals_uint64(infer.stat("bytes-copied"), expected);
    gst_buffer_unref(out);
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(statistics_without_anything) {
  GstElement* element = make_infer("");
  GstStructure* stats = nullptr;
  g_object_get(element, "stats", &stats, nullptr);
  fail_unless(gst_structure_has_name(stats, "da3infer-stats"));
  fail_if(gst_structure_has_field(stats, "engine"), "no engine is open");
  gdouble fps = -1;
  fail_unless(gst_structure_get_double(stats, "fps", &fps) && fps == 0);
  gchar* text = gst_structure_to_string(stats);
  GstStructure* back = gst_structure_from_string(text, nullptr);
  fail_unless(back != nullptr, "not to be parsed: %s", text);
  gst_structure_free(back);
  g_free(text);
  gst_structure_free(stats);
  gst_object_unref(element);
}
GST_END_TEST

GST_START_TEST(messages_with_statistics_come_at_their_interval) {
  Infer infer("model=stub: process-res=28 stats-interval=1000000000");
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  Messages messages(infer);
  infer.caps(56, 28);
  int seen = 0;
  for (int i = 0; i < 25; ++i) {
    gst_test_clock_advance_time(clock, 200 * GST_MSECOND);
    infer.push_numbered(56, 28, i, 1);
    gst_buffer_unref(infer.pull());
  }
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  while (GstMessage* message = messages.element_message()) {
    const GstStructure* s = gst_message_get_structure(message);
    fail_unless(gst_structure_has_name(s, "da3infer-stats"));
    ++seen;
    fail_unless_equals_uint64(Stats::number(s, "frames-out"), 5 * seen);
    gdouble fps = 0;
    gst_structure_get_double(s, "fps", &fps);
    assert_near(fps, 5, 1e-6);
    gst_message_unref(message);
  }
  fail_unless_equals_int(seen, 5);
  gst_object_unref(clock);
}
GST_END_TEST

GST_START_TEST(messages_with_statistics_come_without_frames) {
  Infer infer("model=stub:block=1 process-res=28 stats-interval=10000000");
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  GstBus* bus = gst_element_get_bus(infer.element);
  // Until there is one with so many frames inside, none of which comes out.
  const auto wait_inside = [&](guint frames) {
    for (guint inside = G_MAXUINT; inside != frames;) {
      gst_test_clock_advance_time(clock, GST_SECOND);
      GstMessage* message = gst_bus_timed_pop_filtered(bus, 60 * GST_SECOND, GST_MESSAGE_ELEMENT);
      fail_unless(message != nullptr, "no message");
      gst_structure_get_uint(gst_message_get_structure(message), "queue-level", &inside);
      gst_message_unref(message);
    }
  };
  wait_inside(0);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  wait_inside(2);
  fail_unless_equals_int(infer.received(), 0);
  stub().release(-1);
  for (int i = 0; i < 2; ++i) gst_buffer_unref(infer.pull());
  gst_object_unref(clock);
  gst_object_unref(bus);
}
GST_END_TEST

GST_START_TEST(the_rate_falls_when_nothing_comes) {
  Infer infer("model=stub: process-res=28");
  gst_harness_use_testclock(infer.harness);
  GstTestClock* clock = gst_harness_get_testclock(infer.harness);
  infer.caps(56, 28);
  for (int i = 0; i < 10; ++i) {
    gst_test_clock_advance_time(clock, 200 * GST_MSECOND);
    infer.push_numbered(56, 28, i, 1);
    gst_buffer_unref(infer.pull());
  }
  const auto fps = [&] {
    const Stats stats(infer);
    gdouble value = -1;
    fail_unless(gst_structure_get_double(stats.all, "fps", &value));
    return value;
  };
  assert_near(fps(), 5, 1e-6);
  gst_test_clock_advance_time(clock, 200 * GST_MSECOND);
  assert_near(fps(), 5, 1e-6);
  gst_test_clock_advance_time(clock, 100 * GST_SECOND);
  fail_unless(fps() < 0.2);
  gst_object_unref(clock);
}
GST_END_TEST

GST_START_TEST(no_messages_unasked) {
  Infer infer("model=stub: process-res=28");
  Messages messages(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 5);
  for (int i = 0; i < 5; ++i) gst_buffer_unref(infer.pull());
  fail_unless(messages.element_message() == nullptr);
}
GST_END_TEST

static Suite* da3infer_stats_suite() {
  Suite* suite = suite_create("da3infer-stats");
  TCase* statistics = tcase_create("statistics");
  tcase_add_test(statistics, statistics_say_what_happened);
  tcase_add_test(statistics, lent_frames_are_not_copied);
  tcase_add_test(statistics, planes_that_are_scaled_are_copied);
  tcase_add_test(statistics, memory_that_must_not_be_shared_is_copied);
  tcase_add_test(statistics, statistics_without_anything);
  tcase_add_test(statistics, messages_with_statistics_come_at_their_interval);
  tcase_add_test(statistics, messages_with_statistics_come_without_frames);
  tcase_add_test(statistics, the_rate_falls_when_nothing_comes);
  tcase_add_test(statistics, no_messages_unasked);
  suite_add_tcase(suite, statistics);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_stats_suite(), "da3infer_stats", __FILE__);
}
