// SPDX-License-Identifier: MIT
#include "engine/network/packed_linear.h"

#include <exception>

#include "engine/network/registered_operator.h"

namespace da3 {

#if TORCH_VERSION_MAJOR >= 2

namespace {

using at::Tensor;
using namespace registered;

// Below this many weights a call costs more than it saves.
constexpr int64_t kFewestWeights = 64 * 64;
// Rows for which the layout is chosen: as many as a picture has tokens, about.
constexpr int64_t kTypicalRows = 1024;

struct Operators {
  Operator reorder = find("mkldnn::_reorder_linear_weight", "");
  Operator pointwise = find("mkldnn::_linear_pointwise", "");
  Operator binary = find("mkldnn::_linear_pointwise", "binary");

  bool complete() const {
    return usable(reorder, "self", 2) && usable(pointwise, "X", 6) && usable(binary, "X", 5);
  }
};

const Operators& operators() {
  static const Operators found;
  return found;
}

}  // namespace

std::shared_ptr<const PackedLinear> PackedLinear::make(const Tensor& weight, const Tensor& bias) {
  const auto type = weight.scalar_type();
  if (!operators().complete() || !at::hasMKLDNN() || !weight.is_cpu() || weight.requires_grad() ||
      weight.numel() < kFewestWeights || (type != at::kFloat && type != at::kBFloat16))
    return nullptr;
  std::shared_ptr<PackedLinear> out(new PackedLinear);
  try {
    out->weight_ = call(*operators().reorder, {weight.contiguous(), c10::IValue(kTypicalRows)});
    out->bias_ = bias.defined() ? bias.clone() : bias;
    // What cannot run here (no instructions for the type) shows at once.
    out->forward(at::zeros({1, weight.size(1)}, weight.options()));
  } catch (const std::exception&) {  // of LibTorch or of oneDNN
    return nullptr;
  }
  return out;
}

Tensor PackedLinear::forward(const Tensor& x) const {
  return call(*operators().pointwise,
              {x.contiguous(), weight_, optional_tensor(bias_), "none", no_scalars(), ""});
}

Tensor PackedLinear::forward_gelu(const Tensor& x) const {
  return call(*operators().pointwise,
              {x.contiguous(), weight_, optional_tensor(bias_), "gelu", no_scalars(), "none"});
}

Tensor PackedLinear::forward_add(const Tensor& x, const Tensor& other) const {
  return call(*operators().binary,
              {x.contiguous(), other.contiguous(), weight_, optional_tensor(bias_), "add"});
}

#else

std::shared_ptr<const PackedLinear> PackedLinear::make(const at::Tensor&, const at::Tensor&) {
  return nullptr;
}
at::Tensor PackedLinear::forward(const at::Tensor& x) const {
  return x;
}
at::Tensor PackedLinear::forward_gelu(const at::Tensor& x) const {
  return x;
}
at::Tensor PackedLinear::forward_add(const at::Tensor&, const at::Tensor& other) const {
  return other;
}

#endif

}  // namespace da3
