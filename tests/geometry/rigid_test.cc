// SPDX-License-Identifier: MIT
#include "geometry/rigid.h"

#include <doctest/doctest.h>

#include <cmath>

#include "test_support.h"

namespace da3::geometry {
namespace {

using test::distance;
using test::Noise;

Matrix34 identity() {
  return Matrix34::Identity();
}

PoseEncoding sample_encoding() {
  PoseEncoding encoding;
  encoding << 0.1, -0.2, 0.3, 0.1, 0.2, -0.3, 0.8, 1.0, 1.2;
  return encoding;
}

TEST_CASE("a pose times its inverse is the identity on both sides") {
  Noise noise(1);
  for (int i = 0; i < 20; ++i) {
    const Matrix34 pose = test::make_pose(test::some_rotation(noise), 5 * noise.vector());
    CHECK(distance(compose(pose, invert(pose)), identity()) < 1e-14);
    CHECK(distance(compose(invert(pose), pose), identity()) < 1e-14);
  }
}

TEST_CASE("compose applies the right pose first") {
  const Matrix34 move = test::make_pose(Matrix3::Identity(), {1, 0, 0});
  const Matrix34 quarter = test::make_pose(test::turn(M_PI / 2, {0, 0, 1}), {0, 0, 0});
  CHECK(distance(compose(quarter, move).col(3), Eigen::Vector3d(0, 1, 0)) < 1e-15);
  CHECK(distance(compose(move, quarter).col(3), Eigen::Vector3d(1, 0, 0)) < 1e-15);
}

TEST_CASE("the camera centre is the point that the camera sees at its origin") {
  Noise noise(2);
  const Eigen::Vector3d centre(1, -2, 3);
  const Matrix34 pose = test::looking_from(test::some_rotation(noise), centre);
  CHECK(distance(camera_centre(pose), centre) < 1e-14);
  CHECK(distance(camera_centre(pose), Eigen::Vector3d(pose.col(3))) > 1);
}

TEST_CASE("pose encoding: published example") {
  const PinholeCamera camera = decode_pose(sample_encoding(), 504, 378);
  Matrix34 expected;
  expected << 0.6666667, 0.6666666, 0.3333333, 0.1, -0.5641025, 0.7435898, -0.3589743, -0.2, -0.4871795,
      0.0512821, 0.8717949, 0.3;
  CHECK(distance(camera.camera_to_world, expected) < 2e-7);
  CHECK(distance(invert(camera.camera_to_world).col(3), Eigen::Vector3d(-0.0333333, 0.0666667, -0.3666667)) <
        2e-7);
  CHECK(camera.intrinsics(0, 0) == doctest::Approx(368.3473511).epsilon(1e-7));
  CHECK(camera.intrinsics(1, 1) == doctest::Approx(345.9621887).epsilon(1e-7));
  CHECK(camera.intrinsics(0, 2) == 252);
  CHECK(camera.intrinsics(1, 2) == 189);
  CHECK(camera.intrinsics(0, 1) == 0);
  CHECK(camera.intrinsics(2, 2) == 1);

  const PoseEncoding back = encode_pose(camera, 504, 378);
  PoseEncoding unit;
  unit << 0.1, -0.2, 0.3, 0.1132277, 0.2264554, -0.3396831, 0.9058216, 1.0, 1.2;
  CHECK(distance(back, unit) < 1e-7);
}

TEST_CASE("a field of view of zero or past a half turn leaves the focal length positive and finite") {
  PoseEncoding encoding = sample_encoding();
  for (const double fov : {0.0, -1.0, 4.0}) {
    encoding[7] = encoding[8] = fov;
    const PinholeCamera camera = decode_pose(encoding, 504, 378);
    CHECK(camera.intrinsics(0, 0) == doctest::Approx(252e6));
    CHECK(camera.intrinsics(1, 1) == doctest::Approx(189e6));
  }
}

TEST_CASE("quaternions survive every branch of the conversion") {
  // Each real and imaginary part in turn the largest, half turns about the axes included.
  const Eigen::Vector4d cases[] = {{0, 0, 0, 1},           {1, 0, 0, 0},          {0, 1, 0, 0},
                                   {0, 0, 1, 0},           {0.9, 0.1, -0.2, 0.1}, {-0.1, 0.9, 0.2, 0.1},
                                   {0.3, -0.2, 0.9, 0.05}, {0.5, 0.5, 0.5, 0.5},  {0.1, -0.2, 0.3, 0.9}};
  for (const Eigen::Vector4d& q : cases) {
    const Matrix3 rotation = rotation_from_quaternion(q);
    CHECK(distance(rotation * rotation.transpose(), Matrix3::Identity()) < 1e-15);
    CHECK(rotation.determinant() == doctest::Approx(1));
    CHECK(distance(quaternion_from_rotation(rotation), q.normalized()) < 1e-15);
  }
}

TEST_CASE("rotations agree with Eigen's and come back with a non-negative real part") {
  Noise noise(3);
  for (int i = 0; i < 200; ++i) {
    const Eigen::Vector4d q(noise(), noise(), noise(), noise());
    const Matrix3 rotation = rotation_from_quaternion(q);
    CHECK(distance(rotation, Matrix3(Eigen::Quaterniond(q).normalized().toRotationMatrix())) < 1e-14);
    const Eigen::Vector4d back = quaternion_from_rotation(rotation);
    CHECK(back[3] >= 0);
    CHECK(std::min(distance(back, q.normalized()), distance(back, -q.normalized())) < 1e-14);
  }
}

TEST_CASE("the length and the sign of a quaternion do not matter, the order of its parts does") {
  const Eigen::Vector4d q(0.1, 0.2, -0.3, 0.8);
  const Matrix3 rotation = rotation_from_quaternion(q);
  CHECK(distance(rotation, rotation_from_quaternion(-7 * q)) < 1e-15);
  CHECK(distance(rotation, rotation_from_quaternion(1e-8 * q)) < 1e-15);
  CHECK(distance(rotation, rotation_from_quaternion({q[3], q[0], q[1], q[2]})) > 0.1);
}

TEST_CASE("the zero quaternion and a quaternion that is no number give the identity") {
  CHECK(rotation_from_quaternion(Eigen::Vector4d::Zero()) == Matrix3::Identity());
  CHECK(rotation_from_quaternion(Eigen::Vector4d::Constant(NAN)) == Matrix3::Identity());
}

TEST_CASE("a matrix of zeros still gives finite numbers") {
  CHECK(quaternion_from_rotation(Matrix3::Zero()).allFinite());
}

std::vector<Matrix34> shifted(std::initializer_list<double> xs) {
  std::vector<Matrix34> poses;
  for (const double x : xs) poses.push_back(test::make_pose(Matrix3::Identity(), {x, 0, 0}));
  return poses;
}

TEST_CASE("pose normalisation: the lower median counts the zero of the first view") {
  const auto normalised = normalise_extrinsics(shifted({1, 2, 4, 8}));
  REQUIRE(normalised.size() == 4);
  const double expected[] = {0, 1, 3, 7};
  for (int i = 0; i < 4; ++i) CHECK(normalised[i](0, 3) == doctest::Approx(expected[i]));
  // Five views: the middle one of 0, 1, 3, 7, 2.
  CHECK(normalise_extrinsics(shifted({1, 2, 4, 8, 3}))[3](0, 3) == doctest::Approx(3.5));
}

TEST_CASE("pose normalisation: two views are always divided by the smallest scale") {
  CHECK(normalise_extrinsics(shifted({0, 50}))[1](0, 3) == doctest::Approx(500));
}

TEST_CASE("pose normalisation: a trajectory without extent is not blown up further") {
  const auto normalised = normalise_extrinsics(shifted({5, 5, 5.01}));
  CHECK(normalised[0](0, 3) == doctest::Approx(0));
  CHECK(normalised[2](0, 3) == doctest::Approx(0.1));
}

TEST_CASE("pose normalisation: no view, one view") {
  CHECK(normalise_extrinsics({}).empty());
  Noise noise(4);
  const auto one = normalise_extrinsics({test::make_pose(test::some_rotation(noise), {3, 4, 5})});
  REQUIRE(one.size() == 1);
  CHECK(distance(one[0], identity()) < 1e-14);
}

TEST_CASE("pose normalisation keeps what the cameras see of each other up to the scale") {
  Noise noise(5);
  std::vector<Matrix34> poses;
  for (int i = 0; i < 5; ++i)
    poses.push_back(test::make_pose(test::some_rotation(noise), 9 * noise.vector()));
  const auto normalised = normalise_extrinsics(poses);
  const Matrix34 before = compose(poses[3], invert(poses[2]));
  const Matrix34 after = compose(normalised[3], invert(normalised[2]));
  CHECK(distance(before.leftCols<3>(), after.leftCols<3>()) < 1e-14);
  CHECK(before.col(3).normalized().dot(after.col(3).normalized()) == doctest::Approx(1));
}

}  // namespace
}  // namespace da3::geometry
