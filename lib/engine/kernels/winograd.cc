// SPDX-License-Identifier: MIT
#include "engine/kernels/winograd.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/microkernel.h"

namespace da3::kernels {
namespace {

constexpr int64_t kTile = 4, kPatch = 6, kPoints = kPatch * kPatch;
constexpr int64_t kPanel = 32;  // outputs computed together: two vectors
constexpr int64_t kRows = 12;   // tiles multiplied together
constexpr int64_t kBlockFloats = int64_t(112)
                                 << 10;  // transformed inputs of a block: they stay in a core's cache

// What the nine weights of a filter count for in its transform G g G^T.
struct FilterTransform {
  double factors[kPoints][9];
  FilterTransform();
};

FilterTransform::FilterTransform() {
  const double a = std::sqrt(0.5), b = std::sqrt(2.0);
  const double rows[kPatch][3] = {{1, 0, 0},
                                  {-1 / 1.5, -a / 1.5, -0.5 / 1.5},
                                  {-1 / 1.5, a / 1.5, -0.5 / 1.5},
                                  {1 / 6.0, b / 6, 2 / 6.0},
                                  {1 / 6.0, -b / 6, 2 / 6.0},
                                  {0, 0, 1}};
  for (int64_t p = 0; p < kPoints; ++p)
    for (int64_t t = 0; t < 9; ++t) factors[p][t] = rows[p / kPatch][t / 3] * rows[p % kPatch][t % 3];
}

// Where a tile lies: its item and its first output.
struct Place {
  int64_t item, row, column;
};

// How a job is cut into tiles, and those into blocks.
struct Tiling {
  int64_t tile_rows, tile_columns, total, per_block;
  int64_t blocks() const { return (total + per_block - 1) / per_block; }
  Place place(int64_t tile) const {
    const int64_t line = tile / tile_columns;
    return {line / tile_rows, line % tile_rows * kTile, tile % tile_columns * kTile};
  }
};

template <typename T>
Tiling tiling_of(const WinogradConv::Job<T>& job, int64_t in) {
  const int64_t out_rows = job.out_rows();
  Tiling t;
  t.tile_rows = (out_rows + kTile - 1) / kTile;
  t.tile_columns = (job.columns + kTile - 1) / kTile;
  t.total = job.items * t.tile_rows * t.tile_columns;
  t.per_block = std::max(kRows, kBlockFloats / (kPoints * in) / kRows * kRows);
  while (t.per_block > kRows && t.total < 8 * t.per_block) t.per_block -= kRows;
  return t;
}

#if defined(__x86_64__)

// B^T d
DA3_AVX512_INLINE void transform_inputs(const __m512 d[kPatch], __m512 r[kPatch]) {
  const __m512 two = _mm512_set1_ps(2.0f), half = _mm512_set1_ps(0.5f), sum = _mm512_set1_ps(2.5f);
  const __m512 a = _mm512_set1_ps(0.70710678f), b = _mm512_set1_ps(1.41421356f);
  const __m512 even_a = _mm512_fnmadd_ps(two, d[2], d[4]), odd_a = _mm512_fnmadd_ps(two, d[1], d[3]);
  const __m512 even_b = _mm512_fnmadd_ps(half, d[2], d[4]), odd_b = _mm512_fnmadd_ps(half, d[1], d[3]);
  r[0] = _mm512_add_ps(_mm512_fnmadd_ps(sum, d[2], d[0]), d[4]);
  r[1] = _mm512_fmadd_ps(a, odd_a, even_a);
  r[2] = _mm512_fnmadd_ps(a, odd_a, even_a);
  r[3] = _mm512_fmadd_ps(b, odd_b, even_b);
  r[4] = _mm512_fnmadd_ps(b, odd_b, even_b);
  r[5] = _mm512_add_ps(_mm512_fnmadd_ps(sum, d[3], d[1]), d[5]);
}

// A^T m
DA3_AVX512_INLINE void transform_outputs(const __m512 m[kPatch], __m512 y[kTile]) {
  const __m512 a = _mm512_set1_ps(0.70710678f), b = _mm512_set1_ps(1.41421356f);
  const __m512 a3 = _mm512_set1_ps(0.35355339f), b3 = _mm512_set1_ps(2.82842712f);
  const __m512 s1 = _mm512_add_ps(m[1], m[2]), d1 = _mm512_sub_ps(m[1], m[2]);
  const __m512 s2 = _mm512_add_ps(m[3], m[4]), d2 = _mm512_sub_ps(m[3], m[4]);
  y[0] = _mm512_add_ps(_mm512_add_ps(m[0], s1), s2);
  y[1] = _mm512_fmadd_ps(a, d1, _mm512_mul_ps(b, d2));
  y[2] = _mm512_fmadd_ps(_mm512_set1_ps(0.5f), s1, _mm512_mul_ps(_mm512_set1_ps(2.0f), s2));
  y[3] = _mm512_add_ps(_mm512_fmadd_ps(a3, d1, _mm512_mul_ps(b3, d2)), m[5]);
}

// Transforms filters that lie side by side, w[weight of a filter][filter]: a panel for each point.
DA3_AVX512 void transform_filters(const FilterTransform& transform, const double (*w)[kPanel], float* to,
                                  int64_t point_stride) {
  for (int64_t p = 0; p < kPoints; ++p) {
    const double* const factors = transform.factors[p];
    __m512d sums[kPanel / 8];
#pragma GCC unroll 4
    for (int64_t n = 0; n < kPanel / 8; ++n) sums[n] = _mm512_setzero_pd();
    for (int64_t t = 0; t < 9; ++t) {
      const __m512d factor = _mm512_set1_pd(factors[t]);
#pragma GCC unroll 4
      for (int64_t n = 0; n < kPanel / 8; ++n)
        sums[n] = _mm512_add_pd(sums[n], _mm512_mul_pd(factor, _mm512_loadu_pd(w[t] + 8 * n)));
    }
#pragma GCC unroll 4
    for (int64_t n = 0; n < kPanel / 8; ++n)
      _mm256_storeu_ps(to + p * point_stride + 8 * n, _mm512_maskz_cvtpd_ps(0xff, sums[n]));
  }
}

// The tile's 6x6 pixels of all channels, transformed, to v[point * stride + channel].
template <typename T>
DA3_AVX512 void take_tile(const WinogradConv::Job<T>& job, int64_t in, const Place& place, const T* zeros,
                          int64_t stride, float* v) {
  const T* pixels[kPoints];
  for (int64_t i = 0; i < kPatch; ++i)
    for (int64_t j = 0; j < kPatch; ++j) {
      const int64_t y = place.row - job.row_padding + i, x = place.column - 1 + j;
      const bool inside = y >= 0 && y < job.rows && x >= 0 && x < job.columns;
      pixels[i * kPatch + j] =
          inside ? job.from + ((place.item * job.rows + y) * job.columns + x) * in : zeros;
    }
  for (int64_t c = 0; c < in; c += 16) {
    __m512 half[kPatch][kPatch];
#pragma GCC unroll 6
    for (int i = 0; i < kPatch; ++i) {
      __m512 d[kPatch];
#pragma GCC unroll 6
      for (int j = 0; j < kPatch; ++j) d[j] = load(pixels[i * kPatch + j] + c, 0xffff);
      transform_inputs(d, half[i]);
    }
#pragma GCC unroll 6
    for (int j = 0; j < kPatch; ++j) {
      __m512 d[kPatch], r[kPatch];
#pragma GCC unroll 6
      for (int i = 0; i < kPatch; ++i) d[i] = half[i][j];
      transform_inputs(d, r);
#pragma GCC unroll 6
      for (int i = 0; i < kPatch; ++i) _mm512_storeu_ps(v + (i * kPatch + j) * stride + c, r[i]);
    }
  }
}

// All rows of one point, a multiple of three.
void multiply_rows(const float* v, int64_t count, int64_t depth, const float* w, float* m, int64_t m_stride) {
  int64_t r = 0;
  for (; r + 12 <= count; r += 12)
    multiply<4, kPanel, false>(v + r * depth, depth, depth, w, m + r * m_stride, m_stride);
  for (; r + 6 <= count; r += 6)
    multiply<2, kPanel, false>(v + r * depth, depth, depth, w, m + r * m_stride, m_stride);
  for (; r < count; r += 3)
    multiply<1, kPanel, false>(v + r * depth, depth, depth, w, m + r * m_stride, m_stride);
}

// 32 channels from `channel` on of a tile's outputs, from m[point * 32 + n].
template <typename T>
DA3_AVX512 void put_tile(const WinogradConv::Job<T>& job, int64_t out, int64_t channel, const float* bias,
                         const Place& place, const float* m) {
  const int64_t out_rows = job.out_rows();
  const int64_t rows = std::min(kTile, out_rows - place.row);
  const int64_t columns = std::min(kTile, job.columns - place.column);
  T* const first =
      job.to + ((place.item * out_rows + place.row) * job.columns + place.column) * out + channel;
  const __m512 zero = _mm512_setzero_ps();
  for (int64_t n = 0; n < kPanel; n += 16) {
    const __m512 shift = _mm512_loadu_ps(bias + channel + n);
    __m512 half[kPatch][kTile], y[kTile][kTile];
#pragma GCC unroll 6
    for (int i = 0; i < kPatch; ++i) {
      __m512 d[kPatch];
#pragma GCC unroll 6
      for (int j = 0; j < kPatch; ++j) d[j] = _mm512_loadu_ps(m + (i * kPatch + j) * kPanel + n);
      transform_outputs(d, half[i]);
    }
#pragma GCC unroll 4
    for (int x = 0; x < kTile; ++x) {
      __m512 d[kPatch], r[kTile];
#pragma GCC unroll 6
      for (int i = 0; i < kPatch; ++i) d[i] = half[i][x];
      transform_outputs(d, r);
#pragma GCC unroll 4
      for (int i = 0; i < kTile; ++i) y[i][x] = _mm512_add_ps(r[i], shift);
    }
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t x = 0; x < columns; ++x) {
        T* const to = first + (i * job.columns + x) * out + n;
        __m512 value = y[i][x];
        if (job.add) value = _mm512_add_ps(value, load(to, 0xffff));
        if (job.relu) value = _mm512_max_ps(zero, value);  // in this order NaN stays NaN
        keep(value, 0xffff, to);
      }
  }
}

// Memory of a thread for a block.
AlignedBuffer<float>& workspace() {
  thread_local AlignedBuffer<float> it;
  return it;
}

#endif

}  // namespace

