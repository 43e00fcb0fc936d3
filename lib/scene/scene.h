// SPDX-License-Identifier: MIT
//
// Made-up places whose depth, pose and intrinsics are known exactly. Scene::make() builds one from a family
// and a seed; path.h moves a camera through it, renderer.h takes pictures of it.
//
// Units: metres, radians unless a name says degrees, seconds.
// World: right-handed, y up, the ground near y = 0.
// Camera: OpenCV axes (x right, y down, z forward); poses are world-to-camera, x_camera = rotation * x_world
// + translation. Pixels: origin at the top left corner of the top left pixel, so its centre is (0.5, 0.5).
// Depth: z in the camera's frame, not the length of the ray. Where a ray meets nothing (sky) depth is 0.
// Scenes are immutable: any number of threads may read one at once. A copy shares the data.
// Bad arguments throw std::invalid_argument that says which and what is allowed.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace da3::scene {

struct SceneData;

enum class Family { room, corridor, street, terrain, objects, warehouse, forest, ruins };
constexpr int kFamilies = 8;
// "room", "corridor", ...
const char* family_name(Family family);
// Throws for a name that is none.
Family family_from_name(const std::string& name);

struct Camera {
  Eigen::Matrix3d rotation = Eigen::Matrix3d::Identity();  // world to camera
  Eigen::Vector3d translation = Eigen::Vector3d::Zero();
  double fx = 1, fy = 1, cx = 0, cy = 0;  // pixels
  Eigen::Vector3d centre() const { return -rotation.transpose() * translation; }
};

// Square pixels, principal point in the middle. `fov_degrees` is that of the longer side, 1..170.
void set_intrinsics(Camera& camera, double fov_degrees, int width, int height);
// The rotation and translation of a camera at `eye` that looks along `forward` with its x axis level, then
// turned by `roll` about its z axis (clockwise picture content for positive values). `forward` must not be
// vertical.
void look_along(Camera& camera, const Eigen::Vector3d& eye, const Eigen::Vector3d& forward, double roll = 0);

// A closed curve on which a camera may travel, twice continuously differentiable: a periodic cubic B-spline
// with its arc length.
class Trail {
 public:
  Trail() = default;
  // At least 4 control points.
  explicit Trail(std::vector<Eigen::Vector3d> control);
  double length() const { return length_; }
  // `s` in metres along the curve, any value; the curve has period length().
  Eigen::Vector3d position(double s) const;
  // Unit.
  Eigen::Vector3d tangent(double s) const;
  // Distance in the ground plane (x, z) from the curve.
  double distance(double x, double z) const;

 private:
  Eigen::Vector3d spline(double u) const;
  Eigen::Vector3d derivative(double u) const;
  double parameter(double s) const;
  std::vector<Eigen::Vector3d> control_;
  std::vector<double> arc_;            // length up to each of the evenly spaced parameters
  std::vector<double> speed_;          // |dC/du| there
  std::vector<Eigen::Vector3d> dots_;  // the curve there
  double length_ = 0;
};

// Where cameras can be. Everything nearer to the trail than `radius`, from `low` to `high` above its ground,
// is free of objects.
struct Whereabouts {
  Trail trail;        // at eye height
  double radius = 1;  // metres, in the ground plane
  double low = 0.4;   // lowest and highest height of a camera above the ground under the trail
  double high = 2;
  double eye = 1.6;         // height of the trail above its ground
  double walk_speed = 1.2;  // m/s
  double drive_speed = 3;   // m/s
  // A circle to look inwards from.
  Eigen::Vector3d orbit_centre = Eigen::Vector3d::Zero();
  Eigen::Vector3d orbit_target = Eigen::Vector3d::Zero();
  double orbit_radius = 1;
  // Exposure that suits the light, a factor on linear light.
  double exposure = 1;
};

class Scene {
 public:
  static Scene make(Family family, uint64_t seed);

  Family family() const;
  uint64_t seed() const;
  const Whereabouts& whereabouts() const;
  // A lower bound of the distance from `p` to the nearest surface; <= 0 inside an object. Never above
  // `limit`.
  double clearance(const Eigen::Vector3d& p, double limit = 10) const;
  // Distances along unit directions to the first surface; 0: none.
  std::vector<float> cast(const Eigen::Vector3d& origin,
                          const std::vector<Eigen::Vector3f>& directions) const;
  int primitive_count() const;
  // For the ray caster.
  const SceneData& data() const;

  struct Storage;
  explicit Scene(std::shared_ptr<const Storage> storage) : storage_(std::move(storage)) {}

 private:
  std::shared_ptr<const Storage> storage_;
};

}  // namespace da3::scene
