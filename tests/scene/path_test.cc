// SPDX-License-Identifier: MIT
#include "scene/path.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "scene/views.h"
#include "test_support.h"

using namespace da3::scene;
using namespace da3::scene::test;

namespace {

double turn_between(const Camera& a, const Camera& b) {
  // From the sine for small angles: the arc cosine loses half of the digits.
  return 2 * std::asin(std::min(1.0, (a.rotation - b.rotation).norm() / std::sqrt(8.0)));
}

}  // namespace

TEST_CASE("10,000 frames of every path in every family stay clear of everything and move smoothly") {
  for (int f = 0; f < kFamilies; ++f) {
    for (uint64_t seed : {uint64_t(1), uint64_t(20)}) {
      const Scene scene = Scene::make(Family(f), seed);
      for (int k = 0; k < kPaths; ++k) {
        CAPTURE(family_name(Family(f)));
        CAPTURE(path_name(PathKind(k)));
        CAPTURE(seed);
        const CameraPath path = CameraPath::make(scene, PathKind(k), seed);
        double nearest = 10, step = 0, jump = 0, turn = 0, wobble = 0;
        Camera before, last;
        for (int i = 0; i < 10000; ++i) {
          const Camera now = path.pose(i / 30.0);
          nearest = std::min(nearest, scene.clearance(now.centre(), 2));
          if (i > 0) {
            step = std::max(step, (now.centre() - last.centre()).norm());
            turn = std::max(turn, turn_between(now, last));
          }
          if (i > 1) {
            jump = std::max(jump, (now.centre() - 2 * last.centre() + before.centre()).norm());
            const Eigen::Matrix3d a = last.rotation * before.rotation.transpose(),
                                  b = now.rotation * last.rotation.transpose();
            wobble = std::max(wobble, (a - b).norm());
          }
          before = last;
          last = now;
        }
        CHECK(nearest > 0.3);
        CHECK(step * 30 < 7);      // m/s
        CHECK(jump * 900 < 9);     // m/s^2
        CHECK(turn * 30 < 2.2);    // rad/s
        CHECK(wobble * 900 < 30);  // rad/s^2
        if (PathKind(k) == PathKind::still) {
          CHECK(step == 0);
        } else {
          CHECK(step > 1e-3);
        }
      }
    }
  }
}

TEST_CASE("velocity has no jumps between the frames either") {
  const Scene scene = Scene::make(Family::corridor, 3);
  for (int k = 0; k < kPaths; ++k) {
    CAPTURE(path_name(PathKind(k)));
    const CameraPath path = CameraPath::make(scene, PathKind(k), 3);
    constexpr double h = 1e-4;
    double jump = 0;
    for (int i = 1; i < 4000; ++i) {
      const double t = i * 0.013;
      const Vec3 second = path.pose(t + h).centre() - 2 * path.pose(t).centre() + path.pose(t - h).centre();
      jump = std::max(jump, second.norm() / h);
    }
    // Ten m/s^2 over h; a kink would show as metres a second.
    CHECK(jump < 10 * h + 1e-5);
  }
}

TEST_CASE("loop returns to its first pose exactly, and is somewhere else in between") {
  for (int f = 0; f < kFamilies; ++f) {
    CAPTURE(family_name(Family(f)));
    const Scene scene = Scene::make(Family(f), 8);
    const CameraPath path = CameraPath::make(scene, PathKind::loop, 8, 1.7);
    const Camera a = path.pose(0), b = path.pose(path.period()), half = path.pose(path.period() / 2);
    CHECK(a.rotation == b.rotation);
    CHECK(a.translation == b.translation);
    CHECK((half.centre() - a.centre()).norm() > 1);
    // Continuous across the seam.
    const Camera end = path.pose(path.period() * (1 - 1e-9));
    CHECK((end.centre() - a.centre()).norm() < 1e-5);
    CHECK(turn_between(end, a) < 1e-5);
  }
}

TEST_CASE("the speed scales time") {
  const Scene scene = Scene::make(Family::street, 1);
  const CameraPath slow = CameraPath::make(scene, PathKind::forward, 1, 1),
                   fast = CameraPath::make(scene, PathKind::forward, 1, 3);
  CHECK((slow.pose(6).centre() - fast.pose(2).centre()).norm() < 1e-9);
  CHECK((slow.pose(2).centre() - fast.pose(2).centre()).norm() > 1);
}

