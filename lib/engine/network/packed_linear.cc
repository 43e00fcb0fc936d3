// SPDX-License-Identifier: MIT
#include "engine/network/packed_linear.h"

#include <algorithm>
#include <exception>

#include "engine/kernels/instructions.h"
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

// With AMX oneDNN 3.12 takes twice its usual time for so many inputs in bfloat16 (the second layer of
// da3-base's MLPs) when there are a few more rows than kFewRows, not for half as many, nor for other layers.
constexpr int64_t kSlowInputs = 3072, kFewRows = 448, kManyRows = 1600;

bool better_in_bands(const Tensor& x) {
  const int64_t rows = x.size(-1) > 0 ? x.numel() / x.size(-1) : 0;
  return x.size(-1) == kSlowInputs && x.scalar_type() == at::kBFloat16 && rows > kFewRows &&
         rows < kManyRows && kernels::has_amx();
}

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
  if (better_in_bands(x)) return forward_in_bands(x);
  return call(*operators().pointwise,
              {x.contiguous(), weight_, optional_tensor(bias_), "none", no_scalars(), ""});
}

Tensor PackedLinear::forward_in_bands(const Tensor& x) const {
  const Tensor from = x.contiguous().view({-1, x.size(-1)});
  const int64_t rows = from.size(0), bands = (rows + kFewRows - 1) / kFewRows;
  Tensor out;
  for (int64_t i = 0; i < bands; ++i) {
    const int64_t first = i * rows / bands, count = (i + 1) * rows / bands - first;
    const Tensor band = forward(from.narrow(0, first, count));
    if (!out.defined()) out = at::empty({rows, band.size(1)}, band.options());
    out.narrow(0, first, count).copy_(band);
  }
  auto sizes = x.sizes().vec();
  sizes.back() = out.size(1);
  return out.view(sizes);
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
