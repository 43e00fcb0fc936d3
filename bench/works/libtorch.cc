// SPDX-License-Identifier: MIT
#include "works/libtorch.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <torch/version.h>

#include <sstream>
#include <stdexcept>

#include "engine/runtime/device.h"

namespace da3::bench {

std::vector<c10::IValue> call_operator(const std::string& name, std::vector<c10::IValue> arguments,
                                       const std::string& overload) {
  const auto found = c10::Dispatcher::singleton().findSchema({name, overload});
  if (!found) throw std::runtime_error("this LibTorch has no " + name);
  const auto& schema = found->schema().arguments();
  torch::jit::Stack stack(std::make_move_iterator(arguments.begin()),
                          std::make_move_iterator(arguments.end()));
  if (stack.size() > schema.size()) throw std::runtime_error("this LibTorch has another " + name);
  for (size_t i = stack.size(); i < schema.size(); ++i) {
    const auto& value = schema[i].default_value();
    if (!value && schema[i].type()->kind() != c10::TypeKind::OptionalType)
      throw std::runtime_error("this LibTorch has another " + name);
    stack.push_back(value ? *value : c10::IValue());
  }
  found->callBoxed(&stack);
  return {stack.begin(), stack.end()};
}

at::Tensor call_for_tensor(const std::string& name, std::vector<c10::IValue> arguments,
                           const std::string& overload) {
  return call_operator(name, std::move(arguments), overload).at(0).toTensor();
}

void synchronize(at::Device device) {
  if (device.is_cuda()) at::detail::getCUDAHooks().deviceSynchronize(device.index());
}

at::ScalarType scalar_of(const std::string& precision) {
  if (precision == "fp32" || precision == "tf32") return at::kFloat;
  if (precision == "bf16") return at::kBFloat16;
  if (precision == "fp16") return at::kHalf;
  throw std::invalid_argument("'" + precision + "' is no floating-point type of a tensor");
}

Row describe_libtorch(const std::string& device_name) {
  Row out;
  const at::Device device = select_device(device_name);
  out["device"] = device.str();
  out["libtorch"] = TORCH_VERSION;
  out["threads"] = at::get_num_threads();
  out["cpu_capability"] = describe_runtime();
  std::istringstream config(at::show_config());
  std::string line, libraries;
  while (std::getline(config, line)) {
    for (const char* name :
         {"Math Kernel Library", "MKL-DNN", "oneDNN", "OpenMP", "CUDA Runtime", "CuDNN", "MAGMA"}) {
      if (line.find(name) == std::string::npos) continue;
      const size_t begin = line.find_first_not_of(" -");
      libraries += (libraries.empty() ? "" : "; ") + line.substr(begin);
      break;
    }
    const size_t blas = line.find("BLAS_INFO=");
    if (blas != std::string::npos) out["blas"] = line.substr(blas + 10, line.find(',', blas) - blas - 10);
  }
  out["libraries"] = libraries;
  out["precision_auto"] = name_of(select_precision(DA3_PRECISION_AUTO, device));
  return out;
}

std::string first_line(const std::string& text) {
  constexpr size_t kMost = 200;  // it becomes a cell of a table
  const std::string line = text.substr(0, text.find('\n'));
  return line.size() <= kMost ? line : line.substr(0, kMost).append("...");
}

}  // namespace da3::bench
