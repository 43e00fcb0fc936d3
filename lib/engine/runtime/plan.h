// SPDX-License-Identifier: MIT
//
// From "auto" to what really runs: the policy of the device (policy.h), and short measurements on the model's
// own layer sizes where it leaves a choice.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>

#include "engine/network/config.h"
#include "engine/runtime/device.h"
#include "engine/runtime/policy.h"

namespace da3 {

struct Wish {
  Da3PerformanceMode mode = DA3_PERFORMANCE_BALANCED;
  Da3Precision precision = DA3_PRECISION_AUTO;
  Da3Attention attention = DA3_ATTENTION_AUTO;
};

struct Plan {
  Policy policy;
  Da3PerformanceMode mode = DA3_PERFORMANCE_BALANCED;
  Da3Precision precision = DA3_PRECISION_FP32;
  Da3Attention attention = DA3_ATTENTION_PLAIN;  // never AUTO
  std::string text;                              // one line: what was chosen, and why
};

// Asked now and then while something takes long: true ends it with EngineError(CANCELLED). May be empty.
using Cancelled = std::function<bool()>;
void throw_if(const Cancelled& cancelled);

// What the device offers this model: of its attention back ends those that run on all heads of the model in
// `type`.
DeviceTraits traits_of(at::Device device, const ModelConfig& config, at::ScalarType type = at::kFloat);

// Thread-safe. Measurements (one transformer block of the model at its process size, some passes each) are
// made once for each (`hash`, device, block size, mode, threads, attention asked for) in a process and
// remembered; one at a time. Whoever needs none, or one that is remembered, waits for nobody.
// Throws EngineError(UNSUPPORTED) for a wish that the device cannot fulfil with this model.
Plan make_plan(const ModelConfig& config, const std::string& hash, at::Device device, const Wish& wish,
               const Cancelled& cancelled = {});

}  // namespace da3
