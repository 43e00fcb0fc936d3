// SPDX-License-Identifier: MIT
//
// The machine that figures belong to. No LibTorch.
#pragma once

#include <string>

#include "core/report.h"

namespace da3::bench {

// Processor, the vector extensions that matter here, cores, memory, load, system, GPU (as the driver names
// it), commit of the checkout. `root` is put in front of /proc, for tests.
Row describe_machine(const std::string& root = "");

// Lets the engine find the checkpoint that ships in the folder that this program was built from, unless
// DA3_MODEL_PATH says where models are.
void prefer_own_models();

// Forgets the peak of resident memory so far; false where the system cannot.
bool reset_peak_memory();
// Peak of resident memory of this process since then [MiB]; 0 where the system does not say. Pages of files
// that are mapped count.
double peak_memory_mb();
// Memory that programs can still get without others being swapped out [MiB]; 0 where the system does not say.
double available_memory_mb(const std::string& root = "");

}  // namespace da3::bench
