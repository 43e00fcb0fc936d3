// SPDX-License-Identifier: MIT
#include "engine/network/ops.h"

#include <torch/version.h>

#include <algorithm>
#include <cmath>

namespace da3 {

#if TORCH_VERSION_MAJOR >= 2

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  return at::scaled_dot_product_attention(q, k, v);
}

#else

// LibTorch 1.x has no fused attention: slices of query rows bound the size of the score matrix.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  constexpr int64_t kMaxScores = int64_t(1) << 26;
  const int64_t rows = q.size(2);
  const int64_t per_row = q.size(0) * q.size(1) * k.size(2);
  const int64_t step = std::clamp<int64_t>(kMaxScores / std::max<int64_t>(per_row, 1), 1, rows);
  const Tensor scaled = q * (1.0 / std::sqrt(double(q.size(3))));
  const Tensor kt = k.transpose(-2, -1);
  if (step >= rows) return at::matmul(at::softmax(at::matmul(scaled, kt), -1), v);
  Tensor out = at::empty_like(q);
  for (int64_t start = 0; start < rows; start += step) {
    const int64_t n = std::min(step, rows - start);
    out.narrow(2, start, n).copy_(at::matmul(at::softmax(at::matmul(scaled.narrow(2, start, n), kt), -1), v));
  }
  return out;
}

#endif

}  // namespace da3
