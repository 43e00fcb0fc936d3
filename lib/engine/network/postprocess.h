// SPDX-License-Identifier: MIT
//
// What happens to maps after the heads: sky filling, and the scale of the nested model. Every statistic is
// taken per item [S, H, W], exactly and without sampling, so a result never depends on what shares a batch.
// Source: upstream model/da3.py (_process_mono_sky_estimation, NestedDepthAnything3Net), utils/alignment.py.
#pragma once

#include <ATen/ATen.h>

namespace da3 {

constexpr float kSkyThreshold = 0.3f;  // sky from here up
constexpr double kFarQuantile = 0.99;
constexpr double kMaxSkyDepth = 200.0;  // metres, nested model

// Quantile of a 1-D tensor by linear interpolation between order statistics; no size limit.
double exact_quantile(const at::Tensor& values, double q);

// Sets depth at sky to the 0.99 quantile of the rest, per item, when there are more than 10 pixels of each
// kind. depth, sky: [B, S, H, W]; returns new depth.
at::Tensor fill_sky(const at::Tensor& depth, const at::Tensor& sky);

struct MetricAlignment {
  at::Tensor depth;       // [B, S, H, W], metres, sky filled
  at::Tensor confidence;  // 1 at sky
  at::Tensor extrinsics;  // translations scaled
  at::Tensor scale;       // [B]
  at::Tensor valid;       // [B] bool: false where no pixel could be used (then scale 1)
};

// Fits the any-view branch to the metric branch (both [B, S, H, W]); metric_depth is the raw network output,
// scaled here by focal / 300 with the predicted intrinsics [B, S, 3, 3].
MetricAlignment align_to_metric(const at::Tensor& depth, const at::Tensor& confidence,
                                const at::Tensor& extrinsics, const at::Tensor& intrinsics,
                                const at::Tensor& metric_depth, const at::Tensor& metric_sky);

}  // namespace da3
