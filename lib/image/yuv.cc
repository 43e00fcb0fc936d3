// SPDX-License-Identifier: MIT
#include "image/yuv.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <opencv2/core.hpp>
#include <stdexcept>
#include <vector>

#include "image/processor.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define DA3_AVX2 __attribute__((target("avx2")))
#define DA3_AVX2_INLINE inline __attribute__((always_inline, target("avx2")))
#endif

namespace da3::image {
namespace {

constexpr int kBandRows = 16;

// value = sum of code * factor + constant, in levels of 0..255; the rounding half is in the constant.
struct Levels {
  float y, r_v, g_u, g_v, b_u;
  float r, g, b;
};

Levels levels_of(const YuvCoding& c) {
  const double kg = 1 - c.kr - c.kb;
  const double y = 255 / c.scale[0], u = 255 / c.scale[1], v = 255 / c.scale[2];
  const double r_v = 2 * (1 - c.kr) * v, b_u = 2 * (1 - c.kb) * u;
  const double g_u = -2 * (1 - c.kb) * c.kb / kg * u, g_v = -2 * (1 - c.kr) * c.kr / kg * v;
  const double base = 0.5 - c.offset[0] * y;
  return {float(y),
          float(r_v),
          float(g_u),
          float(g_v),
          float(b_u),
          float(base - c.offset[2] * r_v),
          float(base - c.offset[1] * g_u - c.offset[2] * g_v),
          float(base - c.offset[1] * b_u)};
}

inline uint8_t clipped(float value) {
  return static_cast<uint8_t>(static_cast<int>(std::min(std::max(value, 0.0f), 255.0f)));
}

template <typename Code>
void convert_row(const Code* __restrict y, const Code* __restrict u, const Code* __restrict v, int width,
                 const Levels l, uint8_t* __restrict r, uint8_t* __restrict g, uint8_t* __restrict b) {
  for (int x = 0; x < width; ++x) {
    const float luma = float(y[x]) * l.y;
    const float cb = float(u[x]), cr = float(v[x]);
    r[x] = clipped(luma + cr * l.r_v + l.r);
    g[x] = clipped(luma + cb * l.g_u + cr * l.g_v + l.g);
    b[x] = clipped(luma + cb * l.b_u + l.b);
  }
}

template <typename Code>
const Code* row_of(const ConstYuv& in, int plane, int y) {
  return reinterpret_cast<const Code*>(in.data[plane] + std::ptrdiff_t(y) * in.stride[plane]);
}

// The rows [begin, end).
template <typename Code>
void convert(const ConstYuv& in, const Levels& levels, const MutableImage& out, int begin, int end) {
  const size_t plane = size_t(kBandRows) * in.width;
  std::vector<uint8_t> band(3 * plane);
  for (int top = begin; top < end; top += kBandRows) {
    const int rows = std::min(kBandRows, end - top);
    for (int i = 0; i < rows; ++i) {
      uint8_t* r = band.data() + size_t(i) * in.width;
      convert_row(row_of<Code>(in, 0, top + i), row_of<Code>(in, 1, top + i), row_of<Code>(in, 2, top + i),
                  in.width, levels, r, r + plane, r + 2 * plane);
    }
    const cv::Mat planes[3] = {{rows, in.width, CV_8UC1, band.data()},
                               {rows, in.width, CV_8UC1, band.data() + plane},
                               {rows, in.width, CV_8UC1, band.data() + 2 * plane}};
    cv::Mat target(rows, in.width, CV_8UC3, out.data + std::ptrdiff_t(top) * out.stride, size_t(out.stride));
    cv::merge(planes, 3, target);
  }
}

#if defined(__x86_64__)

constexpr int kBlock = 16;  // pixels at once

// Where byte i of the 16 bytes of a third of a block comes from in a channel; 0x80: from another channel.
struct Masks {
  alignas(16) uint8_t bytes[3][3][kBlock];  // [third][channel]
  constexpr Masks() : bytes() {
    for (int third = 0; third < 3; ++third) {
      for (int channel = 0; channel < 3; ++channel) {
        for (int i = 0; i < kBlock; ++i) {
          const int at = kBlock * third + i;
          bytes[third][channel][i] = uint8_t(at % 3 == channel ? at / 3 : 0x80);
        }
      }
    }
  }
};
constexpr Masks kMasks;

DA3_AVX2_INLINE __m256 load(const uint8_t* in) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(in))));
}
DA3_AVX2_INLINE __m256 load(const uint16_t* in) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in))));
}

DA3_AVX2_INLINE __m256 sum(__m256 value, __m256 chroma, float factor) {
  return _mm256_add_ps(value, _mm256_mul_ps(chroma, _mm256_set1_ps(factor)));
}

