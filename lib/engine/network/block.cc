// SPDX-License-Identifier: MIT
#include "engine/network/block.h"

#include <cmath>

#include "engine/network/attention.h"

namespace da3 {

RopeTable make_rope_table(const Tensor& positions, int64_t head_width) {
  const int64_t quarter = head_width / 4;
  const auto options = at::TensorOptions(at::kDouble);
  const Tensor k = at::arange(quarter, options);
  const Tensor omega = at::pow(100.0, -k / double(quarter));                         // [quarter]
  const Tensor angle = positions.to(at::kDouble).unsqueeze(-1) * omega;              // [tokens, 2, quarter]
  const Tensor full = at::cat({angle, angle}, -1).reshape({positions.size(0), -1});  // [tokens, head_width]
  return {full.cos().to(at::kFloat), full.sin().to(at::kFloat)};
}

Tensor apply_rope(const Tensor& x, const RopeTable& table) {
  const int64_t tokens = table.cos.size(0);
  const int64_t width = x.size(-1);
  // [..., repeats, tokens, half, pair member, quarter]
  auto sizes = x.sizes().vec();
  sizes.pop_back();
  sizes.pop_back();
  sizes.insert(sizes.end(), {x.size(-2) / tokens, tokens, 2, 2, width / 4});
  const Tensor parts = x.reshape(sizes);
  const Tensor u = parts.select(-2, 0), v = parts.select(-2, 1);
  const Tensor cos = table.cos.view({tokens, 2, 2, width / 4}).select(-2, 0);
  const Tensor sin = table.sin.view({tokens, 2, 2, width / 4}).select(-2, 0);
  return at::stack({u * cos - v * sin, v * cos + u * sin}, -2).reshape(x.sizes());
}

Block::Block(const Scope& s, const BlockShape& shape)
    : shape_(shape),
      attention_(s.placement().attention),
      norm1_(s / "norm1", shape.width, shape.norm_eps),
      norm2_(s / "norm2", shape.width, shape.norm_eps),
      qkv_(s / "attn" / "qkv", shape.width, 3 * shape.width),
      proj_(s / "attn" / "proj", shape.width, shape.width, (s / "ls1").take("gamma", {shape.width})) {
  const int64_t head_width = shape.width / shape.heads;
  if (shape.qk_norm) {
    q_norm_ = LayerNorm(s / "attn" / "q_norm", head_width, 1e-5);
    k_norm_ = LayerNorm(s / "attn" / "k_norm", head_width, 1e-5);
  }
  const Tensor gamma2 = (s / "ls2").take("gamma", {shape.width});
  if (shape.swiglu) {
    fc1_ = Linear(s / "mlp" / "w12", shape.width, 2 * shape.ffn_hidden);
    fc2_ = Linear(s / "mlp" / "w3", shape.ffn_hidden, shape.width, gamma2);
  } else {
    fc1_ = Linear(s / "mlp" / "fc1", shape.width, shape.ffn_hidden);
    fc2_ = Linear(s / "mlp" / "fc2", shape.ffn_hidden, shape.width, gamma2);
  }
}

Tensor Block::attend(const Tensor& x, const RopeTable& rope) const {
  const int64_t batch = x.size(0), tokens = x.size(1), width = shape_.width;
  const Tensor qkv = qkv_.forward_compute(x)
                         .view({batch, tokens, 3, shape_.heads, width / shape_.heads})
                         .permute({2, 0, 3, 1, 4});  // [3, batch, heads, tokens, head_width]
  Tensor q = qkv.select(0, 0), k = qkv.select(0, 1);
  const Tensor v = qkv.select(0, 2);
  if (shape_.qk_norm) {
    q = q_norm_(q.to(at::kFloat));
    k = k_norm_(k.to(at::kFloat));
  }
  if (rope.defined()) {
    q = apply_rope(q.to(at::kFloat), rope);
    k = apply_rope(k.to(at::kFloat), rope);
  }
  const Tensor out = attention(q.to(v.scalar_type()), k.to(v.scalar_type()), v, attention_);
  return out.transpose(1, 2).reshape({batch, tokens, width});
}

Tensor Block::hidden(const Tensor& x) const {
  if (!shape_.swiglu) return fc1_.forward_gelu(x);
  const auto halves = fc1_.forward_compute(x).chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

Tensor Block::forward(const Tensor& x, const RopeTable& rope) const {
  const Tensor y = proj_.add_to(x, attend(norm1_(x), rope));
  return fc2_.add_to(y, hidden(norm2_(y)));
}

}  // namespace da3
