// SPDX-License-Identifier: MIT
//
// What each step of a training run looks like: picture size, number of views, learning rate. A function of
// the step alone, so a resumed run goes on exactly as if it had not stopped.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/sample.h"

namespace da3::train {

struct Phase {
  int64_t steps = 0;
  int images = 0;     // pictures in a step: sets * views, about
  int long_side = 0;  // pixels, a multiple of 14
};

struct StepPlan {
  int views = 1, sets = 1, width = 0, height = 0;
  bool maps = true;            // train the heads; else the backbone and the cameras only
  bool ray = true;             // train the ray branch too
  bool known_cameras = false;  // give the cameras to the network (pose conditioning)
  double learning_rate = 0;
};

struct Schedule {
  std::vector<Phase> phases;
  double learning_rate = 2e-3;
  uint64_t seed = 1;
  int64_t distinct = 0;  // so many steps, again and again; 0: every step is new
  int views = 0;         // sets of so many views only; 0: 1 to 6

  int64_t steps() const;
  StepPlan plan(int64_t step) const;
  std::vector<SetDescription> sets(int64_t step) const;
};

// All that makes a run what it is, as options: "--phases 3000x32@126 --rate 0.002 --seed 1".
std::string describe(const Schedule& schedule);

// "STEPSxIMAGES@SIDE,...", for example "3000x32@126,3000x12@252". Throws std::invalid_argument.
std::vector<Phase> parse_phases(const std::string& text);

}  // namespace da3::train
