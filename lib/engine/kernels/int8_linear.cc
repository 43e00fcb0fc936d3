// SPDX-License-Identifier: MIT
#include "engine/kernels/int8_linear.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace da3::kernels {
namespace {

constexpr int64_t kPanel = 48;      // outputs computed together: three vectors of 16
constexpr int64_t kRows = 8;        // rows computed together
constexpr int64_t kTileRows = 128;  // a tile's rows stay in the second-level cache beside a panel
constexpr int kGroup = 4;           // inputs multiplied by one instruction
constexpr int kOffset = 128;        // weights are stored unsigned
constexpr int64_t kMostInputs = int64_t(1) << 17;

std::atomic<bool> plain_forced{false};

struct Block {
  const int8_t* x;         // first of the rows
  int64_t stride;          // bytes from row to row
  const uint8_t* weights;  // panel
  int64_t depth;           // groups
};

// sums[r][n] = sum over inputs of x[r] * (w[n] + 128), for `rows` <= 8 rows.
using BlockKernel = void (*)(const Block& block, int64_t rows, int32_t* sums);

void plain_block(const Block& b, int64_t rows, int32_t* sums) {
  std::fill_n(sums, rows * kPanel, 0);
  for (int64_t g = 0; g < b.depth; ++g) {
    const uint8_t* w = b.weights + g * kPanel * kGroup;
    for (int64_t r = 0; r < rows; ++r) {
      const int8_t* x = b.x + r * b.stride + g * kGroup;
      int32_t* to = sums + r * kPanel;
      for (int64_t n = 0; n < kPanel; ++n)
        to[n] += w[n * 4] * x[0] + w[n * 4 + 1] * x[1] + w[n * 4 + 2] * x[2] + w[n * 4 + 3] * x[3];
    }
  }
}

#if defined(__x86_64__)

#define DA3_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

// Every loop over rows and vectors is unrolled, so that the sums stay in registers.
template <int R>
DA3_VNNI void vnni_rows(const Block& b, int32_t* sums) {
  __m512i a[R][3];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) a[r][v] = _mm512_setzero_si512();
  const uint8_t* w = b.weights;
  const int8_t* x = b.x;
  const int64_t stride = b.stride, depth = b.depth;
  for (int64_t g = 0; g < depth; ++g, w += kPanel * kGroup, x += kGroup) {
    __m512i panel[3];
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) panel[v] = _mm512_loadu_si512(w + 64 * v);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      int32_t four;
      __builtin_memcpy(&four, x + r * stride, 4);
      const __m512i xs = _mm512_set1_epi32(four);
#pragma GCC unroll 3
      for (int v = 0; v < 3; ++v) a[r][v] = _mm512_dpbusd_epi32(a[r][v], panel[v], xs);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) _mm512_storeu_si512(sums + r * kPanel + v * 16, a[r][v]);
}

DA3_VNNI void vnni_block(const Block& b, int64_t rows, int32_t* sums) {
  switch (rows) {
    case 8:
      return vnni_rows<8>(b, sums);
    case 7:
      return vnni_rows<7>(b, sums);
    case 6:
      return vnni_rows<6>(b, sums);
    case 5:
      return vnni_rows<5>(b, sums);
    case 4:
      return vnni_rows<4>(b, sums);
    case 3:
      return vnni_rows<3>(b, sums);
    case 2:
      return vnni_rows<2>(b, sums);
    default:
      return vnni_rows<1>(b, sums);
  }
}

// Largest magnitude; NaN if a value is not finite. (Forms with a mask throughout: GCC 12 takes the others'
// undefined lanes for a mistake of ours.)
DA3_VNNI float vnni_largest(const float* x, int64_t count) {
  const __m512 most = _mm512_set1_ps(std::numeric_limits<float>::max());
  __m512 largest = _mm512_setzero_ps();
  __mmask16 finite = 0xffff;
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = count - i >= 16 ? __mmask16(0xffff) : __mmask16((1u << (count - i)) - 1);
    const __m512 v = _mm512_abs_ps(_mm512_maskz_loadu_ps(lanes, x + i));
    finite &= _mm512_cmp_ps_mask(v, most, _CMP_LE_OQ);
    largest = _mm512_maskz_max_ps(0xffff, largest, v);
  }
  if (finite != 0xffff) return std::numeric_limits<float>::quiet_NaN();
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, largest);
  return *std::max_element(lanes, lanes + 16);
}

// Rounds to even, as the plain one. Returns the sum.
DA3_VNNI int32_t vnni_quantise(const float* x, int64_t count, float inverse, int8_t* to) {
  const __m512 factor = _mm512_set1_ps(inverse);
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = count - i >= 16 ? __mmask16(0xffff) : __mmask16((1u << (count - i)) - 1);
    const __m512i q =
        _mm512_maskz_cvtps_epi32(lanes, _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), factor));
    sum = _mm512_add_epi32(sum, q);
    _mm512_mask_cvtsepi32_storeu_epi8(to + i, lanes, q);
  }
  alignas(64) int32_t lanes[16];
  _mm512_store_si512(lanes, sum);
  return std::accumulate(lanes, lanes + 16, 0);
}

bool has_vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

#else

bool has_vnni() {
  return false;
}
void vnni_block(const Block& b, int64_t rows, int32_t* sums) {
  plain_block(b, rows, sums);
}
float vnni_largest(const float*, int64_t) {
  return 0;
}
int32_t vnni_quantise(const float*, int64_t, float, int8_t*) {
  return 0;
}

#endif

BlockKernel best_kernel() {
  static const bool vnni = has_vnni();
  return vnni && !plain_forced ? vnni_block : plain_block;
}

