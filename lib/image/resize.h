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
  int stride = 0;  // bytes per row
};

struct MutableImage {
  uint8_t* data = nullptr;
  int width = 0, height = 0;
  int stride = 0;
};

// `in` has the stored size (plan.input unless pixels are not square); `out` has plan.final; they do not
// overlap. The stride of `in` may be negative (bottom-up). `threads` 1: one thread works; else: OpenCV's
// pool, as it is set in this process. The result does not depend on it. Thread-safe. Throws
// std::invalid_argument on null data, a wrong size of `out` or a stride below a row.
void resize_rgb(const ConstImage& in, const ProcessPlan& plan, const MutableImage& out, int threads = 1);

}  // namespace da3::image
