// SPDX-License-Identifier: MIT
#include "image/jpeg.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/checkpoint/synthetic.h"
#include "works/jpeg.h"

using da3::bench::encode_jpeg;
using da3::image::JpegDecoder;
using da3::image::JpegError;
using da3::image::Size;

namespace {

using Bytes = std::vector<uint8_t>;

Bytes picture(int width, int height) {
  Bytes rgb(size_t(width) * size_t(height) * 3);
  da3::synthetic::fill_rgb(rgb.data(), width, height, 3);
  return rgb;
}

Bytes decode(JpegDecoder& decoder, const Bytes& file, Size* size, Size least = {}) {
  *size = decoder.open(file.data(), file.size());
  if (least.width > 0) *size = decoder.scale_to(least);
  Bytes rgb(size_t(size->width) * size_t(size->height) * 3);
  decoder.decode(rgb.data(), size_t(size->width) * 3);
  return rgb;
}

double mean_difference(const Bytes& a, const Bytes& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::abs(int(a[i]) - int(b[i]));
  return sum / double(a.size());
}

// The mean of each square of `factor` pixels.
Bytes box(const Bytes& rgb, int width, int height, int factor) {
  Bytes out;
  for (int y = 0; y < height / factor; ++y)
    for (int x = 0; x < width / factor; ++x)
      for (int c = 0; c < 3; ++c) {
        int sum = 0;
        for (int i = 0; i < factor * factor; ++i)
          sum += rgb[(size_t(y * factor + i / factor) * size_t(width) + size_t(x * factor + i % factor)) * 3 +
                     size_t(c)];
        out.push_back(uint8_t((sum + factor * factor / 2) / (factor * factor)));
      }
  return out;
}

std::string error_of(JpegDecoder& decoder, const Bytes& file) {
  try {
    Size size;
    decode(decoder, file, &size);
  } catch (const JpegError& e) {
    return e.what();
  }
  return {};
}

bool has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the picture that was encoded comes out, colours in order") {
  JpegDecoder decoder;
  Bytes rgb;
  for (int i = 0; i < 117 * 83; ++i) {
    const int x = i % 117, y = i / 117;
    rgb.insert(rgb.end(), {uint8_t(2 * x), uint8_t(3 * y), uint8_t(255 - x - y)});
  }
  for (const bool progressive : {false, true}) {
    Size size;
    const Bytes out = decode(decoder, encode_jpeg(rgb, 117, 83, 95, progressive), &size);
    CHECK(size == Size{117, 83});
    CHECK(mean_difference(out, rgb) < 3);
  }
  Bytes red(16 * 16 * 3, 0);
  for (size_t i = 0; i < red.size(); i += 3) red[i] = 250;
  Size size;
  const Bytes out = decode(decoder, encode_jpeg(red, 16, 16, 95), &size);
  CHECK(out[0] > 240);
  CHECK(out[1] < 10);
  CHECK(out[2] < 10);
}

TEST_CASE("grey pictures become RGB") {
  JpegDecoder decoder;
  Bytes grey(40 * 30);
  for (size_t i = 0; i < grey.size(); ++i) grey[i] = uint8_t(i % 40 * 6);
  Size size;
  const Bytes out = decode(decoder, encode_jpeg(grey, 40, 30, 95), &size);
  CHECK(size == Size{40, 30});
  Bytes expected;
  for (const uint8_t v : grey) expected.insert(expected.end(), 3, v);
  CHECK(mean_difference(out, expected) < 3);
}

TEST_CASE("the smallest scale that is not below the target") {
  struct Case {
    Size full, least, expected;
  };
  const Case cases[] = {
      {{1920, 1080}, {504, 284}, {960, 540}},  {{640, 480}, {504, 378}, {640, 480}},
      {{2016, 1512}, {504, 378}, {504, 378}},  {{2015, 1511}, {504, 378}, {504, 378}},
      {{2012, 1512}, {504, 378}, {1006, 756}}, {{1081, 721}, {10, 10}, {136, 91}},
      {{320, 240}, {504, 378}, {320, 240}},    {{1000, 100}, {100, 60}, {1000, 100}},
  };
  JpegDecoder decoder;
  for (const Case& c : cases) {
    CAPTURE(c.full.width);
    Size size;
    decode(decoder,
           encode_jpeg(Bytes(size_t(c.full.width) * size_t(c.full.height)), c.full.width, c.full.height, 50),
           &size, c.least);
    CHECK(size == c.expected);
  }
}

TEST_CASE("a reduced picture is nearly the average of the whole one") {
  JpegDecoder decoder;
  Size size;
  for (const int factor : {2, 4, 8}) {
    CAPTURE(factor);
    const Bytes rgb = picture(320, 256);
    const Bytes out = decode(decoder, encode_jpeg(rgb, 320, 256, 95), &size, {320 / factor, 256 / factor});
    CHECK(size == Size{320 / factor, 256 / factor});
    CHECK(mean_difference(out, box(rgb, 320, 256, factor)) < 4);
  }
}

