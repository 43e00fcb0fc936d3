// SPDX-License-Identifier: MIT
//
// The resize of upstream's input processor on 8-bit RGB, bit-exact with OpenCV: one or two uint8 steps.
#pragma once

#include <cstdint>

#include "image/process_size.h"

namespace da3::image {

struct ConstImage {
  const uint8_t* data = nullptr;  // interleaved RGB
  int width = 0, height = 0;
  int stride = 0;                 // bytes per row
};

struct MutableImage {
  uint8_t* data = nullptr;
  int width = 0, height = 0;
  int stride = 0;
};

// `in` has the stored size (plan.input unless pixels are not square); `out` has plan.final. Uses no thread of its own;
// OpenCV's pool is limited to the calling thread unless `threads` != 1 (0 = OpenCV's choice).
void resize_rgb(const ConstImage& in, const ProcessPlan& plan, const MutableImage& out, int threads = 1);

}  // namespace da3::image
