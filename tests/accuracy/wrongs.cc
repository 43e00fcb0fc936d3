// SPDX-License-Identifier: MIT
//
// Mistakes that code between the network and the user could make.
#include <algorithm>
#include <cmath>

#include "scores.h"

namespace da3::test {
namespace {

using Plane = std::vector<float> Answer::*;

template <typename Body>
Wrong each_depth(const char* what, Body body) {
  return {what, [body](Case& c) {
            for (float& d : c.answer.depth) d = float(body(double(d)));
          }};
}

// Rows (or pixels of each row) in the opposite order; `size` numbers belong together.
void flip(std::vector<float>& plane, int width, int height, int size, bool rows) {
  const size_t row = size_t(width) * size_t(size);
  const std::vector<float> from = plane;
  for (size_t at = 0; at < plane.size(); at += row * size_t(height)) {
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const size_t to = at + size_t(y) * row + size_t(x) * size_t(size);
        const size_t source =
            at + size_t(rows ? height - 1 - y : y) * row + size_t(rows ? x : width - 1 - x) * size_t(size);
        std::copy_n(from.begin() + ptrdiff_t(source), size, plane.begin() + ptrdiff_t(to));
      }
    }
  }
}

Wrong upside_down(Plane plane) {
  return {"upside down", [plane](Case& c) { flip(c.answer.*plane, kWidth, kHeight, 1, true); }};
}
Wrong mirrored(Plane plane) {
  return {"mirrored", [plane](Case& c) { flip(c.answer.*plane, kWidth, kHeight, 1, false); }};
}
Wrong columns_for_rows(Plane plane) {
  return {"columns read as rows", [plane](Case& c) {
            std::vector<float>& to = c.answer.*plane;
            const std::vector<float> from = to;
            for (size_t at = 0; at < to.size(); at += kPixels)
              for (size_t y = 0; y < kHeight; ++y)
                for (size_t x = 0; x < kWidth; ++x) to[at + y * kWidth + x] = from[at + x * kHeight + y];
          }};
}
Wrong views_backwards() {
  return {"views in another order", [](Case& c) {
            const Answer from = c.answer;
            const auto views = size_t(c.views());
            for (size_t v = 0; v < views; ++v) {
              const size_t w = views - 1 - v;
              std::copy_n(from.depth.begin() + ptrdiff_t(w * kPixels), kPixels,
                          c.answer.depth.begin() + ptrdiff_t(v * kPixels));
              std::copy_n(from.confidence.begin() + ptrdiff_t(w * kPixels), kPixels,
                          c.answer.confidence.begin() + ptrdiff_t(v * kPixels));
              std::copy_n(from.ray.begin() + ptrdiff_t(w * kRays * 6), kRays * 6,
                          c.answer.ray.begin() + ptrdiff_t(v * kRays * 6));
              c.answer.extrinsics[v] = from.extrinsics[w];
              c.answer.intrinsics[v] = from.intrinsics[w];
            }
          }};
}

template <typename Body>
Wrong each_ray(const char* what, Body body) {
  return {what, [body](Case& c) {
            for (size_t r = 0; r < c.answer.ray.size(); r += 6) body(c.answer.ray.data() + r);
          }};
}

template <typename Body>
Wrong each_pose(const char* what, Body body) {
  return {what, [body](Case& c) {
            for (Matrix34& e : c.answer.extrinsics) body(e);
          }};
}

// The same motion in axes turned by `turn`.
Wrong other_axes(const char* what, const Matrix3& turn) {
  return each_pose(what, [turn](Matrix34& e) {
    const Matrix3 rotation = turn * e.leftCols<3>() * turn.transpose();
    const Eigen::Vector3d translation = turn * e.col(3);
    e << rotation, translation;
  });
}

Matrix3 opengl_axes() {
  return Eigen::Vector3d(1, -1, -1).asDiagonal().toDenseMatrix();
}
Matrix3 x_for_y() {
  Matrix3 m;
  m << 0, 1, 0, 1, 0, 0, 0, 0, 1;
  return m;
}
Matrix3 z_up() {
  Matrix3 m;
  m << 1, 0, 0, 0, 0, 1, 0, -1, 0;
  return m;
}

template <typename Body>
Wrong each_lens(const char* what, Body body) {
  return {what, [body](Case& c) {
            for (Matrix3& k : c.answer.intrinsics) body(k);
          }};
}

Wrong camera_to_world() {
  return each_pose("camera-to-world for world-to-camera", [](Matrix34& e) { e = geometry::invert(e); });
}

}  // namespace

const std::vector<Wrong>& wrong_depths() {
  static const std::vector<Wrong> all = {
      upside_down(&Answer::depth),
      mirrored(&Answer::depth),
      columns_for_rows(&Answer::depth),
      each_depth("disparity", [](double d) { return 1 / d; }),
      each_depth("negative", [](double d) { return -d; }),
      each_depth("its logarithm", [](double d) { return std::log1p(d); }),
      each_depth("its square", [](double d) { return d * d; }),
      each_depth("the same everywhere", [](double) { return 1.0; }),
      {"twice as far in one half",
       [](Case& c) {
         for (size_t p = 0; p < c.answer.depth.size(); ++p)
           if (p % kWidth < kWidth / 2) c.answer.depth[p] *= 2;
       }},
  };
  return all;
}

