// SPDX-License-Identifier: MIT
//
// The layers that DA3 is made of. Inference only needs forward(); parameters are plain tensors, so autograd
// works too.
#pragma once

#include <ATen/ATen.h>

#include <memory>

#include "engine/network/int8_layer.h"
#include "engine/network/packed_linear.h"
#include "engine/network/weights.h"

namespace da3 {

// y = x W^T + b, computed in the compute type of its part, result in float32. On the CPU the weights are laid
// out for its kernels when the layer is built (packed_linear.h), unless they are trained.
class Linear {
 public:
  Linear() = default;
  Linear(const Scope& s, int64_t in, int64_t out)
      : weight_(s.take_compute("weight", {out, in})), bias_(s.take_compute("bias", {out})) {
    pack(s.placement());
  }
  // The same with its output multiplied by `scale` [out], which must stay what it is.
  Linear(const Scope& s, int64_t in, int64_t out, const Tensor& scale);

  // In the compute type.
  Tensor forward_compute(const Tensor& x) const;
  Tensor operator()(const Tensor& x) const { return forward_compute(x).to(at::kFloat); }
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

// 2-D convolution with square kernels, float32.
struct Conv2d {
  Tensor weight, bias;
  int64_t stride = 1, padding = 0;
  Conv2d() = default;
  Conv2d(const Scope& s, int64_t in, int64_t out, int64_t kernel, int64_t stride_ = 1, bool with_bias = true)
      : weight(s.take("weight", {out, in, kernel, kernel})), stride(stride_), padding(kernel == 3 ? 1 : 0) {
    if (with_bias) bias = s.take("bias", {out});
  }
  Tensor operator()(const Tensor& x) const {
    return at::conv2d(x, weight, bias, {stride, stride}, {padding, padding});
  }
};

// Transposed convolution whose stride equals its kernel; weight [in, out, k, k] with in = out.
struct UpConv2d {
  Tensor weight, bias;
  int64_t stride = 1;
  UpConv2d() = default;
  UpConv2d(const Scope& s, int64_t width, int64_t kernel)
      : weight(s.take("weight", {width, width, kernel, kernel})),
        bias(s.take("bias", {width})),
        stride(kernel) {}
  Tensor operator()(const Tensor& x) const { return at::conv_transpose2d(x, weight, bias, {stride, stride}); }
};

inline Tensor resize_bilinear(const Tensor& x, int64_t height, int64_t width) {
  if (x.size(2) == height && x.size(3) == width) return x;
  return at::upsample_bilinear2d(x, {height, width}, /*align_corners=*/true);
}

}  // namespace da3
