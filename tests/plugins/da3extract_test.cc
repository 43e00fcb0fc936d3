// SPDX-License-Identifier: MIT
//
// The samples of da3extract: every plane, scale and offset, at the size of the model and of the picture.
#include <algorithm>
#include <cmath>
#include <utility>

#include "extract_samples.h"

using namespace da3::testing;

namespace {

std::vector<int> extract_once(const char* launch, const char* id, const FloatMap& map,
                              const GstDa3View* view = nullptr) {
  Bench bench(launch);
  bench.caps(kRgb64);
  return extract(bench, frame(bench, id, map, 0, view));
}

// One row of values.
FloatMap row(std::vector<float> values) {
  FloatMap map(int(values.size()), 1);
  map.values = std::move(values);
  return map;
}

// The rule in the plainest words.
int sample_for(double value, double scale, double offset = 0) {
  if (std::isnan(value)) return 0;
  const double steps = std::floor((value - offset) / scale + 0.5);
  return steps > 65534 ? 65535 : steps < 1 ? 1 : int(steps);
}

}  // namespace

// --- samples
// --------------------------------------------------------------------------------------------------------

GST_START_TEST(test_depth_is_linear) {
  const FloatMap depth = noisy_map(42, 28, 0.01f, 60);
  std::vector<int> want;
  for (float d : depth.values) want.push_back(sample_for(d, 0.001));
  assert_equal(extract_once("da3extract", GST_DA3_TENSOR_DEPTH, depth), want);
}
GST_END_TEST;

GST_START_TEST(test_depth_saturates_and_never_wraps) {
  const FloatMap depth = row({65.533f, 65.534f, 65.5344f, 65.535f, 65.536f, 66, 131.072f, 1e6f, 3e38f, kInf});
  assert_equal(extract_once("da3extract", GST_DA3_TENSOR_DEPTH, depth),
               {65533, 65534, 65534, 65535, 65535, 65535, 65535, 65535, 65535, 65535});
}
GST_END_TEST;

GST_START_TEST(test_invalid_depth_is_zero_and_nothing_else_is) {
  const FloatMap depth = row({kNan, 0, -0.0f, -1, -kInf, 2e-38f, 0.0001f, 0.0004f, 0.0006f, 0.001f});
  assert_equal(extract_once("da3extract", GST_DA3_TENSOR_DEPTH, depth), {0, 0, 0, 0, 0, 1, 1, 1, 1, 1});
}
GST_END_TEST;

GST_START_TEST(test_all_invalid) {
  const auto samples = extract_once("da3extract", GST_DA3_TENSOR_DEPTH, FloatMap(28, 14, kNan));
  assert_equal(samples, std::vector<int>(28 * 14, 0));
}
GST_END_TEST;

GST_START_TEST(test_single_pixel) {
  assert_equal(extract_once("da3extract", GST_DA3_TENSOR_DEPTH, FloatMap(1, 1, 2)), {2000});
  assert_equal(extract_once("da3extract output-size=source", GST_DA3_TENSOR_DEPTH, FloatMap(1, 1, 2)),
               std::vector<int>(64 * 48, 2000));
}
GST_END_TEST;

GST_START_TEST(test_metric_depth_uses_its_unit) {
  GstDa3View view = example_view(64, 48, GST_DA3_DEPTH_KIND_METRIC);
  view.unit_scale = 2.5;
  assert_equal(extract_once("da3extract", GST_DA3_TENSOR_DEPTH, row({1, 4}), &view), {2500, 10000});
  assert_equal(extract_once("da3extract plane=disparity", GST_DA3_TENSOR_DEPTH, row({1, 4}), &view),
               {4000, 1000});
  // A relative map has no metres whatever the field says.
  view.kind = GST_DA3_DEPTH_KIND_RELATIVE;
  assert_equal(extract_once("da3extract", GST_DA3_TENSOR_DEPTH, row({1, 4}), &view), {1000, 4000});
}
GST_END_TEST;

GST_START_TEST(test_scale_and_offset) {
  const FloatMap depth = row({0.5f, 1, 1.25f, 2, 1000});
  assert_equal(extract_once("da3extract depth-scale=0.25 depth-offset=1", GST_DA3_TENSOR_DEPTH, depth),
               {1, 1, 1, 4, 3996});
  assert_equal(extract_once("da3extract depth-scale=0.5 depth-offset=-1", GST_DA3_TENSOR_DEPTH, depth),
               {3, 4, 5, 6, 2002});
}
GST_END_TEST;

GST_START_TEST(test_disparity_is_inverse) {
  const FloatMap depth = noisy_map(42, 28, 0.2f, 100);
  std::vector<int> want;
  for (float d : depth.values) want.push_back(sample_for(float(1 / double(d)), 0.0001));
  assert_equal(extract_once("da3extract plane=disparity", GST_DA3_TENSOR_DEPTH, depth), want);
}
GST_END_TEST;

