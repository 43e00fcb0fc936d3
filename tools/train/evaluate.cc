// SPDX-License-Identifier: MIT
#include "train/evaluate.h"

#include <ATen/core/grad_mode.h>

#include <cstdio>

#include "train/losses.h"

namespace da3::train {
namespace {

std::vector<geometry::Matrix34> poses_of(const Tensor& extrinsics) {  // [S, 3, 4]
  std::vector<geometry::Matrix34> out;
  const Tensor e = extrinsics.contiguous();
  for (int64_t v = 0; v < e.size(0); ++v)
    out.push_back(
        Eigen::Map<const Eigen::Matrix<float, 3, 4, Eigen::RowMajor>>(e[v].data_ptr<float>()).cast<double>());
  return out;
}

}  // namespace

Evaluation evaluate(const Network& network, at::Device device, bool held_out_family, int sets, int views,
                    int width, int height, int threads, int first) {
  const at::NoGradGuard no_grad;
  Loader loader(
      [&](int64_t i) -> std::vector<SetDescription> {
        const auto index = uint64_t(i);
        return {held_out_family ? held_out_family_set(index, views, width, height)
                                : held_out_set(index, views, width, height)};
      },
      first, threads, 0);
  score::Summary summary;
  score::RunningMedian still;
  for (int i = 0; i < sets; ++i) {
    const Batch batch = loader.next();
    const ViewSet& set = batch.front();
    const NetworkOutput out = network.forward(make_targets(batch, device).image, NetworkOptions{}, Tracer{});
    const Tensor depth = out.depth.to(at::kCPU).contiguous();
    const size_t pixels = size_t(width) * size_t(height);
    for (int v = 0; v < views; ++v) {
      const auto depth_score = score::score_depth(depth.data_ptr<float>() + size_t(v) * pixels,
                                                  set.depth.data() + size_t(v) * pixels, pixels, true);
      if (depth_score) summary.add(*depth_score);
      score::Lens truth{set.intrinsics[size_t(v)], double(width), double(height)}, estimate = truth;
      estimate.intrinsics = Eigen::Map<const Eigen::Matrix<float, 3, 3, Eigen::RowMajor>>(
                                out.intrinsics[0][v].contiguous().data_ptr<float>())
                                .cast<double>();
      summary.add_fov(score::fov_error(estimate, truth));
    }
    const std::vector<geometry::Matrix34> estimate = poses_of(out.extrinsics[0]);
    summary.add(score::score_pairs(estimate, set.extrinsics));
    if (views > 2)
      if (const auto path = score::score_trajectory(estimate, set.extrinsics)) summary.add(*path);
    const std::vector<geometry::Matrix34> identity(size_t(views), geometry::Matrix34::Identity());
    for (const score::PairError& e : score::score_pairs(identity, set.extrinsics)) still.add(e.rotation_deg);
  }
  return {summary.totals(), still.value()};
}

std::string describe(const Evaluation& e, int views) {
  char text[256];
  const score::Totals& t = e.totals;
  int n = std::snprintf(text, sizeof text, "%d view%s: AbsRel %.4f, delta1 %.4f, FOV error %.2f %%", views,
                        views == 1 ? "" : "s", t.abs_rel, t.delta1, 100 * t.fov_error);
  if (views > 1)
    std::snprintf(text + n, sizeof text - size_t(n),
                  ", rotation %.2f deg (identity %.2f), direction %.1f deg, AUC@30 %.3f", t.rotation_deg,
                  e.identity_rotation_deg, t.translation_deg, t.auc30);
  return text;
}

}  // namespace da3::train
