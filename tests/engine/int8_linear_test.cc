// SPDX-License-Identifier: MIT
#include "engine/kernels/int8_linear.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "bfloat16_bits.h"
#include "instruction_sets.h"

using namespace da3::kernels;
using da3::test::bfloat16;
using da3::test::from_bfloat16;
using da3::test::Limited;
using da3::test::with_every_instruction_set;

namespace {

std::vector<float> noise(int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& v : out) v = float(generator() % 20001) / 10000.0f - 1.0f;
  return out;
}

class Rows {
 public:
  template <typename T>
  Rows(const std::vector<T>& x, int64_t rows, int64_t width)
      : memory_((Int8Rows::bytes(rows, width) + 63) / 64), rows_(rows, width, memory_.data()) {
    for (int64_t m = 0; m < rows; ++m) rows_.set_row(m, x.data() + m * width);
  }
  operator const Int8Rows&() const { return rows_; }
  const Int8Rows& operator*() const { return rows_; }

 private:
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> memory_;
  Int8Rows rows_;
};

Rows rows_of(const std::vector<float>& x, int64_t rows, int64_t width) {
  return Rows(x, rows, width);
}

constexpr Instructions kAll = Instructions::all, kNoTiles = Instructions::no_tiles,
                       kNoBfloat16 = Instructions::no_bfloat16, kPlain = Instructions::none;

// `before`: what is there.
template <typename T = float>
std::vector<T> run(const Int8Linear& layer, const Int8Rows& x, Instructions most = kAll,
                   Int8Output how = Int8Output::store, T before = T(7)) {
  const Limited limited(most);
  std::vector<T> y(size_t(x.rows() * layer.out()), before);
  layer.run(x, y.data(), how, 0, layer.tiles(x.rows()));
  return y;
}

}  // namespace

TEST_CASE("int8: close to the exact product, for shapes that fill no block") {
  for (const auto& [m, k, n] :
       std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {7, 5, 3}, {9, 64, 48}, {130, 97, 131}}) {
    CAPTURE(m);
    CAPTURE(k);
    CAPTURE(n);
    const auto w = noise(n * k, 1), b = noise(n, 2), x = noise(m * k, 3);
    const Int8Linear layer(w.data(), b.data(), n, k);
    const auto y = run(layer, rows_of(x, m, k));
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double exact = b[size_t(j)];
        for (int64_t c = 0; c < k; ++c) exact += double(x[size_t(i * k + c)]) * w[size_t(j * k + c)];
        // Each factor is off by at most half a step of 1/127.
        CHECK(std::abs(y[size_t(i * n + j)] - exact) < 0.009 * double(k));
        CHECK(std::abs(y[size_t(i * n + j)] - exact) < 0.02 * std::sqrt(double(k)) + 0.02);
      }
    }
  }
}

TEST_CASE("int8: numbers that 8 bits hold exactly are exact") {
  const std::vector<float> w = {127, -127, 1, 0, 3, 127}, x = {127, 2, -5}, b = {0.5f, -1};
  const auto y = run(Int8Linear(w.data(), b.data(), 2, 3), rows_of(x, 1, 3));
  CHECK(y[0] == 127 * 127 - 127 * 2 - 5 + 0.5f);
  CHECK(y[1] == 0 + 3 * 2 - 127 * 5 - 1.0f);
}

TEST_CASE("int8: every kernel gives the same bits") {
  const auto w = noise(200 * 150, 4), b = noise(200, 5), x = noise(77 * 150, 6);
  const Int8Linear layer(w.data(), b.data(), 200, 150);
  const Rows rows = rows_of(x, 77, 150);
  for (const Instructions most : {kNoTiles, kNoBfloat16, kPlain}) {
    CHECK(run(layer, rows) == run(layer, rows, most));
    CHECK(run<uint16_t>(layer, rows) == run<uint16_t>(layer, rows, most));
    const Limited limited(most);
    CHECK(run(layer, rows_of(x, 77, 150)) == run(layer, rows));  // rows quantised by another kernel
    const Int8Linear other(w.data(), b.data(), 200, 150);        // and weights
    CHECK(run(other, rows, kAll) == run(layer, rows));
  }
}

