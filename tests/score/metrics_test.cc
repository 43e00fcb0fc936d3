// SPDX-License-Identifier: MIT
#include "score/metrics.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <stdexcept>

#include "geometry/pose_align.h"

namespace da3::score {
namespace {

using doctest::Approx;
using geometry::Matrix3;
using geometry::Matrix34;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr double kDegree = std::numbers::pi / 180;

std::optional<DepthScore> depth_of(const std::vector<float>& prediction, const std::vector<float>& truth,
                                   bool align = false) {
  REQUIRE(prediction.size() == truth.size());
  return score_depth(prediction.data(), truth.data(), truth.size(), align);
}

Matrix3 turn(double degrees, const Eigen::Vector3d& axis) {
  return Eigen::AngleAxisd(degrees * kDegree, axis.normalized()).toRotationMatrix();
}

// World to camera of a camera at `centre`.
Matrix34 camera(const Matrix3& rotation, const Eigen::Vector3d& centre) {
  Matrix34 pose;
  pose << rotation, -(rotation * centre);
  return pose;
}

Matrix34 at(double x, double y, double z) {
  return camera(Matrix3::Identity(), {x, y, z});
}

std::vector<Matrix34> helix(int count) {
  std::vector<Matrix34> poses;
  for (int i = 0; i < count; ++i) {
    const double a = 0.3 * i;
    poses.push_back(camera(turn(20 * a, {0.2, 1, -0.3}), {std::cos(a), 0.1 * i, std::sin(a)}));
  }
  return poses;
}

std::vector<Matrix34> moved(const std::vector<Matrix34>& poses, double scale) {
  geometry::Sim3 sim;
  sim.rotation = turn(70, {1, 2, -1});
  sim.translation = {4, -3, 2};
  sim.scale = scale;
  std::vector<Matrix34> out;
  for (const auto& pose : poses) out.push_back(geometry::transform_pose(sim, pose));
  return out;
}

Lens lens(double fx, double fy, double cx, double cy, double width, double height) {
  Lens made;
  made.intrinsics << fx, 0, cx, 0, fy, cy, 0, 0, 1;
  made.width = width;
  made.height = height;
  return made;
}

Lens centred(double degrees, double width, double height) {
  const double focal = width / 2 / std::tan(degrees * kDegree / 2);
  return lens(focal, focal, width / 2, height / 2, width, height);
}

// ---- depth

TEST_CASE("perfect depth has no error, up to scale when aligned") {
  const auto same = depth_of({1, 2, 4}, {1, 2, 4});
  REQUIRE(same);
  CHECK(same->abs_rel == 0);
  CHECK(same->delta1 == 1);
  CHECK(same->scale == 1);
  CHECK(same->pixels == 3);
  const auto scaled = depth_of({0.5F, 1, 2}, {1, 2, 4}, true);
  REQUIRE(scaled);
  CHECK(scaled->abs_rel == Approx(0));
  CHECK(scaled->delta1 == 1);
  CHECK(scaled->scale == Approx(2));
}

TEST_CASE("AbsRel is relative to truth, not to the prediction") {
  CHECK(depth_of({3}, {2})->abs_rel == Approx(0.5));
  CHECK(depth_of({2}, {3})->abs_rel == Approx(1.0 / 3));
  CHECK(depth_of({1.1F, 3.6F}, {1, 4})->abs_rel == Approx(0.1));
}

TEST_CASE("delta1 is below 1.25 on either side") {
  CHECK(depth_of({1.249F}, {1})->delta1 == 1);
  CHECK(depth_of({1.25F}, {1})->delta1 == 0);
  CHECK(depth_of({0.801F}, {1})->delta1 == 1);
  CHECK(depth_of({1}, {1.25F})->delta1 == 0);
  CHECK(depth_of({1, 1, 2, 1}, {1, 1, 1, 2})->delta1 == 0.5);
}

TEST_CASE("without alignment a wrong scale is an error") {
  const auto score = depth_of({2, 4, 8}, {1, 2, 4});
  CHECK(score->abs_rel == Approx(1));
  CHECK(score->delta1 == 0);
  CHECK(score->scale == 1);
}

TEST_CASE("the scale is the ratio of lower medians, whatever outliers say") {
  // Lower medians of an even count: 2 and 1.
  const auto score = depth_of({1, 1, 3, 1000}, {2, 2, 7, 9}, true);
  CHECK(score->scale == Approx(2));
  CHECK(score->delta1 == 0.75);
}

TEST_CASE("depth that is upside down is not saved by its scale") {
  const auto score = depth_of({4, 3, 2, 1}, {1, 2, 3, 4}, true);
  CHECK(score->abs_rel > 0.5);
  CHECK(score->delta1 < 0.5);
}

TEST_CASE("pixels without truth count nowhere") {
  const auto score = depth_of({1, 100, 100, 100, 100, 2}, {1, 0, -1, kNan, kInf, 2}, true);
  CHECK(score->pixels == 2);
  CHECK(score->abs_rel == 0);
  CHECK(score->scale == 1);
}

TEST_CASE("a missing prediction is wrong, not skipped") {
  for (const float missing : {0.0F, -1.0F, kNan, kInf, -kInf}) {
    CAPTURE(missing);
    const auto score = depth_of({1, missing, 2, missing}, {1, 1, 2, 2}, true);
    CHECK(score->pixels == 4);
    CHECK(score->abs_rel == Approx(0.5));
    CHECK(score->delta1 == 0.5);
    CHECK(score->scale == 1);
  }
}

TEST_CASE("no usable prediction at all is wrong everywhere and finite") {
  const auto score = depth_of({0, kNan}, {1, 2}, true);
  CHECK(score->abs_rel == 1);
  CHECK(score->delta1 == 0);
  CHECK(score->scale == 1);
}

TEST_CASE("no truth is no score") {
  CHECK_FALSE(depth_of({1, 2}, {0, kNan}));
  CHECK_FALSE(score_depth(nullptr, nullptr, 0, true));
}

TEST_CASE("null maps are refused") {
  const float one = 1;
  CHECK_THROWS_AS(score_depth(nullptr, &one, 1, true), std::invalid_argument);
  CHECK_THROWS_AS(score_depth(&one, nullptr, 1, false), std::invalid_argument);
}

TEST_CASE("the largest and smallest floats stay finite") {
  const float big = std::numeric_limits<float>::max(), small = std::numeric_limits<float>::min();
  for (const bool align : {false, true}) {
    CHECK(std::isfinite(depth_of({big, small}, {small, big}, align)->abs_rel));
    CHECK(std::isfinite(depth_of({small, small}, {big, big}, align)->scale));
  }
}

// ---- pairs

TEST_CASE("the same world or another one: no error") {
  const auto truth = helix(5);
  for (const double scale : {1.0, 0.2}) {
    const auto errors = score_pairs(moved(truth, scale), truth);
    REQUIRE(errors.size() == 10);
    for (const auto& error : errors) {
      CHECK(error.rotation_deg == Approx(0).epsilon(1e-6));
      CHECK(error.translation_deg == Approx(0).epsilon(1e-6));
    }
  }
}

TEST_CASE("rotation errors are those of the angle, about any axis and in either direction") {
  const Matrix34 first = at(0, 0, 0);
  const Matrix34 truth = camera(turn(30, {0, 1, 0}), {1, 0, 0});
  for (const Eigen::Vector3d& axis :
       {Eigen::Vector3d(1, 0, 0), Eigen::Vector3d(0, 1, 0), Eigen::Vector3d(0.3, -2, 1)}) {
    for (const double angle : {0.01, 5.0, -5.0, 90.0, 179.0}) {
      const Matrix3 off = turn(angle, axis) * truth.leftCols<3>();
      CHECK(score_pair(first, camera(off, {1, 0, 0}), first, truth).rotation_deg == Approx(std::abs(angle)));
    }
  }
}

TEST_CASE("a turn the wrong way round is twice the angle") {
  const Matrix34 first = at(0, 0, 0);
  const Matrix34 truth = camera(turn(10, {0, 1, 0}), {1, 0, 0});
  CHECK(score_pair(first, camera(turn(-10, {0, 1, 0}), {1, 0, 0}), first, truth).rotation_deg == Approx(20));
}

TEST_CASE("camera-to-world poses given as world-to-camera are found out") {
  const auto truth = helix(3);
  std::vector<Matrix34> wrong;
  for (const auto& pose : truth) wrong.push_back(geometry::invert(pose));
  CHECK(score_pairs(wrong, truth)[1].worst() > 5);
}

TEST_CASE("a rotation of 180 degrees is 180 degrees wrong") {
  const Matrix34 first = at(0, 0, 0);
  for (const Eigen::Vector3d& axis :
       {Eigen::Vector3d(1, 0, 0), Eigen::Vector3d(0, 1, 0), Eigen::Vector3d(0, 0, 1)}) {
    const Matrix34 half = camera(turn(180, axis), {0, 0, 1});
    CHECK(score_pair(first, half, first, at(0, 0, 1)).rotation_deg == Approx(180));
  }
}

TEST_CASE("directions are signed") {
  const Matrix34 first = at(0, 0, 0);
  const auto error = [&](const Matrix34& estimate) {
    return score_pair(first, estimate, first, at(0, 0, 2)).translation_deg;
  };
  CHECK(error(at(0, 0, 0.1)) == Approx(0));
  CHECK(error(at(1, 0, 1)) == Approx(45));
  CHECK(error(at(0, -3, 0)) == Approx(90));
  CHECK(error(at(0, 0, -1)) == Approx(180));
}

TEST_CASE("a camera that truly stands still has no direction, and its rotation counts") {
  const Matrix34 turned = camera(turn(12, {1, 0, 0}), {0, 0, 0});
  const auto error = score_pair(at(0, 0, 0), turned, at(0, 0, 0), at(0, 0, 0.5 * kStill));
  CHECK(std::isnan(error.translation_deg));
  CHECK(error.rotation_deg == Approx(12));
  CHECK(error.worst() == Approx(12));
  CHECK_FALSE(std::isnan(score_pair(at(0, 0, 0), turned, at(0, 0, 0), at(0, 0, 2 * kStill)).translation_deg));
}

TEST_CASE("an estimate that stands still is 90 degrees wrong, wherever it stands") {
  CHECK(score_pair(at(0, 0, 0), at(0, 0, 0), at(0, 0, 0), at(0, 0, 1)).translation_deg == 90);
  const Matrix34 far = at(1e3, 2e3, -3e3), rounded = at(1e3, 2e3, -3e3 + 1e-6);
  CHECK(score_pair(far, rounded, at(0, 0, 0), at(0, 0, 1)).translation_deg == 90);
}

TEST_CASE("an estimate that is not finite is as wrong as can be") {
  Matrix34 broken = at(0, 0, 1);
  broken(1, 2) = kNan;
  const auto error = score_pair(at(0, 0, 0), broken, at(0, 0, 0), at(0, 0, 1));
  CHECK(error.rotation_deg == 180);
  CHECK(error.translation_deg == 180);
  CHECK(std::isnan(score_pair(broken, broken, at(0, 0, 0), at(0, 0, 0)).translation_deg));
}

TEST_CASE("truth that is not finite and counts that differ are refused") {
  Matrix34 broken = at(0, 0, 1);
  broken(0, 3) = kInf;
  CHECK_THROWS_AS(score_pair(at(0, 0, 0), at(0, 0, 1), at(0, 0, 0), broken), std::invalid_argument);
  CHECK_THROWS_AS(score_pairs(helix(3), helix(4)), std::invalid_argument);
}

TEST_CASE("one pose or none has no pairs") {
  CHECK(score_pairs({}, {}).empty());
  CHECK(score_pairs(helix(1), helix(1)).empty());
}

// ---- auc

TEST_CASE("the area under the recall curve in bins of a degree") {
  CHECK(auc({{0, 0}}, 30) == 1);
  CHECK(auc({{0.99, 0.5}}, 30) == 1);
  CHECK(auc({{1, 0}}, 30) == Approx(29.0 / 30));
  CHECK(auc({{0, 15.5}}, 30) == Approx(15.0 / 30));
  CHECK(auc({{29.5, 0}}, 30) == Approx(1.0 / 30));
  CHECK(auc({{0.5, 2.5}, {10.5, 3}, {100, 0}}, 5) == Approx((3.0 / 5) / 3));
}

TEST_CASE("the last bin holds its edge, and what is above is lost") {
  CHECK(auc({{30, 0}}, 30) == Approx(1.0 / 30));
  CHECK(auc({{30.001, 0}}, 30) == 0);
  CHECK(auc({{0, 180}}, 30) == 0);
  CHECK(auc({{0, 180}}, 180) == Approx(1.0 / 180));
}

TEST_CASE("a pair without a direction counts by its rotation") {
  CHECK(auc({{2.5, kNan}}, 5) == Approx(3.0 / 5));
}

TEST_CASE("no pairs, no area; thresholds that are no bins are refused") {
  CHECK(std::isnan(auc({}, 30)));
  for (const double threshold : {0.0, -1.0, 2.5, 181.0, double(kNan), double(kInf)}) {
    CAPTURE(threshold);
    CHECK_THROWS_AS(auc({{1, 1}}, threshold), std::invalid_argument);
  }
}

// ---- field of view

TEST_CASE("the same field of view at another size has no error") {
  CHECK(fov_error(centred(60, 224, 168), centred(60, 640, 480)) == Approx(0).epsilon(1e-9));
}

TEST_CASE("the error is that of the angle") {
  const Lens truth = lens(100, 100, 100, 100, 200, 200);  // 90 degrees each
  CHECK(fov_error(centred(45, 64, 64), truth) == Approx(0.5));
  CHECK(fov_error(centred(108, 64, 64), truth) == Approx(0.2));
}

TEST_CASE("either axis counts by half") {
  const Lens truth = lens(100, 100, 100, 100, 200, 200);
  const double narrow = 100 / std::tan(22.5 * kDegree);
  CHECK(fov_error(lens(narrow, 100, 100, 100, 200, 200), truth) == Approx(0.25));
  CHECK(fov_error(lens(100, narrow, 100, 100, 200, 200), truth) == Approx(0.25));
}

TEST_CASE("the principal point counts") {
  // From edge to edge: 45 degrees + atan(3), instead of twice atan(2).
  const Lens truth = lens(100, 100, 200, 200, 400, 400);
  const double wanted = 2 * std::atan(2.0), found = std::atan(1.0) + std::atan(3.0);
  CHECK(fov_error(lens(100, 100, 100, 100, 400, 400), truth) == Approx((wanted - found) / wanted));
}

TEST_CASE("an estimate that is no camera is wrong by 1") {
  const Lens truth = centred(60, 64, 48);
  CHECK(fov_error(lens(0, 10, 5, 5, 64, 48), truth) == 1);
  CHECK(fov_error(lens(-10, 10, 5, 5, 64, 48), truth) == 1);
  CHECK(fov_error(lens(kNan, 10, 5, 5, 64, 48), truth) == 1);
  CHECK(fov_error(lens(10, 10, 5, 5, 0, 48), truth) == 1);
  CHECK_THROWS_AS(fov_error(truth, lens(0, 10, 5, 5, 64, 48)), std::invalid_argument);
}

// ---- trajectory

TEST_CASE("another world frame and scale is no error, and the path is the true one") {
  const auto truth = helix(20);
  double path = 0;
  for (int i = 1; i < 20; ++i) {
    path += (geometry::camera_centre(truth[i]) - geometry::camera_centre(truth[i - 1])).norm();
  }
  const auto score = score_trajectory(moved(truth, 0.1), truth);
  REQUIRE(score);
  CHECK(score->ate < 1e-9);
  CHECK(score->path == Approx(path));
  CHECK(score->poses == 20);
}

TEST_CASE("the error is in metres of the truth and the root mean square of all frames") {
  // A square whose corners are pushed up and down alternately: no similarity mends that.
  std::vector<Matrix34> truth, estimate;
  for (int i = 0; i < 4; ++i) {
    const double x = i == 1 || i == 2 ? 10 : -10, y = i >= 2 ? 10 : -10;
    truth.push_back(at(x, y, 0));
    estimate.push_back(at(0.5 * x, 0.5 * y, i % 2 ? 0.25 : -0.25));
  }
  const auto score = score_trajectory(estimate, truth);
  // Umeyama: scale 2 * 50 / (50 + 0.0625).
  const double scale = 2 * 50 / 50.0625;
  const double wanted = std::hypot((scale / 2 - 1) * std::hypot(10, 10), scale * 0.25);
  CHECK(score->ate == Approx(wanted));
  CHECK(score->path == Approx(60));
  CHECK(score->relative == Approx(wanted / 60));
}

TEST_CASE("a mirrored path is not aligned away") {
  const auto truth = helix(20);
  std::vector<Matrix34> mirrored;
  for (const auto& pose : truth) {
    const Eigen::Vector3d c = geometry::camera_centre(pose);
    mirrored.push_back(at(c.x(), c.y(), -c.z()));
  }
  CHECK(score_trajectory(mirrored, truth)->ate > 0.1);
}

TEST_CASE("straight paths are aligned by their orientations, so that backwards is wrong") {
  std::vector<Matrix34> truth, forwards, backwards;
  for (int i = 0; i < 5; ++i) {
    truth.push_back(at(0, 0, i));
    forwards.push_back(at(1, 0, 0.5 * i));
    backwards.push_back(at(1, 0, -0.5 * i));
  }
  CHECK(score_trajectory(forwards, truth)->ate < 1e-9);
  CHECK(score_trajectory(backwards, truth)->ate == Approx(2 * std::sqrt(2.0)));
}

TEST_CASE("an estimate that stands still is as far off as the path is wide") {
  const std::vector<Matrix34> truth = {at(0, 0, 0), at(0, 0, 2)};
  const auto score = score_trajectory({at(0, 0, 0), at(0, 0, 0)}, truth);
  CHECK(score->ate == Approx(1));
  CHECK(score->relative == Approx(0.5));
}

TEST_CASE("truth that stands still has an error but no relative one") {
  const std::vector<Matrix34> truth(3, at(1, 2, 3));
  const auto still = score_trajectory(truth, truth);
  CHECK(still->ate == Approx(0));
  CHECK(std::isnan(still->relative));
  const auto restless = score_trajectory({at(0, 0, 0), at(3, 0, 0), at(0, 0, 0)}, truth);
  CHECK(restless->ate == Approx(std::sqrt(2.0)));
  CHECK(std::isnan(restless->relative));
}

TEST_CASE("one pose is met, none has no score") {
  CHECK(score_trajectory({at(5, 5, 5)}, {at(0, 0, 0)})->ate == Approx(0));
  CHECK_FALSE(score_trajectory({}, {}));
}

TEST_CASE("trajectories that are not finite or of other lengths") {
  auto broken = helix(4);
  broken[2](0, 3) = kNan;
  CHECK(std::isinf(score_trajectory(broken, helix(4))->ate));
  CHECK_THROWS_AS(score_trajectory(helix(4), broken), std::invalid_argument);
  CHECK_THROWS_AS(score_trajectory(helix(3), helix(4)), std::invalid_argument);
}

}  // namespace
}  // namespace da3::score
