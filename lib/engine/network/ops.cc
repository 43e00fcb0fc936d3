// SPDX-License-Identifier: MIT
#include "engine/network/ops.h"

#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace da3 {

Linear::Linear(const Scope& s, int64_t in, int64_t out, const Tensor& scale)
    : weight_(s.take_compute("weight", {out, in})), bias_(s.take_compute("bias", {out})), scale_(scale) {
  pack(s.placement().int8);
}

void Linear::pack(bool int8) {
  if (!weight_.defined()) return;  // only the names are of interest
  type_ = weight_.scalar_type();
  if (weight_.requires_grad() || !weight_.is_cpu()) return;
  Tensor weight = weight_, bias = bias_;
  if (scale_.defined()) {
    weight = (weight.to(at::kFloat) * scale_.unsqueeze(1)).to(type_);
    bias = (bias.to(at::kFloat) * scale_).to(type_);
  }
  if (int8)
    int8_ = std::make_shared<Int8Layer>(weight, bias);
  else
    packed_ = PackedLinear::make(weight, bias);
  if (!int8_ && !packed_) return;
  weight_ = bias_ = scale_ = Tensor();
}

Tensor Linear::forward_compute(const Tensor& x) const {
  if (int8_) return int8_->forward(x);
  if (packed_) return packed_->forward(x.to(type_));
  const Tensor y = at::linear(x.to(type_), weight_, bias_);
  return scale_.defined() ? y * scale_.to(type_) : y;
}

Tensor Linear::forward_gelu(const Tensor& x) const {
  if (packed_) return packed_->forward_gelu(x.to(type_));
  Tensor y = forward_compute(x);
  if (int8_) return at::gelu_(y);
  return at::gelu(y);
}

Tensor Linear::add_to(const Tensor& base, const Tensor& x) const {
  if (int8_) return int8_->forward_add(x, base);
  if (packed_ && type_ == at::kFloat) return packed_->forward_add(x, base);
  if (!scale_.defined()) return base + forward_compute(x);
  return at::addcmul(base, at::linear(x.to(type_), weight_, bias_).to(at::kFloat), scale_);
}

namespace {

// Plain products; slices of query rows bound the size of the score matrix. For LibTorch 1.x, which has no
// fused attention, and for training, where the fused one is slower on the CPU.
Tensor plain_attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  constexpr int64_t kMaxScores = int64_t(1) << 26;
  const int64_t rows = q.size(2);
  const int64_t per_row = q.size(0) * q.size(1) * k.size(2);
  const int64_t step = std::clamp<int64_t>(kMaxScores / std::max<int64_t>(per_row, 1), 1, rows);
  const Tensor scaled = q * (1.0 / std::sqrt(double(q.size(3))));
  const Tensor kt = k.transpose(-2, -1);
  if (step >= rows) return at::matmul(at::softmax(at::matmul(scaled, kt), -1), v);
  std::vector<Tensor> out;
  for (int64_t start = 0; start < rows; start += step) {
    const Tensor part = scaled.narrow(2, start, std::min(step, rows - start));
    out.push_back(at::matmul(at::softmax(at::matmul(part, kt), -1), v));
  }
  return at::cat(out, 2);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v) {
#if TORCH_VERSION_MAJOR >= 2
  const bool training = q.requires_grad() && q.device().is_cpu();
  if (!training) return at::scaled_dot_product_attention(q, k, v);
#endif
  return plain_attention(q, k, v);
}

}  // namespace da3
