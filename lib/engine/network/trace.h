// SPDX-License-Identifier: MIT
//
// Intermediate results by name, for parity with recorded runs. Costs nothing when nobody listens.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <string>
#include <utility>

namespace da3 {

// `name` of the second call of a module ends in "#2", and so on.
using TraceFunction = std::function<void(const std::string& name, const at::Tensor& value)>;

class Tracer {
 public:
  Tracer() = default;
  explicit Tracer(TraceFunction function) : function_(std::move(function)) {}
  explicit operator bool() const { return bool(function_); }

  void operator()(const std::string& name, const at::Tensor& value) const {
    if (!function_) return;
    const int call = ++calls_[name];
    function_(call == 1 ? name : name + "#" + std::to_string(call), value);
  }
  // The same listener with a prefix before every name.
  Tracer prefixed(const std::string& prefix) const {
    if (!function_ || prefix.empty()) return *this;
    return Tracer([f = function_, prefix](const std::string& n, const at::Tensor& v) { f(prefix + n, v); });
  }

 private:
  TraceFunction function_;
  mutable std::map<std::string, int> calls_;
};

}  // namespace da3
