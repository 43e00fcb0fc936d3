// SPDX-License-Identifier: MIT
#include "scene/path.h"

#include <Eigen/Geometry>
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include "scene/rng.h"
#include "scene/views.h"

namespace da3::scene {
namespace {

constexpr std::array<const char*, kPaths> kNames = {"static", "forward", "orbit", "handheld",
                                                    "loop",   "drive",   "walk"};
constexpr double kTurn = 2 * M_PI;

}  // namespace

const char* path_name(PathKind kind) {
  const int index = int(kind);
  if (index < 0 || index >= kPaths)
    throw std::invalid_argument("There is no camera path " + std::to_string(index) + "; they are 0 to " +
                                std::to_string(kPaths - 1) + ".");
  return kNames[size_t(index)];
}

PathKind path_from_name(const std::string& name) {
  std::string all;
  for (int i = 0; i < kPaths; ++i) {
    if (name == kNames[size_t(i)]) return PathKind(i);
    all += (i ? ", " : "") + std::string(kNames[size_t(i)]);
  }
  throw std::invalid_argument("There is no camera path \"" + name + "\"; the paths are " + all + ".");
}

CameraPath CameraPath::make(const Scene& scene, PathKind kind, uint64_t seed, double speed) {
  path_name(kind);  // refuses what is none
  if (!(speed >= 0.01 && speed <= 100))
    throw std::invalid_argument("The speed is " + std::to_string(speed) +
                                "; it must be between 0.01 and 100.");
  CameraPath path;
  path.kind_ = kind;
  path.where_ = scene.whereabouts();
  path.speed_ = speed;
  const Whereabouts& w = path.where_;
  Rng rng(seed * 16 + uint64_t(kind) + 77);
  for (double& phase : path.phase_) phase = rng.uniform(0, kTurn);
  path.start_ = rng.uniform(0, w.trail.length());
  // Looking at a point ahead rather than along the tangent takes corners as people do.
  path.ahead_ = std::clamp(w.trail.length() * 0.06, 0.6, 6.0);
  if (kind == PathKind::loop) path.period_ = w.trail.length() / (1.3 * w.walk_speed * speed);
  if (kind == PathKind::orbit) path.period_ = kTurn / (speed * std::min(w.walk_speed / w.orbit_radius, 0.5));
  if (kind == PathKind::still) {
    // The most open of a few views.
    double best = -1;
    for (int i = 0; i < 8; ++i) {
      const double start = rng.uniform(0, w.trail.length()), turn = rng.uniform(-0.6, 0.6);
      CameraPath candidate = path;
      candidate.start_ = start;
      candidate.turn_ = turn;
      const double open = view_openness(scene, candidate.pose(0));
      if (open > best) {
        best = open;
        path.start_ = start;
        path.turn_ = turn;
      }
    }
  }
  return path;
}

// Slow to fast swaying with fixed frequencies that are no multiples of each other, -1..1.
double CameraPath::wave(int which, double seconds) const {
  const double* p = &phase_[size_t(which * 2)];
  return 0.6 * std::sin(seconds * (1.0 + 0.17 * which) + p[0]) +
         0.4 * std::sin(seconds * (2.39 + 0.23 * which) + p[1]);
}

Camera CameraPath::along_trail(double s, double lift, double side, double yaw, double pitch,
                               double roll) const {
  const Eigen::Vector3d here = where_.trail.position(s);
  Eigen::Vector3d forward = where_.trail.position(s + ahead_) - here;
  forward.normalize();
  const Eigen::Vector3d right = forward.cross(Eigen::Vector3d::UnitY()).normalized();
  const Eigen::Vector3d eye = here + right * side + Eigen::Vector3d(0, lift, 0);
  forward = Eigen::AngleAxisd(yaw, Eigen::Vector3d::UnitY()) * forward;
  forward.y() = std::clamp(forward.y() + std::tan(pitch), -1.2, 1.2);
  Camera camera;
  look_along(camera, eye, forward, roll);
  return camera;
}

Camera CameraPath::pose(double seconds) const {
  if (!(seconds >= 0) || !std::isfinite(seconds))
    throw std::invalid_argument("A camera path has no pose at " + std::to_string(seconds) + " seconds.");
  const double t = seconds * speed_;
  switch (kind_) {
    case PathKind::still:
      return along_trail(start_, 0, 0, turn_, -0.06, 0);
    case PathKind::forward:
      return along_trail(start_ + where_.walk_speed * t, 0, 0, 0, -0.06, 0);
    case PathKind::orbit: {
      double turns = seconds / period_;
      turns -= std::floor(turns);
      const double a = kTurn * turns + phase_[0];
      const Eigen::Vector3d eye =
          where_.orbit_centre + where_.orbit_radius * Eigen::Vector3d(std::cos(a), 0, std::sin(a)) +
          Eigen::Vector3d(0, 0.1 * std::sin(2 * a + phase_[1]) * std::min(1.0, where_.eye - where_.low), 0);
      Camera camera;
      look_along(camera, eye, where_.orbit_target - eye);
      return camera;
    }
    case PathKind::handheld: {
      const double s = start_ + 0.3 * where_.walk_speed * t;
      const double reach = std::min(0.12, 0.3 * where_.radius);
      // Looking around, and the tremor of a hand on top.
      const double yaw = 0.5 * wave(0, 0.35 * t) + 0.010 * wave(1, 4.5 * t);
      const double pitch = -0.07 + 0.12 * wave(2, 0.4 * t) + 0.008 * wave(3, 5 * t);
      const double roll = 0.03 * wave(4, 0.6 * t) + 0.006 * wave(5, 5.5 * t);
      return along_trail(s, reach * wave(3, 0.7 * t) + 0.004 * wave(1, 6 * t), reach * wave(5, 0.8 * t), yaw,
                         pitch, roll);
    }
    case PathKind::loop: {
      double u = seconds / period_;
      u -= std::floor(u);
      const double a = kTurn * u;
      return along_trail(start_ + u * where_.trail.length(), 0.08 * std::sin(3 * a),
                         0.15 * where_.radius * std::sin(2 * a), 0.2 * std::sin(4 * a),
                         -0.06 + 0.05 * std::sin(5 * a), 0.015 * std::sin(3 * a));
    }
    case PathKind::drive: {
      const double s = start_ + where_.drive_speed * t;
      const double low = where_.low + 0.35 * (where_.eye - where_.low);
      return along_trail(s, low - where_.eye + 0.006 * wave(0, 7 * t), 0.1 * where_.radius * wave(1, 0.5 * t),
                         0.02 * wave(2, t), -0.03 + 0.006 * wave(3, 6 * t), 0.005 * wave(4, 3 * t));
    }
    case PathKind::walk: {
      const double s = start_ + where_.walk_speed * t, step = kTurn * 0.9 * t;
      return along_trail(s, 0.028 * std::sin(2 * step), std::min(0.025, 0.1 * where_.radius) * std::sin(step),
                         0.18 * wave(0, 0.5 * t) + 0.008 * std::sin(step),
                         -0.07 + 0.05 * wave(1, 0.6 * t) + 0.006 * std::sin(2 * step),
                         0.012 * std::sin(step));
    }
  }
  throw std::invalid_argument("There is no such camera path.");
}

}  // namespace da3::scene