TEST_CASE("int8: whole tiles give the same bits, wherever rows, outputs and the work of a thread end") {
  for (const auto& [m, k, n] : std::vector<std::array<int64_t, 3>>{{31, 64, 48},
                                                                   {32, 64, 96},
                                                                   {33, 128, 97},
                                                                   {63, 192, 144},
                                                                   {129, 64, 145},
                                                                   {290, 320, 200},
                                                                   {40, 1024, 50},
                                                                   {35, 62, 49},
                                                                   {161, 2048, 97}}) {
    CAPTURE(m);
    CAPTURE(k);
    CAPTURE(n);
    const auto w = noise(n * k, 31), b = noise(n, 32), x = noise(m * k, 33);
    const Int8Linear layer(w.data(), b.data(), n, k);
    const Rows rows = rows_of(x, m, k);
    for (const Int8Output how : {Int8Output::store, Int8Output::gelu, Int8Output::add}) {
      const auto expected = run(layer, rows, kNoTiles, how);
      CHECK(run(layer, rows, kAll, how) == expected);
      CHECK(run<uint16_t>(layer, rows, kAll, how, bfloat16(7)) ==
            run<uint16_t>(layer, rows, kNoTiles, how, bfloat16(7)));
      for (const int64_t step : {1, 2, 3}) {
        std::vector<float> parts(expected.size(), 7.0f);
        for (int64_t t = 0; t < layer.tiles(m); t += step)
          layer.run(rows, parts.data(), how, t, std::min(t + step, layer.tiles(m)));
        CHECK(parts == expected);
        std::vector<uint16_t> half(expected.size(), bfloat16(7));
        for (int64_t t = 0; t < layer.tiles(m); t += step)
          layer.run(rows, half.data(), how, t, std::min(t + step, layer.tiles(m)));
        CHECK(half == run<uint16_t>(layer, rows, kNoTiles, how, bfloat16(7)));
      }
    }
  }
}

TEST_CASE("int8: in whole tiles too a value that is not finite and a row of zeros stay in their rows") {
  const int64_t m = 37, k = 64, n = 50;
  const auto w = noise(n * k, 41);
  auto x = noise(m * k, 42);
  const Int8Linear layer(w.data(), nullptr, n, k);
  const auto clean = run(layer, rows_of(x, m, k));
  x[3 * k + 7] = std::numeric_limits<float>::quiet_NaN();
  x[34 * k + 9] = std::numeric_limits<float>::infinity();
  std::fill_n(x.begin() + 10 * k, k, 0.0f);
  for (const Instructions most : {kAll, kNoTiles, kNoBfloat16, kPlain}) {
    const auto y = run(layer, rows_of(x, m, k), most);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        const float v = y[size_t(i * n + j)];
        if (i == 3 || i == 34)
          CHECK(std::isnan(v));
        else
          CHECK(v == (i == 10 ? 0.0f : clean[size_t(i * n + j)]));
      }
  }
}

TEST_CASE("int8: kernels are chosen by what the processor has") {
  const std::string here = Int8Linear::instruction_set();
  CHECK((here == "amx") == has_amx());
  {
    const Limited limited(kNoTiles);
    CHECK_FALSE(has_amx());
    CHECK(Int8Linear::instruction_set() == std::string(has_avx512_vnni() ? "avx512vnni" : "plain"));
  }
  {
    const Limited limited(kNoBfloat16);
    CHECK(Int8Linear::instruction_set() == std::string(has_avx512_vnni() ? "avx512vnni" : "plain"));
    CHECK_FALSE(has_avx512_bf16());
    CHECK_FALSE(has_amx());
  }
  {
    const Limited limited(kPlain);
    CHECK(Int8Linear::instruction_set() == std::string("plain"));
    CHECK_FALSE(has_avx512());
    CHECK_FALSE(has_avx512_bf16());
    CHECK_FALSE(has_avx512_vnni());
  }
  CHECK(Int8Linear::instruction_set() == here);
}

TEST_CASE("int8: GELU of the result, by every kernel, from the far left to the far right") {
  // One input and weights from -30 to 30: outputs are those numbers, about.
  const int64_t n = 601;
  std::vector<float> w;
  for (int64_t i = 0; i < n; ++i) w.push_back(float(i - 300) / 10);
  const Int8Linear layer(w.data(), nullptr, n, 1);
  const std::vector<float> x = {1};
  const Rows rows = rows_of(x, 1, 1);
  const auto y = run(layer, rows), fast = run(layer, rows, kAll, Int8Output::gelu),
             plain = run(layer, rows, kPlain, Int8Output::gelu);
  for (size_t i = 0; i < y.size(); ++i) {
    CAPTURE(y[i]);
    const double exact = 0.5 * double(y[i]) * std::erfc(-double(y[i]) / std::sqrt(2.0));
    CHECK(std::abs(fast[i] - exact) < 4e-7 * std::max(1.0, std::abs(double(y[i]))));
    CHECK(std::abs(plain[i] - exact) < 4e-7 * std::max(1.0, std::abs(double(y[i]))));
  }
}

