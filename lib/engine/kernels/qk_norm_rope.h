// SPDX-License-Identifier: MIT
//
// Queries and keys of one attention layer, out of the product that gives queries, keys and values together:
// split into heads of 64 values, normalised, rotated and laid out head by head, in one pass over memory.
// Computed in float. For AVX-512. No LibTorch.
#pragma once

#include <cstdint>

namespace da3::kernels {

constexpr int64_t kHeadWidth = 64;

struct NormRope {
  // Layer normalisation over a head, [64] each; or all null.
  const float* weight = nullptr;
  const float* bias = nullptr;
  float eps = 0;
  // [positions][64], as make_rope_table() lays them out; or null. Token t takes row t modulo `positions`.
  const float* cosine = nullptr;
  const float* sine = nullptr;
  int64_t positions = 0;
};

// Whether this processor can run it.
bool has_norm_rope();

// from: heads of one token, [heads][64], the next token `token_stride` values further; T: float, or uint16_t
// for bfloat16. to: [heads][tokens][64]. Tokens begin <= t < end.
template <typename T>
void norm_rope(const NormRope& how, const T* from, int64_t token_stride, int64_t heads, int64_t tokens,
               int64_t begin, int64_t end, T* to);

}  // namespace da3::kernels
