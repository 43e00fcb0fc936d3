// SPDX-License-Identifier: MIT
#include "engine/kernels/add_norm.h"

#include <cmath>
#include <vector>

#include "engine/kernels/avx512.h"

namespace da3::kernels {
namespace {

#if defined(__x86_64__)

constexpr __mmask16 kAll = 0xffff;

// `row`: memory for one row, where it is not kept otherwise.
template <typename T>
DA3_AVX512 void run_row(const AddNorm<T>& job, int64_t r, float* row) {
  const int64_t width = job.width;
  const float* const x = job.x + r * width;
  const T* const add = job.add ? job.add + r * width : nullptr;
  float* const sum = job.sum ? job.sum + r * width : row;
  __m512 total = _mm512_setzero_ps();
  for (int64_t c = 0; c < width; c += 16) {
    __m512 v = _mm512_loadu_ps(x + c);
    if (add) v = _mm512_add_ps(v, load(add + c, kAll));
    _mm512_storeu_ps(sum + c, v);
    total = _mm512_add_ps(total, v);
  }
  if (!job.normed) return;
  const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / float(width));
  __m512 squares = _mm512_setzero_ps();
  for (int64_t c = 0; c < width; c += 16) {
    const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(sum + c), mean);
    squares = _mm512_fmadd_ps(d, d, squares);
  }
  const float variance = _mm512_reduce_add_ps(squares) / float(width);
  const __m512 scale = _mm512_set1_ps(1.0f / std::sqrt(variance + job.eps));
  T* const to = job.normed + r * width;
  for (int64_t c = 0; c < width; c += 16) {
    const __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(sum + c), mean), scale);
    keep(_mm512_fmadd_ps(d, _mm512_loadu_ps(job.weight + c), _mm512_loadu_ps(job.bias + c)), kAll, to + c);
  }
}

#endif

}  // namespace

template <typename T>
bool AddNorm<T>::available() {
  return has_avx512();
}

template <typename T>
void AddNorm<T>::run(int64_t begin, int64_t end) const {
#if defined(__x86_64__)
  std::vector<float> row(static_cast<size_t>(width));
  for (int64_t r = begin; r < end; ++r) run_row(*this, r, row.data());
#else
  (void)begin, (void)end;
#endif
}

template struct AddNorm<float>;
template struct AddNorm<uint16_t>;

}  // namespace da3::kernels
