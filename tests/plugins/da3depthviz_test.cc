// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <limits>

#include "depth_frames.h"
#include "image/colormap.h"

using namespace da3::testing;
using da3::image::color_table;
using da3::image::Colormap;
using da3::image::ColorTable;
using da3::image::Rgb;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
const char* kRgb64 = "video/x-raw,format=RGB,width=64,height=48,framerate=30/1";
// Upstream's rule: every frame on its own, at the size of the map, nothing drawn over it.
const char* kPlain = "da3depthviz smoothing=0 legend=false output-size=model";
const char* kPlainSource = "da3depthviz smoothing=0 legend=false";

// --- an independent version of upstream's rule
// ----------------------------------------------------------------------

double numpy_percentile(std::vector<double> sorted, double q) {
  std::sort(sorted.begin(), sorted.end());
  const double at = q / 100 * double(sorted.size() - 1);
  const size_t k = size_t(std::floor(at));
  if (k + 1 >= sorted.size()) return sorted.back();
  return sorted[k] + (sorted[k + 1] - sorted[k]) * (at - double(k));
}

std::vector<int> upstream_entries(const FloatMap& depth) {
  std::vector<double> valid;
  for (float d : depth.values)
    if (d > 0) valid.push_back(1.0f / d);
  double lo = 0, hi = 0;
  if (valid.size() > 10) {
    lo = numpy_percentile(valid, 2);
    hi = numpy_percentile(valid, 98);
  }
  if (lo == hi) {
    lo -= 1e-6;
    hi += 1e-6;
  }
  std::vector<int> entries;
  for (float d : depth.values) {
    const double disparity = d > 0 ? 1.0f / d : d;
    const double v = 1 - std::clamp((disparity - lo) / (hi - lo), 0.0, 1.0);
    entries.push_back(std::min(int(256 * v), 255));
  }
  return entries;
}

// --- frames
// ---------------------------------------------------------------------------------------------------------

GstBuffer* frame(Bench& bench, const FloatMap& depth, GstClockTime pts = 0,
                 const GstDa3View* view = nullptr) {
  GstBuffer* buffer = picture(bench.info, pts);
  attach(buffer, GST_DA3_TENSOR_DEPTH, depth);
  const GstDa3View usual =
      example_view(GST_VIDEO_INFO_WIDTH(&bench.info), GST_VIDEO_INFO_HEIGHT(&bench.info));
  gst_buffer_add_da3_view(buffer, view ? view : &usual);
  return buffer;
}

// The pixels of an output frame.
struct Image {
  int width = 0, height = 0;
  std::vector<Rgb> pixels;
  Rgb at(int x, int y) const { return pixels[size_t(y) * width + x]; }
  bool operator==(const Image&) const = default;
};

Image image_of(GstHarness* h, GstBuffer* buffer) {
  GstCaps* caps = gst_pad_get_current_caps(h->sinkpad);
  GstVideoInfo info;
  fail_unless(gst_video_info_from_caps(&info, caps));
  gst_caps_unref(caps);
  GstVideoFrame video;
  fail_unless(gst_video_frame_map(&video, &info, buffer, GST_MAP_READ));
  Image image{info.width, info.height, {}};
  for (int y = 0; y < info.height; ++y) {
    for (int x = 0; x < info.width; ++x) {
      uint8_t rgb[3];
      for (int c = 0; c < 3; ++c) {
        const auto* data = static_cast<const uint8_t*>(GST_VIDEO_FRAME_COMP_DATA(&video, c));
        rgb[c] =
            data[y * GST_VIDEO_FRAME_COMP_STRIDE(&video, c) + x * GST_VIDEO_FRAME_COMP_PSTRIDE(&video, c)];
      }
      image.pixels.push_back({rgb[0], rgb[1], rgb[2]});
    }
  }
  gst_video_frame_unmap(&video);
  return image;
}

Image show(Bench& bench, GstBuffer* in) {
  GstBuffer* out = gst_harness_push_and_pull(bench.h, in);
  fail_unless(out != nullptr);
  Image image = image_of(bench.h, out);
  gst_buffer_unref(out);
  return image;
}

