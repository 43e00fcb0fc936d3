// SPDX-License-Identifier: MIT
#include "engine/network/gaussians.h"

#include <algorithm>
#include <vector>

#include "geometry/pose_align.h"
#include "geometry/sh_rotation.h"

namespace da3 {
namespace {

using geometry::Matrix3;
using geometry::Matrix34;

std::vector<Matrix34> poses_of(const at::Tensor& extrinsics) {  // [S, 3 or 4, 4]
  const at::Tensor e = extrinsics.to(at::kCPU, at::kFloat).contiguous();
  std::vector<Matrix34> out(static_cast<size_t>(e.size(0)));
  for (int64_t s = 0; s < e.size(0); ++s)
    for (int r = 0; r < 3; ++r)
      for (int c = 0; c < 4; ++c) out[size_t(s)](r, c) = e.data_ptr<float>()[s * e.size(1) * 4 + r * 4 + c];
  return out;
}

// Scale from the predicted to the given trajectory; 1 where the fit is not possible.
double pose_scale(const std::vector<Matrix34>& predicted, const std::vector<Matrix34>& given) {
  std::vector<Eigen::Vector3d> x, y;
  for (const auto& p : predicted) x.push_back(geometry::camera_centre(p));
  for (const auto& p : given) y.push_back(geometry::camera_centre(p));
  const auto sim = geometry::umeyama(x, y);
  return sim ? sim->scale : 1.0;
}

at::Tensor from_matrix(const Matrix3& m) {
  return at::tensor(at::ArrayRef<double>(m.data(), 9), at::TensorOptions(at::kDouble))
      .view({3, 3})
      .to(at::kFloat);
}

// Rotation matrices [n, 3, 3] of quaternions (x, y, z, w) [n, 4].
at::Tensor rotations_from_quaternions(const at::Tensor& q) {
  const auto c = q.unbind(-1);
  const at::Tensor &i = c[0], &j = c[1], &k = c[2], &r = c[3];
  const at::Tensor s = 2.0 / (q * q).sum(-1);
  return at::stack({1 - s * (j * j + k * k), s * (i * j - k * r), s * (i * k + j * r), s * (i * j + k * r),
                    1 - s * (i * i + k * k), s * (j * k - i * r), s * (i * k - j * r), s * (j * k + i * r),
                    1 - s * (i * i + j * j)},
                   -1)
      .view({-1, 3, 3});
}

// Quaternions (x, y, z, w), w >= 0, of rotation matrices [n, 3, 3]: the best-conditioned of four candidates.
at::Tensor quaternions_from_rotations(const at::Tensor& m) {
  const auto e = m.reshape({-1, 9}).unbind(-1);
  const at::Tensor &m00 = e[0], &m01 = e[1], &m02 = e[2], &m10 = e[3], &m11 = e[4], &m12 = e[5], &m20 = e[6],
                   &m21 = e[7], &m22 = e[8];
  const at::Tensor magnitude =
      at::stack({1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22},
                -1)
          .clamp_min(0)
          .sqrt();  // [n, 4]: twice |w|, |x|, |y|, |z|
  const auto a = magnitude.unbind(-1);
  const at::Tensor candidates = at::stack({at::stack({a[0] * a[0], m21 - m12, m02 - m20, m10 - m01}, -1),
                                           at::stack({m21 - m12, a[1] * a[1], m10 + m01, m02 + m20}, -1),
                                           at::stack({m02 - m20, m10 + m01, a[2] * a[2], m12 + m21}, -1),
                                           at::stack({m10 - m01, m20 + m02, m21 + m12, a[3] * a[3]}, -1)},
                                          -2) /
                                (2.0 * magnitude.unsqueeze(-1).clamp_min(0.1));  // [n, candidate, wxyz]
  const at::Tensor best = magnitude.argmax(-1).view({-1, 1, 1}).expand({-1, 1, 4});
  const at::Tensor wxyz = candidates.gather(1, best).squeeze(1);
  const at::Tensor xyzw = at::cat({wxyz.narrow(1, 1, 3), wxyz.narrow(1, 0, 1)}, 1);
  return at::where(xyzw.narrow(1, 3, 1).lt(0), -xyzw, xyzw);
}

struct View {
  at::Tensor raw, opacity, depth;  // [H, W, ...]
  Matrix34 world_to_camera;
  at::Tensor intrinsics;  // [3, 3] pixels
  double pose_scale;
};

struct ViewGaussians {
  at::Tensor means, scales, rotations, harmonics;
};

ViewGaussians adapt_view(const GaussianConfig& config, const View& view) {
  const int64_t h = view.depth.size(0), w = view.depth.size(1);
  const auto options = view.raw.options();
  const Matrix34 c2w = geometry::invert(view.world_to_camera);
  const at::Tensor rotation = from_matrix(c2w.leftCols<3>()).to(options.device());
  const Eigen::Vector3d c = c2w.col(3) * view.pose_scale;
  const at::Tensor centre =
      at::tensor({c.x(), c.y(), c.z()}, at::TensorOptions(at::kDouble)).to(options.device(), at::kFloat);
  const at::Tensor delta = (view.depth + view.raw.select(-1, 36)) * view.pose_scale;

  // Rays through the shifted pixels; normalised to unit length, so delta is a distance along the ray.
  const at::Tensor k = view.intrinsics.to(at::kDouble).clone();
  k[0].div_(double(w));
  k[1].div_(double(h));
  const at::Tensor inverse = at::inverse(k).to(options.device(), at::kFloat);
  const at::Tensor x =
      ((at::arange(w, options) + 0.5) / double(w)).view({1, w}) + view.raw.select(-1, 0) / double(w);
  const at::Tensor y =
      ((at::arange(h, options) + 0.5) / double(h)).view({h, 1}) + view.raw.select(-1, 1) / double(h);
  at::Tensor ray = at::matmul(at::stack({x, y, at::ones_like(x)}, -1), inverse.t());
  ray = ray / ray.norm(2, {-1}, true);
  ray = at::matmul(ray, rotation.t());

  ViewGaussians out;
  out.means = (centre + delta.unsqueeze(-1) * ray).reshape({-1, 3});
  const double fx = view.intrinsics[0][0].item<double>(), fy = view.intrinsics[1][1].item<double>();
  out.scales =
      ((config.scale_min + (config.scale_max - config.scale_min) * view.raw.narrow(-1, 2, 3).sigmoid()) *
       delta.unsqueeze(-1) * (0.1 * (1.0 / fx + 1.0 / fy)))
          .reshape({-1, 3});

  // Upstream reorders to (w, x, y, z) and then reads the result as (x, y, z, w); the released weights know it
  // that way.
  at::Tensor q = view.raw.narrow(-1, 5, 4).reshape({-1, 4});
  q = q / (q.norm(2, {-1}, true) + 1e-8);
  q = at::cat({q.narrow(1, 3, 1), q.narrow(1, 0, 3)}, 1);
  out.rotations = quaternions_from_rotations(at::matmul(rotation, rotations_from_quaternions(q)));

  const auto d = geometry::sh_rotation(c2w.leftCols<3>());
  const at::Tensor turn = at::tensor(at::ArrayRef<double>(d.data(), 81), at::TensorOptions(at::kDouble))
                              .view({9, 9})
                              .to(options.device(), at::kFloat);
  at::Tensor mask = at::ones({9}, options);
  mask.narrow(0, 1, 3).fill_(0.1 * 0.25);
  mask.narrow(0, 4, 5).fill_(0.1 * 0.25 * 0.25);
  const at::Tensor sh = view.raw.narrow(-1, 9, 27).reshape({-1, 3, 9}) * mask;
  out.harmonics = at::matmul(sh, turn.t());
  return out;
}

}  // namespace

Gaussians make_gaussians(const GaussianConfig& config, const at::Tensor& raw, const at::Tensor& opacity,
                         const at::Tensor& depth, const at::Tensor& extrinsics, const at::Tensor& intrinsics,
                         const at::Tensor& given_extrinsics, const Tracer& trace) {
  const int64_t batch = raw.size(0), views = raw.size(1);
  std::vector<at::Tensor> means, scales, rotations, harmonics, pose_scales;
  for (int64_t b = 0; b < batch; ++b) {
    const auto predicted = poses_of(extrinsics[b]);
    double scale = 1;
    if (given_extrinsics.defined()) {
      scale = pose_scale(predicted, poses_of(given_extrinsics[b]));
      pose_scales.push_back(at::full({1}, scale, at::TensorOptions(at::kFloat)));
      scale = std::clamp(scale, 1.0 / 3.0, 3.0);
    }
    std::vector<at::Tensor> m, s, r, h;
    for (int64_t v = 0; v < views; ++v) {
      ViewGaussians g = adapt_view(
          config, {raw[b][v], opacity[b][v], depth[b][v], predicted[size_t(v)], intrinsics[b][v], scale});
      m.push_back(g.means);
      s.push_back(g.scales);
      r.push_back(g.rotations);
      h.push_back(g.harmonics);
    }
    means.push_back(at::cat(m));
    scales.push_back(at::cat(s));
    rotations.push_back(at::cat(r));
    harmonics.push_back(at::cat(h));
  }
  if (!pose_scales.empty()) trace("gs.pose_scale", at::cat(pose_scales));
  Gaussians out;
  out.means = at::stack(means);
  out.scales = at::stack(scales);
  out.rotations = at::stack(rotations);
  out.harmonics = at::stack(harmonics);
  out.opacities = opacity.reshape({batch, -1});
  return out;
}

}  // namespace da3
