// SPDX-License-Identifier: MIT
#include "geometry/ray_pose.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <stdexcept>

#include "test_support.h"

namespace da3::geometry {
namespace {

using test::distance;
using test::Noise;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

struct RayMap {
  int height, width;
  std::vector<float> ray, confidence;

  RayMap(int h, int w) : height(h), width(w), ray(size_t(h) * w * 6), confidence(size_t(h) * w, 1) {}
  RayView view() const { return {ray.data(), confidence.data(), height, width}; }
  int size() const { return height * width; }
  float* at(int pixel) { return &ray[size_t(pixel) * 6]; }
  Eigen::Vector3d point(int pixel) const {  // on the image that spans [-1, 1]^2
    return {(2 * (pixel % width) + 1.0) / width - 1, (2 * (pixel / width) + 1.0) / height - 1, 1};
  }
  void set_direction(int pixel, const Eigen::Vector3d& d) {
    for (int i = 0; i < 3; ++i) at(pixel)[i] = static_cast<float>(d[i]);
  }
  void set_origin(int pixel, const Eigen::Vector3d& o) {
    for (int i = 0; i < 3; ++i) at(pixel)[3 + i] = static_cast<float>(o[i]);
  }
};

struct Camera {
  Matrix3 rotation = Matrix3::Identity();  // camera to world
  Eigen::Vector3d centre{0.5, -1, 2};
  double fx = 1.3, fy = 1.1;

