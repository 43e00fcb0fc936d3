// SPDX-License-Identifier: MIT
//
// y = x W^T + b with 8-bit weights (one scale for each output channel) and 8-bit activations (one scale for
// each row), products summed in 32-bit integers. Weights are quantised and laid out once. The integers are
// the same on every processor, so results are, too, but for the rounding of the last two float operations. No
// LibTorch.
//
//   w[n, k] ~ weight_scale[n] * qw,  qw = round(w / weight_scale),  weight_scale[n] = max |w[n, :]| / 127
//   x[m, k] ~ row_scale[m] * qx,     qx = round(x / row_scale),     row_scale[m] = max |x[m, :]| / 127
//   y[m, n] = row_scale[m] * weight_scale[n] * sum_k qx qw + b[n]
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace da3::kernels {

// Rows in 8 bits, as Int8Linear takes them. A row is padded with zeros to a multiple of 4 values.
struct Int8Rows {
  int64_t rows = 0, width = 0;
  int64_t stride = 0;          // bytes from row to row
  std::vector<int8_t> values;  // [rows, stride]
  std::vector<float> scales;   // [rows]; 0 for a row of zeros
  std::vector<int32_t> sums;   // [rows], sum of the values

  void resize(int64_t new_rows, int64_t new_width);
  // Quantises row m from `x` [width]. A row with a value that is not finite gets a NaN scale, so that it
  // shows in the result. Rows are independent: call from several threads.
  void set_row(int64_t m, const float* x);
};

class Int8Linear {
 public:
  // weight: [out, in], row-major; bias: [out] or null. Throws std::invalid_argument for an empty layer, more
  // than 2^17 inputs (sums could overflow) or weights that are not finite.
  Int8Linear(const float* weight, const float* bias, int64_t out, int64_t in);

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }
  // Memory of the layer in bytes.
  size_t bytes() const;

  // Work is divided into tiles of some rows and some outputs; tiles() of them cover `rows` rows. Each may be
  // computed on another thread.
  int64_t tiles(int64_t rows) const;
  // y: [rows, out], row-major. With `accumulate` the result is added to what y holds (residual). Computes the
  // tiles begin <= t < end.
  void run(const Int8Rows& x, float* y, bool accumulate, int64_t begin, int64_t end) const;

  // "avx512vnni" or "plain": what run() uses here.
  static const char* instruction_set();
  // For tests: forces the plain kernel.
  static void use_plain(bool plain);

 private:
  int64_t out_, in_, depth_;          // depth_: groups of 4 inputs
  std::vector<uint8_t> weights_;      // [panel][group of 4 inputs][48 outputs][4], plus 128
  std::vector<float> scales_, bias_;  // [panels * 48]
};

}  // namespace da3::kernels
