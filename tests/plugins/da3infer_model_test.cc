// SPDX-License-Identifier: MIT
//
// da3infer and its model over time: changes while playing, progress, statistics, and what each fault of an
// engine leaves behind at each place of a batch, with one stream and with four.
#include <algorithm>
#include <condition_variable>
#include <memory>

#include "infer_live.h"

using namespace da3::testing;

namespace {

class Messages {
 public:
  explicit Messages(Infer& infer) : bus_(gst_element_get_bus(infer.element)) {}
  ~Messages() { gst_object_unref(bus_); }
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;

  // "load start; load continue 25 %; ..." of the progress messages so far.
  std::string progress() {
    std::string text;
    while (GstMessage* message = gst_bus_pop_filtered(bus_, kTypes)) take(text, message);
    return text;
  }
  // Waits for the end of a step.
  std::string wait_progress(const char* end) {
    std::string text;
    while (text.find(end) == std::string::npos) {
      GstMessage* message = gst_bus_timed_pop_filtered(bus_, 60 * GST_SECOND, kTypes);
      fail_unless(message != nullptr, "'%s' did not come, but: %s", end, text.c_str());
      take(text, message);
    }
    return text;
  }
  // Warnings and errors that came in between.
  int complaints() {
    progress();
    return complaints_;
  }
  // The next one but for the plan of a model.
  GstMessage* element_message() {
    GstMessage* message;
    while ((message = gst_bus_pop_filtered(bus_, GST_MESSAGE_ELEMENT)) &&
           gst_message_has_name(message, "da3-plan"))
      gst_message_unref(message);
    return message;
  }

 private:
  static constexpr auto kTypes =
      GstMessageType(GST_MESSAGE_PROGRESS | GST_MESSAGE_WARNING | GST_MESSAGE_ERROR);

  void take(std::string& text, GstMessage* message) {
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_PROGRESS) {
      add(text, message);
    } else {
      ++complaints_;
    }
    gst_message_unref(message);
  }
  static void add(std::string& text, GstMessage* message) {
    GstProgressType type;
    gchar *code = nullptr, *words = nullptr;
    gst_message_parse_progress(message, &type, &code, &words);
    const char* types[] = {"start", "continue", "complete", "canceled", "error"};
    text += std::string(text.empty() ? "" : "; ") + code + " " + types[type] + " " + words;
    g_free(code);
    g_free(words);
  }
  GstBus* bus_;
  int complaints_ = 0;
};

std::string text_property(Infer& infer, const char* name) {
  gchar* text = nullptr;
  g_object_get(infer.element, name, &text, nullptr);
  const std::string copy = text ? text : "";
  g_free(text);
  return copy;
}

void set_model(Infer& infer, const char* model) {
  g_object_set(infer.element, "model", model, nullptr);
}

// Waits until active-model is `name`.
class ActiveModel {
 public:
  explicit ActiveModel(Infer& infer) : infer_(infer), name_(text_property(infer, "active-model")) {
    handler_ = g_signal_connect(infer.element, "notify::active-model", G_CALLBACK(changed), this);
  }
  ~ActiveModel() { g_signal_handler_disconnect(infer_.element, handler_); }
  void wait(const char* name) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return name_ == name; });
  }

 private:
  static void changed(GstElement* element, GParamSpec*, gpointer user) {
    auto* self = static_cast<ActiveModel*>(user);
    gchar* name = nullptr;
    g_object_get(element, "active-model", &name, nullptr);
    {
      const std::lock_guard lock(self->mutex_);
      self->name_ = name ? name : "";
    }
    self->changed_.notify_all();
    g_free(name);
  }
  Infer& infer_;
  gulong handler_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string name_;
};

std::string model_of(GstBuffer* buffer) {
  const GstDa3View view = view_of(buffer);
  gst_buffer_unref(buffer);
  return view.model;
}

}  // namespace

// ---- another model while playing
// ----------------------------------------------------------------------------------------------------

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

// ---- statistics
// ----------------------------------------------------------------------------------------------------

