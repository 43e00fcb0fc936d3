// SPDX-License-Identifier: MIT
#include "engine/network/packed_conv.h"

#include <algorithm>
#include <exception>

#include "engine/network/registered_operator.h"

namespace da3 {

#if TORCH_VERSION_MAJOR >= 2

namespace {

using at::Tensor;
using namespace registered;
using Sizes = std::vector<int64_t>;

// Below this many weights a call costs more than it saves.
constexpr int64_t kFewestWeights = 64 * 64;
// Sizes of input for which a layer keeps its weights.
constexpr size_t kLayouts = 2;

struct Operators {
  Operator reorder = find("mkldnn::_reorder_convolution_weight", "");
  Operator pointwise = find("mkldnn::_convolution_pointwise", "");
  Operator accumulate = find("mkldnn::_convolution_pointwise_", "binary");

  bool complete() const {
    return usable(reorder, "self", 6) && usable(pointwise, "X", 10) && usable(accumulate, "other", 13);
  }
};

const Operators& operators() {
  static const Operators found;
  return found;
}

Tensor channels_last(const Tensor& t) {
  return t.contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace

bool PackedConv::runs(at::ScalarType type) {
  if (!operators().complete() || !at::hasMKLDNN()) return false;
  return runs_in(type, [](at::ScalarType t) {
    const PackedConv layer(at::zeros({32, 32, 3, 3}, at::TensorOptions(t)),
                           at::zeros({32}, at::TensorOptions(t)), 1);
    const Tensor x = channels_last(at::zeros({1, 32, 4, 4}, at::TensorOptions(t)));
    layer.add_to(layer.forward(x, 1, 1, true), x, 1, 1);
  });
}

PackedConv::PackedConv(const Tensor& weight, const Tensor& bias, int64_t stride)
    : weight_(weight.clone(at::MemoryFormat::Contiguous)),
      bias_(bias.defined() ? bias.clone() : bias),
      stride_(stride) {}

// Given weights in a layout made for another size oneDNN lays them out anew in every pass, by its slow
// reference loops: a tenth of a pass of da3-small, half of one of da3-demo.
Tensor PackedConv::laid_out(const Tensor& x, int64_t rows, int64_t columns) const {
  const Size size = {x.size(0), x.size(2), x.size(3), rows, columns};
  const std::lock_guard<std::mutex> guard(lock_);
  const auto found =
      std::find_if(layouts_.begin(), layouts_.end(), [&](const Layout& l) { return l.size == size; });
  if (found != layouts_.end()) {
    std::rotate(layouts_.begin(), found, found + 1);
  } else {
    const Tensor weight = call(*operators().reorder, {weight_, Sizes{rows, columns}, Sizes{stride_, stride_},
                                                      Sizes{1, 1}, int64_t(1), x.sizes().vec()});
    if (layouts_.size() == kLayouts) layouts_.pop_back();
    layouts_.insert(layouts_.begin(), {size, weight});
  }
  return layouts_.front().weight;
}

std::shared_ptr<const PackedConv> PackedConv::make(const Tensor& weight, const Tensor& bias, int64_t stride) {
  if (!weight.is_cpu() || weight.requires_grad() || weight.numel() < kFewestWeights ||
      !runs(weight.scalar_type()))
    return nullptr;
  try {
    return std::shared_ptr<const PackedConv>(new PackedConv(weight, bias, stride));
  } catch (const std::exception&) {
    return nullptr;
  }
}

Tensor PackedConv::forward(const Tensor& x, int64_t rows, int64_t columns, bool relu) const {
  return call(*operators().pointwise,
              {channels_last(x), laid_out(x, rows, columns), optional_tensor(bias_), Sizes{rows, columns},
               Sizes{stride_, stride_}, Sizes{1, 1}, int64_t(1), relu ? "relu" : "none", no_scalars(), ""});
}

Tensor PackedConv::add_to(const Tensor& base, const Tensor& x, int64_t rows, int64_t columns) const {
  // The operator writes where it is told to.
  const auto side = [&](int64_t dimension, int64_t padding) {
    return (x.size(dimension) + 2 * padding - weight_.size(2)) / stride_ + 1;
  };
  TORCH_CHECK(
      base.sizes() == at::IntArrayRef({x.size(0), weight_.size(0), side(2, rows), side(3, columns)}) &&
          base.is_contiguous(at::MemoryFormat::ChannelsLast),
      "a map of sizes ", base.sizes(), " cannot take this sum");
  return call(*operators().accumulate,
              {base, channels_last(x), laid_out(x, rows, columns), optional_tensor(bias_),
               Sizes{rows, columns}, Sizes{stride_, stride_}, Sizes{1, 1}, int64_t(1), "add", c10::IValue(),
               c10::IValue(), no_scalars(), c10::IValue()});
}

#else

std::shared_ptr<const PackedConv> PackedConv::make(const at::Tensor&, const at::Tensor&, int64_t) {
  return nullptr;
}
at::Tensor PackedConv::forward(const at::Tensor& x, int64_t, int64_t, bool) const {
  return x;
}
at::Tensor PackedConv::add_to(const at::Tensor& base, const at::Tensor&, int64_t, int64_t) const {
  return base;
}

#endif

}  // namespace da3
