// SPDX-License-Identifier: MIT
//
// The dense prediction trunk that all heads share, and the three heads on it. Convolutions compute in the
// type of the scope that a head is built with; normalisation and the last layer of each head in float32, and
// so are all results. Source: upstream model/{dpt,dualdpt,gsdpt}.py, model/utils/head_utils.py.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "engine/network/config.h"
#include "engine/network/conv.h"
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

  // 0.1 * embedding, for `channels` channels.
  struct Tables {
    Tensor columns, rows;              // planes: [1, C/2, 1, w], [1, C/2, h, 1]
    Tensor pixel_columns, pixel_rows;  // pixels: [w, C/2], [h, C/2]
  };
  const Tables& tables(int64_t channels, int64_t rows, int64_t columns, const ImageShape& image,
                       at::Device device) const;

 private:
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>;
  mutable std::map<Key, Tables> cache_;
};

// v + conv2(relu(conv1(relu(v))))
class ResidualUnit {
 public:
  ResidualUnit(const Scope& scope, int64_t width, MapSize maps)
      : conv1_(scope / "conv1", width, width, 3, 1, true, maps),
        conv2_(scope / "conv2", width, width, 3, 1, true, maps) {}
  // `v` may be overwritten.
  Tensor forward(const MapAndRelu& v) const { return conv2_.add_to(v.map, conv1_.forward_relu(v.relu)); }
  const Conv2d& layer() const { return conv2_; }

 private:
  Conv2d conv1_, conv2_;
};

// Four fusion blocks, coarse to fine.
class FusionChain {
 public:
  FusionChain() = default;
  // large: whether the finer maps are worth more memory (MapSize).
  FusionChain(const Scope& scratch, int64_t width, const std::string& suffix, bool large);
  // levels: r1..r4, fine to coarse; may be overwritten unless they are kept. Result: [N, F, h1, w1], still to
  // be resized to twice that.
  Tensor forward(const std::array<Tensor, 4>& levels, bool keep, const Tracer& trace,
                 const std::string& prefix) const;

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

// One of the outputs that follow a resize to the size of the image: last(relu(conv(..))).
struct OutputBranch {
  const Conv2d& conv;
  const LastConv& last;
  std::string conv_name, name;  // for traces; may be empty
};

// What the branches give, each [N, outputs, H, W] in float32. `uv` may be null. `input_name`: for traces.
std::vector<Tensor> run_output_branches(const Tensor& map, const ImageShape& image, const UvEmbedding* uv,
                                        const std::vector<OutputBranch>& branches, const Tracer& trace,
                                        const std::string& input_name);

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
  // The levels may be overwritten unless they are kept.
  void main_branch(const std::array<Tensor, 4>& levels, bool keep, const ImageShape& image,
                   const Tracer& trace, DepthMaps* out) const;
  void ray_branch(const std::array<Tensor, 4>& levels, const ImageShape& image, const Tracer& trace,
                  DepthMaps* out) const;
  // The layers behind the fusion.
  void build_outputs(const Scope& scratch, int64_t features);

  DptTrunk trunk_;
  FusionChain fusion_, fusion_aux_;
  Conv2d output_conv1_, output_conv2_0_;
  LastConv output_conv2_2_;
  std::vector<Conv2d> aux_conv1_;
  Conv2d aux_conv2_0_;
  LastConv aux_conv2_5_;
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
  Conv2d output_conv1_, output_conv2_0_, sky_conv2_0_;
  LastConv output_conv2_2_, sky_conv2_2_;
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
  Conv2d output_conv1_, output_conv2_0_;
  LastConv output_conv2_2_;
  std::array<Conv2d, 3> images_merger_;
  UvEmbedding uv_;
};

}  // namespace da3