TEST_CASE("after a reduced picture the next one is whole again") {
  JpegDecoder decoder;
  const Bytes file = encode_jpeg(picture(64, 64), 64, 64, 90);
  Size size;
  const Bytes first = decode(decoder, file, &size);
  decode(decoder, file, &size, {8, 8});
  CHECK(size == Size{8, 8});
  CHECK(decode(decoder, file, &size) == first);
}

TEST_CASE("rows may be farther apart than they are long") {
  JpegDecoder decoder;
  const Bytes file = encode_jpeg(picture(30, 20), 30, 20, 90);
  Size size;
  const Bytes dense = decode(decoder, file, &size);
  decoder.open(file.data(), file.size());
  Bytes wide(100 * 20, 7);
  decoder.decode(wide.data(), 100);
  for (size_t y = 0; y < 20; ++y) {
    CHECK(std::equal(dense.begin() + int64_t(90 * y), dense.begin() + int64_t(90 * (y + 1)),
                     wide.begin() + int64_t(100 * y)));
    CHECK(std::all_of(wide.begin() + int64_t(100 * y + 90), wide.begin() + int64_t(100 * (y + 1)),
                      [](uint8_t v) { return v == 7; }));
  }
}

TEST_CASE("what is no JPEG file is refused with a sentence, and the decoder goes on") {
  JpegDecoder decoder;
  const Bytes file = encode_jpeg(picture(64, 48), 64, 48, 90);
  CHECK(has(error_of(decoder, {}), "cannot be decoded"));
  CHECK(has(error_of(decoder, Bytes(5000, 'x')), "cannot be decoded"));
  CHECK(has(error_of(decoder, Bytes(file.begin(), file.begin() + 20)), "cannot be decoded"));
  CHECK(error_of(decoder, file).empty());
}

TEST_CASE("a picture that ends too early or has wrong bytes is refused, never shown half grey") {
  JpegDecoder decoder;
  const Bytes file = encode_jpeg(picture(256, 192), 256, 192, 90);
  CHECK(has(error_of(decoder, Bytes(file.begin(), file.begin() + int64_t(file.size() / 2))), "damaged"));
  CHECK(has(error_of(decoder, Bytes(file.begin(), file.end() - 40)), "damaged"));
  const Bytes progressive = encode_jpeg(picture(256, 192), 256, 192, 90, true);
  for (const double part : {0.3, 0.6, 0.9})
    CHECK(has(error_of(decoder, Bytes(progressive.begin(),
                                      progressive.begin() + int64_t(part * double(progressive.size())))),
              "damaged"));
  Bytes overwritten = file;
  for (size_t i = file.size() / 2; i < file.size() / 2 + 200; ++i) overwritten[i] = 0xff;
  CHECK_FALSE(error_of(decoder, overwritten).empty());
  CHECK(error_of(decoder, file).empty());
}

TEST_CASE("four colours are refused by name") {
  // A header for four components without a note of what they are.
  const Bytes header = {0xff, 0xd8, 0xff, 0xc0, 0, 20,   8, 0, 16,   0, 16,   4,    1, 0x11,
                        0,    2,    0x11, 0,    3, 0x11, 0, 4, 0x11, 0, 0xff, 0xda, 0, 14,
                        4,    1,    0,    2,    0, 3,    0, 4, 0,    0, 63,   0};
  JpegDecoder decoder;
  CHECK(has(error_of(decoder, header), "CMYK"));
}

TEST_CASE("some cameras leave out the marker at the end") {
  JpegDecoder decoder;
  const Bytes file = encode_jpeg(picture(64, 48), 64, 48, 90);
  Size size;
  const Bytes whole = decode(decoder, file, &size);
  CHECK(decode(decoder, Bytes(file.begin(), file.end() - 2), &size) == whole);
}

TEST_CASE("the tables of one picture are not used for the next") {
  const Bytes file = encode_jpeg(picture(64, 48), 64, 48, 30);
  // The same file without its tables of quantisation.
  Bytes bare(file.begin(), file.begin() + 2);
  for (size_t at = 2; at + 4 < file.size() && file[at + 1] != 0xda;) {
    const size_t length = 2 + size_t(file[at + 2] << 8 | file[at + 3]);
    if (file[at + 1] != 0xdb)
      bare.insert(bare.end(), file.begin() + int64_t(at), file.begin() + int64_t(at + length));
    at += length;
    if (file[at + 1] == 0xda) bare.insert(bare.end(), file.begin() + int64_t(at), file.end());
  }
  JpegDecoder decoder;
  CHECK(error_of(decoder, file).empty());
  CHECK(has(error_of(decoder, bare), "cannot be decoded"));
}

TEST_CASE("a header that promises more than memory has is refused") {
  Bytes header = {0xff, 0xd8, 0xff, 0xc2, 0,    17, 8,  0xff, 0xdc, 0xff, 0xdc, 3, 1, 0x11, 0, 2, 0x11, 0,
                  3,    0x11, 0,    0xff, 0xda, 0,  12, 3,    1,    0,    2,    0, 3, 0,    0, 0, 0};
  JpegDecoder decoder;
  CHECK(has(error_of(decoder, header), "too large"));
}
