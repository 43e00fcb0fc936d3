// SPDX-License-Identifier: MIT
#include "extract_encode.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "common/resample.h"

namespace da3::plugin {
namespace {

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

// The value that is interpolated and encoded; NaN if there is no measurement.
float value_of(ExtractPlane plane, double unit, float raw) {
  if (!(raw > 0)) return kNone;
  if (plane == ExtractPlane::confidence) return raw;
  const double depth = double(raw) * unit;
  return float(plane == ExtractPlane::disparity ? 1 / depth : depth);
}

uint16_t encode(const ExtractCoding& coding, float value, ExtractCount* count) {
  if (std::isnan(value)) return kExtractInvalid;
  ++count->measured;
  if (std::isfinite(value)) count->largest = std::max(count->largest, double(value));
  const double sample = (double(value) - coding.offset) / coding.scale;
  if (sample >= kExtractLargest + 0.5) {
    ++count->beyond;
    return kExtractBeyond;
  }
  if (sample < 0.5) {
    ++count->below;
    return 1;
  }
  return uint16_t(sample + 0.5);
}

// One sample among invalid or infinite neighbours.
float mixed_value(const std::vector<float>& map, int width, int x, float wx, int y, float wy) {
  const auto at = [&](int column, int row) { return map[size_t(row) * width + column]; };
  if (std::isnan(at(x + (wx >= 0.5f), y + (wy >= 0.5f)))) return kNone;
  float sum = 0, total = 0;
  for (int dy = 0; dy < 2; ++dy) {
    for (int dx = 0; dx < 2; ++dx) {
      const float w = (dx ? wx : 1 - wx) * (dy ? wy : 1 - wy);
      if (w <= 0) continue;
      const float v = at(x + dx, y + dy);
      if (std::isnan(v)) continue;
      sum += w * v;
      total += w;
    }
  }
  return sum / total;
}

template <typename Sample>
void clear(const SamplePlane<Sample>& out) {
  for (int y = 0; y < out.height; ++y) memset(out.row(y), 0, sizeof(Sample) * size_t(out.width));
}

}  // namespace

ExtractCount encode_samples(const float* map, int width, int height, const Region& region,
                            const ExtractCoding& coding, const SamplePlane<uint16_t>& out) {
  ExtractCount count;
  std::vector<float> values(size_t(width) * size_t(height));
  bool smooth = true;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = value_of(coding.plane, coding.unit, map[i]);
    smooth = smooth && std::isfinite(values[i]);
  }
  const ResampleAxis x = make_resample_axis(out.width, region.x, region.w, width);
  const ResampleAxis y = make_resample_axis(out.height, region.y, region.h, height);
  if (x.size() < out.width || y.size() < out.height) clear(out);
  BilinearRows rows(values.data(), width, x, y);
  for (int n = 0; n < y.size(); ++n) {
    uint16_t* samples = out.row(y.begin + n) + x.begin;
    if (smooth) {
      const float* row = rows.row(n);
      for (int k = 0; k < x.size(); ++k) samples[k] = encode(coding, row[k], &count);
    } else {
      for (int k = 0; k < x.size(); ++k)
        samples[k] = encode(
            coding, mixed_value(values, width, x.first[k], x.weight[k], y.first[n], y.weight[n]), &count);
    }
  }
  return count;
}

void encode_sky(const float* map, int width, int height, const Region& region,
                const SamplePlane<uint8_t>& out) {
  const ResampleAxis x = make_resample_axis(out.width, region.x, region.w, width);
  const ResampleAxis y = make_resample_axis(out.height, region.y, region.h, height);
  if (x.size() < out.width || y.size() < out.height) clear(out);
  for (int n = 0; n < y.size(); ++n) {
    const float* row = map + size_t(y.first[n] + (y.weight[n] >= 0.5f)) * width;
    uint8_t* samples = out.row(y.begin + n) + x.begin;
    for (int k = 0; k < x.size(); ++k)
      samples[k] = row[x.first[k] + (x.weight[k] >= 0.5f)] >= kSkyThreshold ? 255 : 0;
  }
}

}  // namespace da3::plugin
