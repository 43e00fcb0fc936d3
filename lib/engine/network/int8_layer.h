// SPDX-License-Identifier: MIT
//
// kernels/int8_linear.h for tensors, on LibTorch's threads.
#pragma once

#include <ATen/ATen.h>

#include <memory>

#include "engine/kernels/int8_linear.h"

namespace da3 {

// Activations are float32 or bfloat16 tensors on the CPU. Thread-safe once built.
class Int8Layer {
 public:
  // weight [out, in] and bias [out] (or undefined), float32 on the CPU; copied. Throws std::invalid_argument
  // for weights that are not finite.
  Int8Layer(const at::Tensor& weight, const at::Tensor& bias);
  // x: [..., in]. Result: [..., out], in `type`.
  at::Tensor forward(const at::Tensor& x, at::ScalarType type) const;
  // GELU of it.
  at::Tensor forward_gelu(const at::Tensor& x, at::ScalarType type) const;
  // base + forward(x), float32, in new memory.
  at::Tensor forward_add(const at::Tensor& x, const at::Tensor& base) const;

 private:
  void run(const at::Tensor& x, kernels::Int8Output how, at::Tensor* y) const;
  at::Tensor result_of(const at::Tensor& x, at::ScalarType type) const;
  kernels::Int8Linear layer_;
};

}  // namespace da3
