// SPDX-License-Identifier: MIT
#include "train/probes.h"

#include <string>

namespace da3::train {
namespace {

constexpr int64_t kCells = 2;  // depth cells along a patch's side
constexpr int64_t kOutputs = kCells * kCells + 6;
constexpr int64_t kDescriptor = 64;
constexpr double kMatchWeight = 0.1, kMatchSharpness = 12;
constexpr double kLevelWeights[] = {0.3, 0.4, 1.0};
constexpr double kDepthWeight = 0.7, kDirectionWeight = 3.0, kOriginWeight = 1.5;

}  // namespace

Probes::Probes(WeightSource& source, int64_t width) {
  for (int i = 0; i < kLevels; ++i) {
    const std::string name = kProbePrefix + std::to_string(i + 1);
    weight_[size_t(i)] = source.take(name + ".weight", {kOutputs, width});
    bias_[size_t(i)] = source.take(name + ".bias", {kOutputs});
    if (i < kMatching) descriptor_[size_t(i)] = source.take(name + ".descriptor", {kDescriptor, width});
  }
}

Tracer Probes::tracer() {
  return Tracer([this](const std::string& name, const at::Tensor& value) {
    if (name.size() == 6 && name.compare(0, 5, "feat.") == 0 && name[5] >= '1')
      features_[size_t(name[5] - '1')] = value;
  });
}

Tensor Probes::match_loss(int level, const Targets& t) const {
  const int64_t sets = t.match.size(0), views = t.match.size(1), patches = t.match.size(2);
  const Tensor d = at::linear(features_[size_t(level)], descriptor_[size_t(level)]);
  const Tensor unit =
      (d / (d.square().sum(-1, true) + 1e-6).sqrt()).view({sets, views, patches, kDescriptor});
  // The other view: the first one, for the first one the second.
  const Tensor others = at::cat(
      {unit.narrow(1, 1, 1), unit.narrow(1, 0, 1).expand({sets, views - 1, patches, kDescriptor})}, 1);
  const Tensor scores = kMatchSharpness * at::matmul(unit, others.transpose(-2, -1));
  const Tensor index = t.match.flatten();
  const Tensor known = (index >= 0).to(at::kFloat);
  const Tensor chosen =
      scores.flatten(0, 2).log_softmax(-1).gather(1, index.clamp_min(0).unsqueeze(1)).squeeze(1);
  return -(chosen * known).sum() / known.sum().clamp_min(1);
}

Tensor Probes::loss(const Targets& t) {
  const int64_t images = t.depth.size(0) * t.depth.size(1), height = t.depth.size(2), width = t.depth.size(3);
  const int64_t rows = height / DA3_PATCH_SIZE, columns = width / DA3_PATCH_SIZE;
  // Means over the cells, of what has depth.
  const auto cells = [&](const Tensor& map) {
    return at::adaptive_avg_pool2d(map.view({images, 1, height, width}), {rows * kCells, columns * kCells});
  };
  const Tensor share = cells(t.valid);
  const Tensor depth = cells(t.log_depth) / share.clamp_min(1e-6);
  const Tensor seen = (share > 0.5).to(at::kFloat), count = seen.sum().clamp_min(1);
  const Tensor ray = at::adaptive_avg_pool2d(t.ray.flatten(0, 1).permute({0, 3, 1, 2}), {rows, columns});

  Tensor total;
  for (int i = 0; i < kLevels; ++i) {
    const Tensor out = at::linear(features_[size_t(i)], weight_[size_t(i)], bias_[size_t(i)])
                           .view({images, rows, columns, kOutputs})
                           .permute({0, 3, 1, 2});
    const Tensor said = at::pixel_shuffle(out.narrow(1, 0, kCells * kCells), kCells);
    const Tensor difference = (out.narrow(1, kCells * kCells, 6) - ray).abs();
    const Tensor loss = kDepthWeight * ((said - depth).abs() * seen).sum() / count +
                        kDirectionWeight * difference.narrow(1, 0, 3).mean() +
                        kOriginWeight * difference.narrow(1, 3, 3).mean();
    total = total.defined() ? total + kLevelWeights[i] * loss : kLevelWeights[i] * loss;
    if (i >= kMatching || t.match.size(1) < 2) continue;
    const Tensor match = match_loss(i, t);
    last_match_ = match.item<double>();
    total = total + kMatchWeight * match;
  }
  features_ = {};
  return total;
}

}  // namespace da3::train