Image show_once(const char* launch, const FloatMap& depth, const char* caps = kRgb64) {
  Bench bench(launch);
  bench.caps(caps);
  return show(bench, frame(bench, depth));
}

void assert_entries(const Image& image, const std::vector<int>& entries, const ColorTable& table) {
  fail_unless_equals_int(int(image.pixels.size()), int(entries.size()));
  for (size_t i = 0; i < entries.size(); ++i)
    fail_unless(image.pixels[i] == table[entries[i]], "pixel %d", int(i));
}

void assert_all(const Image& image, Rgb color) {
  for (const Rgb& pixel : image.pixels) fail_unless(pixel == color, "%d %d %d", pixel.r, pixel.g, pixel.b);
}

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

// Left half near, right half far.
FloatMap two_halves(int w, int h, float near, float far) {
  FloatMap map(w, h, near);
  for (int y = 0; y < h; ++y)
    for (int x = w / 2; x < w; ++x) map.at(x, y) = far;
  return map;
}

FloatMap ramp(int w, int h, float first, float last) {
  FloatMap map(w, h);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) map.at(x, y) = first + (last - first) * float(x) / float(w - 1);
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

// --- stream
// ---------------------------------------------------------------------------------------------------------

GST_START_TEST(test_times_flags_and_metas_are_kept) {
  Bench bench("da3depthviz");
  bench.caps(kRgb64);
  GstBuffer* in = frame(bench, ramp(28, 14, 1, 5), 7 * GST_SECOND);
  GST_BUFFER_DTS(in) = 6 * GST_SECOND;
  GST_BUFFER_DURATION(in) = 33;
  GST_BUFFER_OFFSET(in) = 5;
  GST_BUFFER_OFFSET_END(in) = 6;
  GST_BUFFER_FLAG_SET(in, GST_BUFFER_FLAG_DISCONT | GST_BUFFER_FLAG_CORRUPTED);
  GstCaps* reference = gst_caps_from_string("timestamp/x-unix");
  gst_buffer_add_reference_timestamp_meta(in, reference, 1234567, GST_CLOCK_TIME_NONE);
  GstBuffer* out = gst_harness_push_and_pull(bench.h, in);
  fail_unless_equals_uint64(GST_BUFFER_PTS(out), 7 * GST_SECOND);
  fail_unless_equals_uint64(GST_BUFFER_DTS(out), 6 * GST_SECOND);
  fail_unless_equals_uint64(GST_BUFFER_DURATION(out), 33);
  fail_unless_equals_uint64(GST_BUFFER_OFFSET(out), 5);
  fail_unless_equals_uint64(GST_BUFFER_OFFSET_END(out), 6);
  fail_unless(GST_BUFFER_FLAG_IS_SET(out, GST_BUFFER_FLAG_DISCONT));
  fail_unless(GST_BUFFER_FLAG_IS_SET(out, GST_BUFFER_FLAG_CORRUPTED));
  GstReferenceTimestampMeta* meta = gst_buffer_get_reference_timestamp_meta(out, reference);
  fail_unless(meta != nullptr && meta->timestamp == 1234567);
  GstDa3Tensor tensor;
  fail_if(gst_buffer_get_da3_tensor(out, GST_DA3_TENSOR_DEPTH, &tensor), "colours carry no measurements");
  gst_caps_unref(reference);
  gst_buffer_unref(out);
}
GST_END_TEST;

GST_START_TEST(test_view_follows_the_picture) {
  GstDa3View view = example_view(64, 48);
  view.has_intrinsics = TRUE;
  view.fx = view.fy = 60;
  view.cx = 32;
  view.cy = 24;
  const auto view_out = [&](const char* launch, GstDa3View* got) {
    Bench bench(launch);
    bench.caps(kRgb64);
    GstBuffer* out = gst_harness_push_and_pull(bench.h, frame(bench, ramp(32, 12, 1, 5), 0, &view));
    const bool found = gst_buffer_get_da3_view(out, got);
    gst_buffer_unref(out);
    return found;
  };
  GstDa3View got;
  fail_unless(view_out("da3depthviz layout=overlay", &got));
  fail_unless(got.fx == 60 && got.cx == 32 && got.image_width == 64);
  fail_unless(view_out("da3depthviz output-size=model", &got));
  fail_unless(got.fx == 30 && got.cx == 16 && got.fy == 15 && got.cy == 6 && got.image_width == 32 &&
              got.image_height == 12);
  fail_if(view_out("da3depthviz layout=side-by-side", &got), "K does not fit two pictures");
}
GST_END_TEST;

