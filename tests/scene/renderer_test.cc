// SPDX-License-Identifier: MIT
#include "scene/renderer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <thread>

#include "scene/kernel.h"
#include "scene/path.h"
#include "scene/pool.h"
#include "test_support.h"

using namespace da3::scene;
using namespace da3::scene::test;

namespace {

Camera view_of(const Scene& scene, int width, int height) {
  Camera camera = CameraPath::make(scene, PathKind::walk, 3).pose(1);
  set_intrinsics(camera, 75, width, height);
  return camera;
}

double mean(const Shot& shot) {
  double sum = 0;
  for (uint8_t v : shot.rgb) sum += v;
  return sum / double(shot.rgb.size());
}

// How much neighbours differ, 0..255: a measure of texture.
double roughness(const Shot& shot) {
  double sum = 0;
  for (size_t i = 3; i < shot.rgb.size(); ++i) sum += std::abs(int(shot.rgb[i]) - int(shot.rgb[i - 3]));
  return sum / double(shot.rgb.size());
}

}  // namespace

TEST_CASE("the number of threads changes no bit") {
  constexpr int w = 131, h = 77;
  for (int f = 0; f < kFamilies; ++f) {
    const Scene scene = Scene::make(Family(f), 2);
    const Camera camera = view_of(scene, w, h);
    RenderOptions options;
    options.noise = 0.5;
    options.frame = 9;
    uint64_t first = 0;
    for (int threads : {1, 2, 3, 7}) {
      Renderer renderer(threads);
      CHECK(renderer.threads() == threads);
      const uint64_t h1 = hash(shoot(renderer, scene, camera, w, h, options));
      if (threads == 1) first = h1;
      CHECK(h1 == first);
      // The same object again: nothing is left over from the picture before.
      CHECK(hash(shoot(renderer, scene, camera, w, h, options)) == first);
    }
  }
}

TEST_CASE("a scene built again is the same; another seed or family is not") {
  Renderer renderer(2);
  for (int f = 0; f < kFamilies; ++f) {
    CAPTURE(family_name(Family(f)));
    const Scene a = Scene::make(Family(f), 11), b = Scene::make(Family(f), 11),
                c = Scene::make(Family(f), 12);
    const Camera camera = view_of(a, 96, 64);
    CHECK(hash(shoot(renderer, a, camera, 96, 64)) == hash(shoot(renderer, b, camera, 96, 64)));
    CHECK(hash(shoot(renderer, a, camera, 96, 64)) != hash(shoot(renderer, c, camera, 96, 64)));
  }
}

TEST_CASE("all instruction sets of this processor give the same bits") {
  constexpr int w = 64, h = 48;
  for (int f = 0; f < kFamilies; ++f) {
    CAPTURE(family_name(Family(f)));
    const Scene scene = Scene::make(Family(f), 4);
    const Camera c = view_of(scene, w, h);
    RayCamera camera;
    const Vec3 eye = c.centre(), x = c.rotation.row(0), y = c.rotation.row(1), z = c.rotation.row(2);
    const Vec3 corner = z - x * (c.cx / c.fx) - y * (c.cy / c.fy);
    for (int k = 0; k < 3; ++k) {
      camera.origin[k] = float(eye[k]);
      camera.corner[k] = float(corner[k]);
      camera.dx[k] = float(x[k] / c.fx);
      camera.dy[k] = float(y[k] / c.fy);
    }
    camera.pixel = float(1 / c.fx);
    std::vector<float> reference;
    for (const Kernel* const* kernel = all_kernels(); *kernel; ++kernel) {
      std::vector<float> planes(4 * w * h);
      std::vector<int32_t> surface(w * h);
      (*kernel)->tile(scene.data(), camera,
                      {w, h, planes.data(), planes.data() + w * h, planes.data() + 2 * w * h,
                       planes.data() + 3 * w * h, surface.data()},
                      0, 0, w, h, 0, 0);
      if (reference.empty()) reference = planes;
      CHECK(std::equal(planes.begin(), planes.end(), reference.begin()));
    }
  }
}

TEST_CASE("pictures are neither flat, black nor white") {
  Renderer renderer(2);
  for (int f = 0; f < kFamilies; ++f) {
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      CAPTURE(family_name(Family(f)));
      CAPTURE(seed);
      const Scene scene = Scene::make(Family(f), seed);
      const Shot shot = shoot(renderer, scene, view_of(scene, 200, 150), 200, 150);
      CHECK(mean(shot) > 35);
      CHECK(mean(shot) < 215);
      CHECK(roughness(shot) > 2.5);
    }
  }
}

