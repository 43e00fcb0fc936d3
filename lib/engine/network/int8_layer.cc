// SPDX-License-Identifier: MIT
#include "engine/network/int8_layer.h"

#include <ATen/Parallel.h>

namespace da3 {
namespace {

using at::Tensor;

// Rows and tiles that are worth a thread.
constexpr int64_t kRowGrain = 16, kTileGrain = 2;

const float* data_of(const Tensor& t) {
  return t.defined() ? t.data_ptr<float>() : nullptr;
}

}  // namespace

Int8Layer::Int8Layer(const Tensor& weight, const Tensor& bias)
    : layer_(weight.contiguous().data_ptr<float>(), data_of(bias), weight.size(0), weight.size(1)) {}

void Int8Layer::run(const Tensor& x, float* y, bool accumulate) const {
  const int64_t rows = x.numel() / layer_.in();
  const float* from = x.data_ptr<float>();
  kernels::Int8Rows quantised;
  quantised.resize(rows, layer_.in());
  at::parallel_for(0, rows, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) quantised.set_row(m, from + m * layer_.in());
  });
  at::parallel_for(0, layer_.tiles(rows), kTileGrain,
                   [&](int64_t begin, int64_t end) { layer_.run(quantised, y, accumulate, begin, end); });
}

Tensor Int8Layer::forward(const Tensor& x) const {
  auto sizes = x.sizes().vec();
  sizes.back() = layer_.out();
  Tensor y = at::empty(sizes, x.options());
  run(x.contiguous(), y.data_ptr<float>(), false);
  return y;
}

Tensor Int8Layer::forward_add(const Tensor& x, const Tensor& base) const {
  Tensor y = base.clone(at::MemoryFormat::Contiguous);
  run(x.contiguous(), y.data_ptr<float>(), true);
  return y;
}

}  // namespace da3
