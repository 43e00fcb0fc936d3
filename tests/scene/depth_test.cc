// SPDX-License-Identifier: MIT
//
// Depth against the formulas of simple shapes, and between two views of whole scenes.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "scene/kernel.h"
#include "scene/path.h"
#include "test_support.h"

using namespace da3::scene;
using namespace da3::scene::test;

namespace {

constexpr int kWidth = 61, kHeight = 47;  // not multiples of a packet or a tile
constexpr double kNothing = std::numeric_limits<double>::infinity();

Camera oblique() {
  return camera_at(Vec3(0.3, 1.7, 4.2), Vec3(-0.12, -0.21, -1), 63, kWidth, kHeight, 0.2);
}

// Compares every pixel with the nearest crossing of `expected(origin, direction)`. Pixels on silhouettes,
// where the rounding of a float decides, are few and left out: `grazing` says how many may differ.
template <typename Expected>
void check_depth(Builder& b, const Camera& camera, Expected expected, int grazing, double tolerance = 2e-5) {
  Renderer renderer(1);
  const Scene scene = b.finish();
  const Shot shot = shoot(renderer, scene, camera, kWidth, kHeight);
  int hits = 0, differ = 0;
  double worst = 0;
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      const double want = expected(camera.centre(), pixel_ray(camera, x, y));
      const double got = shot.z(x, y);
      if ((want == kNothing) != (got == 0)) {
        ++differ;
        continue;
      }
      if (want == kNothing) continue;
      ++hits;
      worst = std::max(worst, std::abs(got - want) / want);
    }
  }
  CHECK(hits > 100);
  CHECK(worst < tolerance);
  CHECK(differ <= grazing);
}

double sphere(Vec3 centre, double radius, Vec3 o, Vec3 d) {
  const Vec3 q = o - centre;
  const double a = d.dot(d), b = q.dot(d), c = q.dot(q) - radius * radius, rest = b * b - a * c;
  if (rest < 0) return kNothing;
  const double t = (-b - std::sqrt(rest)) / a;
  return t > 0 ? t : kNothing;
}

}  // namespace

TEST_CASE("depth of a plane is z, not the length of the ray") {
  Builder b(Family::room, 1);
  b.box(Vec3(0, -0.5, 0), Vec3(500, 0.5, 500), b.plain({0.5, 0.5, 0.5}));
  check_depth(
      b, oblique(),
      [](Vec3 o, Vec3 d) {
        const double t = -o.y() / d.y();
        const Vec3 p = o + t * d;
        return t > 0 && std::max(std::abs(p.x()), std::abs(p.z())) < 500 ? t : kNothing;
      },
      0);
}

TEST_CASE("depth of a sphere") {
  Builder b(Family::room, 1);
  b.ellipsoid(Vec3(-0.2, 1.1, 0.4), Vec3(1.1, 1.1, 1.1), b.plain({0.5, 0.5, 0.5}), 0.7);
  check_depth(
      b, oblique(), [](Vec3 o, Vec3 d) { return sphere(Vec3(-0.2, 1.1, 0.4), 1.1, o, d); }, 2);
}

TEST_CASE("depth of an ellipsoid is that of the stretched sphere") {
  Builder b(Family::room, 1);
  const Vec3 centre(0.1, 1, 0.2), radii(0.6, 1.3, 0.9);
  const double yaw = 0.8;
  b.ellipsoid(centre, radii, b.plain({0.5, 0.5, 0.5}), yaw);
  check_depth(
      b, oblique(),
      [&](Vec3 o, Vec3 d) {
        const Eigen::Matrix3d turn = yaw_matrix(-yaw);
        const Vec3 lo = (turn * (o - centre)).cwiseQuotient(radii), ld = (turn * d).cwiseQuotient(radii);
        return sphere(Vec3(0, 0, 0), 1, lo, ld);
      },
      2);
}

TEST_CASE("depth of a turned box") {
  Builder b(Family::room, 1);
  const Vec3 centre(-0.1, 0.9, 0.3), half(0.7, 0.9, 0.4);
  const double yaw = -0.6;
  b.box(centre, half, b.plain({0.5, 0.5, 0.5}), yaw);
  check_depth(
      b, oblique(),
      [&](Vec3 o, Vec3 d) {
        const Vec3 lo = yaw_matrix(-yaw) * (o - centre), ld = yaw_matrix(-yaw) * d;
        double enter = -kNothing, leave = kNothing;
        for (int k = 0; k < 3; ++k) {
          const double a = (-half[k] - lo[k]) / ld[k], c = (half[k] - lo[k]) / ld[k];
          enter = std::max(enter, std::min(a, c));
          leave = std::min(leave, std::max(a, c));
        }
        return enter <= leave && enter > 0 ? enter : kNothing;
      },
      2);
}

