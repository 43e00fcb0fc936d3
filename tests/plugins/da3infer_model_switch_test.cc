// SPDX-License-Identifier: MIT
//
// da3infer and another model while playing: which frame goes to which one, what is loaded, called off and
// closed, and what a model that cannot be had leaves as it was.
#include <thread>

#include "infer_live.h"
#include "infer_model.h"

using namespace da3::testing;

GST_START_TEST(another_model_takes_over_between_two_frames) {
  StubHooks hooks;
  Infer infer("model=stub:name=one,block=1 process-res=28 max-batch=4");
  ActiveModel active(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 3);
  set_model(infer, "stub:name=two");
  active.wait("two");
  infer.push_numbered(56, 28, 3, 3);
  // The frames of the old model are still with it, and come first.
  stub().release(-1);
  for (int i = 0; i < 6; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), i);
    assert_depth_of(buffer, colour_of(i));
    fail_unless_equals_string(model_of(buffer).c_str(), i < 3 ? "one" : "two");
  }
  infer.push_numbered(56, 28, 6, 2);
  for (int i = 0; i < 2; ++i) gst_buffer_unref(infer.pull());
  hooks.wait_closed(1);
  fail_unless_equals_int(stub_counters().engines_alive, 1);  // the old one has gone with its last frame
  fail_unless_equals_uint64(infer.stat("model-changes"), 1);
  fail_unless_equals_uint64(infer.stat("frames-dropped"), 0);
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(frames_flow_while_another_model_loads) {
  Infer infer("model=stub:name=one process-res=28");
  ActiveModel active(infer);
  infer.caps(56, 28);
  set_model(infer, "stub:name=two,open-block=1");
  stub().wait_opening(1);
  for (int i = 0; i < 20; ++i) {
    infer.push_numbered(56, 28, i, 1);
    fail_unless_equals_string(model_of(infer.pull()).c_str(), "one");
  }
  stub().release_opens(-1);
  active.wait("two");
  infer.push_numbered(56, 28, 20, 1);
  fail_unless_equals_string(model_of(infer.pull()).c_str(), "two");
}
GST_END_TEST

