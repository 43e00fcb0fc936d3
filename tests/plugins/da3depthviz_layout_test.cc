// SPDX-License-Identifier: MIT
//
// Where da3depthviz draws what: layouts, the part with depth, frames without depth, the legend.
#include <cmath>
#include <cstring>

#include "viz_images.h"

using namespace da3::testing;

namespace {

// The RGB picture that picture() makes.
Image source_image(const GstVideoInfo& info) {
  GstBuffer* buffer = picture(info);
  const std::vector<uint8_t> bytes = bytes_of(buffer);
  gst_buffer_unref(buffer);
  Image image{info.width, info.height, {}};
  for (int y = 0; y < info.height; ++y)
    for (int x = 0; x < info.width; ++x) {
      const uint8_t* p = &bytes[y * GST_VIDEO_INFO_PLANE_STRIDE(&info, 0) + x * 3];
      image.pixels.push_back({p[0], p[1], p[2]});
    }
  return image;
}

Image part(const Image& image, int x0, int width) {
  Image out{width, image.height, {}};
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < width; ++x) out.pixels.push_back(image.at(x0 + x, y));
  return out;
}

}  // namespace

// --- layouts
// --------------------------------------------------------------------------------------------------------

GST_START_TEST(test_side_by_side) {
  const FloatMap depth = noisy_map(64, 48, 0.5f, 5);
  Bench bench("da3depthviz layout=side-by-side smoothing=0 legend=false");
  gst_harness_set_sink_caps_str(bench.h, "video/x-raw,format=RGB");
  bench.caps(kRgb64);
  const Image image = show(bench, frame(bench, depth));
  fail_unless_equals_int(image.width, 128);
  fail_unless_equals_int(image.height, 48);
  fail_unless(part(image, 0, 64) == source_image(bench.info));
  assert_entries(part(image, 64, 64), upstream_entries(depth), color_table(Colormap::spectral));
}
GST_END_TEST;

GST_START_TEST(test_overlay_mixes) {
  const FloatMap depth = noisy_map(64, 48, 0.5f, 5);
  const Image colors = show_once(kPlainSource, depth);
  const Image source = source_image(video_info(kRgb64));
  const auto overlay = [&](const char* alpha) {
    return show_once(
        (std::string("da3depthviz layout=overlay smoothing=0 legend=false alpha=") + alpha).c_str(), depth);
  };
  fail_unless(overlay("0") == source);
  fail_unless(overlay("1") == colors);
  const Image half = overlay("0.5");
  for (size_t i = 0; i < half.pixels.size(); ++i) {
    fail_unless(std::abs(half.pixels[i].r - (source.pixels[i].r + colors.pixels[i].r) / 2) <= 1);
    fail_unless(std::abs(half.pixels[i].g - (source.pixels[i].g + colors.pixels[i].g) / 2) <= 1);
    fail_unless(std::abs(half.pixels[i].b - (source.pixels[i].b + colors.pixels[i].b) / 2) <= 1);
  }
}
GST_END_TEST;

GST_START_TEST(test_only_the_depth_region_is_coloured) {
  GstDa3View view = example_view(64, 48);
  view.depth_x = 8;
  view.depth_y = 4;
  view.depth_w = 48;
  view.depth_h = 40;
  const auto inside = [](int x, int y) { return x >= 8 && x < 56 && y >= 4 && y < 44; };
  const Image source = source_image(video_info(kRgb64));
  for (const char* layout : {"depth", "overlay"}) {
    Bench bench((std::string(kPlainSource) + " alpha=1 layout=" + layout).c_str());
    gst_harness_set_sink_caps_str(bench.h, "video/x-raw,format=RGB");
    bench.caps(kRgb64);
    const Image image = show(bench, frame(bench, FloatMap(24, 20, 2), 0, &view));
    const Rgb color = image.at(30, 20);
    for (int y = 0; y < 48; ++y)
      for (int x = 0; x < 64; ++x) {
        const Rgb outside = layout[0] == 'd' ? Rgb{} : source.at(x, y);
        fail_unless(image.at(x, y) == (inside(x, y) ? color : outside), "%s %d %d", layout, x, y);
      }
  }
}
GST_END_TEST;