namespace {

struct Stats {
  explicit Stats(Infer& infer) { g_object_get(infer.element, "stats", &all, nullptr); }
  ~Stats() { gst_structure_free(all); }
  const GstStructure* part(const char* name) const {
    const GValue* value = gst_structure_get_value(all, name);
    fail_unless(value && GST_VALUE_HOLDS_STRUCTURE(value), "no structure %s", name);
    return gst_value_get_structure(value);
  }
  static guint64 number(const GstStructure* s, const char* field) {
    guint64 value = 0;
    return gst_structure_get_uint64(s, field, &value) ? value : G_MAXUINT64;
  }
  GstStructure* all = nullptr;
};

}  // namespace

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
  fail_unless_equals_uint64(Stats::number(stats.part("engine"), "memory-weights"), 1234);
  fail_unless_equals_uint64(Stats::number(stats.part("engine"), "submitted"), 6);
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

// ---- faults in a batch
// ----------------------------------------------------------------------------------------------------

namespace {

// The stub's own queue, which takes whatever waits, and the queue and worker of the real engine.
constexpr const char* kQueues[] = {"own", "former"};

// Four requests that wait for the engine: of one stream, or of four. `fault` is what the engine does.
class FourRequests {
 public:
  FourRequests(const std::string& queue, const std::string& fault, int streams)
      : text_("queue=" + queue + " " + fault + ", " + std::to_string(streams) + " streams") {
    stub().reset();
    const std::string model =
        "model=stub:block=1,queue=" + queue + "," + fault + " process-res=28 max-batch=4";
    for (int i = 0; i < streams; ++i) {
      infers.push_back(std::make_unique<Infer>(model));
      infers.back()->caps(56, 28);
    }
    for (int i = 0; i < 4; ++i) infers[i % streams]->push_numbered(56, 28, i / streams, 1);
    stub().wait_submitted(4);
  }
  // Whatever happened: nothing of it is left behind.
  ~FourRequests() {
    infers.clear();
    fail_unless_equals_int(stub_counters().results_alive, 0);
  }
  FourRequests(const FourRequests&) = delete;
  FourRequests& operator=(const FourRequests&) = delete;

  // Lets the engine begin, and returns how many items its passes had until the four were through.
  std::vector<int> run() {
    stub().release(4);
    stub().wait_finished(4);
    stub().release(-1);
    return passes();
  }
  static std::vector<int> passes() {
    const Da3StubCounters counters = stub_counters();
    return {counters.batch_sizes, counters.batch_sizes + counters.batches};
  }
  // One more frame and the end of each stream but for the one that has `failed`, as the frames before it.
  void end_streams(int failed) {
    for (int i = 0; i < streams(); ++i) {
      if (i == failed) continue;
      infers[i]->push_numbered(56, 28, 4 / streams(), 1);
      infers[i]->event(gst_event_new_eos());
    }
  }
  // The first `good` frames of a stream came, in order and with depth of their own, and nothing else.
  void expect_frames(Infer& infer, int good) {
    infer.wait_eos();
    fail_unless(infer.received() == good, "%s: %d frames came, not %d", text(), infer.received(), good);
    for (int i = 0; i < good; ++i) {
      GstBuffer* buffer = infer.pull();
      fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), i);
      // The last value: the first one is what some-nan-at spoils.
      assert_near(tensor_of(buffer, GST_DA3_TENSOR_DEPTH).back(), stub_depth(colour_of(i)));
      gst_buffer_unref(buffer);
    }
    infer.assert_accounts();
    fail_unless_equals_uint64(infer.stat("queue-level"), 0);
  }
  int streams() const { return int(infers.size()); }
  const char* text() const { return text_.c_str(); }

  std::vector<std::unique_ptr<Infer>> infers;

 private:
  const std::string text_;
};

std::string sizes_text(const std::vector<int>& sizes) {
  std::string text;
  for (const int size : sizes) text += " " + std::to_string(size);
  return text;
}