GST_START_TEST(an_open_group_goes_to_the_new_model) {
  Infer infer("model=stub:name=one process-res=28 views=3");
  ActiveModel active(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  set_model(infer, "stub:name=two");
  active.wait("two");
  infer.push_numbered(56, 28, 2, 1);
  for (int i = 0; i < 3; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_int(view_of(buffer).views, 3);
    fail_unless_equals_string(model_of(buffer).c_str(), "two");
  }
}
GST_END_TEST

GST_START_TEST(a_bad_model_leaves_the_old_one_working) {
  const char* bad[] = {"stub:missing",   "stub:unreadable", "stub:wrong-type",
                       "stub:no-memory", "stub:failed",     "",
                       "no/such-model"};
  Infer infer("model=stub:name=one process-res=28");
  infer.caps(56, 28);
  int frame = 0;
  for (const char* model : bad) {
    set_model(infer, model);
    const BusError warning = infer.bus.wait(GST_MESSAGE_WARNING);
    fail_unless(warning.found && warning.domain == GST_RESOURCE_ERROR);
    fail_unless(warning.text.find("stub:name=one goes on") != std::string::npos, "%s", warning.text.c_str());
    fail_unless(warning.text.find(model) != std::string::npos, "%s", warning.text.c_str());
    infer.push_numbered(56, 28, frame++, 1);
    fail_unless_equals_string(model_of(infer.pull()).c_str(), "one");
    fail_unless_equals_string(text_property(infer, "model").c_str(), "stub:name=one");
  }
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(a_model_without_rays_is_refused_where_rays_are_asked_for) {
  Infer infer("model=stub:name=one,outputs=depth+pose+ray process-res=28 use-ray-pose=true");
  infer.caps(56, 28);
  set_model(infer, "stub:name=two,outputs=depth");
  const BusError warning = infer.bus.wait(GST_MESSAGE_WARNING);
  fail_unless(warning.found && warning.text.find("use-ray-pose") != std::string::npos);
  infer.push_numbered(56, 28, 0, 1);
  fail_unless_equals_string(model_of(infer.pull()).c_str(), "one");
  fail_unless_equals_int(stub_counters().engines_alive, 1);
}
GST_END_TEST

GST_START_TEST(the_last_of_several_wishes_counts) {
  Infer infer("model=stub:name=one process-res=28");
  ActiveModel active(infer);
  infer.caps(56, 28);
  set_model(infer, "stub:name=two,open-block=1");
  stub().wait_opening(1);
  set_model(infer, "stub:missing");
  set_model(infer, "stub:name=three");
  active.wait("three");  // nobody waits for the load of two to end
  infer.push_numbered(56, 28, 0, 1);
  fail_unless_equals_string(model_of(infer.pull()).c_str(), "three");
  fail_if(infer.bus.pop(GST_MESSAGE_WARNING).found, "a wish that was taken back");
  fail_unless_equals_int(stub_counters().engines_alive, 1);
}
GST_END_TEST

GST_START_TEST(a_wish_can_be_taken_back) {
  Infer infer("model=stub:name=one process-res=28");
  infer.caps(56, 28);
  set_model(infer, "stub:name=two,open-block=1");
  stub().wait_opening(1);
  Messages messages(infer);
  messages.progress();
  set_model(infer, "stub:name=one");
  messages.wait_progress("load canceled stub:name=two");
  messages.wait_progress("load complete Loaded stub:name=one");
  fail_unless_equals_int(messages.complaints(), 0);  // what is called off is no failure
  for (int i = 0; i < 5; ++i) {
    infer.push_numbered(56, 28, i, 1);
    fail_unless_equals_string(model_of(infer.pull()).c_str(), "one");
  }
}
GST_END_TEST

GST_START_TEST(the_same_model_is_not_loaded_again) {
  Infer infer("model=stub:name=one process-res=28");
  Messages messages(infer);
  messages.progress();
  set_model(infer, "stub:name=one");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  fail_unless_equals_string(model_of(infer.pull()).c_str(), "one");
  fail_unless_equals_string(messages.progress().c_str(), "");
  fail_unless_equals_int(stub_counters().opened, 1);
}
GST_END_TEST

GST_START_TEST(stopping_while_another_model_loads) {
  Infer infer("model=stub:name=one process-res=28");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  gst_buffer_unref(infer.pull());
  set_model(infer, "stub:name=two,open-block=1");
  stub().wait_opening(1);
  Messages messages(infer);
  messages.progress();
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  messages.wait_progress("load canceled stub:name=two");
  fail_unless_equals_int(messages.complaints(), 0);  // what is called off is no failure
  stub().release_opens(-1);
  // What was wished for is there at the next start.
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_PAUSED), GST_STATE_CHANGE_SUCCESS);
  fail_unless_equals_string(text_property(infer, "active-model").c_str(), "two");
  fail_unless_equals_int(stub_counters().engines_alive, 1);
  infer.restarted = true;
}
GST_END_TEST