TEST_CASE("noise has its own seed and frame, and goes away") {
  Renderer renderer(2);
  const Scene scene = Scene::make(Family::room, 1);
  const Camera camera = view_of(scene, 64, 48);
  RenderOptions options;
  const Shot clean = shoot(renderer, scene, camera, 64, 48, options);
  options.noise = 0.6;
  const Shot noisy = shoot(renderer, scene, camera, 64, 48, options);
  options.frame = 1;
  const Shot next = shoot(renderer, scene, camera, 64, 48, options);
  options.frame = 0;
  options.noise_seed = 1;
  const Shot other = shoot(renderer, scene, camera, 64, 48, options);
  CHECK(noisy.rgb != clean.rgb);
  CHECK(noisy.rgb != next.rgb);
  CHECK(noisy.rgb != other.rgb);
  CHECK(mean(noisy) == doctest::Approx(mean(clean)).epsilon(0.02));
  CHECK(noisy.depth == clean.depth);
}

TEST_CASE("exposure brightens, motion blur smooths, neither touches the depth") {
  Renderer renderer(2);
  const Scene scene = Scene::make(Family::street, 1);
  const CameraPath path = CameraPath::make(scene, PathKind::drive, 1);
  Camera camera = path.pose(2);
  set_intrinsics(camera, 70, 120, 90);
  RenderOptions options;
  options.antialias = false;
  const Shot normal = shoot(renderer, scene, camera, 120, 90, options);
  options.exposure = 1;
  const Shot bright = shoot(renderer, scene, camera, 120, 90, options);
  CHECK(mean(bright) > mean(normal) + 10);
  options.exposure = 0;
  for (int i = 0; i < 8; ++i) options.shutter.push_back(path.pose(2 + (i - 3.5) * 0.04));
  const Shot blurred = shoot(renderer, scene, camera, 120, 90, options);
  CHECK(roughness(blurred) < 0.8 * roughness(normal));
  CHECK(mean(blurred) == doctest::Approx(mean(normal)).epsilon(0.1));
  CHECK(blurred.depth == normal.depth);
  CHECK(bright.depth == normal.depth);
}

TEST_CASE("four bytes a pixel and padded rows: only the pixels are written") {
  Renderer renderer(2);
  const Scene scene = Scene::make(Family::objects, 1);
  const Camera camera = view_of(scene, 37, 21);
  const Shot shot = shoot(renderer, scene, camera, 37, 21);
  constexpr size_t stride = 37 * 4 + 12;
  std::vector<uint8_t> wide(stride * 21, 77);
  renderer.render(scene, camera, 37, 21, {}, {wide.data(), stride, 4, nullptr, nullptr});
  for (size_t y = 0; y < 21; ++y) {
    for (size_t x = 0; x < 37; ++x) {
      for (size_t k = 0; k < 3; ++k) REQUIRE(wide[y * stride + 4 * x + k] == shot.rgb[(y * 37 + x) * 3 + k]);
      REQUIRE(wide[y * stride + 4 * x + 3] == 255);
    }
    for (size_t p = 37 * 4; p < stride; ++p) REQUIRE(wide[y * stride + p] == 77);
  }
}

TEST_CASE("one pixel, one row, one column; depth alone; nothing at all") {
  Renderer renderer(3);
  const Scene scene = Scene::make(Family::forest, 1);
  for (const auto& [w, h] : {std::pair{1, 1}, {1, 50}, {300, 1}, {3, 5}}) {
    const Shot shot = shoot(renderer, scene, view_of(scene, w, h), w, h);
    CHECK(std::all_of(shot.depth.begin(), shot.depth.end(),
                      [](float z) { return z >= 0 && std::isfinite(z); }));
    CHECK(std::all_of(shot.sky.begin(), shot.sky.end(), [](float s) { return s == 0 || s == 1; }));
  }
  std::vector<float> depth(64 * 48, -1);
  const Camera camera = view_of(scene, 64, 48);
  renderer.render(scene, camera, 64, 48, {}, {nullptr, 0, 3, depth.data(), nullptr});
  CHECK(depth == shoot(renderer, scene, camera, 64, 48).depth);
  CHECK_NOTHROW(renderer.render(scene, camera, 64, 48, {}, {}));
}

