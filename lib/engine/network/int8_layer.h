// SPDX-License-Identifier: MIT
//
// kernels/int8_linear.h for tensors, on LibTorch's threads.
#pragma once

#include <ATen/ATen.h>

#include <memory>

#include "engine/kernels/int8_linear.h"

namespace da3 {

class Int8Layer {
 public:
  // weight [out, in] and bias [out] (or undefined), float32 on the CPU; copied. Throws std::invalid_argument
  // for weights that are not finite.
  Int8Layer(const at::Tensor& weight, const at::Tensor& bias);
  // x: [..., in], float32 on the CPU. Result: [..., out], float32. Thread-safe.
  at::Tensor forward(const at::Tensor& x) const;
  // base + forward(x), in new memory.
  at::Tensor forward_add(const at::Tensor& x, const at::Tensor& base) const;

 private:
  void run(const at::Tensor& x, float* y, bool accumulate) const;
  kernels::Int8Linear layer_;
};

}  // namespace da3