TEST_CASE("depth of a cylinder, its side and its cap") {
  Builder b(Family::room, 1);
  const double radius = 0.8, half = 0.7;
  b.cylinder(Vec3(0, 0.7, 0), radius, half, b.plain({0.5, 0.5, 0.5}), b.plain({0.2, 0.5, 0.5}));
  check_depth(
      b, oblique(),
      [&](Vec3 o, Vec3 d) {
        double best = kNothing;
        const double a = d.x() * d.x() + d.z() * d.z(), h = o.x() * d.x() + o.z() * d.z();
        const double c = o.x() * o.x() + o.z() * o.z() - radius * radius, rest = h * h - a * c;
        if (rest >= 0) {
          const double t = (-h - std::sqrt(rest)) / a, y = o.y() + t * d.y();
          if (t > 0 && y >= 0 && y <= 2 * half) best = t;
        }
        const double t = (2 * half - o.y()) / d.y();
        if (t > 0 && std::hypot(o.x() + t * d.x(), o.z() + t * d.z()) <= radius) best = std::min(best, t);
        return best;
      },
      2);
}

TEST_CASE("depth of a cone") {
  Builder b(Family::room, 1);
  const double radius = 0.9, height = 2;
  b.cone(Vec3(0, 1, 0), radius, height / 2, b.plain({0.5, 0.5, 0.5}));
  check_depth(
      b, oblique(),
      [&](Vec3 o, Vec3 d) {
        // |(x, z)| = radius * (height - y) / height, by small steps and bisection.
        const auto inside = [&](double t) {
          const Vec3 p = o + t * d;
          return p.y() > 0 && p.y() < height && std::hypot(p.x(), p.z()) < radius * (height - p.y()) / height;
        };
        for (double t = 1; t < 8; t += 0.002) {
          if (!inside(t)) continue;
          double lo = t - 0.002, hi = t;
          for (int i = 0; i < 40; ++i) (inside((lo + hi) / 2) ? hi : lo) = (lo + hi) / 2;
          return hi;
        }
        return kNothing;
      },
      8, 2e-4);
}

TEST_CASE("depth of a height field that is a plane, without holes") {
  Builder b(Family::room, 1);
  b.height_field(
      60, 80, [](double x, double z) { return 0.2 * x - 0.1 * z; }, [](double, double) { return 0.0; },
      b.plain({0.5, 0.5, 0.5}));
  const Camera camera = camera_at(Vec3(0.3, 6, 4.2), Vec3(-0.12, -0.9, -1), 63, kWidth, kHeight, 0.2);
  check_depth(
      b, camera,
      [](Vec3 o, Vec3 d) {
        const Vec3 n(-0.2, 1, 0.1);
        return -n.dot(o) / n.dot(d);
      },
      0);
}

TEST_CASE("the nearer of two things is seen, whichever was built first") {
  for (bool swap : {false, true}) {
    Builder b(Family::room, 1);
    const int skin = b.plain({0.5, 0.5, 0.5});
    for (int i = 0; i < 2; ++i) b.box(Vec3(0, 0, (i == 0) == swap ? -5 : -9), Vec3(3, 3, 1), skin);
    Renderer renderer(1);
    const Camera camera = camera_at(Vec3(0, 0, 0), Vec3(0, 0, -1), 40, 8, 8);
    CHECK(shoot(renderer, b.finish(), camera, 8, 8).z(4, 4) == doctest::Approx(4).epsilon(1e-6));
  }
}

TEST_CASE("what lies behind the camera is not seen, and nothing is sky") {
  Builder b(Family::room, 1);
  b.box(Vec3(0, 0, 5), Vec3(3, 3, 1), b.plain({0.5, 0.5, 0.5}));
  Renderer renderer(1);
  const Scene scene = b.finish();
  const Shot away = shoot(renderer, scene, camera_at(Vec3(0, 0, 0), Vec3(0, 0, -1), 60, 33, 17), 33, 17);
  CHECK(std::all_of(away.depth.begin(), away.depth.end(), [](float z) { return z == 0; }));
  CHECK(std::all_of(away.sky.begin(), away.sky.end(), [](float s) { return s == 1; }));
  const Shot at = shoot(renderer, scene, camera_at(Vec3(0, 0, 0), Vec3(0, 0, 1), 20, 33, 17), 33, 17);
  CHECK(std::all_of(at.sky.begin(), at.sky.end(), [](float s) { return s == 0; }));
}