TEST_CASE("refuses sizes that are no picture") {
  Renderer renderer(1);
  const Scene scene = Scene::make(Family::room, 1);
  const Camera camera = view_of(scene, 8, 8);
  for (const auto& [w, h] : {std::pair{0, 8}, {8, 0}, {-1, 8}, {8, -1}, {kMaxSide + 1, 1}, {1, kMaxSide + 1}})
    CHECK_THROWS_AS(renderer.render(scene, camera, w, h, {}, {}), std::invalid_argument);
}

TEST_CASE("refuses cameras that are none") {
  Renderer renderer(1);
  const Scene scene = Scene::make(Family::room, 1);
  const Camera good = view_of(scene, 8, 8);
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const auto refused = [&](auto change) {
    Camera camera = good;
    change(camera);
    CHECK_THROWS_AS(renderer.render(scene, camera, 8, 8, {}, {}), std::invalid_argument);
    RenderOptions options;
    options.shutter = {good, camera};
    const bool pose =
        camera.fx == good.fx && camera.fy == good.fy && camera.cx == good.cx && camera.cy == good.cy;
    if (pose) CHECK_THROWS_AS(renderer.render(scene, good, 8, 8, options, {}), std::invalid_argument);
  };
  refused([](Camera& c) { c.fx = 0; });
  refused([](Camera& c) { c.fy = -3; });
  refused([&](Camera& c) { c.fx = inf; });
  refused([&](Camera& c) { c.cx = 1 / 0.0; });
  refused([](Camera& c) { c.rotation *= 1.01; });
  refused([](Camera& c) { c.rotation.setZero(); });
  refused([&](Camera& c) { c.rotation(1, 1) = nan; });
  refused([&](Camera& c) { c.translation.x() = nan; });
}

TEST_CASE("refuses options and targets out of range, and says the value") {
  Renderer renderer(1);
  const Scene scene = Scene::make(Family::room, 1);
  const Camera camera = view_of(scene, 8, 8);
  std::vector<uint8_t> rgb(8 * 8 * 4);
  RenderOptions options;
  options.noise = 1.5;
  CHECK_THROWS_WITH_AS(renderer.render(scene, camera, 8, 8, options, {}), doctest::Contains("1.5"),
                       std::invalid_argument);
  options.noise = -0.1;
  CHECK_THROWS_AS(renderer.render(scene, camera, 8, 8, options, {}), std::invalid_argument);
  options.noise = 0;
  options.exposure = 9;
  CHECK_THROWS_AS(renderer.render(scene, camera, 8, 8, options, {}), std::invalid_argument);
  options.exposure = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(renderer.render(scene, camera, 8, 8, options, {}), std::invalid_argument);
  CHECK_THROWS_WITH_AS(renderer.render(scene, camera, 8, 8, {}, {rgb.data(), 23, 3, nullptr, nullptr}),
                       doctest::Contains("23"), std::invalid_argument);
  CHECK_THROWS_AS(renderer.render(scene, camera, 8, 8, {}, {rgb.data(), 32, 2, nullptr, nullptr}),
                  std::invalid_argument);
  // And still works.
  CHECK_NOTHROW(renderer.render(scene, camera, 8, 8, {}, {rgb.data(), 32, 4, nullptr, nullptr}));
}

TEST_CASE("refuses numbers of threads") {
  CHECK_THROWS_AS(Renderer(-1), std::invalid_argument);
  CHECK_THROWS_AS(Renderer(257), std::invalid_argument);
  CHECK(Renderer(0).threads() >= 1);
}

TEST_CASE("the pool does each piece once, and hands an exception on") {
  Pool pool(4);
  for (int round = 0; round < 50; ++round) {
    std::vector<int> done(100, 0);
    pool.run(100, [&](int i) { ++done[size_t(i)]; });
    REQUIRE(std::all_of(done.begin(), done.end(), [](int n) { return n == 1; }));
  }
  CHECK_THROWS_AS(pool.run(10,
                           [](int i) {
                             if (i == 3) throw std::runtime_error("three");
                           }),
                  std::runtime_error);
  int after = 0;
  pool.run(1, [&](int) { ++after; });
  CHECK(after == 1);
  pool.run(0, [&](int) { ++after; });
  CHECK(after == 1);
}
