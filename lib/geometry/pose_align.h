// SPDX-License-Identifier: MIT
//
// Sim(3) alignment of camera trajectories (Umeyama 1991, as the evo package does it), and upstream's use of
// it (utils/pose_align.py, model/gs_adapter.py).
#pragma once

#include <optional>
#include <vector>

#include "geometry/rigid.h"

namespace da3::geometry {

struct Sim3 {
  Matrix3 rotation = Matrix3::Identity();
  Eigen::Vector3d translation = Eigen::Vector3d::Zero();
  double scale = 1;
  Eigen::Vector3d operator*(const Eigen::Vector3d& p) const { return scale * (rotation * p) + translation; }
};

// Least-squares y ~ s R x + t. Empty when the points are fewer than 3 or on a line (fewer than two singular
// values of the covariance exceed `rank_tolerance` times the largest; upstream/evo: the absolute 2.2e-16) or
// not finite. Throws std::invalid_argument if the counts differ.
std::optional<Sim3> umeyama(const std::vector<Eigen::Vector3d>& x, const std::vector<Eigen::Vector3d>& y,
                            double rank_tolerance = 1e-12);

// Aligns world-to-camera poses `estimate` to `reference` (same length, >= 1) on their camera centres. Ten
// views and more: fixed-seed RANSAC as upstream. One or two views, or centres on a line (to 1e-5 of its
// length): scale from the ratio of the baselines (1 if there is none, to 1e-6 of the distance from the
// origin), rotation from the averaged relative orientation; upstream fails there. Throws
// std::invalid_argument for lengths that differ or are 0 and for poses that are not finite.
Sim3 align_trajectories(const std::vector<Matrix34>& estimate, const std::vector<Matrix34>& reference);

// Poses moved by a Sim(3) of the world: rotation R_sim * R_c2w, centre sim * c.
Matrix34 transform_pose(const Sim3& sim, const Matrix34& world_to_camera);

}  // namespace da3::geometry
