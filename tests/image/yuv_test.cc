// SPDX-License-Identifier: MIT
#include "image/yuv.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <opencv2/core.hpp>
#include <random>
#include <stdexcept>
#include <vector>

#include "image/processor.h"

namespace da3::image {
namespace {

// Three planes with rows of their own lengths.
template <typename Code>
struct Planes {
  int width, height;
  int stride[3];
  std::vector<Code> data[3];

  Planes(int w, int h) : width(w), height(h), stride{w, w + 3, w + 8} {
    for (int c = 0; c < 3; ++c) data[c].assign(size_t(stride[c]) * h, Code(0));
  }
  Code& at(int c, int x, int y) { return data[c][size_t(y) * stride[c] + x]; }
  ConstYuv view(int bits) const {
    ConstYuv yuv;
    for (int c = 0; c < 3; ++c) {
      yuv.data[c] = reinterpret_cast<const uint8_t*>(data[c].data());
      yuv.stride[c] = stride[c] * int(sizeof(Code));
    }
    yuv.width = width;
    yuv.height = height;
    yuv.bits = bits;
    return yuv;
  }
};

double clip(double v) {
  return std::clamp(v, 0.0, 255.0);
}

// The definition, in double.
void expected_rgb(const YuvCoding& c, double y, double u, double v, double rgb[3]) {
  const double luma = (y - c.offset[0]) / c.scale[0], cb = (u - c.offset[1]) / c.scale[1],
               cr = (v - c.offset[2]) / c.scale[2];
  const double r = luma + 2 * (1 - c.kr) * cr, b = luma + 2 * (1 - c.kb) * cb;
  rgb[0] = clip(255 * r);
  rgb[2] = clip(255 * b);
  rgb[1] = clip(255 * (luma - c.kr * r - c.kb * b) / (1 - c.kr - c.kb));
}

template <typename Code>
double worst_error(const YuvCoding& coding, int bits, int step) {
  const int top = (1 << bits) - 1, count = top / step + 1;
  Planes<Code> planes(count, 64);
  double worst = 0;
  for (int block = 0; block < 8; ++block) {
    for (int y = 0; y < planes.height; ++y) {
      for (int x = 0; x < count; ++x) {
        planes.at(0, x, y) = Code(std::min(x * step, top));
        planes.at(1, x, y) = Code((y * 4 + block) * (top / 256 + 1) % (top + 1));
        planes.at(2, x, y) = Code((y * 37 + block * 61 + x) * (top / 256 + 1) % (top + 1));
      }
    }
    std::vector<uint8_t> out(size_t(count) * 64 * 3);
    yuv_to_rgb(planes.view(bits), coding, {out.data(), count, 64, count * 3});
    for (int y = 0; y < 64; ++y) {
      for (int x = 0; x < count; ++x) {
        double rgb[3];
        expected_rgb(coding, planes.at(0, x, y), planes.at(1, x, y), planes.at(2, x, y), rgb);
        for (int c = 0; c < 3; ++c) {
          worst = std::max(worst, std::abs(rgb[c] - out[(size_t(y) * count + x) * 3 + c]));
        }
      }
    }
  }
  return worst;
}

// Bytes in front of memory that nobody may read.
class LastBytes {
 public:
  explicit LastBytes(size_t count) {
    const auto page = size_t(sysconf(_SC_PAGESIZE));
    const size_t pages = (count + page - 1) / page * page;
    length_ = pages + page;
    base_ = static_cast<uint8_t*>(
        mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(base_ != MAP_FAILED);
    REQUIRE(mprotect(base_ + pages, page, PROT_NONE) == 0);
    data_ = base_ + pages - count;
  }
  ~LastBytes() { munmap(base_, length_); }
  LastBytes(const LastBytes&) = delete;
  LastBytes& operator=(const LastBytes&) = delete;
  uint8_t* data() const { return data_; }

 private:
  uint8_t *base_ = nullptr, *data_ = nullptr;
  size_t length_ = 0;
};

class WithVectors {
 public:
  explicit WithVectors(Vectors most) : before_(most_vectors.exchange(most)) {}
  ~WithVectors() { most_vectors = before_; }
  WithVectors(const WithVectors&) = delete;
  WithVectors& operator=(const WithVectors&) = delete;

