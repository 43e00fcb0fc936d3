// SPDX-License-Identifier: MIT
//
// Bilinear resampling of a float map into a region of a picture, row by row. Pixel centres lie at +0.5, so a
// map whose region has its own size comes out unchanged. Not thread-safe; one object per thread.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace da3::plugin {

// Where the output pixels begin..end-1 of one axis (those whose centres lie inside the region) look into the
// map.
struct ResampleAxis {
  int begin = 0, end = 0;
  std::vector<int> first;     // left neighbour in the map
  std::vector<float> weight;  // of the right neighbour, 0 <= w < 1
  int size() const { return end - begin; }
};

inline ResampleAxis make_resample_axis(int out_size, double start, double length, int map_size) {
  ResampleAxis axis;
  axis.begin = int(std::clamp(std::ceil(start - 0.5), 0.0, double(out_size)));
  axis.end = int(std::clamp(std::ceil(start + length - 0.5), double(axis.begin), double(out_size)));
  axis.first.reserve(axis.size());
  axis.weight.reserve(axis.size());
  for (int p = axis.begin; p < axis.end; ++p) {
    double s = std::clamp((p + 0.5 - start) / length * map_size - 0.5, 0.0, double(map_size - 1));
    // Rounding of the line above must not turn "exactly this pixel" into a blend.
    if (std::abs(s - std::round(s)) < 1e-6) s = std::round(s);
    const int i = int(s);
    axis.first.push_back(i);
    axis.weight.push_back(float(s - i));
  }
  return axis;
}

// Rows of a map without NaN. row() is cheap when called for rising y: each row of the map is widened once.
class BilinearRows {
 public:
  // `map` is row-major and borrowed, as are the axes.
  BilinearRows(const float* map, int map_width, const ResampleAxis& x, const ResampleAxis& y)
      : map_(map), map_width_(map_width), x_(x), y_(y), mixed_(x.size()) {}

  // Values of output row y_.begin + `n` at columns x_.begin .. x_.end - 1. Valid until the next call.
  const float* row(int n) {
    const int i = y_.first[n];
    const float w = y_.weight[n];
    const float* top = widened(i);
    if (w == 0) return top;
    const float* bottom = widened(i + 1);
    float* out = mixed_.data();
    const int count = x_.size();
    for (int k = 0; k < count; ++k) out[k] = top[k] + (bottom[k] - top[k]) * w;
    return out;
  }

 private:
  const float* widened(int i) {
    Row& slot = rows_[i & 1];
    if (slot.index == i) return slot.values.data();
    slot.index = i;
    const int count = x_.size();
    slot.values.resize(count);
    const float* in = map_ + size_t(i) * map_width_;
    for (int k = 0; k < count; ++k) {
      const int c = x_.first[k];
      const float w = x_.weight[k];
      slot.values[k] = w == 0 ? in[c] : in[c] + (in[c + 1] - in[c]) * w;
    }
    return slot.values.data();
  }

  struct Row {
    int index = -1;
    std::vector<float> values;
  };
  const float* map_;
  int map_width_;
  const ResampleAxis& x_;
  const ResampleAxis& y_;
  std::array<Row, 2> rows_;
  std::vector<float> mixed_;
};

}  // namespace da3::plugin
