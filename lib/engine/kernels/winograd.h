// SPDX-License-Identifier: MIT
//
// 3x3 convolutions by Winograd's minimal filtering F(4x4, 3x3): a tile of 4x4 outputs takes 36 products a
// pair of channels instead of 144. Everything is computed in float; maps may be stored in bfloat16. The
// points are 0,
// +-sqrt(1/2), +-sqrt(2) and infinity: rounding errors are about six times those of the plain sum (1e-6 of
// the rms), a fifth of those of the usual whole points. For AVX-512. No LibTorch.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/conv_job.h"

namespace da3::kernels {

class WinogradConv {
 public:
  // Whether this processor can run it.
  static bool available();
  // Whether it is faster than a plain convolution in bfloat16. Not where whole tiles are multiplied at once
  // (AMX).
  static bool beats_bfloat16();
  // Whether it can do a layer: `in` a multiple of 16, `out` of 32.
  static bool fits(int64_t in, int64_t out);

  // weight: [out][in][3][3]; bias: [out] or null. Throws std::invalid_argument for what does not fit.
  WinogradConv(const float* weight, const float* bias, int64_t out, int64_t in);

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }

  template <typename T>
  using Job = ConvJob<T>;

  // Work is divided into blocks; each may be computed on another thread.
  template <typename T>
  int64_t blocks(const Job<T>& job) const;
  template <typename T>
  void run(const Job<T>& job, int64_t begin, int64_t end) const;

 private:
  int64_t in_, out_;
  AlignedBuffer<float> weights_;  // [out / 32][36][in][32]
  std::vector<float> bias_;
};

}  // namespace da3::kernels
