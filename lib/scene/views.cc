// SPDX-License-Identifier: MIT
#include "scene/views.h"

#include <Eigen/Geometry>
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "scene/scene_data.h"

namespace da3::scene {
namespace {

constexpr int kProbe = 6;  // rays along each side of the picture
constexpr int kTries = 24;
constexpr double kSkyDistance = 50;
constexpr double kNose = 0.2;

// What a few rays of a camera see: points of the world, and how far they are (sky at kSkyDistance).
struct Probe {
  std::vector<Eigen::Vector3d> points;
  std::vector<double> distances;
  double sky = 0;  // share
  double median() const {
    std::vector<double> d = distances;
    std::nth_element(d.begin(), d.begin() + ptrdiff_t(d.size() / 2), d.end());
    return d[d.size() / 2];
  }
  double nearest() const { return *std::min_element(distances.begin(), distances.end()); }
};

Probe probe(const Scene& scene, const Camera& camera, double tan_x, double tan_y) {
  std::vector<Eigen::Vector3f> rays;
  for (int j = 0; j < kProbe; ++j) {
    for (int i = 0; i < kProbe; ++i) {
      const Eigen::Vector3d d(((i + 0.5) / kProbe * 2 - 1) * tan_x, ((j + 0.5) / kProbe * 2 - 1) * tan_y, 1);
      rays.push_back((camera.rotation.transpose() * d.normalized()).cast<float>());
    }
  }
  const Eigen::Vector3d eye = camera.centre();
  const std::vector<float> t = scene.cast(eye, rays);
  Probe out;
  for (size_t i = 0; i < t.size(); ++i) {
    const double distance = t[i] > 0 ? double(t[i]) : kSkyDistance;
    out.sky += t[i] > 0 ? 0 : 1.0 / double(t.size());
    out.distances.push_back(distance);
    out.points.push_back(eye + distance * rays[i].cast<double>());
  }
  return out;
}

Eigen::Vector3d free_place(const Scene& scene, Rng& rng, double s) {
  const Whereabouts& w = scene.whereabouts();
  for (int i = 0; i < kTries; ++i) {
    const double a = rng.uniform(0, 2 * M_PI), r = 0.8 * w.radius * std::sqrt(rng.uniform());
    Eigen::Vector3d p = w.trail.position(s);
    p += Eigen::Vector3d(r * std::cos(a), rng.uniform(w.low, w.high) - w.eye, r * std::sin(a));
    if (scene.clearance(p, 1) >= kNose) return p;
  }
  return w.trail.position(s);
}

Eigen::Vector3d direction(double yaw, double pitch) {
  return {std::cos(pitch) * std::sin(yaw), std::sin(pitch), std::cos(pitch) * std::cos(yaw)};
}

// Normal in each component, the vertical one scaled.
Eigen::Vector3d any_step(Rng& rng, double vertical) {
  const double z = rng.normal(), y = vertical * rng.normal(), x = rng.normal();
  return {x, y, z};
}

void check(const ViewRange& r) {
  if (!(r.fov_low >= 1 && r.fov_high <= 170 && r.fov_low <= r.fov_high))
    throw std::invalid_argument("The field of view must be a range within 1 to 170 degrees, not " +
                                std::to_string(r.fov_low) + " to " + std::to_string(r.fov_high) + ".");
}

double in_front(const Camera& c, const ViewRange& r, const std::vector<Eigen::Vector3d>& points) {
  int seen = 0;
  for (const Eigen::Vector3d& p : points) {
    const Eigen::Vector3d q = c.rotation * p + c.translation;
    if (q.z() <= 0.05) continue;
    const double u = c.fx * q.x() / q.z() + c.cx, v = c.fy * q.y() / q.z() + c.cy;
    if (u >= 0 && v >= 0 && u < r.width && v < r.height) ++seen;
  }
  return double(seen) / double(points.size());
}

}  // namespace

double view_openness(const Scene& scene, const Camera& camera) {
  if (scene.clearance(camera.centre(), 1) < kNose) return 0;
  return probe(scene, camera, 0.7, 0.5).median();
}

Camera random_view(const Scene& scene, Rng& rng, const ViewRange& range) {
  check(range);
  const Whereabouts& w = scene.whereabouts();
  Camera best;
  double best_score = -1;
  for (int i = 0; i < kTries; ++i) {
    Camera camera;
    set_intrinsics(camera, rng.uniform(range.fov_low, range.fov_high), range.width, range.height);
    const Eigen::Vector3d eye = free_place(scene, rng, rng.uniform(0, w.trail.length()));
    const double pitch = std::clamp(range.pitch * rng.normal() - 0.08, -0.7, 0.5);
    const double yaw = rng.uniform(0, 2 * M_PI), roll = range.roll * rng.normal();
    look_along(camera, eye, direction(yaw, pitch), roll);
    const Probe seen = probe(scene, camera, camera.cx / camera.fx, camera.cy / camera.fy);
    const double score =
        std::min(seen.median(), 2.0) + 2 * std::min(seen.nearest(), 0.5) - 2 * std::max(0.0, seen.sky - 0.5);
    if (score > best_score) {
      best_score = score;
      best = camera;
    }
    if (seen.median() > 0.9 && seen.nearest() > 0.25 && seen.sky < 0.6) return camera;
  }
  return best;
}

std::vector<Camera> random_views(const Scene& scene, Rng& rng, int count, const ViewRange& range,
                                 double overlap) {
  if (count < 1) throw std::invalid_argument("A set has at least 1 view, not " + std::to_string(count) + ".");
  const Whereabouts& w = scene.whereabouts();
  std::vector<Camera> views = {random_view(scene, rng, range)};
  const Camera first = views.front();
  const Probe seen = probe(scene, first, first.cx / first.fx, first.cy / first.fy);
  const Eigen::Vector3d eye = first.centre(), forward = first.rotation.row(2);
  const double depth = std::min(seen.median(), 15.0);
  while (int(views.size()) < count) {
    Camera view = first;
    double reach = depth * rng.uniform(0.06, 0.5);
    for (int i = 0; i < kTries; ++i, reach *= 0.85) {
      const Eigen::Vector3d step = any_step(rng, 0.35);
      Eigen::Vector3d to = eye + reach * step.normalized();
      const double ground = w.trail.position(0).y() - w.eye;
      if (scene.data().field.side == 0) to.y() = std::clamp(to.y(), ground + w.low, ground + w.high);
      // The way there must be free, or a wall may lie between the two.
      const Eigen::Vector3d way = to - eye;
      const float hit = scene.cast(eye, {way.normalized().cast<float>()})[0];
      if ((hit > 0 && hit < way.norm() + kNose) || scene.clearance(to, 1) < kNose) continue;
      const Eigen::Vector3d target = eye + forward * depth + 0.2 * depth * any_step(rng, 0.5);
      Eigen::Vector3d aim = (target - to).normalized();
      aim = (aim + 0.12 * any_step(rng, 0.5)).normalized();
      if (std::abs(aim.y()) > 0.85) continue;
      Camera candidate = first;
      look_along(candidate, to, aim, range.roll * rng.normal());
      if (in_front(candidate, range, seen.points) < overlap) continue;
      view = candidate;
      break;
    }
    views.push_back(view);
  }
  return views;
}

}  // namespace da3::scene