TEST_CASE("poses are rigid, upright and depend on nothing but the time") {
  const Scene scene = Scene::make(Family::terrain, 1);
  for (int k = 0; k < kPaths; ++k) {
    const CameraPath path = CameraPath::make(scene, PathKind(k), 1);
    const Camera late = path.pose(500);
    path.pose(3);
    CHECK(path.pose(500).rotation == late.rotation);
    CHECK((late.rotation * late.rotation.transpose() - Eigen::Matrix3d::Identity()).norm() < 1e-12);
    CHECK(late.rotation.determinant() == doctest::Approx(1));
    // The camera's y axis points down, so it looks downwards along the world's y.
    CHECK(late.rotation(1, 1) < -0.7);
  }
}

TEST_CASE("look_along has OpenCV's axes") {
  Camera camera;
  look_along(camera, Vec3(1, 2, 3), Vec3(0, 0, -1));
  // A point ahead, to the right (+x) and above.
  const Vec3 q = camera.rotation * Vec3(1.5, 2.25, 1) + camera.translation;
  CHECK((q - Vec3(0.5, -0.25, 2)).norm() < 1e-12);
  CHECK((camera.centre() - Vec3(1, 2, 3)).norm() < 1e-12);
}

TEST_CASE("intrinsics follow the field of view of the longer side") {
  Camera camera;
  set_intrinsics(camera, 90, 640, 360);
  CHECK(camera.fx == doctest::Approx(320));
  CHECK(camera.fy == doctest::Approx(320));
  CHECK(camera.cx == 320);
  CHECK(camera.cy == 180);
  set_intrinsics(camera, 60, 200, 300);
  CHECK(2 * std::atan(150 / camera.fy) * 180 / M_PI == doctest::Approx(60));
}

TEST_CASE("random views are in free space, see something, and differ") {
  for (int f = 0; f < kFamilies; ++f) {
    CAPTURE(family_name(Family(f)));
    const Scene scene = Scene::make(Family(f), 6);
    Rng rng(1), same(1);
    ViewRange range;
    range.fov_low = 50;
    range.fov_high = 80;
    Vec3 last(1e9, 0, 0);
    for (int i = 0; i < 60; ++i) {
      const Camera camera = random_view(scene, rng, range);
      CHECK(random_view(scene, same, range).translation == camera.translation);
      CHECK(scene.clearance(camera.centre(), 1) > 0.15);
      CHECK(view_openness(scene, camera) > 0.3);
      const double fov = 2 * std::atan(0.5 * range.width / camera.fx) * 180 / M_PI;
      CHECK(fov > 49.9);
      CHECK(fov < 80.1);
      CHECK((camera.centre() - last).norm() > 1e-6);
      last = camera.centre();
    }
  }
}

TEST_CASE("sets of views overlap and are not all one") {
  const Scene scene = Scene::make(Family::warehouse, 6);
  Rng rng(4);
  int apart = 0;
  for (int i = 0; i < 40; ++i) {
    const std::vector<Camera> views = random_views(scene, rng, 4);
    REQUIRE(views.size() == 4);
    for (const Camera& v : views) {
      CHECK(v.fx == views[0].fx);
      CHECK(scene.clearance(v.centre(), 1) > 0.15);
      CHECK(v.rotation.row(2).dot(views[0].rotation.row(2)) > 0);
      if ((v.centre() - views[0].centre()).norm() > 0.05) ++apart;
    }
  }
  CHECK(apart > 80);
}

TEST_CASE("clearance is a bound: nothing is nearer than it says") {
  Rng rng(9);
  for (int f = 0; f < kFamilies; ++f) {
    CAPTURE(family_name(Family(f)));
    const Scene scene = Scene::make(Family(f), 2);
    std::vector<Eigen::Vector3f> rays;
    for (int i = 0; i < 400; ++i) {
      const double z = rng.normal(), y = rng.normal(), x = rng.normal();
      rays.push_back(Vec3(x, y, z).normalized().cast<float>());
    }
    const Trail& trail = scene.whereabouts().trail;
    for (int i = 0; i < 20; ++i) {
      const Vec3 p = trail.position(trail.length() * i / 20);
      const double clear = scene.clearance(p, 5);
      CHECK(clear > 0);
      for (float t : scene.cast(p, rays)) CHECK((t == 0 || t > clear - 1e-3));
    }
  }
}

