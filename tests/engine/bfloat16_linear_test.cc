// SPDX-License-Identifier: MIT
#include "engine/kernels/bfloat16_linear.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "bfloat16_bits.h"
#include "instruction_sets.h"

using namespace da3::kernels;
using da3::test::bfloat16;
using da3::test::from_bfloat16;
using da3::test::Limited;

namespace {

// Where the processor has no tiles there is nothing to test: cases count as skipped, not as passed.
const bool kNoTiles = !Bfloat16Linear::available();

using Values = std::vector<uint16_t>;

Values noise(int64_t count, unsigned seed, float scale = 1) {
  std::mt19937 generator(seed);
  Values out(static_cast<size_t>(count));
  for (uint16_t& v : out) v = bfloat16(scale * (float(generator() % 20001) / 10000.0f - 1.0f));
  return out;
}

std::vector<float> floats(int64_t count, unsigned seed) {
  std::vector<float> out;
  for (const uint16_t v : noise(count, seed)) out.push_back(from_bfloat16(v));
  return out;
}

struct Shape {
  int64_t rows, in, out;
};

// Values that a call must not touch.
constexpr uint16_t kUntouched = 0x1234;
constexpr size_t kMargin = 64;

// By calls for so many pieces; checks that nothing beside y is written.
Values run(const Bfloat16Linear& layer, const Values& x, bool gelu = false, int64_t together = 1000) {
  const int64_t rows = int64_t(x.size()) / layer.in();
  const size_t count = size_t(rows * layer.out());
  Values y(count + 2 * kMargin, kUntouched);
  Bfloat16Linear::Job job{x.data(), rows, y.data() + kMargin};
  job.gelu = gelu;
  for (int64_t p = 0; p < layer.pieces(rows); p += together)
    layer.run(job, p, std::min(p + together, layer.pieces(rows)));
  for (size_t i = 0; i < kMargin; ++i) {
    REQUIRE(y[i] == kUntouched);
    REQUIRE(y[kMargin + count + i] == kUntouched);
  }
  return Values(y.begin() + kMargin, y.begin() + std::ptrdiff_t(kMargin + count));
}

double gelu(double v) {
  return 0.5 * v * std::erfc(-v * std::sqrt(0.5));
}

// The largest difference from double precision; 1 is the most that one rounding to bfloat16 leaves (2^-8 of
// the result), plus 1e-5 for sums in float.
double worst_error(const Shape& s, const Values& w, const std::vector<float>& b, const Values& x,
                   bool with_gelu, const Values& y) {
  double worst = 0;
  for (int64_t m = 0; m < s.rows; ++m)
    for (int64_t n = 0; n < s.out; ++n) {
      double exact = b[size_t(n)];
      for (int64_t k = 0; k < s.in; ++k)
        exact += double(from_bfloat16(x[size_t(m * s.in + k)])) * from_bfloat16(w[size_t(n * s.in + k)]);
      if (with_gelu) exact = gelu(exact);
      const double off = std::abs(from_bfloat16(y[size_t(m * s.out + n)]) - exact);
      worst = std::max(worst, off / (std::abs(exact) / 256 + 1e-5 * std::sqrt(double(s.in))));
    }
  return worst;
}

}  // namespace

TEST_CASE("bfloat16 layer: one rounding away from the exact result, wherever rows, inputs and outputs end" *
          doctest::skip(kNoTiles)) {
  for (const Shape& s : std::vector<Shape>{{1, 1, 1},
                                           {3, 2, 17},
                                           {31, 31, 16},
                                           {32, 32, 32},
                                           {33, 33, 33},
                                           {40, 588, 48},
                                           {129, 64, 97},
                                           {290, 96, 130},
                                           {513, 40, 400},
                                           {530, 64, 769}}) {
    CAPTURE(s.rows);
    CAPTURE(s.in);
    CAPTURE(s.out);
    const Values w = noise(s.out * s.in, 1), x = noise(s.rows * s.in, 2);
    const auto b = floats(s.out, 4);
    const Bfloat16Linear layer(w.data(), b.data(), s.out, s.in);
    CHECK(layer.in() == s.in);
    CHECK(layer.out() == s.out);
    CHECK(worst_error(s, w, b, x, false, run(layer, x)) <= 1.01);
    CHECK(worst_error(s, w, b, x, true, run(layer, x, true)) <= 1.01);
    const Bfloat16Linear bare(w.data(), nullptr, s.out, s.in);
    CHECK(worst_error(s, w, std::vector<float>(size_t(s.out)), x, false, run(bare, x)) <= 1.01);
  }
}

TEST_CASE("bfloat16 layer: whole numbers are exact" * doctest::skip(kNoTiles)) {
  const Values w = {bfloat16(3), bfloat16(-2), bfloat16(1), bfloat16(0), bfloat16(5), bfloat16(-7)};
  const Values x = {bfloat16(4), bfloat16(6), bfloat16(-1)};
  const std::vector<float> b = {0.5f, -1};
  const Values y = run(Bfloat16Linear(w.data(), b.data(), 2, 3), x);
  CHECK(from_bfloat16(y[0]) == 12 - 12 - 1 + 0.5f);
  CHECK(from_bfloat16(y[1]) == 30 + 7 - 1);
}

