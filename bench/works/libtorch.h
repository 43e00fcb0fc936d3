// SPDX-License-Identifier: MIT
//
// The little of LibTorch that works share.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

#include "core/report.h"

namespace da3::bench {

// Calls an operator by name through the dispatcher, so that it need not exist when this is compiled;
// arguments that are not given take the defaults of its schema. Throws std::runtime_error("this LibTorch has
// no NAME").
std::vector<c10::IValue> call_operator(const std::string& name, std::vector<c10::IValue> arguments,
                                       const std::string& overload = "");
at::Tensor call_for_tensor(const std::string& name, std::vector<c10::IValue> arguments,
                           const std::string& overload = "");

// Waits for the device; nothing on the CPU.
void synchronize(at::Device device);

// fp32, tf32 (float32 with TF32 allowed), bf16, fp16. Throws std::invalid_argument for others.
at::ScalarType scalar_of(const std::string& precision);

// LibTorch, threads, BLAS, devices and what "auto" means: asked in a child process.
Row describe_libtorch(const std::string& device);

// The sentence of a LibTorch error without its trace.
std::string first_line(const std::string& text);

}  // namespace da3::bench
