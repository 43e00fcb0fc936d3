// SPDX-License-Identifier: MIT
//
// da3infer and its model: the time that it is given, progress of loading and of measuring, and what the
// engine is told.
#include "infer_live.h"
#include "infer_model.h"

using namespace da3::testing;

// ---- ages, by default three forward passes
// ----------------------------------------------------------------------------------------------------

namespace {

// The time that the engine is given for frame `number`, and whether it may give up when that is over.
struct Given {
  double seconds;
  bool may_expire;
};

Given push_and_see(Infer& infer, int number) {
  const gint64 before = g_get_monotonic_time() * 1000;
  infer.push_numbered(56, 28, number, 1);
  gst_buffer_unref(infer.pull());
  const Da3StubCounters counters = stub_counters();
  return {double(counters.last_deadline_ns - before) / 1e9,
          (counters.last_flags & DA3_REQUEST_DROP_EXPIRED) != 0};
}

}  // namespace

GST_START_TEST(a_slower_model_is_given_its_time) {
  Infer infer("model=stub:name=one,single-us=1000 process-res=28", Source::live);
  gst_harness_use_testclock(infer.harness);
  ActiveModel active(infer);
  infer.caps(56, 28);
  for (int i = 0; i < 20; ++i) {
    const Given given = push_and_see(infer, i);
    fail_unless(given.may_expire && given.seconds < 1, "%g s", given.seconds);
  }
  // Two seconds a pass, as was measured before it took over.
  set_model(infer, "stub:name=two,single-us=2000000");
  active.wait("two");
  const Given given = push_and_see(infer, 20);
  fail_unless(given.may_expire && given.seconds > 5.5 && given.seconds < 7, "%g s", given.seconds);
}
GST_END_TEST

GST_START_TEST(a_model_of_unknown_speed_computes_its_first_frame) {
  Infer infer("model=stub:name=one process-res=28", Source::live);
  gst_harness_use_testclock(infer.harness);
  ActiveModel active(infer);
  infer.caps(56, 28);
  fail_if(push_and_see(infer, 0).may_expire);
  for (int i = 1; i < 20; ++i) fail_unless(push_and_see(infer, i).may_expire);
  set_model(infer, "stub:name=two,inference-us=2000000");
  active.wait("two");
  fail_if(push_and_see(infer, 20).may_expire);
  const Given given = push_and_see(infer, 21);
  fail_unless(given.may_expire && given.seconds > 5.5 && given.seconds < 7, "%g s", given.seconds);
}
GST_END_TEST

GST_START_TEST(frames_of_another_size_have_a_time_of_their_own) {
  Infer infer("model=stub: process-res=28", Source::live);
  gst_harness_use_testclock(infer.harness);
  infer.caps(56, 28);
  for (int i = 0; i < 3; ++i) push_and_see(infer, i);
  g_object_set(infer.element, "process-res", 42, nullptr);
  fail_if(push_and_see(infer, 3).may_expire, "by the time of smaller ones");
  fail_unless(push_and_see(infer, 4).may_expire);
  g_object_set(infer.element, "max-latency", guint64(GST_SECOND), "process-res", 56, nullptr);
  fail_unless(push_and_see(infer, 5).may_expire, "what the user says holds from the first frame on");
}
GST_END_TEST

GST_START_TEST(what_expires_shows_that_passes_take_longer) {
  const std::string settings = "model=stub:single-us=2000000 process-res=28 on-drop=pass";
  Infer infer(settings, Source::live);
  gst_harness_use_testclock(infer.harness);
  infer.caps(56, 28);
  // Another model is loaded all the time, so that nothing is measured: only its own passes of 1 ms are known.
  set_model(infer, "stub:open-block=1");
  stub().wait_opening(1);
  push_and_see(infer, 0);
  Given given = push_and_see(infer, 1);
  fail_unless(given.may_expire && given.seconds < 1, "%g s", given.seconds);
  {
    Infer other(settings, Source::live);  // has the same engine measured
    other.caps(56, 28);
    push_and_see(other, 0);
  }
  given = push_and_see(infer, 2);
  fail_unless(given.may_expire && given.seconds < 1, "%g s", given.seconds);
  stub().expire(1);
  infer.push_numbered(56, 28, 3, 1);
  GstBuffer* expired = infer.pull();
  fail_if(has_tensor(expired, GST_DA3_TENSOR_DEPTH));
  gst_buffer_unref(expired);
  given = push_and_see(infer, 4);
  fail_unless(given.may_expire && given.seconds > 5.5 && given.seconds < 7, "%g s", given.seconds);
}
GST_END_TEST

// ---- progress and what the engine is told
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(loading_is_told_step_by_step) {
  Infer infer("model=stub:name=one process-res=28");
  Messages messages(infer);
  const std::string text = messages.progress();
  fail_unless(text ==
                  "load start Loading stub:name=one; load continue 0 %; load continue 25 %; "
                  "load continue 50 %; load complete Loaded stub:name=one",
              "%s", text.c_str());
}
GST_END_TEST

GST_START_TEST(a_failed_load_ends_its_progress) {
  GstElement* element = make_infer("model=stub:missing");
  Bus bus(element);
  fail_unless_equals_int(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_FAILURE);
  GstBus* raw = gst_element_get_bus(element);
  GstProgressType last = GST_PROGRESS_TYPE_START;
  while (GstMessage* message = gst_bus_pop_filtered(raw, GST_MESSAGE_PROGRESS)) {
    gst_message_parse_progress(message, &last, nullptr, nullptr);
    gst_message_unref(message);
  }
  fail_unless_equals_int(last, GST_PROGRESS_TYPE_ERROR);
  gst_object_unref(raw);
  gst_object_unref(element);
}
GST_END_TEST

