// SPDX-License-Identifier: MIT
//
// For the kernels of this room only: functions that may use AVX-512, and vectors of 16 values of a map. The
// rest of the program is compiled without these instructions.
#pragma once

#include <cstdint>

#include "engine/kernels/instructions.h"

#if defined(__x86_64__)
// GCC 12 takes what its own header leaves undefined on purpose for a mistake (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#define DA3_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define DA3_AVX512_INLINE DA3_AVX512 __attribute__((always_inline)) static inline

namespace da3::kernels {

// The first `count` of 16.
DA3_AVX512_INLINE __mmask16 lanes(int64_t count) {
  return count >= 16 ? __mmask16(0xffff) : __mmask16((1u << count) - 1);
}

DA3_AVX512_INLINE __m512 load(const float* from, __mmask16 m) {
  return _mm512_maskz_loadu_ps(m, from);
}

// bfloat16
DA3_AVX512_INLINE __m512 load(const uint16_t* from, __mmask16 m) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

DA3_AVX512_INLINE void keep(__m512 v, __mmask16 m, float* to) {
  _mm512_mask_storeu_ps(to, m, v);
}

// To bfloat16, to nearest even; what is not a number stays one.
DA3_AVX512_INLINE void keep(__m512 v, __mmask16 m, uint16_t* to) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i rounded = _mm512_mask_mov_epi32(
      _mm512_srli_epi32(up, 16), _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc0));
  _mm256_mask_storeu_epi16(to, m, _mm512_cvtepi32_epi16(rounded));
}

// 2^x for x <= 0, to 1e-7.
DA3_AVX512_INLINE __m512 power_of_two(__m512 x) {
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(x, whole);
  __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(0.0013276466f), f, _mm512_set1_ps(0.009675541f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.055507135f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.2402212f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.69314694f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(y, whole);
}

// The same to 1e-4, where the result becomes a bfloat16, in fewer steps; x may be a little above 0.
DA3_AVX512_INLINE __m512 rough_power_of_two(__m512 x) {
  const __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
  __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(0.078022f), f, _mm512_set1_ps(0.22606511f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.6958374f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.99992454f));
  return _mm512_scalef_ps(y, x);  // y 2^floor(x)
}

// GELU, the exact one: erfc by formula 7.1.26 of Abramowitz and Stegun, to 1.5e-7, so that small results keep
// their digits.
DA3_AVX512_INLINE __m512 gelu_of(__m512 x) {
  // Beyond 16 the tail is 0, for infinities too. Of a NaN both give their second operand.
  const __m512 near = _mm512_max_ps(_mm512_set1_ps(-16.0f), _mm512_min_ps(_mm512_set1_ps(16.0f), x));
  const __m512 size = _mm512_abs_ps(near), half = _mm512_mul_ps(near, _mm512_set1_ps(0.5f));
  const __m512 t =
      _mm512_div_ps(_mm512_set1_ps(1.0f),
                    _mm512_fmadd_ps(size, _mm512_set1_ps(0.3275911f * 0.70710678f), _mm512_set1_ps(1.0f)));
  __m512 y = _mm512_fmadd_ps(t, _mm512_set1_ps(1.061405429f), _mm512_set1_ps(-1.453152027f));
  y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(1.421413741f));
  y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.284496736f));
  y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.254829592f));
  // erfc(|x| / sqrt(2)) = t y exp(-x^2 / 2)
  const __m512 power = power_of_two(_mm512_mul_ps(_mm512_mul_ps(half, near), _mm512_set1_ps(-1.44269504f)));
  const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(half, _mm512_mul_ps(t, y)), power);
  const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  return _mm512_mask_mov_ps(_mm512_sub_ps(x, tail), negative, tail);
}

}  // namespace da3::kernels

#endif