// How an engine gets at the one at place `bad` of a pass of four: by halves, until it is alone.
std::vector<int> halves(int size, int bad) {
  std::vector<int> sizes = {size};
  if (bad < 1 || bad > size || size == 1) return sizes;
  const int first = (size + 1) / 2;
  for (const auto& [part, place] : {std::pair{first, bad}, std::pair{size - first, bad - first}}) {
    const std::vector<int> more = halves(part, place);
    sizes.insert(sizes.end(), more.begin(), more.end());
  }
  return sizes;
}

// What a fault at place `at` does to the passes.
std::vector<int> expected_passes(const std::string& fault, int at) {
  if (fault == "break-at" || fault == "oom-at") return halves(4, at);
  if (fault == "halve-at") return {4, 2, 2};
  return {4};
}

// Four requests share a pass and the one at place `at` misbehaves. If that is `fatal`, the stream of the bad
// one says so once and stops; every other frame comes out.
void fault_in_a_batch(const char* queue, const char* fault, int at, int streams, bool fatal) {
  FourRequests four(queue, std::string(fault) + "=" + std::to_string(at), streams);
  const std::vector<int> passes = four.run();
  fail_unless(passes == expected_passes(fault, at), "%s at %d: passes of%s", four.text(), at,
              sizes_text(passes).c_str());
  const int failed = fatal ? (streams == 1 ? 0 : at - 1) : -1;
  four.end_streams(failed);
  for (int i = 0; i < streams; ++i) {
    Infer& infer = *four.infers[i];
    const bool hit = i == failed;
    const int good = hit ? (streams == 1 ? at - 1 : 0) : (streams == 1 ? 5 : 2);
    four.expect_frames(infer, good);
    if (hit) {
      const BusError error = infer.bus.wait(GST_MESSAGE_ERROR);
      fail_unless(error.found, "%s at %d: no error", four.text(), at);
      fail_unless_equals_uint64(infer.drops("error"), streams == 1 ? 4 - good : 1);
    }
    infer.bus.expect_no_error();
  }
}

}  // namespace

GST_START_TEST(every_fault_at_every_place_of_a_batch) {
  const char* faults[] = {"fail-at",          "break-at",     "oom-at",         "nan-at",
                          "wrong-size-at",    "zero-size-at", "wrong-views-at", "no-depth-at",
                          "no-confidence-at", "no-result-at"};
  for (const char* queue : kQueues) {
    for (const char* fault : faults) {
      for (int at = 1; at <= 4; ++at) {
        for (const int streams : {1, 4}) fault_in_a_batch(queue, fault, at, streams, true);
      }
    }
  }
}
GST_END_TEST

namespace {

// The same for a request that the engine does not take: it never gets into the batch.
void refusal_in_a_batch(const std::string& queue, int at, int streams) {
  stub().reset();
  const std::string model = "model=stub:block=1,queue=" + queue + ",refuse-at=" + std::to_string(at) +
                            " process-res=28 max-batch=4";
  std::vector<std::unique_ptr<Infer>> infers;
  for (int i = 0; i < streams; ++i) {
    infers.push_back(std::make_unique<Infer>(model));
    infers.back()->caps(56, 28);
  }
  for (int i = 0; i < 4; ++i) {
    const GstFlowReturn flow = infers[i % streams]->push(numbered_frame(56, 28, i / streams));
    // What comes behind the refused one may hear of it already.
    const bool may_know = streams == 1 && i >= at;
    fail_unless(flow == GST_FLOW_OK || (may_know && flow == GST_FLOW_ERROR), "frame %d: %s", i,
                gst_flow_get_name(flow));
  }
  stub().release(-1);
  for (int i = 0; i < streams; ++i) {
    Infer& infer = *infers[i];
    const bool hit = streams == 1 || i == at - 1;
    if (!hit) {
      infer.push_numbered(56, 28, 1, 1);
      infer.event(gst_event_new_eos());
    }
    infer.wait_eos();
    const int good = hit ? (streams == 1 ? at - 1 : 0) : 2;
    fail_unless_equals_int(infer.received(), good);
    if (hit) infer.bus.expect_one_error(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS, "refuses");
    infer.bus.expect_no_error();
    infer.assert_accounts();
    fail_unless_equals_uint64(infer.drops("error"), infer.stat("frames-in") - guint64(good));
    fail_unless(infer.drops("error") >= (hit ? 1 : 0));
    fail_unless_equals_uint64(infer.stat("queue-level"), 0);
  }
  infers.clear();
  fail_unless_equals_int(stub_counters().results_alive, 0);
}

}  // namespace

