// SPDX-License-Identifier: MIT
//
// Convolutions in the type of their part, and maps that are resized on the way into one. Maps are [N, C, h,
// w]; on the CPU, and in half precision, their channels lie together (channels-last).
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>

#include "engine/kernels/bfloat16_conv.h"
#include "engine/kernels/winograd.h"
#include "engine/network/packed_conv.h"
#include "engine/network/packed_linear.h"
#include "engine/network/weights.h"

namespace da3 {

// Whether a layer works on maps so large that a fourfold of its weights is worth fewer products (winograd.h;
// of no interest where whole tiles are multiplied).
enum class MapSize { small, large };

// With square kernels. On the CPU the weights are laid out for its kernels when the layer is built, unless
// they are trained. A trained layer leaves the type of its input alone, all others convert it to their own.
class Conv2d {
 public:
  Tensor weight, bias;  // undefined once they are laid out

  Conv2d() = default;
  Conv2d(const Scope& s, int64_t in, int64_t out, int64_t kernel, int64_t stride = 1, bool with_bias = true,
         MapSize maps = MapSize::small);

  Tensor operator()(const Tensor& x) const { return run(x, padding_, false); }
  Tensor forward_relu(const Tensor& x) const { return run(x, padding_, true); }
  // Of rows that come with their neighbours: no padding above and below.
  Tensor forward_rows(const Tensor& x, bool relu) const { return run(x, 0, relu); }
  // base + y; `base` may be overwritten.
  Tensor add_to(const Tensor& base, const Tensor& x) const;

  int64_t outputs() const { return outputs_; }
  at::ScalarType type() const { return type_; }
  // Whether maps should be channels-last.
  bool channels_last() const { return !trained_ && (cpu_ || type_ != at::kFloat); }
  // Whether what surrounds it may be computed by kernels of our own (maps.h): on the CPU, without gradients.
  bool fusible() const { return !trained_ && cpu_ && (type_ == at::kFloat || type_ == at::kBFloat16); }

 private:
  Tensor run(const Tensor& x, int64_t padding_rows, bool relu) const;
  void lay_out(MapSize maps);
  // Whether a kernel of our own computes it.
  bool ours() const { return winograd_ || tiled_; }
  // By that kernel, into `to`.
  void run_ours(const Tensor& x, int64_t padding_rows, bool relu, bool add, const Tensor& to) const;

  int64_t stride_ = 1, padding_ = 0, outputs_ = 0;
  at::ScalarType type_ = at::kFloat;
  bool cpu_ = true, trained_ = false;
  std::shared_ptr<const PackedConv> packed_;
  std::shared_ptr<const PackedLinear> linear_;  // 1x1
  std::shared_ptr<const kernels::WinogradConv> winograd_;
  std::shared_ptr<const kernels::Bfloat16Conv> tiled_;
};

// Transposed convolution whose stride equals its kernel, as many channels out as in. Each pixel becomes a
// square of its own, so on the CPU it is a linear layer.
class UpConv2d {
 public:
  UpConv2d() = default;
  UpConv2d(const Scope& s, int64_t width, int64_t kernel);
  Tensor operator()(const Tensor& x) const;

 private:
  Tensor weight_, bias_;  // [in, out, k, k]; undefined once they are laid out
  int64_t kernel_ = 1;
  at::ScalarType type_ = at::kFloat;
  bool trained_ = false;
  std::shared_ptr<const PackedLinear> packed_;
  Tensor matrix_, biases_;  // [k k out, in], in place of both where LibTorch's own operator is wrong
};

// 1x1 convolution to the few channels that a head ends with: float32 whatever the type of the maps.
class LastConv {
 public:
  LastConv() = default;
  LastConv(const Scope& s, int64_t in, int64_t out)
      : weight_(s.take("weight", {out, in, 1, 1})), bias_(s.take("bias", {out})) {}

  // [N, in, h, w] -> [N, out, h, w], float32.
  Tensor operator()(const Tensor& x) const;
  // The same of some rows, into rows from `row` of item `image` on of `to`. `x` as Conv2d::fusible() layers
  // give it, with as many items.
  void write(const Tensor& x, int64_t image, int64_t row, Tensor* to) const;
  // [.., in] -> [.., out], float32.
  Tensor of_pixels(const Tensor& x) const { return at::linear(x, weight_.flatten(1), bias_); }
  int64_t outputs() const { return weight_.size(0); }

 private:
  Tensor weight_, bias_;
};

// Aligned corners.
inline Tensor resize_bilinear(const Tensor& x, int64_t height, int64_t width) {
  if (x.size(2) == height && x.size(3) == width) return x;
  return at::upsample_bilinear2d(x, {height, width}, /*align_corners=*/true);
}

struct MapAndRelu {
  Tensor map, relu;
};
// sum + resize_bilinear(z), and relu of it. `sum` may be overwritten. `layer`: whose maps they are.
MapAndRelu add_resized(const Conv2d& layer, Tensor sum, const Tensor& z);

// A map to be resized, and what to add to the result.
struct ResizedMap {
  Tensor map;  // of a fusible() layer
  int64_t height = 0, width = 0;
  // [height, C / 2] for the second half of the channels and [width, C / 2] for the first, float32,
  // contiguous; or both undefined.
  Tensor row_offsets, column_offsets;
};

// Gives out the resized map in bands of rows, so that it never exists as a whole and stays in the cache until
// it has been used. `use` gets [n, C, rows + 2, width]: items from `image` on, rows from `row` - 1 on; rows
// beyond the edges are zero. `whole`: all items and rows in a single band. `band_rows` 0: what fits.
using UseBand = std::function<void(int64_t image, int64_t row, const Tensor& band)>;
void for_resized_bands(const ResizedMap& resized, bool whole, int64_t band_rows, const UseBand& use);

// conv(resize_bilinear(map)) for a 3x3 convolution.
Tensor resize_and_convolve(const Conv2d& conv, const Tensor& map, int64_t height, int64_t width);

}  // namespace da3
