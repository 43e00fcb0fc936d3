// SPDX-License-Identifier: MIT
#include "geometry/pose_align.h"

#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

namespace da3::geometry {
namespace {

using Points = std::vector<Eigen::Vector3d>;

constexpr size_t kRansacViews = 10;  // from this many on
constexpr int kRansacRounds = 10;
constexpr size_t kSmallestFit = 3;
// Centres whose spread across a line is below this part of the spread along it are on the line to the
// rounding of float32 poses, and the turn about the line would be made of that rounding.
constexpr double kLineSpread = 1e-5;
// Centres whose spread is below this part of their distance from the origin are one place to the same
// rounding.
constexpr double kStillSpread = 1e-6;

Eigen::Vector3d mean(const Points& points) {
  Eigen::Vector3d sum = Eigen::Vector3d::Zero();
  for (const auto& p : points) sum += p;
  return sum / static_cast<double>(points.size());
}

double spread(const Points& points) {  // mean squared distance from the mean
  const Eigen::Vector3d middle = mean(points);
  double sum = 0;
  for (const auto& p : points) sum += (p - middle).squaredNorm();
  return sum / static_cast<double>(points.size());
}

bool still(const Points& points) {
  double sum = 0;
  for (const auto& p : points) sum += p.squaredNorm();
  return !(spread(points) > kStillSpread * kStillSpread * sum / static_cast<double>(points.size()));
}

bool on_a_line(const Points& points) {
  const Eigen::Vector3d middle = mean(points);
  Eigen::Matrix3d scatter = Eigen::Matrix3d::Zero();
  for (const auto& p : points) scatter += (p - middle) * (p - middle).transpose();
  const Eigen::Vector3d squares = Eigen::SelfAdjointEigenSolver<Eigen::Matrix3d>(scatter).eigenvalues();
  return !(squares[1] > kLineSpread * kLineSpread * squares[2]);
}

double median(std::vector<double> values) {
  const size_t half = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + half, values.end());
  const double upper = values[half];
  if (values.size() % 2 == 1) return upper;
  return (*std::max_element(values.begin(), values.begin() + half) + upper) / 2;
}

double nearest(const Eigen::Vector3d& point, const Points& others) {
  double best = std::numeric_limits<double>::infinity();
  for (const auto& other : others) best = std::min(best, (point - other).norm());
  return best;
}

std::optional<Sim3> umeyama_at(const std::vector<size_t>& indices, const Points& x, const Points& y) {
  Points from, to;
  for (const size_t i : indices) {
    from.push_back(x[i]);
    to.push_back(y[i]);
  }
  return umeyama(from, to);
}

struct Inliers {
  std::vector<size_t> indices;
  double mean_error = std::numeric_limits<double>::infinity();
  bool better_than(const Inliers& other) const {
    if (indices.size() != other.indices.size()) return indices.size() > other.indices.size();
    return mean_error < other.mean_error;
  }
};

Inliers inliers_of(const Sim3& model, const Points& x, const Points& y, double threshold) {
  Inliers found;
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double error = (model * x[i] - y[i]).norm();
    if (error > threshold) continue;
    found.indices.push_back(i);
    sum += error;
  }
  if (!found.indices.empty()) found.mean_error = sum / static_cast<double>(found.indices.size());
  return found;
}

// `all` is the fit of all points, the start and the last resort.
Sim3 ransac(const Points& x, const Points& y, const Sim3& all) {
  std::vector<double> distances;
  for (const auto& p : x) distances.push_back(nearest(all * p, y));
  const double threshold = median(std::move(distances));

  const size_t subset = std::max(kSmallestFit, (x.size() + 1) / 2);
  std::vector<size_t> deck(x.size());
  std::iota(deck.begin(), deck.end(), size_t{0});
  uint64_t state = 42;
  const auto next_below = [&](size_t range) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<size_t>((state >> 33) * range >> 31);
  };
  Sim3 best_model = all;
  Inliers best;
  for (int round = 0; round < kRansacRounds; ++round) {
    for (size_t i = 0; i < subset; ++i) std::swap(deck[i], deck[i + next_below(deck.size() - i)]);
    const auto model = umeyama_at({deck.begin(), deck.begin() + static_cast<std::ptrdiff_t>(subset)}, x, y);
    if (!model) continue;
    Inliers inliers = inliers_of(*model, x, y, threshold);
    if (!inliers.better_than(best)) continue;
    best = std::move(inliers);
    best_model = *model;
  }
  if (best.indices.size() < kSmallestFit) return best_model;
  return umeyama_at(best.indices, x, y).value_or(best_model);
}