 private:
  const Vectors before_;
};

const YuvCoding kBt709Full = {0.2126, 0.0722, {0, 128, 128}, {255, 255, 255}};

}  // namespace

TEST_CASE("8 bit colours are exact to rounding") {
  CHECK(worst_error<uint8_t>({}, 8, 1) < 0.501);
  CHECK(worst_error<uint8_t>(kBt709Full, 8, 1) < 0.501);
}

TEST_CASE("deep colours are exact to rounding") {
  CHECK(worst_error<uint16_t>({0.2627, 0.0593, {64, 512, 512}, {876, 896, 896}}, 10, 1) < 0.501);
  CHECK(worst_error<uint16_t>({0.2627, 0.0593, {4096, 32768, 32768}, {56064, 57344, 57344}}, 16, 97) < 0.502);
}

TEST_CASE("grey stays grey and the ends of the range are black and white") {
  Planes<uint8_t> planes(256, 1);
  for (int x = 0; x < 256; ++x) {
    planes.at(0, x, 0) = uint8_t(x);
    planes.at(1, x, 0) = planes.at(2, x, 0) = 128;
  }
  std::vector<uint8_t> out(256 * 3);
  yuv_to_rgb(planes.view(8), {}, {out.data(), 256, 1, 768});
  CHECK(out[16 * 3] == 0);
  CHECK(out[235 * 3] == 255);
  CHECK(out[0] == 0);
  CHECK(out[255 * 3] == 255);
  for (int x = 0; x < 256; ++x) {
    CHECK(out[x * 3] == out[x * 3 + 1]);
    CHECK(out[x * 3] == out[x * 3 + 2]);
  }
}

TEST_CASE("any height, padded and bottom-up rows, and nothing beside the picture is written") {
  for (int height : {1, 15, 16, 17, 40}) {
    Planes<uint8_t> planes(23, height);
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < 23; ++x) {
        for (int c = 0; c < 3; ++c) planes.at(c, x, y) = uint8_t(x * 5 + y * 3 + c * 40);
      }
    }
    std::vector<uint8_t> tight(size_t(23) * height * 3), wide(size_t(80) * height, 0xCD),
        flipped(tight.size());
    yuv_to_rgb(planes.view(8), kBt709Full, {tight.data(), 23, height, 69});
    yuv_to_rgb(planes.view(8), kBt709Full, {wide.data(), 23, height, 80});
    ConstYuv bottom_up = planes.view(8);
    for (int c = 0; c < 3; ++c) {
      bottom_up.data[c] += std::ptrdiff_t(bottom_up.stride[c]) * (height - 1);
      bottom_up.stride[c] = -bottom_up.stride[c];
    }
    yuv_to_rgb(bottom_up, kBt709Full, {flipped.data(), 23, height, 69});
    for (int y = 0; y < height; ++y) {
      const auto row = tight.begin() + size_t(y) * 69;
      CHECK(std::equal(row, row + 69, wide.begin() + size_t(y) * 80));
      CHECK(std::equal(row, row + 69, flipped.begin() + size_t(height - 1 - y) * 69));
      CHECK(std::all_of(wide.begin() + size_t(y) * 80 + 69, wide.begin() + size_t(y + 1) * 80,
                        [](uint8_t v) { return v == 0xCD; }));
    }
  }
}

// One pixel is converted without vectors.
template <typename Code>
void check_alone(int bits, const YuvCoding& coding) {
  std::mt19937 random(1);
  for (int width = 1; width < 70; ++width) {
    Planes<Code> planes(width, 2);
    for (auto& plane : planes.data) {
      for (Code& code : plane) code = Code(random() & ((1u << bits) - 1));
    }
    std::vector<uint8_t> all(size_t(width) * 6), narrow(all.size());
    yuv_to_rgb(planes.view(bits), coding, {all.data(), width, 2, width * 3});
    {
      const WithVectors avx2(Vectors::avx2);
      yuv_to_rgb(planes.view(bits), coding, {narrow.data(), width, 2, width * 3});
    }
    CHECK(narrow == all);
    for (int i = 0; i < 2 * width; ++i) {
      Planes<Code> one(1, 1);
      for (int c = 0; c < 3; ++c) one.at(c, 0, 0) = planes.at(c, i % width, i / width);
      uint8_t rgb[3];
      yuv_to_rgb(one.view(bits), coding, {rgb, 1, 1, 3});
      CAPTURE(width);
      CAPTURE(i);
      CHECK(std::equal(rgb, rgb + 3, all.begin() + 3 * i));
    }
  }
}

