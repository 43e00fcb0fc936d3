// SPDX-License-Identifier: MIT
//
// What a network is made of: read from config.json, taken from the built-in table, or found from tensor
// shapes. Source: upstream configs/*.yaml, model/dinov2/vision_transformer.py. No LibTorch.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/checkpoint/checkpoint.h"

namespace da3 {

struct BackboneConfig {
  int64_t width = 0;       // C
  int depth = 0;           // blocks
  int heads = 0;           // C / heads channels each
  int64_t ffn_hidden = 0;  // hidden width of the feed-forward layer
  bool swiglu = false;     // SwiGLU instead of a GELU MLP
  std::array<int, 4> out_layers{};
  int alt_start = -1;      // first block of the alternating part: QK norm, RoPE, camera token; -1: none
  bool cat_token = false;  // features are [last local output | output], twice as wide
  int pos_grid = 37;       // side of the stored position grid

  int64_t feature_width() const { return cat_token ? 2 * width : width; }
  bool is_global(int block) const { return alt_start >= 0 && block >= alt_start && block % 2 == 1; }
};

struct HeadConfig {
  bool dual = true;  // DualDPT (depth, confidence, ray), else DPT (depth, sky)
  int64_t features = 0;
  std::array<int64_t, 4> out_channels{};
};

struct GaussianConfig {
  HeadConfig head;
  int sh_degree = 2;
  double scale_min = 1e-5;
  double scale_max = 30.0;
};

struct ModelConfig {
  std::string name;
  BackboneConfig backbone;
  HeadConfig head;
  bool cameras = false;  // camera encoder (width C) and decoder (width 2C)
  std::optional<GaussianConfig> gaussians;
  // The metric branch of a nested model; then the rest describes the any-view branch.
  std::shared_ptr<const ModelConfig> metric;
  // Depth of this model times focal length [px] / 300 is metres (the metric model on its own).
  bool focal_normalised = false;
  int process_res = 504;  // longest side that it is meant for [px]

  bool nested() const { return metric != nullptr; }
};

const std::vector<std::string>& builtin_config_names();
// Throws EngineError(SETTINGS) that lists the names.
ModelConfig builtin_config(const std::string& name);

// From config.json: the tree under "config" if it is there and complete, else the built-in one of
// "model_name". Understood beside upstream's keys, in "net": embed_dim, depth, num_heads, ffn_hidden,
// ffn_layer (mlp, swiglu), so that backbones without a preset can be described; beside "model_name":
// process_res. Throws EngineError(WRONG_TYPE).
ModelConfig config_from_json(const std::string& text);

// From tensor names and shapes; the family only (a metric and a mono model look the same: mono is taken).
// Throws EngineError(WRONG_TYPE).
ModelConfig detect_config(const Checkpoint& checkpoint);

// config.json if there is one, else detection.
ModelConfig config_of(const Checkpoint& checkpoint);

}  // namespace da3
