// SPDX-License-Identifier: MIT
#include "engine/network/attention.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

namespace da3 {
namespace {

using at::Tensor;

// Explicit products; slices of query rows bound the size of the score matrix.
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

#if TORCH_VERSION_MAJOR >= 2

// The operators behind scaled_dot_product_attention, each by itself: its own switches between them are
// process-wide. Called through the boxed border because their signatures differ between releases.
const char* operator_of(Da3Attention kind) {
  switch (kind) {
    case DA3_ATTENTION_FLASH:
      return "aten::_scaled_dot_product_flash_attention";
    case DA3_ATTENTION_EFFICIENT:
      return "aten::_scaled_dot_product_efficient_attention";
    case DA3_ATTENTION_CUDNN:
      return "aten::_scaled_dot_product_cudnn_attention";
    default:
      return nullptr;
  }
}

std::optional<c10::OperatorHandle> find(Da3Attention kind) {
  const char* name = operator_of(kind);
  return name ? c10::Dispatcher::singleton().findSchema({name, ""}) : std::nullopt;
}

Tensor call(const c10::OperatorHandle& op, const Tensor& q, const Tensor& k, const Tensor& v) {
  torch::jit::Stack stack = {q, k, v};
  const auto& arguments = op.schema().arguments();
  for (size_t i = stack.size(); i < arguments.size(); ++i) {
    const c10::Argument& a = arguments[i];
    // Some releases give these no default: no bias, no statistics for a backward pass.
    if (a.default_value())
      stack.push_back(*a.default_value());
    else if (a.type()->kind() == c10::TypeKind::BoolType)
      stack.push_back(false);
    else
      stack.push_back(c10::IValue());
  }
  op.callBoxed(&stack);
  return stack.front().toTensor();
}

#endif

}  // namespace

bool has_attention(Da3Attention kind) {
  if (kind == DA3_ATTENTION_AUTO || kind == DA3_ATTENTION_PLAIN) return true;
#if TORCH_VERSION_MAJOR >= 2
  return kind == DA3_ATTENTION_FUSED || find(kind).has_value();
#else
  return false;
#endif
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, Da3Attention kind) {
#if TORCH_VERSION_MAJOR >= 2
  const bool training = q.requires_grad() && q.device().is_cpu();
  if (kind == DA3_ATTENTION_FUSED || (kind == DA3_ATTENTION_AUTO && !training))
    return at::scaled_dot_product_attention(q, k, v);
  if (const auto op = find(kind)) return call(*op, q, k, v);
#endif
  return plain_attention(q, k, v);
}

}  // namespace da3
