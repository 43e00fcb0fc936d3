// SPDX-License-Identifier: MIT
//
// da3infer when something is wrong: the model, the engine, its results, the input. Each case ends in one
// clear error or a defined result.
#include <glib/gstdio.h>

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
  assert_does_not_open("model=stub:", GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_INIT, "is of another version");
}
GST_END_TEST

GST_START_TEST(engine_module_is_no_library) {
  gchar* path = nullptr;
  const gint file = g_file_open_tmp("da3-no-library-XXXXXX", &path, nullptr);
  fail_unless(file >= 0);
  std::ofstream(path) << "<html>not found</html>";
  g_setenv("DA3_ENGINE_PATH", path, TRUE);
  assert_does_not_open("model=stub:", GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_INIT, "cannot be loaded");
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
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_faults_suite(), "da3infer_faults", __FILE__);
}
