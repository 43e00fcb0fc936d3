// SPDX-License-Identifier: MIT
//
// da3infer when something is wrong: the model, the engine, its results, the input, downstream; and flushes
// and state changes in the middle of the work. Each case ends in one clear error or a defined result.
#include <glib/gstdio.h>

#include <condition_variable>
#include <fstream>

#include "infer_harness.h"

using namespace da3::testing;

namespace {

// The state change to READY fails with exactly this error, and the element can be used again afterwards.
void assert_does_not_open(const std::string& properties, GQuark domain, gint code, const char* part) {
  GstElement* element = make_infer(properties);
  Bus bus(element);
  fail_unless_equals_int(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_FAILURE);
  bus.expect_one_error(domain, code, part);
  fail_unless_equals_int(gst_element_set_state(element, GST_STATE_NULL), GST_STATE_CHANGE_SUCCESS);
  gst_object_unref(element);
}

// Pushes numbered frames until they are refused; back-pressure makes that come. Returns the flow.
GstFlowReturn push_until_refused(Infer& infer, int first = 0) {
  GstFlowReturn flow = GST_FLOW_OK;
  for (int i = first; flow == GST_FLOW_OK; ++i) flow = infer.push(numbered_frame(56, 28, i));
  return flow;
}

// The `at`-th frame goes wrong: the ones before it come out, one error, EOS downstream, ERROR upstream.
void assert_fails_at(const std::string& properties, int at, GQuark domain, gint code, const char* part) {
  Infer infer(properties + " process-res=28");
  infer.caps(56, 28);
  fail_unless_equals_int(push_until_refused(infer), GST_FLOW_ERROR);
  infer.wait_eos();
  fail_unless_equals_int(infer.received(), at - 1);
  for (int i = 0; i < at - 1; ++i) {
    GstBuffer* buffer = infer.pull();
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
  infer.bus.expect_one_error(domain, code, part);
  fail_unless_equals_int(infer.push(numbered_frame(56, 28, 99)), GST_FLOW_ERROR);
  fail_if(infer.event(gst_event_new_eos()), "EOS after an error");
  infer.bus.expect_no_error();
}

void flush(Infer& infer) {
  fail_unless(infer.event(gst_event_new_flush_start()));
  fail_unless(infer.event(gst_event_new_flush_stop(TRUE)));
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  fail_unless(infer.event(gst_event_new_segment(&segment)));
}

}  // namespace

// ---- the model
// ----------------------------------------------------------------------------------------------------------

// Without a model the one that ships is meant, which the stub does not have.
GST_START_TEST(no_model) {
  assert_does_not_open("", GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND, "da3-demo");
}
GST_END_TEST

GST_START_TEST(model_of_empty_name) {
  assert_does_not_open("model=\"\"", GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND, "da3-demo");
}
GST_END_TEST

GST_START_TEST(model_missing) {
  assert_does_not_open("model=stub:missing", GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND,
                       "stub:missing");
}
GST_END_TEST

GST_START_TEST(model_unreadable) {
  assert_does_not_open("model=stub:unreadable", GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_OPEN_READ,
                       "cannot be read");
}
GST_END_TEST

GST_START_TEST(model_of_wrong_type) {
  assert_does_not_open("model=stub:wrong-type", GST_STREAM_ERROR, GST_STREAM_ERROR_WRONG_TYPE,
                       "not a DA3 checkpoint");
}
GST_END_TEST

GST_START_TEST(no_memory_to_load) {
  assert_does_not_open("model=stub:no-memory", GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT,
                       "Out of memory");
}
GST_END_TEST

GST_START_TEST(loading_fails) {
  assert_does_not_open("model=stub:failed", GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "Loading failed");
}
GST_END_TEST

GST_START_TEST(device_absent) {
  assert_does_not_open("model=stub: device=cuda:7", GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND,
                       "cuda:7");
}
GST_END_TEST

GST_START_TEST(an_empty_device_means_auto) {
  GstElement* element = make_infer("model=stub: device=\"\"");
  fail_unless_equals_int(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  gst_element_set_state(element, GST_STATE_NULL);
  gst_object_unref(element);
}
GST_END_TEST

GST_START_TEST(ray_pose_of_a_model_without_rays) {
  assert_does_not_open("model=stub: use-ray-pose=true", GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS,
                       "use-ray-pose=false");
  fail_unless_equals_int(stub_counters().engines_alive, 0);
}
GST_END_TEST

GST_START_TEST(ray_pose_switched_on_too_late) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  g_object_set(infer.element, "use-ray-pose", TRUE, nullptr);
  fail_unless_equals_int(push_until_refused(infer, 2), GST_FLOW_ERROR);
  infer.wait_eos();
  fail_unless_equals_int(infer.received(), 2);
  infer.bus.expect_one_error(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS, "does not have this output");
}
GST_END_TEST

GST_START_TEST(a_failed_start_can_be_repeated) {
  GstElement* element = make_infer("model=stub:missing");
  Bus bus(element);
  for (int i = 0; i < 2; ++i) {
    fail_unless_equals_int(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
    bus.expect_one_error(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND, "stub:missing");
  }
  g_object_set(element, "model", "stub:", nullptr);
  fail_unless_equals_int(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_SUCCESS);
  bus.expect_no_error();
  gst_element_set_state(element, GST_STATE_NULL);
  gst_object_unref(element);
}
GST_END_TEST

GST_START_TEST(another_model_in_ready_that_is_missing) {
  Infer infer("model=stub:");
  gst_element_set_state(infer.element, GST_STATE_READY);
  g_object_set(infer.element, "model", "stub:missing", nullptr);
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
  infer.bus.expect_one_error(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND, "stub:missing");
  fail_unless_equals_int(stub_counters().engines_alive, 0);
}
GST_END_TEST

GST_START_TEST(settings_out_of_range_are_refused) {
  GstElement* element = make_infer("model=stub:");
  GObjectClass* klass = G_OBJECT_GET_CLASS(element);
  const auto changed = [&](const char* name, auto bad, GType type) {
    GValue value = G_VALUE_INIT;
    g_value_init(&value, type);
    if (type == G_TYPE_INT) g_value_set_int(&value, int(bad));
    if (type == G_TYPE_UINT) g_value_set_uint(&value, guint(bad));
    return g_param_value_validate(g_object_class_find_property(klass, name), &value);
  };
  fail_unless(changed("process-res", -1, G_TYPE_INT));
  fail_unless(changed("views", 0, G_TYPE_UINT));
  fail_unless(changed("views", 1000000, G_TYPE_UINT));
  fail_if(changed("process-res", 0, G_TYPE_INT));
  fail_if(changed("process-res", 504, G_TYPE_INT));
  fail_if(changed("views", 1, G_TYPE_UINT));
  gst_object_unref(element);
}
GST_END_TEST

// ---- the engine module
// ------------------------------------------------------------------------------------------------

GST_START_TEST(engine_module_missing) {
  g_setenv("DA3_ENGINE_PATH", "/nowhere/libda3engine.so", TRUE);
  // Everything that needs no engine works.
  GstElement* element = gst_element_factory_make("da3infer", nullptr);
  fail_unless(element != nullptr);
  gint process_res = 0;
  g_object_get(element, "process-res", &process_res, nullptr);
  fail_unless_equals_int(process_res, 0);
  gst_object_unref(element);
  assert_does_not_open("model=stub:", GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_INIT, "/nowhere/libda3engine.so");
}
GST_END_TEST

GST_START_TEST(engine_module_of_another_abi) {
  g_setenv("DA3_ENGINE_PATH", g_getenv("DA3_WRONG_ABI_ENGINE"), TRUE);
  assert_does_not_open("model=stub:", GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_INIT, "");
}
GST_END_TEST

GST_START_TEST(engine_module_is_no_library) {
  gchar* path = nullptr;
  const gint file = g_file_open_tmp("da3-no-library-XXXXXX", &path, nullptr);
  fail_unless(file >= 0);
  std::ofstream(path) << "<html>not found</html>";
  g_setenv("DA3_ENGINE_PATH", path, TRUE);
  assert_does_not_open("model=stub:", GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_INIT, "");
  g_unlink(path);
  g_close(file, nullptr);
  g_free(path);
}
GST_END_TEST

GST_START_TEST(engine_module_comes_later) {
  GstElement* element = make_infer("model=stub:");
  Bus bus(element);
  g_setenv("DA3_ENGINE_PATH", "/nowhere/libda3engine.so", TRUE);
  fail_unless_equals_int(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_FAILURE);
  use_stub_engine();
  fail_unless_equals_int(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  gst_element_set_state(element, GST_STATE_NULL);
  gst_object_unref(element);
}
GST_END_TEST

// ---- inference
// ------------------------------------------------------------------------------------------------------------

GST_START_TEST(inference_fails_at_each_position) {
  for (int at = 1; at <= 6; ++at) {
    assert_fails_at("model=stub:fail-at=" + std::to_string(at), at, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED,
                    "The stub failed");
  }
}
GST_END_TEST

GST_START_TEST(out_of_memory_at_batch_one) {
  assert_fails_at("model=stub:oom-at=3", 3, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT,
                  "process-res");
}
GST_END_TEST

GST_START_TEST(the_engine_refuses_a_frame) {
  assert_fails_at("model=stub:refuse-at=4", 4, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS, "refuses");
}
GST_END_TEST

GST_START_TEST(depth_of_nothing_but_nan) {
  assert_fails_at("model=stub:nan-at=2", 2, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "no usable depth");
}
GST_END_TEST

GST_START_TEST(a_few_nan_are_invalid_values_and_one_warning) {
  Infer infer("model=stub:some-nan-at=1 process-res=28");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 3);
  for (int i = 0; i < 3; ++i) {
    GstBuffer* buffer = infer.pull();
    const GstDa3View view = view_of(buffer);
    assert_near(view.depth.valid_fraction, i == 0 ? 1 - 1.0 / (28 * 14) : 1, 1e-12);
    fail_unless(std::isfinite(view.depth.median) && std::isfinite(view.depth.min));
    gst_buffer_unref(buffer);
  }
  const BusError warning = infer.bus.pop(GST_MESSAGE_WARNING);
  fail_unless(warning.found && warning.text.find("invalid") != std::string::npos);
  fail_if(infer.bus.pop(GST_MESSAGE_WARNING).found);
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(result_of_wrong_size) {
  assert_fails_at("model=stub:wrong-size-at=2", 2, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "27x14");
}
GST_END_TEST

GST_START_TEST(result_of_no_size) {
  assert_fails_at("model=stub:zero-size-at=2", 2, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "0x0");
}
GST_END_TEST

GST_START_TEST(result_of_more_views_than_frames) {
  assert_fails_at("model=stub:wrong-views-at=1", 1, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "2 results");
}
GST_END_TEST

GST_START_TEST(result_without_depth) {
  assert_fails_at("model=stub:no-depth-at=2", 2, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "no depth");
}
GST_END_TEST

GST_START_TEST(result_without_confidence) {
  assert_fails_at("model=stub:no-confidence-at=2", 2, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED,
                  "no confidence");
}
GST_END_TEST

GST_START_TEST(no_result_at_all) {
  assert_fails_at("model=stub:no-result-at=2", 2, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "no result");
}
GST_END_TEST

GST_START_TEST(a_group_fails_as_a_whole_with_one_error) {
  Infer infer("model=stub:fail-at=2 process-res=28 views=3");
  infer.caps(56, 28);
  fail_unless_equals_int(push_until_refused(infer), GST_FLOW_ERROR);
  infer.wait_eos();
  fail_unless_equals_int(infer.received(), 3);
  infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "request 2");
}
GST_END_TEST

GST_START_TEST(after_an_error_nothing_more_is_computed) {
  Infer infer("model=stub:block=1,fail-at=1 process-res=28 views=2");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 3);  // the last one waits for a partner
  stub().wait_submitted(1);
  stub().release(-1);
  infer.wait_eos();
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  infer.event(gst_event_new_segment(&segment));  // ends its group
  fail_unless_equals_int(stub_counters().submitted, 1);
  infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "request 1");
  infer.assert_accounts();
}
GST_END_TEST

