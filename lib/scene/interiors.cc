// SPDX-License-Identifier: MIT
//
// Families with a roof: room, corridor, warehouse.
#include <algorithm>
#include <cmath>

#include "scene/builder.h"

namespace da3::scene {
namespace {

struct Opening {
  double along;  // of its middle, from the middle of the wall
  double half, sill, top;
};

// A wall between two points of the floor, as boxes around its openings (which must be sorted and apart).
void wall(Builder& b, Vec3 from, Vec3 to, double height, double thickness, int material,
          const std::vector<Opening>& openings) {
  const Vec3 along = (to - from).normalized();
  const double length = (to - from).norm(), yaw = std::atan2(-along.z(), along.x());
  const Vec3 middle = (from + to) / 2;
  const auto piece = [&](double lo, double hi, double bottom, double top) {
    if (hi - lo < 1e-3 || top - bottom < 1e-3) return;
    b.box(middle + along * ((lo + hi) / 2) + Vec3(0, (bottom + top) / 2, 0),
          Vec3((hi - lo) / 2, (top - bottom) / 2, thickness / 2), material, yaw)
        .seed = 7;
  };
  double at = -length / 2;
  for (const Opening& o : openings) {
    piece(at, o.along - o.half, 0, height);
    piece(o.along - o.half, o.along + o.half, 0, o.sill);
    piece(o.along - o.half, o.along + o.half, o.top, height);
    at = o.along + o.half;
  }
  piece(at, length / 2, 0, height);
  // Frames and bars.
  const int frame = b.plain({0.8, 0.8, 0.78}, 0.15);
  for (const Opening& o : openings) {
    const double mid = (o.sill + o.top) / 2, tall = (o.top - o.sill) / 2;
    for (double x : {-o.half, 0.0, o.half})
      b.box(middle + along * (o.along + x) + Vec3(0, mid, 0), Vec3(0.035, tall, 0.05), frame, yaw);
    for (double y : {o.sill, o.sill + tall * 1.3, o.top})
      b.box(middle + along * o.along + Vec3(0, y, 0), Vec3(o.half, 0.035, 0.05), frame, yaw);
    b.box(middle + along * o.along + Vec3(0, o.sill - 0.03, 0),
          Vec3(o.half + 0.1, 0.025, thickness / 2 + 0.1), frame, yaw);
  }
}

// What is seen through windows.
void outlook(Builder& b, double clear) {
  b.box(Vec3(0, -0.35, 0), Vec3(150, 0.25, 150),
        b.material(Pattern::grass, hsv(0.27, 0.6, 0.45), hsv(0.22, 0.5, 0.6), hsv(0.12, 0.4, 0.6), 1.5, 0.5));
  for (int i = 0; i < 14; ++i) {
    const double a = b.rng.uniform(0, 2 * M_PI), r = clear + b.rng.uniform(4, 30);
    const Vec3 foot(r * std::cos(a), -0.1, r * std::sin(a));
    if (b.rng.chance(0.6)) {
      b.broad_tree(foot, b.rng.uniform(5, 10));
    } else {
      b.conifer(foot, b.rng.uniform(5, 11));
    }
  }
  for (int i = 0; i < 10; ++i) {
    const double a = b.rng.uniform(0, 2 * M_PI), r = clear + b.rng.uniform(35, 70);
    const Colour c = b.any_colour({0, 0.15}, {0.05, 0.4}, {0.5, 0.85});
    const int walls = b.material(Pattern::facade, c, c * 0.7, {0.8, 0.8, 0.78}, 3, 0.5);
    const int roof = b.plain(c * 0.5);
    const Vec3 half = b.any_vector({5, 9}, 6, {5, 9});
    b.box(Vec3(r * std::cos(a), 6, r * std::sin(a)), half, walls, roof, walls, a);
  }
}

// Furniture whose back is at a wall. `depth` is measured from the wall into the room.
void furnish(Builder& b, double half_x, double half_z, int count) {
  for (int i = 0; i < count; ++i) {
    const int side = b.rng.index(4);
    const bool along_x = side < 2;
    const double sign = side % 2 ? 1 : -1;
    const double wall_at = along_x ? half_z : half_x, run = along_x ? half_x : half_z;
    const int kind = b.rng.index(8);
    static const double half_width[] = {0.5, 0.7, 0.9, 0.85, 0.35, 0.35, 0.7, 0.3};
    static const double half_depth[] = {0.17, 0.25, 0.45, 1.05, 0.3, 0.25, 0.4, 0.3};
    const double w = half_width[kind], d = half_depth[kind];
    if (run < w + 0.1) continue;
    const double t = b.rng.uniform(-run + w + 0.05, run - w - 0.05), s = sign * (wall_at - d - 0.03);
    const Vec3 foot = along_x ? Vec3(t, 0, s) : Vec3(s, 0, t);
    // The front, +z of the thing, looks away from the wall.
    const double yaw = along_x ? (sign > 0 ? M_PI : 0) : (sign > 0 ? -M_PI / 2 : M_PI / 2);
    // A disc that covers the thing is too strict for long ones, so the trail and the others are asked at a
    // few places.
    bool free = true;
    for (double k : {-1.0, -0.5, 0.0, 0.5, 1.0}) {
      for (double m : {-1.0, 1.0}) {
        const Vec3 p = foot + yaw_matrix(yaw) * Vec3(k * w, 0, m * d);
        free = free && b.off_trail(p.x(), p.z(), 0.02);
      }
    }
    if (!free || !b.claim(foot.x(), foot.z(), std::max(w, d) * 0.95)) continue;
    switch (kind) {
      case 0:
        b.bookshelf(foot, w, b.rng.uniform(1.4, 2.1), yaw);
        break;
      case 1:
        b.cabinet(foot, Vec3(w, b.rng.uniform(0.35, 1), d), yaw);
        break;
      case 2:
        b.sofa(foot, w, yaw);
        break;
      case 3:
        b.bed(foot, yaw);
        break;
      case 4: {
        const double turn = b.rng.uniform(-0.4, 0.4);
        b.chair(foot, b.any_wood(), yaw + turn);
        break;
      }
      case 5:
        b.potted_plant(foot, b.rng.uniform(0.8, 1.6));
        break;
      case 6: {
        const int wood = b.any_wood();
        b.table(foot, w, d, b.rng.uniform(0.7, 0.78), wood, yaw);
        break;
      }
      default:
        b.floor_lamp(foot);
        break;
    }
  }
}

void hang_pictures(Builder& b, double half_x, double half_z, double height, int count,
                   const bool* has_window) {
  for (int i = 0; i < count; ++i) {
    const int side = b.rng.index(4);
    if (has_window[side]) continue;
    const bool along_x = side < 2;
    const double sign = side % 2 ? 1 : -1;
    const double run = (along_x ? half_x : half_z) - 0.7, t = b.rng.uniform(-run, run);
    const double y = std::min(b.rng.uniform(1.45, 1.75), height - 0.6);
    const Vec3 at = along_x ? Vec3(t, y, sign * half_z) : Vec3(sign * half_x, y, t);
    const double yaw = along_x ? (sign > 0 ? M_PI : 0) : (sign > 0 ? -M_PI / 2 : M_PI / 2);
    const int picture = b.rng.chance(0.35) ? b.any_text() : b.any_picture();
    const double half_height = b.rng.uniform(0.2, 0.4), half_width = b.rng.uniform(0.2, 0.55);
    b.picture_on_wall(at, half_width, half_height, yaw, picture);
  }
}

}  // namespace

void build_room(Builder& b) {
  Rng& rng = b.rng;
  const double hx = rng.uniform(2.3, 4), hz = rng.uniform(2.3, 4), height = rng.uniform(2.45, 3.1);
  Whereabouts& w = b.where();
  w.eye = 1.4;
  w.low = 0.6;
  w.high = 1.9;
  w.walk_speed = 0.4;
  w.drive_speed = 0.55;
  const double rx = hx - 1.55, rz = hz - 1.55;
  std::vector<Vec3> ring;
  for (int i = 0; i < 12; ++i)
    ring.emplace_back(rx * std::cos(i * M_PI / 6), w.eye, rz * std::sin(i * M_PI / 6));
  b.trail(ring, 0.4);
  w.orbit_target = Vec3(0, 1.0, 0);
  w.orbit_centre = Vec3(0, 1.5, 0);
  w.orbit_radius = 0.9 * std::min(rx, rz);

  const int walls = rng.chance(0.2) ? b.any_brick() : b.any_plaster(0.85);
  const int floor = rng.chance(0.6) ? b.any_wood() : (rng.chance(0.6) ? b.any_tiles() : b.any_fabric());
  const int ceiling = b.plain({0.82, 0.82, 0.8}, 0.3);
  b.box(Vec3(0, -0.05, 0), Vec3(hx + 0.2, 0.05, hz + 0.2), floor);
  b.box(Vec3(0, height + 0.1, 0), Vec3(hx + 0.2, 0.1, hz + 0.2), ceiling);
  bool window[4] = {};
  window[rng.index(4)] = true;
  window[rng.index(4)] = true;
  for (int side = 0; side < 4; ++side) {
    const bool along_x = side < 2;
    const double sign = side % 2 ? 1 : -1, run = (along_x ? hx : hz) + 0.2, off = (along_x ? hz : hx) + 0.1;
    std::vector<Opening> openings;
    if (window[side]) {
      const double half = rng.uniform(0.5, 0.9), sill = rng.uniform(0.75, 1),
                   top = height - rng.uniform(0.2, 0.5);
      if (run > 3 && rng.chance(0.5)) {
        openings = {{-run / 2, half, sill, top}, {run / 2, half, sill, top}};
      } else {
        openings = {{rng.uniform(-0.3, 0.3) * run, half * 1.2, sill, top}};
      }
    }
    const Vec3 from = along_x ? Vec3(-run, 0, sign * off) : Vec3(sign * off, 0, -run);
    const Vec3 to = along_x ? Vec3(run, 0, sign * off) : Vec3(sign * off, 0, run);
    wall(b, from, to, height, 0.2, walls, openings);
    const int board = b.plain({0.75, 0.74, 0.7}, 0.2);
    b.box(along_x ? Vec3(0, 0.05, sign * (hz - 0.01)) : Vec3(sign * (hx - 0.01), 0.05, 0),
          along_x ? Vec3(hx, 0.05, 0.012) : Vec3(0.012, 0.05, hz), board);
    if (!window[side] && rng.chance(0.5)) {
      const double t = rng.uniform(-0.5, 0.5) * run;
      const double yaw = along_x ? 0 : M_PI / 2;
      const Vec3 at = along_x ? Vec3(t, 1.02, sign * hz) : Vec3(sign * hx, 1.02, t);
      b.box(at, Vec3(0.45, 1.02, 0.03), b.any_wood(), yaw);
      b.claim(at.x(), at.z(), 0.5);
    }
  }
  if (rng.chance(0.75)) {
    const int carpet = b.any_fabric();
    const Vec3 half = b.any_vector({0.7, hx - 1}, 0.006, {0.7, hz - 1});
    b.standing_box(b.any_vector({-0.3, 0.3}, 0, {-0.3, 0.3}), half, carpet);
  }
  furnish(b, hx, hz, 34);
  // The island inside the ring.
  if (std::min(rx, rz) > 1.45) {
    if (rng.chance(0.5)) {
      const double yaw = rng.uniform(0, 3);
      b.table(Vec3(0, 0, 0), 0.45, 0.35, 0.42, b.any_wood(), yaw);
    } else {
      b.ellipsoid(Vec3(0.1, 0.22, 0), Vec3(0.3, 0.22, 0.3), b.any_fabric());
    }
  }
  hang_pictures(b, hx, hz, height, 9, window);
  b.cylinder(Vec3(0, height - 0.2, 0), 0.012, 0.2, ceiling, ceiling);
  b.ellipsoid(Vec3(0, height - 0.38, 0), Vec3(0.16, 0.1, 0.16), b.lamp({1, 0.95, 0.85}));
  outlook(b, 6);
  b.any_sun({18, 50}, {1.6, 2.6}, {0.2, 0.8});
  b.sky(rng.uniform(0.2, 0.7), 0.004);
  const double base = rng.uniform(0.34, 0.48);
  b.ambient(Colour{1, 0.98, 0.95} * base, Colour{0.95, 0.88, 0.8} * (base * 0.85));
  b.point_light(Vec3(0, height - 0.55, 0), Colour{1, 0.92, 0.8} * rng.uniform(0.5, 1), 9);
  w.exposure = 1.25;
}

void build_corridor(Builder& b) {
  Rng& rng = b.rng;
  const double hx = rng.uniform(8, 13), hz = rng.uniform(6, 9), width = rng.uniform(2.1, 3),
               height = rng.uniform(2.5, 3.1);
  Whereabouts& w = b.where();
  w.eye = 1.5;
  w.low = 0.5;
  w.high = 1.9;
  w.walk_speed = 1;
  w.drive_speed = 1.6;
  const double tx = hx - width / 2, tz = hz - width / 2;
  b.trail(rounded_rectangle(tx, tz, width / 2, w.eye), 0.5);
  w.orbit_centre = Vec3(0, w.eye, -tz);
  w.orbit_target = Vec3(3.2, w.eye - 0.25, -tz);
  w.orbit_radius = 0.38;

  const int walls = b.any_plaster(0.8), floor = rng.chance(0.6) ? b.any_tiles() : b.any_wood();
  const int ceiling =
      b.material(Pattern::tiles, {0.8, 0.8, 0.78}, {0.76, 0.76, 0.74}, {0.5, 0.5, 0.5}, 0.6, 0.3);
  const int dado = rng.chance(0.7) ? b.any_plaster(0.55) : b.any_brick();
  b.box(Vec3(0, -0.05, 0), Vec3(hx + 0.2, 0.05, hz + 0.2), floor);
  b.box(Vec3(0, height + 0.1, 0), Vec3(hx + 0.2, 0.1, hz + 0.2), ceiling);
  const double ix = hx - width, iz = hz - width;
  b.standing_box(Vec3(0, 0, 0), Vec3(ix, height / 2, iz), walls);
  const double dado_height = rng.uniform(0.5, 0.6);
  b.standing_box(Vec3(0, 0, 0), Vec3(ix + 0.015, dado_height, iz + 0.015), dado);
  for (int side = 0; side < 4; ++side) {
    const bool along_x = side < 2;
    const double sign = side % 2 ? 1 : -1, run = (along_x ? hx : hz), off = (along_x ? hz : hx);
    const Vec3 u = along_x ? Vec3(1, 0, 0) : Vec3(0, 0, 1), n = along_x ? Vec3(0, 0, sign) : Vec3(sign, 0, 0);
    std::vector<Opening> openings;
    const bool windows = rng.chance(0.5);
    const double bay = rng.uniform(2.4, 3.4);
    const int bays = int((2 * run - 1.2) / bay);
    for (int i = 0; windows && i < bays; ++i)
      openings.push_back({(i - (bays - 1) / 2.0) * bay, rng.uniform(0.4, 0.8), 0.9, height - 0.4});
    wall(b, u * -(run + 0.2) + n * (off + 0.1), u * (run + 0.2) + n * (off + 0.1), height, 0.2, walls,
         openings);
    if (!windows) b.standing_box(n * off, u * run + Vec3(0, dado_height, 0) + n.cwiseAbs() * 0.015, dado);
    // Doors, plates, posters and things along both walls.
    for (int inner = 0; inner < 2; ++inner) {
      const double wall_at = inner ? off - width : off, reach = inner ? run - width : run - 0.6;
      const Vec3 facing = inner ? n : Vec3(-n);
      const double yaw = std::atan2(facing.x(), facing.z());
      for (double t = -reach + 0.9; t < reach - 0.9; t += rng.uniform(1.3, 2.2)) {
        const Vec3 at = u * t + n * wall_at;
        const int kind = rng.index(7);
        const bool glazed = !inner && windows;
        if (kind <= 1 && !glazed) {
          const int wood = rng.chance(0.5) ? b.any_wood() : b.any_plaster(0.5);
          b.box(at + Vec3(0, 1.03, 0), Vec3(0.5, 1.05, 0.035), b.plain({0.7, 0.7, 0.68}, 0.2), yaw);
          b.box(at + Vec3(0, 1.0, 0), Vec3(0.44, 1.0, 0.05), wood, yaw);
          b.box(at + facing * 0.06 + Vec3(0, 1.6, 0), Vec3(0.14, 0.07, 0.006), b.any_text(), yaw);
          b.ellipsoid(at + facing * 0.09 + yaw_matrix(yaw) * Vec3(0.36, 1.0, 0), Vec3(0.04, 0.03, 0.04),
                      b.plain({0.6, 0.55, 0.4}, 0.2));
          t += 0.5;
        } else if (kind == 2 && !glazed) {
          const int picture = rng.chance(0.6) ? b.any_text() : b.any_picture();
          const double half_height = rng.uniform(0.25, 0.4), half_width = rng.uniform(0.25, 0.5);
          b.picture_on_wall(at + Vec3(0, 1.6, 0), half_width, half_height, yaw, picture);
        } else if (kind == 3) {
          const double depth = 0.2;
          b.bench(at + facing * (depth + 0.1), yaw, b.any_wood());
          t += 0.6;
        } else if (kind == 4) {
          b.potted_plant(at + facing * 0.25, rng.uniform(0.7, 1.1));
        } else if (kind == 5 && !glazed) {
          const int red = b.plain({0.6, 0.03, 0.02}, 0.3);
          b.cylinder(at + facing * 0.1 + Vec3(0, 0.75, 0), 0.075, 0.24, red, b.plain({0.1, 0.1, 0.1}));
          b.box(at + facing * 0.02 + Vec3(0, 1.25, 0), Vec3(0.12, 0.12, 0.006), b.any_text(), yaw);
        } else if (kind == 6) {
          b.standing_box(at + facing * 0.16, Vec3(0.3, 0.9, 0.15), b.any_metal(), yaw);
        }
      }
    }
    // Pipes under the ceiling.
    if (rng.chance(0.6)) {
      const Eigen::Matrix3d lie = along_x ? Eigen::AngleAxisd(M_PI / 2, Vec3::UnitZ()).toRotationMatrix()
                                          : Eigen::AngleAxisd(M_PI / 2, Vec3::UnitX()).toRotationMatrix();
      const int pipe = b.any_metal();
      for (double k : {0.12, 0.32})
        b.cylinder(n * (off - k) + Vec3(0, height - 0.15, 0), 0.06, run - 0.05, pipe, pipe, lie);
    }
    const int lamps = std::max(2, int(2 * (run - width / 2) / 4));
    const Colour glow = hsv(rng.uniform(0.08, 0.16), 0.08, 1);
    for (int i = 0; i < lamps; ++i) {
      const double t = (i + 0.5 - lamps / 2.0) * 2 * (run - width / 2) / lamps;
      const Vec3 at = u * t + n * (off - width / 2);
      b.box(at + Vec3(0, height - 0.03, 0), Vec3(0.5, 0.03, 0.1), b.lamp(glow), along_x ? 0 : M_PI / 2);
      if (!rng.chance(0.12)) b.point_light(at + Vec3(0, height - 0.2, 0), glow * 0.9, 5.5);
    }
  }
  outlook(b, 18);
  b.any_sun({20, 50}, {1.2, 2.2}, {0.2, 0.7});
  b.sky(rng.uniform(0.2, 0.7), 0.004);
  b.ambient({0.2, 0.2, 0.2}, {0.16, 0.155, 0.15});
  w.exposure = 1.45;
}

namespace {

// Shelves of several levels along x, loaded with cartons, crates and barrels.
void rack(Builder& b, Vec3 foot, double half_length, double depth, int levels, double level_height) {
  Rng& rng = b.rng;
  const int post = b.plain(hsv(rng.chance(0.5) ? 0.6 : 0.05, 0.7, 0.55), 0.3),
            beam = b.plain(hsv(0.07, 0.85, 0.8), 0.3);
  const int bays = std::max(1, int(half_length / 1.3));
  const double bay = 2 * half_length / bays, height = levels * level_height;
  for (int i = 0; i <= bays; ++i) {
    for (int side : {-1, 1})
      b.standing_box(foot + Vec3(-half_length + i * bay, 0, side * depth), Vec3(0.04, height / 2 + 0.1, 0.04),
                     post);
  }
  int cartons[3];
  for (int& c : cartons) {
    const Colour label = hsv(rng.uniform(), 0.6, 0.6);
    const Colour board = b.any_colour({0.07, 0.1}, {0.3, 0.5}, {0.5, 0.75});
    c = b.material(Pattern::carton, board, hsv(0.08, 0.45, 0.5), label, 0.4, 0.5);
  }
  for (int level = 0; level < levels; ++level) {
    const double y = 0.12 + level * level_height;
    for (int side : {-1, 1}) b.box(foot + Vec3(0, y, side * depth), Vec3(half_length, 0.05, 0.025), beam);
    b.box(foot + Vec3(0, y + 0.04, 0), Vec3(half_length, 0.012, depth), b.any_wood());
    for (int i = 0; i < bays; ++i) {
      double x = -half_length + i * bay + 0.1;
      const double end = -half_length + (i + 1) * bay - 0.1;
      while (x < end - 0.3) {
        const double half = std::min(rng.uniform(0.18, 0.5), (end - x) / 2),
                     tall = rng.uniform(0.15, 0.42) * level_height;
        if (rng.chance(0.82)) {
          const Vec3 at = foot + Vec3(x + half, y + 0.052, rng.uniform(-0.1, 0.1));
          const int kind = rng.index(6);
          if (kind == 0) {
            const int paint = b.any_metal();
            b.cylinder(at + Vec3(0, tall, 0), std::min(half, depth * 0.8), tall, paint, paint);
          } else {
            const double yaw = rng.uniform(-0.05, 0.05);
            const int skin = kind == 1 ? b.any_wood() : (kind == 2 ? b.any_fabric() : cartons[rng.index(3)]);
            b.standing_box(at, Vec3(half - 0.02, tall, depth * rng.uniform(0.7, 0.95)), skin, yaw);
          }
        }
        x += 2 * half + rng.uniform(0.01, 0.12);
      }
    }
  }
}

}  // namespace

void build_warehouse(Builder& b) {
  Rng& rng = b.rng;
  const double hx = rng.uniform(14, 20), hz = rng.uniform(9, 13), height = rng.uniform(6, 8);
  Whereabouts& w = b.where();
  w.eye = 1.6;
  w.low = 0.5;
  w.high = 2.6;
  w.walk_speed = 1.3;
  w.drive_speed = 2.4;
  // Around one long double rack, between racks outside of it.
  const double tx = hx - rng.uniform(3.2, 4), tz = rng.uniform(2.7, 3.3);
  b.trail(rounded_rectangle(tx, tz, 1.6, w.eye), 0.8);
  w.orbit_centre = Vec3(-tx, w.eye, 0);
  w.orbit_target = Vec3(-tx + 3, 1.5, 0);
  w.orbit_radius = 0.6;

  const int concrete =
      b.material(Pattern::asphalt, {0.36, 0.36, 0.35}, {0.26, 0.26, 0.26}, {0.2, 0.2, 0.2}, 0.8, 0.35);
  const int sheet = b.any_metal();
  b.box(Vec3(0, -0.1, 0), Vec3(hx + 0.3, 0.1, hz + 0.3), concrete);
  for (double s : {-1.0, 1.0}) {
    b.box(Vec3(0, height / 2, s * (hz + 0.1)), Vec3(hx + 0.2, height / 2, 0.1), sheet);
    b.box(Vec3(s * (hx + 0.1), height / 2, 0), Vec3(0.1, height / 2, hz + 0.2), sheet);
    b.box(Vec3(0, 0.6, s * (hz - 0.01)), Vec3(hx, 0.6, 0.02), b.any_brick());
    b.box(Vec3(s * (hx - 0.01), 0.6, 0), Vec3(0.02, 0.6, hz), b.any_brick());
    const int gate = b.any_metal();
    b.box(Vec3(s * (hx - 0.02), 1.9, rng.uniform(-0.4, 0.4) * hz), Vec3(0.03, 1.9, 1.8), gate);
    const int board = b.any_text();
    b.box(Vec3(rng.uniform(-0.6, 0.6) * hx, 3.6, s * (hz - 0.02)), Vec3(1.6, 0.6, 0.02), board);
  }
  // The roof with strips of sky, on beams.
  const int roof = b.any_metal(), steel = b.plain({0.3, 0.31, 0.33}, 0.3);
  const int strips = 4;
  const double pitch = 2 * hx / strips;
  for (int i = 0; i < strips; ++i) {
    const double x = -hx + pitch * (i + 0.5);
    b.box(Vec3(x, height + 0.08, 0), Vec3(pitch / 2 - 0.55, 0.08, hz + 0.2), roof);
  }
  for (int i = 0; i <= strips; ++i) {
    const double x = std::clamp(-hx + pitch * i, -hx + 0.2, hx - 0.2);
    b.box(Vec3(x, height - 0.25, 0), Vec3(0.1, 0.2, hz), steel);
    for (double s : {-1.0, 1.0})
      b.standing_box(Vec3(x, 0, s * (hz - 0.2)), Vec3(0.13, height / 2, 0.13), steel);
  }
  for (double z : {-0.6, 0.0, 0.6}) b.box(Vec3(0, height - 0.08, z * hz), Vec3(hx, 0.06, 0.06), steel);

  const double level = rng.uniform(1.2, 1.5);
  const int levels = std::max(2, int((height - 1.2) / level));
  rack(b, Vec3(0, 0, 0), tx - 2.1, std::min(0.8, tz - 1.7), levels, level);
  for (double s : {-1.0, 1.0}) {
    const double z = s * (tz + 2.1);
    if (tz + 2.1 + 0.7 < hz) {
      const double half_length = hx - rng.uniform(3, 5);
      rack(b, Vec3(rng.uniform(-1, 1), 0, z), half_length, 0.55, levels, level);
    }
    // Yellow lines beside the way.
    const int paint = b.plain({0.75, 0.5, 0.03}, 0.5);
    b.standing_box(Vec3(0, 0, s * (tz + 1.25)), Vec3(tx, 0.002, 0.05), paint);
    b.standing_box(Vec3(0, 0, s * (tz - 1.2)), Vec3(tx - 1.6, 0.002, 0.05), paint);
  }
  for (int i = 0; i < 60; ++i) {
    const double x = rng.uniform(-hx + 1, hx - 1), z = rng.uniform(-hz + 0.9, hz - 0.9),
                 r = rng.uniform(0.5, 0.75);
    // Not into the racks.
    if (std::abs(x) < hx - 2.6 && std::abs(z) < tz + 3) continue;
    if (!b.claim(x, z, r)) continue;
    switch (rng.index(5)) {
      case 0:
        b.barrel(Vec3(x, 0, z));
        break;
      case 1:
        b.crate(Vec3(x, 0, z), 0.4, rng.uniform(0, 3));
        if (rng.chance(0.4)) b.crate(Vec3(x, 0.82, z), 0.3, rng.uniform(0, 3));
        break;
      case 2: {
        const double tall = rng.uniform(1.5, 2.4), yaw = rng.uniform(0, 6);
        b.sign(Vec3(x, 0, z), yaw, tall, 0.35);
        break;
      }
      case 3:
        b.cone(Vec3(x, 0.35, z), 0.2, 0.35, b.plain({0.8, 0.2, 0.02}, 0.4));
        break;
      default: {
        const int carton = b.material(Pattern::carton, hsv(0.085, 0.42, 0.65), hsv(0.08, 0.45, 0.45),
                                      hsv(rng.uniform(), 0.7, 0.6), 0.4, 0.5);
        double y = 0.12;
        b.standing_box(Vec3(x, 0, z), Vec3(0.55, 0.06, 0.45), b.any_wood());
        for (int k = 1 + rng.index(4); k > 0; --k) {
          const double tall = rng.uniform(0.18, 0.3);
          const double yaw = rng.uniform(-0.1, 0.1);
          b.standing_box(Vec3(x, y, z), b.any_vector({0.35, 0.5}, tall, {0.3, 0.42}), carton, yaw);
          y += 2 * tall;
        }
      }
    }
  }
  for (int i = 0; i < 4; ++i) {
    for (double s : {-1.0, 1.0}) {
      const Vec3 at((i - 1.5) * 2 * tx / 4, height - 0.6, s * tz);
      b.box(at + Vec3(0, 0.06, 0), Vec3(0.7, 0.05, 0.12), b.lamp({1, 0.98, 0.9}));
      b.point_light(at, Colour{1, 0.96, 0.88} * 6.5, 8.5);
    }
  }
  outlook(b, 30);
  b.any_sun({35, 65}, {1.6, 2.6}, {0.1, 0.6});
  b.sky(rng.uniform(0.2, 0.7), 0.003);
  b.ambient({0.3, 0.305, 0.32}, {0.21, 0.205, 0.2});
  w.exposure = 1.35;
}

}  // namespace da3::scene