TEST_CASE("int8: bfloat16 in is as its floats, bfloat16 out is the rounded result") {
  const auto w = noise(70 * 90, 21), b = noise(70, 22), x = noise(11 * 90, 23);
  std::vector<uint16_t> half;
  std::vector<float> same;
  for (const float v : x) {
    half.push_back(bfloat16(v));
    same.push_back(from_bfloat16(half.back()));
  }
  const Int8Linear layer(w.data(), b.data(), 70, 90);
  with_every_instruction_set([&] {
    const Rows from_half(half, 11, 90), from_float(same, 11, 90);
    for (const Instructions most : {kAll, kNoTiles, kNoBfloat16, kPlain}) {
      const auto y = run(layer, from_half, most);
      CHECK(y == run(layer, from_float, most));
      const auto rounded = run<uint16_t>(layer, from_half, most);
      for (size_t i = 0; i < y.size(); ++i) CHECK(rounded[i] == bfloat16(y[i]));
    }
  });
  CHECK(run(layer, rows_of(same, 11, 90)) != run(layer, rows_of(x, 11, 90)));
}

TEST_CASE("int8: extremes do not saturate on the way") {
  const int64_t k = 4096;
  const std::vector<float> w(size_t(k), 1.0f), x(size_t(k), -1.0f);
  CHECK(run(Int8Linear(w.data(), nullptr, 1, k), rows_of(x, 1, k))[0] == doctest::Approx(-double(k)));
}

TEST_CASE("int8: a row does not depend on its neighbours, nor on how tiles are shared out") {
  const auto w = noise(100 * 40, 7), x = noise(300 * 40, 8);
  const Int8Linear layer(w.data(), nullptr, 100, 40);
  const auto all = run(layer, rows_of(x, 300, 40));
  const std::vector<float> one(x.begin() + 250 * 40, x.begin() + 251 * 40);
  const auto alone = run(layer, rows_of(one, 1, 40));
  CHECK(std::equal(alone.begin(), alone.end(), all.begin() + 250 * 100));
  std::vector<float> parts(all.size(), -9.0f);
  const Rows rows = rows_of(x, 300, 40);
  for (int64_t t = layer.tiles(300); t-- > 0;) layer.run(rows, parts.data(), Int8Output::store, t, t + 1);
  CHECK(parts == all);
}

TEST_CASE("int8: a residual is added to") {
  const auto w = noise(50 * 32, 9), x = noise(10 * 32, 10);
  const Int8Linear layer(w.data(), nullptr, 50, 32);
  const Rows rows = rows_of(x, 10, 32);
  const auto y = run(layer, rows);
  std::vector<float> sum(y.size(), 2.0f);
  layer.run(rows, sum.data(), Int8Output::add, 0, layer.tiles(10));
  for (size_t i = 0; i < y.size(); ++i) CHECK(sum[i] == doctest::Approx(y[i] + 2.0f));
  CHECK(run(layer, rows, kPlain, Int8Output::add, 2.0f) == sum);
}

TEST_CASE("int8: a residual in bfloat16 is added to and rounded once") {
  const auto w = noise(50 * 32, 9), b = noise(50, 24), x = noise(10 * 32, 10);
  const Int8Linear layer(w.data(), b.data(), 50, 32);
  const Rows rows = rows_of(x, 10, 32);
  const auto y = run(layer, rows);
  const float base = from_bfloat16(bfloat16(2.3f));
  for (const Instructions most : {kAll, kNoTiles, kNoBfloat16, kPlain}) {
    const auto sum = run<uint16_t>(layer, rows, most, Int8Output::add, bfloat16(base));
    for (size_t i = 0; i < y.size(); ++i) CHECK(sum[i] == bfloat16(y[i] + base));
  }
}

TEST_CASE("int8: rows and outputs of zeros") {
  std::vector<float> w = noise(4 * 8, 11), x(8, 0.0f);
  std::fill_n(w.begin(), 8, 0.0f);
  const std::vector<float> b = {3, 4, 5, 6};
  const Int8Linear layer(w.data(), b.data(), 4, 8);
  CHECK(run(layer, rows_of(x, 1, 8)) == b);
  x = noise(8, 12);
  CHECK(run(layer, rows_of(x, 1, 8))[0] == 3);
}

