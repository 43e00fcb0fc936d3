// SPDX-License-Identifier: MIT
//
// Puts a scene together: shapes, materials, light, and where the camera may go. Private to this room.
#pragma once

#include <Eigen/Geometry>
#include <functional>
#include <vector>

#include "scene/rng.h"
#include "scene/scene.h"
#include "scene/scene_data.h"

namespace da3::scene {

using Vec3 = Eigen::Vector3d;

struct Scene::Storage {
  Family family = Family::room;
  uint64_t seed = 0;
  std::vector<Primitive> primitives;
  std::vector<Material> materials;
  std::vector<uint32_t> order;
  std::vector<Node> nodes;
  std::vector<PointLight> points;
  std::vector<float> height, slope_x, slope_z, trodden;
  SceneData data;
  Whereabouts where;
  double steepest = 0;  // of the height field, |slope|
};

using Storage = Scene::Storage;

struct Colour {
  double r, g, b;
  Colour operator*(double k) const { return {r * k, g * k, b * k}; }
};
// Hue, saturation and value in 0..1, to linear red, green and blue.
Colour hsv(double hue, double saturation, double value);

class Builder {
 public:
  Builder(Family family, uint64_t seed);

  Rng rng;

  int material(Pattern pattern, Colour a, Colour b, Colour c, double scale, double amount);
  // A wall paint, wood, stone, fabric, ... drawn at random.
  int any_plaster(double value = 0.75);
  int any_wood();
  int any_fabric();
  int any_stone();
  int any_metal();
  int any_foliage();
  int any_brick();
  int any_tiles();
  int any_text();
  int any_picture();
  int plain(Colour colour, double amount = 0.2);
  int lamp(Colour colour);
  // The last component is drawn first, here and below. `base` is added to the hue.
  Colour any_colour(Range hue, Range saturation, Range value, double base = 0);
  Colour any_colour(double hue, Range saturation, Range value);
  Vec3 any_vector(Range x, Range y, Range z);
  Vec3 any_vector(Range x, double y, Range z);

  // Shapes; `centre` is the middle, `half` half the size, `yaw` turns about y (from z towards x).
  Primitive& box(Vec3 centre, Vec3 half, int material, double yaw = 0);
  Primitive& box(Vec3 centre, Vec3 half, int side, int top, int bottom, double yaw = 0);
  // Standing on height y: centre.y is the bottom.
  Primitive& standing_box(Vec3 foot, Vec3 half, int material, double yaw = 0);
  Primitive& ellipsoid(Vec3 centre, Vec3 radii, int material, double yaw = 0);
  // Axis along y unless `turn` says otherwise.
  Primitive& cylinder(Vec3 centre, double radius, double half_height, int side, int cap,
                      const Eigen::Matrix3d& turn = Eigen::Matrix3d::Identity());
  Primitive& cone(Vec3 centre, double radius, double half_height, int material);
  Primitive& turned_box(Vec3 centre, Vec3 half, int material, const Eigen::Matrix3d& turn);

  // Things of several parts, standing at `foot`.
  void broad_tree(Vec3 foot, double height);
  void conifer(Vec3 foot, double height);
  void bush(Vec3 foot, double size);
  void boulder(Vec3 foot, double size, int material);
  void table(Vec3 foot, double half_x, double half_z, double height, int material, double yaw);
  void chair(Vec3 foot, int material, double yaw);
  void bookshelf(Vec3 foot, double half_width, double height, double yaw);
  void cabinet(Vec3 foot, Vec3 half, double yaw);
  void sofa(Vec3 foot, double half_width, double yaw);
  void bed(Vec3 foot, double yaw);
  void potted_plant(Vec3 foot, double height);
  void floor_lamp(Vec3 foot);
  void barrel(Vec3 foot);
  void crate(Vec3 foot, double half, double yaw);
  void car(Vec3 foot, double yaw);
  void bench(Vec3 foot, double yaw, int material);
  void sign(Vec3 foot, double yaw, double height, double half_width);
  // On a wall: `normal_yaw` is where it faces.
  void picture_on_wall(Vec3 centre, double half_width, double half_height, double normal_yaw, int picture);

  // The height field over -extent..extent; height(x, z) in metres, path(x, z) 0..1.
  void height_field(double extent, int cells, const std::function<double(double, double)>& height,
                    const std::function<double(double, double)>& path, int material);
  double ground(double x, double z) const;

  // Light.
  void sun(double elevation_degrees, double azimuth_degrees, double strength, double warmth);
  void any_sun(Range elevation_degrees, Range strength, Range warmth);
  void sky(double cloud, double haze);
  void ambient(Colour up, Colour down);
  void point_light(Vec3 position, Colour colour, double range);

  void trail(std::vector<Vec3> control, double radius);
  // TRUE if a disc of this radius stands clear of the trail, and of what was accepted before; then it is
  // noted.
  bool claim(double x, double z, double radius);
  // The same without the other discs.
  bool off_trail(double x, double z, double radius) const;

  Whereabouts& where() { return storage_->where; }
  Light& light() { return storage_->data.light; }
  Scene finish();

 private:
  Primitive& add(Shape shape, Vec3 centre, Vec3 half, const Eigen::Matrix3d& turn, int side, int top,
                 int bottom);
  std::shared_ptr<Storage> storage_;
  std::vector<Primitive> cells_;
  struct Disc {
    double x, z, radius;
  };
  std::vector<Disc> claimed_;
};

Eigen::Matrix3d yaw_matrix(double yaw);

// One function a family.
void build_room(Builder& b);
void build_corridor(Builder& b);
void build_street(Builder& b);
void build_terrain(Builder& b);
void build_objects(Builder& b);
void build_warehouse(Builder& b);
void build_forest(Builder& b);
void build_ruins(Builder& b);

// A rounded rectangle around the origin with half sides and the radius of its corners, at height y.
std::vector<Vec3> rounded_rectangle(double half_x, double half_z, double corner, double y);
// A closed curve around the origin whose radius wanders between `lo` and `hi`.
std::vector<Vec3> wandering_ring(Rng& rng, double lo, double hi, double y, int points);

}  // namespace da3::scene
