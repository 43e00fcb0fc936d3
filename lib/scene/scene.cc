// SPDX-License-Identifier: MIT
#include "scene/scene.h"

#include <Eigen/Geometry>
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include "scene/builder.h"
#include "scene/kernel.h"

namespace da3::scene {
namespace {

constexpr std::array<const char*, kFamilies> kNames = {"room",    "corridor",  "street", "terrain",
                                                       "objects", "warehouse", "forest", "ruins"};

// Lower bound of the distance to one primitive.
double distance_to(const Primitive& p, const Eigen::Vector3d& world) {
  double q[3];
  for (int r = 0; r < 3; ++r) {
    q[r] = p.inverse[4 * r] * world.x() + p.inverse[4 * r + 1] * world.y() +
           p.inverse[4 * r + 2] * world.z() + p.inverse[4 * r + 3];
  }
  const double hx = p.half[0], hy = p.half[1], hz = p.half[2];
  if (p.shape == Shape::ellipsoid) {
    const double r = std::sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]);
    return (r - 1) * std::min({hx, hy, hz});
  }
  if (p.shape == Shape::box) {
    const double x = (std::abs(q[0]) - 1) * hx, y = (std::abs(q[1]) - 1) * hy, z = (std::abs(q[2]) - 1) * hz;
    const double inside = std::max({x, y, z});
    if (inside <= 0) return inside;
    return std::sqrt(std::pow(std::max(x, 0.0), 2) + std::pow(std::max(y, 0.0), 2) +
                     std::pow(std::max(z, 0.0), 2));
  }
  // A cone stays within its cylinder.
  const double side = (std::hypot(q[0], q[2]) - 1) * std::min(hx, hz);
  const double y = (std::abs(q[1]) - 1) * hy;
  if (side <= 0 || y <= 0) return std::max(side, y);
  return std::hypot(side, y);
}

double distance_to(const Node& n, const Eigen::Vector3d& p) {
  double sum = 0;
  for (int k = 0; k < 3; ++k) {
    const double d = std::max({double(n.lo[k]) - p[k], p[k] - double(n.hi[k]), 0.0});
    sum += d * d;
  }
  return std::sqrt(sum);
}

double field_clearance(const Scene::Storage& s, const Eigen::Vector3d& p) {
  const HeightField& f = s.data.field;
  const double extent = f.cell * (f.side - 1);
  const double x = std::clamp((p.x() - f.x0) / f.cell, 0.0, f.side - 1.001);
  const double z = std::clamp((p.z() - f.z0) / f.cell, 0.0, f.side - 1.001);
  if (p.x() < f.x0 || p.z() < f.z0 || p.x() > f.x0 + extent || p.z() > f.z0 + extent) return 0;
  const int i = int(x), j = int(z);
  const double u = x - i, w = z - j;
  const float* h = f.height + j * f.side + i;
  // The same two triangles as the ray caster's.
  const double ground =
      u + w <= 1 ? h[0] + u * (h[1] - h[0]) + w * (h[f.side] - h[0])
                 : h[f.side + 1] + (1 - u) * (h[f.side] - h[f.side + 1]) + (1 - w) * (h[1] - h[f.side + 1]);
  return (p.y() - ground) / std::sqrt(1 + s.steepest * s.steepest);
}

}  // namespace

const char* family_name(Family family) {
  const int index = int(family);
  if (index < 0 || index >= kFamilies)
    throw std::invalid_argument("There is no scene family " + std::to_string(index) + "; they are 0 to " +
                                std::to_string(kFamilies - 1) + ".");
  return kNames[size_t(index)];
}

Family family_from_name(const std::string& name) {
  std::string all;
  for (int i = 0; i < kFamilies; ++i) {
    if (name == kNames[size_t(i)]) return Family(i);
    all += (i ? ", " : "") + std::string(kNames[size_t(i)]);
  }
  throw std::invalid_argument("There is no scene family \"" + name + "\"; the families are " + all + ".");
}

