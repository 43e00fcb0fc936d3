// SPDX-License-Identifier: MIT
#include "image/yuv.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <opencv2/core.hpp>
#include <stdexcept>
#include <vector>

#include "image/processor.h"
#include "image/yuv_rows.h"

#if defined(__x86_64__)
// GCC 12 takes what its own header leaves undefined on purpose for a mistake (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#define DA3_AVX2 __attribute__((target("avx2")))
#define DA3_AVX2_INLINE inline __attribute__((always_inline, target("avx2")))
#define DA3_AVX512 __attribute__((target("avx512f,avx512bw")))
#define DA3_AVX512_INLINE inline __attribute__((always_inline, target("avx512f,avx512bw")))
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

class FullRows16 {
 public:
  explicit FullRows16(const ConstYuv& in) : in_(in) {}
  YuvRow<uint16_t> at(int y) const {
    return {row_of<uint16_t>(in_, 0, y), row_of<uint16_t>(in_, 1, y), row_of<uint16_t>(in_, 2, y)};
  }

 private:
  const ConstYuv& in_;
};

// The rows [begin, end).
template <typename Rows>
void convert(const ConstYuv& in, const Levels& levels, const MutableImage& out, int begin, int end) {
  Rows source(in);
  const size_t plane = size_t(kBandRows) * in.width;
  std::vector<uint8_t> band(3 * plane);
  for (int top = begin; top < end; top += kBandRows) {
    const int rows = std::min(kBandRows, end - top);
    for (int i = 0; i < rows; ++i) {
      uint8_t* r = band.data() + size_t(i) * in.width;
      const auto row = source.at(top + i);
      convert_row(row.y, row.u, row.v, in.width, levels, r, r + plane, r + 2 * plane);
    }
    const cv::Mat planes[3] = {{rows, in.width, CV_8UC1, band.data()},
                               {rows, in.width, CV_8UC1, band.data() + plane},
                               {rows, in.width, CV_8UC1, band.data() + 2 * plane}};
    cv::Mat target(rows, in.width, CV_8UC3, out.data + std::ptrdiff_t(top) * out.stride, size_t(out.stride));
    cv::merge(planes, 3, target);
  }
}

#if defined(__x86_64__)

// In every 16 bytes: four of r, of g and of b, and four of nothing -> four pixels. Then the words that hold
// pixels.
constexpr char kTurns[16] = {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11, -1, -1, -1, -1};
constexpr int kWords[16] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15};
constexpr int kWordsOf8[8] = {0, 1, 2, 4, 5, 6, 3, 7};

DA3_AVX2_INLINE __m256 load(const uint8_t* in) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(in))));
}
DA3_AVX2_INLINE __m256 load(const uint16_t* in) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in))));
}

DA3_AVX2_INLINE __m256 sum(__m256 value, __m256 chroma, float factor) {
  return _mm256_add_ps(value, _mm256_mul_ps(chroma, _mm256_set1_ps(factor)));
}

// Packing to bytes raises what is below 0.
DA3_AVX2_INLINE __m256i level(__m256 value, float constant) {
  const __m256 sum = _mm256_add_ps(value, _mm256_set1_ps(constant));
  return _mm256_cvttps_epi32(_mm256_min_ps(sum, _mm256_set1_ps(255.0f)));
}

// The sums of convert_row(), in its order, of 8 pixels.
template <typename Code>
DA3_AVX2_INLINE void convert_8(const Code* y, const Code* u, const Code* v, const Levels& l, uint8_t* out) {
  const __m256 luma = _mm256_mul_ps(load(y), _mm256_set1_ps(l.y)), cb = load(u), cr = load(v);
  const __m256i r = level(sum(luma, cr, l.r_v), l.r), g = level(sum(sum(luma, cb, l.g_u), cr, l.g_v), l.g),
                b = level(sum(luma, cb, l.b_u), l.b);
  const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(r, g), _mm256_packus_epi32(b, b));
  const __m128i turns = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kTurns));
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kWordsOf8));
  const __m256i rgb =
      _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(turns)), words);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(rgb));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 16), _mm256_extracti128_si256(rgb, 1));
}

// At least 8 pixels.
template <typename Code>
DA3_AVX2 void convert_row_avx2(const YuvRow<Code> in, int width, const Levels l, uint8_t* out) {
  for (int x = 0; x < width; x += 8) {
    const int at = std::min(x, width - 8);  // the last ones again: the same bytes
    convert_8(in.y + at, in.u + at, in.v + at, l, out + 3 * at);
  }
}

