// SPDX-License-Identifier: MIT
//
// A pre-norm transformer block with LayerScale, optionally with QK norm and 2-D RoPE.
// Source: upstream model/dinov2/layers/{block,attention,rope,swiglu_ffn,mlp}.py.
#pragma once

#include "engine/network/ops.h"

namespace da3 {

// cos and sin per token and channel, [tokens, head_width], or undefined for no rotation.
struct RopeTable {
  Tensor cos, sin;
  bool defined() const { return cos.defined(); }
};

// Table for integer positions (y, x) given as [tokens, 2] (y, x).
RopeTable make_rope_table(const Tensor& positions, int64_t head_width);

// Rotates [..., tokens, head_width]: pairs (k, k + w/4) within each half of the channels; the first half
// turns with y, the second with x.
Tensor apply_rope(const Tensor& x, const RopeTable& table);

// Queries or keys [batch, tokens, heads, w] as attention takes them, [batch, heads, tokens, w]: normalised
// over w (null: not) and rotated. In float32 or the type of x.
Tensor take_heads(const Tensor& x, const LayerNorm* norm, const RopeTable& rope);

struct BlockShape {
  int64_t width = 0;
  int64_t heads = 1;
  int64_t ffn_hidden = 0;
  bool swiglu = false;
  bool qk_norm = false;
  double norm_eps = 1e-6;
};

// Whether precision=int8 has the output projection of attention in 8 bits as well. Beside bfloat16 it has
// not: the rounding of this small layer makes a third of the error and saves one part in a hundred of the
// time (da3-small, 504x504: depth error 1.07 % with it, 0.91 % without). Beside float32 it would save more.
bool projection_in_8_bits(at::ScalarType beside);

class Block {
 public:
  Block(const Scope& scope, const BlockShape& shape);
  // x: [batch, tokens, width], float32. `rope` has `tokens` rows, or a divisor of it (repeated).
  Tensor forward(const Tensor& x, const RopeTable& rope) const;

 private:
  // forward() by the kernels of cuda/fused.h; undefined where they cannot do it.
  Tensor forward_fused(const Tensor& x, const RopeTable& rope) const;
  // Before the output projection.
  Tensor attend(const Tensor& x, const RopeTable& rope) const;
  // Before the second layer of the feed-forward part.
  Tensor hidden(const Tensor& x) const;
  bool needs_gradients(const Tensor& x) const;

  BlockShape shape_;
  Da3Attention attention_ = DA3_ATTENTION_AUTO;
  LayerNorm norm1_, norm2_, q_norm_, k_norm_;
  Linear qkv_, proj_, fc1_, fc2_;  // proj_ and fc2_ with LayerScale
};

}  // namespace da3
