// SPDX-License-Identifier: MIT
//
// Batches of the networks as they are published, at their real width and depth, with made-up weights. The
// suite runs the smallest; `meson test --benchmark batches_of_all_models` all of them (12 GB of memory, some
// minutes).
#include <cstdlib>
#include <filesystem>

#include "batches.h"

using namespace da3;
using namespace da3::test;

namespace {

constexpr int kSide = 70, kOtherSide = 56;
constexpr uint32_t kSky = DA3_OUTPUT_DEPTH | DA3_OUTPUT_SKY;
// float32 with sums in another order, through up to 40 blocks.
constexpr double kRounding = 5e-5;

void check(const std::string& name, uint32_t outputs, int views) {
  CAPTURE(name);
  CAPTURE(views);
  const auto engine = open(name == "da3-demo" ? name : "synthetic:" + name, 8);
  std::deque<Pictures> pictures;
  std::vector<std::vector<Tensor>> alone;
  for (int i = 0; i < 4; ++i) {
    pictures.emplace_back(i, views, kSide, kOtherSide);
    Ticket ticket;
    ticket.submit(*engine, pictures.back().request(outputs));
    REQUIRE(ticket.data().batch == 1);
    alone.push_back(planes_of(ticket.data()));
    REQUIRE(alone.back().size() >= 2);
  }
  double worst = 0, least = 1;
  std::vector<std::vector<Tensor>> fours;
  for (const std::vector<size_t>& order : {std::vector<size_t>{1, 0},
                                           {2, 0, 2},
                                           {0, 1, 2, 3},
                                           {3, 2, 1, 0},
                                           {0, 1, 2, 3},
                                           {3, 1, 0, 0, 2, 1, 3, 2}}) {
    const auto together = run_together(*engine, pictures, order, outputs);
    for (size_t i = 0; i < order.size(); ++i) {
      worst = std::max(worst, greatest_distance(together[i], alone[order[i]]));
      least = std::min(least, greatest_distance(together[i], alone[(order[i] + 1) % 4]));
    }
    if (order != std::vector<size_t>{0, 1, 2, 3}) continue;
    if (fours.empty()) fours = together;
    // The same batch again.
    for (size_t i = 0; i < 4; ++i) CHECK(all_same_bits(together[i], fours[i]));
  }
  MESSAGE(name << ", " << views << " view(s): farthest from itself " << worst << ", nearest to another "
               << least);
  CHECK(worst < kRounding);
  CHECK(least > 10 * kRounding);
}

}  // namespace

TEST_SUITE("batches of what is published") {
  TEST_CASE("da3-small: the result of the item alone, up to rounding") {
    check("da3-small", kAllOutputs, 1);
    check("da3-small", kAllOutputs, 3);
  }
  TEST_CASE("and so the checkpoint that ships") {
    const char* root = std::getenv("DA3_SOURCE_ROOT");
    if (!std::filesystem::exists(std::filesystem::path(root ? root : ".") /
                                 "models/da3-demo/model.safetensors")) {
      MESSAGE("models/da3-demo/model.safetensors is not in this checkout: not tested");
      return;
    }
    for (const int views : {1, 3})
      check("da3-demo", DA3_OUTPUT_DEPTH | DA3_OUTPUT_CONFIDENCE | DA3_OUTPUT_POSE | DA3_OUTPUT_RAY, views);
  }
}

TEST_SUITE("batches of all models" * doctest::skip()) {
  TEST_CASE("any view") {
    for (const char* name : {"da3-base", "da3-large", "da3-giant"}) {
      check(name, kAllOutputs, 1);
      check(name, kAllOutputs, 2);
    }
  }
  TEST_CASE("both sky heads") {
    check("da3mono-large", kSky, 1);
    check("da3metric-large", kSky, 1);
    check("da3nested-giant-large", kAllOutputs, 1);
    check("da3nested-giant-large", kAllOutputs, 2);
  }
}