DA3_AVX512_INLINE __m512 load_16(const uint8_t* in) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in))));
}
DA3_AVX512_INLINE __m512 load_16(const uint16_t* in) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in))));
}

DA3_AVX512_INLINE __m512 sum(__m512 value, __m512 chroma, float factor) {
  return _mm512_add_ps(value, _mm512_mul_ps(chroma, _mm512_set1_ps(factor)));
}

DA3_AVX512_INLINE __m512i level(__m512 value, float constant) {
  const __m512 sum = _mm512_add_ps(value, _mm512_set1_ps(constant));
  return _mm512_cvttps_epi32(_mm512_min_ps(sum, _mm512_set1_ps(255.0f)));
}

// As convert_8().
template <typename Code>
DA3_AVX512_INLINE void convert_16(const Code* y, const Code* u, const Code* v, const Levels& l,
                                  uint8_t* out) {
  const __m512 luma = _mm512_mul_ps(load_16(y), _mm512_set1_ps(l.y)), cb = load_16(u), cr = load_16(v);
  const __m512i r = level(sum(luma, cr, l.r_v), l.r), g = level(sum(sum(luma, cb, l.g_u), cr, l.g_v), l.g),
                b = level(sum(luma, cb, l.b_u), l.b);
  const __m512i bytes = _mm512_packus_epi16(_mm512_packus_epi32(r, g), _mm512_packus_epi32(b, b));
  const __m128i turns = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kTurns));
  const __m512i rgb = _mm512_permutexvar_epi32(_mm512_loadu_si512(kWords),
                                               _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(turns)));
  _mm512_mask_storeu_epi32(out, 0x0FFF, rgb);
}

// At least 16 pixels.
template <typename Code>
DA3_AVX512 void convert_row_avx512(const YuvRow<Code> in, int width, const Levels l, uint8_t* out) {
  for (int x = 0; x < width; x += 16) {
    const int at = std::min(x, width - 16);
    convert_16(in.y + at, in.u + at, in.v + at, l, out + 3 * at);
  }
}

template <typename Rows>
void convert_by_vectors(const ConstYuv& in, const Levels& levels, const MutableImage& out, int begin,
                        int end) {
  Rows source(in);
  const bool wide = has_avx512() && in.width >= 16;
  for (int y = begin; y < end; ++y) {
    const auto row = source.at(y);
    uint8_t* to = out.data + std::ptrdiff_t(y) * out.stride;
    wide ? convert_row_avx512(row, in.width, levels, to) : convert_row_avx2(row, in.width, levels, to);
  }
}

#endif

template <typename Rows>
void convert_rows(const ConstYuv& in, const Levels& levels, const MutableImage& out, int begin, int end) {
#if defined(__x86_64__)
  if (has_avx2() && in.width >= 8) return convert_by_vectors<Rows>(in, levels, out, begin, end);
#endif
  convert<Rows>(in, levels, out, begin, end);
}

void require(bool ok, const char* what) {
  if (!ok) throw std::invalid_argument(std::string("Colour conversion: ") + what + ".");
}

void check(const ConstYuv& in, const YuvCoding& coding, const MutableImage& out) {
  require(in.width > 0 && in.height > 0, "the picture is empty");
  require(in.bits >= 8 && in.bits <= 16, "the planes must have 8 to 16 bits");
  const bool apart = in.step[0] != 1 || in.step[1] != 1 || in.step[2] != 1;
  require(in.bits == 8 || !apart, "samples of more than 8 bits lie apart");
  require(in.bits == 8 || !(in.half_width || in.half_height), "chroma of more than 8 bits is missing");
  require(in.half_width || !in.half_height, "chroma of full width has half the height");
  for (int c = 0; c < 3; ++c) {
    const std::int64_t samples = c > 0 && in.half_width ? (std::int64_t(in.width) + 1) / 2 : in.width;
    require(in.step[c] > 0, "a step is not positive");
    require(in.data[c] && std::abs(std::int64_t(in.stride[c])) >=
                              ((samples - 1) * in.step[c] + 1) * (in.bits > 8 ? 2 : 1),
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
  const auto rows = in.bits == 8 ? convert_rows<YuvRows> : convert_rows<FullRows16>;
  if (threads == 1) return rows(in, levels, out, 0, in.height);
  const int bands = std::clamp(in.height / kBandRows, 1, std::max(1, cv::getNumThreads()));
  const auto body = [&](const cv::Range& band) { rows(in, levels, out, band.start, band.end); };
  cv::parallel_for_(cv::Range(0, in.height), body, bands);
}

}  // namespace da3::image
