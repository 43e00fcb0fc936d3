// SPDX-License-Identifier: MIT
//
// The dense prediction trunk that all heads share, and the three heads on it. All float32.
// Source: upstream model/{dpt,dualdpt,gsdpt}.py, model/utils/head_utils.py.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "engine/network/config.h"
#include "engine/network/ops.h"
#include "engine/network/trace.h"

namespace da3 {

// The size of the network input and of its patch grid.
struct ImageShape {
  int64_t height = 0, width = 0;
  int64_t rows() const { return height / DA3_PATCH_SIZE; }
  int64_t columns() const { return width / DA3_PATCH_SIZE; }
};

// Sine-cosine embedding of pixel positions, added to a map [N, C, h, w]. The first half of the channels
// depends on the column only, the second on the row only, so two thin tables replace a full map. Caches
// tables; not thread-safe.
class UvEmbedding {
 public:
  // Returns map + 0.1 * embedding, in place when `map` may be overwritten.
  Tensor add(Tensor map, const ImageShape& image, bool in_place) const;

 private:
  struct Tables {
    Tensor columns, rows;  // [1, C/2, 1, w], [1, C/2, h, 1]
  };
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>;
  mutable std::map<Key, Tables> cache_;
};

// v + conv2(relu(conv1(relu(v))))
class ResidualUnit {
 public:
  ResidualUnit(const Scope& scope, int64_t width)
      : conv1_(scope / "conv1", width, width, 3), conv2_(scope / "conv2", width, width, 3) {}
  Tensor forward(const Tensor& v) const { return conv2_(at::relu(conv1_(at::relu(v)))).add_(v); }

 private:
  Conv2d conv1_, conv2_;
};

// Four fusion blocks, coarse to fine.
class FusionChain {
 public:
  FusionChain(const Scope& scratch, int64_t width, const std::string& suffix);
  // levels: r1..r4, fine to coarse. Result: [N, F, 2 h1, 2 w1].
  Tensor forward(const std::array<Tensor, 4>& levels, const Tracer& trace, const std::string& prefix) const;

 private:
  struct Fusion {
    std::optional<ResidualUnit> lateral;
    ResidualUnit merged;
    Conv2d out_conv;
  };
  std::vector<Fusion> blocks_;  // refinenet1..4
  std::string suffix_;
};

// Tokens of four layers -> four maps r1..r4 of F channels.
class DptTrunk {
 public:
  DptTrunk(const Scope& head, int64_t token_width, const HeadConfig& config, bool with_norm, bool with_uv);
  // tokens: [N, P, D] each.
  std::array<Tensor, 4> forward(const std::array<Tensor, 4>& tokens, const ImageShape& image,
                                const UvEmbedding& uv, const Tracer& trace, const std::string& prefix) const;

 private:
  bool with_norm_, with_uv_;
  LayerNorm norm_;
  std::array<Conv2d, 4> projects_;
  UpConv2d up4_, up2_;
  Conv2d down_;
  std::array<Conv2d, 4> layer_rn_;
};

struct DepthMaps {
  Tensor depth;       // [N, H, W]
  Tensor confidence;  // [N, H, W], DualDPT
  Tensor sky;         // [N, H, W], DPT
  Tensor ray;         // [N, 8 ph, 8 pw, 6], DualDPT when asked for
  Tensor ray_confidence;
};

// Depth and confidence, and from a second branch rays and their confidence.
class DualDptHead {
 public:
  DualDptHead(const Scope& scope, int64_t token_width, const HeadConfig& config);
  DepthMaps forward(const std::array<Tensor, 4>& tokens, const ImageShape& image, bool want_ray,
                    const Tracer& trace) const;

 private:
  void main_branch(const std::array<Tensor, 4>& levels, const ImageShape& image, const Tracer& trace,
                   DepthMaps* out) const;
  void ray_branch(const std::array<Tensor, 4>& levels, const ImageShape& image, const Tracer& trace,
                  DepthMaps* out) const;

  DptTrunk trunk_;
  FusionChain fusion_, fusion_aux_;
  Conv2d output_conv1_, output_conv2_0_, output_conv2_2_;
  std::vector<Conv2d> aux_conv1_;
  Conv2d aux_conv2_0_, aux_conv2_5_;
  LayerNorm aux_norm_;
  UvEmbedding uv_;
};

// Depth and sky.
class MonoDptHead {
 public:
  MonoDptHead(const Scope& scope, int64_t token_width, const HeadConfig& config);
  DepthMaps forward(const std::array<Tensor, 4>& tokens, const ImageShape& image, const Tracer& trace) const;

 private:
  DptTrunk trunk_;
  FusionChain fusion_;
  Conv2d output_conv1_, output_conv2_0_, output_conv2_2_, sky_conv2_0_, sky_conv2_2_;
  UvEmbedding uv_;  // unused by this head's trunk
};

// Raw Gaussian parameters.
class GaussianDptHead {
 public:
  GaussianDptHead(const Scope& scope, int64_t token_width, const HeadConfig& config, int64_t outputs);
  // image_pixels: normalised input [N, 3, H, W]. Result [N, H, W, outputs]; the last channel after a sigmoid
  // is opacity.
  Tensor forward(const std::array<Tensor, 4>& tokens, const Tensor& image_pixels, const Tracer& trace) const;

 private:
  DptTrunk trunk_;
  FusionChain fusion_;
  Conv2d output_conv1_, output_conv2_0_, output_conv2_2_;
  std::array<Conv2d, 3> images_merger_;
  UvEmbedding uv_;
};

}  // namespace da3
