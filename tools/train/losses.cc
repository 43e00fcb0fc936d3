// SPDX-License-Identifier: MIT
#include "train/losses.h"

#include <algorithm>
#include <cmath>

#include "geometry/rigid.h"

namespace da3::train {
namespace {

using geometry::Matrix3;
using geometry::Matrix34;

constexpr double kConfidenceWeight = 0.5;  // lambda_c: the confidence of an error e tends to 0.5 / e
constexpr double kGradientWeight = 0.5;    // alpha
constexpr double kPointWeight = 0.3;
constexpr double kRayWeight = 0.5;
constexpr double kSkyWeight = 0.1;
// Beta, for each part of the pose encoding: translation, quaternion, field of view.
constexpr double kTranslationWeight = 2, kQuaternionWeight = 8, kFovWeight = 2;
constexpr int kGradientScales = 3;

Tensor image_tensor(const Batch& batch, at::Device device) {
  const SetDescription& d = batch.front().description;
  std::vector<Tensor> sets;
  for (const ViewSet& set : batch)
    sets.push_back(at::from_blob(const_cast<uint8_t*>(set.rgb.data()), {d.views, d.height, d.width, 3},
                                 at::TensorOptions(at::kByte)));
  const Tensor rgb = at::stack(sets).to(device).permute({0, 1, 4, 2, 3}).to(at::kFloat).div_(255.0);
  static const float mean[] = {0.485f, 0.456f, 0.406f}, deviation[] = {0.229f, 0.224f, 0.225f};
  const auto row = [&](const float* v) {
    return at::tensor(at::ArrayRef<float>(v, 3)).view({1, 1, 3, 1, 1}).to(device);
  };
  return ((rgb - row(mean)) / row(deviation)).contiguous();
}

// Mean distance of the visible points from the world's origin.
double set_scale(const ViewSet& set, const std::vector<Matrix34>& camera_to_world) {
  const SetDescription& d = set.description;
  double sum = 0;
  int64_t count = 0;
  for (size_t v = 0; v < camera_to_world.size(); ++v) {
    const Matrix3& k = set.intrinsics[v];
    const float* depth = set.depth.data() + v * size_t(d.width) * size_t(d.height);
    for (int y = 0; y < d.height; y += 2) {
      for (int x = 0; x < d.width; x += 2) {
        const double z = depth[y * d.width + x];
        if (z <= 0) continue;
        const Eigen::Vector3d p(z * (x + 0.5 - k(0, 2)) / k(0, 0), z * (y + 0.5 - k(1, 2)) / k(1, 1), z);
        sum += (camera_to_world[v].leftCols<3>() * p + camera_to_world[v].col(3)).norm();
        ++count;
      }
    }
  }
  return count > 0 ? std::max(sum / double(count), 1e-3) : 1.0;
}

void fill_rays(float* out, const Matrix34& c2w, const Matrix3& k, const SetDescription& d) {
  const int rows = 8 * d.height / DA3_PATCH_SIZE, columns = 8 * d.width / DA3_PATCH_SIZE;
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < columns; ++x, out += 6) {
      const double u = (x + 0.5) * d.width / columns, v = (y + 0.5) * d.height / rows;
      const Eigen::Vector3d ray((u - k(0, 2)) / k(0, 0), (v - k(1, 2)) / k(1, 1), 1);
      const Eigen::Vector3d direction = c2w.leftCols<3>() * ray;
      for (int i = 0; i < 3; ++i) {
        out[i] = float(direction[i]);
        out[3 + i] = float(c2w(i, 3));
      }
    }
  }
}

// Where the other view shows the middles of one view's patches.
void fill_matches(int64_t* out, const ViewSet& set, size_t view, size_t other) {
  const SetDescription& d = set.description;
  const int rows = d.height / DA3_PATCH_SIZE, columns = d.width / DA3_PATCH_SIZE;
  const size_t pixels = size_t(d.width) * size_t(d.height);
  const float *depth = set.depth.data() + view * pixels, *other_depth = set.depth.data() + other * pixels;
  const Matrix34 across = geometry::compose(set.extrinsics[other], geometry::invert(set.extrinsics[view]));
  const Matrix3 &k = set.intrinsics[view], &l = set.intrinsics[other];
  for (int i = 0; i < rows * columns; ++i) {
    out[i] = -1;
    const int x = i % columns * DA3_PATCH_SIZE + DA3_PATCH_SIZE / 2,
              y = i / columns * DA3_PATCH_SIZE + DA3_PATCH_SIZE / 2;
    const double z = depth[y * d.width + x];
    if (z <= 0) continue;
    const Eigen::Vector3d p(z * (x + 0.5 - k(0, 2)) / k(0, 0), z * (y + 0.5 - k(1, 2)) / k(1, 1), z);
    const Eigen::Vector3d q = across.leftCols<3>() * p + across.col(3);
    if (q.z() <= 0) continue;
    const double u = l(0, 0) * q.x() / q.z() + l(0, 2), v = l(1, 1) * q.y() / q.z() + l(1, 2);
    if (u < 0 || v < 0 || u >= d.width || v >= d.height) continue;
    const double seen = other_depth[int(v) * d.width + int(u)];
    if (std::abs(seen - q.z()) > 0.1 * q.z()) continue;  // something is in between
    out[i] = int64_t(v) / DA3_PATCH_SIZE * columns + int64_t(u) / DA3_PATCH_SIZE;
  }
}

