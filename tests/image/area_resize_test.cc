// SPDX-License-Identifier: MIT
#include "image/area_resize.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <random>
#include <vector>

#include "image/processor.h"

namespace da3::image {
namespace {

using Bytes = std::vector<uint8_t>;

enum class Content { noise, black_and_white, white };

Bytes picture(Size size, std::mt19937& random, Content content = Content::noise) {
  Bytes rgb(size_t(size.width) * size.height * 3);
  for (uint8_t& value : rgb) {
    const uint8_t noise = uint8_t(random());
    value = content == Content::noise ? noise : content == Content::white || noise % 2 ? 255 : 0;
  }
  return rgb;
}

ConstImage tight(const Bytes& rgb, Size size) {
  return {rgb.data(), size.width, size.height, 3 * size.width};
}

Bytes by_opencv(const Bytes& rgb, Size from, Size to) {
  const cv::Mat in(from.height, from.width, CV_8UC3, const_cast<uint8_t*>(rgb.data()));
  Bytes out(size_t(to.width) * to.height * 3);
  cv::Mat target(to.height, to.width, CV_8UC3, out.data());
  cv::resize(in, target, target.size(), 0, 0, cv::INTER_AREA);
  REQUIRE(target.data == out.data());
  return out;
}

// Empty if it is not taken.
Bytes by_kernel(const ConstImage& in, Size to, int threads = 1) {
  Bytes out(size_t(to.width) * to.height * 3, 0xEE);
  if (resize_area(in, {out.data(), to.width, to.height, 3 * to.width}, threads)) return out;
  CHECK(std::all_of(out.begin(), out.end(), [](uint8_t v) { return v == 0xEE; }));
  return {};
}

bool no_kernel() {
  if (has_avx2()) return false;
  MESSAGE("skipped: this processor has no AVX2, cv::resize is called instead");
  return true;
}

int below(std::mt19937& random, int limit) {
  return int(random() % unsigned(limit));
}

// A side of the source and the one it shrinks to, by 1 to 12.
std::pair<int, int> shrinking(std::mt19937& random, int limit) {
  const int source = 1 + below(random, limit);
  return {source, std::max(1, source * 100 / (100 + below(random, 1100)))};
}

void check_equal(Size from, Size to, std::mt19937& random, Content content) {
  const Bytes rgb = picture(from, random, content);
  const Bytes ours = by_kernel(tight(rgb, from), to);
  if (ours.empty()) return;
  CAPTURE(from.width);
  CAPTURE(from.height);
  CAPTURE(to.width);
  CAPTURE(to.height);
  CHECK(ours == by_opencv(rgb, from, to));
}

// Memory of whole pages between two that cannot be read.
class Guarded {
 public:
  explicit Guarded(size_t size)
      : page_(size_t(sysconf(_SC_PAGESIZE))), size_((size + page_ - 1) / page_ * page_) {
    void* all = mmap(nullptr, size_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(all != MAP_FAILED);
    begin_ = static_cast<uint8_t*>(all) + page_;
    REQUIRE(mprotect(begin_, size_, PROT_READ | PROT_WRITE) == 0);
  }
  ~Guarded() { munmap(begin_ - page_, size_ + 2 * page_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  uint8_t* begin() { return begin_; }
  uint8_t* end() { return begin_ + size_; }

 private:
  size_t page_, size_;
  uint8_t* begin_ = nullptr;
};

}  // namespace

TEST_CASE("it is cv::resize to the byte, for sizes at random") {
  if (no_kernel()) return;
  std::mt19937 random(1);
  for (int i = 0; i < 400; ++i) {
    const auto [width, to_width] = shrinking(random, 400);
    const auto [height, to_height] = shrinking(random, 120);
    check_equal({width, height}, {to_width, to_height}, random,
                i % 2 ? Content::noise : Content::black_and_white);
  }
}

TEST_CASE("it is cv::resize to the byte for tiny pictures") {
  if (no_kernel()) return;
  std::mt19937 random(2);
  for (int i = 0; i < 600; ++i) {
    const Size from{1 + below(random, 20), 1 + below(random, 20)};
    const Size to{1 + below(random, from.width), 1 + below(random, from.height)};
    check_equal(from, to, random, Content::noise);
  }
}

TEST_CASE("it is cv::resize to the byte for whole factors, of one side or both") {
  if (no_kernel()) return;
  std::mt19937 random(3);
  for (int i = 0; i < 200; ++i) {
    const Size to{1 + below(random, 40), 1 + below(random, 40)};
    const Size from{to.width * (1 + below(random, 9)), to.height * (1 + below(random, 9)) + (i % 2 ? 1 : 0)};
    check_equal(from, to, random, i % 3 ? Content::black_and_white : Content::noise);
  }
}

TEST_CASE("it is cv::resize to the byte for the sizes of video and for extreme ones") {
  if (no_kernel()) return;
  std::mt19937 random(4);
  const std::pair<Size, Size> cases[] = {{{1920, 1080}, {504, 284}}, {{504, 284}, {504, 280}},
                                         {{640, 480}, {504, 378}},   {{1242, 375}, {504, 152}},
                                         {{1920, 1080}, {480, 270}}, {{7001, 3}, {14, 2}},
                                         {{3, 5003}, {2, 14}},       {{2000, 1500}, {1, 1}}};
  for (const auto& [from, to] : cases) check_equal(from, to, random, Content::noise);
}

TEST_CASE("the shrinking that users meet is taken") {
  if (no_kernel()) return;
  std::mt19937 random(5);
  const std::pair<Size, Size> cases[] = {{{640, 480}, {504, 378}}, {{1280, 720}, {504, 284}},
                                         {{504, 284}, {504, 280}}, {{20, 20}, {19, 20}},
                                         {{60, 60}, {20, 20}},     {{60, 50}, {30, 20}}};
  for (const auto& [from, to] : cases) CHECK(!by_kernel(tight(picture(from, random), from), to).empty());
}

TEST_CASE("what the kernel is not for is left alone") {
  std::mt19937 random(6);
  const std::pair<Size, Size> cases[] = {{{20, 20}, {21, 10}},
                                         {{20, 20}, {10, 21}},
                                         {{20, 20}, {40, 40}},
                                         {{20, 20}, {10, 10}},
                                         {{600, 600}, {2, 2}}};
  for (const auto& [from, to] : cases) CHECK(by_kernel(tight(picture(from, random), from), to).empty());
}

TEST_CASE("white stays white") {
  if (no_kernel()) return;
  std::mt19937 random(7);
  for (int width = 14; width < 100; ++width) {
    const Size from{100, 57}, to{width, width / 2};
    const Bytes out = by_kernel(tight(picture(from, random, Content::white), from), to);
    CHECK(std::all_of(out.begin(), out.end(), [](uint8_t v) { return v == 255; }));
  }
}

TEST_CASE("rows of any stride, also bottom-up, are read, and no byte outside of the picture is") {
  if (no_kernel()) return;
  std::mt19937 random(8);
  for (int i = 0; i < 60; ++i) {
    const Size from{20 + below(random, 60), 3 + below(random, 20)};
    const Size to{1 + below(random, from.width - 1), 1 + below(random, from.height - 1)};
    const int row = 3 * from.width, stride = row + (i % 3) * 7;
    const Bytes rgb = picture(from, random);
    const Bytes expected = by_opencv(rgb, from, to);
    Guarded memory(size_t(stride) * from.height);
    // The first byte behind one page, or the last byte before the other.
    uint8_t* begin = i % 2 ? memory.begin() : memory.end() - (size_t(stride) * (from.height - 1) + row);
    for (int y = 0; y < from.height; ++y) {
      const int source = i % 4 < 2 ? y : from.height - 1 - y;
      std::memcpy(begin + size_t(y) * stride, rgb.data() + size_t(source) * row, size_t(row));
    }
    const ConstImage in =
        i % 4 < 2 ? ConstImage{begin, from.width, from.height, stride}
                  : ConstImage{begin + size_t(from.height - 1) * stride, from.width, from.height, -stride};
    const Bytes ours = by_kernel(in, to);
    if (!ours.empty()) CHECK(ours == expected);
  }
}

TEST_CASE("what is behind the rows of the target is not written") {
  if (no_kernel()) return;
  std::mt19937 random(9);
  for (int width = 1; width < 60; ++width) {
    const Size from{67, 31}, to{width, 17};
    const Bytes rgb = picture(from, random);
    const int row = 3 * width, stride = row + 5;
    Bytes out(size_t(stride) * to.height, 0xCD);
    REQUIRE(resize_area(tight(rgb, from), {out.data(), to.width, to.height, stride}, 1));
    const Bytes expected = by_opencv(rgb, from, to);
    for (int y = 0; y < to.height; ++y) {
      const uint8_t* begin = out.data() + size_t(y) * stride;
      CHECK(std::memcmp(begin, expected.data() + size_t(y) * row, size_t(row)) == 0);
      CHECK(std::all_of(begin + row, begin + stride, [](uint8_t v) { return v == 0xCD; }));
    }
  }
}

TEST_CASE("bands of several threads are the same bytes") {
  if (no_kernel()) return;
  std::mt19937 random(10);
  const int before = cv::getNumThreads();
  for (const int threads : {2, 3, 7}) {
    cv::setNumThreads(threads);
    for (const Size to : {Size{101, 100}, Size{50, 33}, Size{150, 16}, Size{7, 3}}) {
      const Size from{301, 203};
      const Bytes rgb = picture(from, random);
      CHECK(by_kernel(tight(rgb, from), to, 0) == by_opencv(rgb, from, to));
    }
  }
  cv::setNumThreads(before);
}

}  // namespace da3::image