TEST_CASE("clearance inside a solid is not positive") {
  Builder b(Family::room, 1);
  const int skin = b.plain({0.5, 0.5, 0.5});
  b.box(Vec3(0, 0, 0), Vec3(1, 1, 1), skin);
  b.ellipsoid(Vec3(5, 0, 0), Vec3(1, 2, 1), skin);
  b.cylinder(Vec3(10, 0, 0), 1, 1, skin, skin);
  const Scene scene = b.finish();
  for (double x : {0.0, 5.0, 10.0}) CHECK(scene.clearance(Vec3(x, 0.2, 0.1)) < 0);
  CHECK(scene.clearance(Vec3(0, 3, 0)) == doctest::Approx(2));
  CHECK(scene.clearance(Vec3(0, 30, 0), 4) == 4);
}

TEST_CASE("a trail has its period and its arc length") {
  std::vector<Vec3> control;
  for (int i = 0; i < 16; ++i)
    control.emplace_back(4 * std::cos(i * M_PI / 8), 1, 4 * std::sin(i * M_PI / 8));
  const Trail trail(control);
  CHECK((trail.position(0) - trail.position(trail.length())).norm() < 1e-9);
  CHECK((trail.position(-1) - trail.position(trail.length() - 1)).norm() < 1e-9);
  // As long as the curve that its points draw.
  double sum = 0;
  for (int i = 0; i < 2000; ++i)
    sum +=
        (trail.position(trail.length() * (i + 1) / 2000) - trail.position(trail.length() * i / 2000)).norm();
  CHECK(sum == doctest::Approx(trail.length()).epsilon(1e-4));
  const Vec3 p = trail.position(2.5);
  CHECK(trail.distance(p.x(), p.z()) < 2e-3);
  CHECK(trail.distance(0, 0) == doctest::Approx(std::hypot(p.x(), p.z())).epsilon(0.01));
}

TEST_CASE("refuses names and numbers that are no family or path, and lists those that are") {
  CHECK_THROWS_WITH_AS(family_from_name("kitchen"), doctest::Contains("warehouse"), std::invalid_argument);
  CHECK_THROWS_WITH_AS(path_from_name("swim"), doctest::Contains("handheld"), std::invalid_argument);
  CHECK_THROWS_AS(family_name(Family(kFamilies)), std::invalid_argument);
  CHECK_THROWS_AS(Scene::make(Family(-1), 0), std::invalid_argument);
  CHECK_THROWS_AS(path_name(PathKind(kPaths)), std::invalid_argument);
  for (int f = 0; f < kFamilies; ++f) CHECK(family_from_name(family_name(Family(f))) == Family(f));
  for (int k = 0; k < kPaths; ++k) CHECK(path_from_name(path_name(PathKind(k))) == PathKind(k));
}

TEST_CASE("refuses speeds, times, fields of view and sets out of range") {
  const Scene scene = Scene::make(Family::room, 1);
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (double speed : {0.0, -1.0, 101.0, nan})
    CHECK_THROWS_AS(CameraPath::make(scene, PathKind::walk, 0, speed), std::invalid_argument);
  CHECK_THROWS_AS(CameraPath::make(scene, PathKind(99), 0), std::invalid_argument);
  const CameraPath path = CameraPath::make(scene, PathKind::walk, 0);
  for (double t : {-0.1, nan, inf}) CHECK_THROWS_AS(path.pose(t), std::invalid_argument);
  Camera camera;
  for (double fov : {0.0, -5.0, 171.0, nan})
    CHECK_THROWS_AS(set_intrinsics(camera, fov, 64, 48), std::invalid_argument);
  CHECK_THROWS_AS(set_intrinsics(camera, 60, 0, 48), std::invalid_argument);
  CHECK_THROWS_AS(look_along(camera, Vec3(0, 0, 0), Vec3(0, 1, 0)), std::invalid_argument);
  Rng rng(1);
  CHECK_THROWS_AS(random_views(scene, rng, 0), std::invalid_argument);
  ViewRange range;
  range.fov_low = 90;
  range.fov_high = 50;
  CHECK_THROWS_AS(random_view(scene, rng, range), std::invalid_argument);
  range = {};
  range.width = 0;
  CHECK_THROWS_AS(random_view(scene, rng, range), std::invalid_argument);
  CHECK_THROWS_AS(Trail(std::vector<Vec3>(3, Vec3(0, 0, 0))), std::invalid_argument);
  CHECK_THROWS_AS(Trail(std::vector<Vec3>(5, Vec3(1, 2, 3))), std::invalid_argument);
}