TEST_CASE("a pixel has the bytes that it has alone, wherever it is") {
  check_alone<uint8_t>(8, {});
  check_alone<uint8_t>(8, kBt709Full);
  check_alone<uint8_t>(8, {0.299, 0.114, {16, 128, 128}, {1e-9, 1e-9, 1e-9}});
  check_alone<uint16_t>(10, {0.2627, 0.0593, {64, 512, 512}, {876, 896, 896}});
  check_alone<uint16_t>(16, {0.2627, 0.0593, {4096, 32768, 32768}, {56064, 57344, 57344}});
}

TEST_CASE("the number of threads changes no byte") {
  std::mt19937 random(2);
  Planes<uint8_t> planes(37, 101);
  for (auto& plane : planes.data) {
    for (uint8_t& code : plane) code = uint8_t(random());
  }
  std::vector<uint8_t> one(37 * 101 * 3), many(one.size());
  yuv_to_rgb(planes.view(8), {}, {one.data(), 37, 101, 111}, 1);
  const int before = cv::getNumThreads();
  for (const int threads : {1, 3, 8}) {
    cv::setNumThreads(threads);
    std::fill(many.begin(), many.end(), uint8_t(0xEE));
    yuv_to_rgb(planes.view(8), {}, {many.data(), 37, 101, 111}, 0);
    CHECK(many == one);
  }
  cv::setNumThreads(before);
}

// Where sample `i` of one row lies: apart from each other, between others.
struct Layout {
  int step[3];
  bool half_width, half_height, cosited;
};

// The samples of a plane, in memory that ends with the last one of them.
struct Plane {
  int width, height, stride, step;
  LastBytes bytes;

  Plane(int w, int h, int s, std::mt19937& random)
      : width(w), height(h), stride(w * s + 5), step(s), bytes(count()) {
    for (size_t i = 0; i < count(); ++i) bytes.data()[i] = uint8_t(random());
  }
  size_t count() const { return size_t(stride) * (height - 1) + size_t(width - 1) * step + 1; }
  int at(int x, int y) const {
    return bytes
        .data()[size_t(std::clamp(y, 0, height - 1)) * stride + size_t(std::clamp(x, 0, width - 1)) * step];
  }
};

// By the definition: pixel x of row y.
int filled_in(const Plane& plane, const Layout& layout, int x, int y) {
  const auto in_row = [&](int row) {
    if (!layout.half_width) return plane.at(x, row);
    const int own = x / 2;
    if (layout.cosited)
      return x % 2 ? (plane.at(own, row) + plane.at(own + 1, row) + 1) / 2 : plane.at(own, row);
    return (3 * plane.at(own, row) + plane.at(x % 2 ? own + 1 : own - 1, row) + 2) / 4;
  };
  if (!layout.half_height) return in_row(y);
  return (3 * in_row(y / 2) + in_row(y % 2 ? y / 2 + 1 : y / 2 - 1) + 2) / 4;
}

void check_filled_in(const Layout& layout, int width, int height, int threads) {
  std::mt19937 random(unsigned(width * 100 + height));
  const int columns = layout.half_width ? (width + 1) / 2 : width,
            rows = layout.half_height ? (height + 1) / 2 : height;
  const Plane planes[] = {{width, height, layout.step[0], random},
                          {columns, rows, layout.step[1], random},
                          {columns, rows, layout.step[2], random}};
  Planes<uint8_t> full(width, height);
  ConstYuv in;
  for (int c = 0; c < 3; ++c) {
    in.data[c] = planes[c].bytes.data();
    in.stride[c] = planes[c].stride;
    in.step[c] = planes[c].step;
    for (int i = 0; i < width * height; ++i) {
      const int x = i % width, y = i / width;
      full.at(c, x, y) = uint8_t(c == 0 ? planes[0].at(x, y) : filled_in(planes[c], layout, x, y));
    }
  }
  in.width = width;
  in.height = height;
  in.half_width = layout.half_width;
  in.half_height = layout.half_height;
  in.cosited = layout.cosited;
  std::vector<uint8_t> expected(size_t(width) * height * 3), out(expected.size());
  {
    const WithVectors none(Vectors::none);
    yuv_to_rgb(full.view(8), {}, {expected.data(), width, height, 3 * width});
  }
  CAPTURE(width);
  CAPTURE(height);
  CAPTURE(layout.step[0]);
  CAPTURE(layout.step[1]);
  CAPTURE(layout.cosited);
  for (const Vectors most : {Vectors::none, Vectors::avx2, Vectors::avx512}) {
    const WithVectors vectors(most);
    yuv_to_rgb(in, {}, {out.data(), width, height, 3 * width}, threads);
    CHECK(out == expected);
  }
  // Upside down: rows of negative strides. (Of an odd number of rows chroma lies elsewhere then.)
  if (layout.half_height && height % 2) return;
  std::vector<uint8_t> turned(out.size());
  for (int c = 0; c < 3; ++c) {
    in.data[c] += std::ptrdiff_t(in.stride[c]) * (planes[c].height - 1);
    in.stride[c] = -in.stride[c];
  }
  yuv_to_rgb(in, {}, {turned.data(), width, height, 3 * width}, threads);
  for (int y = 0; y < height; ++y)
    CHECK(std::equal(turned.begin() + size_t(y) * 3 * width, turned.begin() + size_t(y + 1) * 3 * width,
                     expected.begin() + size_t(height - 1 - y) * 3 * width));
}

