// SPDX-License-Identifier: MIT
#include "engine/network/ops.h"

namespace da3 {

Linear::Linear(const Scope& s, int64_t in, int64_t out, const Tensor& scale)
    : weight_(s.take_compute("weight", {out, in})), bias_(s.take_compute("bias", {out})), scale_(scale) {
  pack(s.placement());
}

void Linear::pack(const Placement& placement) {
  const bool int8 = placement.int8, prepack = placement.prepack;
  if (!weight_.defined()) return;  // only the names are of interest
  type_ = weight_.scalar_type();
  if (weight_.requires_grad() || !weight_.is_cpu() || !(prepack || int8)) return;
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

}  // namespace da3
