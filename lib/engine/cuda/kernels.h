// SPDX-License-Identifier: MIT
//
// The kernels of kernels.cu.inc as the host sees them: their names and how many threads they take.
#pragma once

#include <array>
#include <cstdint>

#include "engine/cuda/arguments.h"

namespace da3::cuda {

enum class Kernel { add_norm, norm_rope, quantise };
enum class Element { float32, bfloat16, float16 };

constexpr size_t kElements = 3;
inline constexpr std::array kKernelNames = {
    "da3_add_norm_float32",  "da3_add_norm_bfloat16",  "da3_add_norm_float16",
    "da3_norm_rope_float32", "da3_norm_rope_bfloat16", "da3_norm_rope_float16",
    "da3_quantise_float32",  "da3_quantise_bfloat16",  "da3_quantise_float16"};

// Place in kKernelNames.
constexpr size_t index_of(Kernel kernel, Element element) {
  return size_t(kernel) * kElements + size_t(element);
}

// Of a row.
constexpr int64_t kMaxWidth = 4 * kQuads * kThreads;

struct Grid {
  unsigned blocks = 0, threads = 0;
};

// A block a row: as few threads as hold it, in whole warps.
constexpr Grid grid_of_rows(int64_t rows, int64_t width) {
  const int64_t quads = width / 4, each = (quads + kThreads - 1) / kThreads;
  const int64_t threads = (quads + each - 1) / each;
  return {unsigned(rows), unsigned((threads + kWarp - 1) / kWarp * kWarp)};
}

// For `count` heads of all tokens and items together.
constexpr Grid grid_of_heads(int64_t count) {
  constexpr int64_t kPerBlock = kThreads / kHeadThreads;
  return {unsigned((count + kPerBlock - 1) / kPerBlock), kThreads};
}

}  // namespace da3::cuda
