// SPDX-License-Identifier: MIT
#include "engine/network/int8_layer.h"

#include "engine/network/balanced_for.h"

namespace da3 {
namespace {

using at::Tensor;
using kernels::Int8Output;
using kernels::Int8Rows;

// Rows and tiles that are worth a thread.
constexpr int64_t kRowGrain = 16, kTileGrain = 2;

const float* data_of(const Tensor& t) {
  return t.defined() ? t.data_ptr<float>() : nullptr;
}

// body(pointer to the values), float or bfloat16 as uint16_t.
template <typename Body>
void with_values(const Tensor& t, const Body& body) {
  if (t.scalar_type() == at::kBFloat16)
    body(reinterpret_cast<uint16_t*>(t.data_ptr<at::BFloat16>()));
  else
    body(t.data_ptr<float>());
}

}  // namespace

Int8Layer::Int8Layer(const Tensor& weight, const Tensor& bias)
    : layer_(weight.contiguous().data_ptr<float>(), data_of(bias), weight.size(0), weight.size(1)) {}

void Int8Layer::run(const Tensor& x, Int8Output how, Tensor* y) const {
  const int64_t width = layer_.in(), rows = x.numel() / width;
  const Tensor from = x.contiguous();
  const Tensor memory = at::empty({int64_t(Int8Rows::bytes(rows, width))}, at::TensorOptions(at::kByte));
  Int8Rows quantised(rows, width, memory.data_ptr<uint8_t>());
  with_values(from, [&](const auto* values) {
    balanced_for(rows, kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t m = begin; m < end; ++m) quantised.set_row(m, values + m * width);
    });
  });
  with_values(*y, [&](auto* to) {
    balanced_for(layer_.tiles(rows), kTileGrain,
                 [&](int64_t begin, int64_t end) { layer_.run(quantised, to, how, begin, end); });
  });
}

Tensor Int8Layer::result_of(const Tensor& x, at::ScalarType type) const {
  auto sizes = x.sizes().vec();
  sizes.back() = layer_.out();
  return at::empty(sizes, x.options().dtype(type));
}

Tensor Int8Layer::forward(const Tensor& x, at::ScalarType type) const {
  Tensor y = result_of(x, type);
  run(x, Int8Output::store, &y);
  return y;
}

Tensor Int8Layer::forward_gelu(const Tensor& x, at::ScalarType type) const {
  Tensor y = result_of(x, type);
  run(x, Int8Output::gelu, &y);
  return y;
}

Tensor Int8Layer::forward_add(const Tensor& x, const Tensor& base) const {
  Tensor y = base.clone(at::MemoryFormat::Contiguous);
  run(x, Int8Output::add, &y);
  return y;
}

}  // namespace da3
