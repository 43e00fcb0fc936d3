// SPDX-License-Identifier: MIT
//
// Things of several parts that more than one family uses.
#include <cmath>

#include "scene/builder.h"

namespace da3::scene {
namespace {

// A point of the thing's own frame (x right, y up, z towards its front) in the world.
struct Frame {
  Vec3 foot;
  double yaw;
  Vec3 operator()(double x, double y, double z) const { return foot + yaw_matrix(yaw) * Vec3(x, y, z); }
};

}  // namespace

void Builder::broad_tree(Vec3 foot, double height) {
  const double scale = rng.uniform(0.1, 0.2), value = rng.uniform(0.35, 0.55);
  const int bark =
      material(Pattern::bark, hsv(0.08, 0.35, value), hsv(0.07, 0.4, 0.22), hsv(0.25, 0.4, 0.35), scale, 0.8);
  const int leaves = any_foliage();
  const double trunk = height * rng.uniform(0.03, 0.045), crown = height * rng.uniform(0.2, 0.28);
  const double lean = rng.uniform(-0.05, 0.05), turn = rng.uniform(0, 2 * M_PI);
  const Eigen::Matrix3d tilt =
      Eigen::AngleAxisd(lean, Vec3(std::cos(turn), 0, std::sin(turn))).toRotationMatrix();
  cylinder(foot + Vec3(0, height * 0.3 - 0.2, 0), trunk, height * 0.32, bark, bark, tilt);
  const int blobs = 4 + rng.index(4);
  for (int i = 0; i < blobs; ++i) {
    const double a = turn + 2 * M_PI * i / blobs, r = crown * rng.uniform(0.4, 0.8);
    const double size = crown * rng.uniform(0.55, 0.85);
    const double flat = size * rng.uniform(0.65, 0.9), y = height * rng.uniform(0.55, 0.78);
    ellipsoid(foot + Vec3(r * std::cos(a), y, r * std::sin(a)), Vec3(size, flat, size), leaves, a);
  }
  ellipsoid(foot + Vec3(0, height * 0.82, 0), Vec3(crown * 0.75, height * 0.17, crown * 0.75), leaves);
}

void Builder::conifer(Vec3 foot, double height) {
  const double scale = rng.uniform(0.08, 0.16), value = rng.uniform(0.3, 0.5);
  const int bark =
      material(Pattern::bark, hsv(0.06, 0.4, value), hsv(0.06, 0.45, 0.2), hsv(0.25, 0.4, 0.3), scale, 0.8);
  const int needles = any_foliage();
  const double radius = height * rng.uniform(0.14, 0.2);
  cylinder(foot + Vec3(0, height * 0.25 - 0.2, 0), height * 0.022, height * 0.27, bark, bark);
  const int tiers = 3 + rng.index(3);
  for (int i = 0; i < tiers; ++i) {
    const double k = double(i) / tiers;
    const double half = height * 0.22 * (1 - 0.35 * k);
    cone(foot + Vec3(0, height * (0.22 + 0.62 * k) + half * 0.6, 0), radius * (1 - 0.72 * k), half, needles);
  }
}

void Builder::bush(Vec3 foot, double size) {
  const int leaves = any_foliage();
  const int blobs = 2 + rng.index(3);
  for (int i = 0; i < blobs; ++i) {
    const double a = rng.uniform(0, 2 * M_PI), r = size * rng.uniform(0.1, 0.45),
                 s = size * rng.uniform(0.45, 0.75);
    ellipsoid(foot + Vec3(r * std::cos(a), s * 0.55, r * std::sin(a)), Vec3(s * 0.75, s * 0.8, s * 0.75),
              leaves, a);
  }
}

void Builder::boulder(Vec3 foot, double size, int material) {
  const int parts = 1 + rng.index(3);
  for (int i = 0; i < parts; ++i) {
    const double s = size * rng.uniform(0.5, 1), a = rng.uniform(0, 2 * M_PI), r = i ? size * 0.5 : 0;
    const Vec3 at = foot + Vec3(r * std::cos(a), s * rng.uniform(0.1, 0.35), r * std::sin(a));
    if (rng.chance(0.65)) {
      ellipsoid(at, s * any_vector({0.6, 0.95}, {0.4, 0.8}, {0.6, 0.95}), material, a);
    } else {
      const Eigen::Matrix3d turn =
          (Eigen::AngleAxisd(a, Vec3::UnitY()) * Eigen::AngleAxisd(rng.uniform(-0.4, 0.4), Vec3::UnitX()))
              .toRotationMatrix();
      turned_box(at, Vec3(s * 0.55, s * rng.uniform(0.3, 0.55), s * 0.5), material, turn);
    }
  }
}

void Builder::table(Vec3 foot, double half_x, double half_z, double height, int material, double yaw) {
  const Frame at{foot, yaw};
  box(at(0, height - 0.02, 0), Vec3(half_x, 0.02, half_z), material, yaw);
  box(at(0, height - 0.07, 0), Vec3(half_x * 0.9, 0.03, half_z * 0.85), material, yaw);
  for (int i = 0; i < 4; ++i) {
    const double x = (i & 1 ? 1 : -1) * (half_x - 0.06), z = (i & 2 ? 1 : -1) * (half_z - 0.06);
    box(at(x, (height - 0.04) / 2, z), Vec3(0.03, (height - 0.04) / 2, 0.03), material, yaw);
  }
  const int things = rng.index(4);
  for (int i = 0; i < things; ++i) {
    const double x = rng.uniform(-0.75, 0.75) * half_x, z = rng.uniform(-0.7, 0.7) * half_z;
    switch (rng.index(3)) {
      case 0: {
        const int inside = plain({0.5, 0.5, 0.5}), skin = any_fabric();
        const double radius = rng.uniform(0.03, 0.06);
        cylinder(at(x, height + 0.1, z), radius, 0.1, skin, inside);
        break;
      }
      case 1: {
        const double turn = rng.uniform(-1, 1);
        box(at(x, height + 0.025, z), Vec3(0.1, 0.025, 0.14), any_text(), yaw + turn);
        break;
      }
      default:
        ellipsoid(at(x, height + 0.07, z), Vec3(0.09, 0.07, 0.09), plain(hsv(rng.uniform(), 0.6, 0.7), 0.6));
    }
  }
}

void Builder::chair(Vec3 foot, int material, double yaw) {
  const Frame at{foot, yaw};
  box(at(0, 0.45, 0), Vec3(0.21, 0.025, 0.21), material, yaw);
  box(at(0, 0.72, -0.19), Vec3(0.2, 0.17, 0.018), material, yaw);
  for (int i = 0; i < 4; ++i) {
    const double x = (i & 1 ? 1 : -1) * 0.18, z = (i & 2 ? 1 : -1) * 0.18;
    const double top = (i & 2) ? 0.43 : 0.88;
    box(at(x, top / 2, z), Vec3(0.018, top / 2, 0.018), material, yaw);
  }
}

void Builder::bookshelf(Vec3 foot, double half_width, double height, double yaw) {
  const Frame at{foot, yaw};
  const int wood = any_wood();
  const double depth = 0.15;
  const int shelves = std::max(2, int(height / 0.38));
  const double step = (height - 0.04) / shelves;
  box(at(0, height / 2, -depth + 0.01), Vec3(half_width, height / 2, 0.01), wood, yaw);
  for (int side : {-1, 1})
    box(at(side * half_width, height / 2, 0), Vec3(0.015, height / 2, depth), wood, yaw);
  for (int i = 0; i <= shelves; ++i) {
    box(at(0, 0.02 + i * step, 0), Vec3(half_width, 0.014, depth), wood, yaw);
    if (i == shelves) continue;
    const double scale = rng.uniform(0.03, 0.05), other_hue = rng.uniform(), hue = rng.uniform();
    const int books = material(Pattern::books, hsv(hue, 0.5, 0.55), hsv(other_hue, 0.4, 0.7),
                               hsv(0.13, 0.3, 0.9), scale, 0.8);
    double x = -half_width + 0.03;
    while (x < half_width - 0.12) {
      const double w = rng.uniform(0.1, 0.3), h = step * rng.uniform(0.3, 0.42);
      const double end = std::min(x + 2 * w, half_width - 0.03);
      if (rng.chance(0.85))
        box(at((x + end) / 2, 0.034 + i * step + h, rng.uniform(-0.03, 0.02)), Vec3((end - x) / 2, h, 0.1),
            books, yaw);
      x = end + rng.uniform(0, 0.05);
    }
  }
}

void Builder::cabinet(Vec3 foot, Vec3 half, double yaw) {
  const Frame at{foot, yaw};
  const int wood = rng.chance(0.6) ? any_wood() : any_plaster(0.7);
  standing_box(foot, half, wood, yaw);
  const int doors = std::max(1, int(half.x() / 0.25));
  const int metal = plain({0.5, 0.48, 0.42}, 0.3);
  for (int i = 0; i < doors; ++i) {
    const double w = half.x() / doors, x = -half.x() + w * (2 * i + 1);
    box(at(x, half.y(), half.z()), Vec3(w - 0.012, half.y() - 0.03, 0.012), wood, yaw);
    box(at(x + w * 0.7, half.y(), half.z() + 0.02), Vec3(0.01, 0.07, 0.012), metal, yaw);
  }
  if (half.y() < 0.6 && rng.chance(0.8)) {
    const double y = 2 * half.y();
    const int inside = plain({0.3, 0.3, 0.3}), skin = any_tiles();
    cylinder(at(-half.x() * 0.5, y + 0.12, 0), 0.08, 0.12, skin, inside);
    box(at(half.x() * 0.4, y + 0.15, 0), Vec3(0.2, 0.15, 0.02), any_picture(), yaw);
  }
}

void Builder::sofa(Vec3 foot, double half_width, double yaw) {
  const Frame at{foot, yaw};
  const int cloth = any_fabric();
  box(at(0, 0.2, 0), Vec3(half_width, 0.2, 0.4), cloth, yaw);
  box(at(0, 0.45, -0.3), Vec3(half_width, 0.4, 0.11), cloth, yaw);
  for (int side : {-1, 1}) box(at(side * (half_width - 0.09), 0.3, 0), Vec3(0.1, 0.3, 0.4), cloth, yaw);
  const int cushions = 2 + rng.index(2);
  for (int i = 0; i < cushions; ++i) {
    const double x = -half_width + 0.2 + (2 * half_width - 0.4) * (i + 0.5) / cushions;
    box(at(x, 0.45, 0.05), Vec3((half_width - 0.2) / cushions - 0.01, 0.06, 0.33), cloth, yaw);
    if (rng.chance(0.6)) ellipsoid(at(x, 0.66, -0.08), Vec3(0.2, 0.19, 0.09), any_fabric(), yaw);
  }
}

void Builder::bed(Vec3 foot, double yaw) {
  const Frame at{foot, yaw};
  box(at(0, 0.15, 0), Vec3(0.8, 0.15, 1), any_wood(), yaw);
  box(at(0, 0.4, 0.05), Vec3(0.77, 0.1, 0.93), any_fabric(), yaw);
  box(at(0, 0.5, -0.98), Vec3(0.8, 0.5, 0.04), any_wood(), yaw);
  for (int side : {-1, 1}) ellipsoid(at(side * 0.38, 0.55, -0.68), Vec3(0.3, 0.1, 0.2), any_fabric(), yaw);
}

void Builder::potted_plant(Vec3 foot, double height) {
  const int pot = rng.chance(0.5) ? any_tiles() : plain(hsv(0.05, 0.6, 0.6), 0.5);
  cylinder(foot + Vec3(0, height * 0.14, 0), height * 0.14, height * 0.14, pot,
           plain({0.06, 0.04, 0.03}, 0.8));
  const int leaves = any_foliage();
  const int cut = any_wood(), stem = any_wood();
  cylinder(foot + Vec3(0, height * 0.4, 0), height * 0.015, height * 0.2, stem, cut);
  for (int i = 0; i < 5; ++i) {
    const double a = 2 * M_PI * i / 5 + rng.uniform(-0.3, 0.3), s = height * rng.uniform(0.12, 0.2);
    ellipsoid(foot + Vec3(0.15 * height * std::cos(a), height * rng.uniform(0.5, 0.85),
                          0.15 * height * std::sin(a)),
              Vec3(s, s * 0.8, s), leaves, a);
  }
}

void Builder::floor_lamp(Vec3 foot) {
  const int metal = plain({0.25, 0.24, 0.22}, 0.3);
  cylinder(foot + Vec3(0, 0.015, 0), 0.15, 0.015, metal, metal);
  cylinder(foot + Vec3(0, 0.75, 0), 0.014, 0.75, metal, metal);
  const int bulb = lamp({1, 0.85, 0.6}), shade = any_fabric();
  cylinder(foot + Vec3(0, 1.55, 0), 0.18, 0.14, shade, bulb);
}

void Builder::barrel(Vec3 foot) {
  const int paint = any_metal();
  const double r = rng.uniform(0.24, 0.32), h = rng.uniform(0.38, 0.48);
  cylinder(foot + Vec3(0, h, 0), r, h, paint, paint);
  for (double k : {0.06, 0.67, 1.33, 1.94}) cylinder(foot + Vec3(0, h * k, 0), r * 1.04, 0.015, paint, paint);
}

void Builder::crate(Vec3 foot, double half, double yaw) {
  const Frame at{foot, yaw};
  const int wood = any_wood();
  standing_box(foot, Vec3(half, half, half), wood, yaw);
  for (double y : {0.12, 1.88}) {
    box(at(0, half * y, 0), Vec3(half * 1.03, half * 0.11, half * 1.03), wood, yaw);
  }
  for (int i = 0; i < 4; ++i) {
    box(at((i & 1 ? 1 : -1) * half * 0.93, half, (i & 2 ? 1 : -1) * half * 0.93),
        Vec3(half * 0.11, half, half * 0.11), wood, yaw);
  }
}

void Builder::car(Vec3 foot, double yaw) {
  const Frame at{foot, yaw};
  const double value = rng.uniform(0.3, 0.85);
  const double saturation = rng.chance(0.5) ? 0.05 : rng.uniform(0.5, 0.85);
  const double hue = rng.uniform();
  const Colour c = hsv(hue, saturation, value);
  const int body = material(Pattern::noise, c, c * 0.85, c, 0.7, 0.25);
  const int glass = plain({0.03, 0.04, 0.05}, 0.5), tyre = plain({0.02, 0.02, 0.02}, 0.5);
  const int light_grey = plain({0.55, 0.55, 0.55}, 0.3);
  const double length = rng.uniform(1.9, 2.4), roof = rng.uniform(0.62, 0.85);
  box(at(0, 0.52, 0), Vec3(0.85, 0.26, length), body, yaw);
  box(at(0, 0.42, 0), Vec3(0.87, 0.08, length * 1.02), tyre, yaw);
  const double back = rng.uniform(-0.35, -0.1);
  box(at(0, 0.78 + roof / 2, back), Vec3(0.72, roof / 2, length * 0.48), glass, body, glass, yaw);
  box(at(0, 0.78 + roof, back), Vec3(0.74, 0.025, length * 0.47), body, yaw);
  for (double k : {-0.47, 0.02, 0.47}) {
    for (int side : {-1, 1})
      box(at(side * 0.72, 0.78 + roof / 2, back + k * length), Vec3(0.015, roof / 2, 0.04), body, yaw);
  }
  const Eigen::Matrix3d axle =
      yaw_matrix(yaw) * Eigen::AngleAxisd(M_PI / 2, Vec3::UnitZ()).toRotationMatrix();
  for (int i = 0; i < 4; ++i) {
    const Vec3 hub = at((i & 1 ? 1 : -1) * 0.8, 0.32, (i & 2 ? 1 : -1) * length * 0.62);
    cylinder(hub, 0.32, 0.12, tyre, tyre, axle);
    cylinder(hub, 0.19, 0.13, light_grey, light_grey, axle);
  }
  const int red = plain({0.5, 0.02, 0.02}, 0.3), white = plain({0.9, 0.9, 0.85}, 0.2);
  for (int side : {-1, 1}) {
    box(at(side * 0.62, 0.6, length), Vec3(0.16, 0.07, 0.02), white, yaw);
    box(at(side * 0.62, 0.6, -length), Vec3(0.16, 0.07, 0.02), red, yaw);
  }
  box(at(0, 0.5, length), Vec3(0.25, 0.06, 0.03), any_text(), yaw);
  box(at(0, 0.5, -length), Vec3(0.25, 0.06, 0.03), any_text(), yaw);
}

void Builder::bench(Vec3 foot, double yaw, int material) {
  const Frame at{foot, yaw};
  for (int i = 0; i < 3; ++i) box(at(0, 0.44, -0.16 + 0.16 * i), Vec3(0.8, 0.02, 0.065), material, yaw);
  for (int i = 0; i < 2; ++i) box(at(0, 0.65 + 0.17 * i, -0.27), Vec3(0.8, 0.065, 0.02), material, yaw);
  for (int side : {-1, 1}) {
    box(at(side * 0.65, 0.21, 0), Vec3(0.03, 0.21, 0.2), plain({0.1, 0.1, 0.1}), yaw);
    box(at(side * 0.65, 0.45, -0.24), Vec3(0.03, 0.43, 0.025), plain({0.1, 0.1, 0.1}), yaw);
  }
}

void Builder::sign(Vec3 foot, double yaw, double height, double half_width) {
  const Frame at{foot, yaw};
  const int pole = plain({0.4, 0.4, 0.42}, 0.3);
  cylinder(at(0, height / 2, -0.04), 0.03, height / 2, pole, pole);
  box(at(0, height - half_width * 0.6, 0), Vec3(half_width, half_width * 0.6, 0.012), any_text(), yaw);
}

void Builder::picture_on_wall(Vec3 centre, double half_width, double half_height, double normal_yaw,
                              int picture) {
  const Frame at{centre, normal_yaw};
  const int frame = any_wood();
  box(at(0, 0, 0.01), Vec3(half_width + 0.04, half_height + 0.04, 0.015), frame, normal_yaw);
  box(at(0, 0, 0.02), Vec3(half_width, half_height, 0.012), picture, normal_yaw);
}

}  // namespace da3::scene