GST_START_TEST(test_caps_follow_input_and_layout) {
  Bench bench("da3depthviz");
  bench.caps("video/x-raw,format=I420,width=64,height=48,framerate=25/1,pixel-aspect-ratio=4/3");
  GstElement* element = bench.element("da3depthviz");
  gst_buffer_unref(gst_harness_push_and_pull(bench.h, frame(bench, ramp(28, 14, 1, 5))));
  std::string caps = sink_caps_text(bench.h);
  fail_unless(caps.find("framerate=(fraction)25/1") != std::string::npos, "%s", caps.c_str());
  fail_unless(caps.find("pixel-aspect-ratio=(fraction)4/3") != std::string::npos, "%s", caps.c_str());
  gst_util_set_object_arg(G_OBJECT(element), "layout", "side-by-side");
  gst_buffer_unref(gst_harness_push_and_pull(bench.h, frame(bench, ramp(28, 14, 1, 5))));
  fail_unless_equals_int(sink_caps_int(bench.h, "width"), 128);
  gst_util_set_object_arg(G_OBJECT(element), "output-size", "model");
  gst_buffer_unref(gst_harness_push_and_pull(bench.h, frame(bench, ramp(28, 14, 1, 5))));
  fail_unless_equals_int(sink_caps_int(bench.h, "width"), 56);
  caps = sink_caps_text(bench.h);
  fail_unless(caps.find("pixel-aspect-ratio=(fraction)1/1") != std::string::npos, "%s", caps.c_str());
  bench.caps("video/x-raw,format=NV12,width=32,height=96,framerate=25/1");
  gst_util_set_object_arg(G_OBJECT(element), "output-size", "source");
  gst_buffer_unref(gst_harness_push_and_pull(bench.h, frame(bench, ramp(14, 28, 1, 5))));
  fail_unless_equals_int(sink_caps_int(bench.h, "width"), 64);
  fail_unless_equals_int(sink_caps_int(bench.h, "height"), 96);
  gst_object_unref(element);
}
GST_END_TEST;

GST_START_TEST(test_fifty_size_changes) {
  Bench bench("da3depthviz layout=overlay");
  Noise noise;
  const char* formats[] = {"I420", "RGB", "NV12", "YUY2"};
  for (int i = 0; i < 50; ++i) {
    gchar* caps = g_strdup_printf("video/x-raw,format=%s,width=%d,height=%d,framerate=30/1", formats[i % 4],
                                  int(noise.next(1, 300)), int(noise.next(1, 300)));
    bench.caps(caps);
    const FloatMap depth = noisy_map(int(noise.next(1, 90)), int(noise.next(1, 90)), 0.1f, 9, i);
    const Image image = show(bench, frame(bench, depth, i * GST_SECOND / 30));
    fail_unless(image.width == GST_VIDEO_INFO_WIDTH(&bench.info) &&
                image.height == GST_VIDEO_INFO_HEIGHT(&bench.info));
    g_free(caps);
  }
}
GST_END_TEST;

GST_START_TEST(test_events_come_in_order) {
  Bench bench("da3depthviz");
  bench.caps(kRgb64);
  fail_unless(events_out(bench.h) == std::vector<GstEventType>{GST_EVENT_STREAM_START}, "caps need a frame");
  gst_harness_push_event(bench.h, gst_event_new_tag(gst_tag_list_new(GST_TAG_TITLE, "a", nullptr)));
  gst_harness_push_event(bench.h, gst_event_new_gap(0, 1));
  gst_buffer_unref(gst_harness_push_and_pull(bench.h, frame(bench, ramp(28, 14, 1, 5))));
  fail_unless(events_out(bench.h) ==
              std::vector<GstEventType>({GST_EVENT_CAPS, GST_EVENT_SEGMENT, GST_EVENT_TAG}));
  gst_harness_push_event(bench.h, gst_event_new_gap(0, 1));
  fail_unless(events_out(bench.h) == std::vector<GstEventType>{GST_EVENT_GAP});
}
GST_END_TEST;