// The rotation nearest to a sum of rotations.
Matrix3 nearest_rotation(const Matrix3& sum) {
  const Eigen::JacobiSVD<Eigen::Matrix3d> svd(Eigen::Matrix3d(sum),
                                              Eigen::ComputeFullU | Eigen::ComputeFullV);
  Eigen::Vector3d signs = Eigen::Vector3d::Ones();
  if (svd.matrixU().determinant() * svd.matrixV().determinant() < 0) signs[2] = -1;
  return svd.matrixU() * signs.asDiagonal() * svd.matrixV().transpose();
}

// Where centres do not fix the turn: it comes from the orientations, the scale from the ratio of the spreads.
Sim3 align_by_orientation(const std::vector<Matrix34>& estimate, const std::vector<Matrix34>& reference,
                          const Points& x, const Points& y) {
  Matrix3 sum = Matrix3::Zero();
  for (size_t i = 0; i < estimate.size(); ++i) {
    sum += reference[i].leftCols<3>().transpose() * estimate[i].leftCols<3>();
  }
  Sim3 sim;
  sim.rotation = nearest_rotation(sum);
  if (!still(x) && !still(y)) sim.scale = std::sqrt(spread(y) / spread(x));
  sim.translation = mean(y) - sim.scale * (sim.rotation * mean(x));
  return sim;
}

}  // namespace

std::optional<Sim3> umeyama(const Points& x, const Points& y, double rank_tolerance) {
  if (x.size() != y.size()) {
    throw std::invalid_argument("cannot align " + std::to_string(x.size()) + " points to " +
                                std::to_string(y.size()));
  }
  if (x.size() < kSmallestFit) return std::nullopt;
  const Eigen::Vector3d x_mean = mean(x), y_mean = mean(y);
  Eigen::Matrix3d covariance = Eigen::Matrix3d::Zero();
  for (size_t i = 0; i < x.size(); ++i) covariance += (y[i] - y_mean) * (x[i] - x_mean).transpose();
  covariance /= static_cast<double>(x.size());
  if (!covariance.allFinite()) return std::nullopt;

  const Eigen::JacobiSVD<Eigen::Matrix3d> svd(covariance, Eigen::ComputeFullU | Eigen::ComputeFullV);
  const Eigen::Vector3d d = svd.singularValues();
  if (!(d[1] > rank_tolerance * d[0])) return std::nullopt;
  Eigen::Vector3d signs = Eigen::Vector3d::Ones();
  if (svd.matrixU().determinant() * svd.matrixV().determinant() < 0) signs[2] = -1;
  Sim3 sim;
  sim.rotation = svd.matrixU() * signs.asDiagonal() * svd.matrixV().transpose();
  sim.scale = d.dot(signs) / spread(x);
  sim.translation = y_mean - sim.scale * (sim.rotation * x_mean);
  return sim;
}

Sim3 align_trajectories(const std::vector<Matrix34>& estimate, const std::vector<Matrix34>& reference) {
  if (estimate.size() != reference.size() || estimate.empty()) {
    throw std::invalid_argument("cannot align " + std::to_string(estimate.size()) + " poses to " +
                                std::to_string(reference.size()));
  }
  Points x, y;
  for (size_t i = 0; i < estimate.size(); ++i) {
    if (!estimate[i].allFinite() || !reference[i].allFinite()) {
      throw std::invalid_argument("cannot align poses: pose " + std::to_string(i) + " is not finite");
    }
    x.push_back(camera_centre(estimate[i]));
    y.push_back(camera_centre(reference[i]));
  }
  const bool centres_suffice = !still(x) && !still(y) && !on_a_line(x) && !on_a_line(y);
  const auto sim = centres_suffice ? umeyama(x, y) : std::nullopt;
  if (!sim) return align_by_orientation(estimate, reference, x, y);
  return x.size() < kRansacViews ? *sim : ransac(x, y, *sim);
}

Matrix34 transform_pose(const Sim3& sim, const Matrix34& world_to_camera) {
  Matrix34 moved;
  moved.leftCols<3>() = world_to_camera.leftCols<3>() * sim.rotation.transpose();
  moved.col(3) = -(moved.leftCols<3>() * (sim * camera_centre(world_to_camera)));
  return moved;
}

}  // namespace da3::geometry