GST_START_TEST(test_region_of_a_view_that_was_not_rescaled) {
  // The view still speaks of a picture of twice the size.
  GstDa3View view = example_view(128, 96);
  view.depth_x = 64;
  view.depth_w = 64;
  Bench bench("da3depthviz smoothing=0 legend=false");
  bench.caps(kRgb64);
  const Image image = show(bench, frame(bench, FloatMap(28, 28, 2), 0, &view));
  fail_unless(image.at(31, 20) == Rgb{});
  fail_unless(image.at(32, 20) != Rgb{});
}
GST_END_TEST;

GST_START_TEST(test_nonsense_regions_do_no_harm) {
  const double regions[][4] = {{0, 0, 0, 0},           {-50, -50, 20, 20},     {1000, 0, 10, 10},
                               {-1e9, -1e9, 2e9, 2e9}, {0, 0, -5, 10},         {kNan, 0, 10, 10},
                               {0, 0, kInf, 10},       {3.2, 4.7, 1e-9, 1e-9}, {10, 10, 1e300, 1e300}};
  for (const auto& r : regions) {
    GstDa3View view = example_view(64, 48);
    view.depth_x = r[0];
    view.depth_y = r[1];
    view.depth_w = r[2];
    view.depth_h = r[3];
    for (const char* launch :
         {"da3depthviz layout=overlay", "da3depthviz layout=side-by-side output-size=model"}) {
      Bench bench(launch);
      bench.caps(kRgb64);
      show(bench, frame(bench, ramp(28, 14, 1, 5), 0, &view));
    }
  }
}
GST_END_TEST;

GST_START_TEST(test_model_size_shows_the_part_with_depth) {
  // Left half of the picture is black, right half white, and only the right half has depth.
  GstDa3View view = example_view(64, 48);
  view.depth_x = 32;
  view.depth_w = 32;
  Bench bench("da3depthviz layout=side-by-side output-size=model legend=false");
  bench.caps(kRgb64);
  GstBuffer* in = frame(bench, FloatMap(16, 24, 2), 0, &view);
  GstMapInfo map;
  gst_buffer_map(in, &map, GST_MAP_WRITE);
  for (gsize i = 0; i < map.size; ++i) map.data[i] = i % 192 >= 96 ? 255 : 0;
  gst_buffer_unmap(in, &map);
  const Image image = show(bench, in);
  fail_unless_equals_int(image.width, 32);
  fail_unless_equals_int(image.height, 24);
  assert_all(part(image, 0, 16), {255, 255, 255});
}
GST_END_TEST;

GST_START_TEST(test_any_format_goes_in) {
  const char* formats[] = {"I420",      "NV12", "YUY2", "GRAY8", "GRAY16_LE",
                           "P010_10LE", "RGBA", "BGRx", "Y444",  "RGB16"};
  for (const char* format : formats) {
    for (const char* size : {"width=64,height=48", "width=33,height=17", "width=5,height=3"}) {
      for (const char* layout : {"side-by-side", "overlay"}) {
        Bench bench((std::string("da3depthviz layout=") + layout).c_str());
        bench.caps((std::string("video/x-raw,framerate=30/1,format=") + format + "," + size).c_str());
        show(bench, frame(bench, ramp(28, 14, 1, 5)));
      }
    }
  }
}
GST_END_TEST;

GST_START_TEST(test_padded_strides) {
  Bench bench("da3depthviz layout=side-by-side legend=false");
  gst_harness_set_sink_caps_str(bench.h, "video/x-raw,format=RGB");
  bench.caps("video/x-raw,format=RGB,width=20,height=10,framerate=30/1");
  const Image plain = show(bench, frame(bench, ramp(28, 14, 1, 5)));

  GstBuffer* narrow = picture(bench.info);
  const auto bytes = bytes_of(narrow);
  gst_buffer_unref(narrow);
  constexpr int kStride = 256, kOffset = 100;
  std::vector<uint8_t> wide(kOffset + kStride * 10, 99);
  for (int y = 0; y < 10; ++y) memcpy(&wide[kOffset + y * kStride], &bytes[y * 60], 60);
  GstBuffer* in = gst_buffer_new_memdup(wide.data(), wide.size());
  gsize offsets[4] = {kOffset};
  gint strides[4] = {kStride};
  gst_buffer_add_video_meta_full(in, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_RGB, 20, 10, 1, offsets,
                                 strides);
  attach(in, GST_DA3_TENSOR_DEPTH, ramp(28, 14, 1, 5));
  GST_BUFFER_PTS(in) = 0;
  fail_unless(show(bench, in) == plain);
}
GST_END_TEST;

