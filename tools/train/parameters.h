// SPDX-License-Identifier: MIT
//
// The parameters of a network that is being trained: where they come from, and how they become a checkpoint.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <vector>

#include "engine/network/weights.h"
#include "scene/rng.h"

namespace da3::train {

struct Parameter {
  std::string key;  // as in the checkpoint
  Tensor value;     // leaf that requires a gradient
};

// Draws every parameter that the network asks for, on `device`: the same for a seed whatever the order.
// Residual branches begin at zero, cameras at the identity, depth at 1.
class TrainableWeights : public WeightSource {
 public:
  TrainableWeights(uint64_t seed, at::Device device) : seed_(seed), device_(device) {}
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override;
  // Only stored: zeros.
  void declare(const std::string& key, const std::vector<int64_t>& shape) override;

  std::vector<Parameter>& parameters() { return parameters_; }
  const std::vector<KeyShape>& unused() const { return unused_; }

 private:
  uint64_t seed_;
  at::Device device_;
  std::vector<Parameter> parameters_;
  std::vector<KeyShape> unused_;
};

// The same values under gradients of its own, so that another thread can run the network at the same time.
class SharedWeights : public WeightSource {
 public:
  explicit SharedWeights(std::vector<Parameter>& values);
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override;
  void declare(const std::string&, const std::vector<int64_t>&) override {}
  // In the order of the values they share; undefined where the network never asked.
  std::vector<Tensor>& leaves() { return leaves_; }

 private:
  std::map<std::string, size_t> index_;
  std::vector<Parameter>& values_;
  std::vector<Tensor> leaves_;
};

// Writes model.safetensors in half precision, with the names of the published files (the shared LayerNorm of
// the ray branch once, under level 0). The file appears whole or not at all. Throws std::runtime_error.
void write_checkpoint(const std::string& path, const TrainableWeights& weights);

// Tensors by name, as they are: for resuming. Whole or not at all.
void write_tensors(const std::string& path, const std::map<std::string, Tensor>& tensors,
                   const std::map<std::string, std::string>& metadata);

}  // namespace da3::train
