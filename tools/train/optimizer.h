// SPDX-License-Identifier: MIT
//
// Muon for matrices and AdamW for the rest. Muon (K. Jordan et al. 2024) makes the momentum of a matrix
// orthogonal by a Newton-Schulz iteration; scaled to the size of AdamW's steps (arXiv 2502.16982,
// section 2.2) both share one learning rate. On few samples it learns about twice as fast as AdamW alone.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "train/parameters.h"

namespace da3::train {

class Optimizer {
 public:
  struct Settings {
    double weight_decay = 0.02;
    double momentum = 0.95;                        // Muon
    double beta1 = 0.9, beta2 = 0.98, eps = 1e-8;  // AdamW
    double clip = 1.0;                             // norm of the whole gradient
  };
  Optimizer(std::vector<Parameter>& parameters, Settings settings);

  // One step along the gradients, which are then cleared; on `threads` threads. Parameters without a gradient
  // stay as they are. Returns the norm of the gradient; a norm that is not finite changes nothing.
  double step(double learning_rate, int threads);

  // Moments by name, for resuming.
  std::map<std::string, Tensor> state() const;
  // Throws std::runtime_error when something is missing or has another shape.
  void restore(const std::map<std::string, Tensor>& state);

 private:
  struct Slot {
    Parameter* parameter;
    bool matrix;  // Muon
    double rate;  // factor on the learning rate
    Tensor first, second;
    int64_t steps = 0;
  };
  void update(Slot& slot, double factor, double rate);
  void step_matrix(Slot& slot, const Tensor& gradient, double rate);
  void step_vector(Slot& slot, const Tensor& gradient, double rate);

  Settings settings_;
  std::vector<Slot> slots_;
};

}  // namespace da3::train
