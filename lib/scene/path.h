// SPDX-License-Identifier: MIT
//
// How a camera moves through a scene: a pose for any time, with continuous velocity (but for `still`, which
// has none), always within the free space of the scene.
#pragma once

#include <string>

#include "scene/scene.h"

namespace da3::scene {

enum class PathKind { still, forward, orbit, handheld, loop, drive, walk };
constexpr int kPaths = 7;
// "static", "forward", ...
const char* path_name(PathKind kind);
// Throws for a name that is none.
PathKind path_from_name(const std::string& name);

class CameraPath {
 public:
  // `speed` is a factor on the natural speed of the scene, 0.01..100. The seed says where the path begins and
  // how the hand shakes.
  static CameraPath make(const Scene& scene, PathKind kind, uint64_t seed, double speed = 1);

  // Rotation and translation at `seconds` >= 0 (no intrinsics). Thread-safe; any order.
  Camera pose(double seconds) const;
  // When the camera comes back to its first pose: exactly (the same bits) for loop and static, to rounding
  // for orbit; 0 if it never does.
  double period() const { return period_; }
  PathKind kind() const { return kind_; }

 private:
  CameraPath() = default;
  Camera along_trail(double s, double lift, double side, double yaw, double pitch, double roll) const;
  double wave(int which, double seconds) const;

  PathKind kind_ = PathKind::still;
  Whereabouts where_;
  double speed_ = 1, start_ = 0, period_ = 0, ahead_ = 1, turn_ = 0;
  double phase_[12] = {};
};

}  // namespace da3::scene
