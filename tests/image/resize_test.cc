// SPDX-License-Identifier: MIT
#include "image/resize.h"

#include <doctest/doctest.h>
#include <glib.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "engine/checkpoint/synthetic.h"
#include "upstream_cases.h"

namespace da3::image {
namespace {

using test::kUpstreamCases;
using M = ProcessResMethod;

std::vector<uint8_t> source(int width, int height) {
  std::vector<uint8_t> rgb(size_t(width) * height * 3);
  synthetic::fill_rgb(rgb.data(), width, height, 0);
  return rgb;
}

std::string sha16(const std::vector<uint8_t>& bytes) {
  gchar* text = g_compute_checksum_for_data(G_CHECKSUM_SHA256, bytes.data(), bytes.size());
  const std::string digits(text, 16);
  g_free(text);
  return digits;
}

ConstImage tight(const std::vector<uint8_t>& rgb, Size size) {
  return {rgb.data(), size.width, size.height, size.width * 3};
}

std::vector<uint8_t> resized(const ConstImage& in, const ProcessPlan& plan, int threads = 1) {
  std::vector<uint8_t> out(size_t(plan.final.width) * plan.final.height * 3, 0xEE);
  resize_rgb(in, plan, {out.data(), plan.final.width, plan.final.height, plan.final.width * 3}, threads);
  return out;
}

// The plan that stops after the boundary resize.
ProcessPlan boundary_only(ProcessPlan plan) {
  plan.final = plan.boundary;
  plan.crop = false;
  return plan;
}

std::vector<uint8_t> padded(const std::vector<uint8_t>& rgb, Size size, int stride) {
  std::vector<uint8_t> wide(size_t(stride) * size.height, 0xAB);
  for (int y = 0; y < size.height; ++y) {
    std::copy_n(rgb.begin() + size_t(y) * size.width * 3, size.width * 3, wide.begin() + size_t(y) * stride);
  }
  return wide;
}

}  // namespace

TEST_CASE("the source pictures are upstream's") {
  CHECK(sha16(source(640, 480)) == "854d2295e756e31a");
  CHECK(sha16(source(321, 243)) == "520bb9c7d5dc11dc");
  CHECK(sha16(source(1280, 720)) == "b5971d92806332e2");
  CHECK(sha16(source(100, 333)) == "47af97a7af25b7e7");
}

TEST_CASE("both steps give upstream's bytes") {
  for (const auto& c : kUpstreamCases) {
    const Size size{c.width, c.height};
    const std::vector<uint8_t> rgb = source(c.width, c.height);
    const ProcessPlan plan = plan_process_size(size, c.process_res, c.method);
    CAPTURE(c.width);
    CAPTURE(c.process_res);
    CAPTURE(int(c.method));
    CHECK(sha16(resized(tight(rgb, size), boundary_only(plan))) == c.boundary_sha);
    CHECK(sha16(resized(tight(rgb, size), plan)) == c.final_sha);
  }
}

TEST_CASE("the number of threads does not change a byte") {
  const std::vector<uint8_t> rgb = source(1280, 720);
  for (M method : {M::upper_bound_resize, M::lower_bound_resize}) {
    const ProcessPlan plan = plan_process_size({1280, 720}, 504, method);
    const std::vector<uint8_t> one = resized(tight(rgb, {1280, 720}), plan, 1);
    CHECK(resized(tight(rgb, {1280, 720}), plan, 0) == one);
    CHECK(resized(tight(rgb, {1280, 720}), plan, 4) == one);
  }
}

TEST_CASE("resizes at the same time do not disturb each other") {
  const std::vector<uint8_t> rgb = source(640, 480);
  const ProcessPlan plan = plan_process_size({640, 480}, 280, M::lower_bound_resize);
  const std::vector<uint8_t> expected = resized(tight(rgb, {640, 480}), plan);
  std::vector<int> wrong(4, 0);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 10; ++i) wrong[t] += resized(tight(rgb, {640, 480}), plan, t % 2) != expected;
      });
    }
  }
  for (int count : wrong) CHECK(count == 0);
}

