// SPDX-License-Identifier: MIT
//
// Families on paved ground under the sky: street, objects, ruins.
#include <algorithm>
#include <cmath>

#include "scene/builder.h"
#include "scene/daylight.h"

namespace da3::scene {

void daylight(Builder& b, double haze) {
  Rng& rng = b.rng;
  const double elevation = rng.uniform(18, 62);
  const double strength = rng.uniform(1.3, 2.1), azimuth = rng.uniform(0, 360);
  b.sun(elevation, azimuth, strength, std::clamp(1.1 - elevation / 60, 0.1, 0.9));
  b.sky(rng.uniform(0.15, 0.8), haze);
  const double k = rng.uniform(0.36, 0.52);
  b.ambient(Colour{0.85, 0.95, 1.1} * k, Colour{0.75, 0.7, 0.62} * (k * 0.5));
  b.where().exposure = 1.0;
}

namespace {

void skyline(Builder& b, double near, double far, int count) {
  Rng& rng = b.rng;
  for (int i = 0; i < count; ++i) {
    const double a = 2 * M_PI * (i + rng.uniform(-0.4, 0.4)) / count, r = rng.uniform(near, far);
    const Colour c = b.any_colour({0, 0.16}, {0.03, 0.4}, {0.45, 0.85});
    const double storey = rng.uniform(2.9, 3.5);
    const int wall =
        b.material(Pattern::facade, c, c * 0.7, Colour{0.8, 0.8, 0.78} * rng.uniform(0.4, 1), storey, 0.5);
    const double half = storey * (2 + rng.index(6));
    const double turn = rng.uniform(-0.3, 0.3);
    const int roof = b.plain(c * 0.5);
    b.box(Vec3(r * std::cos(a), half, r * std::sin(a)), b.any_vector({5, 10}, half, {5, 10}), wall, roof,
          wall, a + turn);
  }
}

// --- street
// --------------------------------------------------------------------------------------------------

// What stands in a shop window.
int display(Builder& b) {
  switch (b.rng.index(4)) {
    case 0: {
      const double other_hue = b.rng.uniform(), hue = b.rng.uniform();
      return b.material(Pattern::books, hsv(hue, 0.4, 0.5), hsv(other_hue, 0.4, 0.6), hsv(0.13, 0.3, 0.9),
                        0.16, 0.8);
    }
    case 1:
      return b.any_text();
    default:
      return b.plain({0.04, 0.05, 0.06}, 0.7);
  }
}

// A house on a lot: along x from -half_x to half_x, its front at z = 0 facing +z, turned by yaw.
void house(Builder& b, Vec3 front, double half_x, double depth, double yaw) {
  Rng& rng = b.rng;
  const double storey = rng.uniform(2.9, 3.6);
  const Colour c = b.any_colour({0, 0.15}, {0.05, 0.5}, {0.5, 0.9});
  const Colour trim = Colour{0.85, 0.84, 0.8} * rng.uniform(0.3, 1);
  const int wall = b.material(Pattern::facade, c, c * 0.7, trim, storey, 0.5);
  const double half = storey * (1 + rng.index(3));
  const auto at = [&](double x, double y, double z) -> Vec3 {
    return front + yaw_matrix(yaw) * Vec3(x, y, z);
  };
  const int roof = b.plain(c * 0.4, 0.6), stone = b.plain(trim, 0.4);
  const double base = rng.chance(0.6) ? 3.2 : 0.7;
  b.box(at(0, base + half, -depth), Vec3(half_x, half, depth), wall, roof, wall, yaw);
  b.box(at(0, base + 2 * half + 0.15, -depth), Vec3(half_x + 0.15, 0.15, depth + 0.25), stone, roof, stone,
        yaw);
  const int foot = rng.chance(0.5) ? b.any_stone() : b.any_plaster(0.6);
  b.box(at(0, base / 2, -depth), Vec3(half_x, base / 2, depth + 0.06), foot, yaw);
  if (base > 2) {
    // Shops: panes, doors, signs and awnings.
    const int bays = std::max(1, int(half_x / 1.9));
    const double w = half_x / bays;
    for (int i = 0; i < bays; ++i) {
      const double x = -half_x + w * (2 * i + 1);
      if (rng.chance(0.3)) {
        b.box(at(x, 1.15, 0.08), Vec3(0.55, 1.1, 0.03), b.any_wood(), yaw);
      } else {
        b.box(at(x, 1.35, 0.08), Vec3(w * 0.82, 0.95, 0.02), display(b), yaw);
        b.box(at(x, 1.35, 0.09), Vec3(0.03, 0.95, 0.03), stone, yaw);
      }
      if (rng.chance(0.55)) b.box(at(x, 2.72, 0.1), Vec3(w * 0.85, 0.25, 0.05), b.any_text(), yaw);
      if (rng.chance(0.4)) {
        const Eigen::Matrix3d turn =
            yaw_matrix(yaw) * Eigen::AngleAxisd(0.45, Vec3::UnitX()).toRotationMatrix();
        b.turned_box(at(x, 2.45, 0.55), Vec3(w * 0.88, 0.02, 0.55), b.any_fabric(), turn);
      }
    }
  } else {
    const int door = b.any_wood();
    b.box(at(rng.uniform(-0.5, 0.5) * half_x, 1.1, 0.05), Vec3(0.5, 1.1, 0.06), door, yaw);
  }
}

}  // namespace

void build_street(Builder& b) {
  Rng& rng = b.rng;
  const double bx = rng.uniform(20, 30), bz = rng.uniform(15, 22), walk = rng.uniform(2.2, 3), road = 4.4;
  Whereabouts& w = b.where();
  w.eye = 1.6;
  w.low = 0.6;
  w.high = 2.6;
  w.walk_speed = 1.4;
  w.drive_speed = 5;
  const double tx = bx + walk + road, tz = bz + walk + road;
  b.trail(rounded_rectangle(tx, tz, 6.5, w.eye), 1.5);
  w.orbit_centre = Vec3(0, 1.7, -tz);
  w.orbit_target = Vec3(11, 1.7, -tz - 1);
  w.orbit_radius = 1.2;

  const int asphalt =
      b.material(Pattern::asphalt, {0.11, 0.11, 0.115}, {0.07, 0.07, 0.075}, {0, 0, 0}, 1, 0.5);
  const double slab = rng.uniform(0.25, 0.5), other_value = rng.uniform(0.48, 0.66),
               other_hue = rng.uniform(0, 0.15), value = rng.uniform(0.5, 0.7);
  const int flags = b.material(Pattern::tiles, hsv(0.1, 0.05, value), hsv(other_hue, 0.1, other_value),
                               {0.12, 0.12, 0.12}, slab, 0.9),
            kerb = b.plain({0.42, 0.41, 0.4}, 0.5), white = b.plain({0.75, 0.75, 0.72}, 0.8);
  b.box(Vec3(0, -0.25, 0), Vec3(140, 0.25, 140), asphalt);
  b.standing_box(Vec3(0, 0, 0), Vec3(bx + walk, 0.07, bz + walk), flags);
  b.standing_box(Vec3(0, 0, 0), Vec3(bx + walk + 0.12, 0.065, bz + walk + 0.12), kerb);
  const double ox = tx + road, oz = tz + road;
  for (double s : {-1.0, 1.0}) {
    b.standing_box(Vec3(0, 0, s * (oz + 30)), Vec3(140, 0.07, 30), flags);
    b.standing_box(Vec3(s * (ox + 30), 0, 0), Vec3(30, 0.07, oz), flags);
    b.standing_box(Vec3(0, 0, s * (oz + 0.0)), Vec3(ox, 0.075, 0.12), kerb);
    b.standing_box(Vec3(s * (ox + 0.0), 0, 0), Vec3(0.12, 0.075, oz), kerb);
  }
  for (int side = 0; side < 4; ++side) {
    const bool along_x = side < 2;
    const double sign = side % 2 ? 1 : -1;
    const Vec3 u = along_x ? Vec3(1, 0, 0) : Vec3(0, 0, 1), n = along_x ? Vec3(0, 0, sign) : Vec3(sign, 0, 0);
    const double inner_run = along_x ? bx : bz, inner = along_x ? bz : bx, centre = along_x ? tz : tx;
    const double outer = centre + road + walk, outer_run = (along_x ? ox : oz) + walk;
    const double out_yaw = std::atan2(n.x(), n.z()), in_yaw = out_yaw + M_PI;
    for (double t = -inner_run; t < inner_run - 4;) {
      double half = std::min(rng.uniform(3.5, 7), (inner_run - t) / 2);
      if (inner_run - (t + 2 * half) < 4) half = (inner_run - t) / 2;
      house(b, u * (t + half) + n * inner, half - 0.05, rng.uniform(4, 5.5), out_yaw);
      t += 2 * half;
    }
    for (double t = -outer_run - 8; t < outer_run + 8;) {
      const double half = rng.uniform(3.5, 8);
      if (rng.chance(0.12)) {
        for (int i = 0; i < 3; ++i) {
          const double height = rng.uniform(6, 10), behind = rng.uniform(2, 8),
                       along = half * rng.uniform(0.3, 1.7);
          b.broad_tree(u * (t + along) + n * (outer + behind), height);
        }
      } else {
        house(b, u * (t + half) + n * outer, half - 0.05, rng.uniform(5, 8), in_yaw);
      }
      t += 2 * half;
    }
    // Marks on the road.
    const double straight = (along_x ? tx : tz) - 6;
    for (double t = -straight; t < straight; t += 4) {
      b.standing_box(
          u * (t + 1) + n * centre,
          (u + n).cwiseAbs().cwiseProduct(along_x ? Vec3(1, 0, 0.06) : Vec3(0.06, 0, 1)) + Vec3(0, 0.002, 0),
          white);
    }
    for (int i = 0; i < 8; ++i) {
      b.standing_box(u * (straight + 1.2) + n * (centre + (i - 3.5) * 1.05),
                     along_x ? Vec3(1.3, 0.002, 0.28) : Vec3(0.28, 0.002, 1.3), white);
    }
    // Parked cars, on both sides; the trail keeps 1.5 m free, they begin at 2.5 m.
    for (double lane : {-1.0, 1.0}) {
      for (double t = -straight + 2; t < straight - 4; t += rng.uniform(5.2, 11)) {
        if (rng.chance(0.3)) continue;
        b.car(u * t + n * (centre + lane * 3.42), (along_x ? M_PI / 2 : 0) + (rng.chance(0.5) ? M_PI : 0));
      }
      // Trees, lamps, bins, benches, signs on the pavement.
      for (double t = -inner_run; t < inner_run; t += rng.uniform(3, 6)) {
        const Vec3 at = u * t + n * (centre + lane * (road + 0.6)) + Vec3(0, 0.14, 0);
        const double yaw = lane > 0 ? in_yaw : out_yaw;
        switch (rng.index(6)) {
          case 0:
          case 1:
            b.broad_tree(at, rng.uniform(4.5, 7.5));
            break;
          case 2: {
            const int steel = b.plain({0.12, 0.13, 0.13}, 0.3);
            b.cylinder(at + Vec3(0, 2.6, 0), 0.06, 2.6, steel, steel);
            b.box(at - n * (lane * 0.5) + Vec3(0, 5.2, 0),
                  along_x ? Vec3(0.12, 0.06, 0.6) : Vec3(0.6, 0.06, 0.12), steel);
            break;
          }
          case 3: {
            const int green = b.any_metal();
            b.cylinder(at + Vec3(0, 0.45, 0), 0.25, 0.45, green, green);
            break;
          }
          case 4:
            b.sign(at, yaw + M_PI / 2, rng.uniform(2.2, 2.9), 0.3);
            break;
          default:
            b.bench(at + n * (lane * 0.6), yaw, b.any_wood());
            break;
        }
      }
    }
  }
  skyline(b, 75, 115, 16);
  daylight(b, 0.0022);
}

// --- terrain
// -------------------------------------------------------------------------------------------------

// --- objects
// -------------------------------------------------------------------------------------------------

namespace {

int any_surface(Builder& b) {
  switch (b.rng.index(11)) {
    case 0:
      return b.any_wood();
    case 1:
      return b.any_brick();
    case 2:
      return b.any_tiles();
    case 3:
      return b.any_fabric();
    case 4:
      return b.any_stone();
    case 5:
      return b.any_metal();
    case 6:
      return b.any_text();
    case 7:
      return b.any_picture();
    case 8:
      return b.any_foliage();
    case 9:
      return b.any_plaster(0.7);
    default:
      return b.material(Pattern::carton, hsv(0.085, 0.4, 0.65), hsv(0.08, 0.45, 0.5),
                        hsv(b.rng.uniform(), 0.6, 0.6), 0.4, 0.5);
  }
}

// Any shape standing on `foot`; returns its height if something may stand on it, else 0.
double any_object(Builder& b, Vec3 foot, double size) {
  Rng& rng = b.rng;
  const int skin = any_surface(b);
  const double yaw = rng.uniform(0, M_PI);
  switch (rng.index(7)) {
    case 0:
    case 1: {
      const Vec3 half = size * b.any_vector({0.4, 0.7}, {0.25, 0.8}, {0.4, 0.7});
      b.box(foot + Vec3(0, half.y(), 0), half, skin, rng.chance(0.4) ? any_surface(b) : skin, skin, yaw);
      return 2 * half.y();
    }
    case 2: {
      const Vec3 r = size * b.any_vector({0.4, 0.65}, {0.4, 0.65}, {0.4, 0.65});
      b.ellipsoid(foot + Vec3(0, r.y(), 0), rng.chance(0.5) ? Vec3(r.y(), r.y(), r.y()) : r, skin, yaw);
      return 0;
    }
    case 3: {
      const double r = size * rng.uniform(0.25, 0.5), h = size * rng.uniform(0.3, 0.9);
      b.cylinder(foot + Vec3(0, h, 0), r, h, skin, any_surface(b));
      return r > 0.3 * size ? 2 * h : 0;
    }
    case 4: {
      const double r = size * rng.uniform(0.25, 0.4), h = size * rng.uniform(0.5, 0.8);
      const Eigen::Matrix3d lie =
          yaw_matrix(yaw) * Eigen::AngleAxisd(M_PI / 2, Vec3::UnitZ()).toRotationMatrix();
      b.cylinder(foot + Vec3(0, r, 0), r, h, skin, any_surface(b), lie);
      return 0;
    }
    case 5:
      b.cone(foot + Vec3(0, size * 0.7, 0), size * rng.uniform(0.3, 0.5), size * 0.7, skin);
      return 0;
    default:
      switch (rng.index(5)) {
        case 0:
          b.chair(foot, b.any_wood(), yaw);
          return 0;
        case 1:
          b.barrel(foot);
          return 0;
        case 2:
          b.crate(foot, std::min(0.4, size * 0.5), yaw);
          return std::min(0.8, size);
        case 3:
          b.potted_plant(foot, size * 1.5);
          return 0;
        default:
          b.table(foot, 0.5 * size, 0.4 * size, 0.6 * size, b.any_wood(), yaw);
          return 0;
      }
  }
}

}  // namespace

void build_objects(Builder& b) {
  Rng& rng = b.rng;
  Whereabouts& w = b.where();
  const double inner = rng.uniform(2.2, 3.8);
  w.eye = rng.uniform(1.0, 1.7);
  w.low = 0.35;
  w.high = 2.4;
  w.walk_speed = 0.7;
  w.drive_speed = 1.2;
  const double radius = inner + 1.2;
  std::vector<Vec3> ring;
  // A B-spline through a regular polygon of n points runs inside of it by this much.
  const int points = 24;
  const double reach = radius / ((4 + 2 * std::cos(2 * M_PI / points)) / 6);
  for (int i = 0; i < points; ++i)
    ring.emplace_back(reach * std::cos(2 * M_PI * i / points), w.eye,
                      reach * std::sin(2 * M_PI * i / points));
  b.trail(ring, 0.55);
  w.orbit_centre = Vec3(0, w.eye, 0);
  w.orbit_target = Vec3(0, 0.4, 0);
  w.orbit_radius = radius;

  int floor = 0;
  switch (rng.index(5)) {
    case 0:
      floor = b.any_wood();
      break;
    case 1:
      floor = b.any_tiles();
      break;
    case 2:
      floor = b.any_brick();
      break;
    case 3:
      floor = b.material(Pattern::asphalt, {0.3, 0.3, 0.29}, {0.2, 0.2, 0.2}, {0, 0, 0}, 0.7, 0.5);
      break;
    default:
      floor = b.material(Pattern::grass, hsv(0.27, 0.6, 0.45), hsv(0.22, 0.5, 0.6), hsv(0.12, 0.4, 0.6), 0.8,
                         0.5);
  }
  b.box(Vec3(0, -0.25, 0), Vec3(120, 0.25, 120), floor);
  const auto scatter = [&](int count, double lo, double hi, double size_lo, double size_hi) {
    for (int i = 0; i < count; ++i) {
      const double a = rng.uniform(0, 2 * M_PI), r = rng.uniform(lo, hi),
                   size = rng.uniform(size_lo, size_hi);
      const double x = r * std::cos(a), z = r * std::sin(a);
      if (!b.claim(x, z, size * 0.75)) continue;
      double y = 0, s = size;
      for (int level = 0; level < 3; ++level) {
        const double top = any_object(b, Vec3(x, y, z), s);
        if (top <= 0 || rng.chance(0.45)) break;
        y += top;
        s *= rng.uniform(0.45, 0.7);
      }
    }
  };
  scatter(90, 0, inner - 0.2, 0.3, 0.95);
  scatter(50, radius + 1.2, radius + 6, 0.5, 1.6);
  // Walls, columns and trees behind.
  const int backdrop = rng.index(3);
  if (backdrop == 0) {
    const double r = radius + rng.uniform(4, 7);
    const int wall = rng.chance(0.5) ? b.any_brick() : b.any_plaster(0.75);
    const double height = rng.uniform(2, 3.5);
    for (int i = 0; i < 8; ++i) {
      if (rng.chance(0.2)) continue;
      const double a = i * M_PI / 4;
      b.box(Vec3(r * std::cos(a), height / 2, r * std::sin(a)), Vec3(0.15, height / 2, r * 0.4142), wall, -a);
      if (rng.chance(0.7))
        b.picture_on_wall(Vec3((r - 0.16) * std::cos(a), 1.5, (r - 0.16) * std::sin(a)), 0.7, 0.5,
                          -M_PI / 2 - a, rng.chance(0.5) ? b.any_text() : b.any_picture());
    }
  }
  for (int i = 0; i < (backdrop == 1 ? 45 : 14); ++i) {
    const double a = rng.uniform(0, 2 * M_PI), r = radius + rng.uniform(8, 26), x = r * std::cos(a),
                 z = r * std::sin(a);
    if (!b.claim(x, z, 1.3)) continue;
    if (rng.chance(0.6)) {
      b.broad_tree(Vec3(x, 0, z), rng.uniform(3, 8));
    } else {
      b.conifer(Vec3(x, 0, z), rng.uniform(4, 9));
    }
  }
  skyline(b, 40, 85, backdrop == 2 ? 26 : 12);
  daylight(b, 0.003);
}

// --- forest
// --------------------------------------------------------------------------------------------------

// --- ruins
// ---------------------------------------------------------------------------------------------------

void build_ruins(Builder& b) {
  Rng& rng = b.rng;
  Whereabouts& w = b.where();
  w.eye = 1.6;
  w.low = 0.5;
  w.high = 2.6;
  w.walk_speed = 1.1;
  w.drive_speed = 2;
  b.trail(wandering_ring(rng, 6, 10.5, w.eye, 24), 0.8);
  w.orbit_centre = w.trail.position(0);
  w.orbit_target = Vec3(0, 1.2, 0);
  w.orbit_radius = 0.65;
  int stones[3];
  for (int& s : stones) s = b.any_stone();
  const double hue = rng.uniform(0.07, 0.13);
  const int paving = b.material(Pattern::tiles, hsv(hue, 0.2, 0.68), hsv(hue, 0.22, 0.58), hsv(0.2, 0.4, 0.3),
                                rng.uniform(0.5, 0.9), 0.9);
  b.box(
      Vec3(0, -0.35, 0), Vec3(130, 0.25, 130),
      b.material(Pattern::grass, hsv(0.22, 0.5, 0.5), hsv(0.15, 0.45, 0.62), hsv(0.1, 0.35, 0.62), 1.4, 0.6));
  b.box(Vec3(0, -0.1, 0), Vec3(16, 0.1, 16), paving);
  const auto column = [&](Vec3 foot, double height, bool whole) {
    const double r = 0.32;
    const int stone = stones[rng.index(3)];
    b.standing_box(foot, Vec3(r * 1.5, 0.12, r * 1.5), stone);
    const int drums = std::max(1, int(height / 0.9));
    for (int i = 0; i < drums; ++i) {
      const double h = height / drums / 2;
      b.cylinder(foot + b.any_vector({-0.015, 0.015}, 0.24 + h * (2 * i + 1), {-0.015, 0.015}),
                 r * (1 - 0.04 * i), h - 0.006, stone, stone);
    }
    if (whole) {
      b.cone(foot + Vec3(0, 0.24 + height + 0.1, 0), r * 1.6, 0.35, stone);
      b.standing_box(foot + Vec3(0, 0.2 + height, 0), Vec3(r * 1.6, 0.14, r * 1.6), stone);
    }
  };
  // Two colonnades around, and parts of an inner hall.
  for (double half : {13.0, 3.4}) {
    const int count = half > 5 ? 7 : 3;
    const double height = half > 5 ? 5 : 3.6;
    for (int side = 0; side < 4; ++side) {
      bool before = false;
      for (int i = 0; i < count; ++i) {
        const double t = -half + 2 * half * i / count;
        const double sx[4] = {t, half, -t, -half}, sz[4] = {-half, t, half, -t};
        const Vec3 foot(sx[side], 0, sz[side]);
        const bool whole = rng.chance(0.6), here = rng.chance(0.85) && b.claim(foot.x(), foot.z(), 0.6);
        if (here) column(foot, whole ? height : rng.uniform(0.6, height * 0.8), whole);
        if (here && whole && before) {
          const double step = 2 * half / count;
          const Vec3 along = side % 2 ? Vec3(0, 0, side == 1 ? 1 : -1) : Vec3(side == 0 ? 1 : -1, 0, 0);
          const Vec3 middle = foot - along * (step / 2) + Vec3(0, 0.2 + height + 0.53, 0);
          b.box(middle, side % 2 ? Vec3(0.34, 0.25, step / 2) : Vec3(step / 2, 0.25, 0.34), stones[side % 3]);
        }
        before = here && whole;
      }
    }
  }
  for (int i = 0; i < 170; ++i) {
    const double a = rng.uniform(0, 2 * M_PI), r = rng.uniform(0, 19), x = r * std::cos(a),
                 z = r * std::sin(a);
    const int stone = stones[rng.index(3)];
    const double yaw = rng.uniform(0, 3);
    const int kind = rng.index(8);
    if (kind <= 1) {
      const double half = rng.uniform(0.7, 2);
      if (!b.claim(x, z, half)) continue;
      // A broken wall: steps of falling height.
      const int wall = rng.chance(0.5) ? b.any_brick() : stone;
      double height = rng.uniform(1, 3.2);
      const int parts = 3 + rng.index(3);
      for (int k = 0; k < parts; ++k) {
        const double t = -half + 2 * half * (k + 0.5) / parts;
        b.standing_box(Vec3(x, 0, z) + yaw_matrix(yaw) * Vec3(t, 0, 0), Vec3(half / parts, height / 2, 0.25),
                       wall, yaw);
        height *= rng.uniform(0.6, 1.02);
      }
    } else if (kind == 2) {
      const double half = rng.uniform(0.5, 1.3);
      if (!b.claim(x, z, half)) continue;
      const Eigen::Matrix3d lie =
          yaw_matrix(yaw) * Eigen::AngleAxisd(M_PI / 2, Vec3::UnitZ()).toRotationMatrix();
      b.cylinder(Vec3(x, 0.3, z), 0.31, half, stone, stone, lie);
    } else if (kind <= 4) {
      const double size = rng.uniform(0.2, 0.6);
      if (b.claim(x, z, size * 1.3)) b.boulder(Vec3(x, 0, z), size, stone);
    } else if (kind == 5) {
      if (!b.claim(x, z, 0.6)) continue;
      // A statue on a pedestal.
      b.standing_box(Vec3(x, 0, z), Vec3(0.4, 0.45, 0.4), stone, yaw);
      b.standing_box(Vec3(x, 0.9, z), Vec3(0.46, 0.05, 0.46), stone, yaw);
      b.cylinder(Vec3(x, 1.45, z), 0.2, 0.45, stone, stone);
      b.ellipsoid(Vec3(x, 2.05, z), Vec3(0.28, 0.35, 0.2), stone, yaw);
      b.ellipsoid(Vec3(x, 2.52, z), Vec3(0.14, 0.18, 0.15), stone, yaw);
    } else if (kind == 6) {
      if (b.claim(x, z, 0.7)) b.bush(Vec3(x, 0, z), rng.uniform(0.35, 0.8));
    } else if (b.claim(x, z, 1)) {
      for (int k = 0; k < 4; ++k)
        b.standing_box(Vec3(x, 0.16 * k, z), Vec3(0.95 - 0.2 * k, 0.08, 0.95 - 0.2 * k), stone, yaw);
    }
  }
  for (int i = 0; i < 40; ++i) {
    const double a = rng.uniform(0, 2 * M_PI), r = rng.uniform(21, 60), x = r * std::cos(a),
                 z = r * std::sin(a);
    if (!b.claim(x, z, 1.5)) continue;
    if (rng.chance(0.5)) {
      b.broad_tree(Vec3(x, -0.15, z), rng.uniform(4, 9));
    } else {
      b.conifer(Vec3(x, -0.15, z), rng.uniform(6, 12));
    }
  }
  // Hills at the end of the plain.
  const int hill =
      b.material(Pattern::rock, hsv(0.2, 0.3, 0.5), hsv(0.12, 0.3, 0.4), hsv(0.25, 0.45, 0.4), 12, 0.6);
  for (int i = 0; i < 12; ++i) {
    const double a = 2 * M_PI * i / 12, r = rng.uniform(105, 130);
    b.ellipsoid(Vec3(r * std::cos(a), -3, r * std::sin(a)), b.any_vector({25, 40}, {8, 24}, {25, 40}), hill,
                a);
  }
  daylight(b, rng.uniform(0.002, 0.006));
}

}  // namespace da3::scene
