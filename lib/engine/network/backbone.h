// SPDX-License-Identifier: MIT
//
// The DINOv2 transformer of DA3: local blocks within a view, global blocks over all views of a scene, camera
// tokens. Source: upstream model/dinov2/vision_transformer.py.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/api/engine.h"
#include "engine/network/block.h"
#include "engine/network/config.h"
#include "engine/network/reference_view.h"
#include "engine/network/trace.h"

namespace da3 {

struct BackboneOptions {
  Da3RefViewStrategy ref_view_strategy = DA3_REF_VIEW_SADDLE_BALANCED;
  Tensor camera_tokens;             // [B, S, C] from the camera encoder, or undefined
  std::vector<int> feature_layers;  // ascending block indices to export
  // Put exported features back into input order (upstream leaves them in reference-first order).
  bool restore_feature_order = true;
};

struct BackboneOutput {
  std::array<Tensor, 4> features;       // [B * S, P, D] for the heads
  std::array<Tensor, 4> camera_tokens;  // [B, S, D], before the final norm; only the last one is used
  std::vector<std::pair<int, Tensor>> exported;  // block -> [B, S, ph, pw, C]
  std::vector<int64_t> reference;                // per scene; empty when none was selected
};

// Caches what depends on the shape only; not thread-safe.
class Backbone {
 public:
  Backbone(const Scope& scope, const BackboneConfig& config);
  // image: [B, S, 3, H, W], normalised, H and W multiples of 14.
  BackboneOutput forward(const Tensor& image, const BackboneOptions& options, const Tracer& trace) const;

 private:
  struct ShapeCache {
    Tensor position;          // [1, 1 + P, C]
    RopeTable local, global;  // [1 + P, head_width]
  };
  const ShapeCache& shape_cache(int64_t height, int64_t width, at::Device device) const;
  // [N, 3, H, W] -> [N, P, C]
  Tensor embed_patches(const Tensor& image) const;
  Tensor embed(const Tensor& image, const ShapeCache& shape, const Tracer& trace) const;
  Tensor run_block(int i, const Tensor& x, const ShapeCache& shape) const;

  BackboneConfig config_;
  Tensor cls_token_, camera_token_, pos_embed_;
  Tensor patch_weight_, patch_bias_;  // undefined once they are laid out
  std::shared_ptr<const PackedLinear> patch_layer_;
  at::ScalarType patch_type_ = at::kFloat;
  std::vector<Block> blocks_;
  LayerNorm norm_;
  mutable std::map<std::pair<int64_t, int64_t>, ShapeCache> cache_;
};

}  // namespace da3
