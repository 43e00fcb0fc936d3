// SPDX-License-Identifier: MIT
#include "geometry/rigid.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace da3::geometry {

Matrix34 invert(const Matrix34& pose) {
  Matrix34 inverse;
  inverse.leftCols<3>() = pose.leftCols<3>().transpose();
  inverse.col(3) = -(inverse.leftCols<3>() * pose.col(3));
  return inverse;
}

Matrix34 compose(const Matrix34& a, const Matrix34& b) {
  Matrix34 product;
  product.leftCols<3>() = a.leftCols<3>() * b.leftCols<3>();
  product.col(3) = a.leftCols<3>() * b.col(3) + a.col(3);
  return product;
}

Eigen::Vector3d camera_centre(const Matrix34& world_to_camera) {
  return -(world_to_camera.leftCols<3>().transpose() * world_to_camera.col(3));
}

Matrix3 rotation_from_quaternion(const Eigen::Vector4d& xyzw) {
  const double squared = xyzw.squaredNorm();
  if (!(squared > 0)) return Matrix3::Identity();
  const double s = 2 / squared;
  const double x = xyzw[0], y = xyzw[1], z = xyzw[2], w = xyzw[3];
  Matrix3 rotation;
  rotation << 1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w),  //
      s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w),          //
      s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y);
  return rotation;
}

Eigen::Vector4d quaternion_from_rotation(const Matrix3& m) {
  // Four times the square of each component; the largest one makes the safest divisor.
  const std::array<double, 4> squares = {1 + m(0, 0) - m(1, 1) - m(2, 2), 1 - m(0, 0) + m(1, 1) - m(2, 2),
                                         1 - m(0, 0) - m(1, 1) + m(2, 2), 1 + m(0, 0) + m(1, 1) + m(2, 2)};
  // Real part first among equals, as upstream.
  int largest = 3;
  for (int i = 0; i < 3; ++i) {
    if (squares[i] > squares[largest]) largest = i;
  }
  Eigen::Vector4d q;
  if (largest == 3) {
    q << m(2, 1) - m(1, 2), m(0, 2) - m(2, 0), m(1, 0) - m(0, 1), squares[3];
  } else {
    const int i = largest, j = (i + 1) % 3, k = (i + 2) % 3;
    q[i] = squares[i];
    q[j] = m(j, i) + m(i, j);
    q[k] = m(k, i) + m(i, k);
    q[3] = m(k, j) - m(j, k);
  }
  q /= 2 * std::max(std::sqrt(std::max(squares[largest], 0.0)), 0.1);
  if (q[3] < 0) q = -q;
  return q;
}

PinholeCamera decode_pose(const PoseEncoding& encoding, int image_width, int image_height) {
  constexpr double kSmallestTangent = 1e-6;
  PinholeCamera camera;
  camera.camera_to_world.leftCols<3>() = rotation_from_quaternion(encoding.segment<4>(3));
  camera.camera_to_world.col(3) = encoding.head<3>();
  const double half_width = image_width / 2.0, half_height = image_height / 2.0;
  camera.intrinsics = Matrix3::Identity();
  camera.intrinsics(0, 0) = half_width / std::max(std::tan(encoding[8] / 2), kSmallestTangent);
  camera.intrinsics(1, 1) = half_height / std::max(std::tan(encoding[7] / 2), kSmallestTangent);
  camera.intrinsics(0, 2) = half_width;
  camera.intrinsics(1, 2) = half_height;
  return camera;
}

PoseEncoding encode_pose(const PinholeCamera& camera, int image_width, int image_height) {
  PoseEncoding encoding;
  encoding.head<3>() = camera.camera_to_world.col(3);
  encoding.segment<4>(3) = quaternion_from_rotation(camera.camera_to_world.leftCols<3>());
  encoding[7] = 2 * std::atan(image_height / 2.0 / camera.intrinsics(1, 1));
  encoding[8] = 2 * std::atan(image_width / 2.0 / camera.intrinsics(0, 0));
  return encoding;
}

std::vector<Matrix34> normalise_extrinsics(const std::vector<Matrix34>& world_to_camera) {
  constexpr double kSmallestScale = 0.1;
  if (world_to_camera.empty()) return {};
  const Matrix34 first = invert(world_to_camera.front());
  std::vector<Matrix34> moved;
  std::vector<double> distances;
  moved.reserve(world_to_camera.size());
  distances.reserve(world_to_camera.size());
  for (const Matrix34& pose : world_to_camera) {
    moved.push_back(compose(pose, first));
    distances.push_back(camera_centre(moved.back()).norm());
  }
  // The lower of the two middle values for an even count, the zero of view 0 included.
  const auto middle = distances.begin() + (distances.size() - 1) / 2;
  std::nth_element(distances.begin(), middle, distances.end());
  const double scale = std::max(*middle, kSmallestScale);
  for (Matrix34& pose : moved) pose.col(3) /= scale;
  return moved;
}

}  // namespace da3::geometry
