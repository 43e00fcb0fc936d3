// SPDX-License-Identifier: MIT
//
// da3extract when something is wrong: depth beyond the range of the samples, missing and broken input, what
// downstream does not take.
#include "extract_samples.h"

using namespace da3::testing;

// --- saturation
// -----------------------------------------------------------------------------------------------------

FloatMap with_far(int far, float value = 500) {
  FloatMap map(100, 10, 5);
  for (int i = 0; i < far; ++i) map.values[i] = value;
  return map;
}

GST_START_TEST(test_saturation_of_one_percent_is_silent) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  extract(bench, depth_frame(bench, with_far(10)));
  fail_unless_equals_int(count_warnings(bench), 0);
}
GST_END_TEST;

GST_START_TEST(test_saturation_warns_at_most_every_ten_seconds) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  for (int i = 0; i < 25; ++i) extract(bench, depth_frame(bench, with_far(11), i * GST_SECOND));
  fail_unless_equals_int(count_warnings(bench), 3);  // at 0, 10 and 20 s
}
GST_END_TEST;

GST_START_TEST(test_saturation_without_time_warns_once) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  for (int i = 0; i < 25; ++i) extract(bench, depth_frame(bench, with_far(500), GST_CLOCK_TIME_NONE));
  fail_unless_equals_int(count_warnings(bench), 1);
}
GST_END_TEST;

GST_START_TEST(test_the_scale_that_the_warning_names_is_enough) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  extract(bench, depth_frame(bench, with_far(300, 812.25f)));
  const BusText warning = parse(bench.message(GST_MESSAGE_WARNING));
  fail_unless(warning.text.find("30.0 %") != std::string::npos, "%s", warning.text.c_str());
  const std::string words = "set depth-scale to at least ";
  const size_t at = warning.text.find(words);
  fail_unless(at != std::string::npos, "%s", warning.text.c_str());
  GstElement* element = bench.element("da3extract");
  g_object_set(element, "depth-scale", g_ascii_strtod(warning.text.c_str() + at + words.size(), nullptr),
               nullptr);
  const auto samples = extract(bench, depth_frame(bench, with_far(300, 812.25f), 60 * GST_SECOND));
  fail_unless(samples[0] < 65535 && samples[0] > 60000, "%d", samples[0]);
  fail_unless_equals_int(count_warnings(bench), 0);
  gst_object_unref(element);
}
GST_END_TEST;

GST_START_TEST(test_values_below_the_range_warn_too) {
  Bench bench("da3extract depth-offset=10");
  bench.caps(kRgb64);
  assert_equal(extract(bench, depth_frame(bench, FloatMap(28, 14, 5))), std::vector<int>(28 * 14, 1));
  const BusText warning = parse(bench.message(GST_MESSAGE_WARNING));
  fail_unless(warning.text.find("smaller depth-scale or depth-offset") != std::string::npos, "%s",
              warning.text.c_str());
}
GST_END_TEST;

GST_START_TEST(test_invalid_pixels_are_no_saturation) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  FloatMap depth(28, 14, kNan);
  depth.values[0] = 3;
  extract(bench, depth_frame(bench, depth));
  fail_unless_equals_int(count_warnings(bench), 0);
}
GST_END_TEST;

// --- missing and broken input
// ---------------------------------------------------------------------------------------

GST_START_TEST(test_no_depth_names_the_missing_element) {
  for (const char* plane : {"depth", "disparity", "confidence", "sky"}) {
    Bench bench((std::string("da3extract plane=") + plane).c_str());
    bench.caps(kRgb64);
    fail_unless(gst_harness_push(bench.h, picture(bench.info)) == GST_FLOW_ERROR);
    assert_error(bench, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "Put da3infer before da3extract");
  }
}
GST_END_TEST;

GST_START_TEST(test_no_sky_names_the_models_that_have_it) {
  Bench bench("da3extract plane=sky");
  bench.caps(kRgb64);
  fail_unless(gst_harness_push(bench.h, depth_frame(bench, FloatMap(28, 14, 1))) == GST_FLOW_ERROR);
  assert_error(bench, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
               "(da3-small) gives no sky mask: only da3mono-large");
}
GST_END_TEST;

GST_START_TEST(test_no_confidence_names_the_models_that_have_it) {
  Bench bench("da3extract plane=confidence");
  bench.caps(kRgb64);
  GstDa3View view = example_view(64, 48);
  g_strlcpy(view.model, "da3mono-large", sizeof view.model);
  fail_unless(gst_harness_push(bench.h, depth_frame(bench, FloatMap(28, 14, 1), 0, &view)) == GST_FLOW_ERROR);
  assert_error(bench, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
               "(da3mono-large) gives no confidence: da3-small");
}
GST_END_TEST;

