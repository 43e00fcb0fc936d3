// SPDX-License-Identifier: MIT
//
// The order of draws is part of what a seed means: a scene must not depend on the compiler, nor change under
// those who trained on it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "scene/path.h"
#include "scene/scene_data.h"
#include "scene/views.h"
#include "test_support.h"

using namespace da3::scene;
using namespace da3::scene::test;

namespace {

class Fingerprint {
 public:
  void integer(int64_t value) {
    for (int i = 0; i < 8; ++i) hash_ = (hash_ ^ ((uint64_t(value) >> (8 * i)) & 0xff)) * 1099511628211ull;
  }
  // To about a millimetre, so that the last bits, which differ with contraction and the mathematical library,
  // do not matter. The offset keeps round numbers off the borders between two steps.
  void number(double value) { integer(int64_t(std::floor(value * 1024 + 0.3217))); }
  void triple(const float* values) {
    for (int k = 0; k < 3; ++k) number(values[k]);
  }
  void camera(const Camera& c) {
    for (int k = 0; k < 9; ++k) number(c.rotation(k / 3, k % 3));
    for (int k = 0; k < 3; ++k) number(c.translation[k]);
    for (const double value : {c.fx, c.fy, c.cx, c.cy}) number(value);
  }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 1469598103934665603ull;
};

void add_shapes(Fingerprint& print, const Scene& scene) {
  for (int i = 0; i < scene.primitive_count(); ++i) {
    const Primitive& p = scene.data().primitives[i];
    print.integer(int64_t(p.shape));
    for (const int material : {p.side, p.top, p.bottom}) print.integer(material);
    print.integer(p.seed);
    if (p.shape == Shape::cell) {
      print.number(p.inverse[3]);
      continue;
    }
    // Times the half side it is a rotation and a place in metres.
    for (int row = 0; row < 3; ++row) {
      print.number(p.half[row]);
      for (int k = 0; k < 4; ++k) print.number(double(p.inverse[4 * row + k]) * p.half[row]);
    }
  }
}

void add_materials(Fingerprint& print, const Scene& scene) {
  int last = 0;
  for (int i = 0; i < scene.primitive_count(); ++i) {
    const Primitive& p = scene.data().primitives[i];
    last = std::max({last, p.side, p.top, p.bottom});
  }
  for (int i = 0; i <= last; ++i) {
    const Material& m = scene.data().materials[i];
    print.integer(int64_t(m.pattern));
    print.integer(m.seed);
    for (const float* colour : {m.a, m.b, m.c}) print.triple(colour);
    print.number(m.scale);
    print.number(m.amount);
  }
}

void add_light(Fingerprint& print, const Scene& scene) {
  const Light& l = scene.data().light;
  for (const float* values : {l.sun_direction, l.sun, l.ambient_up, l.ambient_down, l.zenith, l.horizon})
    print.triple(values);
  print.number(l.cloud);
  print.number(l.haze * 100);
  print.integer(l.cloud_seed);
  for (int i = 0; i < l.points; ++i) {
    print.triple(l.point[i].position);
    print.triple(l.point[i].colour);
    print.number(l.point[i].range);
  }
}

void add_cameras(Fingerprint& print, const Scene& scene) {
  for (int k = 0; k < kPaths; ++k) {
    const CameraPath path = CameraPath::make(scene, PathKind(k), scene.seed());
    for (const double seconds : {0.0, 1.7}) print.camera(path.pose(seconds));
  }
  Rng rng(scene.seed());
  for (const Camera& c : random_views(scene, rng, 4)) print.camera(c);
}

struct Expected {
  Family family;
  int primitives;
  uint64_t shapes, materials, light, cameras;
};
// Who changes one of these changes what every seed shows, and with it the data of training and its scores.
constexpr Expected kExpected[] = {
    {Family::room, 981, 0x9ceff8f15a99d85eull, 0x084496860beac1ceull, 0x3fcc5658d1cc40e4ull,
     0x206c1eeac25a3d64ull},
    {Family::corridor, 1766, 0x7eddcfc821d6953eull, 0xb2a51fdb996a3a02ull, 0x2a7f6ff5233adbe0ull,
     0x04df648fb5af72ffull},
    {Family::street, 6401, 0x6872075816de3c5cull, 0x879c0ac09d9c088eull, 0x59e1fea396c5b41cull,
     0x0a5f3ffa510659d8ull},
    {Family::terrain, 104259, 0xd65940d3361bb78cull, 0x39ff96cf0d95d5d4ull, 0xfc4b7e1a007e7a9cull,
     0xdec2507022195efbull},
    {Family::objects, 824, 0x0d164272c03c6880ull, 0xd689a074a14cc54cull, 0x13e22401b28c7f9dull,
     0x177f56ce7489706full},
    {Family::warehouse, 2719, 0x624c42a3188cb4ddull, 0xdfe98ca1f08ef394ull, 0x8ceb94d0dd518924ull,
     0x44a36cc9260602c9ull},
    {Family::forest, 65893, 0x208a5c548df681d1ull, 0x0c300f17ab4caa8full, 0x8acdc2763b86a710ull,
     0x609a4da02478c3c8ull},
    {Family::ruins, 2504, 0x69f2a48fe9f1d532ull, 0xd181f18327d73e73ull, 0xd383de49679ead1bull,
     0xda1ea09bd321dd87ull},
};

}  // namespace