GST_START_TEST(test_disparity_of_odd_depth) {
  // Infinitely far is the smallest measurement, not an invalid one.
  const FloatMap depth = row({kInf, 3e38f, kNan, 0, -2, 0.1f, 1e-3f, 2e-38f});
  assert_equal(extract_once("da3extract plane=disparity", GST_DA3_TENSOR_DEPTH, depth),
               {1, 1, 0, 0, 0, 65535, 65535, 65535});
}
GST_END_TEST;

GST_START_TEST(test_confidence) {
  const FloatMap confidence = row({1, 1.5f, 20, 65.534f, 100, kInf, kNan, 0});
  assert_equal(extract_once("da3extract plane=confidence", GST_DA3_TENSOR_CONFIDENCE, confidence),
               {1000, 1500, 20000, 65534, 65535, 65535, 0, 0});
}
GST_END_TEST;

GST_START_TEST(test_confidence_does_not_use_the_unit_of_depth) {
  GstDa3View view = example_view(64, 48, GST_DA3_DEPTH_KIND_METRIC);
  view.unit_scale = 7;
  assert_equal(extract_once("da3extract plane=confidence", GST_DA3_TENSOR_CONFIDENCE, row({2}), &view),
               {2000});
}
GST_END_TEST;

GST_START_TEST(test_sky_threshold) {
  const FloatMap sky = row({0, 0.29999f, std::nextafter(0.3f, 0.0f), 0.3f, 0.31f, 5, kInf, kNan, -1, -kInf});
  assert_equal(extract_once("da3extract plane=sky", GST_DA3_TENSOR_SKY, sky),
               {0, 0, 0, 255, 255, 255, 255, 0, 0, 0});
}
GST_END_TEST;

GST_START_TEST(test_rows_with_padding) {
  // Samples of 16 bit fill rows to multiples of 4 bytes; what is in between is zero.
  Bench bench("da3extract");
  bench.caps(kRgb64);
  for (int round = 0; round < 3; ++round) {
    GstBuffer* out = gst_harness_push_and_pull(bench.h, depth_frame(bench, FloatMap(5, 3, 1)));
    const auto bytes = bytes_of(out);
    fail_unless_equals_int(int(bytes.size()), 36);
    for (int y = 0; y < 3; ++y) fail_unless(bytes[y * 12 + 10] == 0 && bytes[y * 12 + 11] == 0);
    assert_equal(samples_of(bench.h, out), std::vector<int>(15, 1000));
    gst_buffer_unref(out);
  }
}
GST_END_TEST;

// --- at the size of the picture
// -------------------------------------------------------------------------------------

GST_START_TEST(test_source_size_is_bilinear) {
  const FloatMap depth = noisy_map(16, 12, 1, 30);
  const auto samples = extract_once("da3extract output-size=source", GST_DA3_TENSOR_DEPTH, depth);
  for (int y = 0; y < 48; ++y)
    for (int x = 0; x < 64; ++x) {
      const double sx = std::clamp((x + 0.5) / 4 - 0.5, 0.0, 15.0),
                   sy = std::clamp((y + 0.5) / 4 - 0.5, 0.0, 11.0);
      const int x0 = int(sx), y0 = int(sy), x1 = std::min(x0 + 1, 15), y1 = std::min(y0 + 1, 11);
      const double wx = sx - x0, wy = sy - y0;
      const double value = (depth.at(x0, y0) * (1 - wx) + depth.at(x1, y0) * wx) * (1 - wy) +
                           (depth.at(x0, y1) * (1 - wx) + depth.at(x1, y1) * wx) * wy;
      fail_unless(std::abs(samples[y * 64 + x] - value * 1000) < 0.51, "%d %d", x, y);
    }
}
GST_END_TEST;

GST_START_TEST(test_source_size_of_a_map_of_that_size) {
  const FloatMap depth = noisy_map(64, 48, -1, 70);
  assert_equal(extract_once("da3extract output-size=source", GST_DA3_TENSOR_DEPTH, depth),
               extract_once("da3extract", GST_DA3_TENSOR_DEPTH, depth));
}
GST_END_TEST;

GST_START_TEST(test_source_size_places_the_region) {
  GstDa3View view = example_view(64, 48);
  view.depth_x = 8;
  view.depth_y = 4;
  view.depth_w = 48;
  view.depth_h = 40;
  const auto samples =
      extract_once("da3extract output-size=source", GST_DA3_TENSOR_DEPTH, FloatMap(24, 20, 3), &view);
  for (int y = 0; y < 48; ++y)
    for (int x = 0; x < 64; ++x) {
      const bool inside = x >= 8 && x < 56 && y >= 4 && y < 44;
      fail_unless_equals_int(samples[y * 64 + x], inside ? 3000 : 0);
    }
}
GST_END_TEST;

GST_START_TEST(test_outside_of_a_moving_region_nothing_stays) {
  Bench bench("da3extract output-size=source");
  bench.caps(kRgb64);
  for (int i = 0; i < 8; ++i) {
    GstDa3View view = example_view(64, 48);
    view.depth_x = i * 8;
    view.depth_w = 8;
    const auto samples = extract(bench, depth_frame(bench, FloatMap(4, 24, 2), i * GST_SECOND / 30, &view));
    for (int k = 0; k < 64 * 48; ++k) fail_unless_equals_int(samples[k], k % 64 / 8 == i ? 2000 : 0);
  }
}
GST_END_TEST;