GST_START_TEST(failures_of_one_element_are_its_own) {
  // One engine; its second request fails, which is the first one's second frame.
  Infer one("model=stub:fail-at=2 process-res=28"), other("model=stub:fail-at=2 process-res=28");
  fail_unless_equals_int(stub_counters().engines_alive, 1);
  one.caps(56, 28);
  other.caps(56, 28);
  fail_unless_equals_int(push_until_refused(one), GST_FLOW_ERROR);
  one.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "request 2");
  other.push_numbered(56, 28, 0, 5);
  for (int i = 0; i < 5; ++i) gst_buffer_unref(other.pull());
  other.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(after_an_error_the_element_can_start_again) {
  Infer infer("model=stub:fail-at=2 process-res=28");
  infer.caps(56, 28);
  push_until_refused(infer);
  infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "");
  gst_element_set_state(infer.element, GST_STATE_READY);
  infer.restarted = true;
  while (GstBuffer* buffer = gst_harness_try_pull(infer.harness)) gst_buffer_unref(buffer);
  gst_element_set_state(infer.element, GST_STATE_PLAYING);
  fail_unless(infer.event(gst_event_new_flush_stop(TRUE)));  // the test pad remembers the end of stream
  infer.event(gst_event_new_stream_start("again"));
  infer.event(gst_event_new_caps(gst_caps_from_string(rgb_caps(56, 28).c_str())));
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  infer.event(gst_event_new_segment(&segment));
  infer.push_numbered(56, 28, 7, 1);
  GstBuffer* buffer = infer.pull();
  assert_depth_of(buffer, colour_of(7));
  fail_unless_equals_int64(view_of(buffer).frame, 0);
  gst_buffer_unref(buffer);
  infer.bus.expect_no_error();
}
GST_END_TEST

