// SPDX-License-Identifier: MIT
//
// What one call of a 3x3 convolution (winograd.h, bfloat16_conv.h) computes. Memory is the caller's.
#pragma once

#include <cstdint>

namespace da3::kernels {

// Maps of channels that lie together. T: float, or uint16_t for bfloat16.
template <typename T>
struct ConvJob {
  const T* from;  // [items][rows][columns][in]
  int64_t items, rows, columns;
  int64_t row_padding;  // 0 or 1 rows of zeros above and below; left and right it is always one column
  T* to;                // [items][out_rows()][columns][out]
  bool relu = false;    // max(0, result)
  bool add = false;     // result added to what `to` holds

  int64_t out_rows() const { return rows + 2 * row_padding - 2; }
};

}  // namespace da3::kernels
