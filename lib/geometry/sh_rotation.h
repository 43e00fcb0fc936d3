// SPDX-License-Identifier: MIT
//
// Rotation of real spherical harmonics of degree 0 to 2 in the basis of 3D Gaussian splatting:
// Y1 ~ (-y, z, -x), Y2 = (k1 xy, -k1 yz, k0 (2zz - xx - yy), -k1 xz, k2 (xx - yy)).
#pragma once

#include <Eigen/Core>

#include "geometry/rigid.h"

namespace da3::geometry {

// D with c' = D c such that sum c'_m Y_m(R d) = sum c_m Y_m(d); 9x9 block diagonal (1, 3, 5).
Eigen::Matrix<double, 9, 9, Eigen::RowMajor> sh_rotation(const Matrix3& rotation);

}  // namespace da3::geometry
