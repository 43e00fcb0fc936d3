// SPDX-License-Identifier: MIT
//
// Linear layers on the CPU with weights that oneDNN has laid out once for its own kernels, and with what
// follows fused in. LibTorch registers these operators for its compiler (namespace mkldnn); they are found
// through the dispatcher, so that a LibTorch without them only means the plain layer. On processors where
// LibTorch's BLAS does not use the widest vectors (MKL on AMD) the product alone is up to twice as fast.
#pragma once

#include <ATen/ATen.h>

#include <memory>

namespace da3 {

class PackedLinear {
 public:
  // Null when this LibTorch, device or type has no such kernels, or the layer is too small to gain. `weight`
  // [out, in] and `bias` [out] (or undefined) are copied. They must not require gradients.
  static std::shared_ptr<const PackedLinear> make(const at::Tensor& weight, const at::Tensor& bias);

  // x: [..., in] in the type of the weight. Result: [..., out] in that type. Thread-safe.
  at::Tensor forward(const at::Tensor& x) const;
  // gelu(forward(x)), the exact form with erf.
  at::Tensor forward_gelu(const at::Tensor& x) const;
  // other + forward(x); `other` [..., out] in the type of the weight.
  at::Tensor forward_add(const at::Tensor& x, const at::Tensor& other) const;

 private:
  PackedLinear(const at::Tensor& weight, const at::Tensor& bias);
  static bool runs(at::ScalarType type);
  at::Tensor forward_in_bands(const at::Tensor& x) const;
  at::Tensor weight_, bias_;
};

}  // namespace da3
