// SPDX-License-Identifier: MIT
//
// Maps whose channels lie together, [rows][columns][channels], of float or bfloat16: a bilinear resize
// together with what comes before and after it, and the last products of a head. Each is one pass over memory
// where separate operations would make several. Sums are formed in float; bfloat16 results are rounded to the
// nearest. No LibTorch. Work is given out by rows or pixels, so that several threads can share it.
#pragma once

#include <cstdint>
#include <vector>

namespace da3::kernels {

// The bits of one: the upper half of a float.
using Bfloat16 = uint16_t;

// Bilinear interpolation along one axis with aligned corners:
// output i = (1 - weight[i]) * input[first[i]] + weight[i] * input[second[i]].
struct ResizeAxis {
  // Throws std::invalid_argument for sizes below one.
  ResizeAxis(int64_t from, int64_t to);
  int64_t from;
  std::vector<int64_t> first, second;
  std::vector<float> weight;
};

// A map, and where its resized pixels lie in it.
template <typename T>
struct Resize {
  const T* map;  // [rows.from][columns.from][channels]
  const ResizeAxis& rows;
  const ResizeAxis& columns;
  int64_t channels;
  // Added to the result, both or none: [columns][channels / 2] to the first half of the channels,
  // [rows][channels / 2] to the second.
  const float* column_offsets = nullptr;
  const float* row_offsets = nullptr;
};

// Rows begin <= y < end of the resized map; the first of them goes to `to`. T: float, Bfloat16.
template <typename T>
void resize_rows(const Resize<T>& resize, int64_t begin, int64_t end, T* to);

// The same rows added to `sum`, which holds them all; `positive`, of the same shape, becomes max(0, sum).
template <typename T>
void resize_add_rows(const Resize<T>& resize, int64_t begin, int64_t end, T* sum, T* positive);

// Few weighted sums of the channels of every pixel.
struct PixelProducts {
  const float* weights;  // [outputs][channels]
  const float* bias;     // [outputs]
  int64_t channels, outputs;
  int64_t plane;  // values from one output to the next

  // from: [pixels][channels]. to[k * plane + i] = bias[k] + sum over c of weights[k][c] * from[i][c].
  template <typename T>
  void run(const T* from, int64_t pixels, float* to) const;
};

}  // namespace da3::kernels
