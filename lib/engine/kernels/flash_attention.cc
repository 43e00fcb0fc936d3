// SPDX-License-Identifier: MIT
#include "engine/kernels/flash_attention.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <type_traits>

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/microkernel.h"
#include "engine/kernels/tile_products.h"

namespace da3::kernels {
namespace {

#if defined(__x86_64__)

constexpr int64_t kWidth = 64, kPanel = 32;
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
// it. `count`: a multiple of 32. Float: `weights` and `scores` may be the same.
DA3_AVX512_INLINE __m512 greatest_of(const float* scores, int64_t count, float known) {
  __m512 most = _mm512_set1_ps(known), other = most;
  for (int64_t c = 0; c < count; c += 32) {
    most = _mm512_max_ps(most, _mm512_loadu_ps(scores + c));
    other = _mm512_max_ps(other, _mm512_loadu_ps(scores + c + 16));
  }
  return _mm512_set1_ps(_mm512_reduce_max_ps(_mm512_max_ps(most, other)));
}

DA3_AVX512_INLINE void rescale(__m512 top, __m512 weight, Query* query, float* sums) {
  const __m512 known = _mm512_set1_ps(query->greatest);
  const __m512 before = power_of_two(_mm512_mul_ps(_mm512_sub_ps(known, top), _mm512_set1_ps(kScale)));
  query->greatest = _mm512_cvtss_f32(top);
  query->weight = query->weight * _mm512_cvtss_f32(before) + _mm512_reduce_add_ps(weight);
  for (int64_t d = 0; d < kWidth; d += 16)
    _mm512_storeu_ps(sums + d, _mm512_mul_ps(before, _mm512_loadu_ps(sums + d)));
}

DA3_AVX512 void weigh_all(const float* scores, int64_t count, Query* query, float* sums, float* weights) {
  const __m512 top = greatest_of(scores, count, query->greatest);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t c = 0; c < count; c += 16) {
    const __m512 below = _mm512_sub_ps(_mm512_loadu_ps(scores + c), top);
    const __m512 weight = power_of_two(_mm512_mul_ps(below, _mm512_set1_ps(kScale)));
    sum = _mm512_add_ps(sum, weight);
    _mm512_storeu_ps(weights + c, weight);
  }
  rescale(top, sum, query, sums);
}

DA3_BF16 void weigh_all(const float* scores, int64_t count, Query* query, float* sums, uint16_t* weights) {
  const __m512 top = greatest_of(scores, count, query->greatest), scale = _mm512_set1_ps(kScale);
  const __m512 highest = _mm512_mul_ps(top, scale);
  __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (int64_t c = 0; c < count; c += 32) {
    __m512 weight[2];
    for (int64_t i = 0; i < 2; ++i) {
      weight[i] = rough_power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(scores + c + 16 * i), scale, highest));
      sum[i] = _mm512_add_ps(sum[i], weight[i]);
    }
    _mm512_storeu_si512(weights + c, (__m512i)_mm512_cvtne2ps_pbh(weight[1], weight[0]));
  }
  rescale(top, _mm512_add_ps(sum[0], sum[1]), query, sums);
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
  AlignedBuffer<T> packed;
  AlignedBuffer<float> floats;
  AlignedBuffer<T> values;
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

// What a block multiplies with: for kRows queries at a time their scores with `count` keys, and then the
// keys' values by their weights, added to sums. Registers hold what the instructions need meanwhile.
template <typename T>
struct VectorProducts {
  static constexpr int64_t kRows = 12;
  struct Registers {};

  static void scores(const T* queries, int64_t rows, const T* keys, int64_t count, float* to) {
    for (int64_t n = 0; n < count; n += kPanel)
      multiply_rows<kPanel * kPairs<T>, false>(queries, kWidth, kWidth / kPairs<T>, keys + n * kWidth, to + n,
                                               kKeys, rows);
  }
  static void add_values(const T* weights, int64_t rows, const T* values, int64_t count, float* sums) {
    for (int64_t d = 0; d < kWidth; d += kPanel)
      multiply_rows<kWidth * kPairs<T>, true>(weights, kKeys, count / kPairs<T>, values + d * kPairs<T>,
                                              sums + d, kWidth, rows);
  }
};

