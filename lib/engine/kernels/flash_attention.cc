// SPDX-License-Identifier: MIT
#include "engine/kernels/flash_attention.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <type_traits>
#include <vector>

#include "engine/kernels/microkernel.h"

namespace da3::kernels {
namespace {

#if defined(__x86_64__)

constexpr int64_t kWidth = 64, kPanel = 32, kRows = 12;
constexpr int64_t kQueries = 192, kKeys = 384;  // a block's scores and keys stay in a core's caches
constexpr float kScale = 0.18033688f;           // log2(e) / sqrt(64)
constexpr float kLowest = -1e30f;               // where there is no key
constexpr size_t kMostKept = size_t(4) << 20;   // bytes: 8192 keys in float

// Keys and values of one head, as the products take them; the last panel is filled up with zeros.
//   float: keys [panel][64][32], values [key][64]
//   bfloat16, two by two: keys [panel][64 / 2][32][2], values [key / 2][64][2]
void pack(const float* k, const float* v, int64_t k_row, int64_t v_row, int64_t count, float* keys,
          float* values) {
  const int64_t padded = (count + kPanel - 1) / kPanel * kPanel;
  for (int64_t p = 0; p < padded; p += kPanel)
    for (int64_t d = 0; d < kWidth; ++d)
      for (int64_t n = 0; n < kPanel; ++n)
        keys[p * kWidth + d * kPanel + n] = p + n < count ? k[(p + n) * k_row + d] : 0.0f;
  for (int64_t n = 0; n < count; ++n) std::copy_n(v + n * v_row, kWidth, values + n * kWidth);
  std::fill_n(values + count * kWidth, (padded - count) * kWidth, 0.0f);
}

void pack(const uint16_t* k, const uint16_t* v, int64_t k_row, int64_t v_row, int64_t count, uint16_t* keys,
          uint16_t* values) {
  const int64_t padded = (count + kPanel - 1) / kPanel * kPanel;
  for (int64_t p = 0; p < padded; p += kPanel)
    for (int64_t n = 0; n < kPanel; ++n)
      for (int64_t d = 0; d < kWidth; d += 2) {
        uint16_t* const to = keys + p * kWidth + d * kPanel + 2 * n;
        to[0] = p + n < count ? k[(p + n) * k_row + d] : 0;
        to[1] = p + n < count ? k[(p + n) * k_row + d + 1] : 0;
      }
  for (int64_t n = 0; n < padded; n += 2)
    for (int64_t d = 0; d < kWidth; ++d) {
      values[n * kWidth + 2 * d] = n < count ? v[n * v_row + d] : 0;
      values[n * kWidth + 2 * d + 1] = n + 1 < count ? v[(n + 1) * v_row + d] : 0;
    }
}

// out (+)= x w for up to 12 rows, rounded up to a multiple of three, and 32 columns.
template <int Step, bool Add, typename T>
void multiply_rows(const T* x, int64_t x_stride, int64_t depth, const T* w, float* out, int64_t out_stride,
                   int64_t rows) {
  if (rows > 9) return multiply<4, Step, Add>(x, x_stride, depth, w, out, out_stride);
  if (rows > 6) return multiply<3, Step, Add>(x, x_stride, depth, w, out, out_stride);
  if (rows > 3) return multiply<2, Step, Add>(x, x_stride, depth, w, out, out_stride);
  multiply<1, Step, Add>(x, x_stride, depth, w, out, out_stride);
}

// What is known of a query so far: greatest score, sum of weights, weighted sum of values.
struct Query {
  float greatest, weight;
};

// Scores of one query to weights relative to the greatest score so far; what was summed before is scaled to
// it.
template <bool Exact>
struct Weighing {
  __m512 top, before, sum;
};

template <bool Exact>
DA3_AVX512_INLINE Weighing<Exact> begin_weighing(const float* scores, int64_t count, Query* query) {
  const __m512 known = _mm512_set1_ps(query->greatest);
  __m512 most = known;
  for (int64_t c = 0; c < count; c += 16) most = _mm512_max_ps(most, _mm512_loadu_ps(scores + c));
  query->greatest = _mm512_reduce_max_ps(most);
  const __m512 top = _mm512_set1_ps(query->greatest);
  return {top, power_of_two<Exact>(_mm512_mul_ps(_mm512_sub_ps(known, top), _mm512_set1_ps(kScale))),
          _mm512_setzero_ps()};
}

template <bool Exact>
DA3_AVX512_INLINE __m512 weigh(Weighing<Exact>* w, const float* scores) {
  const __m512 below = _mm512_sub_ps(_mm512_loadu_ps(scores), w->top);
  const __m512 weights = power_of_two<Exact>(_mm512_mul_ps(below, _mm512_set1_ps(kScale)));
  w->sum = _mm512_add_ps(w->sum, weights);
  return weights;
}

template <bool Exact>
DA3_AVX512_INLINE void end_weighing(const Weighing<Exact>& w, Query* query, float* sums) {
  query->weight = query->weight * _mm512_cvtss_f32(w.before) + _mm512_reduce_add_ps(w.sum);
  for (int64_t d = 0; d < kWidth; d += 16)
    _mm512_storeu_ps(sums + d, _mm512_mul_ps(w.before, _mm512_loadu_ps(sums + d)));
}

// Result into `weights`; it and `scores` may be the same. `count`: a multiple of 16.
DA3_AVX512 void weigh_all(const float* scores, int64_t count, Query* query, float* sums, float* weights) {
  auto w = begin_weighing<true>(scores, count, query);
  for (int64_t c = 0; c < count; c += 16) _mm512_storeu_ps(weights + c, weigh(&w, scores + c));
  end_weighing(w, query, sums);
}

DA3_BF16 void weigh_all(const float* scores, int64_t count, Query* query, float* sums, uint16_t* weights) {
  auto w = begin_weighing<false>(scores, count, query);
  for (int64_t c = 0; c < count; c += 16) {
    const __m256bh rounded = _mm512_cvtneps_pbh(weigh(&w, scores + c));
    __builtin_memcpy(weights + c, &rounded, sizeof rounded);
  }
  end_weighing(w, query, sums);
}

template <typename T>
DA3_AVX512 void finish(const float* sums, float weight, T* to) {
  const __m512 inverse = _mm512_set1_ps(1.0f / weight);
  for (int64_t d = 0; d < kWidth; d += 16)
    keep(_mm512_mul_ps(inverse, _mm512_loadu_ps(sums + d)), 0xffff, to + d);
}

// Memory of a thread.
template <typename T>
struct Workspace {
  std::vector<T> packed;
  std::vector<float> floats;
  std::vector<T> values;
  uint64_t call = 0;  // whose keys and values `packed` has: the call's
  int64_t head = 0;   // and, counted through all items, the head's
};

template <typename T>
Workspace<T>& workspace() {
  thread_local Workspace<T> it;
  return it;
}

template <typename T>
constexpr int64_t kPairs = std::is_same_v<T, float> ? 1 : 2;  // inputs that one product takes together

// Keys and values of one head together.
size_t numbers_packed(int64_t keys) {
  return size_t(2 * ((keys + kPanel - 1) / kPanel * kPanel) * kWidth);
}

// Attention of one head for up to kQueries queries.
template <typename T>
struct QueryBlock {
  const T *keys, *values;  // packed
  int64_t key_count;
  Workspace<T>& memory;

