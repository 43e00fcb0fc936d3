// SPDX-License-Identifier: MIT
//
// The layers that DA3 is made of. Inference only needs forward(); parameters are plain tensors, so autograd
// works too.
#pragma once

#include <ATen/ATen.h>

#include "engine/network/weights.h"

namespace da3 {

// y = x W^T + b, computed in the compute type of its part, result in float32.
struct Linear {
  Tensor weight, bias;
  Linear() = default;
  Linear(const Scope& s, int64_t in, int64_t out)
      : weight(s.take_compute("weight", {out, in})), bias(s.take_compute("bias", {out})) {}
  // Result in the compute type.
  Tensor forward_compute(const Tensor& x) const {
    return at::linear(x.to(weight.scalar_type()), weight, bias);
  }
  Tensor operator()(const Tensor& x) const { return forward_compute(x).to(at::kFloat); }
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

// softmax(q k^T / sqrt(d)) v for [batch, heads, tokens, d].
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v);

}  // namespace da3
