// SPDX-License-Identifier: MIT
//
// Parameters for layers by themselves.
#pragma once

#include <string>
#include <vector>

#include "engine/network/weights.h"

namespace da3::test {

// Answers every question for a key that ends the same with the same numbers, as parameters that are trained
// or not.
class RandomWeights : public WeightSource {
 public:
  explicit RandomWeights(bool trained = false) : trained_(trained) {}
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
    at::manual_seed(uint64_t(key.back()));
    return at::randn(shape).set_requires_grad(trained_);
  }
  void declare(const std::string&, const std::vector<int64_t>&) override {}

 private:
  bool trained_;
};

}  // namespace da3::test
