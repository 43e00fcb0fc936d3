// SPDX-License-Identifier: MIT
//
// For the kernels of this room only: the product of a few rows with a panel of 32 columns, all sums in
// registers.
#pragma once

#include <cstdint>

#include "engine/kernels/avx512.h"

#if defined(__x86_64__)

#define DA3_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

namespace da3::kernels {

// out[r * out_stride + n] = (Add: what it was) + sum over c of x[r * x_stride + c] * w[c * Step + n], for 3 *
// Groups rows r and 32 columns n.
template <int Groups, int Step, bool Add>
DA3_AVX512 void multiply(const float* x, int64_t x_stride, int64_t depth, const float* w, float* out,
                         int64_t out_stride) {
  __m512 sums[3 * Groups][2];
  const float* rows[Groups];  // three rows are reached from one pointer
#pragma GCC unroll 12
  for (int r = 0; r < 3 * Groups; ++r)
    for (int n = 0; n < 2; ++n)
      sums[r][n] = Add ? _mm512_loadu_ps(out + r * out_stride + 16 * n) : _mm512_setzero_ps();
#pragma GCC unroll 4
  for (int g = 0; g < Groups; ++g) rows[g] = x + 3 * g * x_stride;
  for (int64_t c = 0; c < depth; ++c, w += Step) {
    const __m512 w0 = _mm512_loadu_ps(w), w1 = _mm512_loadu_ps(w + 16);
#pragma GCC unroll 4
    for (int g = 0; g < Groups; ++g) {
      const __m512 x0 = _mm512_set1_ps(rows[g][0]);
      sums[3 * g][0] = _mm512_fmadd_ps(x0, w0, sums[3 * g][0]);
      sums[3 * g][1] = _mm512_fmadd_ps(x0, w1, sums[3 * g][1]);
      const __m512 x1 = _mm512_set1_ps(rows[g][x_stride]);
      sums[3 * g + 1][0] = _mm512_fmadd_ps(x1, w0, sums[3 * g + 1][0]);
      sums[3 * g + 1][1] = _mm512_fmadd_ps(x1, w1, sums[3 * g + 1][1]);
      const __m512 x2 = _mm512_set1_ps(rows[g][2 * x_stride]);
      sums[3 * g + 2][0] = _mm512_fmadd_ps(x2, w0, sums[3 * g + 2][0]);
      sums[3 * g + 2][1] = _mm512_fmadd_ps(x2, w1, sums[3 * g + 2][1]);
      ++rows[g];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < 3 * Groups; ++r) {
    _mm512_storeu_ps(out + r * out_stride, sums[r][0]);
    _mm512_storeu_ps(out + r * out_stride + 16, sums[r][1]);
  }
}

// The same for pairs of bfloat16: `depth` pairs; Step: values of w from one pair to the next.
template <int Groups, int Step, bool Add>
DA3_BF16 void multiply(const uint16_t* x, int64_t x_stride, int64_t depth, const uint16_t* w, float* out,
                       int64_t out_stride) {
  __m512 sums[3 * Groups][2];
  const uint16_t* rows[Groups];
#pragma GCC unroll 12
  for (int r = 0; r < 3 * Groups; ++r)
    for (int n = 0; n < 2; ++n)
      sums[r][n] = Add ? _mm512_loadu_ps(out + r * out_stride + 16 * n) : _mm512_setzero_ps();
#pragma GCC unroll 4
  for (int g = 0; g < Groups; ++g) rows[g] = x + 3 * g * x_stride;
  for (int64_t c = 0; c < depth; ++c, w += Step) {
    const __m512bh w0 = (__m512bh)_mm512_loadu_si512(w), w1 = (__m512bh)_mm512_loadu_si512(w + 32);
#pragma GCC unroll 4
    for (int g = 0; g < Groups; ++g) {
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) {
        int32_t pair;
        __builtin_memcpy(&pair, rows[g] + i * x_stride, sizeof pair);
        const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
        sums[3 * g + i][0] = _mm512_dpbf16_ps(sums[3 * g + i][0], w0, both);
        sums[3 * g + i][1] = _mm512_dpbf16_ps(sums[3 * g + i][1], w1, both);
      }
      rows[g] += 2;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < 3 * Groups; ++r) {
    _mm512_storeu_ps(out + r * out_stride, sums[r][0]);
    _mm512_storeu_ps(out + r * out_stride + 16, sums[r][1]);
  }
}

}  // namespace da3::kernels

#endif
