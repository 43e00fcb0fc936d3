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
#include <vector>

#include "engine/kernels/aligned_buffer.h"

namespace da3::kernels {

// Rows in 8 bits, as Int8Linear takes them, in memory that the caller owns. A row is padded with zeros, to a
// multiple of 4 values at least.
class Int8Rows {
 public:
  // Of the memory that `rows` rows need; it is aligned to 64.
  static size_t bytes(int64_t rows, int64_t width);
  // Nothing is read from or written to `memory` before set_row().
  Int8Rows(int64_t rows, int64_t width, void* memory);

  int64_t rows() const { return rows_; }
  int64_t stride() const { return stride_; }  // bytes from row to row
  const int8_t* values(int64_t m) const { return values_ + m * stride_; }
  float scale(int64_t m) const { return scales_[m]; }  // 0 for a row of zeros, or of less than 1e-36
  int32_t sum(int64_t m) const { return sums_[m]; }    // of the values

  // Quantises row m from `x` [width]: float, or bfloat16 as uint16_t. A row with a value that is not finite
  // gets a NaN scale, so that it shows in the result. Rows are independent: call from several threads.
  void set_row(int64_t m, const float* x);
  void set_row(int64_t m, const uint16_t* x);

 private:
  template <typename T>
  void quantise_row(int64_t m, const T* x);
  int64_t rows_, width_, stride_;
  float* scales_;   // [rows]
  int32_t* sums_;   // [rows]
  int8_t* values_;  // [rows, stride]
};

// What becomes of a layer's result: kept, kept after GELU (the exact one, by the error function), or added to
// what is there.
enum class Int8Output { store, gelu, add };

class Int8Linear {
 public:
  // weight: [out, in], row-major; bias: [out] or null. Throws std::invalid_argument for an empty layer, more
  // than 2^16 inputs (sums could overflow) or weights that are not finite.
  Int8Linear(const float* weight, const float* bias, int64_t out, int64_t in);

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }
  // Memory of the layer in bytes.
  size_t bytes() const;

  // Work is divided into tiles of some rows and some outputs; tiles() of them cover `rows` rows. Each may be
  // computed on another thread.
  int64_t tiles(int64_t rows) const;
  // y: [rows, out], row-major; float, or bfloat16 as uint16_t. Computes the tiles begin <= t < end.
  void run(const Int8Rows& x, float* y, Int8Output how, int64_t begin, int64_t end) const;
  void run(const Int8Rows& x, uint16_t* y, Int8Output how, int64_t begin, int64_t end) const;

  // "amx", "avx512vnni" or "plain": what run() uses here; "amx" for 32 rows and more and for inputs that pad
  // to a multiple of 64, else "avx512vnni".
  static const char* instruction_set();

 private:
  template <typename T>
  void run_tiles(const Int8Rows& x, T* y, Int8Output how, int64_t begin, int64_t end) const;

  bool by_tiles(int64_t rows) const;

  int64_t out_, in_, depth_;          // depth_: groups of 4 inputs
  AlignedBuffer<uint8_t> weights_;    // [16 outputs][group of 4 inputs][16][4], plus 128
  std::vector<float> scales_, bias_;  // [panels * 48]
};

}  // namespace da3::kernels
