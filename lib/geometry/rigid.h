// SPDX-License-Identifier: MIT
//
// Rigid transforms and the pose encoding of DA3's camera heads. Eigen only, double unless said.
// Source: upstream model/utils/transform.py, utils/geometry.py.
#pragma once

#include <Eigen/Core>
#include <Eigen/Geometry>
#include <vector>

namespace da3::geometry {

using Matrix34 = Eigen::Matrix<double, 3, 4, Eigen::RowMajor>;
using Matrix3 = Eigen::Matrix<double, 3, 3, Eigen::RowMajor>;

// [R|t] -> [R^T | -R^T t]. R must be orthonormal.
Matrix34 invert(const Matrix34& pose);
// a * b as 4x4 products.
Matrix34 compose(const Matrix34& a, const Matrix34& b);
Eigen::Vector3d camera_centre(const Matrix34& world_to_camera);

// Quaternion (x, y, z, w), need not be unit -> rotation. The zero quaternion gives the identity.
Matrix3 rotation_from_quaternion(const Eigen::Vector4d& xyzw);
// Rotation -> unit quaternion (x, y, z, w), w >= 0, choosing the best-conditioned candidate as upstream does.
Eigen::Vector4d quaternion_from_rotation(const Matrix3& rotation);

// Camera-to-world translation (3), quaternion xyzw (4), vertical and horizontal field of view in radians.
using PoseEncoding = Eigen::Matrix<double, 9, 1>;
struct PinholeCamera {
  Matrix34 camera_to_world = Matrix34::Identity();
  Matrix3 intrinsics = Matrix3::Identity();  // pixels, no skew
};
// The principal point is the image centre; half the field of view has a tangent of at least 1e-6. Sizes in
// pixels.
PinholeCamera decode_pose(const PoseEncoding& encoding, int image_width, int image_height);
// The principal point is not encoded.
PoseEncoding encode_pose(const PinholeCamera& camera, int image_width, int image_height);

// Pose normalisation in front of the camera encoder (upstream api.py): world moved to view 0, translations
// divided by max(lower median of the camera distances, 0.1). Empty in, empty out.
std::vector<Matrix34> normalise_extrinsics(const std::vector<Matrix34>& world_to_camera);

}  // namespace da3::geometry