bool WinogradConv::available() {
  return has_avx512();
}

bool WinogradConv::beats_bfloat16() {
  return !has_amx();
}

bool WinogradConv::fits(int64_t in, int64_t out) {
  return in > 0 && out > 0 && in % 16 == 0 && out % kPanel == 0;
}

WinogradConv::WinogradConv(const float* weight, const float* bias, int64_t out, int64_t in)
    : in_(in), out_(out), bias_(size_t(std::max<int64_t>(out, 0)), 0.0f) {
  if (!fits(in, out) || !available())
    throw std::invalid_argument("No such convolution here: " + std::to_string(in) + " to " +
                                std::to_string(out) + " channels.");
  if (bias) std::copy_n(bias, out, bias_.begin());
  [[maybe_unused]] float* const laid_out = weights_.get(size_t(kPoints * in * out));
#if defined(__x86_64__)
  static const FilterTransform transform;
  double side_by_side[9][kPanel];
  for (int64_t first = 0; first < out; first += kPanel)
    for (int64_t c = 0; c < in; ++c) {
      for (int64_t n = 0; n < kPanel; ++n)
        for (int64_t t = 0; t < 9; ++t) side_by_side[t][n] = weight[((first + n) * in + c) * 9 + t];
      transform_filters(transform, side_by_side, laid_out + (first * kPoints * in + c * kPanel), in * kPanel);
    }
#else
  (void)weight;
#endif
}

