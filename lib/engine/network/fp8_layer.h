// SPDX-License-Identifier: MIT
//
// Linear layers whose weights and activations are 8-bit floats (e4m3), one scale for each output channel and
// one for each row of activations, by LibTorch's product of them (aten::_scaled_mm): on GPUs that multiply
// them twice as fast as bfloat16. LibTorch has it for the CPU too, slowly; tests use that.
#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <string>

namespace da3 {

class Fp8Layer {
 public:
  // Why layers cannot run on this device: this LibTorch has no such product, or it fails or gives something
  // wrong for small layers. Empty: they can. Tried once for a device, again where memory was short.
  static std::string refusal(at::Device device);

  // weight [out, in] and bias [out] (or undefined), float32 on the device; copied. `type`, bfloat16 or
  // float16, is that of activations and results. Throws std::invalid_argument unless in and out are multiples
  // of 16 and the weights are finite. `scales_apart`: as where the device lacks the product with scales.
  Fp8Layer(const at::Tensor& weight, const at::Tensor& bias, at::ScalarType type, bool scales_apart = false);
  // x: [..., in] in that type. Result: [..., out]. A row with a value that is not finite becomes NaN.
  // Thread-safe. Throws what LibTorch throws.
  at::Tensor forward(const at::Tensor& x) const;

 private:
  at::Tensor multiply(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& weight_scale,
                      const at::Tensor& bias, at::ScalarType type) const;
  at::Tensor weight_;  // e4m3 [out, in]
  at::Tensor scale_;   // float32 [1, out]
  at::Tensor bias_;    // in `type`, or undefined
  [[maybe_unused]] at::ScalarType type_;
  // From the start, or since the product with scales for rows failed for a shape.
  mutable std::atomic<bool> scales_apart_;
};

}  // namespace da3
