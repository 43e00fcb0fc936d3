// SPDX-License-Identifier: MIT
//
// Linear read-outs of the backbone's tokens that exist during training only: from the features that the heads
// get, each patch says its depth (2 x 2 cells), its ray and its camera's centre. They cost next to nothing,
// reach every layer directly (deep supervision, Lee et al., arXiv 1409.5185) and let most steps leave out the
// convolutional heads, which are half of the work. Descriptors of patches that show the same point in two
// views are drawn together (as the coarse matching of LoFTR, Sun et al., arXiv 2104.00680, section 3.3), so
// that attention between views finds something to compare. No probe is in the checkpoint.
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
  // The last descriptors' part in it, before its weight: log of the number of patches when they know nothing.
  double last_match() const { return last_match_; }

 private:
  static constexpr int kLevels = 3;    // the last three of four: the first has seen one view only
  static constexpr int kMatching = 2;  // the first two of them have descriptors
  Tensor match_loss(int level, const Targets& targets) const;
  std::array<Tensor, kLevels> weight_, bias_, features_;
  std::array<Tensor, kMatching> descriptor_;
  double last_match_ = 0;
};

}  // namespace da3::train