GST_START_TEST(test_source_size_with_invalid_neighbours) {
  // 4 pixels become 64: 16 each. The second is invalid; it does not pull its neighbours down, nor do they
  // fill it.
  FloatMap depth = row({2, kNan, 4, kInf});
  const auto samples = extract_once("da3extract output-size=source", GST_DA3_TENSOR_DEPTH, depth);
  for (int x = 0; x < 16; ++x) fail_unless_equals_int(samples[x], 2000);
  for (int x = 16; x < 32; ++x) fail_unless_equals_int(samples[x], 0);
  for (int x = 32; x < 40; ++x) fail_unless_equals_int(samples[x], 4000);
  for (int x = 56; x < 64; ++x) fail_unless_equals_int(samples[x], 65535);
}
GST_END_TEST;

GST_START_TEST(test_source_size_of_disparity_mixes_disparity) {
  Bench bench("da3extract plane=disparity output-size=source");
  bench.caps("video/x-raw,format=GRAY8,width=3,height=1,framerate=30/1");
  // The middle of 1 and 1/4, not the inverse of the middle of 1 and 4.
  assert_equal(extract(bench, depth_frame(bench, row({1, 4}))), {10000, 6250, 2500});
}
GST_END_TEST;

GST_START_TEST(test_source_size_of_sky_stays_binary) {
  FloatMap sky = noisy_map(16, 12, 0, 0.6f);
  const auto samples = extract_once("da3extract plane=sky output-size=source", GST_DA3_TENSOR_SKY, sky);
  for (int y = 0; y < 48; ++y)
    for (int x = 0; x < 64; ++x)
      fail_unless_equals_int(samples[y * 64 + x], sky.at(x / 4, y / 4) >= 0.3f ? 255 : 0);
}
GST_END_TEST;

GST_START_TEST(test_nonsense_regions_do_no_harm) {
  const double regions[][4] = {{-50, -50, 20, 20},     {1000, 0, 10, 10},     {-1e9, -1e9, 2e9, 2e9},
                               {0, 0, -5, 10},         {kNan, 0, 10, 10},     {0, 0, kInf, 10},
                               {3.2, 4.7, 1e-9, 1e-9}, {10, 10, 1e300, 1e300}};
  for (const auto& r : regions)
    for (const char* plane : {"depth", "sky"}) {
      GstDa3View view = example_view(64, 48);
      view.depth_x = r[0];
      view.depth_y = r[1];
      view.depth_w = r[2];
      view.depth_h = r[3];
      const std::string launch = std::string("da3extract output-size=source plane=") + plane;
      const char* id = plane[0] == 's' ? GST_DA3_TENSOR_SKY : GST_DA3_TENSOR_DEPTH;
      fail_unless_equals_int(int(extract_once(launch.c_str(), id, noisy_map(28, 14, 0, 5), &view).size()),
                             64 * 48);
    }
}
GST_END_TEST;

GST_START_TEST(test_picture_smaller_than_the_map) {
  const FloatMap depth(640, 480, 5);
  assert_equal(extract_once("da3extract output-size=source", GST_DA3_TENSOR_DEPTH, depth),
               std::vector<int>(64 * 48, 5000));
}
GST_END_TEST;

static Suite* da3extract_suite(void) {
  Suite* suite = suite_create("da3extract");
  TCase* tc = tcase_create("all");
  tcase_set_timeout(tc, 120);
  suite_add_tcase(suite, tc);
  tcase_add_test(tc, test_depth_is_linear);
  tcase_add_test(tc, test_depth_saturates_and_never_wraps);
  tcase_add_test(tc, test_invalid_depth_is_zero_and_nothing_else_is);
  tcase_add_test(tc, test_all_invalid);
  tcase_add_test(tc, test_single_pixel);
  tcase_add_test(tc, test_metric_depth_uses_its_unit);
  tcase_add_test(tc, test_scale_and_offset);
  tcase_add_test(tc, test_disparity_is_inverse);
  tcase_add_test(tc, test_disparity_of_odd_depth);
  tcase_add_test(tc, test_confidence);
  tcase_add_test(tc, test_confidence_does_not_use_the_unit_of_depth);
  tcase_add_test(tc, test_sky_threshold);
  tcase_add_test(tc, test_rows_with_padding);
  tcase_add_test(tc, test_source_size_is_bilinear);
  tcase_add_test(tc, test_source_size_of_a_map_of_that_size);
  tcase_add_test(tc, test_source_size_places_the_region);
  tcase_add_test(tc, test_outside_of_a_moving_region_nothing_stays);
  tcase_add_test(tc, test_source_size_with_invalid_neighbours);
  tcase_add_test(tc, test_source_size_of_disparity_mixes_disparity);
  tcase_add_test(tc, test_source_size_of_sky_stays_binary);
  tcase_add_test(tc, test_nonsense_regions_do_no_harm);
  tcase_add_test(tc, test_picture_smaller_than_the_map);
  return suite;
}

GST_CHECK_MAIN(da3extract)