// ---- input
// ------------------------------------------------------------------------------------------------------------------

namespace {

void assert_caps_are_refused(int width, int height) {
  Infer infer("model=stub: process-res=28 views=2");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 3);
  infer.caps(width, height);
  fail_unless_equals_int(infer.push(numbered_frame(width, height, 3)), GST_FLOW_NOT_NEGOTIATED);
  infer.wait_eos();
  fail_unless_equals_int(infer.received(), 3);
  const std::string size = std::to_string(width) + "x" + std::to_string(height);
  infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, size.c_str());
}

}  // namespace

GST_START_TEST(frames_of_one_pixel) {
  assert_caps_are_refused(1, 1);
}
GST_END_TEST

GST_START_TEST(frames_of_one_column) {
  assert_caps_are_refused(1, 4000);
}
GST_END_TEST

GST_START_TEST(a_frame_before_its_caps) {
  Infer infer("model=stub:");
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  infer.event(gst_event_new_stream_start("s"));
  infer.event(gst_event_new_segment(&segment));
  fail_unless_equals_int(infer.push(numbered_frame(56, 28, 0)), GST_FLOW_NOT_NEGOTIATED);
  infer.bus.expect_one_error(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, "before its caps");
}
GST_END_TEST

GST_START_TEST(a_frame_smaller_than_its_caps) {
  Infer infer("model=stub: process-res=28 views=4");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  fail_unless_equals_int(infer.push(gst_buffer_new_allocate(nullptr, 100, nullptr)), GST_FLOW_NOT_NEGOTIATED);
  infer.wait_eos();
  fail_unless_equals_int(infer.received(), 2);
  infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "100 bytes");
}
GST_END_TEST