template <typename T>
int64_t WinogradConv::blocks(const Job<T>& job) const {
  return tiling_of(job, in_).blocks();
}

template <typename T>
void WinogradConv::run(const Job<T>& job, int64_t begin, int64_t end) const {
#if defined(__x86_64__)
  const Tiling tiling = tiling_of(job, in_);
  // Not a multiple of a page: the points of a channel would compete for the same places in the cache.
  const int64_t stride = tiling.per_block * in_ + 16, tile_floats = kPoints * kPanel;
  float* const v = workspace().get(size_t(kPoints * stride + tiling.per_block * tile_floats));
  float* const m = v + kPoints * stride;
  const std::vector<T> zeros(size_t(in_), T(0));
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * tiling.per_block, count = std::min(tiling.per_block, tiling.total - first);
    for (int64_t t = 0; t < count; ++t)
      take_tile(job, in_, tiling.place(first + t), zeros.data(), stride, v + t * in_);
    const int64_t rows = (count + 2) / 3 * 3;
    for (int64_t p = 0; rows > count && p < kPoints; ++p)
      std::fill_n(v + p * stride + count * in_, (rows - count) * in_, 0.0f);
    for (int64_t n = 0; n < out_; n += kPanel) {
      const float* const panel = weights_.data() + n * kPoints * in_;
      for (int64_t p = 0; p < kPoints; ++p)
        multiply_rows(v + p * stride, rows, in_, panel + p * in_ * kPanel, m + p * kPanel, tile_floats);
      for (int64_t t = 0; t < count; ++t)
        put_tile(job, out_, n, bias_.data(), tiling.place(first + t), m + t * tile_floats);
    }
  }
#else
  (void)job, (void)begin, (void)end;
#endif
}

template int64_t WinogradConv::blocks(const Job<float>&) const;
template int64_t WinogradConv::blocks(const Job<uint16_t>&) const;
template void WinogradConv::run(const Job<float>&, int64_t, int64_t) const;
template void WinogradConv::run(const Job<uint16_t>&, int64_t, int64_t) const;

}  // namespace da3::kernels
