// SPDX-License-Identifier: MIT
//
// 2-D convolutions on the CPU with weights that oneDNN has laid out for the size of the map, on channels-last
// maps, with what follows fused in. Like packed_linear.h: LibTorch registers these operators for its compiler
// (namespace mkldnn); without them a convolution stays plain.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <memory>
#include <mutex>
#include <vector>

namespace da3 {

class PackedConv {
 public:
  // Null when this LibTorch, device or type has no such kernels, or the layer is too small to gain. `weight`
  // [out, in, k, k] and `bias` [out] (or undefined) are copied. They must not require gradients.
  static std::shared_ptr<const PackedConv> make(const at::Tensor& weight, const at::Tensor& bias,
                                                int64_t stride);

  // x: [N, in, h, w] in the type of the weight. Result: [N, out, h', w'], channels-last, in that type;
  // `relu`: at least zero. Zeros beyond the edges: `rows` above and below, `columns` on either side.
  // Thread-safe.
  at::Tensor forward(const at::Tensor& x, int64_t rows, int64_t columns, bool relu) const;
  // base + forward(x), written over `base`, which is channels-last and of the weight's type.
  at::Tensor add_to(const at::Tensor& base, const at::Tensor& x, int64_t rows, int64_t columns) const;

 private:
  // Items, rows and columns of the input, and its padding.
  using Size = std::array<int64_t, 5>;
  struct Layout {
    Size size;
    at::Tensor weight;
  };

  PackedConv(const at::Tensor& weight, const at::Tensor& bias, int64_t stride);
  static bool runs(at::ScalarType type);
  at::Tensor laid_out(const at::Tensor& x, int64_t rows, int64_t columns) const;

  at::Tensor weight_, bias_;  // as they came
  int64_t stride_ = 1;
  mutable std::mutex lock_;
  mutable std::vector<Layout> layouts_;  // the last sizes, the latest first
};

}  // namespace da3