TEST_CASE("bfloat16 layer: how work is cut, and which rows are beside it, changes no bit of a row" *
          doctest::skip(kNoTiles)) {
  const int64_t in = 96, out = 500;
  const Values w = noise(out * in, 5), x = noise(600 * in, 6);
  const auto b = floats(out, 7);
  const Bfloat16Linear layer(w.data(), b.data(), out, in);
  const Values all = run(layer, x);
  CHECK(layer.pieces(600) > 4);
  CHECK(layer.pieces(100) > 1);
  for (const int64_t together : {1, 2, 3}) CHECK(run(layer, x, false, together) == all);
  for (const auto& [first, rows] :
       std::vector<std::array<int64_t, 2>>{{0, 1}, {17, 1}, {100, 40}, {333, 267}}) {
    CAPTURE(first);
    const Values some(x.begin() + first * in, x.begin() + (first + rows) * in);
    CHECK(run(layer, some) == Values(all.begin() + first * out, all.begin() + (first + rows) * out));
  }
}

TEST_CASE("bfloat16 layer: what is not finite shows in its own row alone" * doctest::skip(kNoTiles)) {
  const int64_t rows = 70, in = 64, out = 40;
  const Values w = noise(out * in, 11);
  Values x = noise(rows * in, 12);
  const Bfloat16Linear layer(w.data(), nullptr, out, in);
  const Values before = run(layer, x), before_gelu = run(layer, x, true);
  x[size_t(35 * in + 7)] = bfloat16(std::numeric_limits<float>::infinity());
  x[size_t(69 * in + 63)] = 0x7fc0;  // not a number
  const Values after = run(layer, x), after_gelu = run(layer, x, true);
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t n = 0; n < out; ++n) {
      const size_t i = size_t(m * out + n);
      const float v = from_bfloat16(after[i]), g = from_bfloat16(after_gelu[i]);
      if (m == 69) {
        CHECK(std::isnan(v));
        CHECK(std::isnan(g));
      } else if (m == 35) {
        CHECK_FALSE(std::isfinite(v));
        CHECK((std::isnan(v) ? std::isnan(g) : g == std::max(v, 0.0f)));
      } else {
        CHECK(after[i] == before[i]);
        CHECK(after_gelu[i] == before_gelu[i]);
      }
    }
}

TEST_CASE("bfloat16 layer: GELU far from zero is the value or zero" * doctest::skip(kNoTiles)) {
  const Values one = {bfloat16(1)};
  const Bfloat16Linear layer(one.data(), nullptr, 1, 1);
  for (const float v : {15.9f, 16.5f, 300.0f, 1e20f, 3e38f, std::numeric_limits<float>::infinity()}) {
    CAPTURE(v);
    const float rounded = from_bfloat16(bfloat16(v));
    CHECK(from_bfloat16(run(layer, {bfloat16(v)}, true)[0]) == rounded);
    CHECK(from_bfloat16(run(layer, {bfloat16(-v)}, true)[0]) == 0);
  }
}

TEST_CASE("bfloat16 layer: a thread keeps little memory for its next call" * doctest::skip(kNoTiles)) {
  const auto kept_after = [](int64_t in) {
    const Values w = noise(32 * in, 13), x = noise(128 * in, 14);
    run(Bfloat16Linear(w.data(), nullptr, 32, in), x);
    return Bfloat16Linear::kept();
  };
  CHECK(kept_after(4096) == 4096 * 128 * 2);
  CHECK(kept_after(4128) == 0);
}

TEST_CASE("bfloat16 layer: no rows are no work") {
  const Values w = noise(32 * 32, 15);
  const Bfloat16Linear layer(w.data(), nullptr, 32, 32);
  CHECK(layer.pieces(0) == 0);
  if (Bfloat16Linear::available()) CHECK(run(layer, {}).empty());
}
TEST_CASE("bfloat16 layer: an empty layer is refused") {
  CHECK_THROWS_WITH_AS(Bfloat16Linear(nullptr, nullptr, 0, 5), doctest::Contains("one output, not 0"),
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(Bfloat16Linear(nullptr, nullptr, 5, 0), doctest::Contains("one input, not 0"),
                       std::invalid_argument);
}
TEST_CASE("bfloat16 layer: without tiles it does not run") {
  const Limited limited(Instructions::no_tiles);
  CHECK_FALSE(Bfloat16Linear::available());
  const Values w = noise(32 * 32, 16), x = noise(32, 17);
  Values y(32, kUntouched);
  const Bfloat16Linear layer(w.data(), nullptr, 32, 32);
  CHECK_THROWS_AS(layer.run({x.data(), 1, y.data()}, 0, layer.pieces(1)), std::logic_error);
  CHECK(std::all_of(y.begin(), y.end(), [](uint16_t v) { return v == kUntouched; }));
}