GST_START_TEST(test_eos_before_any_frame) {
  Bench bench("da3depthviz");
  bench.caps(kRgb64);
  gst_harness_push_event(bench.h, gst_event_new_eos());
  fail_unless(events_out(bench.h) ==
              std::vector<GstEventType>({GST_EVENT_STREAM_START, GST_EVENT_SEGMENT, GST_EVENT_EOS}));
  fail_unless(bench.message(GST_MESSAGE_ERROR) == nullptr);
}
GST_END_TEST;

GST_START_TEST(test_frame_before_caps) {
  Bench bench("da3depthviz");
  GstBuffer* in = gst_buffer_new_allocate(nullptr, 100, nullptr);
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_harness_push_event(bench.h, gst_event_new_stream_start("x"));
  gst_harness_push_event(bench.h, gst_event_new_segment(&segment));
  fail_unless(gst_pad_push(bench.h->srcpad, in) == GST_FLOW_ERROR);
  assert_error(bench, GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, "before the caps");
}
GST_END_TEST;

GST_START_TEST(test_frame_smaller_than_its_caps) {
  Bench bench("da3depthviz layout=overlay");
  bench.caps(kRgb64);
  GstBuffer* in = gst_buffer_new_allocate(nullptr, 1000, nullptr);
  attach(in, GST_DA3_TENSOR_DEPTH, ramp(28, 14, 1, 5));
  fail_unless(gst_harness_push(bench.h, in) == GST_FLOW_ERROR);
  assert_error(bench, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "1000 bytes does not hold the 64x48 RGB");
}
GST_END_TEST;

GST_START_TEST(test_tensor_of_another_shape) {
  const gsize shapes[][4] = {{2, 4, 4, 0}, {1, 2, 16, 1}, {32, 1, 1, 0}};
  for (const auto& dims : shapes) {
    Bench bench("da3depthviz");
    bench.caps(kRgb64);
    GstBuffer* in = picture(bench.info);
    const guint n = dims[3] ? 4 : 3;
    gst_buffer_add_da3_tensor(in, GST_DA3_TENSOR_DEPTH, gst_buffer_new_allocate(nullptr, 128, nullptr), n,
                              dims);
    fail_unless(gst_harness_push(bench.h, in) == GST_FLOW_ERROR);
    assert_error(bench, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "[1, height, width]");
  }
}
GST_END_TEST;

GST_START_TEST(test_downstream_takes_no_rgb) {
  Bench bench("da3depthviz");
  gst_harness_set_sink_caps_str(bench.h, "video/x-raw,format=NV12");
  bench.caps(kRgb64);
  fail_unless(gst_harness_push(bench.h, frame(bench, ramp(28, 14, 1, 5))) == GST_FLOW_ERROR);
  assert_error(bench, GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, "NV12");
}
GST_END_TEST;

GST_START_TEST(test_flow_of_downstream_goes_up) {
  for (GstFlowReturn flow : {GST_FLOW_EOS, GST_FLOW_NOT_LINKED, GST_FLOW_FLUSHING, GST_FLOW_CUSTOM_ERROR}) {
    Bench bench("da3depthviz");
    bench.caps(kRgb64);
    gst_pad_add_probe(
        bench.h->sinkpad, GST_PAD_PROBE_TYPE_BUFFER,
        [](GstPad*, GstPadProbeInfo* info, gpointer result) {
          gst_buffer_unref(GST_PAD_PROBE_INFO_BUFFER(info));
          GST_PAD_PROBE_INFO_FLOW_RETURN(info) = GstFlowReturn(GPOINTER_TO_INT(result));
          return GST_PAD_PROBE_HANDLED;
        },
        GINT_TO_POINTER(flow), nullptr);
    fail_unless_equals_int(gst_harness_push(bench.h, frame(bench, ramp(28, 14, 1, 5))), flow);
    fail_unless(bench.message(GST_MESSAGE_ERROR) == nullptr);
  }
}
GST_END_TEST;