DA3_AVX2_INLINE __m256i clipped(__m256 value, float constant) {
  const __m256 level = _mm256_add_ps(value, _mm256_set1_ps(constant));
  return _mm256_cvttps_epi32(
      _mm256_min_ps(_mm256_max_ps(level, _mm256_setzero_ps()), _mm256_set1_ps(255.0f)));
}

// The sums of convert_row(), in its order.
struct Rgb8 {
  __m256i r, g, b;
};
template <typename Code>
DA3_AVX2_INLINE Rgb8 convert_8(const Code* y, const Code* u, const Code* v, const Levels& l) {
  const __m256 luma = _mm256_mul_ps(load(y), _mm256_set1_ps(l.y)), cb = load(u), cr = load(v);
  return {clipped(sum(luma, cr, l.r_v), l.r), clipped(sum(sum(luma, cb, l.g_u), cr, l.g_v), l.g),
          clipped(sum(luma, cb, l.b_u), l.b)};
}

DA3_AVX2_INLINE __m128i pack(__m256i low, __m256i high) {
  // Packing works on halves of the register.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

template <typename Code>
DA3_AVX2_INLINE void convert_block(const Code* y, const Code* u, const Code* v, const Levels& l,
                                   uint8_t* out) {
  const Rgb8 low = convert_8(y, u, v, l), high = convert_8(y + 8, u + 8, v + 8, l);
  const __m128i channels[] = {pack(low.r, high.r), pack(low.g, high.g), pack(low.b, high.b)};
  for (int third = 0; third < 3; ++third) {
    __m128i bytes = _mm_setzero_si128();
    for (int c = 0; c < 3; ++c) {
      const __m128i mask = _mm_load_si128(reinterpret_cast<const __m128i*>(kMasks.bytes[third][c]));
      bytes = _mm_or_si128(bytes, _mm_shuffle_epi8(channels[c], mask));
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + kBlock * third), bytes);
  }
}

// At least kBlock pixels.
template <typename Code>
DA3_AVX2 void convert_row_avx2(const Code* y, const Code* u, const Code* v, int width, const Levels l,
                               uint8_t* out) {
  for (int x = 0; x < width; x += kBlock) {
    const int at = std::min(x, width - kBlock);  // the last ones again: the same bytes
    convert_block(y + at, u + at, v + at, l, out + 3 * at);
  }
}

template <typename Code>
void convert_avx2(const ConstYuv& in, const Levels& levels, const MutableImage& out, int begin, int end) {
  for (int y = begin; y < end; ++y) {
    convert_row_avx2(row_of<Code>(in, 0, y), row_of<Code>(in, 1, y), row_of<Code>(in, 2, y), in.width, levels,
                     out.data + std::ptrdiff_t(y) * out.stride);
  }
}

#endif

template <typename Code>
void convert_rows(const ConstYuv& in, const Levels& levels, const MutableImage& out, int begin, int end) {
#if defined(__x86_64__)
  if (has_avx2() && in.width >= kBlock) return convert_avx2<Code>(in, levels, out, begin, end);
#endif
  convert<Code>(in, levels, out, begin, end);
}

void require(bool ok, const char* what) {
  if (!ok) throw std::invalid_argument(std::string("Colour conversion: ") + what + ".");
}

void check(const ConstYuv& in, const YuvCoding& coding, const MutableImage& out) {
  require(in.width > 0 && in.height > 0, "the picture is empty");
  require(in.bits >= 8 && in.bits <= 16, "the planes must have 8 to 16 bits");
  const std::int64_t row = std::int64_t(in.width) * (in.bits > 8 ? 2 : 1);
  for (int c = 0; c < 3; ++c) {
    require(in.data[c] && std::abs(std::int64_t(in.stride[c])) >= row,
            "a plane is missing or its stride below a row");
    require(coding.scale[c] > 0, "a scale is not positive");
  }
  require(coding.kr > 0 && coding.kb > 0 && coding.kr + coding.kb < 1,
          "the luma coefficients make no colour");
  require(out.data && out.width == in.width && out.height == in.height, "the output has another size");
  require(out.stride >= std::int64_t(out.width) * 3, "the output's stride is below a row");
}

}  // namespace

void yuv_to_rgb(const ConstYuv& in, const YuvCoding& coding, const MutableImage& out, int threads) {
  check(in, coding, out);
  const Levels levels = levels_of(coding);
  const auto rows = in.bits == 8 ? convert_rows<uint8_t> : convert_rows<uint16_t>;
  if (threads == 1) return rows(in, levels, out, 0, in.height);
  const int bands = std::clamp(in.height / kBandRows, 1, std::max(1, cv::getNumThreads()));
  const auto body = [&](const cv::Range& band) { rows(in, levels, out, band.start, band.end); };
  cv::parallel_for_(cv::Range(0, in.height), body, bands);
}

}  // namespace da3::image
