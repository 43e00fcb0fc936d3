// SPDX-License-Identifier: MIT
//
// What the network is trained for, after the training objectives of Depth Anything 3 (arXiv 2511.10647, the
// paragraph "Training objectives" of the section "Training"): L = L_D + L_M + L_P + beta L_C + alpha L_grad, all
// truth divided by one scale per set, the mean distance of the visible points from the reference camera.
//   Losses::depth     L_D     error of the depth, weighed by its confidence, which pays for it by a logarithm
//   Losses::ray       L_M     ray map: directions and origins, with its own confidence
//   Losses::point     L_P     depth * direction + origin against the true point; relative to its distance
//   Losses::camera    L_C     pose encoding: translation, quaternion, angles of view
//   Losses::gradient  L_grad  differences between neighbouring pixels, at three scales
// Where we differ: confidences learn from their errors but do not weigh the errors' own gradients; depth is
// compared as a logarithm (the head's output before its exponential), so that near and far count alike and one
// set cannot outweigh the others; sky, which has no depth, is only pushed beyond the farthest point
// (Losses::sky). Losses::probe and Losses::match are ours (probes.h).
#pragma once

#include "engine/network/network.h"
#include "train/loader.h"

namespace da3::train {

// A batch on the network's device, world = camera of the first view of each set, unit = the set's scale.
struct Targets {
  Tensor image;      // [B, S, 3, H, W], normalised as for the network
  Tensor depth;      // [B, S, H, W], 0 where there is none
  Tensor log_depth;  // [B, S, H, W], 0 where there is none
  Tensor valid;      // [B, S, H, W], 1 or 0
  Tensor farthest;   // [B, 1, 1, 1], log of the largest depth of the set
  Tensor ray;        // [B, S, 8H/14, 8W/14, 6]: direction with z = 1 in its camera, origin
  Tensor pose;       // [B, S, 9], the pose encoding
  // [B, S, H/14 * W/14] long: the patch of the first view (for the first: of the second) that shows what this
  // patch has in its middle; -1 where it shows nothing of it, and for single views.
  Tensor match;
  // Normalised as the camera encoder wants them, for steps with known cameras.
  Tensor extrinsics;  // [B, S, 3, 4]
  Tensor intrinsics;  // [B, S, 3, 3]
};
Targets make_targets(const Batch& batch, at::Device device);

struct Losses {
  Tensor total;
  // For the log.
  double depth = 0, gradient = 0, ray = 0, point = 0, camera = 0, sky = 0, probe = 0, match = 0;
};
// `out` with its ray map or without; without depth only the cameras count.
Losses compute_losses(const NetworkOutput& out, const Targets& targets);

}  // namespace da3::train
