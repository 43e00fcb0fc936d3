// SPDX-License-Identifier: MIT
//
// Scores a network on rendered scenes that it was not trained on.
#pragma once

#include <string>
#include <vector>

#include "engine/network/network.h"
#include "score/summary.h"
#include "train/loader.h"

namespace da3::train {

struct Evaluation {
  score::Totals totals;
  // What standing still would give: the identity for every pose.
  double identity_rotation_deg = 0;
};

// `sets` sets of `views` views each, width x height; of the held-out family or of held-out seeds. `batch`
// sets go through the network together. The network must be on `device`.
Evaluation evaluate(const Network& network, at::Device device, bool held_out_family, int sets, int views,
                    int width, int height, int threads, int first = 0);

// One line: the main figures.
std::string describe(const Evaluation& evaluation, int views);

}  // namespace da3::train
