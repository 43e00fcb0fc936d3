// SPDX-License-Identifier: MIT
//
// Operators that LibTorch registers for its compiler (namespace mkldnn), found through the dispatcher and
// called through its boxed border: their C++ signatures differ between releases, their schemas do not. For
// packed_*.cc and fp8_layer.cc only.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/version.h>

#if TORCH_VERSION_MAJOR >= 2

#include <exception>
#include <utility>
#include <vector>

namespace da3::registered {

// Optional; of which kind depends on the release.
using Operator = decltype(c10::Dispatcher::singleton().findSchema(std::declval<const c10::OperatorName&>()));

inline Operator find(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchema({name, overload});
}

// Whether it is there and takes what we give: so many arguments, the first one of this name.
inline bool usable(const Operator& op, const char* first, size_t arguments) {
  return op && op->schema().arguments().size() == arguments &&
         op->schema().arguments().front().name() == first;
}

inline at::Tensor call(const c10::OperatorHandle& op, std::vector<c10::IValue> arguments) {
  torch::jit::Stack stack(std::move(arguments));
  op.callBoxed(&stack);
  return stack.back().toTensor();
}

inline c10::IValue optional_tensor(const at::Tensor& t) {
  return t.defined() ? c10::IValue(t) : c10::IValue();
}

inline c10::IValue no_scalars() {
  return c10::IValue(c10::impl::GenericList(c10::OptionalType::create(c10::NumberType::get())));
}

// Whether attempt(type) throws nothing: what cannot run here (no instructions for the type) shows when a
// layer does. Tried once a process for each kind of attempt and type; only float32 and bfloat16 can.
template <typename Attempt>
bool runs_in(at::ScalarType type, const Attempt& attempt) {
  const auto try_it = [&attempt](at::ScalarType t) {
    try {
      attempt(t);
      return true;
    } catch (const std::exception&) {  // of LibTorch or of oneDNN
      return false;
    }
  };
  if (type == at::kFloat) {
    static const bool in_float = try_it(at::kFloat);
    return in_float;
  }
  if (type == at::kBFloat16) {
    static const bool in_bfloat16 = try_it(at::kBFloat16);
    return in_bfloat16;
  }
  return false;
}

}  // namespace da3::registered

#endif
