// SPDX-License-Identifier: MIT
//
// Families on open ground: terrain and forest.
#include <algorithm>
#include <cmath>

#include "scene/builder.h"
#include "scene/daylight.h"

namespace da3::scene {
namespace {

// Value noise of a few octaves for the shape of the ground, about -1..1.
class Hills {
 public:
  explicit Hills(Rng& rng) : seed_(rng.bits()) {}
  double operator()(double x, double z, double period, int octaves) const {
    double sum = 0, amplitude = 0.55;
    for (int i = 0; i < octaves; ++i) {
      sum += amplitude * one(x / period, z / period, seed_ + uint32_t(i) * 101);
      amplitude *= 0.47;
      period *= 0.49;
      const double turned = 0.8 * x - 0.6 * z;
      z = 0.6 * x + 0.8 * z;
      x = turned;
    }
    return sum;
  }

 private:
  static double corner(int x, int z, uint32_t seed) {
    uint32_t h = uint32_t(x) * 0x8da6b343u ^ uint32_t(z) * 0xd8163841u ^ seed * 0x9e3779b9u;
    h = (h ^ (h >> 15)) * 0x2c1b3c6du;
    h = (h ^ (h >> 12)) * 0x297a2d39u;
    return double((h ^ (h >> 15)) >> 8) / 8388608.0 - 1;
  }
  static double one(double x, double z, uint32_t seed) {
    const double fx = std::floor(x), fz = std::floor(z);
    double tx = x - fx, tz = z - fz;
    tx = tx * tx * tx * (tx * (tx * 6 - 15) + 10);
    tz = tz * tz * tz * (tz * (tz * 6 - 15) + 10);
    const int i = int(fx), j = int(fz);
    const double a = corner(i, j, seed), b = corner(i + 1, j, seed), c = corner(i, j + 1, seed),
                 d = corner(i + 1, j + 1, seed);
    return a + (b - a) * tx + (c - a) * tz + (a - b - c + d) * tx * tz;
  }
  uint32_t seed_;
};

double ramp(double lo, double hi, double x) {
  const double t = std::clamp((x - lo) / (hi - lo), 0.0, 1.0);
  return t * t * (3 - 2 * t);
}

// Height field with a trodden way along `ring` (control points whose y is replaced): the trail runs `eye`
// above it.
struct Way {
  std::vector<Vec3> dots;  // on the ground
  double distance(double x, double z, double* height) const {
    double best = 1e300;
    for (size_t i = 0; i < dots.size(); ++i) {
      const Vec3 &a = dots[i], &b = dots[(i + 1) % dots.size()];
      const double dx = b.x() - a.x(), dz = b.z() - a.z(), l2 = dx * dx + dz * dz;
      const double t = l2 > 0 ? std::clamp(((x - a.x()) * dx + (z - a.z()) * dz) / l2, 0.0, 1.0) : 0;
      const double ex = a.x() + t * dx - x, ez = a.z() + t * dz - z, d2 = ex * ex + ez * ez;
      if (d2 < best) {
        best = d2;
        *height = a.y() + t * (b.y() - a.y());
      }
    }
    return std::sqrt(best);
  }
};

void ground_with_way(Builder& b, std::vector<Vec3> ring, double radius, double extent, int cells,
                     double track, double shoulder, int material,
                     const std::function<double(double, double)>& land) {
  // A spline rarely goes through its control points, so the way follows the curve itself, smoothed along it.
  const Trail flat(ring);
  const int count = int(ring.size());
  std::vector<double> raw(static_cast<size_t>(count)), level(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) raw[size_t(i)] = land(ring[size_t(i)].x(), ring[size_t(i)].z());
  for (int i = 0; i < count; ++i) {
    double sum = 0;
    for (int k = -3; k <= 3; ++k) sum += (4 - std::abs(k)) * raw[size_t((i + k + count) % count)];
    level[size_t(i)] = sum / 16;
  }
  for (int i = 0; i < count; ++i) ring[size_t(i)].y() = level[size_t(i)];
  const Trail on_ground(ring);
  Way way;
  const int dots = 3 * count;
  for (int i = 0; i < dots; ++i) way.dots.push_back(on_ground.position(on_ground.length() * i / dots));
  const double eye = b.where().eye;
  for (Vec3& p : ring) p.y() += eye;
  b.trail(ring, radius);
  const auto nearest = [way](double x, double z, double* height) { return way.distance(x, z, height); };
  b.height_field(
      extent, cells,
      [&](double x, double z) {
        double height = 0;
        const double d = nearest(x, z, &height);
        const double k = ramp(radius + 0.8, radius + shoulder, d);
        return k >= 1 ? land(x, z) : height + (land(x, z) - height) * k;
      },
      [&](double x, double z) {
        double height = 0;
        return 1 - ramp(track * 0.5, track, nearest(x, z, &height));
      },
      material);
}

}  // namespace

void build_terrain(Builder& b) {
  Rng& rng = b.rng;
  Whereabouts& w = b.where();
  w.eye = 1.8;
  w.low = 0.9;
  w.high = 4;
  w.walk_speed = 1.6;
  w.drive_speed = 5;
  const Hills hills(rng);
  const double relief = rng.uniform(3, 7), rim = rng.uniform(14, 30), period = rng.uniform(28, 45);
  const double green = rng.uniform(0.16, 0.3), rock_hue = rng.uniform(0.03, 0.12);
  const Colour soil = b.any_colour(0.09, {0.3, 0.5}, {0.5, 0.68});
  const Colour rock = b.any_colour(rock_hue, {0.1, 0.35}, {0.5, 0.68});
  const Colour grass = b.any_colour(green, {0.4, 0.65}, {0.42, 0.6});
  const int land = b.material(Pattern::terrain, grass, rock, soil, 2.5, 0.5);
  const auto shape = [&](double x, double z) {
    const double r = std::hypot(x, z);
    return relief * hills(x, z, period, 5) + rim * ramp(48, 100, r) * (0.75 + 0.6 * hills(x + 500, z, 40, 4));
  };
  ground_with_way(b, wandering_ring(rng, 22, 42, 0, 40), 1.2, 105, 160, 1.1, 6, land, shape);
  w.orbit_radius = 1;
  w.orbit_centre = w.trail.position(0);
  w.orbit_target = w.trail.position(0) + 14 * w.trail.tangent(0) - Vec3(0, 0.7, 0);

  int stones[3];
  for (int& s : stones) s = b.any_stone();
  for (int i = 0; i < 130; ++i) {
    const double a = rng.uniform(0, 2 * M_PI), r = std::sqrt(rng.uniform(0.01, 1)) * 62,
                 size = rng.uniform(0.25, 1.6);
    const double x = r * std::cos(a), z = r * std::sin(a);
    if (b.claim(x, z, size * 1.5)) b.boulder(Vec3(x, b.ground(x, z) - 0.1 * size, z), size, stones[i % 3]);
  }
  const double woods = rng.uniform(0.1, 0.9);
  for (int i = 0; i < 110; ++i) {
    const double a = rng.uniform(0, 2 * M_PI), r = std::sqrt(rng.uniform(0.01, 1)) * 80;
    const double x = r * std::cos(a), z = r * std::sin(a);
    if (hills(x + 90, z, 30, 2) < 0.25 - woods * 0.5 || !b.claim(x, z, 1.6)) continue;
    const Vec3 foot(x, b.ground(x, z) - 0.1, z);
    switch (rng.index(4)) {
      case 0:
        b.broad_tree(foot, rng.uniform(4, 9));
        break;
      case 1:
        b.bush(foot, rng.uniform(0.6, 1.4));
        break;
      default:
        b.conifer(foot, rng.uniform(4, 11));
        break;
    }
  }
  // A fence beside the way, and a hut.
  if (rng.chance(0.6)) {
    const int wood = b.any_wood();
    const double length = w.trail.length() * rng.uniform(0.15, 0.4);
    for (double s = 0; s < length; s += 2.2) {
      const Vec3 p = w.trail.position(s), t = w.trail.tangent(s), q = w.trail.position(s + 2.2),
                 t2 = w.trail.tangent(s + 2.2);
      const auto off = [&](Vec3 at, Vec3 along) {
        const Vec3 out = Vec3(along.z(), 0, -along.x()).normalized() * 2.4 + at;
        return Vec3(out.x(), b.ground(out.x(), out.z()), out.z());
      };
      const Vec3 from = off(p, t), to = off(q, t2);
      if (!b.off_trail(from.x(), from.z(), 0.15) || !b.off_trail(to.x(), to.z(), 0.15)) continue;
      b.cylinder(from + Vec3(0, 0.5, 0), 0.06, 0.65, wood, wood);
      const Vec3 middle = (from + to) / 2, d = to - from;
      if (!b.off_trail(middle.x(), middle.z(), 0.1)) continue;
      const Eigen::Matrix3d turn = Eigen::Quaterniond::FromTwoVectors(Vec3::UnitX(), d).toRotationMatrix();
      for (double y : {0.5, 0.9})
        b.turned_box(middle + Vec3(0, y, 0), Vec3(d.norm() / 2, 0.05, 0.02), wood, turn);
    }
  }
  for (int i = 0; i < 20; ++i) {
    const double a = rng.uniform(0, 2 * M_PI), r = rng.uniform(5, 50), x = r * std::cos(a),
                 z = r * std::sin(a);
    if (!b.claim(x, z, 4)) continue;
    const double yaw = rng.uniform(0, 3);
    const Vec3 foot(x, b.ground(x, z) - 0.8, z);
    b.standing_box(foot, Vec3(2.4, 1.7, 1.8), rng.chance(0.5) ? b.any_brick() : b.any_wood(), yaw);
    const int roof = b.any_tiles();
    for (double s : {-1.0, 1.0}) {
      const Eigen::Matrix3d turn =
          yaw_matrix(yaw) * Eigen::AngleAxisd(s * 0.6, Vec3::UnitX()).toRotationMatrix();
      b.turned_box(foot + Vec3(0, 3.95, 0) + yaw_matrix(yaw) * Vec3(0, 0, s * 1.0), Vec3(2.8, 0.06, 1.4),
                   roof, turn);
    }
    b.box(foot + yaw_matrix(yaw) * Vec3(0.5, 1.7, 1.8), Vec3(0.45, 1, 0.04), b.any_wood(), yaw);
    break;
  }
  daylight(b, rng.uniform(0.003, 0.008));
}

void build_forest(Builder& b) {
  Rng& rng = b.rng;
  Whereabouts& w = b.where();
  w.eye = 1.6;
  w.low = 0.6;
  w.high = 2.6;
  w.walk_speed = 1.2;
  w.drive_speed = 2.5;
  const Hills hills(rng);
  const double relief = rng.uniform(0.8, 2.5);
  const Colour soil = b.any_colour(0.075, {0.35, 0.5}, {0.42, 0.58});
  const Colour grass = b.any_colour({0.18, 0.3}, {0.4, 0.65}, {0.35, 0.5});
  const int land = b.material(Pattern::terrain, grass, hsv(0.08, 0.2, 0.5), soil, 1.2, 0.5);
  const auto shape = [&](double x, double z) {
    return relief * hills(x, z, 16, 4) + 9 * ramp(34, 64, std::hypot(x, z));
  };
  ground_with_way(b, wandering_ring(rng, 9, 23, 0, 32), 0.8, 66, 120, 1.3, 3.5, land, shape);
  w.orbit_radius = 0.65;
  w.orbit_centre = w.trail.position(0);
  w.orbit_target = w.trail.position(0) + 7 * w.trail.tangent(0) - Vec3(0, 0.4, 0);
  const double conifers = rng.uniform(0.1, 0.9);
  for (int i = 0; i < 620; ++i) {
    const double a = rng.uniform(0, 2 * M_PI), r = std::sqrt(rng.uniform(0, 1)) * 56, x = r * std::cos(a),
                 z = r * std::sin(a);
    const Vec3 foot(x, b.ground(x, z) - 0.15, z);
    const double kind = rng.uniform();
    if (kind < 0.66) {
      const double height = rng.uniform(5, 13);
      if (!b.claim(x, z, 0.45 + height * 0.06)) continue;
      // Low boughs stay off the way; crowns may meet above it.
      if (rng.chance(conifers)) {
        if (b.off_trail(x, z, height * 0.2)) b.conifer(foot, height);
      } else if (b.off_trail(x, z, height * 0.5)) {
        b.broad_tree(foot, height);
      } else {
        const int bark = b.material(Pattern::bark, hsv(0.08, 0.3, 0.5), hsv(0.07, 0.4, 0.22),
                                    hsv(0.25, 0.4, 0.35), 0.14, 0.8);
        b.cylinder(foot + Vec3(0, 3.4, 0), rng.uniform(0.1, 0.25), 3.6, bark, bark);
        const int leaves = b.any_foliage();
        for (int k = 0; k < 3; ++k)
          b.ellipsoid(foot + b.any_vector({-0.8, 0.8}, {6.4, 8}, {-0.8, 0.8}), Vec3(1.6, 1.1, 1.6), leaves);
      }
    } else if (kind < 0.84) {
      if (b.claim(x, z, 0.9)) b.bush(foot + Vec3(0, 0.15, 0), rng.uniform(0.5, 1));
    } else if (kind < 0.93) {
      if (!b.claim(x, z, 0.8)) continue;
      const int stone = b.any_stone();
      b.boulder(foot, rng.uniform(0.25, 0.75), stone);
    } else if (b.claim(x, z, 1.9)) {
      const int bark = b.material(Pattern::bark, hsv(0.08, 0.3, 0.45), hsv(0.07, 0.4, 0.2),
                                  hsv(0.26, 0.5, 0.4), 0.14, 0.8);
      const Eigen::Matrix3d lie =
          yaw_matrix(a) * Eigen::AngleAxisd(M_PI / 2, Vec3::UnitZ()).toRotationMatrix();
      const double radius = rng.uniform(0.12, 0.3);
      const int cut = b.any_wood();
      b.cylinder(foot + Vec3(0, 0.15 + radius, 0), radius, rng.uniform(0.8, 1.8), bark, cut, lie);
    }
  }
  daylight(b, rng.uniform(0.002, 0.008));
  w.exposure = 1.25;
}

}  // namespace da3::scene
