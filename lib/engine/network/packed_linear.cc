// SPDX-License-Identifier: MIT
#include "engine/network/packed_linear.h"

#include <exception>

#include "engine/network/registered_operator.h"
#include "engine/network/tiled_linear.h"

namespace da3 {
namespace {

using at::Tensor;

// Below this many weights a call costs more than it saves.
constexpr int64_t kFewestWeights = 64 * 64;

}  // namespace

#if TORCH_VERSION_MAJOR >= 2

namespace {

using namespace registered;

// Rows for which the layout is chosen: as many as a picture has tokens, about.
constexpr int64_t kTypicalRows = 1024;

// LibTorch registers these operators for its compiler (namespace mkldnn); they are found through the
// dispatcher, so that a LibTorch without them only means the plain layer.
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

// By oneDNN, which lays the weights out. On processors where LibTorch's BLAS does not use the widest vectors
// (MKL on AMD) the product alone is up to twice as fast.
class OneDnnLinear final : public PackedLinear {
 public:
  OneDnnLinear(const Tensor& weight, const Tensor& bias)
      : weight_(call(*operators().reorder, {weight.contiguous(), c10::IValue(kTypicalRows)})),
        bias_(bias.defined() ? bias.clone() : bias) {}

  static bool runs(at::ScalarType type) {
    if (!operators().complete() || !at::hasMKLDNN()) return false;
    return runs_in(type, [](at::ScalarType t) {
      const Tensor weight = at::zeros({64, 64}, at::TensorOptions(t)), x = weight.narrow(0, 0, 2);
      const OneDnnLinear layer(weight, weight[0]);
      layer.forward_add(layer.forward_gelu(layer.forward(x)), x);
    });
  }

  Tensor forward(const Tensor& x) const override {
    return call(*operators().pointwise,
                {x.contiguous(), weight_, optional_tensor(bias_), "none", no_scalars(), ""});
  }
  Tensor forward_gelu(const Tensor& x) const override {
    return call(*operators().pointwise,
                {x.contiguous(), weight_, optional_tensor(bias_), "gelu", no_scalars(), "none"});
  }
  Tensor forward_add(const Tensor& x, const Tensor& other) const override {
    return call(*operators().binary,
                {x.contiguous(), other.contiguous(), weight_, optional_tensor(bias_), "add"});
  }

 private:
  Tensor weight_, bias_;
};

}  // namespace

#endif

std::shared_ptr<const PackedLinear> PackedLinear::make(const Tensor& weight, const Tensor& bias) {
  if (!weight.is_cpu() || weight.requires_grad() || weight.numel() < kFewestWeights) return nullptr;
  const at::ScalarType type = weight.scalar_type();
  if (TiledLinear::runs(type)) return std::make_shared<TiledLinear>(weight, bias);
#if TORCH_VERSION_MAJOR >= 2
  try {
    if (OneDnnLinear::runs(type)) return std::make_shared<OneDnnLinear>(weight, bias);
  } catch (const std::exception&) {  // the plain layer then
  }
#endif
  return nullptr;
}

}  // namespace da3
