// SPDX-License-Identifier: MIT
//
// 3x3 convolutions in bfloat16 by whole tiles (AMX): a sum of nine products of shifted maps, of which none is
// ever written down. Products are summed in float; bias, what is added and ReLU come before the one rounding.
// Weights are laid out once. What an item gives does not depend on the items beside it. No LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/conv_job.h"

namespace da3::kernels {

class Bfloat16Conv {
 public:
  using Job = ConvJob<uint16_t>;  // `to` is not `from`

  // Whether this processor can run it: has_amx().
  static bool available();

  // weight: [out][in][3][3]; bias: [out] or null. Throws std::invalid_argument for an empty layer.
  Bfloat16Conv(const uint16_t* weight, const float* bias, int64_t out, int64_t in);

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }

  // Work is divided into pieces of some rows and some outputs. Each may be computed on another thread: what
  // is const is safe there.
  int64_t pieces(const Job& job) const;
  // Computes the pieces begin <= p < end, where 0 <= begin and end <= pieces(job). Throws std::logic_error
  // where it is not available, and std::bad_alloc.
  void run(const Job& job, int64_t begin, int64_t end) const;
  // Bytes for packed rows that the calling thread keeps for the next call of such a layer.
  static size_t kept();

 private:
  struct Cut;
  Cut cut(const Job& job) const;

  int64_t out_, in_, steps_;         // steps_: of 32 inputs
  int64_t columns_;                  // outputs, rounded up to 32
  AlignedBuffer<uint16_t> weights_;  // [32 outputs][step][3][3][16 outputs][16 pairs of inputs][16][2]
  std::vector<float> bias_;          // [columns_]
};

}  // namespace da3::kernels
