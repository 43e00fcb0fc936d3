// SPDX-License-Identifier: MIT
//
// The layers that DA3 is made of. Inference only needs forward(); parameters are plain tensors, so autograd
// works too.
#pragma once

#include <ATen/ATen.h>

#include <memory>

#include "engine/network/fp8_layer.h"
#include "engine/network/int8_layer.h"
#include "engine/network/packed_linear.h"
#include "engine/network/weights.h"

namespace da3 {

// y = x W^T + b, computed in the compute type of its part, result in float32. On the CPU the weights are laid
// out for its kernels when the layer is built (packed_linear.h), unless they are trained. With 8-bit weights
// (Placement::int8, fp8) the compute type is that of x and y.
class Linear {
 public:
  Linear() = default;
  Linear(const Scope& s, int64_t in, int64_t out);
  // The same with its output multiplied by `scale` [out], which must stay what it is.
  Linear(const Scope& s, int64_t in, int64_t out, const Tensor& scale);

  at::ScalarType type() const { return type_; }
  // Whether a parameter takes part in training; then nothing is laid out.
  bool trained() const;
  // In the compute type.
  Tensor forward_compute(const Tensor& x) const;
  Tensor operator()(const Tensor& x) const { return forward_compute(x).to(at::kFloat); }
  // forward_compute() is this times scale(), where that is defined: [out], float32.
  Tensor forward_unscaled(const Tensor& x) const;
  const Tensor& scale() const { return scale_; }
  // gelu(y), in the compute type.
  Tensor forward_gelu(const Tensor& x) const;
  // base + y in float32, in new memory.
  Tensor add_to(const Tensor& base, const Tensor& x) const;

 private:
  void pack(const Placement& placement);
  Tensor weight_, bias_;  // undefined once they are packed
  Tensor scale_;          // defined where it could not be multiplied into the weights
  at::ScalarType type_ = at::kFloat;
  std::shared_ptr<const PackedLinear> packed_;
  std::shared_ptr<const Int8Layer> int8_;
  std::shared_ptr<const Fp8Layer> fp8_;
};

// Over the last dimension, in float32.
struct LayerNorm {
  Tensor weight, bias;
  double eps = 1e-5;
  LayerNorm() = default;
  LayerNorm(const Scope& s, int64_t width, double epsilon)
      : weight(s.take("weight", {width})), bias(s.take("bias", {width})), eps(epsilon) {}
  Tensor operator()(const Tensor& x) const { return at::layer_norm(x, {weight.size(0)}, weight, bias, eps); }
};

}  // namespace da3
