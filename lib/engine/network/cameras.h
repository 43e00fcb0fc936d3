// SPDX-License-Identifier: MIT
//
// Camera encoder and decoder. Source: upstream model/{cam_enc,cam_dec}.py, model/utils/transform.py.
// The pose encoding has 9 numbers: translation xyz and quaternion xyzw of camera-to-world, vertical and
// horizontal field of view in radians.
#pragma once

#include <vector>

#include "engine/network/block.h"
#include "engine/network/trace.h"

namespace da3 {

// World-to-camera [B, S, 3 or 4, 4] and pixels [B, S, 3, 3] -> [B, S, 9], on the CPU.
Tensor encode_cameras(const Tensor& extrinsics, const Tensor& intrinsics, int64_t height, int64_t width);

// [B, S, 9] -> world-to-camera [B, S, 3, 4] and pixels [B, S, 3, 3], both float32 on the CPU.
struct Cameras {
  Tensor extrinsics, intrinsics;
};
Cameras decode_cameras(const Tensor& pose_encoding, int64_t height, int64_t width);

// Known cameras -> one token per view.
class CameraEncoder {
 public:
  CameraEncoder(const Scope& scope, int64_t width);
  // [B, S, 9] -> [B, S, C]
  Tensor forward(const Tensor& pose_encoding, const Tracer& trace) const;

 private:
  Linear fc1_, fc2_;
  LayerNorm token_norm_, trunk_norm_;
  std::vector<Block> trunk_;
};

// Camera token -> pose encoding.
class CameraDecoder {
 public:
  CameraDecoder(const Scope& scope, int64_t width);
  // [B, S, D] -> [B, S, 9]
  Tensor forward(const Tensor& token, const Tracer& trace) const;

 private:
  Linear backbone0_, backbone2_, translation_, quaternion_, fov_;
};

}  // namespace da3
