// SPDX-License-Identifier: MIT
//
// Y'CbCr -> 8-bit RGB, exact to rounding (integer converters are off by several levels).
#pragma once

#include <cstdint>

#include "image/resize.h"

namespace da3::image {

// Rows of `stride` bytes (may be negative). `bits` 8: bytes; above: native 16-bit words.
//
// 8 bits only: samples `step` bytes apart (2 in the chroma of NV12), and chroma planes of half the width or
// of half the width and height, rounded up. The missing samples are put in as yuv_rows.h says. A sample lies
// between its two rows, and between its two pixels or, `cosited`, on the first of them.
struct ConstYuv {
  const uint8_t* data[3] = {};
  int stride[3] = {};
  int step[3] = {1, 1, 1};
  int width = 0, height = 0;
  int bits = 8;
  bool half_width = false, half_height = false, cosited = false;
};

// Y' = (code - offset) / scale in [0, 1], Cb and Cr likewise in [-0.5, 0.5]; R'G'B' by the luma coefficients
// kr, kb (BT.601: 0.299, 0.114).
struct YuvCoding {
  double kr = 0.299, kb = 0.114;
  double offset[3] = {16, 128, 128};
  double scale[3] = {219, 224, 224};
};

// `out` has the size of `in`. Out-of-range colours are clipped. `threads` as for resize_rgb(): the result
// does not depend on it. Thread-safe. Throws std::invalid_argument on sizes, bits, strides, steps or a coding
// that make no sense.
void yuv_to_rgb(const ConstYuv& in, const YuvCoding& coding, const MutableImage& out, int threads = 1);

}  // namespace da3::image
