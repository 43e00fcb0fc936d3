// SPDX-License-Identifier: MIT
#include "engine/network/block.h"

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <utility>

#include "engine/cuda/fused.h"
#include "engine/kernels/add_norm.h"
#include "engine/kernels/qk_norm_rope.h"
#include "engine/network/attention.h"
#include "engine/network/balanced_for.h"

namespace da3 {
namespace {

// take_heads() by a kernel of our own.
Tensor take_heads_at_once(const Tensor& x, const LayerNorm* norm, const RopeTable& rope) {
  const int64_t batch = x.size(0), tokens = x.size(1), heads = x.size(2);
  kernels::NormRope how;
  if (norm) {
    how.weight = norm->weight.data_ptr<float>();
    how.bias = norm->bias.data_ptr<float>();
    how.eps = float(norm->eps);
  }
  if (rope.defined()) {
    how.cosine = rope.cos.data_ptr<float>();
    how.sine = rope.sin.data_ptr<float>();
    how.positions = rope.cos.size(0);
  }
  const Tensor out = at::empty({batch, heads, tokens, kernels::kHeadWidth}, x.options());
  const auto run = [&](const auto* from, auto* to) {
    for (int64_t b = 0; b < batch; ++b)
      balanced_for(tokens, 64, [&](int64_t begin, int64_t end) {
        kernels::norm_rope(how, from + b * x.stride(0), x.stride(1), heads, tokens, begin, end,
                           to + b * heads * tokens * kernels::kHeadWidth);
      });
  };
  if (x.scalar_type() == at::kFloat)
    run(x.data_ptr<float>(), out.data_ptr<float>());
  else
    run(reinterpret_cast<const uint16_t*>(x.data_ptr<at::BFloat16>()),
        reinterpret_cast<uint16_t*>(out.data_ptr<at::BFloat16>()));
  return out;
}

bool trained(const LayerNorm& norm) {
  return norm.weight.requires_grad() || norm.bias.requires_grad();
}

// Whether the sums and norms around layers in bfloat16 can be kernels of our own, which know no gradients.
bool can_add_norm(const Tensor& x, at::ScalarType type) {
  return type == at::kBFloat16 && kernels::AddNorm<uint16_t>::available() && x.is_cpu() &&
         x.scalar_type() == at::kFloat && x.is_contiguous() && x.size(-1) % 16 == 0;
}

struct SumAndNorm {
  Tensor sum;     // float32
  Tensor normed;  // bfloat16
};

// x + y, and its layer norm; y undefined: the norm of x alone; no norm: the sum alone.
SumAndNorm add_norm(const Tensor& x, const Tensor& y, const LayerNorm* norm) {
  SumAndNorm out;
  kernels::AddNorm<uint16_t> job;
  job.x = x.data_ptr<float>();
  job.width = x.size(-1);
  const Tensor add = y.defined() ? y.contiguous() : y;
  if (add.defined()) {
    out.sum = at::empty_like(x);
    job.add = static_cast<const uint16_t*>(add.data_ptr());
    job.sum = out.sum.data_ptr<float>();
  }
  if (norm) {
    out.normed = at::empty(x.sizes(), x.options().dtype(at::kBFloat16));
    job.normed = static_cast<uint16_t*>(out.normed.data_ptr());
    job.weight = norm->weight.data_ptr<float>();
    job.bias = norm->bias.data_ptr<float>();
    job.eps = float(norm->eps);
  }
  balanced_for(x.numel() / job.width, 16, [&](int64_t begin, int64_t end) { job.run(begin, end); });
  return out;
}

cuda::Norm norm_of(const LayerNorm* norm) {
  return norm ? cuda::Norm{norm->weight, norm->bias, norm->eps} : cuda::Norm{};
}

}  // namespace

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

bool projection_in_8_bits(at::ScalarType beside) {
  return beside != at::kBFloat16;
}

Block::Block(const Scope& s, const BlockShape& shape)
    : shape_(shape),
      attention_(s.placement().attention),
      norm1_(s / "norm1", shape.width, shape.norm_eps),
      norm2_(s / "norm2", shape.width, shape.norm_eps),
      qkv_(s / "attn" / "qkv", shape.width, 3 * shape.width),
      proj_((projection_in_8_bits(s.placement().compute) ? s : s.without_8_bits()) / "attn" / "proj",
            shape.width, shape.width, (s / "ls1").take("gamma", {shape.width})) {
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

Tensor take_heads(const Tensor& x, const LayerNorm* norm, const RopeTable& rope) {
  if (!norm && !rope.defined()) return x.transpose(1, 2);
  const bool gradients = at::GradMode::is_enabled() && (x.requires_grad() || (norm && trained(*norm)));
  if (cuda::serves(x.device()) && !gradients)
    if (const auto y = cuda::take_heads({x, norm_of(norm), rope.cos, rope.sin})) return *y;
  const bool ours = kernels::has_norm_rope() && x.is_cpu() && x.size(3) == kernels::kHeadWidth &&
                    !gradients && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
                    x.stride(3) == 1 && x.stride(2) == kernels::kHeadWidth;
  if (ours) return take_heads_at_once(x, norm, rope);
  Tensor y = x.transpose(1, 2).to(at::kFloat);
  if (norm) y = (*norm)(y);
  if (rope.defined()) y = apply_rope(y, rope);
  return y;
}

Tensor Block::attend(const Tensor& x, const RopeTable& rope) const {
  const int64_t batch = x.size(0), tokens = x.size(1), width = shape_.width;
  const Tensor qkv = qkv_.forward_compute(x).view({batch, tokens, 3, shape_.heads, width / shape_.heads});
  const Tensor v = qkv.select(2, 2).transpose(1, 2);  // [batch, heads, tokens, head_width]
  const LayerNorm* const norms[] = {shape_.qk_norm ? &q_norm_ : nullptr, shape_.qk_norm ? &k_norm_ : nullptr};
  const Tensor q = take_heads(qkv.select(2, 0), norms[0], rope),
               k = take_heads(qkv.select(2, 1), norms[1], rope);
  const Tensor out = attention(q.to(v.scalar_type()), k.to(v.scalar_type()), v, attention_);
  return out.transpose(1, 2).reshape({batch, tokens, width});
}

Tensor Block::hidden(const Tensor& x) const {
  if (!shape_.swiglu) return fc1_.forward_gelu(x);
  const auto halves = fc1_.forward_compute(x).chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

bool Block::needs_gradients(const Tensor& x) const {
  if (!at::GradMode::is_enabled()) return false;
  return x.requires_grad() || trained(norm1_) || trained(norm2_) ||
         (shape_.qk_norm && (trained(q_norm_) || trained(k_norm_))) || qkv_.trained() || proj_.trained() ||
         fc1_.trained() || fc2_.trained();
}

Tensor Block::forward_fused(const Tensor& x, const RopeTable& rope) const {
  const at::ScalarType type = proj_.type();
  // What is not needed any more is let go, for the peak of memory.
  auto first = cuda::add_norm({x, {}, {}, norm_of(&norm1_), type});
  if (!first) return {};
  Tensor y = proj_.forward_unscaled(attend(std::exchange(first->normed, {}), rope));
  auto middle = cuda::add_norm({x, y, proj_.scale(), norm_of(&norm2_), type});
  if (!middle) return {};
  y.reset();
  y = fc2_.forward_unscaled(hidden(std::exchange(middle->normed, {})));
  const auto last = cuda::add_norm({middle->sum, y, fc2_.scale(), {}, type});
  return last ? last->sum : Tensor();
}

Tensor Block::forward(const Tensor& x, const RopeTable& rope) const {
  if (cuda::serves(x.device()) && !needs_gradients(x))
    if (const Tensor y = forward_fused(x, rope); y.defined()) return y;
  if (can_add_norm(x, proj_.type()) && !needs_gradients(x)) {
    const Tensor y = proj_.forward_compute(attend(add_norm(x, {}, &norm1_).normed, rope));
    const SumAndNorm middle = add_norm(x, y, &norm2_);
    return add_norm(middle.sum, fc2_.forward_compute(hidden(middle.normed)), nullptr).sum;
  }
  const Tensor y = proj_.add_to(x, attend(norm1_(x), rope));
  return fc2_.add_to(y, hidden(norm2_(y)));
}

}  // namespace da3