// --- without depth
// --------------------------------------------------------------------------------------------------

GST_START_TEST(test_no_depth_shows_the_picture_and_warns_once) {
  Bench bench("da3depthviz layout=side-by-side");
  gst_harness_set_sink_caps_str(bench.h, "video/x-raw,format=RGB");
  bench.caps(kRgb64);
  for (int i = 0; i < 3; ++i) {
    const Image image = show(bench, picture(bench.info, i * GST_SECOND / 30));
    fail_unless(part(image, 0, 64) == source_image(bench.info));
    assert_all(part(image, 64, 64), {});
  }
  const BusText warning = parse(bench.message(GST_MESSAGE_WARNING));
  fail_unless(warning.text.find("da3infer") != std::string::npos, "%s", warning.text.c_str());
  fail_unless_equals_int(count_warnings(bench), 0);
}
GST_END_TEST;

GST_START_TEST(test_no_depth_overlay_and_depth) {
  Bench overlay("da3depthviz layout=overlay");
  overlay.caps(kRgb64);
  fail_unless(show(overlay, picture(overlay.info)) == source_image(overlay.info));
  Bench depth("da3depthviz layout=depth");
  depth.caps(kRgb64);
  assert_all(show(depth, picture(depth.info)), {});
}
GST_END_TEST;

GST_START_TEST(test_no_old_colours_after_depth_ends) {
  // Output frames are used again: a frame without depth must not show the last one.
  Bench bench("da3depthviz layout=depth");
  bench.caps(kRgb64);
  for (int i = 0; i < 4; ++i) show(bench, frame(bench, ramp(28, 14, 1, 5), i * GST_SECOND / 30));
  assert_all(show(bench, picture(bench.info, GST_SECOND)), {});
}
GST_END_TEST;

GST_START_TEST(test_model_size_before_the_first_depth) {
  Bench bench("da3depthviz output-size=model layout=overlay");
  bench.caps(kRgb64);
  fail_unless_equals_int(show(bench, picture(bench.info)).width, 64);
  fail_unless_equals_int(show(bench, frame(bench, ramp(28, 14, 1, 5))).width, 28);
  // And it stays when depth is missing again.
  fail_unless_equals_int(show(bench, picture(bench.info)).width, 28);
}
GST_END_TEST;

// --- legend
// ---------------------------------------------------------------------------------------------------------

GST_START_TEST(test_legend_stands_at_the_right) {
  const char* caps = "video/x-raw,format=RGB,width=504,height=280,framerate=30/1";
  const FloatMap depth = ramp(56, 28, 1, 20);
  const Image with = show_once("da3depthviz", depth, caps),
              without = show_once("da3depthviz legend=false", depth, caps);
  int changed = 0, bright = 0;
  for (int y = 0; y < 280; ++y)
    for (int x = 0; x < 504; ++x) {
      if (with.at(x, y) == without.at(x, y)) continue;
      fail_unless(x > 504 * 3 / 4, "%d %d", x, y);
      ++changed;
      const Rgb c = with.at(x, y);
      bright += c.r > 240 && c.g > 240 && c.b > 240;
    }
  fail_unless(changed > 5000, "%d", changed);
  fail_unless(bright > 100, "text of %d pixels", bright);
}
GST_END_TEST;

GST_START_TEST(test_legend_in_every_size) {
  // From small to wide to tall: never outside of the depth part, never in a picture too small to read it.
  const int sizes[][2] = {{1, 1},     {40, 400},   {400, 40},   {127, 200}, {128, 96},
                          {160, 120}, {1920, 200}, {200, 1600}, {1280, 720}};
  for (const auto& [w, h] : sizes) {
    gchar* caps = g_strdup_printf("video/x-raw,format=RGB,width=%d,height=%d,framerate=30/1", w, h);
    const FloatMap depth = ramp(56, 28, 1, 20);
    const Image with = show_once("da3depthviz layout=side-by-side", depth, caps);
    const Image without = show_once("da3depthviz layout=side-by-side legend=false", depth, caps);
    fail_unless(part(with, 0, w) == part(without, 0, w), "%dx%d", w, h);
    if (w < 128 || h < 96) fail_unless(with == without, "%dx%d", w, h);
    if (w == 160 || w == 1280) fail_if(with == without, "%dx%d", w, h);
    g_free(caps);
  }
}
GST_END_TEST;

