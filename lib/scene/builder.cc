// SPDX-License-Identifier: MIT
#include "scene/builder.h"

#include <algorithm>
#include <cmath>

#include "scene/bvh.h"

namespace da3::scene {
namespace {

void store(const Colour& colour, float* out) {
  out[0] = float(std::clamp(colour.r, 0.0, 1.0));
  out[1] = float(std::clamp(colour.g, 0.0, 1.0));
  out[2] = float(std::clamp(colour.b, 0.0, 1.0));
}

}  // namespace

Colour hsv(double hue, double saturation, double value) {
  const double h = (hue - std::floor(hue)) * 6;
  const auto channel = [&](double shift) {
    const double k = std::fmod(shift + h, 6.0);
    const double c = value - value * saturation * std::clamp(std::min(k, 4 - k), 0.0, 1.0);
    return std::pow(c, 2.2);
  };
  return {channel(5), channel(3), channel(1)};
}

Eigen::Matrix3d yaw_matrix(double yaw) {
  return Eigen::AngleAxisd(yaw, Eigen::Vector3d::UnitY()).toRotationMatrix();
}

std::vector<Vec3> rounded_rectangle(double half_x, double half_z, double corner, double y) {
  std::vector<Vec3> out;
  const int arc = 4;
  const double cx = half_x - corner, cz = half_z - corner;
  const double sign[4][2] = {{1, 1}, {-1, 1}, {-1, -1}, {1, -1}};
  for (int q = 0; q < 4; ++q) {
    for (int i = 0; i <= arc; ++i) {
      const double a = M_PI / 2 * (q + double(i) / arc);
      out.emplace_back(sign[q][0] * cx + corner * std::cos(a), y, sign[q][1] * cz + corner * std::sin(a));
    }
    // Along the straight side to the next corner.
    const int next = (q + 1) % 4;
    const double a = M_PI / 2 * (q + 1);
    const Vec3 to(sign[next][0] * cx + corner * std::cos(a), y, sign[next][1] * cz + corner * std::sin(a));
    const Vec3 from = out.back();
    const int pieces = std::max(1, int((to - from).norm() / std::max(corner, 0.5)));
    for (int i = 1; i < pieces; ++i) out.push_back(from + (to - from) * (double(i) / pieces));
  }
  return out;
}

std::vector<Vec3> wandering_ring(Rng& rng, double lo, double hi, double y, int points) {
  double phase[3], weight[3];
  double total = 0;
  for (int k = 0; k < 3; ++k) {
    phase[k] = rng.uniform(0, 2 * M_PI);
    weight[k] = rng.uniform(0.4, 1) / (k + 1);
    total += weight[k];
  }
  std::vector<Vec3> out;
  for (int i = 0; i < points; ++i) {
    const double a = 2 * M_PI * i / points;
    double wave = 0;
    for (int k = 0; k < 3; ++k) wave += weight[k] / total * std::sin((k + 2) * a + phase[k]);
    const double r = lo + (hi - lo) * (0.5 + 0.5 * wave);
    out.emplace_back(r * std::cos(a), y, r * std::sin(a));
  }
  return out;
}

Builder::Builder(Family family, uint64_t seed)
    : rng(seed * 64 + uint64_t(family) + 1), storage_(std::make_shared<Storage>()) {
  storage_->family = family;
  storage_->seed = seed;
}

// --- materials
// -----------------------------------------------------------------------------------------------

int Builder::material(Pattern pattern, Colour a, Colour b, Colour c, double scale, double amount) {
  Material m;
  m.pattern = pattern;
  store(a, m.a);
  store(b, m.b);
  store(c, m.c);
  m.scale = float(scale);
  m.amount = float(amount);
  m.seed = rng.bits() & 0xffff;
  storage_->materials.push_back(m);
  return int(storage_->materials.size()) - 1;
}

int Builder::plain(Colour colour, double amount) {
  return material(Pattern::noise, colour, colour * 0.7, colour, rng.uniform(0.25, 0.9), amount);
}
int Builder::lamp(Colour colour) {
  return material(Pattern::lamp, colour, colour, colour, 1, 0);
}

Colour Builder::any_colour(Range hue, Range saturation, Range value, double base) {
  const double v = rng.uniform(value), s = rng.uniform(saturation), h = rng.uniform(hue);
  return hsv(base + h, s, v);
}
Colour Builder::any_colour(double hue, Range saturation, Range value) {
  const double v = rng.uniform(value), s = rng.uniform(saturation);
  return hsv(hue, s, v);
}
Vec3 Builder::any_vector(Range x, Range y, Range z) {
  const double c = rng.uniform(z), b = rng.uniform(y), a = rng.uniform(x);
  return {a, b, c};
}
Vec3 Builder::any_vector(Range x, double y, Range z) {
  const double c = rng.uniform(z), a = rng.uniform(x);
  return {a, y, c};
}

int Builder::any_plaster(double value) {
  if (rng.chance(0.25)) {
    // Wallpaper.
    const double hue = rng.uniform(), strength = rng.uniform(0.1, 0.35);
    const double scale = rng.uniform(0.08, 0.25), shift = rng.uniform(-0.2, 0.2);
    return material(Pattern::weave, hsv(hue, strength, value), hsv(hue + 0.03, strength, value * 0.85),
                    hsv(hue + shift, strength * 1.6, value * 0.8), scale, 0.5);
  }
  const double bright = value * rng.uniform(0.85, 1.15), saturation = rng.uniform(0.03, 0.32),
               hue = rng.uniform();
  const Colour c = hsv(hue, saturation, bright);
  const double amount = rng.uniform(0.35, 0.7), scale = rng.uniform(0.6, 1.8);
  return material(Pattern::noise, c, c * 0.72, c, scale, amount);
}
int Builder::any_wood() {
  const double hue = rng.uniform(0.055, 0.11), value = rng.uniform(0.4, 0.8);
  const double amount = rng.uniform(0.6, 1), scale = rng.uniform(0.08, 0.19),
               saturation = rng.uniform(0.4, 0.65);
  return material(Pattern::planks, hsv(hue, saturation, value), hsv(hue - 0.015, 0.65, value * 0.62),
                  hsv(hue, 0.5, value * 0.25), scale, amount);
}
int Builder::any_fabric() {
  const double hue = rng.uniform();
  const double amount = rng.uniform(0.4, 0.9), scale = rng.uniform(0.03, 0.12);
  const Colour c = any_colour({0.3, 0.6}, {0.2, 0.6}, {0.4, 0.9}, hue);
  const Colour b = any_colour({-0.1, 0.1}, {0.2, 0.7}, {0.3, 0.75}, hue);
  const Colour a = any_colour(hue, {0.2, 0.7}, {0.35, 0.8});
  return material(Pattern::weave, a, b, c, scale, amount);
}
int Builder::any_stone() {
  const double hue = rng.uniform(0.04, 0.14), saturation = rng.uniform(0.05, 0.3),
               value = rng.uniform(0.5, 0.75);
  const double amount = rng.uniform(0.6, 1), scale = rng.uniform(0.5, 1.4), moss = rng.uniform(0.1, 0.5);
  return material(Pattern::rock, hsv(hue, saturation, value), hsv(hue, saturation, value * 0.55),
                  hsv(0.25, moss, value * 0.55), scale, amount);
}
int Builder::any_metal() {
  const Colour c = any_colour({0, 1}, {0.05, 0.6}, {0.45, 0.75});
  const double amount = rng.uniform(0.6, 1), scale = rng.uniform(0.08, 0.3);
  return material(Pattern::corrugated, c, hsv(0.05, 0.7, 0.4), c * 0.4, scale, amount);
}
int Builder::any_foliage() {
  const double hue = rng.uniform(0.2, 0.33);
  const double amount = rng.uniform(0.6, 1), scale = rng.uniform(0.1, 0.24);
  const Colour b = any_colour(hue - 0.03, {0.45, 0.75}, {0.55, 0.75});
  const Colour a = any_colour(hue + 0.03, {0.5, 0.8}, {0.3, 0.45});
  return material(Pattern::foliage, a, b, hsv(hue, 0.6, 0.3), scale, amount);
}
int Builder::any_brick() {
  const double hue = rng.uniform(0.0, 0.09), value = rng.uniform(0.5, 0.8);
  const double amount = rng.uniform(0.4, 0.9), scale = rng.uniform(0.07, 0.13),
               mortar = rng.uniform(0.5, 0.8), saturation = rng.uniform(0.35, 0.7);
  return material(Pattern::brick, hsv(hue, saturation, value), hsv(hue + 0.02, 0.5, value * 0.65),
                  hsv(0.1, 0.08, mortar), scale, amount);
}
int Builder::any_tiles() {
  const double hue = rng.uniform(), value = rng.uniform(0.55, 0.85);
  const Colour a = hsv(hue, rng.uniform(0.03, 0.3), value);
  Colour b = a * 0.9;
  if (rng.chance(0.45)) {
    const double saturation = rng.uniform(0.1, 0.4), shift = rng.uniform(-0.2, 0.2);
    b = hsv(hue + shift, saturation, value * 0.55);
  }
  const double amount = rng.uniform(0.4, 0.9), scale = rng.uniform(0.2, 0.6), grout = rng.uniform(0.25, 0.6);
  return material(Pattern::tiles, a, b, hsv(0.1, 0.05, grout), scale, amount);
}
int Builder::any_text() {
  const double hue = rng.uniform();
  const bool dark = rng.chance(0.35);
  const Colour paper = dark ? hsv(hue, 0.6, 0.35) : hsv(hue, rng.uniform(0.02, 0.2), 0.88);
  const Colour ink = dark ? hsv(hue, 0.05, 0.9) : hsv(hue, 0.3, 0.15);
  return material(Pattern::text, paper, ink, hsv(hue + 0.5, 0.7, 0.6), rng.uniform(0.05, 0.14), 0.4);
}
int Builder::any_picture() {
  const double hue = rng.uniform();
  const double scale = rng.uniform(0.3, 0.8);
  const Colour c = any_colour({0.5, 0.9}, {0.3, 0.8}, {0.3, 0.95}, hue);
  const Colour b = any_colour({0.1, 0.5}, {0.3, 0.8}, {0.5, 0.9}, hue);
  const Colour a = any_colour(hue, {0.4, 0.8}, {0.3, 0.8});
  return material(Pattern::picture, a, b, c, scale, 0.8);
}

// --- shapes
// --------------------------------------------------------------------------------------------------

Primitive& Builder::add(Shape shape, Vec3 centre, Vec3 half, const Eigen::Matrix3d& turn, int side, int top,
                        int bottom) {
  Primitive p{};
  p.shape = shape;
  for (int r = 0; r < 3; ++r) {
    const Vec3 row = turn.col(r) / half[r];
    for (int c = 0; c < 3; ++c) p.inverse[4 * r + c] = float(row[c]);
    p.inverse[4 * r + 3] = float(-row.dot(centre));
    p.half[r] = float(half[r]);
  }
  p.side = side;
  p.top = top;
  p.bottom = bottom;
  p.seed = rng.bits() & 0xffff;
  storage_->primitives.push_back(p);
  return storage_->primitives.back();
}

Primitive& Builder::box(Vec3 centre, Vec3 half, int side, int top, int bottom, double yaw) {
  return add(Shape::box, centre, half, yaw_matrix(yaw), side, top, bottom);
}
Primitive& Builder::box(Vec3 centre, Vec3 half, int material, double yaw) {
  return box(centre, half, material, material, material, yaw);
}
Primitive& Builder::turned_box(Vec3 centre, Vec3 half, int material, const Eigen::Matrix3d& turn) {
  return add(Shape::box, centre, half, turn, material, material, material);
}
Primitive& Builder::standing_box(Vec3 foot, Vec3 half, int material, double yaw) {
  return box(foot + Vec3(0, half.y(), 0), half, material, yaw);
}
Primitive& Builder::ellipsoid(Vec3 centre, Vec3 radii, int material, double yaw) {
  return add(Shape::ellipsoid, centre, radii, yaw_matrix(yaw), material, material, material);
}
Primitive& Builder::cylinder(Vec3 centre, double radius, double half_height, int side, int cap,
                             const Eigen::Matrix3d& turn) {
  return add(Shape::cylinder, centre, Vec3(radius, half_height, radius), turn, side, cap, cap);
}
Primitive& Builder::cone(Vec3 centre, double radius, double half_height, int material) {
  return add(Shape::cone, centre, Vec3(radius, half_height, radius), yaw_matrix(rng.uniform(0, 6)), material,
             material, material);
}

// --- height field
// --------------------------------------------------------------------------------------------

void Builder::height_field(double extent, int cells, const std::function<double(double, double)>& height,
                           const std::function<double(double, double)>& path, int material) {
  Storage& s = *storage_;
  const int side = cells + 1;
  const double cell = 2 * extent / cells;
  const size_t count = size_t(side) * side;
  s.height.resize(count);
  s.slope_x.resize(count);
  s.slope_z.resize(count);
  s.trodden.resize(count);
  for (int j = 0; j < side; ++j) {
    for (int i = 0; i < side; ++i) {
      const double x = -extent + i * cell, z = -extent + j * cell;
      s.height[size_t(j) * side + i] = float(height(x, z));
      s.trodden[size_t(j) * side + i] = float(path(x, z));
    }
  }
  const auto at = [&](int i, int j) {
    return double(s.height[size_t(std::clamp(j, 0, cells)) * side + std::clamp(i, 0, cells)]);
  };
  for (int j = 0; j < side; ++j) {
    for (int i = 0; i < side; ++i) {
      s.slope_x[size_t(j) * side + i] = float((at(i + 1, j) - at(i - 1, j)) / (2 * cell));
      s.slope_z[size_t(j) * side + i] = float((at(i, j + 1) - at(i, j - 1)) / (2 * cell));
    }
  }
  cells_.reserve(size_t(cells) * cells);
  for (int j = 0; j < cells; ++j) {
    for (int i = 0; i < cells; ++i) {
      Primitive p{};
      p.shape = Shape::cell;
      p.inverse[0] = float(-extent + i * cell);
      p.inverse[1] = float(-extent + j * cell);
      p.inverse[2] = float(1 / cell);
      p.inverse[3] = float(at(i, j));
      p.inverse[4] = float(at(i + 1, j));
      p.inverse[5] = float(at(i, j + 1));
      p.inverse[6] = float(at(i + 1, j + 1));
      p.side = p.top = p.bottom = material;
      cells_.push_back(p);
      const double rise_x =
          std::max(std::abs(at(i + 1, j) - at(i, j)), std::abs(at(i + 1, j + 1) - at(i, j + 1)));
      const double rise_z =
          std::max(std::abs(at(i, j + 1) - at(i, j)), std::abs(at(i + 1, j + 1) - at(i + 1, j)));
      s.steepest = std::max(s.steepest, std::hypot(rise_x, rise_z) / cell);
    }
  }
  HeightField& f = s.data.field;
  f.side = side;
  f.x0 = f.z0 = float(-extent);
  f.cell = float(cell);
}

double Builder::ground(double x, double z) const {
  const Storage& s = *storage_;
  const HeightField& f = s.data.field;
  if (f.side == 0) return 0;
  const double u = std::clamp((x - f.x0) / f.cell, 0.0, f.side - 1.001);
  const double w = std::clamp((z - f.z0) / f.cell, 0.0, f.side - 1.001);
  const int i = int(u), j = int(w);
  const auto at = [&](int a, int b) { return double(s.height[size_t(b) * f.side + a]); };
  const double tx = u - i, tz = w - j;
  return (at(i, j) * (1 - tx) + at(i + 1, j) * tx) * (1 - tz) +
         (at(i, j + 1) * (1 - tx) + at(i + 1, j + 1) * tx) * tz;
}

// --- light
// ---------------------------------------------------------------------------------------------------

void Builder::sun(double elevation_degrees, double azimuth_degrees, double strength, double warmth) {
  const double e = elevation_degrees * M_PI / 180, a = azimuth_degrees * M_PI / 180;
  Light& l = light();
  l.sun_direction[0] = float(std::cos(e) * std::cos(a));
  l.sun_direction[1] = float(std::sin(e));
  l.sun_direction[2] = float(std::cos(e) * std::sin(a));
  l.sun[0] = float(strength);
  l.sun[1] = float(strength * (1 - 0.18 * warmth));
  l.sun[2] = float(strength * (1 - 0.45 * warmth));
}

void Builder::any_sun(Range elevation_degrees, Range strength, Range warmth) {
  const double warm = rng.uniform(warmth), strong = rng.uniform(strength), azimuth = rng.uniform(0, 360),
               elevation = rng.uniform(elevation_degrees);
  sun(elevation, azimuth, strong, warm);
}

void Builder::sky(double cloud, double haze) {
  Light& l = light();
  const double tint = rng.uniform(-0.03, 0.03);
  store(any_colour(0.58 + tint, {0.45, 0.7}, {0.6, 0.85}), l.zenith);
  store(any_colour(0.57 + tint, {0.06, 0.25}, {0.85, 0.97}), l.horizon);
  l.cloud = float(cloud);
  l.haze = float(haze);
  l.cloud_seed = rng.bits() & 0xffff;
}

void Builder::ambient(Colour up, Colour down) {
  // Light may exceed 1.
  const double u[3] = {up.r, up.g, up.b}, d[3] = {down.r, down.g, down.b};
  for (int k = 0; k < 3; ++k) {
    light().ambient_up[k] = float(u[k]);
    light().ambient_down[k] = float(d[k]);
  }
}

void Builder::point_light(Vec3 position, Colour colour, double range) {
  storage_->points.push_back({{float(position.x()), float(position.y()), float(position.z())},
                              {float(colour.r), float(colour.g), float(colour.b)},
                              float(range)});
}

// --- free space
// ----------------------------------------------------------------------------------------------

void Builder::trail(std::vector<Vec3> control, double radius) {
  where().trail = Trail(std::move(control));
  where().radius = radius;
}

bool Builder::off_trail(double x, double z, double radius) const {
  const Whereabouts& w = storage_->where;
  // A margin for the cameras' own size.
  return w.trail.distance(x, z) > w.radius + radius + 0.3;
}

bool Builder::claim(double x, double z, double radius) {
  if (!off_trail(x, z, radius)) return false;
  for (const Disc& d : claimed_) {
    if (std::hypot(d.x - x, d.z - z) < d.radius + radius) return false;
  }
  claimed_.push_back({x, z, radius});
  return true;
}

Scene Builder::finish() {
  Storage& s = *storage_;
  SceneData& d = s.data;
  d.first_cell = int32_t(s.primitives.size());
  s.primitives.insert(s.primitives.end(), cells_.begin(), cells_.end());
  build_bvh(s.primitives, &s.nodes, &s.order);
  d.primitives = s.primitives.data();
  d.materials = s.materials.data();
  d.order = s.order.data();
  d.nodes = s.nodes.data();
  d.node_count = uint32_t(s.nodes.size());
  d.field.height = s.height.data();
  d.field.slope_x = s.slope_x.data();
  d.field.slope_z = s.slope_z.data();
  d.field.trodden = s.trodden.data();
  d.light.points = int(s.points.size());
  d.light.point = s.points.data();
  return Scene(std::move(storage_));
}

}  // namespace da3::scene
