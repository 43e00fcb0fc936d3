// SPDX-License-Identifier: MIT
#include "engine/network/tiled_linear.h"

#include "engine/network/balanced_for.h"

namespace da3 {
namespace {

using at::Tensor;

uint16_t* data_of(const Tensor& t) {
  return static_cast<uint16_t*>(t.data_ptr());
}

const Tensor& checked(const Tensor& t, int64_t dimensions) {
  TORCH_CHECK(t.is_cpu() && t.scalar_type() == at::kBFloat16 && t.dim() == dimensions,
              "a layer in bfloat16 on the CPU cannot take ", t.scalar_type(), " of ", t.sizes(), " on ",
              t.device());
  return t;
}

kernels::Bfloat16Linear laid_out(const Tensor& weight, const Tensor& bias) {
  const Tensor w = checked(weight, 2).contiguous();
  if (!bias.defined()) return {data_of(w), nullptr, w.size(0), w.size(1)};
  TORCH_CHECK(bias.numel() == w.size(0), "a layer of ", w.size(0), " outputs cannot take a bias of ",
              bias.sizes());
  const Tensor b = checked(bias, 1).to(at::kFloat).contiguous();
  return {data_of(w), b.data_ptr<float>(), w.size(0), w.size(1)};
}

}  // namespace

bool TiledLinear::runs(at::ScalarType type) {
  return type == at::kBFloat16 && kernels::Bfloat16Linear::available();
}

TiledLinear::TiledLinear(const Tensor& weight, const Tensor& bias) : layer_(laid_out(weight, bias)) {}

Tensor TiledLinear::run(const Tensor& x, bool gelu) const {
  TORCH_CHECK(x.dim() > 0 && x.size(-1) == layer_.in(), "a layer of ", layer_.in(), " inputs cannot take ",
              x.sizes());
  auto sizes = x.sizes().vec();
  sizes.back() = layer_.out();
  const Tensor from = checked(x, x.dim()).contiguous(), y = at::empty(sizes, x.options());
  kernels::Bfloat16Linear::Job job{data_of(from), x.numel() / layer_.in(), data_of(y)};
  job.gelu = gelu;
  balanced_for(layer_.pieces(job.rows), 1, [&](int64_t begin, int64_t end) { layer_.run(job, begin, end); });
  return y;
}

Tensor TiledLinear::forward(const Tensor& x) const {
  return run(x, false);
}

Tensor TiledLinear::forward_gelu(const Tensor& x) const {
  return run(x, true);
}

Tensor TiledLinear::forward_add(const Tensor& x, const Tensor& other) const {
  return run(x, false).add_(other);
}

}  // namespace da3
