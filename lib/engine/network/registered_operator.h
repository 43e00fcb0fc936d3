// SPDX-License-Identifier: MIT
//
// Operators that LibTorch registers for its compiler (namespace mkldnn), found through the dispatcher and
// called through its boxed border: their C++ signatures differ between releases, their schemas do not. For
// the files packed_*.cc only.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/version.h>

#if TORCH_VERSION_MAJOR >= 2

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

}  // namespace da3::registered

#endif
