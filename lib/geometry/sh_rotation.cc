// SPDX-License-Identifier: MIT
#include "geometry/sh_rotation.h"

#include <array>

namespace da3::geometry {
namespace {

// The degree 2 functions as quadratic forms d^T M d. They are orthogonal: trace(M_a M_b) = 15 / 8pi for a =
// b, else 0.
std::array<Matrix3, 5> quadratic_forms() {
  constexpr double k0 = 0.31539156525252005, k1 = 1.0925484305920792, k2 = 0.5462742152960396;
  std::array<Matrix3, 5> forms;
  forms[0] << 0, k1 / 2, 0, k1 / 2, 0, 0, 0, 0, 0;
  forms[1] << 0, 0, 0, 0, 0, -k1 / 2, 0, -k1 / 2, 0;
  forms[2] << -k0, 0, 0, 0, -k0, 0, 0, 0, 2 * k0;
  forms[3] << 0, 0, -k1 / 2, 0, 0, 0, -k1 / 2, 0, 0;
  forms[4] << k2, 0, 0, 0, -k2, 0, 0, 0, 0;
  return forms;
}

}  // namespace

Eigen::Matrix<double, 9, 9, Eigen::RowMajor> sh_rotation(const Matrix3& rotation) {
  static const std::array<Matrix3, 5> forms = quadratic_forms();
  constexpr double kPi = 3.14159265358979323846;
  constexpr std::array<int, 3> axis = {1, 2, 0};
  constexpr std::array<int, 3> sign = {-1, 1, -1};
  Eigen::Matrix<double, 9, 9, Eigen::RowMajor> d = Eigen::Matrix<double, 9, 9, Eigen::RowMajor>::Zero();
  d(0, 0) = 1;
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) d(1 + a, 1 + b) = sign[a] * sign[b] * rotation(axis[a], axis[b]);
  }
  for (int b = 0; b < 5; ++b) {
    const Matrix3 turned = rotation * forms[b] * rotation.transpose();
    for (int a = 0; a < 5; ++a) d(4 + a, 4 + b) = forms[a].cwiseProduct(turned).sum() * (8 * kPi / 15);
  }
  return d;
}

}  // namespace da3::geometry
