// SPDX-License-Identifier: MIT
//
// The control groups of Linux that this process is in. No LibTorch.
#pragma once

#include <string>
#include <vector>

namespace da3 {

struct ControlGroup {
  std::string folder;
  int version = 2;  // which names its files have
};

// The groups of one controller ("memory", "cpu") whose limits hold for this process: its own and all those
// around it. Not all folders need exist. `root` is put in front of /proc and /sys, for tests.
std::vector<ControlGroup> control_groups(const std::string& controller, const std::string& root = "");

}  // namespace da3
