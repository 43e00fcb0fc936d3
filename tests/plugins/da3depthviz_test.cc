// SPDX-License-Identifier: MIT
//
// The colours of da3depthviz: upstream's bytes, maps and modes, odd depth, the range over time and a fixed
// one.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "viz_images.h"

using namespace da3::testing;

namespace {

// Left half near, right half far.
FloatMap two_halves(int w, int h, float near, float far) {
  FloatMap map(w, h, near);
  for (int y = 0; y < h; ++y)
    for (int x = w / 2; x < w; ++x) map.at(x, y) = far;
  return map;
}

}  // namespace

// --- the colours of upstream
// ----------------------------------------------------------------------------------------

GST_START_TEST(test_upstream_bytes) {
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    const FloatMap depth = noisy_map(42, 28, 0.2f, 9, seed);
    assert_entries(show_once(kPlain, depth), upstream_entries(depth), color_table(Colormap::spectral));
  }
}
GST_END_TEST;

GST_START_TEST(test_upstream_bytes_with_invalid_depth) {
  FloatMap depth = noisy_map(42, 28, -1, 4);
  for (size_t i = 0; i < depth.values.size(); i += 5) depth.values[i] = 0;
  assert_entries(show_once(kPlain, depth), upstream_entries(depth), color_table(Colormap::spectral));
}
GST_END_TEST;

GST_START_TEST(test_upstream_bytes_of_ten_valid_pixels) {
  // Ten are too few for a range, eleven are enough.
  for (int valid : {10, 11}) {
    FloatMap depth(14, 14, -1);
    for (int i = 0; i < valid; ++i) depth.values[i * 3] = 1 + float(i);
    assert_entries(show_once(kPlain, depth), upstream_entries(depth), color_table(Colormap::spectral));
  }
}
GST_END_TEST;

GST_START_TEST(test_source_size_equals_model_size_where_they_agree) {
  const FloatMap depth = noisy_map(64, 48, 0.5f, 5);
  fail_unless(show_once(kPlain, depth) == show_once(kPlainSource, depth));
}
GST_END_TEST;

GST_START_TEST(test_every_output_format_has_the_same_colours) {
  const FloatMap depth = noisy_map(15, 11, 0.5f, 5);
  const char* caps = "video/x-raw,format=I420,width=15,height=11,framerate=30/1";
  const auto entries = upstream_entries(depth);
  for (const char* format : {"RGB", "BGR", "RGBx", "BGRx", "xRGB", "xBGR", "RGBA", "BGRA", "ARGB", "ABGR"}) {
    Bench bench("da3depthviz smoothing=0 legend=false");
    gst_harness_set_sink_caps_str(bench.h, (std::string("video/x-raw,format=") + format).c_str());
    bench.caps(caps);
    assert_entries(show(bench, frame(bench, depth)), entries, color_table(Colormap::spectral));
  }
}
GST_END_TEST;

GST_START_TEST(test_alpha_is_opaque) {
  for (const char* layout : {"depth", "side-by-side", "overlay"}) {
    for (bool with_depth : {true, false}) {
      Bench bench((std::string("da3depthviz layout=") + layout).c_str());
      gst_harness_set_sink_caps_str(bench.h, "video/x-raw,format=RGBA");
      bench.caps("video/x-raw,format=NV12,width=160,height=120,framerate=30/1");
      GstBuffer* in = with_depth ? frame(bench, ramp(28, 14, 1, 5)) : picture(bench.info);
      GstBuffer* out = gst_harness_push_and_pull(bench.h, in);
      const auto bytes = bytes_of(out);
      for (size_t i = 3; i < bytes.size(); i += 4)
        fail_unless(bytes[i] == 255, "%s, pixel %d", layout, int(i / 4));
      gst_buffer_unref(out);
    }
  }
}
GST_END_TEST;

// --- colour maps, mode and invert
// -----------------------------------------------------------------------------------