GST_START_TEST(a_model_is_not_measured_on_when_another_one_is_wanted) {
  Infer infer("model=stub:name=one process-res=28", Source::live);
  ActiveModel active(infer);
  Messages messages(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  gst_buffer_unref(infer.pull());
  messages.progress();
  set_model(infer, "stub:name=two,warm-block=1");
  messages.wait_progress("warm-up start");
  set_model(infer, "stub:name=three");
  active.wait("three");
  fail_unless(messages.progress().find("warm-up canceled") != std::string::npos);
  fail_unless_equals_int(messages.complaints(), 0);  // what is called off is no failure
}
GST_END_TEST

GST_START_TEST(frames_flow_before_anything_is_measured_while_another_model_loads) {
  Infer infer("model=stub:name=one process-res=28", Source::live);
  ActiveModel active(infer);
  infer.caps(56, 28);
  set_model(infer, "stub:name=two,open-block=1");
  stub().wait_opening(1);
  for (int i = 0; i < 5; ++i) {
    infer.push_numbered(56, 28, i, 1);
    fail_unless_equals_string(model_of(infer.pull()).c_str(), "one");
  }
  fail_unless_equals_uint64(infer.stat("frames-dropped"), 0);
  fail_unless_equals_int(stub_counters().warm_ups, 0);
  stub().release_opens(-1);
  active.wait("two");
  fail_unless_equals_int(stub_counters().warm_ups, 1);  // of the new one, by frames that came meanwhile
  infer.push_numbered(56, 28, 5, 1);
  fail_unless_equals_string(model_of(infer.pull()).c_str(), "two");
}
GST_END_TEST

GST_START_TEST(a_replaced_model_is_closed_without_another_frame) {
  StubHooks hooks;
  Infer infer("model=stub:name=one process-res=28");
  ActiveModel active(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 3);
  for (int i = 0; i < 3; ++i) gst_buffer_unref(infer.pull());
  set_model(infer, "stub:name=two");
  active.wait("two");
  fail_unless_equals_int(stub_counters().engines_alive, 1);
  // With its last frame, although that stays in downstream's hands.
  stub().reset();
  set_model(infer, "stub:name=three,block=1");
  active.wait("three");
  infer.push_numbered(56, 28, 3, 1);
  stub().wait_submitted(1);
  set_model(infer, "stub:name=four");
  active.wait("four");
  fail_unless_equals_int(stub_counters().engines_alive, 2);
  stub().release(-1);
  GstBuffer* last = infer.pull();
  hooks.wait_closed(3);
  fail_unless_equals_int(stub_counters().engines_alive, 1);
  assert_depth_of(last, colour_of(3));
  gst_buffer_unref(last);
}
GST_END_TEST

GST_START_TEST(closing_the_old_model_holds_up_no_frame) {
  Door door;
  StubHooks hooks({}, [&] { door.pass(); });
  Infer infer("model=stub:name=one,block=1 process-res=28");
  ActiveModel active(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  stub().wait_submitted(1);
  set_model(infer, "stub:name=two");
  active.wait("two");
  stub().release(-1);
  fail_unless_equals_string(model_of(infer.pull()).c_str(), "one");
  door.wait_reached();  // it is being closed, and will be until the door opens
  infer.push_numbered(56, 28, 1, 2);
  for (int i = 0; i < 2; ++i) fail_unless_equals_string(model_of(infer.pull()).c_str(), "two");
  fail_unless_equals_int(stub_counters().engines_alive, 2);
  door.open();
  hooks.wait_closed(1);
  fail_unless_equals_int(stub_counters().engines_alive, 1);
}
GST_END_TEST

namespace {

// The next frame is of this model and this size.
void expect_next(Infer& infer, int number, const char* model, guint views, gsize width) {
  GstBuffer* buffer = infer.pull();
  fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), guint64(number));
  std::vector<gsize> dims;
  tensor_of(buffer, GST_DA3_TENSOR_DEPTH, &dims);
  fail_unless_equals_uint64(dims.at(2), width);
  fail_unless_equals_int(view_of(buffer).views, int(views));
  fail_unless_equals_string(model_of(buffer).c_str(), model);
}

}  // namespace