// One set: fills its rows of the targets (on the CPU) and returns its scale.
double fill_set(const ViewSet& set, float* ray, float* pose, float* extrinsics, float* intrinsics) {
  const SetDescription& d = set.description;
  const Matrix34 first = geometry::invert(set.extrinsics.front());
  std::vector<Matrix34> c2w;
  for (const Matrix34& e : set.extrinsics) c2w.push_back(geometry::invert(geometry::compose(e, first)));
  const double scale = set_scale(set, c2w);
  const std::vector<Matrix34> known = geometry::normalise_extrinsics(set.extrinsics);
  const size_t rays = size_t(8 * d.height / DA3_PATCH_SIZE) * size_t(8 * d.width / DA3_PATCH_SIZE) * 6;
  for (size_t v = 0; v < c2w.size(); ++v) {
    c2w[v].col(3) /= scale;
    fill_rays(ray + v * rays, c2w[v], set.intrinsics[v], d);
    geometry::PinholeCamera camera;
    camera.camera_to_world = c2w[v];
    camera.intrinsics = set.intrinsics[v];
    const geometry::PoseEncoding encoding = geometry::encode_pose(camera, d.width, d.height);
    for (int i = 0; i < 9; ++i) pose[v * 9 + size_t(i)] = float(encoding[i]);
    for (int i = 0; i < 12; ++i) extrinsics[v * 12 + size_t(i)] = float(known[v](i / 4, i % 4));
    for (int i = 0; i < 9; ++i) intrinsics[v * 9 + size_t(i)] = float(set.intrinsics[v](i / 3, i % 3));
  }
  return scale;
}

// Mean of `value` where `weight` is set.
Tensor masked_mean(const Tensor& value, const Tensor& weight) {
  return (value * weight).sum() / weight.sum().clamp_min(1);
}

// The error e, and (c - 1) e - lambda log c for the confidence alone, which so learns to be small where
// errors are large. In the paper's form, c e - lambda log c, the confidence also weighs the error's own
// gradient; with few steps that only favours what is easy already, and the depth that is scored counts every
// pixel alike.
Tensor with_confidence(const Tensor& error, const Tensor& confidence) {
  return error + (confidence - 1) * error.detach() - kConfidenceWeight * confidence.log();
}

// Differences to the right and lower neighbours, at several scales.
Tensor gradient_loss(const Tensor& error, const Tensor& valid) {
  Tensor total;
  for (int s = 0; s < kGradientScales; ++s) {
    const int64_t step = int64_t(1) << s;
    const auto coarse = [&](const Tensor& t) {
      return t.slice(2, 0, t.size(2), step).slice(3, 0, t.size(3), step);
    };
    const Tensor e = coarse(error), m = coarse(valid);
    const int64_t h = e.size(2), w = e.size(3);
    const Tensor across = masked_mean((e.narrow(3, 1, w - 1) - e.narrow(3, 0, w - 1)).abs(),
                                      m.narrow(3, 1, w - 1) * m.narrow(3, 0, w - 1));
    const Tensor down = masked_mean((e.narrow(2, 1, h - 1) - e.narrow(2, 0, h - 1)).abs(),
                                    m.narrow(2, 1, h - 1) * m.narrow(2, 0, h - 1));
    total = total.defined() ? total + across + down : across + down;
  }
  return total / double(kGradientScales);
}

Tensor camera_loss(const Tensor& encoding, const Tensor& truth) {
  // Quadratic below 0.1: tokens that do not know the camera yet should not jump with every sign.
  const Tensor error = at::smooth_l1_loss(encoding, truth, at::Reduction::None, 0.1);
  return kTranslationWeight * error.narrow(-1, 0, 3).mean() +
         kQuaternionWeight * error.narrow(-1, 3, 4).mean() + kFovWeight * error.narrow(-1, 7, 2).mean();
}

}  // namespace