GST_START_TEST(test_near_is_warm_in_every_map_and_mode) {
  const FloatMap depth = two_halves(64, 48, 1, 8);
  const std::pair<const char*, Colormap> maps[] = {{"spectral", Colormap::spectral},
                                                   {"turbo", Colormap::turbo},
                                                   {"inferno", Colormap::inferno},
                                                   {"viridis", Colormap::viridis},
                                                   {"gray", Colormap::gray}};
  for (const auto& [name, map] : maps) {
    for (const char* mode : {"disparity", "depth"}) {
      const Image image =
          show_once((std::string(kPlain) + " colormap=" + name + " mode=" + mode).c_str(), depth);
      const bool last = map != Colormap::spectral;
      fail_unless(image.at(0, 0) == color_table(map)[last ? 255 : 0], "%s %s", name, mode);
      fail_unless(image.at(63, 0) == color_table(map)[last ? 0 : 255], "%s %s", name, mode);
    }
  }
}
GST_END_TEST;

GST_START_TEST(test_invert_sets_the_end_by_hand) {
  const FloatMap depth = two_halves(64, 48, 1, 8);
  const ColorTable& gray = color_table(Colormap::gray);
  const auto near_of = [&](const char* more) {
    return show_once((std::string(kPlain) + " colormap=gray " + more).c_str(), depth).at(0, 0);
  };
  fail_unless(near_of("mode=depth invert=no") == gray[0]);
  fail_unless(near_of("mode=depth invert=yes") == gray[255]);
  fail_unless(near_of("mode=disparity invert=no") == gray[255]);
  fail_unless(near_of("mode=disparity invert=yes") == gray[0]);
}
GST_END_TEST;

GST_START_TEST(test_mode_depth_is_linear_in_depth) {
  FloatMap depth = two_halves(64, 48, 1, 9);
  depth.at(10, 10) = 3;
  const auto value = [&](const char* mode) {
    return int(show_once((std::string(kPlain) + " colormap=gray invert=no mode=" + mode).c_str(), depth)
                   .at(10, 10)
                   .r);
  };
  fail_unless_equals_int(value("depth"), 64);                   // (3 - 1) / (9 - 1)
  fail_unless_equals_int(value("disparity"), int(256 * 0.25));  // (1/3 - 1/9) / (1 - 1/9)
}
GST_END_TEST;

GST_START_TEST(test_percentiles_cut_the_range) {
  // 0 .. 100 in even steps: the quarter points become the ends.
  FloatMap depth(101, 1);
  for (int i = 0; i <= 100; ++i) depth.values[i] = 1 + float(i);
  const Image image = show_once(
      "da3depthviz smoothing=0 legend=false output-size=model mode=depth invert=no colormap=gray "
      "percentile-low=25 "
      "percentile-high=75",
      depth);
  fail_unless_equals_int(image.at(25, 0).r, 0);
  fail_unless_equals_int(image.at(24, 0).r, 0);
  fail_unless_equals_int(image.at(50, 0).r, 128);
  fail_unless_equals_int(image.at(75, 0).r, 255);
  fail_unless_equals_int(image.at(100, 0).r, 255);
}
GST_END_TEST;

GST_START_TEST(test_statistics_of_the_view_give_the_same_colours) {
  const FloatMap depth = noisy_map(42, 28, 0.5f, 5);
  GstDa3View view = example_view(64, 48);
  std::vector<double> values(depth.values.begin(), depth.values.end());
  view.depth.p2 = numpy_percentile(values, 2);
  view.depth.p98 = numpy_percentile(values, 98);
  view.depth.valid_fraction = 1;
  const std::string launch = std::string(kPlain) + " mode=depth";
  Bench bench(launch.c_str());
  bench.caps(kRgb64);
  fail_unless(show(bench, frame(bench, depth, 0, &view)) == show_once(launch.c_str(), depth));
}
GST_END_TEST;

GST_START_TEST(test_broken_statistics_are_not_used) {
  const FloatMap depth = noisy_map(42, 28, 0.5f, 5);
  for (int kind = 0; kind < 4; ++kind) {
    GstDa3View view = example_view(64, 48);
    view.depth.valid_fraction = kind == 3 ? 0 : 1;
    view.depth.p2 = kind == 0 ? kNan : kind == 1 ? 4 : 1;
    view.depth.p98 = kind == 1 ? 2 : kind == 2 ? double(kInf) : 3;
    const std::string launch = "da3depthviz legend=false mode=depth";
    Bench bench(launch.c_str());
    bench.caps(kRgb64);
    fail_unless(show(bench, frame(bench, depth, 0, &view)) == show_once(launch.c_str(), depth), "%d", kind);
  }
}
GST_END_TEST;

