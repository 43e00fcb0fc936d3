// SPDX-License-Identifier: MIT
//
// A residual sum and the layer normalisation that follows it, in one pass over memory. Computed in float. For
// AVX-512. No LibTorch.
#pragma once

#include <cstdint>

namespace da3::kernels {

// T: float, or uint16_t for bfloat16.
template <typename T>
struct AddNorm {
  const float* x;                                  // [rows][width]
  const T* add = nullptr;                          // [rows][width], or null
  float* sum = nullptr;                            // x + add, or null
  T* normed = nullptr;                             // layer norm of x + add, or null
  const float *weight = nullptr, *bias = nullptr;  // [width]
  float eps = 0;
  int64_t width = 0;  // a multiple of 16

  // Whether this processor can run it.
  static bool available();
  // Rows begin <= r < end.
  void run(int64_t begin, int64_t end) const;
};

}  // namespace da3::kernels