TEST_CASE("halved chroma is filled in, whatever the layout, and nothing behind the last sample is read") {
  const Layout layouts[] = {{{1, 1, 1}, true, true, false},  {{1, 1, 1}, true, true, true},
                            {{1, 2, 2}, true, true, false},  {{1, 2, 2}, true, true, true},
                            {{2, 4, 4}, true, false, false}, {{2, 4, 4}, true, false, true},
                            {{1, 1, 1}, true, false, true},  {{3, 3, 3}, false, false, false}};
  for (const Layout& layout : layouts) {
    for (int width = 1; width < 132; ++width) {
      // All widths around those that are whole registers.
      if (width > 36 && width % 64 > 2 && width % 64 < 62 && width % 7) continue;
      for (int height : {1, 2, 3, 4, 9, 33}) check_filled_in(layout, width, height, width % 2);
    }
  }
}

TEST_CASE("what makes no sense is refused, and nothing is written") {
  Planes<uint8_t> planes(16, 4);
  const ConstYuv good = planes.view(8);
  std::vector<uint8_t> bytes(16 * 4 * 3, 0xEE);
  const MutableImage out{bytes.data(), 16, 4, 48};
  const auto broken = [&](auto change) {
    ConstYuv yuv = good;
    change(yuv);
    return yuv;
  };
  CHECK_THROWS_AS(yuv_to_rgb(broken([](ConstYuv& y) { y.data[2] = nullptr; }), {}, out),
                  std::invalid_argument);
  CHECK_THROWS_AS(yuv_to_rgb(broken([](ConstYuv& y) { y.stride[1] = 15; }), {}, out), std::invalid_argument);
  CHECK_THROWS_AS(yuv_to_rgb(broken([](ConstYuv& y) { y.width = 0; }), {}, out), std::invalid_argument);
  CHECK_THROWS_AS(yuv_to_rgb(broken([](ConstYuv& y) { y.bits = 7; }), {}, out), std::invalid_argument);
  CHECK_THROWS_AS(yuv_to_rgb(broken([](ConstYuv& y) { y.bits = 16; }), {}, out), std::invalid_argument);
  CHECK_THROWS_AS(yuv_to_rgb(broken([](ConstYuv& y) { y.half_height = true; }), {}, out),
                  std::invalid_argument);
  CHECK_THROWS_AS(yuv_to_rgb(broken([](ConstYuv& y) { y.step[2] = 0; }), {}, out), std::invalid_argument);
  CHECK_THROWS_AS(yuv_to_rgb(broken([](ConstYuv& y) { y.step[0] = 2; }), {}, out), std::invalid_argument);
  for (const auto change : {+[](ConstYuv& y) { y.half_width = true; }, +[](ConstYuv& y) { y.step[1] = 2; }}) {
    ConstYuv deep = good;
    deep.bits = 10;
    for (int& stride : deep.stride) stride = 1024;
    change(deep);
    CHECK_THROWS_AS(yuv_to_rgb(deep, {}, out), std::invalid_argument);
  }
  CHECK_THROWS_AS(yuv_to_rgb(good, {0.6, 0.5}, out), std::invalid_argument);
  CHECK_THROWS_AS(yuv_to_rgb(good, {0.299, 0.114, {0, 0, 0}, {255, 0, 255}}, out), std::invalid_argument);
  CHECK_THROWS_AS(yuv_to_rgb(good, {}, {bytes.data(), 15, 4, 48}), std::invalid_argument);
  CHECK_THROWS_AS(yuv_to_rgb(good, {}, {bytes.data(), 16, 4, 47}), std::invalid_argument);
  CHECK_THROWS_AS(yuv_to_rgb(good, {}, {nullptr, 16, 4, 48}), std::invalid_argument);
  CHECK(std::all_of(bytes.begin(), bytes.end(), [](uint8_t v) { return v == 0xEE; }));
}

}  // namespace da3::image
