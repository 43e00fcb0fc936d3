// SPDX-License-Identifier: MIT
#include "engine/kernels/bfloat16_conv.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
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
const bool kNoTiles = !Bfloat16Conv::available();

using Values = std::vector<uint16_t>;

Values noise(int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  Values out(static_cast<size_t>(count));
  for (uint16_t& v : out) v = bfloat16(float(generator() % 20001) / 10000.0f - 1.0f);
  return out;
}

std::vector<float> floats(const Values& values) {
  std::vector<float> out;
  for (const uint16_t v : values) out.push_back(from_bfloat16(v));
  return out;
}

struct Shape {
  int64_t items, rows, columns, in, out;
  int64_t padding = 1;
  int64_t out_rows() const { return rows + 2 * padding - 2; }
};

// Values that a call must not touch.
constexpr uint16_t kUntouched = 0x1234;
constexpr size_t kMargin = 64;

struct After {
  bool relu = false;
  Values base;  // to be added to, if there is one
};

// By calls for so many pieces; checks that nothing beside the result is written.
Values run(const Bfloat16Conv& conv, const Shape& s, const Values& x, const After& after = {},
           int64_t together = 1000) {
  const size_t count = size_t(s.items * s.out_rows() * s.columns * s.out);
  Values y(count + 2 * kMargin, kUntouched);
  std::copy(after.base.begin(), after.base.end(), y.begin() + kMargin);
  const Bfloat16Conv::Job job{
      x.data(), s.items, s.rows, s.columns, s.padding, y.data() + kMargin, after.relu, !after.base.empty()};
  const int64_t pieces = conv.pieces(job);
  for (int64_t p = 0; p < pieces; p += together) conv.run(job, p, std::min(p + together, pieces));
  for (size_t i = 0; i < kMargin; ++i) {
    REQUIRE(y[i] == kUntouched);
    REQUIRE(y[kMargin + count + i] == kUntouched);
  }
  return Values(y.begin() + kMargin, y.begin() + std::ptrdiff_t(kMargin + count));
}

// One output, without bias.
double exact(const Shape& s, const std::vector<float>& w, const std::vector<float>& x, int64_t item,
             int64_t row, int64_t column, int64_t n) {
  double sum = 0;
  for (int64_t tap = 0; tap < 9; ++tap) {
    const int64_t y = row - s.padding + tap / 3, z = column - 1 + tap % 3;
    if (y < 0 || y >= s.rows || z < 0 || z >= s.columns) continue;
    for (int64_t c = 0; c < s.in; ++c)
      sum += double(x[size_t(((item * s.rows + y) * s.columns + z) * s.in + c)]) *
             w[size_t((n * s.in + c) * 9 + tap)];
  }
  return sum;
}

// The largest difference of every `step`-th value from double precision; 1 is the most that one rounding to
// bfloat16 leaves (2^-8 of the result), plus 1e-5 for sums in float.
double worst_error(const Shape& s, const Values& weights, const std::vector<float>& bias, const Values& input,
                   const After& after, const Values& y, int64_t step = 1) {
  const std::vector<float> w = floats(weights), x = floats(input), base = floats(after.base);
  double worst = 0;
  for (int64_t i = 0; i < std::ssize(y); i += step) {
    const int64_t pixel = i / s.out, line = pixel / s.columns;
    double expected = exact(s, w, x, line / s.out_rows(), line % s.out_rows(), pixel % s.columns, i % s.out) +
                      bias[size_t(i % s.out)];
    if (!base.empty()) expected += base[size_t(i)];
    if (after.relu) expected = std::max(expected, 0.0);
    const double off = std::abs(from_bfloat16(y[size_t(i)]) - expected);
    worst = std::max(worst, off / (std::abs(expected) / 256 + 1e-5 * std::sqrt(9.0 * double(s.in))));
  }
  return worst;
}

}  // namespace

