// SPDX-License-Identifier: MIT
//
// First of all, as the pragma has to be there when Eigen is first included: GCC's optimiser loses track of
// the initialised part of Eigen's stack buffers.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <stdexcept>
#include <string>

#include "geometry/ray_pose.h"

namespace da3::geometry {
namespace {

constexpr float kSmallestDirectionZ = 1e-4F;
constexpr double kInlierError = 0.2;  // on the plane z = 1 of the world frame
constexpr size_t kSmallestInliers = 4;
constexpr size_t kRefitLimit = 8000;
constexpr double kRefitKeep = 0.95;
// Relative to the largest eigenvalue and to the largest entry of L: below these the fit is not unique or the
// camera is not a camera.
constexpr double kSmallestSecondEigenvalue = 1e-13;
constexpr double kSmallestDiagonal = 1e-9;

// Two doubles at a time fit the baseline registers of x86-64 and ARM64.
constexpr int kLanes = 2;
typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double))));
typedef double LoadedLanes __attribute__((vector_size(kLanes * sizeof(double)), aligned(8), may_alias));
typedef long long LaneMask __attribute__((vector_size(kLanes * sizeof(double))));

// Rays of one view as correspondences of two planes: (x, y) in the image that spans [-1, 1]^2, (u, v) in the
// world. Rows are padded to whole vectors with weight 0. A weight of 0 marks an unusable ray.
struct PlanePoints {
  int width, height, stride;
  std::vector<double> x, y;                          // [stride], [height]
  std::vector<double> u, v, weight;                  // [height, stride]
  Eigen::Vector3d origin = Eigen::Vector3d::Zero();  // weighted mean
  double weight_sum = 0;
  size_t usable = 0;
};

bool usable(const float* ray, float confidence) {
  for (int i = 0; i < 6; ++i) {
    if (!std::isfinite(ray[i])) return false;
  }
  return std::isfinite(confidence) && confidence > 0 && std::abs(ray[2]) > kSmallestDirectionZ;
}

PlanePoints plane_points(const RayView& view) {
  PlanePoints points;
  points.width = view.width;
  points.height = view.height;
  points.stride = (view.width + kLanes - 1) / kLanes * kLanes;
  const size_t padded = static_cast<size_t>(points.stride) * view.height;
  points.x.assign(points.stride, 0);
  points.y.assign(view.height, 0);
  for (int j = 0; j < view.width; ++j) points.x[j] = (2 * j + 1.0) / view.width - 1;
  for (int i = 0; i < view.height; ++i) points.y[i] = (2 * i + 1.0) / view.height - 1;
  points.u.assign(padded, 0);
  points.v.assign(padded, 0);
  points.weight.assign(padded, 0);
  for (int i = 0; i < view.height; ++i) {
    for (int j = 0; j < view.width; ++j) {
      const size_t pixel = static_cast<size_t>(i) * view.width + j;
      const float* ray = view.ray + pixel * 6;
      if (!usable(ray, view.confidence[pixel])) continue;
      const size_t at = static_cast<size_t>(i) * points.stride + j;
      const double weight = view.confidence[pixel];
      points.u[at] = static_cast<double>(ray[0]) / ray[2];
      points.v[at] = static_cast<double>(ray[1]) / ray[2];
      points.weight[at] = weight;
      points.origin += weight * Eigen::Vector3d(ray[3], ray[4], ray[5]);
      points.weight_sum += weight;
      ++points.usable;
    }
  }
  if (points.weight_sum > 0) points.origin /= points.weight_sum;
  return points;
}

struct Pixel {
  uint32_t row, column;
};

// Falling weight, rising pixel index among equals.
std::vector<Pixel> by_confidence(const RayView& view, const PlanePoints& points) {
  std::vector<uint64_t> keys;
  keys.reserve(static_cast<size_t>(view.width) * view.height);
  for (int i = 0; i < view.height; ++i) {
    for (int j = 0; j < view.width; ++j) {
      // Bit patterns of floats that are not negative sort like the floats.
      const float weight = static_cast<float>(points.weight[static_cast<size_t>(i) * points.stride + j]);
      keys.push_back(static_cast<uint64_t>(~std::bit_cast<uint32_t>(weight)) << 32 | keys.size());
    }
  }
  std::sort(keys.begin(), keys.end());
  std::vector<Pixel> order(keys.size());
  std::transform(keys.begin(), keys.end(), order.begin(), [&](uint64_t key) {
    const uint32_t pixel = static_cast<uint32_t>(key);
    return Pixel{pixel / view.width, pixel % view.width};
  });
  return order;
}

// Weighted direct linear transform (x, y) -> (u, v) through the normal matrix of its rows, which is made of
// four symmetric 3x3 blocks.
class HomographyFit {
 public:
  void add(const PlanePoints& points, Pixel pixel) {
    const size_t at = static_cast<size_t>(pixel.row) * points.stride + pixel.column;
    const double weight = points.weight[at];
    if (!(weight > 0)) return;
    const double u = points.u[at], v = points.v[at], x = points.x[pixel.column], y = points.y[pixel.row];
    const std::array<double, 6> products = {x * x, x * y, x, y * y, y, 1};
    const double square = u * u + v * v;
    for (int i = 0; i < 6; ++i) {
      const double p = weight * products[i];
      plain_[i] += p;
      by_u_[i] += p * u;
      by_v_[i] += p * v;
      by_square_[i] += p * square;
    }
  }

