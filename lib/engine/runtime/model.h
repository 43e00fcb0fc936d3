// SPDX-License-Identifier: MIT
//
// A model that is ready to run: configuration, weights, device, precision.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "engine/network/network.h"
#include "engine/runtime/plan.h"

namespace da3 {

struct Model {
  ModelConfig config;
  std::unique_ptr<Network> network;
  std::shared_ptr<const Checkpoint> checkpoint;  // keeps the mapped weights alive; null for synthetic ones
  at::Device device = at::kCPU;
  Da3Precision precision = DA3_PRECISION_FP32;
  Plan plan;
  std::string source, hash, licence;
  bool synthetic = false;
  uint64_t parameters = 0;
  Model() = default;
  ~Model();  // with it goes the memory that its passes kept
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
};

// What is known before weights are touched: enough to find a model that is already loaded.
struct ModelRequest {
  std::shared_ptr<const Checkpoint> checkpoint;  // null: synthetic
  ModelConfig config;
  uint64_t seed = 0;
  at::Device device = at::kCPU;
  Da3Precision precision = DA3_PRECISION_FP32;  // the plan's
  Plan plan;
  std::string source, hash;
  // Same weights, configuration, device, precision, attention and performance mode.
  std::string key() const;
};

using Notice = std::function<void(const std::string&)>;
using Progress = std::function<void(double)>;  // 0..1

// Opens headers and configuration, and decides what is left to choose; throws EngineError.
ModelRequest resolve_model(const std::string& model, const std::string& device, const Wish& wish,
                           const Cancelled& cancelled = {});
// Builds the network; throws EngineError. `notice` gets remarks that are no errors. `cancelled` is asked
// before each weight. All three may be empty.
std::shared_ptr<const Model> load_model(const ModelRequest& request, const Notice& notice,
                                        const Progress& progress = {}, const Cancelled& cancelled = {});

// Bytes of the parameters, by the type of most of them: float32 that a half-precision model keeps (norms,
// cameras) counts as half, and copies laid out for kernels do not count. Of int8 and fp8 the matrices of the
// backbone's blocks take a byte a weight (see projection_in_8_bits()), everything else what `beside` takes.
uint64_t weight_bytes_of(const ModelConfig& config, Da3Precision precision, Da3Precision beside);

}  // namespace da3
