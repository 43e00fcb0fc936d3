// SPDX-License-Identifier: MIT
#include "engine/network/ops.h"

#include <stdexcept>

namespace da3 {

namespace {

// Whether the layer lays its weights out, unless they are trained.
bool lays_out(const Placement& p) {
  return p.int8 || p.fp8 || (p.prepack && p.device.is_cpu());
}

// What is laid out is converted on the way; 8-bit weights are rounded once, from float32.
Tensor take(const Scope& s, const char* name, const std::vector<int64_t>& shape) {
  return lays_out(s.placement()) ? s.take(name, shape) : s.take_compute(name, shape);
}

// float32 `t` in `type` and then times `scale`, which may be undefined. As scratch() gives it: valid until
// the next one, and perhaps `t` itself.
Tensor scaled(const Tensor& t, const Tensor& scale, at::ScalarType type) {
  Tensor out = type == at::kFloat ? t : scratch(t.sizes(), type).copy_(t);
  if (!scale.defined()) return out;
  Tensor product = scratch(t.sizes(), at::kFloat);
  if (type == at::kFloat) return at::mul_out(product, t, scale);
  return out.copy_(product.copy_(out).mul_(scale));
}

// Where a row lies among the others changes its bits in MKL's products of so few outputs (of two to three, as
// found); cameras must not depend on who shares a batch. For the few rows of cameras sums of each row by
// itself cost nothing.
constexpr int64_t kFewOutputs = 4;

}  // namespace

Linear::Linear(const Scope& s, int64_t in, int64_t out) : Linear(s, in, out, Tensor()) {}

Linear::Linear(const Scope& s, int64_t in, int64_t out, const Tensor& scale)
    : weight_(take(s, "weight", {out, in})), bias_(take(s, "bias", {out})), scale_(scale) {
  pack(s.placement());
}

bool Linear::trained() const {
  const auto is = [](const Tensor& t) { return t.defined() && t.requires_grad(); };
  return is(weight_) || is(bias_) || is(scale_);
}

void Linear::pack(const Placement& placement) {
  if (!weight_.defined()) return;  // only the names are of interest
  type_ = placement.compute;
  const bool fixed = weight_.is_cpu() && !trained(), eight = placement.int8 || placement.fp8;
  if (placement.int8 && !fixed) throw std::logic_error("8-bit weights are for the CPU, and are not trained.");
  if (placement.fp8 && trained()) throw std::logic_error("Weights in 8-bit floats are not trained.");
  if (placement.fp8) {
    const Tensor weight = scale_.defined() ? weight_ * scale_.unsqueeze(1) : weight_;
    fp8_ = std::make_shared<Fp8Layer>(weight, scale_.defined() ? bias_ * scale_ : bias_, type_);
  } else if (fixed && lays_out(placement)) {
    const at::ScalarType type = placement.int8 ? at::kFloat : type_;
    const Tensor bias = scaled(bias_, scale_, type).clone();
    const Tensor weight = scaled(weight_, scale_.defined() ? scale_.unsqueeze(1) : scale_, type);
    if (placement.int8)
      int8_ = std::make_shared<Int8Layer>(weight, bias);
    else
      packed_ = PackedLinear::make(weight, bias);
  }
  if (int8_ || fp8_ || packed_) {
    weight_ = bias_ = scale_ = Tensor();
  } else if (!eight) {
    weight_ = weight_.to(type_);
    bias_ = bias_.to(type_);
  }
}

Tensor Linear::forward_unscaled(const Tensor& x) const {
  if (int8_) return int8_->forward(x, type_);
  if (fp8_) return fp8_->forward(x.to(type_));
  if (packed_) return packed_->forward(x.to(type_));
  if (weight_.is_cpu() && weight_.size(0) <= kFewOutputs && type_ == at::kFloat && !trained()) {
    TORCH_CHECK(x.size(-1) == weight_.size(1), "a layer of ", weight_.size(1), " inputs, not ", x.size(-1));
    return (x.to(type_).unsqueeze(-2) * weight_).sum(-1).add_(bias_);
  }
  return at::linear(x.to(type_), weight_, bias_);
}

Tensor Linear::forward_compute(const Tensor& x) const {
  const Tensor y = forward_unscaled(x);
  return scale_.defined() ? y * scale_.to(type_) : y;
}

Tensor Linear::forward_gelu(const Tensor& x) const {
  if (int8_) return int8_->forward_gelu(x, type_);
  if (packed_) return packed_->forward_gelu(x.to(type_));
  return at::gelu(forward_compute(x));
}

Tensor Linear::add_to(const Tensor& base, const Tensor& x) const {
  if (int8_) return int8_->forward_add(x, base);
  if (packed_ && type_ == at::kFloat) return packed_->forward_add(x, base);
  if (!scale_.defined()) return base + forward_compute(x);
  return at::addcmul(base, forward_unscaled(x).to(at::kFloat), scale_);
}

}  // namespace da3