  Eigen::Vector3d direction(const Eigen::Vector3d& p) const {
    return rotation * Eigen::Vector3d(p[0] / fx, p[1] / fy, 1);
  }
};

// Rays of lengths that differ and whose confidences lie in [1.5, 2].
RayMap rays_of(const Camera& camera, int height, int width, uint64_t seed = 1) {
  RayMap map(height, width);
  Noise noise(seed);
  for (int i = 0; i < map.size(); ++i) {
    map.set_direction(i, (1 + 0.5 * noise()) * camera.direction(map.point(i)));
    map.set_origin(i, camera.centre);
    map.confidence[i] = static_cast<float>(1.75 + 0.25 * noise());
  }
  return map;
}

void check_camera(const RayPose& pose, const Camera& camera, double tolerance) {
  REQUIRE(pose.valid);
  CHECK(distance(pose.camera_to_world.leftCols<3>(), camera.rotation) < tolerance);
  CHECK(distance(pose.camera_to_world.col(3), camera.centre) < tolerance);
  CHECK(std::abs(pose.focal_x - camera.fx) < tolerance);
  CHECK(std::abs(pose.focal_y - camera.fy) < tolerance);
  CHECK(std::abs(pose.principal_x - 1) < tolerance);
  CHECK(std::abs(pose.principal_y - 1) < tolerance);
}

void check_none(const RayPose& pose) {
  CHECK_FALSE(pose.valid);
  CHECK(pose.camera_to_world == Matrix34(Matrix34::Identity()));
  CHECK(pose.focal_x == 1);
  CHECK(pose.focal_y == 1);
  CHECK(pose.principal_x == 1);
  CHECK(pose.principal_y == 1);
}

double total(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

RaySampleTable first_eight() {
  return {{0, 1, 2, 3, 4, 5, 6, 7}};
}

TEST_CASE("rays of a camera give the camera back") {
  Noise noise(1);
  for (int i = 0; i < 12; ++i) {
    CAPTURE(i);
    // Up to 0.6 rad from the world's forward axis, in all directions.
    const Camera camera{test::turn(0.6 * noise(), noise.vector()), 3 * noise.vector(), 1.3, 1.1};
    check_camera(solve_ray_pose(rays_of(camera, 24, 32).view()), camera, 1e-5);
  }
}

TEST_CASE("a camera that looks backwards or sideways in the world is found too") {
  for (const double angle : {M_PI / 2, 2.0, M_PI - 0.2, M_PI}) {
    CAPTURE(angle);
    const Camera camera{test::turn(angle, {0.1, 1, -0.2}), {0, 0, 0}, 1.3, 1.1};
    const RayPose pose = solve_ray_pose(rays_of(camera, 25, 33).view());
    check_camera(pose, camera, 1e-3);
    CHECK(pose.ql_input.determinant() > 0);
  }
}

TEST_CASE("a homography whose last entry is zero has a camera all the same") {
  Camera camera;
  camera.rotation = test::turn(M_PI / 2, {0, 1, 0});  // the optical axis lies on the world's horizon
  const RayPose pose = solve_ray_pose(rays_of(camera, 24, 32).view());
  check_camera(pose, camera, 1e-3);
  CHECK(pose.homography.allFinite());
  CHECK(pose.ql_input.allFinite());
}

TEST_CASE(
    "homography and split matrix differ in the sign at most, and the split makes a positive determinant") {
  Camera camera;
  const RayPose ahead = solve_ray_pose(rays_of(camera, 24, 32).view());
  CHECK(ahead.homography(2, 2) == doctest::Approx(1));
  CHECK(ahead.ql_input == ahead.homography);
  camera.rotation = test::turn(2.5, {0, 1, 0});
  const RayPose behind = solve_ray_pose(rays_of(camera, 24, 32).view());
  CHECK(behind.homography(2, 2) == doctest::Approx(1));
  CHECK(behind.homography.determinant() < 0);
  CHECK(behind.ql_input == Matrix3(-behind.homography));
}

TEST_CASE("outliers do not matter, neither unsure ones nor sure ones") {
  const Camera camera{test::turn(0.4, {1, 2, 0}), {1, 2, 3}, 1.3, 1.1};
  for (const bool sure : {false, true}) {
    CAPTURE(sure);
    RayMap map = rays_of(camera, 24, 32);
    Noise noise(2);
    for (int i = 0; i < map.size(); i += 3) {
      const double side = noise() > 0 ? 2 : -2;  // far outside the limit of 0.2
      map.set_direction(i,
                        camera.direction(map.point(i)) + Eigen::Vector3d(side, 2 * noise(), 0.2 * noise()));
      if (!sure) map.confidence[i] = 1.1F;
    }
    check_camera(solve_ray_pose(map.view()), camera, 1e-5);
  }
}

TEST_CASE("noise on all rays averages out") {
  const Camera camera{test::turn(0.3, {1, 1, 1}), {1, 2, 3}, 1.3, 1.1};
  RayMap map = rays_of(camera, 40, 56);
  Noise noise(3);
  for (float& value : map.ray) value += static_cast<float>(0.01 * noise());
  check_camera(solve_ray_pose(map.view()), camera, 5e-3);
}

TEST_CASE("the solution is the same every time to the last bit") {
  RayMap map = rays_of(Camera{}, 24, 32);
  Noise noise(4);
  for (float& value : map.ray) value += static_cast<float>(0.05 * noise());
  const RayPose a = solve_ray_pose(map.view()), b = solve_ray_pose(map.view());
  CHECK(a.camera_to_world == b.camera_to_world);
  CHECK(a.scores == b.scores);
  CHECK(a.focal_x == b.focal_x);
}

// The split is upstream's: with an off-centre principal point it is off in a known way.
TEST_CASE("an off-centre principal point comes out with the sign reversed and turns the camera") {
  RayMap map(24, 32);
  for (int i = 0; i < map.size(); ++i) {
    const Eigen::Vector3d p = map.point(i);
    map.set_direction(i, {(p[0] - 0.1) / 1.3, (p[1] + 0.05) / 1.1, 1});
  }
  const RayPose pose = solve_ray_pose(map.view());
  REQUIRE(pose.valid);
  CHECK(pose.principal_x - 1 == doctest::Approx(-0.059).epsilon(0.02));
  CHECK(pose.principal_y - 1 == doctest::Approx(0.041).epsilon(0.02));
  const double off = Eigen::AngleAxisd(Eigen::Matrix3d(pose.camera_to_world.leftCols<3>())).angle();
  CHECK(off > 0.05);
  CHECK(off < 0.12);
}

TEST_CASE("the origin is the mean over all usable rays by confidence, outliers included") {
  RayMap map = rays_of(Camera{}, 16, 16);
  double sum = 0, weights = 0;
  for (int i = 0; i < map.size(); ++i) {
    const double x = i % 7;
    map.set_origin(i, {x, 0, 0});
    if (i % 5 == 0) map.set_direction(i, {3, 3, 1});
    sum += map.confidence[i] * x;
    weights += map.confidence[i];
  }
  const RayPose pose = solve_ray_pose(map.view());
  REQUIRE(pose.valid);
  CHECK(pose.camera_to_world(0, 3) == doctest::Approx(sum / weights));
}

TEST_CASE("rays along the horizon count neither for the pose nor for the origin") {
  const Camera camera;
  RayMap map = rays_of(camera, 16, 16);
  for (int i = 0; i < map.size(); i += 4) {
    map.set_direction(i, {1, 1, i % 8 == 0 ? 1e-4 : -1e-4});
    map.set_origin(i, {1000, 1000, 1000});
    map.confidence[i] = 50;
  }
  check_camera(solve_ray_pose(map.view()), camera, 1e-5);
  // Just above the limit a ray counts for the origin.
  map.at(0)[2] = 1.001e-4F;
  const RayPose pose = solve_ray_pose(map.view());
  REQUIRE(pose.valid);
  CHECK(pose.camera_to_world(0, 3) > 50);
}

TEST_CASE("values that are not finite and confidences that are not positive leave their ray out") {
  const Camera camera;
  RayMap map = rays_of(camera, 16, 16);
  const float broken[] = {kNan, kInf, -kInf};
  for (int i = 0; i < 18; ++i) {
    map.at(5 + 9 * i)[i % 6] = broken[i / 6];
    map.confidence[5 + 9 * i] = 9;
  }
  const float confidence[] = {kNan, kInf, -kInf, 0, -3};
  for (int i = 0; i < 5; ++i) {
    map.confidence[200 + i] = confidence[i];
    map.set_origin(200 + i, {1000, 0, 0});
  }
  check_camera(solve_ray_pose(map.view()), camera, 1e-5);
}

TEST_CASE("rays as long and as short as floats go") {
  const Camera camera;
  RayMap map = rays_of(camera, 16, 16);
  for (int i = 0; i < map.size(); ++i) {
    const double length = i % 2 == 0 ? 1e38 : 2e-4;
    map.set_direction(i, length * camera.direction(map.point(i)));
  }
  check_camera(solve_ray_pose(map.view()), camera, 1e-5);
  // One wild direction: its place on the plane is far outside the range of float.
  map.set_direction(37, {3e38, -3e38, 1.1e-4});
  check_camera(solve_ray_pose(map.view()), camera, 1e-5);
}

TEST_CASE("maps without a camera in them are refused") {
  RayMap map = rays_of(Camera{}, 16, 16);
  SUBCASE("no confidence anywhere") {
    std::fill(map.confidence.begin(), map.confidence.end(), 0.0F);
  }
  SUBCASE("all rays on the horizon") {
    for (int i = 0; i < map.size(); ++i) map.at(i)[2] = 0;
  }
  SUBCASE("nothing finite") {
    std::fill(map.ray.begin(), map.ray.end(), kNan);
  }
  SUBCASE("seven usable rays") {
    std::fill(map.confidence.begin() + 7, map.confidence.end(), 0.0F);
  }
  SUBCASE("all rays parallel") {
    for (int i = 0; i < map.size(); ++i) map.set_direction(i, {0.1, 0.2, 1});
  }
  SUBCASE("rays on one plane") {
    for (int i = 0; i < map.size(); ++i) map.set_direction(i, {map.point(i)[0], 0.5, 1});
  }
  SUBCASE("usable rays on one row") {
    std::fill(map.confidence.begin() + 16, map.confidence.end(), 0.0F);
  }
  check_none(solve_ray_pose(map.view()));
}

TEST_CASE("a map of one row or one pixel is refused") {
  check_none(solve_ray_pose(rays_of(Camera{}, 1, 64).view()));
  check_none(solve_ray_pose(rays_of(Camera{}, 64, 1).view()));
  check_none(solve_ray_pose(rays_of(Camera{}, 1, 1).view()));
}

TEST_CASE("eight usable rays are enough wherever they are") {
  RayMap map = rays_of(Camera{}, 16, 16);
  std::fill(map.confidence.begin(), map.confidence.end(), 0.0F);
  for (const int i : {3, 18, 60, 77, 130, 170, 201, 254}) map.confidence[i] = 1.5F;
  check_camera(solve_ray_pose(map.view()), Camera{}, 1e-4);
}

TEST_CASE("missing data is an error") {
  const RayMap map(8, 8);
  RayView view = map.view();
  view.ray = nullptr;
  CHECK_THROWS_AS(solve_ray_pose(view), std::invalid_argument);
  view = map.view();
  view.confidence = nullptr;
  CHECK_THROWS_AS(solve_ray_pose(view), std::invalid_argument);
  view = map.view();
  view.height = 0;
  CHECK_THROWS_AS(solve_ray_pose(view), std::invalid_argument);
  view.height = -8;
  view.width = -8;
  CHECK_THROWS_AS(solve_ray_pose(view), std::invalid_argument);
}

TEST_CASE("a sample outside the map is an error that names it") {
  const RayMap map = rays_of(Camera{}, 8, 8);
  CHECK_NOTHROW(solve_ray_pose(map.view(), {{0, 9, 18, 27, 36, 45, 54, 63}}));
  CHECK_THROWS_WITH_AS(solve_ray_pose(map.view(), {{0, 1, 2, 3, 4, 5, 6, 64}}),
                       "ray sample index 64 is outside the 64 rays of this view", std::invalid_argument);
  CHECK_THROWS_AS(solve_ray_pose(map.view(), {{0, 1, 2, 3, 4, 5, 6, -1}}), std::invalid_argument);
}

TEST_CASE("the score is the confidence of all inliers, at any width") {
  for (const int width : {8, 9, 10, 11, 31}) {
    CAPTURE(width);
    RayMap map = rays_of(Camera{}, 9, width);
    const RayPose all = solve_ray_pose(map.view());
    REQUIRE(all.scores.size() == kRaySamples);
    CHECK(all.scores[all.best] == doctest::Approx(total(map.confidence)).epsilon(1e-12));
    // Rays 0.19 and 0.21 from where they should be: the limit is 0.2.
    const auto shift = [&](int pixel, double by) {
      map.set_direction(pixel, Camera{}.direction(map.point(pixel)) + Eigen::Vector3d(0, by, 0));
      map.confidence[pixel] = 1;
    };
    shift(width - 1, 0.21);
    shift(3 * width, -0.21);
    shift(5 * width + 2, 0.19);
    const RayPose most = solve_ray_pose(map.view());
    CHECK(most.scores[most.best] == doctest::Approx(total(map.confidence) - 2).epsilon(1e-12));
  }
}

TEST_CASE("samples index the rays by falling confidence, then by position") {
  // All rays are nonsense but eight good ones, spread over the map.
  const int good[] = {2, 13, 37, 58, 70, 91, 104, 121};
  const Camera camera;
  RayMap map(11, 12);
  Noise noise(5);
  for (int i = 0; i < map.size(); ++i) {
    map.set_direction(i, {50 * noise(), 50 * noise(), 1});
    map.set_origin(i, camera.centre);
  }
  for (const int i : good) map.set_direction(i, camera.direction(map.point(i)));
  const auto score_of_first_eight = [&] { return solve_ray_pose(map.view(), first_eight()).scores.at(0); };

  CHECK(score_of_first_eight() < 8);  // equal confidence: the first row of the map
  for (const int i : good) map.confidence[i] = 1.0001F;
  CHECK(score_of_first_eight() >= 8);
  for (const int i : good) map.confidence[i] = 0.5F;  // now they are the last
  const int last = map.size() - 1;
  const RayPose end = solve_ray_pose(
      map.view(), {{last, last - 1, last - 2, last - 3, last - 4, last - 5, last - 6, last - 7}});
  CHECK(end.scores[0] >= 4);

  RaySampleTable by_position(1);
  std::copy(std::begin(good), std::end(good), by_position[0].begin());
  std::fill(map.confidence.begin(), map.confidence.end(), 1.0F);
  CHECK(solve_ray_pose(map.view(), by_position).scores[0] >= 8);
}

TEST_CASE("a fit counts its points by their confidence") {
  // Two families of rays within the limit of each other; where the confidence is, there is the fit.
  for (const double weight : {1.0, 100.0}) {
    RayMap map(16, 16);
    for (int i = 0; i < map.size(); ++i) {
      const double shift = i % 2 == 0 ? 0.05 : -0.05;
      map.set_direction(i, Camera{}.direction(map.point(i)) + Eigen::Vector3d(shift, 0, 0));
      map.confidence[i] = static_cast<float>(i % 2 == 0 ? weight : 1);
    }
    const RayPose pose = solve_ray_pose(map.view());
    REQUIRE(pose.valid);
    CHECK(pose.homography(0, 2) == doctest::Approx(0.05 * (weight - 1) / (weight + 1)).epsilon(0.03));
  }
}

TEST_CASE("of equal hypotheses the first is the best") {
  const RayMap map = rays_of(Camera{}, 16, 16);
  const std::array<int32_t, 8> spread = {0, 30, 60, 90, 120, 150, 180, 210},
                               other = {5, 35, 65, 95, 125, 155, 185, 215};
  const std::array<int32_t, 8> useless = {7, 7, 7, 7, 7, 7, 7, 7};
  CHECK(solve_ray_pose(map.view(), {spread, other, spread}).best == 0);
  const RayPose second = solve_ray_pose(map.view(), {useless, other, spread});
  CHECK(second.scores[1] == second.scores[2]);
  CHECK(second.scores[0] < second.scores[1]);
  CHECK(second.best == 1);
}

TEST_CASE("more than 8000 inliers are thinned evenly among the surest 95 percent") {
  // Confidence falls with the place in a shuffled list; what is off depends on the rank of the ray.
  const Camera camera;
  RayMap map(120, 120);
  const int count = map.size();
  std::vector<int> rank(count);
  std::iota(rank.begin(), rank.end(), 0);
  Noise noise(6);
  for (int i = count - 1; i > 0; --i) std::swap(rank[i], rank[static_cast<int>((noise() + 1) / 2 * (i + 1))]);
  const auto shift_from = [&](int begin, int end) {
    for (int i = 0; i < count; ++i) {
      const double shift = rank[i] >= begin && rank[i] < end ? 0.1 : 0;
      map.set_direction(i, camera.direction(map.point(i)) + Eigen::Vector3d(shift, 0, 0));
      map.confidence[i] = static_cast<float>(2 - 0.5 * rank[i] / count);
    }
    const RayPose pose = solve_ray_pose(map.view());
    REQUIRE(pose.valid);
    return pose.homography(0, 2);
  };
  const int kept = count * 95 / 100;
  CHECK(std::abs(shift_from(kept, count)) < 1e-6);
  CHECK(shift_from(kept - 2000, kept) > 0.01);
  CHECK(shift_from(0, 2000) > 0.01);
  // Evenly: the upper half weighs like the lower half, but for its confidence.
  CHECK(shift_from(0, kept / 2) == doctest::Approx(0.05).epsilon(0.2));
  CHECK(shift_from(kept / 2, kept) == doctest::Approx(0.05).epsilon(0.2));
}

TEST_CASE("sample tables are reproducible, in range and distinct within a row") {
  for (const int candidates : {8, 9, 100, 25000}) {
    CAPTURE(candidates);
    const RaySampleTable table = make_ray_samples(candidates);
    REQUIRE(table.size() == kRaySamples);
    CHECK(table == make_ray_samples(candidates));
    CHECK(table != make_ray_samples(candidates, 1));
    for (const auto& row : table) {
      CHECK(std::set<int32_t>(row.begin(), row.end()).size() == kRaySampleSize);
      CHECK(*std::min_element(row.begin(), row.end()) >= 0);
      CHECK(*std::max_element(row.begin(), row.end()) < candidates);
    }
  }
}

TEST_CASE("sample tables draw from the whole range evenly") {
  const RaySampleTable table = make_ray_samples(1000);
  double sum = 0;
  std::set<int32_t> seen;
  for (const auto& row : table) {
    for (const int32_t index : row) {
      sum += index;
      seen.insert(index);
    }
  }
  CHECK(std::abs(sum / 800 - 499.5) < 4 * 288.7 / std::sqrt(800.0));
  CHECK(seen.size() > 500);  // 551 expected
  CHECK(seen.size() < 600);
}

TEST_CASE("fewer than eight candidates cannot be drawn from") {
  for (const int candidates : {7, 1, 0, -5}) CHECK(make_ray_samples(candidates).empty());
}

TEST_CASE("intrinsics in pixels") {
  RayPose pose;
  pose.focal_x = 1.3;
  pose.focal_y = 1.1;
  pose.principal_x = 0.9;
  pose.principal_y = 1.05;
  Matrix3 expected;
  expected << 327.6, 0, 226.8, 0, 207.9, 198.45, 0, 0, 1;
  CHECK(distance(intrinsics_from_ray_pose(pose, 504, 378), expected) < 1e-12);
}

TEST_CASE("QL split: published example") {
  Matrix3 a, q, l, expected_q, expected_l;
  a << 1.2, 0.1, 0.05, -0.1, 0.9, 0.02, 0.03, -0.04, 1;
  ql_decompose(a, &q, &l);
  expected_q << 0.992534, 0.111279, 0.049928, -0.112387, 0.993464, 0.019971, -0.047379, -0.025433, 0.998553;
  expected_l << 1.199121, 0, 0, 0.033376, 0.904951, 0, 0.087745, -0.016951, 1;
  CHECK(distance(q, expected_q) < 1e-6);
  CHECK(distance(l / l(2, 2), expected_l) < 1e-6);
}

TEST_CASE("QL split of any matrix") {
  Noise noise(7);
  for (int i = 0; i < 200; ++i) {
    Matrix3 a, q, l;
    for (int j = 0; j < 9; ++j) a(j / 3, j % 3) = noise();
    ql_decompose(a, &q, &l);
    CHECK(distance(q * l, a) < 1e-14);
    CHECK(distance(q * q.transpose(), Matrix3::Identity()) < 1e-14);
    CHECK(l(0, 1) == 0);
    CHECK(l(0, 2) == 0);
    CHECK(l(1, 2) == 0);
    CHECK(l.diagonal().minCoeff() > 0);
    CHECK(q.determinant() * a.determinant() > 0);
  }
}

TEST_CASE("QL split of singular matrices stays finite and shows in the diagonal") {
  Matrix3 a = Matrix3::Zero(), q, l;
  ql_decompose(a, &q, &l);
  CHECK(l == Matrix3::Zero());
  CHECK(q.allFinite());
  a << 1, 2, 3, 2, 4, 6, 3, 6, 9;
  ql_decompose(a, &q, &l);
  CHECK(distance(q * l, a) < 1e-13);
  CHECK(l.diagonal().minCoeff() < 1e-14);
}

}  // namespace
}  // namespace da3::geometry
