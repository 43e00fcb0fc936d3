// SPDX-License-Identifier: MIT
//
// Linear read-outs of the backbone's tokens that exist during training only: from the features that the heads
// get, each patch says its depth (2 x 2 cells), its ray and its camera's centre. They cost next to nothing,
// reach every layer directly (deep supervision, Lee et al., arXiv 1409.5185) and let most steps leave out the
// convolutional heads, which are half of the work. No probe is in the checkpoint.
#pragma once

#include <array>
#include <vector>

#include "engine/network/network.h"
#include "train/losses.h"

namespace da3::train {

constexpr const char* kProbePrefix = "probe.";

class Probes {
 public:
  // `width`: channels of a feature (both halves where they are concatenated).
  Probes(WeightSource& source, int64_t width);

  // Listens to a forward pass; give it to Network::forward, then ask for the loss.
  Tracer tracer();
  // Weighted sum over the levels, with a gradient.
  Tensor loss(const Targets& targets);

 private:
  static constexpr int kLevels = 3;  // the last three of four: the first has seen one view only
  std::array<Tensor, kLevels> weight_, bias_, features_;
};

}  // namespace da3::train