int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

// Scale that maps the largest magnitude to 127; NaN if a value is not finite.
float scale_of(const float* values, int64_t count) {
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    const float v = std::abs(values[i]);
    largest = v > largest ? v : largest;
    finite &= v <= std::numeric_limits<float>::max();
  }
  return finite ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
}

int quantise(float value, float inverse) {
  return int(std::clamp(std::nearbyint(value * inverse), -127.0f, 127.0f));
}

int32_t plain_quantise(const float* x, int64_t count, float inverse, int8_t* to) {
  int32_t sum = 0;
  for (int64_t k = 0; k < count; ++k) {
    // Rounds to even by the addition: |value| <= 127 here, and the vectoriser likes it.
    const float shifted = x[k] * inverse + 12582912.0f;
    const int32_t q = int32_t(shifted - 12582912.0f);
    to[k] = int8_t(q);
    sum += q;
  }
  return sum;
}

}  // namespace

void Int8Rows::resize(int64_t new_rows, int64_t new_width) {
  rows = new_rows;
  width = new_width;
  stride = round_up(width, kGroup);
  values.resize(size_t(rows * stride));
  scales.resize(size_t(rows));
  sums.resize(size_t(rows));
}

void Int8Rows::set_row(int64_t m, const float* x) {
  const bool vnni = best_kernel() != plain_block;
  const float scale = vnni ? vnni_largest(x, width) / 127.0f : scale_of(x, width);
  int8_t* to = values.data() + m * stride;
  scales[size_t(m)] = scale;
  std::fill(to + width, to + stride, int8_t(0));
  if (!(scale > 0)) {
    std::fill_n(to, width, int8_t(0));
    sums[size_t(m)] = 0;
    return;
  }
  const float inverse = 1.0f / scale;
  sums[size_t(m)] = vnni ? vnni_quantise(x, width, inverse, to) : plain_quantise(x, width, inverse, to);
}

Int8Linear::Int8Linear(const float* weight, const float* bias, int64_t out, int64_t in)
    : out_(out), in_(in), depth_(round_up(in, kGroup) / kGroup) {
  if (out < 1 || in < 1 || in > kMostInputs)
    throw std::invalid_argument("An 8-bit layer has 1 to " + std::to_string(kMostInputs) + " inputs, not " +
                                std::to_string(in) + ", and at least one output, not " + std::to_string(out) +
                                ".");
  const int64_t panels = round_up(out, kPanel) / kPanel;
  weights_.assign(size_t(panels * depth_ * kPanel * kGroup), uint8_t(kOffset));
  scales_.assign(size_t(panels * kPanel), 0.0f);
  bias_.assign(size_t(panels * kPanel), 0.0f);
  for (int64_t n = 0; n < out; ++n) {
    const float* row = weight + n * in;
    const float scale = scale_of(row, in);
    if (std::isnan(scale))
      throw std::invalid_argument("A weight of output " + std::to_string(n) + " is not finite.");
    scales_[size_t(n)] = scale;
    if (bias) bias_[size_t(n)] = bias[n];
    if (scale == 0) continue;
    uint8_t* to = weights_.data() + (n / kPanel) * depth_ * kPanel * kGroup + (n % kPanel) * kGroup;
    for (int64_t k = 0; k < in; ++k)
      to[(k / kGroup) * kPanel * kGroup + k % kGroup] = uint8_t(quantise(row[k], 1.0f / scale) + kOffset);
  }
}

size_t Int8Linear::bytes() const {
  return weights_.size() + (scales_.size() + bias_.size()) * sizeof(float);
}

int64_t Int8Linear::tiles(int64_t rows) const {
  return (round_up(rows, kTileRows) / kTileRows) * int64_t(scales_.size()) / kPanel;
}

void Int8Linear::run(const Int8Rows& x, float* y, bool accumulate, int64_t begin, int64_t end) const {
  const BlockKernel kernel = best_kernel();
  const int64_t panels = int64_t(scales_.size()) / kPanel;
  alignas(64) int32_t sums[kRows * kPanel];
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t panel = tile % panels, first = tile / panels * kTileRows;
    const int64_t last = std::min(x.rows, first + kTileRows), column = panel * kPanel;
    const int64_t columns = std::min(kPanel, out_ - column);
    const float *scale = scales_.data() + column, *shift = bias_.data() + column;
    Block block{nullptr, x.stride, weights_.data() + panel * depth_ * kPanel * kGroup, depth_};
    for (int64_t m = first; m < last; m += kRows) {
      const int64_t rows = std::min(kRows, last - m);
      block.x = x.values.data() + m * x.stride;
      kernel(block, rows, sums);
      for (int64_t r = 0; r < rows; ++r) {
        const float row_scale = x.scales[size_t(m + r)];
        const int32_t offset = kOffset * x.sums[size_t(m + r)];
        const int32_t* from = sums + r * kPanel;
        float* to = y + (m + r) * out_ + column;
        if (accumulate) {
          for (int64_t n = 0; n < columns; ++n)
            to[n] += float(from[n] - offset) * (row_scale * scale[n]) + shift[n];
        } else {
          for (int64_t n = 0; n < columns; ++n)
            to[n] = float(from[n] - offset) * (row_scale * scale[n]) + shift[n];
        }
      }
    }
  }
}

const char* Int8Linear::instruction_set() {
  return best_kernel() == plain_block ? "plain" : "avx512vnni";
}

void Int8Linear::use_plain(bool plain) {
  plain_forced = plain;
}

}  // namespace da3::kernels