TEST_CASE("bfloat16 convolution: one rounding away from the exact result, wherever maps and channels end" *
          doctest::skip(kNoTiles)) {
  for (const Shape& s : std::vector<Shape>{{1, 1, 1, 1, 1},
                                           {1, 2, 1, 3, 17},
                                           {2, 3, 5, 32, 32},
                                           {1, 4, 31, 33, 40},
                                           {3, 7, 30, 48, 33},
                                           {1, 9, 40, 96, 64},
                                           {2, 5, 13, 64, 130},
                                           // Several bands without padding, and bands larger than the cache.
                                           {2, 40, 130, 32, 8, 0},
                                           {1, 3, 130, 1024, 3}}) {
    CAPTURE(s.columns);
    CAPTURE(s.in);
    CAPTURE(s.out);
    const Values w = noise(s.out * s.in * 9, 1), x = noise(s.items * s.rows * s.columns * s.in, 2);
    const auto b = floats(noise(s.out, 3));
    const Bfloat16Conv conv(w.data(), b.data(), s.out, s.in), bare(w.data(), nullptr, s.out, s.in);
    CHECK(conv.in() == s.in);
    CHECK(conv.out() == s.out);
    const Values base = noise(s.items * s.out_rows() * s.columns * s.out, 4);
    const int64_t step = s.columns > 100 ? 11 : 1;
    for (const After& after : std::vector<After>{{}, {true, {}}, {false, base}, {true, base}})
      CHECK(worst_error(s, w, b, x, after, run(conv, s, x, after), step) <= 1.01);
    CHECK(worst_error(s, w, std::vector<float>(size_t(s.out)), x, {}, run(bare, s, x), step) <= 1.01);
  }
}

TEST_CASE("bfloat16 convolution: rows that come with their neighbours are not padded" *
          doctest::skip(kNoTiles)) {
  const Shape all{1, 12, 21, 64, 32}, inner{1, 12, 21, 64, 32, 0};
  const Values w = noise(32 * 64 * 9, 5), x = noise(12 * 21 * 64, 6);
  const Bfloat16Conv conv(w.data(), nullptr, 32, 64);
  const Values padded = run(conv, all, x), bare = run(conv, inner, x);
  CHECK(bare == Values(padded.begin() + 21 * 32, padded.end() - 21 * 32));
  const Shape none{1, 2, 21, 64, 32, 0};
  CHECK(run(conv, none, Values(2 * 21 * 64)).empty());
}

TEST_CASE("bfloat16 convolution: a single filter moves the map" * doctest::skip(kNoTiles)) {
  // The value above and to the left of each; zeros come in from the edges.
  Values w(9);
  w[0] = bfloat16(1);
  const Shape s{1, 3, 3, 1, 1};
  Values x;
  for (int i = 1; i <= 9; ++i) x.push_back(bfloat16(float(i)));
  const std::vector<float> expected = {0, 0, 0, 0, 1, 2, 0, 4, 5};
  CHECK(floats(run(Bfloat16Conv(w.data(), nullptr, 1, 1), s, x)) == expected);
}

TEST_CASE("bfloat16 convolution: how work is cut, and which items are beside it, changes no bit" *
          doctest::skip(kNoTiles)) {
  // Wide enough for several bands, few enough of them for pieces of some outputs, and the other way round.
  for (const Shape& s : std::vector<Shape>{{2, 40, 130, 96, 160}, {40, 3, 20, 32, 96}}) {
    const int64_t map = s.rows * s.columns;
    const Values w = noise(s.out * s.in * 9, 7), x = noise(s.items * map * s.in, 8);
    const Bfloat16Conv conv(w.data(), nullptr, s.out, s.in);
    const Bfloat16Conv::Job job{x.data(), s.items, s.rows, s.columns, 1, nullptr};
    CHECK(conv.pieces(job) > 8);
    const Values all = run(conv, s, x);
    CHECK(worst_error(s, w, std::vector<float>(size_t(s.out)), x, {}, all, 997) <= 1.01);
    for (const int64_t together : {1, 3}) CHECK(run(conv, s, x, {}, together) == all);
    Shape one = s;
    one.items = 1;
    const Values last(x.end() - map * s.in, x.end());
    CHECK(run(conv, one, last) == Values(all.end() - map * s.out, all.end()));
  }
}