GST_START_TEST(a_frame_of_no_bytes) {
  Infer infer("model=stub:");
  infer.caps(56, 28);
  fail_unless_equals_int(infer.push(gst_buffer_new()), GST_FLOW_NOT_NEGOTIATED);
  infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "0 bytes");
}
GST_END_TEST

GST_START_TEST(a_processed_frame_smaller_than_its_caps) {
  Infer infer("model=stub:");
  infer.caps(56, 28);
  GstBuffer* buffer = gst_buffer_new_allocate(nullptr, 50, nullptr);
  mark_processed(buffer, 56, 28);
  fail_unless_equals_int(infer.push(buffer), GST_FLOW_NOT_NEGOTIATED);
  infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "50 bytes");
}
GST_END_TEST

namespace {

// A 56x28 frame whose video meta says something else.
void assert_meta_is_refused(GstVideoFormat format, guint width, guint height, gint stride, gsize offset) {
  for (const bool processed : {false, true}) {
    Infer infer("model=stub: process-res=28");
    infer.caps(56, 28);
    GstBuffer* buffer = numbered_frame(56, 28, 0);
    gsize offsets[GST_VIDEO_MAX_PLANES] = {offset};
    gint strides[GST_VIDEO_MAX_PLANES] = {stride};
    gst_buffer_add_video_meta_full(buffer, GST_VIDEO_FRAME_FLAG_NONE, format, width, height, 1, offsets,
                                   strides);
    if (processed) mark_processed(buffer, 56, 28);
    fail_unless_equals_int(infer.push(buffer), GST_FLOW_NOT_NEGOTIATED);
    infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "which says that it holds");
  }
}

}  // namespace

