// SPDX-License-Identifier: MIT
#include "image/colormap.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <thread>
#include <tuple>
#include <vector>

using da3::image::color_table;
using da3::image::Colormap;
using da3::image::Rgb;

namespace {

double luma(const Rgb& c) {
  return 0.2126 * c.r + 0.7152 * c.g + 0.0722 * c.b;
}

const Colormap kAll[] = {Colormap::spectral, Colormap::turbo, Colormap::inferno, Colormap::viridis,
                         Colormap::gray};

}  // namespace

TEST_CASE("spectral has upstream's bytes") {
  const auto& t = color_table(Colormap::spectral);
  CHECK(t[0] == Rgb{158, 1, 66});
  CHECK(t[1] == Rgb{160, 3, 66});
  CHECK(t[64] == Rgb{248, 142, 82});
  CHECK(t[128] == Rgb{254, 254, 190});
  CHECK(t[192] == Rgb{134, 206, 164});
  CHECK(t[255] == Rgb{94, 79, 162});
}

TEST_CASE("spectral follows floor(255 x value) of the interpolation in double, to one step") {
  const double anchors[11][3] = {{158, 1, 66},    {213, 62, 79},   {244, 109, 67},  {253, 174, 97},
                                 {254, 224, 139}, {255, 255, 191}, {230, 245, 152}, {171, 221, 164},
                                 {102, 194, 165}, {50, 136, 189},  {94, 79, 162}};
  const auto& t = color_table(Colormap::spectral);
  int exact = 0;
  for (int i = 0; i < 256; ++i) {
    const double at = i * 10.0 / 255;
    const int k = std::min(int(at), 9);
    const uint8_t got[3] = {t[i].r, t[i].g, t[i].b};
    for (int c = 0; c < 3; ++c) {
      const double value = anchors[k][c] / 255 + (anchors[k + 1][c] - anchors[k][c]) / 255 * (at - k);
      const int want = int(255 * value);
      CHECK(std::abs(got[c] - want) <= 1);
      exact += got[c] == want;
    }
  }
  CHECK(exact >= 750);  // of 768; the rest are sums that are whole but for rounding
}

TEST_CASE("spectral never leaves the range of the two colours around it") {
  const auto& t = color_table(Colormap::spectral);
  for (int i = 1; i < 256; ++i) {
    CHECK(std::abs(t[i].r - t[i - 1].r) <= 4);
    CHECK(std::abs(t[i].g - t[i - 1].g) <= 4);
    CHECK(std::abs(t[i].b - t[i - 1].b) <= 4);
  }
}

TEST_CASE("gray is the identity") {
  const auto& t = color_table(Colormap::gray);
  for (int i = 0; i < 256; ++i) CHECK(t[i] == Rgb{uint8_t(i), uint8_t(i), uint8_t(i)});
}

TEST_CASE("inferno and viridis get brighter from end to end") {
  for (Colormap map : {Colormap::inferno, Colormap::viridis}) {
    const auto& t = color_table(map);
    for (int i = 1; i < 256; ++i) CHECK(luma(t[i]) >= luma(t[i - 1]) - 1.5);
    CHECK(luma(t[255]) > luma(t[0]) + 150);
  }
}

TEST_CASE("red, green and blue are not swapped") {
  CHECK(color_table(Colormap::turbo)[255].r > 100);
  CHECK(color_table(Colormap::turbo)[255].b < 30);
  CHECK(color_table(Colormap::turbo)[50].b > 200);
  CHECK(color_table(Colormap::viridis)[0].b > color_table(Colormap::viridis)[0].g);
  CHECK(color_table(Colormap::viridis)[255].r > 240);
  CHECK(color_table(Colormap::inferno)[150].r > color_table(Colormap::inferno)[150].b);
}

TEST_CASE("the warm or bright end is where warm_end_is_last says") {
  for (Colormap map : kAll) {
    const auto& t = color_table(map);
    const Rgb warm = da3::image::warm_end_is_last(map) ? t[255] : t[0];
    const Rgb cold = da3::image::warm_end_is_last(map) ? t[0] : t[255];
    CHECK(warm.r > cold.r);
  }
}

TEST_CASE("maps do not repeat colours much") {
  for (Colormap map : kAll) {
    std::set<std::tuple<int, int, int>> seen;
    for (const Rgb& c : color_table(map)) seen.insert({c.r, c.g, c.b});
    CHECK(seen.size() >= 250);
  }
}

TEST_CASE("a value outside of the enumeration is refused") {
  CHECK_THROWS_AS(color_table(Colormap(5)), std::invalid_argument);
  CHECK_THROWS_AS(color_table(Colormap(-1)), std::invalid_argument);
}

TEST_CASE("threads that ask at once get the same table") {
  std::vector<std::thread> threads;
  std::vector<const void*> tables(8);
  for (int i = 0; i < 8; ++i) threads.emplace_back([&, i] { tables[i] = &color_table(Colormap::turbo); });
  for (auto& thread : threads) thread.join();
  for (const void* table : tables) CHECK(table == &color_table(Colormap::turbo));
}
