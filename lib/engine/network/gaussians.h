// SPDX-License-Identifier: MIT
//
// Raw channels of the Gaussian head -> 3D Gaussians in the world frame. Source: upstream model/gs_adapter.py.
#pragma once

#include <ATen/ATen.h>

#include "engine/network/config.h"
#include "engine/network/trace.h"

namespace da3 {

// n = S * H * W per item, in the order view, row, column; float32.
struct Gaussians {
  at::Tensor means;      // [B, n, 3]
  at::Tensor scales;     // [B, n, 3], linear
  at::Tensor rotations;  // [B, n, 4], in upstream's order (consumers read w, x, y, z)
  at::Tensor harmonics;  // [B, n, 3, 9]
  at::Tensor opacities;  // [B, n]
  bool defined() const { return means.defined(); }
};

// raw: [B, S, H, W, 37]; opacity, depth: [B, S, H, W]; predicted cameras: world-to-camera [B, S, 3, 4] and
// pixels. `given_extrinsics` ([B, S, 3 or 4, 4] or undefined): the cameras the network was conditioned on.
Gaussians make_gaussians(const GaussianConfig& config, const at::Tensor& raw, const at::Tensor& opacity,
                         const at::Tensor& depth, const at::Tensor& extrinsics, const at::Tensor& intrinsics,
                         const at::Tensor& given_extrinsics, const Tracer& trace);

}  // namespace da3