// Runs a pipeline to its end; returns the text of an error, empty if there was none.
std::string run_pipeline(const char* launch) {
  GError* error = nullptr;
  GstElement* pipeline = gst_parse_launch(launch, &error);
  fail_unless(error == nullptr, "%s", error ? error->message : "");
  GstBus* bus = gst_element_get_bus(pipeline);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  GstMessage* message =
      gst_bus_timed_pop_filtered(bus, 30 * GST_SECOND, GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  fail_unless(message != nullptr, "no end: %s", launch);
  std::string text;
  if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
    text = parse(message).text;
  } else {
    gst_message_unref(message);
  }
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(bus);
  gst_object_unref(pipeline);
  return text;
}

GST_START_TEST(test_in_pipelines) {
  const char* launches[] = {
      "videotestsrc num-buffers=5 ! video/x-raw,format=NV12 ! da3depthviz ! videoconvert ! "
      "video/x-raw,format=I420 ! fakesink",
      "videotestsrc num-buffers=5 ! video/x-raw,format=I420 ! da3depthviz layout=side-by-side ! videoconvert "
      "! fakesink",
      "videotestsrc num-buffers=5 ! da3depthviz ! da3depthviz layout=overlay ! fakesink",
      // What downstream wants reaches the source.
      "videotestsrc num-buffers=5 ! da3depthviz ! video/x-raw,format=BGRA,width=102,height=66,framerate=7/1 "
      "! fakesink",
      "videotestsrc num-buffers=5 ! da3depthviz layout=side-by-side ! video/x-raw,framerate=7/1 ! fakesink",
      "videotestsrc num-buffers=5 ! video/x-raw,interlace-mode=interleaved,format=I420 ! da3depthviz "
      "layout=overlay ! fakesink"};
  for (const char* launch : launches) {
    const std::string error = run_pipeline(launch);
    fail_unless(error.empty(), "%s: %s", launch, error.c_str());
  }
}
GST_END_TEST;

GST_START_TEST(test_impossible_size_downstream_is_one_clear_error) {
  const std::string error = run_pipeline(
      "videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48 ! da3depthviz layout=side-by-side ! "
      "video/x-raw,width=64 ! fakesink");
  fail_unless(error.find("width=(int)128") != std::string::npos, "%s", error.c_str());
}
GST_END_TEST;

GST_START_TEST(test_up_and_down_again) {
  GstElement* pipeline =
      gst_parse_launch("videotestsrc ! video/x-raw,width=160,height=120 ! da3depthviz ! fakesink", nullptr);
  for (int i = 0; i < 20; ++i) {
    gst_element_set_state(pipeline, i % 2 ? GST_STATE_PAUSED : GST_STATE_PLAYING);
    gst_element_get_state(pipeline, nullptr, nullptr, GST_CLOCK_TIME_NONE);
    gst_element_set_state(pipeline, i % 3 ? GST_STATE_READY : GST_STATE_NULL);
  }
  GstBus* bus = gst_element_get_bus(pipeline);
  fail_unless(gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR) == nullptr);
  gst_object_unref(bus);
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(pipeline);
}
GST_END_TEST;

