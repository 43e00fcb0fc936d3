// SPDX-License-Identifier: MIT
#include "score/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <stdexcept>
#include <string>

#include "geometry/pose_align.h"
#include "score/histogram.h"

namespace da3::score {
namespace {

using geometry::Matrix3;
using geometry::Matrix34;
using Points = std::vector<Eigen::Vector3d>;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kDegrees = 180 / std::numbers::pi;
constexpr double kDelta1 = 1.25;
// Of an estimate, relative to its distance from its own origin: below is the rounding of float32 poses.
constexpr double kRounding = 1e-6;
// Singular values of the covariance: where both paths are straight to 1e-5 of their length the turn about
// them is made of rounding.
constexpr double kLine = 1e-10;

bool usable(float value) {
  return value > 0 && std::isfinite(value);
}

double lower_median(std::vector<float>& values) {
  const auto middle = values.begin() + ptrdiff_t((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double median_scale(const float* prediction, const float* truth, size_t count) {
  std::vector<float> predicted, true_values;
  predicted.reserve(count);
  true_values.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    if (!usable(truth[i]) || !usable(prediction[i])) continue;
    predicted.push_back(prediction[i]);
    true_values.push_back(truth[i]);
  }
  return predicted.empty() ? 1 : double(lower_median(true_values)) / lower_median(predicted);
}

// atan2 keeps its precision at 0 and 180 degrees, where acos loses half of it.
double angle_between(const Eigen::Vector3d& a, const Eigen::Vector3d& b) {
  return std::atan2(a.cross(b).norm(), a.dot(b)) * kDegrees;
}

double rotation_angle(const Matrix3& rotation) {
  const Eigen::Vector4d q = geometry::quaternion_from_rotation(rotation);
  return 2 * std::atan2(q.head<3>().norm(), std::abs(q[3])) * kDegrees;
}

void require_finite(const Matrix34& truth) {
  if (!truth.allFinite()) throw std::invalid_argument("a true camera pose is not finite");
}

void require_same(size_t estimates, size_t truths) {
  if (estimates == truths) return;
  throw std::invalid_argument("cannot score " + std::to_string(estimates) + " poses against " +
                              std::to_string(truths) + " true ones");
}

bool is_camera(const Lens& lens) {
  const Matrix3& k = lens.intrinsics;
  return k.allFinite() && std::isfinite(lens.width) && std::isfinite(lens.height) && k(0, 0) > 0 &&
         k(1, 1) > 0 && lens.width > 0 && lens.height > 0;
}

double angle_of_view(double focal, double centre, double size) {
  return std::atan2(centre, focal) + std::atan2(size - centre, focal);
}

Points centres(const std::vector<Matrix34>& poses) {
  Points points;
  points.reserve(poses.size());
  for (const auto& pose : poses) points.push_back(geometry::camera_centre(pose));
  return points;
}

double path_length(const Points& points) {
  double sum = 0;
  for (size_t i = 1; i < points.size(); ++i) sum += (points[i] - points[i - 1]).norm();
  return sum;
}

geometry::Sim3 align(const std::vector<Matrix34>& estimate, const std::vector<Matrix34>& truth,
                     const Points& from, const Points& to, bool moves) {
  if (moves) {
    if (const auto sim = geometry::umeyama(from, to, kLine)) return *sim;
  }
  return geometry::align_trajectories(estimate, truth);
}

}  // namespace

std::optional<DepthScore> score_depth(const float* prediction, const float* truth, size_t count,
                                      bool align_median) {
  if (count > 0 && (!prediction || !truth)) throw std::invalid_argument("no depth to score");
  DepthScore score{0, 0, 1, 0};
  if (align_median) score.scale = median_scale(prediction, truth, count);
  int64_t within = 0;
  for (size_t i = 0; i < count; ++i) {
    if (!usable(truth[i])) continue;
    ++score.pixels;
    if (!usable(prediction[i])) {
      score.abs_rel += 1;
      continue;
    }
    const double ratio = score.scale * prediction[i] / truth[i];
    score.abs_rel += std::abs(ratio - 1);
    within += ratio < kDelta1 && ratio * kDelta1 > 1;
  }
  if (score.pixels == 0) return std::nullopt;
  score.abs_rel /= double(score.pixels);
  score.delta1 = double(within) / double(score.pixels);
  return score;
}

double PairError::worst() const {
  return std::isnan(translation_deg) ? rotation_deg : std::max(rotation_deg, translation_deg);
}

PairError score_pair(const Matrix34& estimate_i, const Matrix34& estimate_j, const Matrix34& truth_i,
                     const Matrix34& truth_j) {
  require_finite(truth_i);
  require_finite(truth_j);
  const Matrix34 truth = geometry::compose(truth_j, geometry::invert(truth_i));
  const bool moves = truth.col(3).norm() >= kStill;
  if (!estimate_i.allFinite() || !estimate_j.allFinite()) return {180, moves ? 180 : kNone};
  const Matrix34 estimate = geometry::compose(estimate_j, geometry::invert(estimate_i));
  const Matrix3 off = estimate.leftCols<3>() * truth.leftCols<3>().transpose();
  PairError error{rotation_angle(off), kNone};
  if (!moves) return error;
  const double reach = std::max(estimate_i.col(3).norm(), estimate_j.col(3).norm());
  const bool direction = estimate.col(3).norm() > kRounding * reach;
  error.translation_deg = direction ? angle_between(estimate.col(3), truth.col(3)) : 90;
  return error;
}

std::vector<PairError> score_pairs(const std::vector<Matrix34>& estimate_w2c,
                                   const std::vector<Matrix34>& truth_w2c) {
  require_same(estimate_w2c.size(), truth_w2c.size());
  std::vector<PairError> errors;
  for (size_t i = 0; i < truth_w2c.size(); ++i) {
    for (size_t j = i + 1; j < truth_w2c.size(); ++j) {
      errors.push_back(score_pair(estimate_w2c[i], estimate_w2c[j], truth_w2c[i], truth_w2c[j]));
    }
  }
  return errors;
}

double auc(const std::vector<PairError>& errors, double threshold_deg) {
  if (!(threshold_deg >= 1 && threshold_deg <= 180 && threshold_deg == std::floor(threshold_deg))) {
    throw std::invalid_argument("a threshold of " + std::to_string(threshold_deg) +
                                " degrees is not a whole number in 1..180");
  }
  if (errors.empty()) return kNone;
  std::vector<int64_t> bins(size_t(threshold_deg), 0);
  for (const auto& error : errors) count_error(bins, error.worst());
  return area(bins, int64_t(errors.size()));
}

double fov_error(const Lens& estimate, const Lens& truth) {
  if (!is_camera(truth)) throw std::invalid_argument("the true intrinsics are those of no camera");
  if (!is_camera(estimate)) return 1;
  const auto error = [&](int axis, double estimate_size, double truth_size) {
    const Matrix3 &e = estimate.intrinsics, &t = truth.intrinsics;
    const double found = angle_of_view(e(axis, axis), e(axis, 2), estimate_size);
    const double wanted = angle_of_view(t(axis, axis), t(axis, 2), truth_size);
    return std::abs(found - wanted) / wanted;
  };
  return (error(0, estimate.width, truth.width) + error(1, estimate.height, truth.height)) / 2;
}

std::optional<TrajectoryScore> score_trajectory(const std::vector<Matrix34>& estimate_w2c,
                                                const std::vector<Matrix34>& truth_w2c) {
  require_same(estimate_w2c.size(), truth_w2c.size());
  if (truth_w2c.empty()) return std::nullopt;
  for (const auto& pose : truth_w2c) require_finite(pose);
  const Points to = centres(truth_w2c);
  TrajectoryScore score{0, kNone, path_length(to), int64_t(to.size())};
  const bool moves = score.path >= kStill;
  const auto finite = [](const Matrix34& pose) { return pose.allFinite(); };
  if (!std::all_of(estimate_w2c.begin(), estimate_w2c.end(), finite)) {
    score.ate = std::numeric_limits<double>::infinity();
  } else {
    const Points from = centres(estimate_w2c);
    const geometry::Sim3 sim = align(estimate_w2c, truth_w2c, from, to, moves);
    double squares = 0;
    for (size_t i = 0; i < to.size(); ++i) squares += (sim * from[i] - to[i]).squaredNorm();
    score.ate = std::sqrt(squares / double(to.size()));
  }
  if (moves) score.relative = score.ate / score.path;
  return score;
}

}  // namespace da3::score
