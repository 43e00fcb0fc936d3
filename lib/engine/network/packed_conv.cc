// SPDX-License-Identifier: MIT
#include "engine/network/packed_conv.h"

#include <exception>
#include <vector>

#include "engine/network/registered_operator.h"

namespace da3 {

#if TORCH_VERSION_MAJOR >= 2

namespace {

using at::Tensor;
using namespace registered;
using Sizes = std::vector<int64_t>;

// Below this many weights a call costs more than it saves.
constexpr int64_t kFewestWeights = 64 * 64;
// Rows and columns for which the layout is chosen.
constexpr int64_t kTypicalSide = 144;

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

std::shared_ptr<const PackedConv> PackedConv::make(const Tensor& weight, const Tensor& bias, int64_t stride) {
  const auto type = weight.scalar_type();
  if (!operators().complete() || !at::hasMKLDNN() || !weight.is_cpu() || weight.requires_grad() ||
      weight.numel() < kFewestWeights || (type != at::kFloat && type != at::kBFloat16))
    return nullptr;
  std::shared_ptr<PackedConv> out(new PackedConv);
  out->stride_ = stride;
  const int64_t around = weight.size(2) / 2;
  try {
    // With a size of the input the layout is that for channels-last maps.
    out->weight_ = call(*operators().reorder,
                        {weight.contiguous(), Sizes{around, around}, Sizes{stride, stride}, Sizes{1, 1},
                         int64_t(1), Sizes{1, weight.size(1), kTypicalSide, kTypicalSide}});
    out->bias_ = bias.defined() ? bias.clone() : bias;
    // What cannot run here (no instructions for the type) shows at once.
    const Tensor x = channels_last(at::zeros({1, weight.size(1), 2 * stride, 2 * stride}, weight.options()));
    const Tensor y = out->forward(x, around, around, true);
    out->add_to(y, x, around, around);
  } catch (const std::exception&) {  // of LibTorch or of oneDNN
    return nullptr;
  }
  return out;
}

Tensor PackedConv::forward(const Tensor& x, int64_t rows, int64_t columns, bool relu) const {
  return call(*operators().pointwise,
              {channels_last(x), weight_, optional_tensor(bias_), Sizes{rows, columns},
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
  return call(
      *operators().accumulate,
      {base, channels_last(x), weight_, optional_tensor(bias_), Sizes{rows, columns}, Sizes{stride_, stride_},
       Sizes{1, 1}, int64_t(1), "add", c10::IValue(), c10::IValue(), no_scalars(), c10::IValue()});
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