GST_START_TEST(test_depth_that_ends_is_an_error_after_what_was_sent) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  extract(bench, depth_frame(bench, FloatMap(28, 14, 1)));
  GstDa3View view = example_view(64, 48);
  GstBuffer* in = picture(bench.info);
  gst_buffer_add_da3_view(in, &view);
  fail_unless(gst_harness_push(bench.h, in) == GST_FLOW_ERROR);
  assert_error(bench, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "without a depth map");
}
GST_END_TEST;

GST_START_TEST(test_depth_without_a_view_is_relative) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  GstBuffer* in = picture(bench.info);
  attach(in, GST_DA3_TENSOR_DEPTH, FloatMap(28, 14, 2));
  assert_equal(extract(bench, in), std::vector<int>(28 * 14, 2000));
  assert_caps_has(bench.h, "depth-unit=(string)relative");
}
GST_END_TEST;

GST_START_TEST(test_tensor_of_another_shape) {
  const gsize shapes[][4] = {{2, 4, 4, 0}, {1, 2, 16, 1}, {32, 1, 1, 0}};
  for (const auto& dims : shapes) {
    Bench bench("da3extract");
    bench.caps(kRgb64);
    GstBuffer* in = picture(bench.info);
    gst_buffer_add_da3_tensor(in, GST_DA3_TENSOR_DEPTH, gst_buffer_new_allocate(nullptr, 128, nullptr),
                              dims[3] ? 4 : 3, dims);
    fail_unless(gst_harness_push(bench.h, in) == GST_FLOW_ERROR);
    assert_error(bench, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "[1, height, width]");
  }
}
GST_END_TEST;

GST_START_TEST(test_frame_before_caps) {
  Bench bench("da3extract");
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_harness_push_event(bench.h, gst_event_new_stream_start("x"));
  gst_harness_push_event(bench.h, gst_event_new_segment(&segment));
  fail_unless(gst_pad_push(bench.h->srcpad, gst_buffer_new()) == GST_FLOW_ERROR);
  assert_error(bench, GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, "before the caps");
}
GST_END_TEST;

GST_START_TEST(test_downstream_wants_another_format) {
  Bench bench("da3extract");
  gst_harness_set_sink_caps_str(bench.h, "video/x-raw,format=GRAY8");
  bench.caps(kRgb64);
  fail_unless(gst_harness_push(bench.h, depth_frame(bench, FloatMap(28, 14, 1))) == GST_FLOW_ERROR);
  assert_error(bench, GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, "GRAY8");
}
GST_END_TEST;

GST_START_TEST(test_downstream_wants_metres) {
  // A recorder that insists on metres is not fed relative depth.
  Bench bench("da3extract");
  gst_harness_set_sink_caps_str(bench.h, "video/x-raw,format=GRAY16_LE,depth-unit=metre");
  bench.caps(kRgb64);
  fail_unless(gst_harness_push(bench.h, depth_frame(bench, FloatMap(28, 14, 1))) == GST_FLOW_ERROR);
  assert_error(bench, GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, "depth-unit=(string)relative");
}
GST_END_TEST;

GST_START_TEST(test_picture_in_any_memory) {
  Bench bench("da3extract");
  gst_harness_set_src_caps_str(
      bench.h, "video/x-raw(memory:CUDAMemory),format=NV12,width=64,height=48,framerate=30/1");
  bench.info = video_info(kRgb64);
  // The picture is not looked at: it may have no memory at all.
  GstBuffer* in = gst_buffer_new();
  attach(in, GST_DA3_TENSOR_DEPTH, FloatMap(28, 14, 2));
  assert_equal(extract(bench, in), std::vector<int>(28 * 14, 2000));
}
GST_END_TEST;

static Suite* da3extract_faults_suite(void) {
  Suite* suite = suite_create("da3extract-faults");
  TCase* tc = tcase_create("all");
  tcase_set_timeout(tc, 120);
  suite_add_tcase(suite, tc);
  tcase_add_test(tc, test_saturation_of_one_percent_is_silent);
  tcase_add_test(tc, test_saturation_warns_at_most_every_ten_seconds);
  tcase_add_test(tc, test_saturation_without_time_warns_once);
  tcase_add_test(tc, test_the_scale_that_the_warning_names_is_enough);
  tcase_add_test(tc, test_values_below_the_range_warn_too);
  tcase_add_test(tc, test_invalid_pixels_are_no_saturation);
  tcase_add_test(tc, test_no_depth_names_the_missing_element);
  tcase_add_test(tc, test_no_sky_names_the_models_that_have_it);
  tcase_add_test(tc, test_no_confidence_names_the_models_that_have_it);
  tcase_add_test(tc, test_depth_that_ends_is_an_error_after_what_was_sent);
  tcase_add_test(tc, test_depth_without_a_view_is_relative);
  tcase_add_test(tc, test_tensor_of_another_shape);
  tcase_add_test(tc, test_frame_before_caps);
  tcase_add_test(tc, test_downstream_wants_another_format);
  tcase_add_test(tc, test_downstream_wants_metres);
  tcase_add_test(tc, test_picture_in_any_memory);
  return suite;
}

GST_CHECK_MAIN(da3extract_faults)