// --- odd depth
// ------------------------------------------------------------------------------------------------------

GST_START_TEST(test_invalid_depth_is_far) {
  FloatMap depth = two_halves(64, 48, 1, 8);
  const float bad[] = {0, -1, kNan, kInf, -kInf, -0.0f};
  for (int i = 0; i < 6; ++i) depth.at(i, 3) = bad[i];
  for (const char* mode : {"disparity", "depth"}) {
    const Image image = show_once((std::string(kPlain) + " mode=" + mode).c_str(), depth);
    for (int i = 0; i < 6; ++i)
      fail_unless(image.at(i, 3) == color_table(Colormap::spectral)[255], "%s %d", mode, i);
    fail_unless(image.at(6, 3) == color_table(Colormap::spectral)[0]);
  }
}
GST_END_TEST;

GST_START_TEST(test_all_invalid) {
  for (float value : {0.0f, -3.0f, kNan, kInf})
    assert_all(show_once("da3depthviz", FloatMap(28, 14, value)), color_table(Colormap::spectral)[255]);
}
GST_END_TEST;

GST_START_TEST(test_constant_depth) {
  for (float value : {2e-38f, 1e-3f, 1.0f, 7.5f, 1e6f, 3e38f}) {
    const Image image = show_once(kPlainSource, FloatMap(28, 14, value));
    assert_all(image, image.at(0, 0));
    show_once("da3depthviz", FloatMap(280, 140, value),
              "video/x-raw,format=RGB,width=320,height=240,framerate=30/1");
  }
}
GST_END_TEST;

GST_START_TEST(test_extreme_depths_together) {
  FloatMap depth = noisy_map(64, 48, 0.5f, 5);
  depth.at(0, 0) = std::numeric_limits<float>::min();
  depth.at(1, 0) = std::numeric_limits<float>::max();
  for (const char* mode : {"disparity", "depth"}) {
    const Image image = show_once((std::string(kPlain) + " mode=" + mode).c_str(), depth);
    fail_unless(image.at(0, 0) == color_table(Colormap::spectral)[0]);
    fail_unless(image.at(1, 0) == color_table(Colormap::spectral)[255]);
  }
}
GST_END_TEST;

GST_START_TEST(test_single_pixels) {
  const char* one = "video/x-raw,format=RGB,width=1,height=1,framerate=30/1";
  for (const char* launch : {"da3depthviz", "da3depthviz layout=side-by-side", "da3depthviz layout=overlay",
                             "da3depthviz output-size=model", "da3depthviz mode=depth"}) {
    for (float value : {2.0f, 0.0f, kNan}) {
      show_once(launch, FloatMap(1, 1, value), one);
      show_once(launch, FloatMap(1, 1, value));
      show_once(launch, FloatMap(64, 48, value), one);
      show_once(launch, FloatMap(1, 48, value));
      show_once(launch, FloatMap(64, 1, value));
    }
  }
}
GST_END_TEST;

GST_START_TEST(test_a_map_larger_than_the_picture_is_averaged) {
  // Stripes of one pixel: sampling alone would show only one of them.
  FloatMap depth(640, 480, 1);
  for (int y = 0; y < 480; ++y)
    for (int x = 0; x < 640; x += 2) depth.at(x, y) = 3;
  const Image image =
      show_once("da3depthviz smoothing=0 legend=false mode=depth invert=no colormap=gray", depth);
  for (const Rgb& pixel : image.pixels) fail_unless(pixel.r > 110 && pixel.r < 145, "%d", pixel.r);
}
GST_END_TEST;

GST_START_TEST(test_upsampling_is_smooth_and_centred) {
  const FloatMap depth = ramp(16, 12, 1, 5);
  const Image image = show_once(
      "da3depthviz smoothing=0 legend=false mode=depth invert=no colormap=gray min-depth=1 max-depth=5",
      depth);
  for (int x = 0; x < 64; ++x) {
    // Pixel centres: 64 pixels over 16 values.
    const double at = std::clamp((x + 0.5) / 4 - 0.5, 0.0, 15.0);
    fail_unless(std::abs(image.at(x, 20).r - at / 15 * 255.5) <= 1, "%d", x);
  }
}
GST_END_TEST;

// --- range over time
// ------------------------------------------------------------------------------------------------

