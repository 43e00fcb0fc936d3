// SPDX-License-Identifier: MIT
#include "engine/kernels/qk_norm_rope.h"

#include <cmath>

#include "engine/kernels/avx512.h"

namespace da3::kernels {
namespace {

#if defined(__x86_64__)

constexpr int kParts = 4;  // vectors of a head; the first two turn with one angle, the others with another

struct Tables {
  __m512 weight[kParts], bias[kParts];
};

DA3_AVX512_INLINE void normalise(__m512 x[kParts], const Tables& t, float eps) {
  const __m512 all = _mm512_add_ps(_mm512_add_ps(x[0], x[1]), _mm512_add_ps(x[2], x[3]));
  const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(all) / float(kHeadWidth));
  __m512 squares = _mm512_setzero_ps();
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    x[i] = _mm512_sub_ps(x[i], mean);
    squares = _mm512_fmadd_ps(x[i], x[i], squares);
  }
  const float variance = _mm512_reduce_add_ps(squares) / float(kHeadWidth);
  const __m512 scale = _mm512_set1_ps(1.0f / std::sqrt(variance + eps));
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) x[i] = _mm512_fmadd_ps(_mm512_mul_ps(x[i], scale), t.weight[i], t.bias[i]);
}

template <typename T>
DA3_AVX512 void run(const NormRope& how, const T* from, int64_t token_stride, int64_t heads, int64_t tokens,
                    int64_t begin, int64_t end, T* to) {
  Tables tables;
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    tables.weight[i] = how.weight ? _mm512_loadu_ps(how.weight + 16 * i) : _mm512_setzero_ps();
    tables.bias[i] = how.bias ? _mm512_loadu_ps(how.bias + 16 * i) : _mm512_setzero_ps();
  }
  for (int64_t t = begin; t < end; ++t) {
    const int64_t row = how.cosine ? t % how.positions * kHeadWidth : 0;
    __m512 c0 = _mm512_setzero_ps(), s0 = c0, c1 = c0, s1 = c0;
    if (how.cosine) {
      c0 = _mm512_loadu_ps(how.cosine + row);
      s0 = _mm512_loadu_ps(how.sine + row);
      c1 = _mm512_loadu_ps(how.cosine + row + 32);
      s1 = _mm512_loadu_ps(how.sine + row + 32);
    }
    for (int64_t h = 0; h < heads; ++h) {
      const T* const head = from + t * token_stride + h * kHeadWidth;
      T* const out = to + (h * tokens + t) * kHeadWidth;
      __m512 x[kParts];
#pragma GCC unroll 4
      for (int i = 0; i < kParts; ++i) x[i] = load(head + 16 * i, 0xffff);
      if (how.weight) normalise(x, tables, how.eps);
      if (how.cosine) {
        const __m512 u0 = x[0], u1 = x[2];
        x[0] = _mm512_fmsub_ps(u0, c0, _mm512_mul_ps(x[1], s0));
        x[1] = _mm512_fmadd_ps(x[1], c0, _mm512_mul_ps(u0, s0));
        x[2] = _mm512_fmsub_ps(u1, c1, _mm512_mul_ps(x[3], s1));
        x[3] = _mm512_fmadd_ps(x[3], c1, _mm512_mul_ps(u1, s1));
      }
#pragma GCC unroll 4
      for (int i = 0; i < kParts; ++i) keep(x[i], 0xffff, out + 16 * i);
    }
  }
}

#endif

}  // namespace

bool has_norm_rope() {
  return has_avx512();
}

template <typename T>
void norm_rope(const NormRope& how, const T* from, int64_t token_stride, int64_t heads, int64_t tokens,
               int64_t begin, int64_t end, T* to) {
#if defined(__x86_64__)
  run(how, from, token_stride, heads, tokens, begin, end, to);
#else
  (void)how, (void)from, (void)token_stride, (void)heads, (void)tokens, (void)begin, (void)end, (void)to;
#endif
}

template void norm_rope(const NormRope&, const float*, int64_t, int64_t, int64_t, int64_t, int64_t, float*);
template void norm_rope(const NormRope&, const uint16_t*, int64_t, int64_t, int64_t, int64_t, int64_t,
                        uint16_t*);

}  // namespace da3::kernels