TEST_CASE("every family is what it was for the same seeds") {
  for (const Expected& expected : kExpected) {
    CAPTURE(std::string(family_name(expected.family)));
    int primitives = 0;
    Fingerprint shapes, materials, light, cameras;
    for (const uint64_t seed : {1, 2, 3, 4}) {
      const Scene scene = Scene::make(expected.family, seed);
      primitives += scene.primitive_count();
      add_shapes(shapes, scene);
      add_materials(materials, scene);
      add_light(light, scene);
      add_cameras(cameras, scene);
    }
    CHECK(primitives == expected.primitives);
    CHECK(shapes.value() == expected.shapes);
    CHECK(materials.value() == expected.materials);
    CHECK(light.value() == expected.light);
    CHECK(cameras.value() == expected.cameras);
  }
}

TEST_CASE("all families are among those that are compared") {
  bool there[kFamilies] = {};
  for (const Expected& expected : kExpected) there[int(expected.family)] = true;
  for (const bool one : there) CHECK(one);
}

TEST_CASE("another order of draws is another fingerprint") {
  const auto print = [](bool swapped) {
    Builder b(Family::room, 1);
    const int skin = b.plain({0.5, 0.5, 0.5});
    double first = b.rng.uniform(1, 2), second = b.rng.uniform(1, 2);
    if (swapped) std::swap(first, second);
    b.box(Vec3(0, 0, 0), Vec3(first, second, 1), skin);
    Fingerprint shapes;
    add_shapes(shapes, b.finish());
    return shapes.value();
  };
  CHECK(print(false) == print(false));
  CHECK(print(false) != print(true));
}

TEST_CASE("last bits do not change a fingerprint, a few millimetres do") {
  const auto print = [](double value) {
    Fingerprint f;
    f.number(value);
    return f.value();
  };
  for (const double value : {0.0, 0.5, 1.0, 0.0175, -0.35, 12.0005, 1 / 1024.0}) {
    CAPTURE(value);
    CHECK(print(value) == print(value + 1e-7));
    CHECK(print(value) == print(value - 1e-7));
    CHECK(print(value) != print(value + 3e-3));
  }
}

TEST_CASE("colours, vectors and the sun draw their last component first") {
  Builder b(Family::room, 7);
  Rng same = b.rng;

  const Colour colour = b.any_colour({0.1, 0.2}, {0.3, 0.5}, {0.6, 0.9}, 0.5);
  const double value = same.uniform(0.6, 0.9), saturation = same.uniform(0.3, 0.5),
               hue = same.uniform(0.1, 0.2);
  CHECK(colour.g == hsv(0.5 + hue, saturation, value).g);
  CHECK(colour.b != hsv(hue, saturation, value).b);

  const Colour fixed = b.any_colour(0.4, {0.3, 0.5}, {0.6, 0.9});
  const double value2 = same.uniform(0.6, 0.9), saturation2 = same.uniform(0.3, 0.5);
  CHECK(fixed.r == hsv(0.4, saturation2, value2).r);

  const Vec3 vector = b.any_vector({0, 1}, {10, 11}, {20, 21});
  CHECK(vector.z() == same.uniform(20, 21));
  CHECK(vector.y() == same.uniform(10, 11));
  CHECK(vector.x() == same.uniform(0, 1));

  const Vec3 level = b.any_vector({0, 1}, 5, {20, 21});
  CHECK(level.z() == same.uniform(20, 21));
  CHECK(level.y() == 5);
  CHECK(level.x() == same.uniform(0, 1));

  b.any_sun({10, 20}, {2, 3}, {0.5, 0.6});
  same.uniform();  // warmth
  CHECK(b.light().sun[0] == float(same.uniform(2, 3)));
  same.uniform();  // azimuth
  CHECK(b.light().sun_direction[1] == float(std::sin(same.uniform(10, 20) * M_PI / 180)));
  CHECK(b.rng.next() == same.next());
}