GST_START_TEST(a_warm_up_is_told_and_so_is_its_end) {
  for (const char* model : {"model=stub:", "model=stub:warm-fail=1"}) {
    Infer infer(std::string(model) + " process-res=28", Source::live);
    Messages messages(infer);
    messages.progress();
    infer.caps(56, 28);
    infer.push_numbered(56, 28, 0, 1);
    const bool works = std::string(model) == "model=stub:";
    const std::string text = messages.wait_progress(works ? "warm-up complete" : "warm-up error");
    fail_unless(text.find("warm-up start Measuring 28x14") == 0, "%s", text.c_str());
    gst_buffer_unref(infer.pull());
  }
}
GST_END_TEST

GST_START_TEST(a_new_model_is_measured_before_it_takes_over) {
  Infer infer("model=stub:name=one process-res=28", Source::live);
  ActiveModel active(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  gst_buffer_unref(infer.pull());
  set_model(infer, "stub:name=two");
  active.wait("two");
  fail_unless_equals_int(stub_counters().warm_ups, 2);
  infer.push_numbered(56, 28, 1, 1);
  fail_unless_equals_string(model_of(infer.pull()).c_str(), "two");
  fail_unless_equals_int(stub_counters().warm_ups, 2);
}
GST_END_TEST

GST_START_TEST(memory_and_cache_reach_the_engine) {
  {
    Infer infer("model=stub: memory-fraction=0.5 cache-ttl=1500000000 cache-memory-limit=5000000000");
    const Da3StubCounters counters = stub_counters();
    assert_near(counters.last_memory_fraction, 0.5);
    fail_unless_equals_int(counters.last_cache_ttl_ms, 1500);
    fail_unless_equals_uint64(counters.last_cache_memory_limit, G_GUINT64_CONSTANT(5000000000));
  }
  Infer infer("model=stub:");
  assert_near(stub_counters().last_memory_fraction, 0.85);
  fail_unless_equals_int(stub_counters().last_cache_ttl_ms, 0);
  fail_unless_equals_uint64(stub_counters().last_cache_memory_limit, 0);
}
GST_END_TEST

GST_START_TEST(what_the_engine_mended_is_a_warning_and_loses_nothing) {
  Infer infer("model=stub:block=1,halve-at=2 process-res=28");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 4);
  stub().wait_submitted(4);
  stub().release(-1);
  for (int i = 0; i < 4; ++i) gst_buffer_unref(infer.pull());
  const BusError warning = infer.bus.wait(GST_MESSAGE_WARNING);
  fail_unless(warning.found && warning.domain == GST_RESOURCE_ERROR &&
              warning.code == GST_RESOURCE_ERROR_NO_SPACE_LEFT);
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(what_was_mended_before_a_stop_is_not_said_after_it) {
  Infer infer("model=stub:block=1,halve-at=2 process-res=28");
  infer.caps(56, 28);
  Door door;  // reached when downstream stands still
  GstPad* source = gst_element_get_static_pad(infer.element, "src");
  const GstPadProbeCallback block = [](GstPad*, GstPadProbeInfo*, gpointer user) {
    auto* reached = static_cast<Door*>(user);
    reached->open();
    reached->pass();
    return GST_PAD_PROBE_OK;
  };
  const gulong probe = gst_pad_add_probe(
      source, GstPadProbeType(GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER), block, &door, nullptr);
  infer.push_numbered(56, 28, 0, 1);
  stub().wait_submitted(1);
  stub().release(1);
  door.wait_reached();
  infer.push_numbered(56, 28, 1, 2);
  stub().wait_submitted(3);
  stub().release(-1);
  stub().wait_finished(3);
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  infer.restarted = true;
  infer.bus.pop(GST_MESSAGE_WARNING);  // the task may just have said it
  gst_pad_remove_probe(source, probe);
  gst_object_unref(source);
  gst_element_set_state(infer.element, GST_STATE_PLAYING);
  infer.event(gst_event_new_stream_start("again"));
  infer.event(gst_event_new_caps(gst_caps_from_string(rgb_caps(56, 28).c_str())));
  restart_segment(infer);
  infer.push_numbered(56, 28, 3, 1);
  gst_buffer_unref(infer.pull());
  fail_if(infer.bus.pop(GST_MESSAGE_WARNING).found, "of another life");
}
GST_END_TEST

static Suite* da3infer_model_suite() {
  Suite* suite = suite_create("da3infer-model");
  TCase* ages = tcase_create("ages");
  tcase_add_test(ages, a_slower_model_is_given_its_time);
  tcase_add_test(ages, a_model_of_unknown_speed_computes_its_first_frame);
  tcase_add_test(ages, frames_of_another_size_have_a_time_of_their_own);
  tcase_add_test(ages, what_expires_shows_that_passes_take_longer);
  suite_add_tcase(suite, ages);

  TCase* progress = tcase_create("progress");
  tcase_add_test(progress, loading_is_told_step_by_step);
  tcase_add_test(progress, a_failed_load_ends_its_progress);
  tcase_add_test(progress, a_warm_up_is_told_and_so_is_its_end);
  tcase_add_test(progress, a_new_model_is_measured_before_it_takes_over);
  tcase_add_test(progress, memory_and_cache_reach_the_engine);
  tcase_add_test(progress, what_the_engine_mended_is_a_warning_and_loses_nothing);
  tcase_add_test(progress, what_was_mended_before_a_stop_is_not_said_after_it);
  suite_add_tcase(suite, progress);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_model_suite(), "da3infer_model", __FILE__);
}