GST_START_TEST(a_refusal_at_every_place_of_a_batch) {
  for (const char* queue : kQueues) {
    for (int at = 1; at <= 4; ++at) {
      for (const int streams : {1, 4}) refusal_in_a_batch(queue, at, streams);
    }
  }
}
GST_END_TEST

GST_START_TEST(faults_that_are_none_lose_nothing) {
  for (const char* queue : kQueues) {
    for (const char* fault : {"some-nan-at", "halve-at"}) {
      for (int at = 1; at <= 4; ++at) {
        for (const int streams : {1, 4}) fault_in_a_batch(queue, fault, at, streams, false);
      }
    }
  }
}
GST_END_TEST

// Out of memory with four: the same four come out of two passes of two, and all who had a part in it hear of
// it.
GST_START_TEST(what_does_not_fit_is_run_again_in_halves) {
  for (const char* queue : kQueues) {
    for (const int streams : {1, 4}) {
      FourRequests four(queue, "halve-at=3", streams);
      const std::vector<int> passes = four.run();
      fail_unless(passes == (std::vector<int>{4, 2, 2}), "%s: passes of%s", four.text(),
                  sizes_text(passes).c_str());
      for (const auto& infer : four.infers) {
        const BusError warning = infer->bus.wait(GST_MESSAGE_WARNING);
        fail_unless(warning.found && warning.domain == GST_RESOURCE_ERROR &&
                        warning.code == GST_RESOURCE_ERROR_NO_SPACE_LEFT,
                    "%s: %s", four.text(), warning.text.c_str());
        for (int i = 0; i < 4 / streams; ++i) gst_buffer_unref(infer->pull());
        const Stats stats(*infer);
        fail_unless_equals_uint64(Stats::number(stats.part("batches"), "size-2"), 4 / streams);
        fail_unless_equals_uint64(infer->stat("frames-dropped"), 0);
        infer->bus.expect_no_error();
      }
    }
  }
}
GST_END_TEST

namespace {

// A live stream with an engine that has to be told to compute.
class LiveStream {
 public:
  LiveStream(const std::string& fault)
      : infer("model=stub:block=1," + fault + " process-res=28 max-batch=4 max-latency=1000000000",
              Source::live) {
    gst_harness_use_testclock(infer.harness);
    clock_ = gst_harness_get_testclock(infer.harness);
    infer.caps(56, 28);
  }
  ~LiveStream() { gst_object_unref(clock_); }
  LiveStream(const LiveStream&) = delete;
  LiveStream& operator=(const LiveStream&) = delete;

  void push() {
    gst_test_clock_advance_time(clock_, kFrameTime);
    infer.push_numbered(56, 28, pushed_++, 1);
  }
  // Frames whose result comes before the next one: their rate lets more of the next ones into the engine at
  // once.
  void push_and_pull(int frames) {
    for (int i = 0; i < frames; ++i) {
      push();
      stub().release(1);
      gst_buffer_unref(infer.pull());
    }
  }
  // All that were pushed, and not pulled, came in order, but for `missing`.
  void expect_all_but(int first, int missing) {
    infer.event(gst_event_new_eos());
    infer.wait_eos();
    for (int i = first; i < pushed_; ++i) {
      if (i == missing) continue;
      GstBuffer* buffer = infer.pull();
      fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), i);
      assert_depth_of(buffer, colour_of(i));
      gst_buffer_unref(buffer);
    }
    fail_unless_equals_int(infer.received(), pushed_ - (missing < 0 ? 0 : 1));
    fail_unless_equals_uint64(infer.drops("late"), missing < 0 ? 0 : 1);
    fail_unless_equals_uint64(infer.stat("frames-dropped"), missing < 0 ? 0 : 1);
    infer.assert_accounts();
    fail_unless_equals_uint64(infer.stat("queue-level"), 0);
    infer.bus.expect_no_error();
  }

  Infer infer;

 private:
  GstTestClock* clock_;
  int pushed_ = 0;
};

