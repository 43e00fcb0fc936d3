// SPDX-License-Identifier: MIT
#include "engine/network/tiled_linear.h"

#include "engine/network/balanced_for.h"

namespace da3 {
namespace {

using at::Tensor;

uint16_t* data_of(const Tensor& t) {
  return static_cast<uint16_t*>(t.data_ptr());
}

const float* floats_of(const Tensor& t) {
  return t.defined() ? t.data_ptr<float>() : nullptr;
}

}  // namespace

bool TiledLinear::runs(at::ScalarType type) {
  return type == at::kBFloat16 && kernels::Bfloat16Linear::available();
}

TiledLinear::TiledLinear(const Tensor& weight, const Tensor& bias)
    : layer_(data_of(weight.contiguous()),
             floats_of(bias.defined() ? bias.to(at::kFloat).contiguous() : bias), weight.size(0),
             weight.size(1)) {}

Tensor TiledLinear::run(const Tensor& x, const Tensor& add, bool gelu) const {
  TORCH_CHECK(x.dim() > 0 && x.size(-1) == layer_.in(), "a layer of ", layer_.in(), " inputs cannot take ",
              x.sizes());
  TORCH_CHECK(x.scalar_type() == at::kBFloat16, "a layer in bfloat16 cannot take ", x.scalar_type());
  auto sizes = x.sizes().vec();
  sizes.back() = layer_.out();
  const Tensor from = x.contiguous(), y = at::empty(sizes, x.options());
  kernels::Bfloat16Linear::Job job{data_of(from), x.numel() / layer_.in(), data_of(y)};
  job.gelu = gelu;
  Tensor other;
  if (add.defined()) {
    TORCH_CHECK(add.sizes() == y.sizes() && add.scalar_type() == at::kBFloat16, "the sum of ", y.sizes(),
                " in bfloat16 cannot take ", add.sizes(), " in ", add.scalar_type());
    other = add.contiguous();
    job.add = data_of(other);
  }
  balanced_for(layer_.pieces(job.rows), 1, [&](int64_t begin, int64_t end) { layer_.run(job, begin, end); });
  return y;
}

Tensor TiledLinear::forward(const Tensor& x) const {
  return run(x, {}, false);
}

Tensor TiledLinear::forward_gelu(const Tensor& x) const {
  return run(x, {}, true);
}

Tensor TiledLinear::forward_add(const Tensor& x, const Tensor& other) const {
  return run(x, other, false);
}

}  // namespace da3