GST_START_TEST(a_video_meta_of_a_smaller_picture) {
  assert_meta_is_refused(GST_VIDEO_FORMAT_RGB, 28, 28, 168, 0);
  assert_meta_is_refused(GST_VIDEO_FORMAT_RGB, 56, 14, 168, 0);
}
GST_END_TEST

GST_START_TEST(a_video_meta_of_another_format) {
  assert_meta_is_refused(GST_VIDEO_FORMAT_BGR, 56, 28, 168, 0);
}
GST_END_TEST

GST_START_TEST(a_video_meta_that_reaches_beyond_the_buffer) {
  assert_meta_is_refused(GST_VIDEO_FORMAT_RGB, 56, 28, 1000, 0);
  assert_meta_is_refused(GST_VIDEO_FORMAT_RGB, 56, 28, 168, 4000);
  assert_meta_is_refused(GST_VIDEO_FORMAT_RGB, 56, 28, -168, 0);
}
GST_END_TEST

GST_START_TEST(a_video_meta_of_a_padded_picture_is_fine) {
  // 64x32 stored, of which the caps show 56x28.
  for (const bool processed : {false, true}) {
    Infer infer("model=stub: process-res=28");
    infer.caps(56, 28);
    const Rgb colour{30, 60, 90};
    GstBuffer* buffer = solid_frame(64, 32, colour, 0);
    gst_buffer_add_video_meta(buffer, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_RGB, 64, 32);
    if (processed) mark_processed(buffer, 56, 28);
    fail_unless_equals_int(infer.push(buffer), GST_FLOW_OK);
    buffer = infer.pull();
    assert_depth_of(buffer, colour);
    fail_unless_equals_int(view_of(buffer).image_width, 56);
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(fifty_changes_of_size_lose_nothing) {
  Infer infer("model=stub: process-res=42 views=3");
  int pushed = 0;
  for (int i = 0; i < 50; ++i) {
    const int width = 20 + 13 * (i % 7), height = 20 + 11 * (i % 5);
    infer.caps(width, height);
    const int frames = 1 + i % 4;
    infer.push_numbered(width, height, pushed, frames);
    pushed += frames;
  }
  infer.event(gst_event_new_eos());
  for (int i = 0; i < pushed; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_uint64(GST_BUFFER_PTS(buffer), i * kFrameTime);
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(frames_after_the_end) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  fail_unless(infer.event(gst_event_new_eos()));
  fail_if(infer.event(gst_event_new_eos()), "a second end");
  fail_unless_equals_int(infer.push(numbered_frame(56, 28, 1)), GST_FLOW_EOS);
  infer.wait_eos();
  fail_unless_equals_int(infer.received(), 1);
  infer.bus.expect_no_error();
}
GST_END_TEST

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
  fail_unless(infer.received() >= 1);
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

namespace {

// Blocks the pusher inside downstream until told to go on.
struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = false, open = false;
};

GstPadProbeReturn wait_at_gate(GstPad*, GstPadProbeInfo*, gpointer user) {
  auto* gate = static_cast<Gate*>(user);
  std::unique_lock lock(gate->mutex);
  gate->reached = true;
  gate->changed.notify_all();
  gate->changed.wait(lock, [gate] { return gate->open; });
  return GST_PAD_PROBE_OK;
}

}  // namespace

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
  Gate gate;
  gst_pad_add_probe(one.harness->sinkpad, GST_PAD_PROBE_TYPE_BUFFER, wait_at_gate, &gate, nullptr);
  one.push_numbered(56, 28, 0, 2);
  {
    std::unique_lock lock(gate.mutex);
    gate.changed.wait(lock, [&] { return gate.reached; });
  }
  other.push_numbered(56, 28, 0, 20);
  for (int i = 0; i < 20; ++i) gst_buffer_unref(other.pull());
  {
    const std::lock_guard lock(gate.mutex);
    gate.open = true;
  }
  gate.changed.notify_all();
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

static Suite* da3infer_faults_suite() {
  Suite* suite = suite_create("da3infer-faults");
  TCase* model = tcase_create("model");
  tcase_add_test(model, no_model);
  tcase_add_test(model, model_of_empty_name);
  tcase_add_test(model, model_missing);
  tcase_add_test(model, model_unreadable);
  tcase_add_test(model, model_of_wrong_type);
  tcase_add_test(model, no_memory_to_load);
  tcase_add_test(model, loading_fails);
  tcase_add_test(model, device_absent);
  tcase_add_test(model, an_empty_device_means_auto);
  tcase_add_test(model, ray_pose_of_a_model_without_rays);
  tcase_add_test(model, ray_pose_switched_on_too_late);
  tcase_add_test(model, a_failed_start_can_be_repeated);
  tcase_add_test(model, another_model_in_ready_that_is_missing);
  tcase_add_test(model, settings_out_of_range_are_refused);
  tcase_add_test(model, engine_module_missing);
  tcase_add_test(model, engine_module_of_another_abi);
  tcase_add_test(model, engine_module_is_no_library);
  tcase_add_test(model, engine_module_comes_later);
  suite_add_tcase(suite, model);

  TCase* inference = tcase_create("inference");
  tcase_add_test(inference, inference_fails_at_each_position);
  tcase_add_test(inference, out_of_memory_at_batch_one);
  tcase_add_test(inference, the_engine_refuses_a_frame);
  tcase_add_test(inference, depth_of_nothing_but_nan);
  tcase_add_test(inference, a_few_nan_are_invalid_values_and_one_warning);
  tcase_add_test(inference, result_of_wrong_size);
  tcase_add_test(inference, result_of_no_size);
  tcase_add_test(inference, result_of_more_views_than_frames);
  tcase_add_test(inference, result_without_depth);
  tcase_add_test(inference, result_without_confidence);
  tcase_add_test(inference, no_result_at_all);
  tcase_add_test(inference, a_group_fails_as_a_whole_with_one_error);
  tcase_add_test(inference, after_an_error_nothing_more_is_computed);
  tcase_add_test(inference, failures_of_one_element_are_its_own);
  tcase_add_test(inference, after_an_error_the_element_can_start_again);
  suite_add_tcase(suite, inference);

  TCase* input = tcase_create("input");
  tcase_add_test(input, frames_of_one_pixel);
  tcase_add_test(input, frames_of_one_column);
  tcase_add_test(input, a_frame_before_its_caps);
  tcase_add_test(input, a_frame_smaller_than_its_caps);
  tcase_add_test(input, a_frame_of_no_bytes);
  tcase_add_test(input, a_processed_frame_smaller_than_its_caps);
  tcase_add_test(input, a_video_meta_of_a_smaller_picture);
  tcase_add_test(input, a_video_meta_of_another_format);
  tcase_add_test(input, a_video_meta_that_reaches_beyond_the_buffer);
  tcase_add_test(input, a_video_meta_of_a_padded_picture_is_fine);
  tcase_add_test(input, fifty_changes_of_size_lose_nothing);
  tcase_add_test(input, frames_after_the_end);
  suite_add_tcase(suite, input);

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
  return gst_check_run_suite(da3infer_faults_suite(), "da3infer_faults", __FILE__);
}
