// SPDX-License-Identifier: MIT
//
// Y'CbCr with full-size chroma -> 8-bit RGB, exact to rounding (integer converters are off by several
// levels).
#pragma once

#include <cstdint>

#include "image/resize.h"

namespace da3::image {

// Three planes of one size, rows of `stride` bytes (may be negative). `bits` 8: bytes; above: native 16-bit
// words.
struct ConstYuv {
  const uint8_t* data[3] = {};
  int stride[3] = {};
  int width = 0, height = 0;
  int bits = 8;
};

// Y' = (code - offset) / scale in [0, 1], Cb and Cr likewise in [-0.5, 0.5]; R'G'B' by the luma coefficients
// kr, kb (BT.601: 0.299, 0.114).
struct YuvCoding {
  double kr = 0.299, kb = 0.114;
  double offset[3] = {16, 128, 128};
  double scale[3] = {219, 224, 224};
};

// `out` has the size of `in`. Out-of-range colours are clipped. `threads` as for resize_rgb(): the result
// does not depend on it. Thread-safe. Throws std::invalid_argument on sizes, bits, strides or a coding that
// make no sense.
void yuv_to_rgb(const ConstYuv& in, const YuvCoding& coding, const MutableImage& out, int threads = 1);

}  // namespace da3::image
