// SPDX-License-Identifier: MIT
//
// How long OpenMP's threads spin before they sleep. Its library reads that when it is loaded: for the product
// after engine_module.cc has bounded it, for this program, which is linked with LibTorch, before main().
#pragma once

#include <string>

namespace da3::bench {

// Starts this program anew with the product's bound, unless the user has said something. Returns when there
// is nothing to do, or when it cannot be done.
void bound_spinning(char** arguments);
// In a process that is about to become another program: that one is measured with its own defaults.
void forget_bound();
// What is in force, for the description of the machine.
std::string describe_spinning();

}  // namespace da3::bench