TEST_CASE("a scene of nothing is all sky") {
  Builder b(Family::room, 1);
  Renderer renderer(2);
  const Shot shot =
      shoot(renderer, b.finish(), camera_at(Vec3(0, 0, 0), Vec3(0, 0.1, -1), 60, 40, 20), 40, 20);
  CHECK(std::count(shot.sky.begin(), shot.sky.end(), 1.f) == 800);
}

TEST_CASE("every family: depth is finite, 0 exactly where there is sky, and seen alike from a second place") {
  Renderer renderer(2);
  constexpr int w = 160, h = 120;
  for (int f = 0; f < kFamilies; ++f) {
    CAPTURE(family_name(Family(f)));
    const Scene scene = Scene::make(Family(f), 5);
    const CameraPath path = CameraPath::make(scene, PathKind::walk, 5);
    Camera a = path.pose(2), b = path.pose(2.4);
    set_intrinsics(a, 70, w, h);
    set_intrinsics(b, 70, w, h);
    RenderOptions plain;
    plain.antialias = false;
    const Shot first = shoot(renderer, scene, a, w, h, plain),
               second = shoot(renderer, scene, b, w, h, plain);
    int seen = 0, agree = 0, colour = 0;
    for (int y = 0; y < h; ++y) {
      for (int x = 0; x < w; ++x) {
        const float z = first.z(x, y);
        REQUIRE(std::isfinite(z));
        REQUIRE((z == 0) == (first.sky[size_t(y * w + x)] == 1));
        if (z == 0) continue;
        // The point that this pixel sees, in the second camera.
        const Vec3 world = a.centre() + double(z) * pixel_ray(a, x, y);
        const Vec3 q = b.rotation * world + b.translation;
        if (q.z() < 0.1) continue;
        const double u = b.fx * q.x() / q.z() + b.cx, v = b.fy * q.y() / q.z() + b.cy;
        const int px = int(std::floor(u)), py = int(std::floor(v));
        if (px < 1 || py < 1 || px >= w - 1 || py >= h - 1) continue;
        // Around that place some pixel sees a point as far: edges and steep ground move by a pixel.
        double best = 1;
        int near_colour = 255;
        for (int j = -1; j <= 1; ++j) {
          for (int i = -1; i <= 1; ++i) {
            const float other = second.z(px + i, py + j);
            if (other > 0) best = std::min(best, std::abs(other - q.z()) / q.z());
            const size_t p = size_t(y * w + x) * 3, r = size_t((py + j) * w + px + i) * 3;
            const int difference = std::abs(first.rgb[p] - second.rgb[r]) +
                                   std::abs(first.rgb[p + 1] - second.rgb[r + 1]) +
                                   std::abs(first.rgb[p + 2] - second.rgb[r + 2]);
            near_colour = std::min(near_colour, difference);
          }
        }
        ++seen;
        if (best < 0.03) ++agree;
        if (near_colour < 45) ++colour;
      }
    }
    CHECK(seen > w * h / 3);
    // The rest is hidden from the second place.
    CHECK(agree > 0.93 * seen);
    CHECK(colour > 0.9 * seen);
  }
}

TEST_CASE(
    "a wrong pose would be noticed: the second view does not agree when the camera is turned by two "
    "degrees") {
  Renderer renderer(2);
  constexpr int w = 160, h = 120;
  const Scene scene = Scene::make(Family::room, 5);
  const CameraPath path = CameraPath::make(scene, PathKind::walk, 5);
  Camera a = path.pose(2), turned = a;
  set_intrinsics(a, 70, w, h);
  set_intrinsics(turned, 70, w, h);
  turned.rotation = Eigen::AngleAxisd(0.035, Vec3::UnitY()) * a.rotation;
  turned.translation = -turned.rotation * a.centre();
  const Shot first = shoot(renderer, scene, a, w, h), second = shoot(renderer, scene, turned, w, h);
  int differ = 0;
  for (size_t i = 0; i < first.depth.size(); ++i)
    differ += std::abs(first.depth[i] - second.depth[i]) > 0.01f ? 1 : 0;
  CHECK(differ > w * h / 2);
}