  void run(const T* q, int64_t q_row, int64_t count, T* to, int64_t to_row) const {
    // scores [12][kKeys], sums [kQueries][64]; queries [kQueries][64], weights [12][kKeys]
    memory.floats.resize(size_t(kRows * kKeys + kQueries * kWidth));
    memory.values.resize(size_t(kQueries * kWidth + kRows * kKeys));
    float *const scores = memory.floats.data(), *const sums = scores + kRows * kKeys;
    T *const queries = memory.values.data(), *const weights = queries + kQueries * kWidth;
    Query state[kQueries];
    std::fill_n(state, kQueries, Query{kLowest, 0.0f});
    std::fill_n(sums, kQueries * kWidth, 0.0f);
    for (int64_t i = 0; i < count; ++i) std::copy_n(q + i * q_row, kWidth, queries + i * kWidth);
    std::fill(queries + count * kWidth, queries + kQueries * kWidth, T(0));
    const int64_t padded = (key_count + kPanel - 1) / kPanel * kPanel;
    for (int64_t first = 0; first < padded; first += kKeys) {
      const int64_t here = std::min(kKeys, padded - first), valid = std::min(here, key_count - first);
      for (int64_t i = 0; i < count; i += kRows) {
        const int64_t rows = std::min(kRows, count - i);
        for (int64_t n = 0; n < here; n += kPanel)
          multiply_rows<kPanel * kPairs<T>, false>(queries + i * kWidth, kWidth, kWidth / kPairs<T>,
                                                   keys + (first + n) * kWidth, scores + n, kKeys, rows);
        for (int64_t r = 0; r < rows; ++r) {
          std::fill(scores + r * kKeys + valid, scores + r * kKeys + here, kLowest);
          weigh_all(scores + r * kKeys, here, &state[i + r], sums + (i + r) * kWidth, weights + r * kKeys);
        }
        for (int64_t d = 0; d < kWidth; d += kPanel)
          multiply_rows<kWidth * kPairs<T>, true>(weights, kKeys, here / kPairs<T>,
                                                  values + first * kWidth + d * kPairs<T>,
                                                  sums + i * kWidth + d, kWidth, rows);
      }
    }
    for (int64_t i = 0; i < count; ++i) finish(sums + i * kWidth, state[i].weight, to + i * to_row);
  }
};

#endif

}  // namespace

template <typename T>
bool FlashAttention<T>::available() {
  return std::is_same_v<T, float> ? has_avx512() : has_avx512_bf16();
}

template <typename T>
void FlashAttention<T>::cut(int64_t threads) {
  static std::atomic<uint64_t> calls{0};
  call = ++calls;
  parts = 1;
#if defined(__x86_64__)
  if (threads <= 1) return;
  const int64_t all = items * heads;
  if (all % threads != 0) parts = std::min(queries, (4 * threads + all - 1) / all);
  // Small parts balance threads that are not equally fast; but what a thread does not keep it packs for each.
  if (numbers_packed(keys) * sizeof(T) <= kMostKept)
    parts = std::max(parts, (queries + kQueries - 1) / kQueries);
#else
  (void)threads;
#endif
}

template <typename T>
void FlashAttention<T>::run(int64_t begin, int64_t end) const {
#if defined(__x86_64__)
  Workspace<T>& memory = workspace<T>();
  const int64_t padded = (keys + kPanel - 1) / kPanel * kPanel;
  memory.packed.resize(numbers_packed(keys));
  T *const packed_keys = memory.packed.data(), *const packed_values = packed_keys + padded * kWidth;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t item = unit / parts / heads, head = unit / parts % heads, part = unit % parts;
    const bool there =
        call != 0 ? memory.call == call && memory.head == unit / parts : unit > begin && part > 0;
    if (!there)
      pack(k.data + item * k.item + head * k.head, v.data + item * v.item + head * v.head, k.row, v.row, keys,
           packed_keys, packed_values);
    memory.call = call;
    memory.head = unit / parts;
    const QueryBlock<T> block{packed_keys, packed_values, keys, memory};
    const int64_t last = (part + 1) * queries / parts;
    for (int64_t i = part * queries / parts; i < last; i += kQueries)
      block.run(q.data + item * q.item + head * q.head + i * q.row, q.row, std::min(kQueries, last - i),
                to.data + item * to.item + head * to.head + i * to.row, to.row);
  }
  // Few passes have so many views; what they need does not stay with every thread.
  if (kept() > kMostKept) {
    std::vector<T>().swap(memory.packed);
    memory.call = 0;
  }
#else
  (void)begin, (void)end;
#endif
}

template <typename T>
size_t FlashAttention<T>::kept() {
#if defined(__x86_64__)
  return workspace<T>().packed.capacity() * sizeof(T);
#else
  return 0;
#endif
}

template struct FlashAttention<float>;
template struct FlashAttention<uint16_t>;

}  // namespace da3::kernels