TEST_CASE("int8: a value that is not finite shows in its row and nowhere else") {
  const auto w = noise(4 * 8, 13);
  const Int8Linear layer(w.data(), nullptr, 4, 8);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> x = noise(3 * 8, 14);
    x[8 + 5] = bad;
    const auto y = run(layer, rows_of(x, 3, 8));
    for (int i = 0; i < 4; ++i) {
      CHECK(std::isfinite(y[size_t(i)]));
      CHECK(std::isnan(y[size_t(4 + i)]));
      CHECK(std::isfinite(y[size_t(8 + i)]));
    }
    std::vector<uint16_t> half(3 * 8, bfloat16(0.5f));
    half[8 + 5] = std::isnan(bad) ? 0x7fc0 : 0x7f80;
    for (const Instructions most : {kAll, kNoTiles, kNoBfloat16, kPlain}) {
      const auto z = run<uint16_t>(layer, Rows(half, 3, 8), most);
      for (size_t i = 0; i < 12; ++i) CHECK(std::isnan(from_bfloat16(z[i])) == (i / 4 == 1));
    }
  }
}

TEST_CASE("int8: weights that are not finite are refused") {
  std::vector<float> w(8, 1.0f);
  w[3] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH_AS(Int8Linear(w.data(), nullptr, 2, 4), doctest::Contains("output 0"),
                       std::invalid_argument);
}
TEST_CASE("int8: an empty layer is refused") {
  const float w = 1;
  CHECK_THROWS_AS(Int8Linear(&w, nullptr, 0, 1), std::invalid_argument);
  CHECK_THROWS_AS(Int8Linear(&w, nullptr, 1, 0), std::invalid_argument);
}
TEST_CASE("int8: so many inputs that sums could overflow are refused") {
  const float w = 1;
  CHECK_THROWS_WITH_AS(Int8Linear(&w, nullptr, 1, (int64_t(1) << 16) + 1), doctest::Contains("65536"),
                       std::invalid_argument);
}
TEST_CASE("int8: the most inputs, all extreme, do not overflow") {
  const int64_t k = int64_t(1) << 16;
  const std::vector<float> w(size_t(k), 1.0f);
  const Int8Linear layer(w.data(), nullptr, 1, k);
  for (const float sign : {1.0f, -1.0f})
    for (const int64_t rows : {1, 32}) {  // the second by whole tiles, where there are any
      const std::vector<float> x(size_t(rows * k), sign);
      for (const Instructions most : {kAll, kNoTiles, kPlain})
        for (const float y : run(layer, rows_of(x, rows, k), most))
          CHECK(y == doctest::Approx(double(sign) * double(k)));
    }
}
TEST_CASE("int8: numbers too small to be scaled count as zeros") {
  const float least = std::numeric_limits<float>::min();
  for (const float tiny : {std::numeric_limits<float>::denorm_min(), least / 2, 100 * least}) {
    CAPTURE(tiny);
    const std::vector<float> small(8, tiny), b = {3, 4};
    auto w = noise(2 * 8, 25), x = noise(8, 26);
    with_every_instruction_set([&] {
      const Rows zeros = rows_of(small, 1, 8);
      CHECK((*zeros).scale(0) == 0);
      CHECK((*zeros).sum(0) == 0);
      CHECK(std::all_of((*zeros).values(0), (*zeros).values(0) + 8, [](int8_t v) { return v == 0; }));
      CHECK(run(Int8Linear(w.data(), b.data(), 2, 8), zeros) == b);
    });
    std::copy(small.begin(), small.end(), w.begin());
    const auto y = run(Int8Linear(w.data(), b.data(), 2, 8), rows_of(x, 1, 8));
    CHECK(y[0] == b[0]);
    CHECK(y[1] != b[1]);
  }
  // A little larger, and they are numbers.
  const std::vector<float> small(8, 200 * least), w(8, 1.0f);
  with_every_instruction_set([&] {
    const float y = run(Int8Linear(w.data(), nullptr, 1, 8), rows_of(small, 1, 8))[0];
    CHECK(y / least == doctest::Approx(1600).epsilon(0.01));
  });
}
TEST_CASE("int8: no rows are no work") {
  const auto w = noise(2 * 8, 27);
  const Int8Linear layer(w.data(), nullptr, 2, 8);
  CHECK(layer.tiles(0) == 0);
  CHECK(Int8Rows::bytes(0, 8) == 0);
  CHECK(run(layer, Rows(std::vector<float>(), 0, 8)).empty());
}
TEST_CASE("int8: a layer takes about a quarter of its float size") {
  const auto w = noise(480 * 256, 15);
  CHECK(Int8Linear(w.data(), nullptr, 480, 256).bytes() < 480 * 256 * 1.1);
}
