// SPDX-License-Identifier: MIT
#include "engine/network/dpt.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>

#include "engine/network/shape_caches.h"

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

// Tokens [N, P, D] as a map [N, D, rows, columns], as `next` likes it.
Tensor map_of(const Tensor& tokens, const ImageShape& image, const Conv2d& next) {
  const int64_t n = tokens.size(0), width = tokens.size(2);
  if (!next.channels_last()) return tokens.transpose(1, 2).reshape({n, width, image.rows(), image.columns()});
  return tokens.to(next.type()).reshape({n, image.rows(), image.columns(), width}).permute({0, 3, 1, 2});
}

std::string numbered(const std::string& prefix, const char* name, int number) {
  return prefix + name + std::to_string(number);
}

}  // namespace

const UvEmbedding::Tables& UvEmbedding::tables(int64_t channels, int64_t rows, int64_t columns,
                                               const ImageShape& image, at::Device device) const {
  const Key key{rows, columns, channels, image.height, image.width};
  auto found = cache_.find(key);
  if (found == cache_.end()) {
    if (cache_.size() >= kMaxUvTables) {
      cache_.clear();
      ++dropped_shape_caches();
    }
    const double aspect = double(image.width) / double(image.height);
    const double diagonal = std::sqrt(aspect * aspect + 1.0);
    const Tensor x = sine_cosine(columns, aspect / diagonal, channels).to(device);
    const Tensor y = sine_cosine(rows, 1.0 / diagonal, channels).to(device);
    const Tables t{x.view({1, channels / 2, 1, columns}), y.view({1, channels / 2, rows, 1}),
                   x.t().contiguous(), y.t().contiguous()};
    found = cache_.emplace(key, t).first;
  }
  return found->second;
}

Tensor UvEmbedding::add(Tensor map, const ImageShape& image, bool in_place) const {
  const int64_t half = map.size(1) / 2, rows = map.size(2), columns = map.size(3);
  const Tables& t = tables(map.size(1), rows, columns, image, map.device());
  if (!in_place) map = map.clone();
  // Tables in the order of the map.
  const bool pixels = !map.is_contiguous();
  const Tensor x = pixels ? t.pixel_columns.view({1, 1, columns, half}).permute({0, 3, 1, 2}) : t.columns;
  const Tensor y = pixels ? t.pixel_rows.view({1, rows, 1, half}).permute({0, 3, 1, 2}) : t.rows;
  map.narrow(1, 0, half).add_(x);
  map.narrow(1, half, half).add_(y);
  return map;
}

FusionChain::FusionChain(const Scope& scratch, int64_t width, const std::string& suffix, bool large)
    : suffix_(suffix) {
  for (int r = 1; r <= 4; ++r) {
    const Scope s = scratch / ("refinenet" + std::to_string(r) + suffix);
    const MapSize size = large && r < 3 ? MapSize::large : MapSize::small;
    std::optional<ResidualUnit> lateral;
    if (r < 4) lateral.emplace(s / "resConfUnit1", width, size);
    blocks_.push_back(
        {lateral, ResidualUnit(s / "resConfUnit2", width, size), Conv2d(s / "out_conv", width, width, 1)});
  }
}

Tensor FusionChain::forward(const std::array<Tensor, 4>& levels, bool keep, const Tracer& trace,
                            const std::string& prefix) const {
  Tensor z;
  for (int r = 4; r >= 1; --r) {
    const Fusion& block = blocks_[size_t(r - 1)];
    const Tensor& level = levels[size_t(r - 1)];
    // Only kernels of our own write over their operands.
    MapAndRelu v{keep && block.merged.layer().fusible() ? level.clone() : level, at::relu(level)};
    if (r < 4) v = add_resized(block.merged.layer(), block.lateral->forward(v), z);
    // The 1x1 convolution commutes with the resize (its weights sum to one) and is four times cheaper before
    // it.
    z = block.out_conv(block.merged.forward(v));
    if (!trace) continue;
    const Tensor& finer = levels[size_t(std::max(r - 2, 0))];
    const int64_t scale = r == 1 ? 2 : 1;
    trace(numbered(prefix, "refinenet", r) + suffix_,
          resize_bilinear(z, scale * finer.size(2), scale * finer.size(3)));
  }
  return z;
}