GST_START_TEST(test_properties) {
  GstElement* element = gst_element_factory_make("da3depthviz", nullptr);
  guint count = 0;
  GParamSpec** specs = g_object_class_list_properties(G_OBJECT_GET_CLASS(element), &count);
  int own = 0;
  for (guint i = 0; i < count; ++i) {
    if (specs[i]->owner_type != G_OBJECT_TYPE(element)) continue;
    ++own;
    fail_unless(specs[i]->flags & GST_PARAM_MUTABLE_PLAYING, "%s", specs[i]->name);
    fail_unless(strlen(g_param_spec_get_blurb(specs[i])) > 10, "%s", specs[i]->name);
    // What is set is read back, and the default is what the description says.
    GValue value = G_VALUE_INIT;
    g_object_get_property(G_OBJECT(element), specs[i]->name, &value);
    fail_unless(g_param_value_defaults(specs[i], &value), "%s", specs[i]->name);
    g_object_set_property(G_OBJECT(element), specs[i]->name, &value);
    g_value_unset(&value);
  }
  fail_unless_equals_int(own, 12);
  g_free(specs);
  gst_object_unref(element);
}
GST_END_TEST;

GST_START_TEST(test_properties_change_while_playing) {
  Bench bench("da3depthviz");
  bench.caps(kRgb64);
  GstElement* element = bench.element("da3depthviz");
  const std::pair<const char*, const char*> settings[] = {
      {"colormap", "turbo"},     {"mode", "depth"},  {"invert", "no"},   {"percentile-low", "30"},
      {"percentile-high", "60"}, {"smoothing", "0"}, {"min-depth", "2"}, {"max-depth", "9"}};
  Image last = show(bench, frame(bench, ramp(28, 14, 1, 20)));
  for (const auto& [name, value] : settings) {
    gst_util_set_object_arg(G_OBJECT(element), name, value);
    const Image image = show(bench, frame(bench, ramp(28, 14, 1, 20), GST_SECOND));
    if (strcmp(name, "smoothing") != 0) fail_if(image == last, "%s has no effect", name);
    last = image;
  }
  fail_unless(bench.message(GST_MESSAGE_WARNING) == nullptr);
  gst_object_unref(element);
}
GST_END_TEST;

// Layout and size change from another thread while frames pass.
GST_START_TEST(test_properties_from_another_thread) {
  GstElement* pipeline = gst_parse_launch(
      "videotestsrc num-buffers=300 ! video/x-raw,width=64,height=48 ! da3depthviz name=v ! fakesink",
      nullptr);
  GstElement* element = gst_bin_get_by_name(GST_BIN(pipeline), "v");
  GstBus* bus = gst_element_get_bus(pipeline);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  GstMessage* message = nullptr;
  for (int i = 0; !message; ++i) {
    g_object_set(element, "layout", i % 3, "output-size", i % 2, "alpha", 0.1 * (i % 10), nullptr);
    message = gst_bus_pop_filtered(bus, GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  }
  fail_unless(
      GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS, "%s",
      GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR ? parse(gst_message_ref(message)).text.c_str() : "");
  gst_message_unref(message);
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(bus);
  gst_object_unref(element);
  gst_object_unref(pipeline);
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
  tcase_add_test(tc, test_legend_stands_at_the_right);
  tcase_add_test(tc, test_legend_in_every_size);
  tcase_add_test(tc, test_legend_of_strange_ranges);
  tcase_add_test(tc, test_legend_shows_metres);
  tcase_add_test(tc, test_times_flags_and_metas_are_kept);
  tcase_add_test(tc, test_view_follows_the_picture);
  tcase_add_test(tc, test_caps_follow_input_and_layout);
  tcase_add_test(tc, test_fifty_size_changes);
  tcase_add_test(tc, test_events_come_in_order);
  tcase_add_test(tc, test_eos_before_any_frame);
  tcase_add_test(tc, test_frame_before_caps);
  tcase_add_test(tc, test_frame_smaller_than_its_caps);
  tcase_add_test(tc, test_tensor_of_another_shape);
  tcase_add_test(tc, test_downstream_takes_no_rgb);
  tcase_add_test(tc, test_flow_of_downstream_goes_up);
  tcase_add_test(tc, test_in_pipelines);
  tcase_add_test(tc, test_impossible_size_downstream_is_one_clear_error);
  tcase_add_test(tc, test_up_and_down_again);
  tcase_add_test(tc, test_properties);
  tcase_add_test(tc, test_properties_change_while_playing);
  tcase_add_test(tc, test_properties_from_another_thread);
  return suite;
}

GST_CHECK_MAIN(da3depthviz)