// Values of depth 1 .. 11 and 1 .. 15: ranges that overlap enough to be one scene.
const char* kSmooth =
    "da3depthviz legend=false output-size=model mode=depth invert=no colormap=gray smoothing=400000000";

Image after_step(int frames_per_second) {
  Bench bench(kSmooth);
  bench.caps(kRgb64);
  show(bench, frame(bench, ramp(64, 48, 1, 11), 0));
  Image last;
  for (int i = 1; i <= frames_per_second / 5; ++i)
    last = show(bench,
                frame(bench, ramp(64, 48, 1, 15), gst_util_uint64_scale(i, GST_SECOND, frames_per_second)));
  return last;
}

GST_START_TEST(test_smoothing_does_not_depend_on_the_frame_rate) {
  const Image slow = after_step(10), fast = after_step(60);
  for (size_t i = 0; i < slow.pixels.size(); ++i)
    fail_unless(std::abs(slow.pixels[i].r - fast.pixels[i].r) <= 1);
}
GST_END_TEST;

GST_START_TEST(test_smoothing_follows_an_exponential) {
  const Image image = after_step(10);
  // After 200 ms of 400 ms, 1 - exp(-0.5) of the way. p98 of the ramps: 1 + 0.98 x width, by linear
  // interpolation.
  std::vector<double> a, b;
  for (int x = 0; x < 64; ++x)
    for (int y = 0; y < 48; ++y) {
      a.push_back(ramp(64, 48, 1, 11).at(x, y));
      b.push_back(ramp(64, 48, 1, 15).at(x, y));
    }
  const double share = 1 - std::exp(-0.5);
  const double lo = numpy_percentile(a, 2) + share * (numpy_percentile(b, 2) - numpy_percentile(a, 2));
  const double hi = numpy_percentile(a, 98) + share * (numpy_percentile(b, 98) - numpy_percentile(a, 98));
  for (int x = 0; x < 64; ++x) {
    const double v = std::clamp((ramp(64, 48, 1, 15).at(x, 0) - lo) / (hi - lo), 0.0, 1.0);
    fail_unless(std::abs(image.at(x, 0).r - std::min(255.0, std::floor(256 * v))) <= 1, "%d", x);
  }
}
GST_END_TEST;

GST_START_TEST(test_no_smoothing_is_each_frame_on_its_own) {
  Bench bench(kPlain);
  bench.caps(kRgb64);
  for (int i = 0; i < 5; ++i) {
    const FloatMap depth = noisy_map(42, 28, 1, 3 + float(i), 7 + i);
    assert_entries(show(bench, frame(bench, depth, i * GST_SECOND / 30)), upstream_entries(depth),
                   color_table(Colormap::spectral));
  }
}
GST_END_TEST;

GST_START_TEST(test_a_cut_starts_afresh) {
  const Image fresh = show_once(kSmooth, ramp(64, 48, 50, 90));
  Bench bench(kSmooth);
  bench.caps(kRgb64);
  for (int i = 0; i < 5; ++i) show(bench, frame(bench, ramp(64, 48, 1, 11), i * GST_SECOND / 30));
  fail_unless(show(bench, frame(bench, ramp(64, 48, 50, 90), 5 * GST_SECOND / 30)) == fresh);
}
GST_END_TEST;

GST_START_TEST(test_flush_and_going_back_start_afresh) {
  const Image fresh = show_once(kSmooth, ramp(64, 48, 1, 15));
  Bench bench(kSmooth);
  bench.caps(kRgb64);
  show(bench, frame(bench, ramp(64, 48, 1, 11), GST_SECOND));
  fail_if(show(bench, frame(bench, ramp(64, 48, 1, 15), GST_SECOND + GST_SECOND / 30)) == fresh);
  fail_unless(show(bench, frame(bench, ramp(64, 48, 1, 15), 0)) == fresh, "time went back");
  show(bench, frame(bench, ramp(64, 48, 1, 11), GST_SECOND / 30));
  gst_harness_push_event(bench.h, gst_event_new_flush_start());
  gst_harness_push_event(bench.h, gst_event_new_flush_stop(TRUE));
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_harness_push_event(bench.h, gst_event_new_segment(&segment));
  fail_unless(show(bench, frame(bench, ramp(64, 48, 1, 15), GST_SECOND)) == fresh, "flush");
}
GST_END_TEST;