DptTrunk::DptTrunk(const Scope& head, int64_t token_width, const HeadConfig& config, bool with_norm,
                   bool with_uv)
    : with_norm_(with_norm), with_uv_(with_uv) {
  const auto& o = config.out_channels;
  const auto most = [&] {
    if (with_norm) norm_ = LayerNorm(head / "norm", token_width, 1e-5);
    for (int k = 0; k < 4; ++k) {
      projects_[size_t(k)] = Conv2d(head / "projects" / k, token_width, o[size_t(k)], 1);
      layer_rn_[size_t(k)] =
          Conv2d(head / "scratch" / ("layer" + std::to_string(k + 1) + "_rn"), o[size_t(k)], config.features,
                 3, 1, /*with_bias=*/false, k < 2 ? MapSize::large : MapSize::small);
    }
    up4_ = UpConv2d(head / "resize_layers" / 0, o[0], 4);
    up2_ = UpConv2d(head / "resize_layers" / 1, o[1], 2);
  };
  // The last layer takes as long as all others together.
  const auto last = [&] { down_ = Conv2d(head / "resize_layers" / 3, o[3], o[3], 3, 2); };
  build_each(head.source(), 2, [&](int64_t part) { part == 0 ? most() : last(); });
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
    t = projects_[size_t(k)](map_of(t, image, projects_[size_t(k)]));
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

std::vector<Tensor> run_output_branches(const Tensor& map, const ImageShape& image, const UvEmbedding* uv,
                                        const std::vector<OutputBranch>& branches, const Tracer& trace,
                                        const std::string& input_name) {
  std::vector<Tensor> out;
  // Who listens wants to see what the fused layers never write down.
  const auto heard = [&](const OutputBranch& branch, const Tensor& y) {
    if (!branch.conv_name.empty()) trace(branch.conv_name, y);
    return at::relu(y);
  };
  if (!branches.front().conv.fusible()) {
    Tensor z = resize_bilinear(map, image.height, image.width);
    if (uv) z = uv->add(z, image, /*in_place=*/!trace);
    trace(input_name, z);
    for (const OutputBranch& branch : branches) out.push_back(branch.last(heard(branch, branch.conv(z))));
  } else {
    for (const OutputBranch& branch : branches)
      out.push_back(at::empty({map.size(0), branch.last.outputs(), image.height, image.width},
                              at::TensorOptions(at::kFloat)));
    ResizedMap resized{map, image.height, image.width, {}, {}};
    if (uv) {
      const auto& tables = uv->tables(map.size(1), image.height, image.width, image, map.device());
      resized.row_offsets = tables.pixel_rows;
      resized.column_offsets = tables.pixel_columns;
    }
    for_resized_bands(resized, /*whole=*/bool(trace), 0, [&](int64_t item, int64_t row, const Tensor& band) {
      if (trace) trace(input_name, band.narrow(2, 1, image.height));
      for (size_t i = 0; i < branches.size(); ++i) {
        const Conv2d& conv = branches[i].conv;
        const Tensor y = trace ? heard(branches[i], conv.forward_rows(band, /*relu=*/false))
                               : conv.forward_rows(band, /*relu=*/true);
        branches[i].last.write(y, item, row, &out[i]);
      }
    });
  }
  for (size_t i = 0; i < branches.size(); ++i) trace(branches[i].name, out[i]);
  return out;
}

DualDptHead::DualDptHead(const Scope& scope, int64_t token_width, const HeadConfig& config)
    : trunk_(scope, token_width, config, /*with_norm=*/true, /*with_uv=*/true) {
  const Scope s = scope / "scratch";
  const std::function<void()> parts[] = {
      [&] { fusion_ = FusionChain(s, config.features, "", true); },
      [&] { fusion_aux_ = FusionChain(s, config.features, "_aux", false); },
      [&] { build_outputs(s, config.features); }};
  build_each(scope.source(), std::ssize(parts), [&](int64_t i) { parts[i](); });
}

void DualDptHead::build_outputs(const Scope& s, int64_t f) {
  const int64_t half = f / 2;
  output_conv1_ = Conv2d(s / "output_conv1", f, half, 3, 1, true, MapSize::large);
  output_conv2_0_ = Conv2d(s / "output_conv2" / 0, half, 32, 3, 1, true, MapSize::large);
  output_conv2_2_ = LastConv(s / "output_conv2" / 2, 32, 2);
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
      aux_conv2_5_ = LastConv(c2 / 5, 32, 7);
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

void DualDptHead::main_branch(const std::array<Tensor, 4>& levels, bool keep, const ImageShape& image,
                              const Tracer& trace, DepthMaps* out) const {
  const Tensor fused = fusion_.forward(levels, keep, trace, "dpt.");
  const Tensor z = resize_and_convolve(output_conv1_, fused, 2 * fused.size(2), 2 * fused.size(3));
  trace("dpt.output_conv1", z);
  const Tensor logits =
      run_output_branches(z, image, &uv_,
                          {{output_conv2_0_, output_conv2_2_, "dpt.output_conv2.0", "dpt.output_conv2"}},
                          trace, "dpt.output_conv2_in")
          .front();
  out->depth = logits.select(1, 0).exp();
  out->confidence = logits.select(1, 1).exp() + 1;
}

void DualDptHead::ray_branch(const std::array<Tensor, 4>& levels, const ImageShape& image,
                             const Tracer& trace, DepthMaps* out) const {
  const Tensor fused = fusion_aux_.forward(levels, /*keep=*/bool(trace), trace, "dpt.");
  Tensor z = resize_and_convolve(aux_conv1_.front(), fused, 2 * fused.size(2), 2 * fused.size(3));
  for (size_t i = 1; i < aux_conv1_.size(); ++i) z = aux_conv1_[i](z);
  trace("dpt.output_conv1_aux.3", z);
  z = uv_.add(z, image, /*in_place=*/!trace);
  trace("dpt.output_conv2_aux.3_in", z);
  z = aux_conv2_0_(z);
  trace("dpt.output_conv2_aux.3.0", z);
  z = aux_norm_(z.permute({0, 2, 3, 1}).to(at::kFloat));
  z = aux_conv2_5_.of_pixels(at::relu(z)).to(at::kFloat);
  trace("dpt.output_conv2_aux.3", z.permute({0, 3, 1, 2}));
  out->ray = z.narrow(3, 0, 6).contiguous();
  out->ray_confidence = z.select(3, 6).exp() + 1;
}

DepthMaps DualDptHead::forward(const std::array<Tensor, 4>& tokens, const ImageShape& image, bool want_ray,
                               const Tracer& trace) const {
  const auto levels = trunk_.forward(tokens, image, uv_, trace, "dpt.");
  DepthMaps out;
  main_branch(levels, /*keep=*/want_ray || trace, image, trace, &out);
  if (want_ray) ray_branch(levels, image, trace, &out);
  return out;
}

MonoDptHead::MonoDptHead(const Scope& scope, int64_t token_width, const HeadConfig& config)
    : trunk_(scope, token_width, config, /*with_norm=*/false, /*with_uv=*/false),
      fusion_(scope / "scratch", config.features, "", true) {
  const Scope s = scope / "scratch";
  const int64_t half = config.features / 2;
  output_conv1_ = Conv2d(s / "output_conv1", config.features, half, 3, 1, true, MapSize::large);
  output_conv2_0_ = Conv2d(s / "output_conv2" / 0, half, 32, 3, 1, true, MapSize::large);
  output_conv2_2_ = LastConv(s / "output_conv2" / 2, 32, 1);
  sky_conv2_0_ = Conv2d(s / "sky_output_conv2" / 0, half, 32, 3, 1, true, MapSize::large);
  sky_conv2_2_ = LastConv(s / "sky_output_conv2" / 2, 32, 1);
}

DepthMaps MonoDptHead::forward(const std::array<Tensor, 4>& tokens, const ImageShape& image,
                               const Tracer& trace) const {
  const auto levels = trunk_.forward(tokens, image, uv_, trace, "dpt.");
  const Tensor fused = fusion_.forward(levels, /*keep=*/bool(trace), trace, "dpt.");
  const Tensor z = resize_and_convolve(output_conv1_, fused, 2 * fused.size(2), 2 * fused.size(3));
  trace("dpt.output_conv1", z);
  const auto logits =
      run_output_branches(z, image, nullptr,
                          {{output_conv2_0_, output_conv2_2_, "dpt.output_conv2.0", "dpt.output_conv2"},
                           {sky_conv2_0_, sky_conv2_2_, "", "dpt.sky_output_conv2"}},
                          trace, "dpt.output_conv2_in");
  DepthMaps out;
  out.depth = logits[0].select(1, 0).exp();
  out.sky = at::relu(logits[1].select(1, 0));
  return out;
}

GaussianDptHead::GaussianDptHead(const Scope& scope, int64_t token_width, const HeadConfig& config,
                                 int64_t outputs)
    : trunk_(scope, token_width, config, /*with_norm=*/false, /*with_uv=*/true),
      fusion_(scope / "scratch", config.features, "", true) {
  const Scope s = scope / "scratch";
  const int64_t f = config.features;
  output_conv1_ = Conv2d(s / "output_conv1", f, f / 2, 3, 1, true, MapSize::large);
  output_conv2_0_ = Conv2d(s / "output_conv2" / 0, f / 2, 32, 3, 1, true, MapSize::large);
  output_conv2_2_ = LastConv(s / "output_conv2" / 2, 32, outputs);
  const int64_t widths[] = {3, f / 8, f / 4, f / 2};
  for (int i = 0; i < 3; ++i)
    images_merger_[size_t(i)] = Conv2d(scope / "images_merger" / (2 * i), widths[i], widths[i + 1], 3);
}

Tensor GaussianDptHead::forward(const std::array<Tensor, 4>& tokens, const Tensor& image_pixels,
                                const Tracer& trace) const {
  const ImageShape image{image_pixels.size(2), image_pixels.size(3)};
  const auto levels = trunk_.forward(tokens, image, uv_, trace, "gs.dpt.");
  const Tensor fused = fusion_.forward(levels, /*keep=*/bool(trace), trace, "gs.dpt.");
  Tensor z = resize_and_convolve(output_conv1_, fused, 2 * fused.size(2), 2 * fused.size(3));
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