TEST_CASE("bfloat16 convolution: what is not finite reaches its neighbours alone" * doctest::skip(kNoTiles)) {
  const Shape s{1, 9, 40, 32, 33};
  const Values w = noise(s.out * s.in * 9, 9);
  Values x = noise(s.rows * s.columns * s.in, 10);
  const Bfloat16Conv conv(w.data(), nullptr, s.out, s.in);
  const Values before = run(conv, s, x, {true, {}});
  // At the end of a row: what follows it in memory is not its neighbour.
  x[size_t((4 * s.columns + s.columns - 1) * s.in + 5)] = 0x7fc0;
  const Values after = run(conv, s, x, {true, {}});
  for (int64_t i = 0; i < std::ssize(after); ++i) {
    const int64_t row = i / s.out / s.columns, column = i / s.out % s.columns;
    const bool near = std::abs(row - 4) <= 1 && column >= s.columns - 2;
    if (near)
      CHECK(std::isnan(from_bfloat16(after[size_t(i)])));
    else
      CHECK(after[size_t(i)] == before[size_t(i)]);
  }
}

TEST_CASE("bfloat16 convolution: many threads find work in small maps, and large bands are not cut") {
  const auto pieces = [](int64_t side, int64_t in, int64_t out) {
    const Values w = noise(out * in * 9, 16);
    return Bfloat16Conv(w.data(), nullptr, out, in).pieces({nullptr, 1, side, side, 1, nullptr});
  };
  CHECK(pieces(144, 64, 64) >= 16);
  CHECK(pieces(72, 128, 128) >= 16);
  CHECK(pieces(36, 256, 256) >= 16);
  CHECK(pieces(288, 128, 64) >= 32);
  CHECK(pieces(4, 64, 64) == 1);
}

TEST_CASE("bfloat16 convolution: a thread keeps little memory for its next call" * doctest::skip(kNoTiles)) {
  const auto kept_after = [](int64_t columns) {
    const Shape s{1, 1, columns, 32, 32};
    const Values w = noise(32 * 32 * 9, 11);
    run(Bfloat16Conv(w.data(), nullptr, 32, 32), s, noise(columns * 32, 12));
    return Bfloat16Conv::kept();
  };
  CHECK(kept_after(100) > 0);
  CHECK(kept_after(100) <= size_t(1) << 20);
  CHECK(kept_after(8000) == 0);
}

TEST_CASE("bfloat16 convolution: an empty map is no work") {
  const Values w = noise(32 * 32 * 9, 13);
  const Bfloat16Conv conv(w.data(), nullptr, 32, 32);
  CHECK(conv.pieces({nullptr, 0, 5, 5, 1, nullptr}) == 0);
  CHECK(conv.pieces({nullptr, 1, 5, 0, 1, nullptr}) == 0);
  CHECK(conv.pieces({nullptr, 1, 1, 5, 0, nullptr}) == 0);
}
TEST_CASE("bfloat16 convolution: an empty layer is refused") {
  CHECK_THROWS_WITH_AS(Bfloat16Conv(nullptr, nullptr, 0, 5), doctest::Contains("one output, not 0"),
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(Bfloat16Conv(nullptr, nullptr, 5, 0), doctest::Contains("one input, not 0"),
                       std::invalid_argument);
}
TEST_CASE("bfloat16 convolution: without tiles it does not run") {
  const Limited limited(Instructions::no_tiles);
  CHECK_FALSE(Bfloat16Conv::available());
  const Values w = noise(32 * 32 * 9, 14), x = noise(32, 15);
  Values y(32, kUntouched);
  const Bfloat16Conv conv(w.data(), nullptr, 32, 32);
  CHECK_THROWS_AS(conv.run({x.data(), 1, 1, 1, 1, y.data()}, 0, 1), std::logic_error);
  CHECK(std::all_of(y.begin(), y.end(), [](uint16_t v) { return v == kUntouched; }));
}
