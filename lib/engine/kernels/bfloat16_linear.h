// SPDX-License-Identifier: MIT
//
// y = x W^T + b in bfloat16 by whole tiles (AMX). Products are summed in float; bias and GELU come before the
// one rounding. Weights are laid out once. What a row gives does not depend on the rows beside it. No
// LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/kernels/aligned_buffer.h"

namespace da3::kernels {

class Bfloat16Linear {
 public:
  // What one call computes; memory is the caller's, rows lie close together. bfloat16 as uint16_t.
  struct Job {
    const uint16_t* x;  // [rows][in]
    int64_t rows;
    uint16_t* y;        // [rows][out]; not x
    bool gelu = false;  // y = gelu(x W^T + b), the exact one, by the error function
  };

  // Whether this processor can run it: has_amx().
  static bool available();

  // weight: [out, in], row-major; bias: [out] or null. Throws std::invalid_argument for an empty layer.
  Bfloat16Linear(const uint16_t* weight, const float* bias, int64_t out, int64_t in);

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }

  // Work is divided into pieces of some rows and some outputs; pieces() of them cover `rows` rows. Each may
  // be computed on another thread: what is const is safe there.
  int64_t pieces(int64_t rows) const;
  // Computes the pieces begin <= p < end, where 0 <= begin and end <= pieces(job.rows). Throws
  // std::logic_error where it is not available, and std::bad_alloc.
  void run(const Job& job, int64_t begin, int64_t end) const;
  // Bytes for packed rows that the calling thread keeps for the next call of such a layer.
  static size_t kept();

 private:
  struct Cut;
  Cut cut(int64_t rows) const;

  int64_t out_, in_, steps_;         // steps_: of 32 inputs
  int64_t columns_;                  // outputs, rounded up to 32
  AlignedBuffer<uint16_t> weights_;  // [16 outputs][step][16 pairs of inputs][16][2]: a tile each
  std::vector<float> bias_;          // [columns_]
};

}  // namespace da3::kernels
