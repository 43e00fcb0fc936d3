// SPDX-License-Identifier: MIT
//
// Passes recorded as CUDA graphs.
#pragma once

#include "engine/runtime/recorded_passes.h"

namespace da3 {

// Records on the current stream, which must not be the device's default one; for the thread that makes it.
// Empty for other devices, and where the engine was built without CUDA's headers or with a LibTorch before
// 2.5. Threads record one at a time.
Recorder cuda_graph_recorder(at::Device device);

}  // namespace da3
