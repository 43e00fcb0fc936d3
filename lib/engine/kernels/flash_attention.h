// SPDX-License-Identifier: MIT
//
// softmax(q k^T / 8) v for heads of 64 values, without a mask. Blocks of keys pass by blocks of queries, so
// that scores never leave a core's cache. In float, or with products of bfloat16 that are summed in float.
// For AVX-512. No LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace da3::kernels {

// Rows of 64 values: row t of head h of item b lies at data + b * item + h * head + t * row.
template <typename T>
struct HeadRows {
  T* data;
  int64_t item, head, row;
};

// T: float, or uint16_t for bfloat16.
template <typename T>
struct FlashAttention {
  HeadRows<const T> q, k, v;
  HeadRows<T> to;
  int64_t items, heads, queries, keys;
  // Each head of each item is cut into so many parts of its queries.
  int64_t parts = 1;
  // Not 0: the same number in all copies of one call and in no other one. A thread then packs the keys and
  // values of a head once, though it runs its parts one by one.
  uint64_t call = 0;

  // Whether this processor can run it: AVX-512, for bfloat16 with its products.
  static bool available();

  // Sets `parts` for so many threads, and `call`.
  void cut(int64_t threads);
  int64_t units() const { return items * heads * parts; }
  // Units begin <= u < end; each may be computed on another thread.
  void run(int64_t begin, int64_t end) const;
  // Bytes for packed keys and values that the calling thread keeps for its next call.
  static size_t kept();
};

}  // namespace da3::kernels
