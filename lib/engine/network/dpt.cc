// SPDX-License-Identifier: MIT
#include "engine/network/dpt.h"

#include <cmath>

namespace da3 {
namespace {

constexpr size_t kMaxUvTables = 256;

// [width, positions] -> sines then cosines of positions * omega, scaled by 0.1.
Tensor sine_cosine(int64_t count, double span, int64_t channels) {
  const int64_t quarter = channels / 4;
  const auto options = at::TensorOptions(at::kDouble);
  const double edge = span * double(count - 1) / double(count);
  const Tensor position = at::linspace(-edge, edge, count, options);  // [count]
  const Tensor omega = at::pow(100.0, -at::arange(quarter, options) / double(quarter));
  const Tensor angle = omega.unsqueeze(1) * position.unsqueeze(0);  // [quarter, count]
  return (at::cat({angle.sin(), angle.cos()}, 0) * 0.1).to(at::kFloat);
}

std::string numbered(const std::string& prefix, const char* name, int number) {
  return prefix + name + std::to_string(number);
}

}  // namespace

Tensor UvEmbedding::add(Tensor map, const ImageShape& image, bool in_place) const {
  const int64_t channels = map.size(1), rows = map.size(2), columns = map.size(3);
  const Key key{rows, columns, channels, image.height, image.width};
  auto found = cache_.find(key);
  if (found == cache_.end()) {
    if (cache_.size() >= kMaxUvTables) cache_.clear();
    const double aspect = double(image.width) / double(image.height);
    const double diagonal = std::sqrt(aspect * aspect + 1.0);
    Tables t;
    t.columns = sine_cosine(columns, aspect / diagonal, channels)
                    .view({1, channels / 2, 1, columns})
                    .to(map.device());
    t.rows = sine_cosine(rows, 1.0 / diagonal, channels).view({1, channels / 2, rows, 1}).to(map.device());
    found = cache_.emplace(key, std::move(t)).first;
  }
  if (!in_place) map = map.clone();
  map.narrow(1, 0, channels / 2).add_(found->second.columns);
  map.narrow(1, channels / 2, channels / 2).add_(found->second.rows);
  return map;
}

FusionChain::FusionChain(const Scope& scratch, int64_t width, const std::string& suffix) : suffix_(suffix) {
  for (int r = 1; r <= 4; ++r) {
    const Scope s = scratch / ("refinenet" + std::to_string(r) + suffix);
    std::optional<ResidualUnit> lateral;
    if (r < 4) lateral.emplace(s / "resConfUnit1", width);
    blocks_.push_back(
        {lateral, ResidualUnit(s / "resConfUnit2", width), Conv2d(s / "out_conv", width, width, 1)});
  }
}

Tensor FusionChain::forward(const std::array<Tensor, 4>& levels, const Tracer& trace,
                            const std::string& prefix) const {
  Tensor z;
  for (int r = 4; r >= 1; --r) {
    const Fusion& block = blocks_[size_t(r - 1)];
    const Tensor& level = levels[size_t(r - 1)];
    Tensor v = r == 4 ? level : block.lateral->forward(level).add_(z);
    // The 1x1 convolution commutes with the resize (its weights sum to one) and is four times cheaper before
    // it.
    v = block.out_conv(block.merged.forward(v));
    const int64_t rows = r == 1 ? 2 * level.size(2) : levels[size_t(r - 2)].size(2);
    const int64_t columns = r == 1 ? 2 * level.size(3) : levels[size_t(r - 2)].size(3);
    z = resize_bilinear(v, rows, columns);
    trace(numbered(prefix, "refinenet", r) + suffix_, z);
  }
  return z;
}

DptTrunk::DptTrunk(const Scope& head, int64_t token_width, const HeadConfig& config, bool with_norm,
                   bool with_uv)
    : with_norm_(with_norm), with_uv_(with_uv) {
  if (with_norm) norm_ = LayerNorm(head / "norm", token_width, 1e-5);
  const auto& o = config.out_channels;
  for (int k = 0; k < 4; ++k) {
    projects_[size_t(k)] = Conv2d(head / "projects" / k, token_width, o[size_t(k)], 1);
    layer_rn_[size_t(k)] = Conv2d(head / "scratch" / ("layer" + std::to_string(k + 1) + "_rn"), o[size_t(k)],
                                  config.features, 3, 1, /*with_bias=*/false);
  }
  up4_ = UpConv2d(head / "resize_layers" / 0, o[0], 4);
  up2_ = UpConv2d(head / "resize_layers" / 1, o[1], 2);
  down_ = Conv2d(head / "resize_layers" / 3, o[3], o[3], 3, 2);
}

std::array<Tensor, 4> DptTrunk::forward(const std::array<Tensor, 4>& tokens, const ImageShape& image,
                                        const UvEmbedding& uv, const Tracer& trace,
                                        const std::string& prefix) const {
  std::array<Tensor, 4> levels;
  for (int k = 0; k < 4; ++k) {
    Tensor t = tokens[size_t(k)];
    if (with_norm_) {
      t = norm_(t);
      trace(prefix + "norm", t);
    }
    t = t.transpose(1, 2).reshape({t.size(0), t.size(2), image.rows(), image.columns()});
    t = projects_[size_t(k)](t);
    trace(numbered(prefix, "project.", k), t);
    if (with_uv_) {
      t = uv.add(t, image, /*in_place=*/!trace);
      trace(numbered(prefix, "project_pe.", k), t);
    }
    if (k == 0) t = up4_(t);
    if (k == 1) t = up2_(t);
    if (k == 3) t = down_(t);
    trace(numbered(prefix, "resize.", k), t);
    levels[size_t(k)] = layer_rn_[size_t(k)](t);
    trace(numbered(prefix, "layer", k + 1) + "_rn", levels[size_t(k)]);
  }
  return levels;
}

DualDptHead::DualDptHead(const Scope& scope, int64_t token_width, const HeadConfig& config)
    : trunk_(scope, token_width, config, /*with_norm=*/true, /*with_uv=*/true),
      fusion_(scope / "scratch", config.features, ""),
      fusion_aux_(scope / "scratch", config.features, "_aux") {
  const Scope s = scope / "scratch";
  const int64_t f = config.features, half = f / 2;
  output_conv1_ = Conv2d(s / "output_conv1", f, half, 3);
  output_conv2_0_ = Conv2d(s / "output_conv2" / 0, half, 32, 3);
  output_conv2_2_ = Conv2d(s / "output_conv2" / 2, 32, 2, 1);
  // Only the finest of the four auxiliary levels is ever used; the others are part of the checkpoint.
  for (int level = 0; level < 4; ++level) {
    const bool used = level == 3;
    const Scope c1 = s / "output_conv1_aux" / level, c2 = s / "output_conv2_aux" / level;
    for (int j = 0; j < 5; ++j) {
      const int64_t in = j % 2 == 0 ? f : half, out = j % 2 == 0 ? half : f;
      if (used) {
        aux_conv1_.emplace_back(c1 / j, in, out, 3);
      } else {
        (c1 / j).declare("weight", {out, in, 3, 3});
        (c1 / j).declare("bias", {out});
      }
    }
    if (used) {
      aux_conv2_0_ = Conv2d(c2 / 0, half, 32, 3);
      aux_norm_ = LayerNorm(c2 / 2, 32, 1e-5);
      aux_conv2_5_ = Conv2d(c2 / 5, 32, 7, 1);
    } else {
      (c2 / 0).declare("weight", {32, half, 3, 3});
      (c2 / 0).declare("bias", {32});
      (c2 / 2).declare("weight", {32});
      (c2 / 2).declare("bias", {32});
      (c2 / 5).declare("weight", {7, 32, 1, 1});
      (c2 / 5).declare("bias", {7});
    }
  }
}

void DualDptHead::main_branch(const std::array<Tensor, 4>& levels, const ImageShape& image,
                              const Tracer& trace, DepthMaps* out) const {
  Tensor z = output_conv1_(fusion_.forward(levels, trace, "dpt."));
  trace("dpt.output_conv1", z);
  z = uv_.add(resize_bilinear(z, image.height, image.width), image, /*in_place=*/!trace);
  trace("dpt.output_conv2_in", z);
  z = output_conv2_0_(z);
  trace("dpt.output_conv2.0", z);
  z = output_conv2_2_(at::relu(z)).to(at::kFloat);
  trace("dpt.output_conv2", z);
  out->depth = z.select(1, 0).exp();
  out->confidence = z.select(1, 1).exp() + 1;
}

void DualDptHead::ray_branch(const std::array<Tensor, 4>& levels, const ImageShape& image,
                             const Tracer& trace, DepthMaps* out) const {
  Tensor z = fusion_aux_.forward(levels, trace, "dpt.");
  for (const Conv2d& conv : aux_conv1_) z = conv(z);
  trace("dpt.output_conv1_aux.3", z);
  z = uv_.add(z, image, /*in_place=*/!trace);
  trace("dpt.output_conv2_aux.3_in", z);
  z = aux_conv2_0_(z);
  trace("dpt.output_conv2_aux.3.0", z);
  z = aux_norm_(z.permute({0, 2, 3, 1})).permute({0, 3, 1, 2});
  z = aux_conv2_5_(at::relu(z).contiguous()).to(at::kFloat);
  trace("dpt.output_conv2_aux.3", z);
  z = z.permute({0, 2, 3, 1});
  out->ray = z.narrow(3, 0, 6).contiguous();
  out->ray_confidence = z.select(3, 6).exp() + 1;
}

DepthMaps DualDptHead::forward(const std::array<Tensor, 4>& tokens, const ImageShape& image, bool want_ray,
                               const Tracer& trace) const {
  const auto levels = trunk_.forward(tokens, image, uv_, trace, "dpt.");
  DepthMaps out;
  main_branch(levels, image, trace, &out);
  if (want_ray) ray_branch(levels, image, trace, &out);
  return out;
}

MonoDptHead::MonoDptHead(const Scope& scope, int64_t token_width, const HeadConfig& config)
    : trunk_(scope, token_width, config, /*with_norm=*/false, /*with_uv=*/false),
      fusion_(scope / "scratch", config.features, "") {
  const Scope s = scope / "scratch";
  const int64_t half = config.features / 2;
  output_conv1_ = Conv2d(s / "output_conv1", config.features, half, 3);
  output_conv2_0_ = Conv2d(s / "output_conv2" / 0, half, 32, 3);
  output_conv2_2_ = Conv2d(s / "output_conv2" / 2, 32, 1, 1);
  sky_conv2_0_ = Conv2d(s / "sky_output_conv2" / 0, half, 32, 3);
  sky_conv2_2_ = Conv2d(s / "sky_output_conv2" / 2, 32, 1, 1);
}

DepthMaps MonoDptHead::forward(const std::array<Tensor, 4>& tokens, const ImageShape& image,
                               const Tracer& trace) const {
  const auto levels = trunk_.forward(tokens, image, uv_, trace, "dpt.");
  Tensor z = output_conv1_(fusion_.forward(levels, trace, "dpt."));
  trace("dpt.output_conv1", z);
  z = resize_bilinear(z, image.height, image.width);
  trace("dpt.output_conv2_in", z);
  DepthMaps out;
  Tensor d = output_conv2_0_(z);
  trace("dpt.output_conv2.0", d);
  d = output_conv2_2_(at::relu(d));
  trace("dpt.output_conv2", d);
  out.depth = d.select(1, 0).exp();
  const Tensor sky = sky_conv2_2_(at::relu(sky_conv2_0_(z)));
  trace("dpt.sky_output_conv2", sky);
  out.sky = at::relu(sky.select(1, 0));
  return out;
}

GaussianDptHead::GaussianDptHead(const Scope& scope, int64_t token_width, const HeadConfig& config,
                                 int64_t outputs)
    : trunk_(scope, token_width, config, /*with_norm=*/false, /*with_uv=*/true),
      fusion_(scope / "scratch", config.features, "") {
  const Scope s = scope / "scratch";
  const int64_t f = config.features;
  output_conv1_ = Conv2d(s / "output_conv1", f, f / 2, 3);
  output_conv2_0_ = Conv2d(s / "output_conv2" / 0, f / 2, 32, 3);
  output_conv2_2_ = Conv2d(s / "output_conv2" / 2, 32, outputs, 1);
  const int64_t widths[] = {3, f / 8, f / 4, f / 2};
  for (int i = 0; i < 3; ++i)
    images_merger_[size_t(i)] = Conv2d(scope / "images_merger" / (2 * i), widths[i], widths[i + 1], 3);
}

Tensor GaussianDptHead::forward(const std::array<Tensor, 4>& tokens, const Tensor& image_pixels,
                                const Tracer& trace) const {
  const ImageShape image{image_pixels.size(2), image_pixels.size(3)};
  const auto levels = trunk_.forward(tokens, image, uv_, trace, "gs.dpt.");
  Tensor z = output_conv1_(fusion_.forward(levels, trace, "gs.dpt."));
  trace("gs.dpt.output_conv1", z);
  z = resize_bilinear(z, image.height, image.width);
  Tensor merged = image_pixels;
  for (const Conv2d& conv : images_merger_) merged = at::gelu(conv(merged));
  trace("gs.images_merger", merged);
  z = uv_.add(z + merged, image, /*in_place=*/true);
  trace("gs.dpt.output_conv2_in", z);
  z = output_conv2_0_(z);
  trace("gs.dpt.output_conv2.0", z);
  z = output_conv2_2_(at::relu(z));
  trace("gs.dpt.output_conv2", z);
  return z.permute({0, 2, 3, 1});
}

}  // namespace da3
