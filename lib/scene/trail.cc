// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "scene/scene.h"

namespace da3::scene {
namespace {

constexpr int kPerSegment = 24;  // samples of the table for one control point

}  // namespace

Trail::Trail(std::vector<Eigen::Vector3d> control) : control_(std::move(control)) {
  if (control_.size() < 4) throw std::invalid_argument("A trail needs at least 4 control points.");
  const int count = int(control_.size()) * kPerSegment;
  arc_.resize(count + 1);
  speed_.resize(count + 1);
  dots_.resize(count);
  const double step = 1.0 / kPerSegment;
  for (int i = 0; i <= count; ++i) {
    speed_[i] = derivative(i * step).norm();
    if (i < count) dots_[i] = spline(i * step);
  }
  arc_[0] = 0;
  // Simpson over each step.
  for (int i = 0; i < count; ++i) {
    const double mid = derivative((i + 0.5) * step).norm();
    arc_[i + 1] = arc_[i] + step / 6 * (speed_[i] + 4 * mid + speed_[i + 1]);
  }
  length_ = arc_.back();
  if (!(length_ > 1e-6))
    throw std::invalid_argument("The control points of a trail must not all be in one place.");
}

Eigen::Vector3d Trail::spline(double u) const {
  const int n = int(control_.size());
  const double whole = std::floor(u);
  const double t = u - whole;
  const int i = int(whole);
  const auto at = [&](int k) -> const Eigen::Vector3d& { return control_[((i + k) % n + n) % n]; };
  const double t2 = t * t, t3 = t2 * t, s = 1 - t;
  return (s * s * s * at(-1) + (3 * t3 - 6 * t2 + 4) * at(0) + (-3 * t3 + 3 * t2 + 3 * t + 1) * at(1) +
          t3 * at(2)) /
         6;
}

Eigen::Vector3d Trail::derivative(double u) const {
  const int n = int(control_.size());
  const double whole = std::floor(u);
  const double t = u - whole;
  const int i = int(whole);
  const auto at = [&](int k) -> const Eigen::Vector3d& { return control_[((i + k) % n + n) % n]; };
  const double s = 1 - t;
  return (-s * s * at(-1) + (3 * t * t - 4 * t) * at(0) + (-3 * t * t + 2 * t + 1) * at(1) + t * t * at(2)) /
         2;
}

double Trail::parameter(double s) const {
  s = std::fmod(s, length_);
  if (s < 0) s += length_;
  if (s >= length_) s = 0;
  const auto above = std::upper_bound(arc_.begin(), arc_.end(), s);
  const int i = std::clamp(int(above - arc_.begin()) - 1, 0, int(arc_.size()) - 2);
  const double h = arc_[i + 1] - arc_[i], step = 1.0 / kPerSegment;
  if (!(h > 0)) return i * step;
  // Cubic in s with the exact slopes du/ds = 1 / speed at both ends, so the motion has no kinks.
  const double t = (s - arc_[i]) / h;
  const double m0 = h / std::max(speed_[i], 1e-9), m1 = h / std::max(speed_[i + 1], 1e-9);
  const double t2 = t * t, t3 = t2 * t;
  return i * step + (t3 - 2 * t2 + t) * m0 + (-2 * t3 + 3 * t2) * step + (t3 - t2) * m1;
}

Eigen::Vector3d Trail::position(double s) const {
  return spline(parameter(s));
}
Eigen::Vector3d Trail::tangent(double s) const {
  return derivative(parameter(s)).normalized();
}

double Trail::distance(double x, double z) const {
  double best = 1e300;
  const size_t count = dots_.size();
  for (size_t i = 0; i < count; ++i) {
    const Eigen::Vector3d &a = dots_[i], &b = dots_[(i + 1) % count];
    const double dx = b.x() - a.x(), dz = b.z() - a.z();
    const double length2 = dx * dx + dz * dz;
    const double t =
        length2 > 0 ? std::clamp(((x - a.x()) * dx + (z - a.z()) * dz) / length2, 0.0, 1.0) : 0.0;
    best = std::min(best, std::hypot(a.x() + t * dx - x, a.z() + t * dz - z));
  }
  return best;
}

}  // namespace da3::scene
