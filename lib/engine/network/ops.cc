// SPDX-License-Identifier: MIT
#include "engine/network/ops.h"

#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace da3 {

namespace {

// Plain products; slices of query rows bound the size of the score matrix. For LibTorch 1.x, which has no
// fused attention, and for training, where the fused one is slower on the CPU.
Tensor plain_attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  constexpr int64_t kMaxScores = int64_t(1) << 26;
  const int64_t rows = q.size(2);
  const int64_t per_row = q.size(0) * q.size(1) * k.size(2);
  const int64_t step = std::clamp<int64_t>(kMaxScores / std::max<int64_t>(per_row, 1), 1, rows);
  const Tensor scaled = q * (1.0 / std::sqrt(double(q.size(3))));
  const Tensor kt = k.transpose(-2, -1);
  if (step >= rows) return at::matmul(at::softmax(at::matmul(scaled, kt), -1), v);
  std::vector<Tensor> out;
  for (int64_t start = 0; start < rows; start += step) {
    const Tensor part = scaled.narrow(2, start, std::min(step, rows - start));
    out.push_back(at::matmul(at::softmax(at::matmul(part, kt), -1), v));
  }
  return at::cat(out, 2);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v) {
#if TORCH_VERSION_MAJOR >= 2
  const bool training = q.requires_grad() && q.device().is_cpu();
  if (!training) return at::scaled_dot_product_attention(q, k, v);
#endif
  return plain_attention(q, k, v);
}

}  // namespace da3