GST_START_TEST(test_change_of_kind_starts_afresh) {
  GstDa3View metric = example_view(64, 48, GST_DA3_DEPTH_KIND_METRIC);
  const Image fresh = show_once(kSmooth, ramp(64, 48, 1, 15));
  Bench bench(kSmooth);
  bench.caps(kRgb64);
  show(bench, frame(bench, ramp(64, 48, 1, 11), 0));
  fail_unless(show(bench, frame(bench, ramp(64, 48, 1, 15), GST_SECOND / 30, &metric)) == fresh);
}
GST_END_TEST;

GST_START_TEST(test_frames_without_time_are_smoothed_too) {
  const Image fresh = show_once(kSmooth, ramp(64, 48, 1, 15));
  Bench bench(kSmooth);
  bench.caps(kRgb64);
  show(bench, frame(bench, ramp(64, 48, 1, 11), GST_CLOCK_TIME_NONE));
  Image image;
  for (int i = 0; i < 300; ++i) {
    image = show(bench, frame(bench, ramp(64, 48, 1, 15), GST_CLOCK_TIME_NONE));
    if (i == 0) fail_if(image == fresh);
  }
  for (size_t i = 0; i < image.pixels.size(); ++i)
    fail_unless(std::abs(image.pixels[i].r - fresh.pixels[i].r) <= 1);
}
GST_END_TEST;

GST_START_TEST(test_a_frame_without_valid_depth_keeps_the_range) {
  Bench bench(kSmooth);
  bench.caps(kRgb64);
  const Image before = show(bench, frame(bench, ramp(64, 48, 1, 11), 0));
  show(bench, frame(bench, FloatMap(64, 48, kNan), GST_SECOND / 30));
  fail_unless(show(bench, frame(bench, ramp(64, 48, 1, 11), 2 * GST_SECOND / 30)) == before);
}
GST_END_TEST;

// --- fixed range
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(test_fixed_range) {
  const FloatMap depth = ramp(64, 48, 0.5f, 20);
  const Image image = show_once(
      "da3depthviz legend=false output-size=model mode=depth invert=no colormap=gray min-depth=2 "
      "max-depth=10",
      depth);
  for (int x = 0; x < 64; ++x) {
    const double v = std::clamp((double(depth.at(x, 0)) - 2) / 8, 0.0, 1.0);
    fail_unless_equals_int(image.at(x, 0).r, std::min(255, int(256 * v)));
  }
}
GST_END_TEST;

GST_START_TEST(test_fixed_range_is_in_metres) {
  // Units of half a metre: depth 10 is 5 m.
  GstDa3View view = example_view(64, 48, GST_DA3_DEPTH_KIND_METRIC);
  view.unit_scale = 0.5;
  Bench bench("da3depthviz legend=false mode=depth invert=no colormap=gray min-depth=1 max-depth=9");
  bench.caps(kRgb64);
  fail_unless_equals_int(show(bench, frame(bench, FloatMap(28, 14, 10), 0, &view)).at(3, 3).r, 128);
}
GST_END_TEST;

GST_START_TEST(test_one_fixed_end) {
  const FloatMap depth = ramp(64, 48, 1, 5);
  for (const char* mode : {"depth", "disparity"}) {
    const std::string base =
        std::string("da3depthviz smoothing=0 legend=false output-size=model invert=no colormap=gray mode=") +
        mode;
    const Image far = show_once((base + " max-depth=100").c_str(), depth);
    fail_unless(far.pixels != show_once(base.c_str(), depth).pixels);
    // The fixed end lies behind the whole scene: everything is at the other end, nothing breaks.
    show_once((base + " min-depth=50").c_str(), depth);
    show_once((base + " max-depth=0.01").c_str(), depth);
    show_once((base + " min-depth=3").c_str(), FloatMap(28, 14, kNan));
  }
}
GST_END_TEST;