GST_START_TEST(test_legend_of_strange_ranges) {
  const char* caps = "video/x-raw,format=RGB,width=320,height=240,framerate=30/1";
  const float ranges[][2] = {{1e-30f, 1e30f},  {1, 1.0001f},     {1e6f, 1e7f},  {1e-7f, 1e-6f},
                             {0.999f, 1.001f}, {2e-38f, 4e-38f}, {1e37f, 3e38f}};
  for (const auto& [low, high] : ranges)
    for (const char* launch :
         {"da3depthviz mode=depth", "da3depthviz mode=disparity", "da3depthviz max-depth=1000",
          "da3depthviz mode=depth min-depth=0.00001", "da3depthviz percentile-low=0 percentile-high=100",
          "da3depthviz max-depth=1e-320", "da3depthviz min-depth=1e-320 mode=disparity",
          "da3depthviz min-depth=3e38"})
      show_once(launch, ramp(56, 28, low, high), caps);
}
GST_END_TEST;

GST_START_TEST(test_legend_shows_metres) {
  // The same depths in another unit: other numbers, so another legend, but the same colours.
  const char* caps = "video/x-raw,format=RGB,width=320,height=240,framerate=30/1";
  const auto draw = [&](GstDa3DepthKind kind, double unit, const char* launch) {
    Bench bench(launch);
    bench.caps(caps);
    GstDa3View view = example_view(320, 240, kind);
    view.unit_scale = unit;
    return show(bench, frame(bench, ramp(56, 28, 1, 20), 0, &view));
  };
  const char* plain = "da3depthviz legend=false";
  fail_unless(draw(GST_DA3_DEPTH_KIND_METRIC, 1, plain) == draw(GST_DA3_DEPTH_KIND_METRIC, 0.1, plain));
  fail_if(draw(GST_DA3_DEPTH_KIND_METRIC, 1, "da3depthviz") ==
          draw(GST_DA3_DEPTH_KIND_METRIC, 0.1, "da3depthviz"));
  fail_if(draw(GST_DA3_DEPTH_KIND_METRIC, 1, "da3depthviz") ==
          draw(GST_DA3_DEPTH_KIND_RELATIVE, 0, "da3depthviz"));
}
GST_END_TEST;

static Suite* da3depthviz_layout_suite(void) {
  Suite* suite = suite_create("da3depthviz-layout");
  TCase* tc = tcase_create("all");
  tcase_set_timeout(tc, 120);
  suite_add_tcase(suite, tc);
  tcase_add_test(tc, test_side_by_side);
  tcase_add_test(tc, test_overlay_mixes);
  tcase_add_test(tc, test_only_the_depth_region_is_coloured);
  tcase_add_test(tc, test_region_of_a_view_that_was_not_rescaled);
  tcase_add_test(tc, test_nonsense_regions_do_no_harm);
  tcase_add_test(tc, test_model_size_shows_the_part_with_depth);
  tcase_add_test(tc, test_any_format_goes_in);
  tcase_add_test(tc, test_padded_strides);
  tcase_add_test(tc, test_no_depth_shows_the_picture_and_warns_once);
  tcase_add_test(tc, test_no_depth_overlay_and_depth);
  tcase_add_test(tc, test_no_old_colours_after_depth_ends);
  tcase_add_test(tc, test_model_size_before_the_first_depth);
  tcase_add_test(tc, test_legend_stands_at_the_right);
  tcase_add_test(tc, test_legend_in_every_size);
  tcase_add_test(tc, test_legend_of_strange_ranges);
  tcase_add_test(tc, test_legend_shows_metres);
  return suite;
}

GST_CHECK_MAIN(da3depthviz_layout)