const std::vector<Wrong>& wrong_depths_between_views() {
  static const std::vector<Wrong> all = {
      views_backwards(),
      {"every second view in another unit",
       [](Case& c) {
         for (size_t p = 0; p < c.answer.depth.size(); ++p)
           if (p / kPixels % 2 == 1) c.answer.depth[p] *= 3;
       }},
  };
  return all;
}

const std::vector<Wrong>& wrong_confidences() {
  static const std::vector<Wrong> all = {
      {"the other way",
       [](Case& c) {
         for (float& v : c.answer.confidence) v = 1 / v;
       }},
      {"the same everywhere",
       [](Case& c) { std::fill(c.answer.confidence.begin(), c.answer.confidence.end(), 1.0f); }},
  };
  return all;
}

const std::vector<Wrong>& wrong_rays() {
  static const std::vector<Wrong> all = {
      {"mirrored", [](Case& c) { flip(c.answer.ray, kRayWidth, kRayHeight, 6, false); }},
      {"upside down", [](Case& c) { flip(c.answer.ray, kRayWidth, kRayHeight, 6, true); }},
      each_ray("backwards", [](float* r) { std::transform(r, r + 3, r, std::negate<>()); }),
      each_ray("x and y exchanged", [](float* r) { std::swap(r[0], r[1]); }),
      each_ray("z first", [](float* r) { std::swap(r[0], r[2]); }),
      each_ray("origin for direction", [](float* r) { std::swap_ranges(r, r + 3, r + 3); }),
      {"first column for all",
       [](Case& c) {
         for (size_t r = 0; r < c.answer.ray.size(); r += 6)
           std::copy_n(c.answer.ray.begin() + ptrdiff_t(r / 6 / kRayWidth * kRayWidth * 6), 6,
                       c.answer.ray.begin() + ptrdiff_t(r));
       }},
  };
  return all;
}

const std::vector<Wrong>& wrong_rays_between_views() {
  static const std::vector<Wrong> all = {
      {"turned the wrong way",
       [](Case& c) {
         // A ray of a camera whose rotation R into the world is taken for its inverse: R^T R^T (R d).
         const Matrix34 first = geometry::invert(c.truth.extrinsics.front());
         for (size_t v = 0; v < c.truth.extrinsics.size(); ++v) {
           const Matrix3 back = geometry::compose(c.truth.extrinsics[v], first).leftCols<3>();
           for (size_t r = 0; r < kRays; ++r) {
             float* ray = c.answer.ray.data() + (v * kRays + r) * 6;
             const Eigen::Vector3d d = back * back * Eigen::Vector3d(ray[0], ray[1], ray[2]);
             for (int i = 0; i < 3; ++i) ray[i] = float(d[i]);
           }
         }
       }},
      views_backwards(),
  };
  return all;
}

const std::vector<Wrong>& wrong_rotations() {
  static const std::vector<Wrong> all = {
      each_pose("transposed",
                [](Matrix34& e) {
                  const Matrix3 rotation = e.leftCols<3>().transpose();
                  e.leftCols<3>() = rotation;
                }),
      camera_to_world(),
      other_axes("y up and z backwards", opengl_axes()),
      other_axes("x and y exchanged", x_for_y()),
      views_backwards(),
      each_pose("none", [](Matrix34& e) { e = Matrix34::Identity(); }),
  };
  return all;
}

const std::vector<Wrong>& wrong_directions() {
  static const std::vector<Wrong> all = {
      each_pose("the opposite sign", [](Matrix34& e) { e.col(3) *= -1; }),
      each_pose("the camera's centre for the translation",
                [](Matrix34& e) {
                  const Eigen::Vector3d centre = geometry::camera_centre(e);
                  e.col(3) = centre;
                }),
      camera_to_world(),
      other_axes("y up and z backwards", opengl_axes()),
      other_axes("z up", z_up()),
      each_pose("none", [](Matrix34& e) { e.col(3).setZero(); }),
  };
  return all;
}

const std::vector<Wrong>& wrong_units() {
  static const std::vector<Wrong> all = {
      each_depth("depth in another unit", [](double d) { return 4 * d; }),
      each_depth("depth in a smaller unit", [](double d) { return d / 4; }),
      each_pose("translation in another unit", [](Matrix34& e) { e.col(3) *= 4; }),
      each_pose("translation in a smaller unit", [](Matrix34& e) { e.col(3) /= 4; }),
  };
  return all;
}

const std::vector<Wrong>& wrong_angles_of_view() {
  static const std::vector<Wrong> all = {
      each_lens("width and height exchanged",
                [](Matrix3& k) {
                  // The horizontal angle becomes the vertical one.
                  const double across = k(0, 0);
                  k(0, 0) = k(1, 1) * kWidth / kHeight;
                  k(1, 1) = across * kHeight / kWidth;
                }),
      each_lens("of a picture twice as large",
                [](Matrix3& k) {
                  k(0, 0) *= 2;
                  k(1, 1) *= 2;
                }),
      each_lens("of a picture half as large",
                [](Matrix3& k) {
                  k(0, 0) /= 2;
                  k(1, 1) /= 2;
                }),
      each_lens("in units of the picture",
                [](Matrix3& k) {
                  k(0, 0) /= kWidth;
                  k(1, 1) /= kHeight;
                }),
  };
  return all;
}

}  // namespace da3::test
