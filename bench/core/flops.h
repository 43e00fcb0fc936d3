// SPDX-License-Identifier: MIT
//
// The floating-point operations that a pass through the network needs, counted from its configuration.
//
// A multiplication and an addition count as two. Counted are matrix products, convolutions and attention (q
// k^T and the weighted sum of v); not counted are biases, norms, activations, softmax, position tables,
// resizing and the ray solver: together under one percent. Convolutions count as direct ones, borders
// included. The 1x1 convolution of a fusion block counts before its resize, where it gives the same result
// for a quarter of the work; nothing counts whose result nobody asked for. No LibTorch.
#pragma once

#include <cstdint>

#include "engine/network/config.h"

namespace da3::bench {

struct PassShape {
  int64_t batch = 1, views = 1;
  int64_t height = 504, width = 504;  // multiples of 14
  bool pose = true;                   // by the camera decoder, where the model has one
  bool ray = false;                   // the ray branch
  bool known_cameras = false;         // the camera encoder
  bool gaussians = false;
};

// In operations, of all items and views.
struct OperationCount {
  double matrices = 0;   // of the backbone, patch embedding included
  double attention = 0;  // of the backbone
  double head = 0;       // depth, confidence or sky
  double ray = 0;
  double cameras = 0;  // encoder and decoder
  double gaussians = 0;
  double total() const { return matrices + attention + head + ray + cameras + gaussians; }
};

// Throws std::invalid_argument for sizes that are no positive multiples of 14.
OperationCount count_operations(const ModelConfig& config, const PassShape& shape);

}  // namespace da3::bench
