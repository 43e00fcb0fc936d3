// SPDX-License-Identifier: MIT
//
// kernels/bfloat16_linear.h for tensors, on LibTorch's threads.
#pragma once

#include "engine/kernels/bfloat16_linear.h"
#include "engine/network/packed_linear.h"

namespace da3 {

class TiledLinear final : public PackedLinear {
 public:
  // Whether this processor runs layers of this type; must hold for as long as one is used.
  static bool runs(at::ScalarType type);
  // weight [out, in] and bias [out] (or undefined), bfloat16 on the CPU; copied. Throws c10::Error for
  // others, as forward() does for what is not bfloat16 on the CPU or has another width.
  TiledLinear(const at::Tensor& weight, const at::Tensor& bias);

  at::Tensor forward(const at::Tensor& x) const override;
  at::Tensor forward_gelu(const at::Tensor& x) const override;
  at::Tensor forward_add(const at::Tensor& x, const at::Tensor& other) const override;

 private:
  at::Tensor run(const at::Tensor& x, bool gelu) const;
  kernels::Bfloat16Linear layer_;
};

}  // namespace da3
