// SPDX-License-Identifier: MIT
#include "geometry/pose_align.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "test_support.h"

namespace da3::geometry {
namespace {

using Points = std::vector<Eigen::Vector3d>;
using test::distance;
using test::Noise;

Sim3 some_sim() {
  return {test::turn(0.8, {1, -2, 0.5}), Eigen::Vector3d(3, -1, 2), 2.5};
}

Points cloud(Noise& noise, int count) {
  Points points;
  for (int i = 0; i < count; ++i) points.push_back(noise.vector());
  return points;
}

Points moved(const Sim3& sim, const Points& points) {
  Points out;
  for (const auto& p : points) out.push_back(sim * p);
  return out;
}

std::vector<Matrix34> trajectory(Noise& noise, const Points& centres) {
  std::vector<Matrix34> poses;
  for (const auto& c : centres) poses.push_back(test::looking_from(test::some_rotation(noise), c));
  return poses;
}

std::vector<Matrix34> moved(const Sim3& sim, const std::vector<Matrix34>& poses) {
  std::vector<Matrix34> out;
  for (const auto& pose : poses) out.push_back(transform_pose(sim, pose));
  return out;
}

void check_same(const Sim3& found, const Sim3& expected, double tolerance) {
  CHECK(distance(found.rotation, expected.rotation) < tolerance);
  CHECK(distance(found.translation, expected.translation) < tolerance);
  CHECK(std::abs(found.scale - expected.scale) < tolerance);
}

TEST_CASE("umeyama finds the similarity that was applied") {
  Noise noise(1);
  for (const int count : {3, 4, 50}) {
    const Points x = cloud(noise, count);
    const auto sim = umeyama(x, moved(some_sim(), x));
    REQUIRE(sim);
    check_same(*sim, some_sim(), 1e-12);
  }
}

TEST_CASE("umeyama does not care about the unit of length") {
  Noise noise(2);
  for (const double unit : {1e-9, 1e9}) {
    Points x = cloud(noise, 6), y = moved(some_sim(), x);
    for (auto& p : x) p *= unit;
    const auto sim = umeyama(x, y);
    REQUIRE(sim);
    CHECK(sim->scale == doctest::Approx(2.5 / unit));
    CHECK(distance(sim->rotation, some_sim().rotation) < 1e-9);
  }
}

TEST_CASE("umeyama turns a mirrored cloud as well as it can and never mirrors") {
  Noise noise(3);
  const Points x = cloud(noise, 20);
  Points y = x;
  for (auto& p : y) p[2] *= -0.5;
  const auto sim = umeyama(x, y);
  REQUIRE(sim);
  CHECK(sim->rotation.determinant() == doctest::Approx(1));
  CHECK(sim->scale > 0);
  CHECK(sim->scale < 1);
}

TEST_CASE("umeyama minimises the squared error") {
  Noise noise(4);
  const Points x = cloud(noise, 15);
  Points y = moved(some_sim(), x);
  for (auto& p : y) p += 0.1 * noise.vector();
  const auto cost = [&](const Sim3& sim) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += (sim * x[i] - y[i]).squaredNorm();
    return sum;
  };
  const Sim3 best = umeyama(x, y).value();
  for (int i = 0; i < 50; ++i) {
    Sim3 other = best;
    other.rotation = best.rotation * test::turn(0.01 * noise(), noise.vector());
    other.scale += 0.01 * noise();
    other.translation += 0.01 * noise.vector();
    CHECK(cost(other) > cost(best));
  }
}

TEST_CASE("umeyama refuses too few points, lines, single places and numbers that are none") {
  Noise noise(5);
  const Points two = cloud(noise, 2);
  CHECK_FALSE(umeyama(two, two));
  CHECK_FALSE(umeyama({}, {}));

  Points line;
  for (int i = 0; i < 6; ++i) line.push_back(Eigen::Vector3d(1, 2, 3) * i + Eigen::Vector3d(0.1, 0.2, 0.3));
  const Points spread = cloud(noise, 6);
  CHECK_FALSE(umeyama(line, spread));
  CHECK_FALSE(umeyama(spread, line));
  CHECK_FALSE(umeyama(spread, Points(6, Eigen::Vector3d(1, 1, 1))));
  CHECK_FALSE(umeyama(Points(6, Eigen::Vector3d(1, 1, 1)), spread));

  Points broken = spread;
  broken[2][1] = std::numeric_limits<double>::quiet_NaN();
  CHECK_FALSE(umeyama(broken, spread));
  broken[2][1] = std::numeric_limits<double>::infinity();
  CHECK_FALSE(umeyama(spread, broken));
}

TEST_CASE("umeyama takes points on a plane but not those that leave a line by less than the tolerance") {
  Noise noise(6);
  Points plane = cloud(noise, 8);
  for (auto& p : plane) p[2] = 0;
  const auto sim = umeyama(plane, moved(some_sim(), plane));
  REQUIRE(sim);
  check_same(*sim, some_sim(), 1e-12);
  for (auto& p : plane) p[1] *= 1e-4;
  CHECK(umeyama(plane, plane));
  CHECK_FALSE(umeyama(plane, plane, 1e-6));
}

TEST_CASE("different counts are an error") {
  Noise noise(7);
  CHECK_THROWS_AS(umeyama(cloud(noise, 3), cloud(noise, 4)), std::invalid_argument);
  const auto poses = trajectory(noise, cloud(noise, 3));
  CHECK_THROWS_AS(align_trajectories(poses, {}), std::invalid_argument);
  CHECK_THROWS_AS(align_trajectories({}, {}), std::invalid_argument);
}

TEST_CASE("poses that are not finite are an error that names the pose") {
  Noise noise(8);
  const auto poses = trajectory(noise, cloud(noise, 3));
  auto broken = poses;
  broken[1](0, 3) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH_AS(align_trajectories(poses, broken), "cannot align poses: pose 1 is not finite",
                       std::invalid_argument);
  CHECK_THROWS_AS(align_trajectories(broken, poses), std::invalid_argument);
}

TEST_CASE("a moved pose sees the moved world like the pose saw the world, larger by the scale") {
  Noise noise(9);
  const Sim3 sim = some_sim();
  const Matrix34 pose = test::looking_from(test::some_rotation(noise), {1, 2, 3});
  const Matrix34 after = transform_pose(sim, pose);
  const Eigen::Vector3d point(0.3, -4, 2);
  const Eigen::Vector3d seen = pose.leftCols<3>() * point + pose.col(3);
  const Eigen::Vector3d seen_after = after.leftCols<3>() * (sim * point) + after.col(3);
  CHECK(distance(seen_after, sim.scale * seen) < 1e-13);
  CHECK(distance(camera_centre(after), sim * camera_centre(pose)) < 1e-13);
}

TEST_CASE("aligned trajectories coincide, whatever the number of views") {
  Noise noise(10);
  for (const int count : {1, 2, 3, 5, 9, 10, 11, 30}) {
    CAPTURE(count);
    const auto estimate = trajectory(noise, cloud(noise, count));
    const auto reference = moved(some_sim(), estimate);
    Sim3 sim = align_trajectories(estimate, reference);
    if (count == 1) {
      CHECK(sim.scale == 1);
      CHECK(distance(sim * camera_centre(estimate[0]), camera_centre(reference[0])) < 1e-12);
      CHECK(distance(sim.rotation, some_sim().rotation) < 1e-12);
      continue;
    }
    check_same(sim, some_sim(), 1e-11);
    for (int i = 0; i < count; ++i) CHECK(distance(transform_pose(sim, estimate[i]), reference[i]) < 1e-11);
  }
}

TEST_CASE("views on a line are turned by their orientations") {
  Noise noise(11);
  for (const int count : {2, 3, 7, 12}) {
    CAPTURE(count);
    Points line;
    for (int i = 0; i < count; ++i) line.push_back(Eigen::Vector3d(0.3, -1, 0.2) * i);
    const auto estimate = trajectory(noise, line);
    check_same(align_trajectories(estimate, moved(some_sim(), estimate)), some_sim(), 1e-11);
  }
}

TEST_CASE("rounding across a line does not decide the turn about it") {
  Noise noise(12);
  Points line;
  for (int i = 0; i < 6; ++i) line.push_back(Eigen::Vector3d(i, 0, 0) + 2e-7 * noise.vector());
  const auto estimate = trajectory(noise, line);
  auto reference = moved(some_sim(), estimate);
  // A wobble on the other side, as predicted poses have it: an honest fit of the centres alone follows it.
  for (auto& pose : reference)
    pose = test::looking_from(pose.leftCols<3>(), camera_centre(pose) + 0.01 * noise.vector());
  const Sim3 sim = align_trajectories(estimate, reference);
  CHECK(distance(sim.rotation, some_sim().rotation) < 1e-6);
  CHECK(sim.scale == doctest::Approx(2.5).epsilon(0.01));
}

TEST_CASE("cameras that do not move leave the scale alone") {
  Noise noise(13);
  const auto still = trajectory(noise, Points(4, Eigen::Vector3d(1, 2, 3)));
  const auto moving = trajectory(noise, cloud(noise, 4));
  CHECK(align_trajectories(still, moving).scale == 1);
  CHECK(align_trajectories(moving, still).scale == 1);
  CHECK(align_trajectories(moving, still).rotation.determinant() == doctest::Approx(1));
}

TEST_CASE("cameras that do not move but for the rounding of float leave the scale alone") {
  Noise noise(17);
  Points centres;
  for (int i = 0; i < 12; ++i) centres.push_back(Eigen::Vector3d(100, 200, 300) + 2e-5 * noise.vector());
  const auto still = trajectory(noise, centres);
  const auto moving = trajectory(noise, cloud(noise, 12));
  CHECK(align_trajectories(still, moving).scale == 1);
  CHECK(align_trajectories(moving, still).scale == 1);
  // Small steps close to the origin are no rounding.
  for (auto& c : centres) c = 2e-5 * noise.vector();
  const auto tiny = trajectory(noise, centres);
  check_same(align_trajectories(tiny, moved(some_sim(), tiny)), some_sim(), 1e-9);
}

TEST_CASE("opposite orientations still give a rotation") {
  Noise noise(14);
  const auto estimate = trajectory(noise, {{0, 0, 0}, {1, 0, 0}});
  auto reference = estimate;
  reference[1].leftCols<3>() = reference[1].leftCols<3>() * test::turn(M_PI, {0, 1, 0});
  const Sim3 sim = align_trajectories(estimate, reference);
  CHECK(sim.rotation.allFinite());
  CHECK(distance(sim.rotation * sim.rotation.transpose(), Matrix3::Identity()) < 1e-12);
  CHECK(sim.rotation.determinant() == doctest::Approx(1));
}

TEST_CASE("from ten views on a stray pose does not count; below it does") {
  for (const int count : {20, 9}) {
    Noise noise(15);
    const auto estimate = trajectory(noise, cloud(noise, count));
    auto reference = moved(some_sim(), estimate);
    for (auto& pose : reference) {
      pose = test::looking_from(pose.leftCols<3>(), camera_centre(pose) + 1e-4 * noise.vector());
    }
    reference[4] = test::looking_from(reference[4].leftCols<3>(), {40, -30, 20});
    const double error = std::abs(align_trajectories(estimate, reference).scale - some_sim().scale);
    CAPTURE(count);
    if (count == 20) {
      CHECK(error < 1e-3);
    } else {
      CHECK(error > 0.1);
    }
  }
}

TEST_CASE("the same poses give the same alignment to the last bit") {
  Noise noise(16);
  const auto estimate = trajectory(noise, cloud(noise, 25));
  const auto reference = trajectory(noise, cloud(noise, 25));
  const Sim3 a = align_trajectories(estimate, reference), b = align_trajectories(estimate, reference);
  CHECK(a.rotation == b.rotation);
  CHECK(a.translation == b.translation);
  CHECK(a.scale == b.scale);
}

}  // namespace
}  // namespace da3::geometry