// Four requests of live streams share a pass and the one at place `at` has expired.
void expiry_in_a_batch(int at, int streams) {
  stub().reset();
  const int before = streams == 1 ? 3 : 0;
  const std::string fault = "expire-at=" + std::to_string(before + at);
  std::vector<std::unique_ptr<LiveStream>> lives;
  for (int i = 0; i < streams; ++i) lives.push_back(std::make_unique<LiveStream>(fault));
  lives[0]->push_and_pull(before);
  for (int i = 0; i < 4; ++i) {
    lives[i % streams]->push();
    stub().wait_submitted(before + i + 1);  // the first of each is measured before, on another thread
  }
  stub().release(-1);
  stub().wait_finished(before + 4);
  const Da3StubCounters counters = stub_counters();
  fail_unless(counters.batches == before + 1 && counters.batch_sizes[before] == 4,
              "at %d of %d streams: %d passes", at, streams, counters.batches);
  fail_unless_equals_int(counters.expired, 1);
  for (int i = 0; i < streams; ++i) {
    const int missing = streams == 1 ? before + at - 1 : i == at - 1 ? 0 : -1;
    lives[i]->push();
    lives[i]->expect_all_but(before, missing);
  }
  lives.clear();
  fail_unless_equals_int(stub_counters().results_alive, 0);
}

}  // namespace

GST_START_TEST(what_expires_at_any_place_of_a_batch_is_late_and_the_only_one) {
  for (int at = 1; at <= 4; ++at) {
    for (const int streams : {1, 4}) expiry_in_a_batch(at, streams);
  }
}
GST_END_TEST

// Nothing comes while a pass takes long, and everything after it, what came meanwhile too.
GST_START_TEST(a_slow_engine_loses_nothing) {
  for (const char* queue : kQueues) {
    for (int at = 1; at <= 4; ++at) {
      for (const int streams : {1, 4}) {
        FourRequests four(queue, "slow-at=" + std::to_string(at), streams);
        stub().release(-1);
        stub().wait_slow(1);
        four.end_streams(-1);
        for (const auto& infer : four.infers) {
          fail_unless_equals_int(infer->received(), 0);
          infer->assert_accounts();
          fail_unless_equals_uint64(infer->stat("queue-level"), streams == 1 ? 5 : 2);
        }
        stub().finish_slow(1);
        for (const auto& infer : four.infers) four.expect_frames(*infer, streams == 1 ? 5 : 2);
        const std::vector<int> passes = FourRequests::passes();
        fail_unless(passes[0] == 4, "%s: passes of%s", four.text(), sizes_text(passes).c_str());
        fail_unless_equals_int(stub_counters().slow_passes, 1);
      }
    }
  }
}
GST_END_TEST

static Suite* da3infer_model_suite() {
  Suite* suite = suite_create("da3infer-model");
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

  TCase* faults = tcase_create("faults");
  tcase_set_timeout(faults, 120);
  tcase_add_test(faults, every_fault_at_every_place_of_a_batch);
  tcase_add_test(faults, a_refusal_at_every_place_of_a_batch);
  tcase_add_test(faults, faults_that_are_none_lose_nothing);
  tcase_add_test(faults, what_does_not_fit_is_run_again_in_halves);
  tcase_add_test(faults, what_expires_at_any_place_of_a_batch_is_late_and_the_only_one);
  tcase_add_test(faults, a_slow_engine_loses_nothing);
  suite_add_tcase(suite, faults);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_model_suite(), "da3infer_model", __FILE__);
}
