// SPDX-License-Identifier: MIT
//
// softmax(q k^T / sqrt(d)) v, by several back ends. All give the same up to rounding; which is fastest
// depends on the device and the shape, so it is measured (runtime/plan.h).
#pragma once

#include <ATen/ATen.h>

#include "engine/api/engine.h"

namespace da3 {

// Whether there is such a back end for the device, heads of this width and this type: its operator is
// registered with this LibTorch, or our own kernel is FUSED. Whether a device can run an operator shows when
// it is called.
bool has_attention(Da3Attention kind, at::Device device = at::kCPU, int64_t head_width = 64,
                   at::ScalarType type = at::kFloat);

// Whether FUSED is a kernel of our own there: on the CPU, with AVX-512 (bf16: its instructions for bf16), in
// fp32 and bf16, for heads of 64.
bool has_own_attention(at::Device device, int64_t head_width, at::ScalarType type);

// q, k, v: [batch, heads, tokens, d], equal types; the result in the same type. AUTO and FUSED are our own
// kernel where it runs (CPU with AVX-512, d = 64, no gradients), else LibTorch's; AUTO is PLAIN for training
// on the CPU, where LibTorch's backward pass is slower. Throws c10::Error when sizes do not agree or the back
// end cannot run on this device or type.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     Da3Attention kind = DA3_ATTENTION_AUTO);

}  // namespace da3
