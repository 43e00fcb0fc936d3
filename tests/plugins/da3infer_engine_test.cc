// SPDX-License-Identifier: MIT
//
// da3infer and its engine: what each kind of model gives, passes and bounds, engines that are shared, life
// cycle.
#include "infer_harness.h"

using namespace da3::testing;

// ---- kinds of models
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(a_metric_model_is_metric) {
  Infer infer("model=stub:kind=metric process-res=28");
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  GstBuffer* buffer = infer.pull();
  fail_unless_equals_int(view_of(buffer).kind, GST_DA3_DEPTH_KIND_METRIC);
  assert_near(view_of(buffer).unit_scale, 1);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(a_scale_that_could_not_be_fitted_is_not_metric) {
  Infer infer("model=stub:kind=metric,metric-valid=0 process-res=28");
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  GstBuffer* buffer = infer.pull();
  fail_unless_equals_int(view_of(buffer).kind, GST_DA3_DEPTH_KIND_RELATIVE);
  assert_near(view_of(buffer).unit_scale, 0);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(focal_normalised_depth_becomes_metres_with_a_known_camera) {
  Infer infer("model=stub:focal=1,outputs=depth+sky process-res=56");
  infer.caps(112, 56);
  const Rgb colour{100, 100, 100};
  GstBuffer* in = solid_frame(112, 56, colour, 0);
  GstDa3View view;
  gst_da3_view_init(&view);
  view.image_width = 112;
  view.image_height = 56;
  view.has_intrinsics = TRUE;
  view.fx = 300;
  view.fy = 500;
  view.cx = 56;
  view.cy = 28;
  gst_buffer_add_da3_view(in, &view);
  infer.push(in);
  GstBuffer* buffer = infer.pull();
  // Half the size: fx 150, fy 250, mean 200.
  const double factor = 200.0 / 300.0;
  for (const float value : tensor_of(buffer, GST_DA3_TENSOR_DEPTH))
    assert_near(value, stub_depth(colour) * factor);
  const GstDa3View out = view_of(buffer);
  fail_unless_equals_int(out.kind, GST_DA3_DEPTH_KIND_METRIC);
  assert_near(out.unit_scale, 1);
  assert_near(out.depth.median, stub_depth(colour) * factor);
  fail_unless(out.has_intrinsics, "the known camera stays");
  assert_near(out.fx, 300);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(the_true_camera_is_no_known_camera) {
  Infer infer("model=stub:focal=1,outputs=depth+sky process-res=28");
  infer.caps(28, 28);
  GstDa3View view;
  gst_da3_view_init(&view);
  view.role = GST_DA3_ROLE_TRUTH;
  view.image_width = view.image_height = 28;
  view.has_intrinsics = view.has_extrinsics = TRUE;
  view.fx = view.fy = 600;
  GstBuffer* in = numbered_frame(28, 28, 0);
  gst_buffer_add_da3_view(in, &view);
  infer.push(in);
  GstBuffer* buffer = infer.pull();
  fail_if(view_of(buffer).has_intrinsics, "the truth became a prediction");
  fail_if(view_of(buffer).has_extrinsics);
  fail_unless_equals_int(view_of(buffer).kind, GST_DA3_DEPTH_KIND_RELATIVE);
  gst_buffer_unref(buffer);

  // One that somebody gives beside it is.
  in = numbered_frame(28, 28, 1);
  gst_buffer_add_da3_view(in, &view);
  view.role = GST_DA3_ROLE_PREDICTION;
  view.has_extrinsics = FALSE;
  view.fx = view.fy = 300;
  gst_buffer_add_da3_view(in, &view);
  infer.push(in);
  buffer = infer.pull();
  assert_near(view_of(buffer).fx, 300);
  fail_unless_equals_int(view_of(buffer).kind, GST_DA3_DEPTH_KIND_METRIC);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(focal_normalised_depth_is_relative_without_a_camera) {
  Infer infer("model=stub:focal=1,kind=metric,outputs=depth+sky process-res=28");
  infer.caps(56, 28);
  const Rgb colour{100, 100, 100};
  infer.push(solid_frame(56, 28, colour, 0));
  GstBuffer* in = solid_frame(56, 28, colour, 1);
  GstDa3View view;
  gst_da3_view_init(&view);
  view.has_intrinsics = TRUE;
  view.fx = view.fy = -1;
  gst_buffer_add_da3_view(in, &view);
  infer.push(in);
  for (int i = 0; i < 2; ++i) {
    GstBuffer* buffer = infer.pull();
    assert_depth_of(buffer, colour);
    fail_unless_equals_int(view_of(buffer).kind, GST_DA3_DEPTH_KIND_RELATIVE);
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(what_a_model_lacks_is_not_attached) {
  Infer infer("model=stub:outputs=depth process-res=28");
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  GstBuffer* buffer = infer.pull();
  fail_if(has_tensor(buffer, GST_DA3_TENSOR_CONFIDENCE) || has_tensor(buffer, GST_DA3_TENSOR_SKY));
  const GstDa3View view = view_of(buffer);
  fail_if(view.has_intrinsics || view.has_extrinsics || view.has_sky);
  assert_near(view.confidence.valid_fraction, 0, 0);
  fail_unless_equals_int(int(stub_counters().last_outputs), 1);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(ray_pose_and_reference_view_reach_the_engine) {
  Infer infer("model=stub:outputs=depth+pose+ray process-res=56 use-ray-pose=true ref-view-strategy=middle");
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  GstBuffer* buffer = infer.pull();
  const Da3StubCounters counters = stub_counters();
  fail_unless_equals_int(counters.last_use_ray_pose, 1);
  fail_unless_equals_int(counters.last_ref_view_strategy, 1);
  std::vector<gsize> dims;
  for (const float value : tensor_of(buffer, GST_DA3_TENSOR_RAY, &dims)) assert_near(value, 0.5);
  fail_unless(dims == std::vector<gsize>({1, 2, 4, 6}));
  tensor_of(buffer, GST_DA3_TENSOR_RAY_CONFIDENCE, &dims);
  fail_unless(dims == std::vector<gsize>({1, 2, 4}));
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(rays_are_not_computed_unasked) {
  Infer infer("model=stub:outputs=depth+pose+ray process-res=56");
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  gst_buffer_unref(infer.pull());
  fail_unless_equals_int(int(stub_counters().last_outputs), 1 | 8);
  fail_unless_equals_int(stub_counters().last_ref_view_strategy, 2);
}
GST_END_TEST

// ---- engine and life cycle
// ----------------------------------------------------------------------------------------------

GST_START_TEST(the_engine_batches_what_waits) {
  Infer infer("model=stub:block=1 process-res=28 max-batch=4");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 8);
  stub().release(-1);
  for (int i = 0; i < 8; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_int(view_of(buffer).batch, 4);
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
  fail_unless_equals_int(int(infer.stat("last-batch")), 4);
}
GST_END_TEST

GST_START_TEST(no_more_frames_wait_than_the_bound) {
  Infer infer("model=stub:block=1 process-res=28 max-batch=3");
  infer.caps(56, 28);
  std::thread pusher([&] { infer.push_numbered(56, 28, 0, 40); });
  stub().wait_submitted(6);
  fail_unless(infer.stat("queue-level") <= 6);
  stub().release(-1);
  for (int i = 0; i < 40; ++i) gst_buffer_unref(infer.pull());
  pusher.join();
  fail_unless_equals_int(stub_counters().submitted, 40);
  fail_unless(stub_counters().most_outstanding <= 6, "%d at once", stub_counters().most_outstanding);
}
GST_END_TEST

GST_START_TEST(the_bound_counts_groups_of_views) {
  Infer infer("model=stub:block=1 process-res=28 max-batch=1 views=4");
  infer.caps(56, 28);
  std::thread pusher([&] { infer.push_numbered(56, 28, 0, 24); });
  stub().wait_submitted(2);
  fail_unless(infer.stat("queue-level") <= 8);
  stub().release(-1);
  for (int i = 0; i < 24; ++i) gst_buffer_unref(infer.pull());
  pusher.join();
  fail_unless(stub_counters().most_outstanding <= 2);
}
GST_END_TEST

GST_START_TEST(two_elements_share_one_engine) {
  Infer first("model=stub: process-res=28"), second("model=stub: process-res=28");
  fail_unless_equals_int(stub_counters().engines_alive, 1);
  fail_unless_equals_int(stub_counters().opened, 2);
  first.caps(56, 28);
  second.caps(56, 28);
  for (int i = 0; i < 10; ++i) {
    first.push(numbered_frame(56, 28, i));
    second.push(numbered_frame(56, 28, 20 - i));
  }
  for (int i = 0; i < 10; ++i) {
    GstBuffer* a = first.pull();
    GstBuffer* b = second.pull();
    assert_depth_of(a, colour_of(i));
    assert_depth_of(b, colour_of(20 - i));
    gst_buffer_unref(a);
    gst_buffer_unref(b);
  }
  gst_element_set_state(first.element, GST_STATE_NULL);
  second.push(numbered_frame(56, 28, 3));
  GstBuffer* b = second.pull();
  assert_depth_of(b, colour_of(3));
  gst_buffer_unref(b);
}
GST_END_TEST

GST_START_TEST(results_outlive_the_element) {
  GstBuffer* buffer;
  {
    Infer infer("model=stub: process-res=28");
    infer.caps(56, 28);
    infer.push(numbered_frame(56, 28, 9));
    buffer = infer.pull();
  }
  fail_unless_equals_int(stub_counters().engines_alive, 0);
  assert_depth_of(buffer, colour_of(9));
  gst_buffer_unref(buffer);
  fail_unless_equals_int(stub_counters().results_alive, 0);
}
GST_END_TEST

GST_START_TEST(nothing_is_leaked) {
  GstElement* element;
  {
    Infer infer("model=stub: process-res=28 views=2");
    element = GST_ELEMENT(gst_object_ref(infer.element));
    infer.caps(56, 28);
    infer.push_numbered(56, 28, 0, 7);
    for (int i = 0; i < 3; ++i) gst_buffer_unref(infer.pull());
  }
  ASSERT_OBJECT_REFCOUNT(element, "da3infer", 1);
  gst_object_unref(element);
  const Da3StubCounters counters = stub_counters();
  fail_unless_equals_int(counters.results_alive, 0);
  fail_unless_equals_int(counters.opened, counters.closed);
  fail_unless_equals_int(counters.finished, counters.submitted);
}
GST_END_TEST

GST_START_TEST(a_hundred_cycles_with_frames_in_flight) {
  GstElement* pipeline = gst_parse_launch(
      "videotestsrc is-live=false ! video/x-raw,format=RGB,width=32,height=28 ! da3infer model=stub: "
      "process-res=28 "
      "views=2 name=infer ! fakesink sync=false",
      nullptr);
  GstElement* infer = gst_bin_get_by_name(GST_BIN(pipeline), "infer");
  const GstState states[] = {GST_STATE_PLAYING, GST_STATE_NULL, GST_STATE_PAUSED, GST_STATE_READY};
  for (int i = 0; i < 100; ++i) {
    const GstState state = states[i % 4];
    fail_unless(gst_element_set_state(pipeline, state) != GST_STATE_CHANGE_FAILURE);
    if (i % 3 == 0) gst_element_get_state(pipeline, nullptr, nullptr, GST_CLOCK_TIME_NONE);
    const guint inside = assert_accounts(infer);
    fail_unless(state >= GST_STATE_PAUSED || inside == 0, "cycle %d: %u frames are inside a stopped element",
                i, inside);
  }
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(infer);
  gst_object_unref(pipeline);
  fail_unless_equals_int(stub_counters().engines_alive, 0);
  fail_unless_equals_int(stub_counters().results_alive, 0);
}
GST_END_TEST

GST_START_TEST(what_was_chosen_is_said) {
  GstElement* element =
      make_infer("model=stub: process-res=28 performance-mode=max attention=plain precision=fp32");
  GstBus* bus = gst_bus_new();
  gst_element_set_bus(element, bus);
  gchar* attention = nullptr;
  g_object_get(element, "active-attention", &attention, nullptr);
  fail_unless(attention == nullptr, "nothing is open yet");
  gst_element_set_state(element, GST_STATE_READY);
  GstMessage* message = gst_bus_pop_filtered(bus, GST_MESSAGE_ELEMENT);
  fail_unless(message != nullptr);
  const GstStructure* plan = gst_message_get_structure(message);
  fail_unless(gst_structure_has_name(plan, "da3-plan"));
  fail_unless_equals_string(gst_structure_get_string(plan, "model"), "stub");
  fail_unless_equals_string(gst_structure_get_string(plan, "device"), "cpu");
  fail_unless_equals_string(gst_structure_get_string(plan, "precision"), "fp32");
  fail_unless_equals_string(gst_structure_get_string(plan, "attention"), "plain");
  fail_unless_equals_string(gst_structure_get_string(plan, "performance-mode"), "max");
  fail_unless_equals_string(gst_structure_get_string(plan, "plan"), "as the stub does");
  gst_message_unref(message);
  fail_unless(gst_bus_pop_filtered(bus, GST_MESSAGE_ELEMENT) == nullptr, "said once");
  g_object_get(element, "active-attention", &attention, nullptr);
  fail_unless_equals_string(attention, "plain");
  g_free(attention);
  gst_element_set_state(element, GST_STATE_NULL);
  g_object_get(element, "active-attention", &attention, nullptr);
  fail_unless(attention == nullptr, "nothing is open any more");
  gst_object_unref(element);
  gst_object_unref(bus);
}
GST_END_TEST

GST_START_TEST(figures_and_readings) {
  GstElement* element = make_infer("model=stub: process-res=28 precision=bf16");
  gchar *device = nullptr, *precision = nullptr;
  g_object_get(element, "active-device", &device, "active-precision", &precision, nullptr);
  fail_unless(device == nullptr && precision == nullptr, "nothing is open yet");
  gst_element_set_state(element, GST_STATE_READY);
  g_object_get(element, "active-device", &device, "active-precision", &precision, nullptr);
  fail_unless_equals_string(device, "cpu");
  fail_unless_equals_string(precision, "bf16");
  g_free(device);
  g_free(precision);
  gst_element_set_state(element, GST_STATE_NULL);
  gst_object_unref(element);

  Infer infer("model=stub: process-res=28 views=2");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 6);
  for (int i = 0; i < 6; ++i) gst_buffer_unref(infer.pull());
  fail_unless_equals_uint64(infer.stat("frames-in"), 6);
  fail_unless_equals_uint64(infer.stat("frames-out"), 6);
  fail_unless_equals_uint64(infer.stat("groups"), 3);
  fail_unless_equals_uint64(infer.stat("frames-dropped"), 0);
  fail_unless_equals_uint64(infer.stat("queue-level"), 0);
}
GST_END_TEST

GST_START_TEST(a_remark_of_the_engine_warns_once) {
  GstElement* element = make_infer("model=stub:synthetic=1");
  Bus bus(element);
  for (int i = 0; i < 3; ++i) {
    gst_element_set_state(element, GST_STATE_READY);
    gst_element_set_state(element, GST_STATE_NULL);
  }
  const BusError warning = bus.pop(GST_MESSAGE_WARNING);
  fail_unless(warning.found && warning.text.find("not a trained model") != std::string::npos);
  fail_if(bus.pop(GST_MESSAGE_WARNING).found, "warned twice");
  gst_object_unref(element);
}
GST_END_TEST

GST_START_TEST(another_model_can_be_set_in_ready) {
  Infer infer("model=stub:name=one process-res=28");
  gst_element_set_state(infer.element, GST_STATE_READY);
  g_object_set(infer.element, "model", "stub:name=two", nullptr);
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_PLAYING), GST_STATE_CHANGE_SUCCESS);
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  GstBuffer* buffer = infer.pull();
  const GstDa3View view = view_of(buffer);
  fail_unless_equals_string(view.model, "two");
  gst_buffer_unref(buffer);
  fail_unless_equals_int(stub_counters().engines_alive, 1);
}
GST_END_TEST

GST_START_TEST(the_model_is_not_loaded_again_for_nothing) {
  Infer infer("model=stub:");
  for (int i = 0; i < 3; ++i) {
    gst_element_set_state(infer.element, GST_STATE_READY);
    gst_element_set_state(infer.element, GST_STATE_PLAYING);
  }
  fail_unless_equals_int(stub_counters().opened, 1);
}
GST_END_TEST

static Suite* da3infer_engine_suite() {
  Suite* suite = suite_create("da3infer-engine");
  TCase* models = tcase_create("models");
  tcase_add_test(models, a_metric_model_is_metric);
  tcase_add_test(models, a_scale_that_could_not_be_fitted_is_not_metric);
  tcase_add_test(models, focal_normalised_depth_becomes_metres_with_a_known_camera);
  tcase_add_test(models, the_true_camera_is_no_known_camera);
  tcase_add_test(models, focal_normalised_depth_is_relative_without_a_camera);
  tcase_add_test(models, what_a_model_lacks_is_not_attached);
  tcase_add_test(models, ray_pose_and_reference_view_reach_the_engine);
  tcase_add_test(models, rays_are_not_computed_unasked);
  suite_add_tcase(suite, models);

  TCase* life = tcase_create("life");
  tcase_add_test(life, the_engine_batches_what_waits);
  tcase_add_test(life, no_more_frames_wait_than_the_bound);
  tcase_add_test(life, the_bound_counts_groups_of_views);
  tcase_add_test(life, two_elements_share_one_engine);
  tcase_add_test(life, results_outlive_the_element);
  tcase_add_test(life, nothing_is_leaked);
  tcase_add_test(life, a_hundred_cycles_with_frames_in_flight);
  tcase_add_test(life, figures_and_readings);
  tcase_add_test(life, a_remark_of_the_engine_warns_once);
  tcase_add_test(life, another_model_can_be_set_in_ready);
  tcase_add_test(life, the_model_is_not_loaded_again_for_nothing);
  tcase_add_test(life, what_was_chosen_is_said);
  suite_add_tcase(suite, life);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_engine_suite(), "da3infer_engine", __FILE__);
}
