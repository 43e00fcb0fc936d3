// SPDX-License-Identifier: MIT
//
// Made-up cameras and numbers for the tests of this room.
#pragma once

#include <cstdint>

#include "geometry/rigid.h"

namespace da3::geometry::test {

// Reproducible numbers in [-1, 1).
class Noise {
 public:
  explicit Noise(uint64_t seed) : state_(seed) {}
  double operator()() {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<double>(state_ >> 11) * 0x1p-52 - 1;
  }
  Eigen::Vector3d vector() {
    const double x = (*this)(), y = (*this)();
    return {x, y, (*this)()};
  }

 private:
  uint64_t state_;
};

inline Matrix3 turn(double angle, const Eigen::Vector3d& axis) {
  return Eigen::AngleAxisd(angle, axis.normalized()).toRotationMatrix();
}

inline Matrix3 some_rotation(Noise& noise) {
  return turn(3 * noise(), noise.vector());
}

inline Matrix34 make_pose(const Matrix3& rotation, const Eigen::Vector3d& translation) {
  Matrix34 pose;
  pose << rotation, translation;
  return pose;
}

// World-to-camera pose of a camera at `centre`.
inline Matrix34 looking_from(const Matrix3& world_to_camera, const Eigen::Vector3d& centre) {
  return make_pose(world_to_camera, -(world_to_camera * centre));
}

template <typename A, typename B>
double distance(const A& a, const B& b) {
  return (a - b).cwiseAbs().maxCoeff();
}

}  // namespace da3::geometry::test