  // Of norm 1; false if the points do not fix it (to rounding) or overflow.
  bool solve(Matrix3* homography, bool demand_unique) const {
    Eigen::Matrix<double, 9, 9> normal = Eigen::Matrix<double, 9, 9>::Zero();
    normal.block<3, 3>(0, 0) = block(plain_);
    normal.block<3, 3>(3, 3) = block(plain_);
    normal.block<3, 3>(6, 0) = -block(by_u_);
    normal.block<3, 3>(6, 3) = -block(by_v_);
    normal.block<3, 3>(6, 6) = block(by_square_);
    if (!normal.allFinite()) return false;
    // Reads the lower triangle; eigenvalues rise.
    const Eigen::SelfAdjointEigenSolver<Eigen::Matrix<double, 9, 9>> solver(normal);
    if (solver.info() != Eigen::Success) return false;
    if (demand_unique && !(solver.eigenvalues()[1] > kSmallestSecondEigenvalue * solver.eigenvalues()[8])) {
      return false;
    }
    const Eigen::Matrix<double, 9, 1> h = solver.eigenvectors().col(0);
    *homography << h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8];
    return homography->allFinite();
  }

 private:
  static Eigen::Matrix3d block(const std::array<double, 6>& s) {
    Eigen::Matrix3d m;
    m << s[0], s[1], s[2], s[1], s[3], s[4], s[2], s[4], s[5];
    return m;
  }
  std::array<double, 6> plain_{}, by_u_{}, by_v_{}, by_square_{};
};

// |h p / (h p)_z - (u, v)| < limit, without the division: a point on the horizon of h is outside by itself.
bool is_inlier(const Matrix3& h, double x, double y, double u, double v) {
  const Eigen::Vector3d q = h * Eigen::Vector3d(x, y, 1);
  const double du = q[0] - u * q[2], dv = q[1] - v * q[2];
  return du * du + dv * dv < kInlierError * kInlierError * q[2] * q[2];
}

Lanes load(const double* from) {
  return *reinterpret_cast<const LoadedLanes*>(from);
}

// Sum of the weights of all inliers.
double score(const PlanePoints& points, const Matrix3& h) {
  Lanes sum = {};
  const double* xs = points.x.data();
  const Lanes h0 = Lanes{} + h(0, 0), h1 = Lanes{} + h(1, 0), h2 = Lanes{} + h(2, 0);
  for (int i = 0; i < points.height; ++i) {
    const double y = points.y[i];
    const Lanes row0 = Lanes{} + (h(0, 1) * y + h(0, 2)), row1 = Lanes{} + (h(1, 1) * y + h(1, 2)),
                row2 = Lanes{} + (h(2, 1) * y + h(2, 2));
    const size_t start = static_cast<size_t>(i) * points.stride;
    const double *us = points.u.data() + start, *vs = points.v.data() + start;
    const double* weights = points.weight.data() + start;
    for (int j = 0; j < points.stride; j += kLanes) {
      const Lanes x = load(xs + j), u = load(us + j), v = load(vs + j);
      const Lanes q2 = h2 * x + row2;
      const Lanes du = h0 * x + row0 - u * q2, dv = h1 * x + row1 - v * q2;
      const LaneMask inside = du * du + dv * dv < q2 * q2 * (kInlierError * kInlierError);
      sum += Lanes(LaneMask(load(weights + j)) & inside);
    }
  }
  double total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += sum[lane];
  return total;
}

// Inliers in order of confidence, thinned evenly where there are more than the limit.
std::vector<Pixel> refit_pixels(const PlanePoints& points, const std::vector<Pixel>& order,
                                const Matrix3& h) {
  std::vector<Pixel> inliers;
  for (const Pixel pixel : order) {
    const size_t at = static_cast<size_t>(pixel.row) * points.stride + pixel.column;
    if (!(points.weight[at] > 0)) break;
    if (is_inlier(h, points.x[pixel.column], points.y[pixel.row], points.u[at], points.v[at])) {
      inliers.push_back(pixel);
    }
  }
  if (inliers.size() > kRefitLimit) {
    const size_t keep = std::max(static_cast<size_t>(kRefitKeep * inliers.size()), kRefitLimit);
    for (size_t i = 0; i < kRefitLimit; ++i) inliers[i] = inliers[i * keep / kRefitLimit];
    inliers.resize(kRefitLimit);
  }
  return inliers;
}

