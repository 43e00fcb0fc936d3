// SPDX-License-Identifier: MIT
#include "viz_render.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <opencv2/imgproc.hpp>

namespace da3::plugin {
namespace {

constexpr double kPositions = 65536;

// One 32-bit word per entry in the byte order of the canvas.
using Words = std::array<uint32_t, 256>;

Words words_for(const Canvas& canvas, const image::ColorTable& table) {
  Words words;
  for (int i = 0; i < 256; ++i) {
    uint8_t bytes[4] = {255, 255, 255, 255};
    bytes[canvas.r] = table[i].r;
    bytes[canvas.g] = table[i].g;
    bytes[canvas.b] = table[i].b;
    memcpy(&words[i], bytes, 4);
  }
  return words;
}

void replace_row(const Canvas& canvas, uint8_t* out, const float* positions, int count, const Words& words) {
  if (canvas.pixel == 4) {
    for (int i = 0; i < count; ++i) memcpy(out + i * 4, &words[int(positions[i]) >> 8], 4);
  } else {
    for (int i = 0; i < count; ++i) memcpy(out + i * 3, &words[int(positions[i]) >> 8], 3);
  }
}

// `colors` is room for one row.
void blend_row(const Canvas& canvas, uint8_t* out, const float* positions, int count, const Words& words,
               double alpha, std::vector<uint8_t>* colors) {
  const int bytes = count * canvas.pixel;
  colors->resize(size_t(bytes) + 1);
  replace_row(canvas, colors->data(), positions, count, words);
  // Padding mixes with padding and stays opaque.
  cv::Mat target(1, bytes, CV_8UC1, out);
  cv::addWeighted(cv::Mat(1, bytes, CV_8UC1, colors->data()), alpha, target, 1 - alpha, 0, target);
}

}  // namespace

void clear(const Canvas& canvas) {
  for (int y = 0; y < canvas.height; ++y) {
    uint8_t* row = canvas.at(0, y);
    memset(row, 0, size_t(canvas.width) * canvas.pixel);
    if (canvas.rest < 0) continue;
    for (int x = 0; x < canvas.width; ++x) row[x * canvas.pixel + canvas.rest] = 255;
  }
}

float map_position(const ColorScale& scale, float depth) {
  const bool inverse = scale.mode == VizMode::disparity;
  double place = inverse ? 0 : 1;
  if (depth > 0 && std::isfinite(depth)) {
    const double value = inverse ? 1.0f / depth : depth;
    const double x = (value - scale.range.lo) / (scale.range.hi - scale.range.lo);
    // Not std::clamp: ends beyond all numbers give NaN, which must not become an index.
    place = x > 0 ? (x < 1 ? x : 1) : 0;
  }
  const double along = scale.reverse ? 1 - place : place;
  // Whole numbers: cutting here gives the entry that cutting 256 * along gives.
  return float(std::min(std::floor(along * kPositions), kPositions - 1));
}

// Bilinear sampling skips pixels when the map is much larger than its region; averaging first keeps it calm.
void DepthPainter::shrink(int* width, int* height, const Region& region) {
  const int w = std::clamp(int(std::ceil(region.w)), 1, *width);
  const int h = std::clamp(int(std::ceil(region.h)), 1, *height);
  if (*width < w * 3 / 2 && *height < h * 3 / 2) return;
  const cv::Mat full(*height, *width, CV_32FC1, positions_.data());
  cv::Mat small;
  cv::resize(full, small, cv::Size(w, h), 0, 0, cv::INTER_AREA);
  positions_.assign(small.ptr<float>(), small.ptr<float>() + size_t(w) * size_t(h));
  *width = w;
  *height = h;
}

void DepthPainter::prepare(const Canvas& canvas, int width, int height, const Region& region) {
  const Geometry geometry{canvas.width, canvas.height, width, height, region};
  if (geometry == geometry_) return;
  x_ = make_resample_axis(canvas.width, region.x, region.w, width);
  y_ = make_resample_axis(canvas.height, region.y, region.h, height);
  geometry_ = geometry;
}

void DepthPainter::paint(const Canvas& canvas, const float* depth, int width, int height,
                         const Region& region, const ColorScale& scale, image::Colormap map, double alpha) {
  if (!(alpha > 0)) return;
  const size_t count = size_t(width) * size_t(height);
  positions_.resize(count);
  for (size_t i = 0; i < count; ++i) positions_[i] = map_position(scale, depth[i]);
  shrink(&width, &height, region);
  prepare(canvas, width, height, region);

  const Words words = words_for(canvas, image::color_table(map));
  BilinearRows rows(positions_.data(), width, x_, y_);
  for (int n = 0; n < y_.size() && x_.size() > 0; ++n) {
    const float* positions = rows.row(n);
    uint8_t* out = canvas.at(x_.begin, y_.begin + n);
    if (alpha >= 1) {
      replace_row(canvas, out, positions, x_.size(), words);
    } else {
      blend_row(canvas, out, positions, x_.size(), words, alpha, &colors_);
    }
  }
}

}  // namespace da3::plugin
