// SPDX-License-Identifier: MIT
//
// Linear layers on the CPU with weights that are laid out once for the kernels that run them, and with what
// follows fused in: by whole tiles in bfloat16 where the processor has AMX (tiled_linear.h), else by oneDNN
// where LibTorch has it.
#pragma once

#include <ATen/ATen.h>

#include <memory>

namespace da3 {

class PackedLinear {
 public:
  // Null when there are no such kernels for this LibTorch, device or type, or the layer is too small to gain.
  // `weight` [out, in] and `bias` [out] (or undefined) are copied. They must not require gradients.
  static std::shared_ptr<const PackedLinear> make(const at::Tensor& weight, const at::Tensor& bias);
  virtual ~PackedLinear() = default;

  // x: [..., in] in the type of the weight. Result: [..., out] in that type. Thread-safe.
  virtual at::Tensor forward(const at::Tensor& x) const = 0;
  // gelu(forward(x)), the exact form with erf.
  virtual at::Tensor forward_gelu(const at::Tensor& x) const = 0;
  // other + forward(x); `other` [..., out] in the type of the weight.
  virtual at::Tensor forward_add(const at::Tensor& x, const at::Tensor& other) const = 0;
};

}  // namespace da3