void set_intrinsics(Camera& camera, double fov_degrees, int width, int height) {
  if (!(fov_degrees >= 1 && fov_degrees <= 170))
    throw std::invalid_argument("The field of view is " + std::to_string(fov_degrees) +
                                " degrees; it must be between 1 and 170.");
  if (width < 1 || height < 1)
    throw std::invalid_argument("A picture of " + std::to_string(width) + "x" + std::to_string(height) +
                                " pixels has no intrinsics; both sides must be at least 1.");
  camera.fx = camera.fy = 0.5 * std::max(width, height) / std::tan(fov_degrees * M_PI / 360);
  camera.cx = 0.5 * width;
  camera.cy = 0.5 * height;
}

void look_along(Camera& camera, const Eigen::Vector3d& eye, const Eigen::Vector3d& forward, double roll) {
  const Eigen::Vector3d z = forward.normalized();
  Eigen::Vector3d x = z.cross(Eigen::Vector3d::UnitY());
  if (!(x.norm() > 1e-6)) throw std::invalid_argument("A camera cannot look straight up or down.");
  x.normalize();
  const Eigen::Vector3d y = z.cross(x);
  const double c = std::cos(roll), s = std::sin(roll);
  camera.rotation.row(0) = (c * x - s * y).transpose();
  camera.rotation.row(1) = (s * x + c * y).transpose();
  camera.rotation.row(2) = z.transpose();
  camera.translation = -camera.rotation * eye;
}

Scene Scene::make(Family family, uint64_t seed) {
  family_name(family);  // refuses what is none
  Builder b(family, seed);
  switch (family) {
    case Family::room:
      build_room(b);
      break;
    case Family::corridor:
      build_corridor(b);
      break;
    case Family::street:
      build_street(b);
      break;
    case Family::terrain:
      build_terrain(b);
      break;
    case Family::objects:
      build_objects(b);
      break;
    case Family::warehouse:
      build_warehouse(b);
      break;
    case Family::forest:
      build_forest(b);
      break;
    case Family::ruins:
      build_ruins(b);
      break;
  }
  return b.finish();
}

Family Scene::family() const {
  return storage_->family;
}
uint64_t Scene::seed() const {
  return storage_->seed;
}
const Whereabouts& Scene::whereabouts() const {
  return storage_->where;
}
int Scene::primitive_count() const {
  return int(storage_->primitives.size());
}
const SceneData& Scene::data() const {
  return storage_->data;
}

double Scene::clearance(const Eigen::Vector3d& p, double limit) const {
  const Storage& s = *storage_;
  double best = limit;
  if (s.data.field.side > 0) best = std::min(best, field_clearance(s, p));
  if (s.nodes.empty()) return best;
  uint32_t stack[64];
  int top = 0;
  stack[top++] = 0;
  while (top > 0) {
    const uint32_t at = stack[--top];
    const Node& node = s.nodes[at];
    const double bound = distance_to(node, p);
    // Inside a box the bound is 0 while the true distance may be negative.
    if (bound > 0 && bound >= best) continue;
    if (node.count == 0) {
      stack[top++] = node.first;
      stack[top++] = at + 1;
      continue;
    }
    for (uint32_t i = 0; i < node.count; ++i) {
      const Primitive& primitive = s.primitives[s.order[node.first + i]];
      if (primitive.shape != Shape::cell) best = std::min(best, distance_to(primitive, p));
    }
  }
  return best;
}

std::vector<float> Scene::cast(const Eigen::Vector3d& origin,
                               const std::vector<Eigen::Vector3f>& directions) const {
  std::vector<float> from, to, t(directions.size());
  from.reserve(3 * directions.size());
  to.reserve(3 * directions.size());
  for (const Eigen::Vector3f& d : directions) {
    for (int k = 0; k < 3; ++k) {
      from.push_back(float(origin[k]));
      to.push_back(d[k]);
    }
  }
  best_kernel().rays(storage_->data, int(directions.size()), from.data(), to.data(), t.data());
  return t;
}

}  // namespace da3::scene
