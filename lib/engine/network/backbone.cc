// SPDX-License-Identifier: MIT
#include "engine/network/backbone.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "engine/network/shape_caches.h"

namespace da3 {
namespace {

constexpr int64_t kPatch = DA3_PATCH_SIZE;
// More shapes than this in one stream are no steady state: start over instead of growing.
constexpr size_t kMaxShapes = 32;

}  // namespace

Backbone::Backbone(const Scope& scope, const BackboneConfig& config) : config_(config) {
  const Scope s = scope / "backbone" / "pretrained";
  const int64_t c = config.width;
  cls_token_ = s.take("cls_token", {1, 1, c});
  if (config.alt_start >= 0) camera_token_ = s.take("camera_token", {1, 2, c});
  pos_embed_ = s.take("pos_embed", {1, 1 + int64_t(config.pos_grid) * config.pos_grid, c});
  patch_weight_ = (s / "patch_embed" / "proj").take_compute("weight", {c, 3, kPatch, kPatch});
  patch_bias_ = (s / "patch_embed" / "proj").take_compute("bias", {c});
  if (patch_weight_.defined() && scope.placement().prepack)
    patch_layer_ = PackedLinear::make(patch_weight_.flatten(1), patch_bias_);
  if (patch_layer_) {
    patch_type_ = patch_weight_.scalar_type();
    patch_weight_ = patch_bias_ = Tensor();
  }
  std::vector<std::optional<Block>> blocks(static_cast<size_t>(config.depth));
  build_each(s.source(), config.depth, [&](int64_t i) {
    BlockShape shape;
    shape.width = c;
    shape.heads = config.heads;
    shape.ffn_hidden = config.ffn_hidden;
    shape.swiglu = config.swiglu;
    shape.qk_norm = config.alt_start >= 0 && i >= config.alt_start;
    blocks[size_t(i)].emplace(s / "blocks" / int(i), shape);
  });
  for (std::optional<Block>& block : blocks) blocks_.push_back(std::move(*block));
  norm_ = LayerNorm(s / "norm", c, 1e-5);
}

const Backbone::ShapeCache& Backbone::shape_cache(int64_t height, int64_t width, at::Device device) const {
  const int64_t ph = height / kPatch, pw = width / kPatch;
  // While the embedding is being trained every pass needs it anew.
  const bool training = pos_embed_.requires_grad();
  const auto found = cache_.find({ph, pw});
  if (found != cache_.end() && !training) return found->second;
  if (cache_.size() >= kMaxShapes || training) {
    cache_.clear();
    ++dropped_shape_caches();
  }

  ShapeCache shape;
  const int64_t grid = config_.pos_grid, c = config_.width;
  if (ph * pw == grid * grid && height == width) {
    shape.position = pos_embed_;
  } else {
    const Tensor stored =
        pos_embed_.narrow(1, 1, grid * grid).reshape({1, grid, grid, c}).permute({0, 3, 1, 2});
    // The offset 0.1 is upstream's and moves the sampling positions.
    const Tensor resized =
        at::upsample_bicubic2d(stored.contiguous(), {ph, pw}, /*align_corners=*/false,
                               (double(ph) + 0.1) / double(grid), (double(pw) + 0.1) / double(grid));
    shape.position =
        at::cat({pos_embed_.narrow(1, 0, 1), resized.permute({0, 2, 3, 1}).reshape({1, ph * pw, c})}, 1);
  }
  if (config_.alt_start >= 0) {
    const auto options = at::TensorOptions(at::kLong);
    Tensor local = at::zeros({1 + ph * pw, 2}, options);
    local.narrow(0, 1, ph * pw)
        .copy_(at::stack({at::arange(1, ph + 1, options).unsqueeze(1).expand({ph, pw}),
                          at::arange(1, pw + 1, options).unsqueeze(0).expand({ph, pw})},
                         -1)
                   .reshape({ph * pw, 2}));
    const int64_t head_width = config_.width / config_.heads;
    auto place = [&](RopeTable t) { return RopeTable{t.cos.to(device), t.sin.to(device)}; };
    shape.local = place(make_rope_table(local, head_width));
    shape.global = place(make_rope_table(local.clamp(0, 1), head_width));
  }
  return cache_.emplace(std::make_pair(ph, pw), std::move(shape)).first->second;
}

Tensor Backbone::embed_patches(const Tensor& image) const {
  if (!patch_layer_)
    return at::conv2d(image.to(patch_weight_.scalar_type()), patch_weight_, patch_bias_, {kPatch, kPatch})
        .to(at::kFloat)
        .flatten(2)
        .transpose(1, 2);
  // Patches do not overlap: a linear layer of their pixels.
  const int64_t n = image.size(0), rows = image.size(2) / kPatch, columns = image.size(3) / kPatch;
  const Tensor pixels = image.to(patch_type_)
                            .view({n, 3, rows, kPatch, columns, kPatch})
                            .permute({0, 2, 4, 1, 3, 5})
                            .reshape({n, rows * columns, 3 * kPatch * kPatch});
  return patch_layer_->forward(pixels).to(at::kFloat);
}

Tensor Backbone::embed(const Tensor& image, const ShapeCache& shape, const Tracer& trace) const {
  const int64_t batch = image.size(0), views = image.size(1);
  const Tensor patches = embed_patches(image.flatten(0, 1));  // [B * S, P, C]
  trace("tokens.patch_embed", patches);
  trace("tokens.pos_embed", shape.position);
  Tensor tokens =
      at::cat({cls_token_.expand({patches.size(0), 1, config_.width}), patches}, 1) + shape.position;
  tokens = tokens.reshape({batch, views, tokens.size(1), config_.width});
  trace("tokens.input", tokens);
  return tokens;
}

Tensor Backbone::run_block(int i, const Tensor& x, const ShapeCache& shape) const {
  const int64_t batch = x.size(0), views = x.size(1), tokens = x.size(2), c = x.size(3);
  static const RopeTable no_rope;
  const bool global = config_.is_global(i);
  const RopeTable& rope = config_.alt_start < 0 || i < config_.alt_start ? no_rope
                          : global                                       ? shape.global
                                                                         : shape.local;
  const Tensor flat = global ? x.reshape({batch, views * tokens, c}) : x.reshape({batch * views, tokens, c});
  return blocks_[size_t(i)].forward(flat, rope).reshape({batch, views, tokens, c});
}

BackboneOutput Backbone::forward(const Tensor& image, const BackboneOptions& options,
                                 const Tracer& trace) const {
  const int64_t batch = image.size(0), views = image.size(1);
  const int64_t ph = image.size(3) / kPatch, pw = image.size(4) / kPatch;
  const ShapeCache& shape = shape_cache(image.size(3), image.size(4), image.device());
  const bool given_cameras = options.camera_tokens.defined();
  const int alt_start = config_.alt_start;

  BackboneOutput out;
  ViewOrder order;
  Tensor x = embed(image, shape, trace);
  Tensor local = x;  // last output of a local block
  size_t next_feature = 0;
  for (int i = 0; i < config_.depth; ++i) {
    if (alt_start > 0 && i == alt_start - 1 && views >= 3 && !given_cameras) {
      out.reference = select_reference_views(x.select(2, 0), options.ref_view_strategy);
      order = make_view_order(out.reference, views, x.device());
      if (!order.identity) {
        x = reorder_views(x, order.forward);
        local = reorder_views(local, order.forward);
      }
    }
    if (alt_start >= 0 && i == alt_start) {
      Tensor token = options.camera_tokens;
      if (!given_cameras) {
        const Tensor other = camera_token_.narrow(1, 1, 1).expand({batch, views - 1, config_.width});
        token = at::cat({camera_token_.narrow(1, 0, 1).expand({batch, 1, config_.width}), other}, 1);
      }
      x = at::cat({token.unsqueeze(2), x.narrow(2, 1, x.size(2) - 1)}, 2);
    }
    x = run_block(i, x, shape);
    if (!config_.is_global(i)) local = x;
    trace("block." + std::to_string(i), x);

    if (next_feature < 4 && config_.out_layers[next_feature] == i) {
      Tensor f = config_.cat_token ? at::cat({local, x}, -1) : x;
      if (!order.identity) f = reorder_views(f, order.inverse);
      out.features[next_feature++] = f;
    }
    if (std::find(options.feature_layers.begin(), options.feature_layers.end(), i) !=
        options.feature_layers.end()) {
      Tensor f = norm_(x).narrow(2, 1, ph * pw).reshape({batch, views, ph, pw, config_.width});
      const bool reordered = !order.identity && options.restore_feature_order;
      out.exported.emplace_back(i, reordered ? reorder_views(f, order.inverse) : f);
    }
  }

  for (size_t k = 0; k < 4; ++k) {
    Tensor& f = out.features[k];
    out.camera_tokens[k] = f.select(2, 0);
    // Only the current half is normalised; the local half stays as it is.
    f = f.narrow(2, 1, ph * pw);
    if (config_.cat_token)
      f = at::cat({f.narrow(3, 0, config_.width), norm_(f.narrow(3, config_.width, config_.width))}, -1);
    else
      f = norm_(f);
    f = f.flatten(0, 1);
    trace("feat." + std::to_string(k), f);
    trace("camera_token." + std::to_string(k), out.camera_tokens[k]);
  }
  return out;
}

}  // namespace da3
