// SPDX-License-Identifier: MIT
#include "engine/network/attention.h"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "engine/kernels/flash_attention.h"
#include "engine/kernels/qk_norm_rope.h"
#include "engine/network/balanced_for.h"

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

// Some back ends would spread what does not agree, ours would read beyond the end.
void check_sizes(const Tensor& q, const Tensor& k, const Tensor& v) {
  TORCH_CHECK(q.dim() == 4 && k.sizes() == v.sizes() && k.dim() == 4 && k.size(0) == q.size(0) &&
                  k.size(1) == q.size(1) && k.size(3) == q.size(3),
              "attention takes [batch, heads, tokens, d] of equal batch, heads and d, and as many keys as "
              "values, not queries ",
              q.sizes(), ", keys ", k.sizes(), ", values ", v.sizes());
}

// By a kernel of our own, on the CPU and without gradients; nothing where it cannot run. Sizes agree.
Tensor own_attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  const auto fits = [&](const Tensor& t) {
    return t.is_cpu() && t.dim() == 4 && t.size(3) == 64 && t.stride(3) == 1 && t.numel() > 0 &&
           t.scalar_type() == v.scalar_type() && !t.requires_grad();
  };
  if (!fits(q) || !fits(k) || !fits(v)) return {};
  const auto run = [&](auto type) {
    using T = decltype(type);
    using Kernel = kernels::FlashAttention<T>;
    if (!Kernel::available()) return Tensor();
    const int64_t batch = q.size(0), heads = q.size(1), rows = q.size(2);
    // Token by token, as the next layer reads it.
    const Tensor out = at::empty({batch, rows, heads, 64}, q.options()).transpose(1, 2);
    const auto rows_of = [](const Tensor& t) {
      return kernels::HeadRows<T>{static_cast<T*>(t.data_ptr()), t.stride(0), t.stride(1), t.stride(2)};
    };
    const auto read = [&](const Tensor& t) {
      const auto r = rows_of(t);
      return kernels::HeadRows<const T>{r.data, r.item, r.head, r.row};
    };
    Kernel kernel{read(q), read(k), read(v), rows_of(out), batch, heads, rows, k.size(2)};
    kernel.cut(at::get_num_threads());
    balanced_for(kernel.units(), 1, [&](int64_t begin, int64_t end) { kernel.run(begin, end); });
    return out;
  };
  if (v.scalar_type() == at::kFloat) return run(float());
  if (v.scalar_type() == at::kBFloat16) return run(uint16_t());
  return {};
}

}  // namespace

bool has_own_attention(at::Device device, int64_t head_width, at::ScalarType type) {
  if (!device.is_cpu() || head_width != kernels::kHeadWidth) return false;
  if (type == at::kFloat) return kernels::FlashAttention<float>::available();
  return type == at::kBFloat16 && kernels::FlashAttention<uint16_t>::available();
}

bool has_attention(Da3Attention kind, at::Device device, int64_t head_width, at::ScalarType type) {
  if (kind == DA3_ATTENTION_AUTO || kind == DA3_ATTENTION_PLAIN) return true;
  if (kind == DA3_ATTENTION_FUSED && has_own_attention(device, head_width, type)) return true;
#if TORCH_VERSION_MAJOR >= 2
  return kind == DA3_ATTENTION_FUSED || find(kind).has_value();
#else
  return false;
#endif
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, Da3Attention kind) {
  check_sizes(q, k, v);
  const bool by_itself = kind == DA3_ATTENTION_AUTO || kind == DA3_ATTENTION_FUSED;
  if (const Tensor out = by_itself ? own_attention(q, k, v) : Tensor(); out.defined()) return out;
#if TORCH_VERSION_MAJOR >= 2
  const bool training = q.requires_grad() && q.device().is_cpu();
  if (kind == DA3_ATTENTION_FUSED || (kind == DA3_ATTENTION_AUTO && !training))
    return at::scaled_dot_product_attention(q, k, v);
  if (const auto op = find(kind)) return call(*op, q, k, v);
#endif
  return plain_attention(q, k, v);
}

}  // namespace da3
