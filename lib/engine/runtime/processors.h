// SPDX-License-Identifier: MIT
//
// How many threads of arithmetic this process can use. No LibTorch.
#pragma once

#include <string>

namespace da3 {

// Cores that the affinity masks of the process's threads allow together (two hardware threads of one core
// share its units and count once), or the CPU time that the quotas of its control groups leave, rounded up to
// whole cores, whichever is less. At least 1. `root` is put in front of /proc and /sys, for tests.
unsigned usable_cores(const std::string& root = "");

}  // namespace da3
