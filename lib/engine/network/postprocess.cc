// SPDX-License-Identifier: MIT
#include "engine/network/postprocess.h"

#include <algorithm>
#include <cmath>

namespace da3 {
namespace {

constexpr int64_t kMinPixels = 10;

}  // namespace

double exact_quantile(const at::Tensor& values, double q) {
  const int64_t n = values.numel();
  const double position = q * double(n - 1);
  const int64_t low = int64_t(std::floor(position));
  at::Tensor a, b;
  if (values.is_cpu()) {
    // Selection instead of sorting: one pass in most cases.
    const at::Tensor copy = values.to(at::kFloat).contiguous().clone();
    float* data = copy.data_ptr<float>();
    std::nth_element(data, data + low, data + n);
    const double lower = data[low];
    const double upper = low + 1 < n ? *std::min_element(data + low + 1, data + n) : lower;
    return lower + (position - double(low)) * (upper - lower);
  }
  const at::Tensor sorted = std::get<0>(values.flatten().sort());
  const double lower = sorted[low].item<double>();
  const double upper = sorted[std::min(low + 1, n - 1)].item<double>();
  return lower + (position - double(low)) * (upper - lower);
}

at::Tensor fill_sky(const at::Tensor& depth, const at::Tensor& sky) {
  at::Tensor out = depth.clone();
  for (int64_t b = 0; b < depth.size(0); ++b) {
    const at::Tensor is_sky = sky[b].ge(kSkyThreshold);
    const int64_t count = is_sky.sum().item<int64_t>();
    if (count <= kMinPixels || is_sky.numel() - count <= kMinPixels) continue;
    const double far = exact_quantile(depth[b].masked_select(is_sky.logical_not()), kFarQuantile);
    out[b].masked_fill_(is_sky, far);
  }
  return out;
}

MetricAlignment align_to_metric(const at::Tensor& depth, const at::Tensor& confidence,
                                const at::Tensor& extrinsics, const at::Tensor& intrinsics,
                                const at::Tensor& metric_depth, const at::Tensor& metric_sky) {
  const int64_t batch = depth.size(0);
  MetricAlignment out;
  out.depth = depth.clone();
  out.confidence = confidence.clone();
  out.extrinsics = extrinsics.clone();
  out.scale = at::ones({batch}, at::TensorOptions(at::kFloat));
  out.valid = at::zeros({batch}, at::TensorOptions(at::kBool));
  for (int64_t b = 0; b < batch; ++b) {
    const at::Tensor focal =
        (intrinsics[b].select(1, 0).select(1, 0) + intrinsics[b].select(1, 1).select(1, 1)) * 0.5;
    const at::Tensor metres = metric_depth[b] * (focal / 300.0).to(metric_depth.device()).view({-1, 1, 1});
    const at::Tensor is_sky = metric_sky[b].ge(kSkyThreshold);
    const at::Tensor solid = is_sky.logical_not();
    const int64_t solid_count = solid.sum().item<int64_t>();
    if (solid_count > kMinPixels) {
      const double middle = exact_quantile(confidence[b].masked_select(solid), 0.5);
      const at::Tensor use = confidence[b]
                                 .ge(middle)
                                 .logical_and(solid)
                                 .logical_and(metres.gt(1e-2))
                                 .logical_and(depth[b].gt(1e-3));
      const at::Tensor m = metres.masked_select(use).to(at::kDouble),
                       d = depth[b].masked_select(use).to(at::kDouble);
      if (m.numel() > 0) {
        const double scale = (m * d).sum().item<double>() / std::max((d * d).sum().item<double>(), 1e-12);
        out.scale[b] = scale;
        out.valid[b] = true;
        out.depth[b].mul_(scale);
        out.extrinsics[b].narrow(2, 3, 1).mul_(scale);
      }
      if (solid_count < is_sky.numel()) {
        const double far =
            std::min(exact_quantile(out.depth[b].masked_select(solid), kFarQuantile), kMaxSkyDepth);
        out.depth[b].masked_fill_(is_sky, far);
        out.confidence[b].masked_fill_(is_sky, 1.0);
      }
    }
  }
  return out;
}

}  // namespace da3
