// SPDX-License-Identifier: MIT
#include "geometry/sh_rotation.h"

#include <doctest/doctest.h>

#include "test_support.h"

namespace da3::geometry {
namespace {

using test::distance;
using test::Noise;
using Vector9 = Eigen::Matrix<double, 9, 1>;

// Written out apart from the implementation, which works on matrices of quadratic forms.
Vector9 basis(const Eigen::Vector3d& d) {
  const double x = d[0], y = d[1], z = d[2];
  const double k0 = 0.31539157, k1 = 1.09254843, k2 = 0.54627422, degree1 = 0.48860251;
  Vector9 b;
  b << 0.28209479, -degree1 * y, degree1 * z, -degree1 * x, k1 * x * y, -k1 * y * z,
      k0 * (2 * z * z - x * x - y * y), -k1 * x * z, k2 * (x * x - y * y);
  return b;
}

Vector9 some_colour(Noise& noise) {
  Vector9 c;
  for (int i = 0; i < 9; ++i) c[i] = noise();
  return c;
}

TEST_CASE("rotated coefficients give the same colour in the rotated direction") {
  Noise noise(1);
  for (int i = 0; i < 50; ++i) {
    const Matrix3 rotation = test::some_rotation(noise);
    const Vector9 colour = some_colour(noise);
    const Vector9 rotated = sh_rotation(rotation) * colour;
    const Eigen::Vector3d d = noise.vector().normalized();
    CHECK(rotated.dot(basis(rotation * d)) == doctest::Approx(colour.dot(basis(d))).epsilon(1e-7));
  }
}

TEST_CASE("the inverse rotation does not give the same colour") {
  Noise noise(2);
  const Matrix3 rotation = test::turn(0.7, {1, 2, 3});
  const Vector9 colour = some_colour(noise);
  const Vector9 wrong = sh_rotation(rotation.transpose()) * colour;
  const Eigen::Vector3d d(0.6, 0, 0.8);
  CHECK(std::abs(wrong.dot(basis(rotation * d)) - colour.dot(basis(d))) > 1e-2);
}

TEST_CASE("no turn changes nothing, two turns are their product, the result is orthogonal") {
  Noise noise(3);
  const auto identity = Eigen::Matrix<double, 9, 9>::Identity();
  CHECK(distance(sh_rotation(Matrix3::Identity()), identity) < 1e-14);
  const Matrix3 a = test::some_rotation(noise), b = test::some_rotation(noise);
  CHECK(distance(sh_rotation(a) * sh_rotation(b), sh_rotation(a * b)) < 1e-14);
  CHECK(distance(sh_rotation(a) * sh_rotation(a).transpose(), identity) < 1e-14);
}

TEST_CASE("degrees do not mix and the constant part stays") {
  Noise noise(4);
  const auto d = sh_rotation(test::some_rotation(noise));
  CHECK(d(0, 0) == 1);
  for (int i = 0; i < 9; ++i) {
    for (int j = 0; j < 9; ++j) {
      const int degree_i = i == 0 ? 0 : i < 4 ? 1 : 2, degree_j = j == 0 ? 0 : j < 4 ? 1 : 2;
      if (degree_i != degree_j) CHECK(d(i, j) == 0);
    }
  }
}

TEST_CASE("published example of a rotated colour") {
  const Matrix3 rotation = rotation_from_quaternion({0.1, 0.2, -0.3, 0.8});
  Vector9 colour;
  for (int i = 0; i < 9; ++i) colour[i] = 0.01 * (10 + i) * (i == 0 ? 1 : i < 4 ? 0.025 : 0.00625);
  Vector9 expected;
  expected << 0.1, 0.0012885, 0.0040577, 0.0030000, -0.0006373, 0.0008718, 0.0015399, 0.0011607, 0.0003930;
  CHECK(distance(sh_rotation(rotation) * colour, expected) < 1e-7);
}

}  // namespace
}  // namespace da3::geometry