// Fills scores, best and the best hypothesis (of norm 1).
bool pick_hypothesis(const PlanePoints& points, const std::vector<Pixel>& order,
                     const RaySampleTable& samples, RayPose* pose, Matrix3* best) {
  pose->scores.assign(samples.size(), 0);
  for (size_t i = 0; i < samples.size(); ++i) {
    HomographyFit fit;
    for (const int32_t index : samples[i]) {
      if (index < 0 || static_cast<size_t>(index) >= order.size()) {
        throw std::invalid_argument("ray sample index " + std::to_string(index) + " is outside the " +
                                    std::to_string(order.size()) + " rays of this view");
      }
      fit.add(points, order[index]);
    }
    Matrix3 h;
    if (!fit.solve(&h, false)) continue;
    pose->scores[i] = score(points, h);
    if (pose->scores[i] > (pose->best < 0 ? 0.0 : pose->scores[pose->best])) {
      pose->best = static_cast<int>(i);
      *best = h;
    }
  }
  return pose->best >= 0;
}

// Splits the fit into rotation and camera; false if it is not one.
bool split_camera(const Matrix3& fit, RayPose* pose) {
  Matrix3 q, l;
  ql_decompose(fit, &q, &l);
  const double smallest = kSmallestDiagonal * l.cwiseAbs().maxCoeff();
  if (!l.allFinite() || !(l.diagonal().minCoeff() > smallest)) return false;
  l /= l(2, 2);
  pose->camera_to_world.leftCols<3>() = q;
  pose->focal_x = 1 / l(0, 0);
  pose->focal_y = 1 / l(1, 1);
  pose->principal_x = l(2, 0) + 1;
  pose->principal_y = l(2, 1) + 1;
  return true;
}

}  // namespace

RaySampleTable make_ray_samples(int candidates, uint64_t seed) {
  if (candidates < kRaySampleSize) return {};
  uint64_t state = seed;
  const auto next_below = [&](uint64_t range) {
    uint64_t z = state += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    z ^= z >> 31;
    return static_cast<size_t>((z >> 32) * range >> 32);
  };
  std::vector<int32_t> deck(candidates);
  std::iota(deck.begin(), deck.end(), 0);
  RaySampleTable table(kRaySamples);
  for (auto& row : table) {
    for (int i = 0; i < kRaySampleSize; ++i) {
      std::swap(deck[i], deck[i + next_below(candidates - i)]);
      row[i] = deck[i];
    }
  }
  return table;
}

RayPose solve_ray_pose(const RayView& view, const RaySampleTable& samples) {
  if (view.ray == nullptr || view.confidence == nullptr || view.height <= 0 || view.width <= 0) {
    throw std::invalid_argument("ray map of " + std::to_string(view.width) + "x" +
                                std::to_string(view.height) + " without data");
  }
  RayPose pose;
  const PlanePoints points = plane_points(view);
  const std::vector<Pixel> order = by_confidence(view, points);

  RaySampleTable drawn;
  if (samples.empty()) {
    const size_t wanted = std::max<size_t>(kRaySampleSize, order.size() * 3 / 10);
    drawn = make_ray_samples(static_cast<int>(std::min(wanted, points.usable)));
  }
  Matrix3 fit;
  if (!pick_hypothesis(points, order, samples.empty() ? drawn : samples, &pose, &fit)) return pose;

  const std::vector<Pixel> inliers = refit_pixels(points, order, fit);
  if (inliers.size() < kSmallestInliers) return pose;
  HomographyFit refit;
  for (const Pixel pixel : inliers) refit.add(points, pixel);
  if (!refit.solve(&fit, true)) return pose;

  // The split does not see the scale, so it takes the matrix of norm 1, which exists even if the last entry
  // is 0.
  pose.homography = fit(2, 2) != 0 ? Matrix3(fit / fit(2, 2)) : fit;
  pose.ql_input = pose.homography.determinant() < 0 ? Matrix3(-pose.homography) : pose.homography;
  if (!split_camera(fit.determinant() < 0 ? Matrix3(-fit) : fit, &pose)) return pose;
  pose.camera_to_world.col(3) = points.origin;
  pose.valid = true;
  return pose;
}

Matrix3 intrinsics_from_ray_pose(const RayPose& pose, int image_width, int image_height) {
  Matrix3 k = Matrix3::Identity();
  k(0, 0) = pose.focal_x * image_width / 2;
  k(0, 2) = pose.principal_x * image_width / 2;
  k(1, 1) = pose.focal_y * image_height / 2;
  k(1, 2) = pose.principal_y * image_height / 2;
  return k;
}

void ql_decompose(const Matrix3& a, Matrix3* q, Matrix3* l) {
  // With the columns reversed this is a QR decomposition, whose R reversed both ways is lower triangular.
  const Eigen::HouseholderQR<Eigen::Matrix3d> qr(Eigen::Matrix3d(a.rowwise().reverse()));
  const Eigen::Matrix3d orthogonal = qr.householderQ();
  const Eigen::Matrix3d upper = qr.matrixQR().triangularView<Eigen::Upper>();
  *q = orthogonal.rowwise().reverse();
  *l = upper.reverse();
  for (int i = 0; i < 3; ++i) {
    if ((*l)(i, i) < 0) {
      l->row(i) *= -1;
      q->col(i) *= -1;
    }
  }
}

}  // namespace da3::geometry
