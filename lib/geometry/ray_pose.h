// SPDX-License-Identifier: MIT
//
// Camera pose and intrinsics from a ray map (upstream utils/ray_utils.py): weighted homography by RANSAC,
// then a QL split. Deterministic: a fixed-seed generator draws the samples unless a table is given.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "geometry/rigid.h"

namespace da3::geometry {

constexpr int kRaySamples = 100;   // hypotheses
constexpr int kRaySampleSize = 8;  // points per hypothesis

// Index table [100][8] into the pixels sorted by falling confidence; distinct within a row.
using RaySampleTable = std::vector<std::array<int32_t, kRaySampleSize>>;
// Fixed seed (SplitMix64), partial Fisher-Yates over [0, candidates). Empty for fewer than 8 candidates.
RaySampleTable make_ray_samples(int candidates, uint64_t seed = 0);

// One view.
struct RayView {
  const float* ray = nullptr;         // [height, width, 6]: direction xyz, origin xyz, world frame
  const float* confidence = nullptr;  // [height, width], >= 1
  int height = 0, width = 0;
};

struct RayPose {
  bool valid = false;  // false: no camera fits the usable rays; pose is identity, focal 1, principal point 1
  Matrix34 camera_to_world = Matrix34::Identity();
  double focal_x = 1, focal_y = 1;          // on the [0, 2] x [0, 2] image
  double principal_x = 1, principal_y = 1;  // on the [0, 2] x [0, 2] image
  // For tests: score of each hypothesis (sum of the confidence of its inliers), index of the best (-1: none
  // has an inlier), its refit on all inliers divided by the last entry (of norm 1 if that is 0), and the same
  // with the sign that makes its determinant positive, as it was split.
  std::vector<double> scores;
  int best = -1;
  Matrix3 homography = Matrix3::Identity();
  Matrix3 ql_input = Matrix3::Identity();
};

// Rays with |direction z| <= 1e-4, values that are not finite or no confidence count nowhere. `samples` may
// be shared by all views; empty = make_ray_samples() over the most confident 30 % of the view's rays, and
// never over more than the usable ones. Throws std::invalid_argument for missing data and for a sample index
// outside the view.
RayPose solve_ray_pose(const RayView& view, const RaySampleTable& samples = {});

// Pixels: fx = focal_x * W / 2, cx = principal_x * W / 2, and the same for y with H.
Matrix3 intrinsics_from_ray_pose(const RayPose& pose, int image_width, int image_height);

// A = Q * L, L lower triangular with positive diagonal. Exposed for tests.
void ql_decompose(const Matrix3& a, Matrix3* q, Matrix3* l);

}  // namespace da3::geometry
