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

bool PackedLinear::runs(at::ScalarType type) {
  if (!operators().complete() || !at::hasMKLDNN()) return false;
  return runs_in(type, [](at::ScalarType t) {
    const Tensor weight = at::zeros({64, 64}, at::TensorOptions(t)), x = weight.narrow(0, 0, 2);
    const PackedLinear layer(weight, weight[0]);
    layer.forward_add(layer.forward_gelu(layer.forward(x)), x);
  });
}

PackedLinear::PackedLinear(const Tensor& weight, const Tensor& bias)
    : weight_(call(*operators().reorder, {weight.contiguous(), c10::IValue(kTypicalRows)})),
      bias_(bias.defined() ? bias.clone() : bias) {}

std::shared_ptr<const PackedLinear> PackedLinear::make(const Tensor& weight, const Tensor& bias) {
  if (!weight.is_cpu() || weight.requires_grad() || weight.numel() < kFewestWeights ||
      !runs(weight.scalar_type()))
    return nullptr;
  try {
    return std::shared_ptr<const PackedLinear>(new PackedLinear(weight, bias));
  } catch (const std::exception&) {
    return nullptr;
  }
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
