// SPDX-License-Identifier: MIT
#include "image/process_size.h"

#include <doctest/doctest.h>

#include <climits>
#include <stdexcept>
#include <string>

#include "upstream_cases.h"

namespace da3::image {

doctest::String toString(const Size& size) {
  return (std::to_string(size.width) + "x" + std::to_string(size.height)).c_str();
}

namespace {

using test::kUpstreamBatches;
using test::kUpstreamCases;
using M = ProcessResMethod;

constexpr M kMethods[] = {M::upper_bound_resize, M::upper_bound_crop, M::lower_bound_resize,
                          M::lower_bound_crop};

struct Intrinsics {
  double k[9];
  explicit Intrinsics(Size size)
      : k{0.9 * size.width, 0, size.width / 2.0 + 3, 0, 1.1 * size.height, size.height / 2.0 - 2, 0, 0, 1} {}
  bool near(const double (&expected)[4], double tolerance = 1e-4) const {
    return near(k[0], expected[0], tolerance) && near(k[2], expected[1], tolerance) &&
           near(k[4], expected[2], tolerance) && near(k[5], expected[3], tolerance);
  }
  static bool near(double a, double b, double tolerance) {
    return std::abs(a - b) <= tolerance * (1 + std::abs(b));
  }
};

std::string message_of(Size size, int process_res, M method) {
  try {
    plan_process_size(size, process_res, method);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE("sizes of upstream") {
  for (const auto& c : kUpstreamCases) {
    const ProcessPlan plan = plan_process_size({c.width, c.height}, c.process_res, c.method);
    CAPTURE(c.width);
    CAPTURE(c.process_res);
    CAPTURE(int(c.method));
    CHECK(plan.input == Size{c.width, c.height});
    CHECK(plan.boundary == c.boundary);
    CHECK(plan.final == c.final);
  }
}

TEST_CASE("worked sizes for process-res 504") {
  struct Row {
    Size in, boundary_upper, upper_resize, upper_crop, boundary_lower, lower_resize, lower_crop;
  };
  const Row rows[] = {
      {{1920, 1080}, {504, 284}, {504, 280}, {504, 280}, {896, 504}, {896, 504}, {896, 504}},
      {{320, 240}, {504, 378}, {504, 378}, {504, 378}, {672, 504}, {672, 504}, {672, 504}},
      {{504, 376}, {504, 376}, {504, 378}, {504, 364}, {676, 504}, {672, 504}, {672, 504}},
      {{680, 1208}, {284, 504}, {280, 504}, {280, 504}, {504, 895}, {504, 896}, {504, 882}},
      {{1008, 371}, {504, 186}, {504, 182}, {504, 182}, {1369, 504}, {1372, 504}, {1358, 504}},
  };
  for (const Row& r : rows) {
    CHECK(plan_process_size(r.in, 504, M::upper_bound_resize).boundary == r.boundary_upper);
    CHECK(plan_process_size(r.in, 504, M::upper_bound_resize).final == r.upper_resize);
    CHECK(plan_process_size(r.in, 504, M::upper_bound_crop).final == r.upper_crop);
    CHECK(plan_process_size(r.in, 504, M::lower_bound_resize).boundary == r.boundary_lower);
    CHECK(plan_process_size(r.in, 504, M::lower_bound_resize).final == r.lower_resize);
    CHECK(plan_process_size(r.in, 504, M::lower_bound_crop).final == r.lower_crop);
  }
}

TEST_CASE("a tie of the boundary rounds to even, a remainder of 7 goes up") {
  // 1008 -> 504 halves exactly: 369 / 2 = 184.5 -> 184, 371 / 2 = 185.5 -> 186.
  CHECK(plan_process_size({1008, 369}, 504, M::upper_bound_resize).boundary == Size{504, 184});
  CHECK(plan_process_size({1008, 371}, 504, M::upper_bound_resize).boundary == Size{504, 186});
  CHECK(plan_process_size({504, 371}, 504, M::upper_bound_resize).final == Size{504, 378});
  CHECK(plan_process_size({504, 370}, 504, M::upper_bound_resize).final == Size{504, 364});
}

TEST_CASE("every final side is a multiple of 14 and crops stay inside") {
  for (int width = 14; width < 900; width += 37) {
    for (int height = 14; height < 900; height += 41) {
      for (M method : kMethods) {
        for (int res : {14, 100, 504, 518}) {
          ProcessPlan plan;
          try {
            plan = plan_process_size({width, height}, res, method);
          } catch (const std::invalid_argument&) {
            continue;
          }
          REQUIRE(plan.final.width % 14 == 0);
          REQUIRE(plan.final.height % 14 == 0);
          REQUIRE(plan.final.width >= 14);
          REQUIRE(plan.final.height >= 14);
          if (!plan.crop) continue;
          REQUIRE(plan.crop_left >= 0);
          REQUIRE(plan.crop_left + plan.final.width <= plan.boundary.width);
          REQUIRE(plan.crop_top + plan.final.height <= plan.boundary.height);
        }
      }
    }
  }
}

TEST_CASE("a second plan of a processed picture changes nothing") {
  for (M method : {M::upper_bound_resize, M::upper_bound_crop}) {
    const ProcessPlan first = plan_process_size({1920, 1080}, 504, method);
    const ProcessPlan again = plan_process_size(first.final, 504, method);
    CHECK(again.boundary == first.final);
    CHECK(again.final == first.final);
  }
}

TEST_CASE("too extreme pictures are refused with their sizes") {
  CHECK(message_of({1, 4000}, 504, M::upper_bound_resize).find("1x4000") != std::string::npos);
  CHECK(message_of({1, 4000}, 504, M::upper_bound_crop).find("process-res 504") != std::string::npos);
  CHECK(message_of({4000, 1}, 504, M::upper_bound_resize).find("4000x1") != std::string::npos);
  CHECK(message_of({1, 4000}, 504, M::lower_bound_resize).find("32767") != std::string::npos);
  CHECK(message_of({INT_MAX, 1}, INT_MAX, M::lower_bound_crop) != "");
}

TEST_CASE("a process-res below the smallest side is named as the cause") {
  const std::string message = message_of({640, 480}, 7, M::upper_bound_resize);
  CHECK(message.find("process-res 7 is too small. Set it to 14 or more.") != std::string::npos);
  CHECK(message.find("aspect ratio") == std::string::npos);
}

TEST_CASE("the shortest side that survives: 7 pixels when resizing, 14 when cropping") {
  CHECK(message_of({504, 7}, 504, M::upper_bound_resize) == "");
  CHECK(message_of({504, 6}, 504, M::upper_bound_resize) != "");
  CHECK(message_of({504, 14}, 504, M::upper_bound_crop) == "");
  CHECK(message_of({504, 13}, 504, M::upper_bound_crop) != "");
}

TEST_CASE("arguments that are not positive are refused") {
  CHECK_THROWS_AS(plan_process_size({0, 480}, 504, M::upper_bound_resize), std::invalid_argument);
  CHECK_THROWS_AS(plan_process_size({640, -1}, 504, M::upper_bound_resize), std::invalid_argument);
  CHECK_THROWS_AS(plan_process_size({640, 480}, 0, M::upper_bound_resize), std::invalid_argument);
  CHECK_THROWS_AS(plan_process_size({640, 480}, -504, M::lower_bound_crop), std::invalid_argument);
}

TEST_CASE("intrinsics of upstream") {
  for (const auto& c : kUpstreamCases) {
    const Size size{c.width, c.height};
    Intrinsics k(size);
    adapt_intrinsics(plan_process_size(size, c.process_res, c.method), k.k);
    CAPTURE(c.width);
    CAPTURE(int(c.method));
    CHECK(k.near(c.k, 1e-6));
  }
}

TEST_CASE("restored intrinsics are those of the frame") {
  for (M method : kMethods) {
    const ProcessPlan plan = plan_process_size({1440, 480}, 504, method);
    for (Size frame : {Size{1440, 480}, Size{720, 480}}) {
      Intrinsics k(frame);
      const Intrinsics before = k;
      adapt_intrinsics(plan, frame, k.k);
      CHECK(k.k[0] != doctest::Approx(before.k[0]));
      restore_intrinsics(plan, frame, k.k);
      for (int i = 0; i < 9; ++i) CHECK(k.k[i] == doctest::Approx(before.k[i]).epsilon(1e-12));
    }
  }
}

TEST_CASE("K of a picture with tall pixels scales each axis on its own") {
  const ProcessPlan plan = plan_process_size({1440, 480}, 504, M::upper_bound_resize);  // 504x168
  double k[9] = {720, 0, 360, 0, 480, 240, 0, 0, 1};
  adapt_intrinsics(plan, {720, 480}, k);
  CHECK(k[0] == doctest::Approx(504));
  CHECK(k[2] == doctest::Approx(252));
  CHECK(k[4] == doctest::Approx(168));
  CHECK(k[5] == doctest::Approx(84));
}

TEST_CASE("the covered region is the frame, or what the crop left of it") {
  const Region all = covered_region(plan_process_size({504, 376}, 504, M::upper_bound_resize), {504, 376});
  CHECK(all.x == 0);
  CHECK(all.width == 504);
  CHECK(all.height == 376);
  const Region cut = covered_region(plan_process_size({504, 376}, 504, M::upper_bound_crop), {252, 188});
  CHECK(cut.x == 0);
  CHECK(cut.y == doctest::Approx(3));
  CHECK(cut.width == doctest::Approx(252));
  CHECK(cut.height == doctest::Approx(182));
}

TEST_CASE("views of two sizes are unified as upstream does, intrinsics included") {
  for (const auto& c : kUpstreamBatches) {
    const ProcessPlan first = plan_process_size(c.first, 280, c.method);
    const ProcessPlan second = plan_process_size(c.second, 280, c.method);
    const UnifiedSize unified = unify_sizes({first.final, second.final});
    CHECK(unified.size == c.unified);
    Intrinsics k1(c.first), k2(c.second);
    adapt_intrinsics(first, k1.k);
    crop_intrinsics(unified.offsets[0], k1.k);
    adapt_intrinsics(second, k2.k);
    crop_intrinsics(unified.offsets[1], k2.k);
    CHECK(k1.near(c.k_first, 1e-6));
    CHECK(k2.near(c.k_second, 1e-6));
  }
}

TEST_CASE("the smallest width and height may come from different views") {
  const UnifiedSize unified = unify_sizes({{504, 280}, {280, 504}, {378, 378}});
  CHECK(unified.size == Size{280, 280});
  CHECK(unified.offsets[0] == Offset{112, 0});
  CHECK(unified.offsets[1] == Offset{0, 112});
  CHECK(unified.offsets[2] == Offset{49, 49});
}

TEST_CASE("nothing, or an empty picture, cannot be unified") {
  CHECK_THROWS_AS(unify_sizes({}), std::invalid_argument);
  CHECK_THROWS_AS(unify_sizes({{504, 280}, {0, 280}}), std::invalid_argument);
}

}  // namespace da3::image