GST_START_TEST(what_waits_at_the_size_of_the_old_model_goes_to_it) {
  Infer infer("model=stub:name=one,block=1,process-res=28 max-batch=1", Source::live);
  ActiveModel active(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  stub().wait_submitted(1);
  infer.push_numbered(56, 28, 1, 2);  // 2 waits in the line
  set_model(infer, "stub:name=two,process-res=56");
  active.wait("two");
  stub().release(-1);
  for (int i = 0; i < 3; ++i) expect_next(infer, i, "one", 1, 28);
  infer.push_numbered(56, 28, 3, 1);
  expect_next(infer, 3, "two", 1, 56);
}
GST_END_TEST

GST_START_TEST(an_open_group_of_another_size_goes_to_the_old_model) {
  StubHooks hooks;
  Infer infer("model=stub:name=one,process-res=28 views=2");
  ActiveModel active(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  set_model(infer, "stub:name=two,process-res=56");
  active.wait("two");
  infer.push_numbered(56, 28, 1, 2);
  expect_next(infer, 0, "one", 1, 28);
  for (int i = 1; i < 3; ++i) expect_next(infer, i, "two", 2, 56);
  hooks.wait_closed(1);
  fail_unless_equals_int(stub_counters().engines_alive, 1);
}
GST_END_TEST

GST_START_TEST(an_open_group_of_the_same_size_goes_to_the_new_model) {
  Infer infer("model=stub:name=one,process-res=28 views=2");
  ActiveModel active(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  set_model(infer, "stub:name=two,process-res=28");
  active.wait("two");
  infer.push_numbered(56, 28, 1, 1);
  for (int i = 0; i < 2; ++i) expect_next(infer, i, "two", 2, 28);
}
GST_END_TEST

GST_START_TEST(depth_of_another_model_is_not_used_again) {
  Infer infer("model=stub:name=one process-res=28 on-drop=reuse", Source::live);
  ActiveModel active(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  gst_buffer_unref(infer.pull());
  send_qos(infer, 60 * GST_MSECOND, 0);  // 1 to 3 are too late
  infer.push_numbered(56, 28, 1, 1);
  fail_unless_equals_string(model_of(infer.pull()).c_str(), "one");
  set_model(infer, "stub:name=two");
  active.wait("two");
  infer.push_numbered(56, 28, 2, 1);
  GstBuffer* buffer = infer.pull();
  fail_if(has_tensor(buffer, GST_DA3_TENSOR_DEPTH));
  gst_buffer_unref(buffer);
  fail_unless_equals_uint64(infer.stat("frames-reused"), 1);
  fail_unless_equals_uint64(infer.stat("frames-passed"), 1);
  // Its own is.
  infer.push_numbered(56, 28, 4, 1);
  gst_buffer_unref(infer.pull());
  send_qos(infer, 60 * GST_MSECOND, 4 * kFrameTime);
  infer.push_numbered(56, 28, 5, 1);
  fail_unless_equals_string(model_of(infer.pull()).c_str(), "two");
  fail_unless_equals_uint64(infer.stat("frames-reused"), 2);
}
GST_END_TEST

GST_START_TEST(the_model_in_use_is_the_one_written_last) {
  Infer infer("model=stub:name=m0 process-res=28");
  ActiveModel active(infer);
  infer.caps(56, 28);
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t) {
    writers.emplace_back([&infer, t] {
      for (int i = 0; i < 50; ++i) {
        set_model(infer, ("stub:name=m" + std::to_string((3 * t + 5 * i) % 7)).c_str());
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  const std::string model = text_property(infer, "model");
  // Whatever is still to be loaded is this one; a wish after it shows that nothing else came behind.
  active.wait(model.substr(model.find("=") + 1).c_str());
  set_model(infer, "stub:name=last");
  active.wait("last");
  fail_unless_equals_string(text_property(infer, "model").c_str(), "stub:name=last");
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(flush_while_two_models_are_at_work) {
  Infer infer("model=stub:name=one,block=1 process-res=28 max-batch=4");
  ActiveModel active(infer);
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  set_model(infer, "stub:name=two,block=1");
  active.wait("two");
  infer.push_numbered(56, 28, 2, 2);
  infer.event(gst_event_new_flush_start());
  fail_unless_equals_int(stub_counters().cancelled, 4);
  infer.event(gst_event_new_flush_stop(TRUE));
  fail_unless_equals_uint64(infer.drops("flush"), 4);
}
GST_END_TEST

GST_START_TEST(a_hundred_models_in_a_row) {
  Infer infer("model=stub:name=m0 process-res=28");
  ActiveModel active(infer);
  infer.caps(56, 28);
  for (int i = 1; i <= 100; ++i) {
    const std::string name = "m" + std::to_string(i % 7);
    set_model(infer, ("stub:name=" + name).c_str());
    infer.push_numbered(56, 28, i, 1);
    active.wait(name.c_str());
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), i);
    gst_buffer_unref(buffer);
  }
  infer.bus.expect_no_error();
}
GST_END_TEST

static Suite* da3infer_model_switch_suite() {
  Suite* suite = suite_create("da3infer-model-switch");
  TCase* changes = tcase_create("changes");
  tcase_add_test(changes, another_model_takes_over_between_two_frames);
  tcase_add_test(changes, frames_flow_while_another_model_loads);
  tcase_add_test(changes, an_open_group_goes_to_the_new_model);
  tcase_add_test(changes, a_bad_model_leaves_the_old_one_working);
  tcase_add_test(changes, a_model_without_rays_is_refused_where_rays_are_asked_for);
  tcase_add_test(changes, the_last_of_several_wishes_counts);
  tcase_add_test(changes, a_wish_can_be_taken_back);
  tcase_add_test(changes, the_same_model_is_not_loaded_again);
  tcase_add_test(changes, stopping_while_another_model_loads);
  tcase_add_test(changes, a_model_is_not_measured_on_when_another_one_is_wanted);
  tcase_add_test(changes, frames_flow_before_anything_is_measured_while_another_model_loads);
  tcase_add_test(changes, a_replaced_model_is_closed_without_another_frame);
  tcase_add_test(changes, closing_the_old_model_holds_up_no_frame);
  tcase_add_test(changes, what_waits_at_the_size_of_the_old_model_goes_to_it);
  tcase_add_test(changes, an_open_group_of_another_size_goes_to_the_old_model);
  tcase_add_test(changes, an_open_group_of_the_same_size_goes_to_the_new_model);
  tcase_add_test(changes, depth_of_another_model_is_not_used_again);
  tcase_add_test(changes, the_model_in_use_is_the_one_written_last);
  tcase_add_test(changes, flush_while_two_models_are_at_work);
  tcase_add_test(changes, a_hundred_models_in_a_row);
  suite_add_tcase(suite, changes);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_model_switch_suite(), "da3infer_model_switch", __FILE__);
}