GST_START_TEST(test_contradicting_range_fails_to_start) {
  const std::pair<const char*, const char*> cases[] = {
      {"da3depthviz min-depth=5 max-depth=2", "min-depth"},
      {"da3depthviz min-depth=5 max-depth=5", "max-depth"},
      {"da3depthviz percentile-low=60 percentile-high=40", "percentile-low"}};
  for (const auto& [launch, part] : cases) {
    GstElement* element = gst_parse_launch(launch, nullptr);
    GstBus* bus = gst_bus_new();
    gst_element_set_bus(element, bus);
    fail_unless(gst_element_set_state(element, GST_STATE_PAUSED) == GST_STATE_CHANGE_FAILURE);
    const BusText error = parse(gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR));
    fail_unless(error.domain == GST_RESOURCE_ERROR && error.code == GST_RESOURCE_ERROR_SETTINGS);
    fail_unless(error.text.find(part) != std::string::npos, "%s", error.text.c_str());
    gst_element_set_state(element, GST_STATE_NULL);
    gst_element_set_bus(element, nullptr);
    gst_object_unref(bus);
    gst_object_unref(element);
  }
}
GST_END_TEST;

GST_START_TEST(test_contradicting_range_while_playing_keeps_the_old_one) {
  const FloatMap depth = ramp(64, 48, 1, 20);
  Bench bench("da3depthviz legend=false min-depth=2 max-depth=4");
  bench.caps(kRgb64);
  const Image before = show(bench, frame(bench, depth));
  GstElement* element = bench.element("da3depthviz");
  g_object_set(element, "min-depth", 8.0, nullptr);
  fail_unless(show(bench, frame(bench, depth)) == before);
  fail_unless(show(bench, frame(bench, depth)) == before);
  fail_unless_equals_int(count_warnings(bench), 1);
  g_object_set(element, "max-depth", 16.0, nullptr);
  fail_if(show(bench, frame(bench, depth)) == before);
  fail_unless_equals_int(count_warnings(bench), 0);
  gst_object_unref(element);
}
GST_END_TEST;

static Suite* da3depthviz_suite(void) {
  Suite* suite = suite_create("da3depthviz");
  TCase* tc = tcase_create("all");
  tcase_set_timeout(tc, 120);
  suite_add_tcase(suite, tc);
  tcase_add_test(tc, test_upstream_bytes);
  tcase_add_test(tc, test_upstream_bytes_with_invalid_depth);
  tcase_add_test(tc, test_upstream_bytes_of_ten_valid_pixels);
  tcase_add_test(tc, test_source_size_equals_model_size_where_they_agree);
  tcase_add_test(tc, test_every_output_format_has_the_same_colours);
  tcase_add_test(tc, test_alpha_is_opaque);
  tcase_add_test(tc, test_near_is_warm_in_every_map_and_mode);
  tcase_add_test(tc, test_invert_sets_the_end_by_hand);
  tcase_add_test(tc, test_mode_depth_is_linear_in_depth);
  tcase_add_test(tc, test_percentiles_cut_the_range);
  tcase_add_test(tc, test_statistics_of_the_view_give_the_same_colours);
  tcase_add_test(tc, test_broken_statistics_are_not_used);
  tcase_add_test(tc, test_invalid_depth_is_far);
  tcase_add_test(tc, test_all_invalid);
  tcase_add_test(tc, test_constant_depth);
  tcase_add_test(tc, test_extreme_depths_together);
  tcase_add_test(tc, test_single_pixels);
  tcase_add_test(tc, test_a_map_larger_than_the_picture_is_averaged);
  tcase_add_test(tc, test_upsampling_is_smooth_and_centred);
  tcase_add_test(tc, test_smoothing_does_not_depend_on_the_frame_rate);
  tcase_add_test(tc, test_smoothing_follows_an_exponential);
  tcase_add_test(tc, test_no_smoothing_is_each_frame_on_its_own);
  tcase_add_test(tc, test_a_cut_starts_afresh);
  tcase_add_test(tc, test_flush_and_going_back_start_afresh);
  tcase_add_test(tc, test_change_of_kind_starts_afresh);
  tcase_add_test(tc, test_frames_without_time_are_smoothed_too);
  tcase_add_test(tc, test_a_frame_without_valid_depth_keeps_the_range);
  tcase_add_test(tc, test_fixed_range);
  tcase_add_test(tc, test_fixed_range_is_in_metres);
  tcase_add_test(tc, test_one_fixed_end);
  tcase_add_test(tc, test_contradicting_range_fails_to_start);
  tcase_add_test(tc, test_contradicting_range_while_playing_keeps_the_old_one);
  return suite;
}

GST_CHECK_MAIN(da3depthviz)