struct TileProducts {
  static constexpr int64_t kRows = 32;
  using Registers = TileRegisters;

  DA3_AMX static void scores(const uint16_t* queries, int64_t, const uint16_t* keys, int64_t count,
                             float* to) {
    written();
    multiply_by_panels(queries, keys, count, to, kKeys);
  }
  DA3_AMX static void add_values(const uint16_t* weights, int64_t, const uint16_t* values, int64_t count,
                                 float* sums) {
    written();
    add_products(weights, kKeys, count, values, sums);
  }
};

// Attention of one head for up to kQueries queries.
template <typename T>
struct QueryBlock {
  const T *keys, *values;  // packed
  int64_t key_count;
  Workspace<T>& memory;

  template <typename Products>
  void run(const T* q, int64_t q_row, int64_t count, T* to, int64_t to_row) const {
    constexpr int64_t kRows = Products::kRows;
    static_assert(kQueries % kRows == 0);
    // scores [kRows][kKeys], sums [kQueries][64]; queries [kQueries][64], weights [kRows][kKeys]
    float* const scores = memory.floats.get(size_t(kRows * kKeys + kQueries * kWidth));
    float* const sums = scores + kRows * kKeys;
    T* const queries = memory.values.get(size_t(kQueries * kWidth + kRows * kKeys));
    T* const weights = queries + kQueries * kWidth;
    Query state[kQueries];
    std::fill_n(state, kQueries, Query{kLowest, 0.0f});
    std::fill_n(sums, kQueries * kWidth, 0.0f);
    for (int64_t i = 0; i < count; ++i) std::copy_n(q + i * q_row, kWidth, queries + i * kWidth);
    std::fill(queries + count * kWidth, queries + kQueries * kWidth, T(0));
    [[maybe_unused]] const typename Products::Registers registers;
    const int64_t padded = (key_count + kPanel - 1) / kPanel * kPanel;
    for (int64_t first = 0; first < padded; first += kKeys) {
      const int64_t here = std::min(kKeys, padded - first), valid = std::min(here, key_count - first);
      for (int64_t i = 0; i < count; i += kRows) {
        const int64_t rows = std::min(kRows, count - i);
        Products::scores(queries + i * kWidth, rows, keys + first * kWidth, here, scores);
        for (int64_t r = 0; r < rows; ++r) {
          std::fill(scores + r * kKeys + valid, scores + r * kKeys + here, kLowest);
          weigh_all(scores + r * kKeys, here, &state[i + r], sums + (i + r) * kWidth, weights + r * kKeys);
        }
        Products::add_values(weights, rows, values + first * kWidth, here, sums + i * kWidth);
      }
    }
    for (int64_t i = 0; i < count; ++i) finish(sums + i * kWidth, state[i].weight, to + i * to_row);
  }

  void run_best(const T* q, int64_t q_row, int64_t count, T* to, int64_t to_row) const {
    if constexpr (std::is_same_v<T, uint16_t>)
      if (has_amx()) return run<TileProducts>(q, q_row, count, to, to_row);
    run<VectorProducts<T>>(q, q_row, count, to, to_row);
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
  T* const packed_keys = memory.packed.get(numbers_packed(keys));
  T* const packed_values = packed_keys + padded * kWidth;
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
      block.run_best(q.data + item * q.item + head * q.head + i * q.row, q.row, std::min(kQueries, last - i),
                     to.data + item * to.item + head * to.head + i * to.row, to.row);
  }
  // Few passes have so many views; what they need does not stay with every thread.
  if (kept() > kMostKept) {
    memory.packed.clear();
    memory.call = 0;
  }
#else
  (void)begin, (void)end;
#endif
}

template <typename T>
size_t FlashAttention<T>::kept() {
#if defined(__x86_64__)
  return workspace<T>().packed.bytes();
#else
  return 0;
#endif
}

template struct FlashAttention<float>;
template struct FlashAttention<uint16_t>;

}  // namespace da3::kernels