Targets make_targets(const Batch& batch, at::Device device) {
  const SetDescription& d = batch.front().description;
  const auto b = int64_t(batch.size());
  const int64_t rows = 8 * d.height / DA3_PATCH_SIZE, columns = 8 * d.width / DA3_PATCH_SIZE;
  const auto options = at::TensorOptions(at::kFloat);
  Targets t;
  t.image = image_tensor(batch, device);
  Tensor depth = at::empty({b, d.views, d.height, d.width}, options);
  Tensor ray = at::empty({b, d.views, rows, columns, 6}, options), pose = at::empty({b, d.views, 9}, options);
  t.extrinsics = at::empty({b, d.views, 3, 4}, options);
  t.intrinsics = at::empty({b, d.views, 3, 3}, options);
  const int64_t patches = (d.height / DA3_PATCH_SIZE) * int64_t(d.width / DA3_PATCH_SIZE);
  Tensor match = at::full({b, d.views, patches}, -1, at::TensorOptions(at::kLong));
  for (int64_t i = 0; i < b; ++i) {
    const ViewSet& set = batch[size_t(i)];
    const double scale = fill_set(set, ray[i].data_ptr<float>(), pose[i].data_ptr<float>(),
                                  t.extrinsics[i].data_ptr<float>(), t.intrinsics[i].data_ptr<float>());
    for (int64_t v = 0; v < d.views && d.views > 1; ++v)
      fill_matches(match[i][v].data_ptr<int64_t>(), set, size_t(v), v == 0 ? 1 : 0);
    float* to = depth[i].data_ptr<float>();
    for (size_t p = 0; p < set.depth.size(); ++p) to[p] = float(set.depth[p] / scale);
  }
  t.depth = depth.to(device);
  t.ray = ray.to(device);
  t.pose = pose.to(device);
  t.match = match.to(device);
  t.valid = (t.depth > 0).to(at::kFloat);
  t.log_depth = at::where(t.depth > 0, t.depth, at::ones_like(t.depth)).log();
  t.farthest = t.depth.amax({1, 2, 3}, true).clamp_min(1e-3).log();
  return t;
}

Losses compute_losses(const NetworkOutput& out, const Targets& t) {
  Losses losses;
  const Tensor camera = camera_loss(out.pose_encoding, t.pose);
  losses.camera = camera.item<double>();
  losses.total = camera;
  if (!out.depth.defined()) return losses;
  const Tensor log_depth = out.depth.log();
  const Tensor error = log_depth - t.log_depth;
  const Tensor depth = masked_mean(with_confidence(error.abs(), out.confidence), t.valid);
  const Tensor gradient = gradient_loss(error.flatten(0, 1).unsqueeze(0), t.valid.flatten(0, 1).unsqueeze(0));
  const Tensor sky = masked_mean((t.farthest + 0.1 - log_depth).relu(), 1 - t.valid);
  Tensor total = depth + kGradientWeight * gradient + kSkyWeight * sky + camera;
  losses.depth = depth.item<double>();
  losses.gradient = gradient.item<double>();
  losses.sky = sky.item<double>();
  if (out.ray.defined()) {
    const Tensor difference = (out.ray - t.ray).abs().mean(-1);
    const Tensor ray = with_confidence(difference, out.ray_confidence).mean();
    // P = depth * direction + origin, at the resolution of the ray map; relative to its distance.
    const auto pick = [&](const Tensor& map) {
      return at::upsample_nearest2d(map.flatten(0, 1).unsqueeze(1), {t.ray.size(2), t.ray.size(3)})
          .squeeze(1)
          .view({map.size(0), map.size(1), t.ray.size(2), t.ray.size(3)});
    };
    const auto points = [](const Tensor& depth_map, const Tensor& rays) {
      return depth_map.unsqueeze(-1) * rays.narrow(-1, 0, 3) + rays.narrow(-1, 3, 3);
    };
    const Tensor true_depth = pick(t.depth);
    const Tensor distance =
        (points(pick(out.depth), out.ray) - points(true_depth, t.ray)).abs().mean(-1) / (true_depth + 0.1);
    const Tensor point = masked_mean(distance, pick(t.valid));
    total = total + kRayWeight * ray + kPointWeight * point;
    losses.ray = ray.item<double>();
    losses.point = point.item<double>();
  }
  losses.total = total;
  return losses;
}

}  // namespace da3::train