TEST_CASE("padded rows are skipped on both sides and never written") {
  const Size size{321, 243};
  const std::vector<uint8_t> rgb = source(size.width, size.height);
  for (M method : {M::upper_bound_resize, M::upper_bound_crop}) {
    const ProcessPlan plan = plan_process_size(size, 280, method);
    const std::vector<uint8_t> expected = resized(tight(rgb, size), plan);
    const int in_stride = size.width * 3 + 29, out_stride = plan.final.width * 3 + 17;
    const std::vector<uint8_t> wide = padded(rgb, size, in_stride);
    std::vector<uint8_t> out(size_t(out_stride) * plan.final.height, 0xCD);
    resize_rgb({wide.data(), size.width, size.height, in_stride}, plan,
               {out.data(), plan.final.width, plan.final.height, out_stride});
    CHECK(out == [&] {
      std::vector<uint8_t> all = padded(expected, plan.final, out_stride);
      for (int y = 0; y < plan.final.height; ++y) {
        std::fill_n(all.begin() + size_t(y) * out_stride + plan.final.width * 3, 17, uint8_t(0xCD));
      }
      return all;
    }());
  }
}

TEST_CASE("a bottom-up picture is read with its negative stride") {
  const Size size{100, 333};
  const std::vector<uint8_t> rgb = source(size.width, size.height);
  std::vector<uint8_t> flipped(rgb.size());
  for (int y = 0; y < size.height; ++y) {
    std::copy_n(rgb.begin() + size_t(y) * 300, 300, flipped.begin() + size_t(size.height - 1 - y) * 300);
  }
  const ProcessPlan plan = plan_process_size(size, 280, M::upper_bound_resize);
  const ConstImage bottom_up{flipped.data() + 300 * (size.height - 1), size.width, size.height, -300};
  CHECK(resized(bottom_up, plan) == resized(tight(rgb, size), plan));
}

TEST_CASE("a picture that has the process size already is copied") {
  const std::vector<uint8_t> rgb = source(504, 280);
  const ProcessPlan plan = plan_process_size({504, 280}, 504, M::upper_bound_resize);
  CHECK(resized(tight(rgb, {504, 280}), plan) == rgb);
}

TEST_CASE("cropping without a resize takes the centre") {
  const std::vector<uint8_t> rgb = source(504, 376);
  const ProcessPlan plan = plan_process_size({504, 376}, 504, M::upper_bound_crop);
  const std::vector<uint8_t> out = resized(tight(rgb, {504, 376}), plan);
  REQUIRE(plan.crop_top == 6);
  CHECK(std::equal(out.begin(), out.end(), rgb.begin() + size_t(6) * 504 * 3));
}

TEST_CASE("a flat picture stays flat, also when it is widened for its pixel aspect ratio") {
  const std::vector<uint8_t> rgb(720 * 480 * 3, 77);
  const ProcessPlan plan = plan_process_size({1440, 480}, 504, M::upper_bound_resize);
  const std::vector<uint8_t> out = resized(tight(rgb, {720, 480}), plan);
  REQUIRE(plan.final == Size{504, 168});
  CHECK(std::all_of(out.begin(), out.end(), [](uint8_t v) { return v == 77; }));
}

TEST_CASE("wrong images are refused, and nothing is written") {
  const std::vector<uint8_t> rgb = source(640, 480);
  const ProcessPlan plan = plan_process_size({640, 480}, 280, M::upper_bound_resize);
  std::vector<uint8_t> out(280 * 210 * 3, 0xEE);
  const MutableImage good{out.data(), 280, 210, 280 * 3};
  const ConstImage in = tight(rgb, {640, 480});
  CHECK_THROWS_AS(resize_rgb({nullptr, 640, 480, 1920}, plan, good), std::invalid_argument);
  CHECK_THROWS_AS(resize_rgb({rgb.data(), 0, 480, 1920}, plan, good), std::invalid_argument);
  CHECK_THROWS_AS(resize_rgb({rgb.data(), 640, 480, 1919}, plan, good), std::invalid_argument);
  CHECK_THROWS_AS(resize_rgb(in, plan, {out.data(), 210, 280, 840}), std::invalid_argument);
  CHECK_THROWS_AS(resize_rgb(in, plan, {out.data(), 280, 210, 839}), std::invalid_argument);
  CHECK_THROWS_AS(resize_rgb(in, plan, {nullptr, 280, 210, 840}), std::invalid_argument);
  CHECK(std::all_of(out.begin(), out.end(), [](uint8_t v) { return v == 0xEE; }));
}

}  // namespace da3::image
