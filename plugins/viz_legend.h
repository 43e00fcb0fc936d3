// SPDX-License-Identifier: MIT
//
// The colour bar with numbers: near at the bottom, far at the top, ticks at round depths.
#pragma once

#include <map>
#include <opencv2/core.hpp>
#include <string>
#include <vector>

#include "viz_render.h"

namespace da3::plugin {

struct LegendTick {
  double place = 0;  // along the bar, 0 = near end, 1 = far end
  std::string text;
  bool operator==(const LegendTick&) const = default;
};

// Round depths inside the range, the roundest first choice, at least `spacing` (a part of the bar) apart;
// sorted from near to far. `unit` converts depth units to the numbers shown. A range too narrow for its
// digits gets one tick.
std::vector<LegendTick> legend_ticks(const ColorScale& scale, double unit, double spacing);

// One picture after another; sprites of the texts are kept. Not thread-safe.
class Legend {
 public:
  // Draws at the right edge of `canvas`; nothing if the canvas is too small for a readable one. Returns
  // whether it drew.
  bool draw(const Canvas& canvas, const ColorScale& scale, image::Colormap map, bool metric,
            double unit_scale);

 private:
  const cv::Mat& text(const std::string& text, int cap_height);
  const cv::Mat& rounded(int width, int height, int radius);
  std::map<std::string, cv::Mat> sprites_;  // coverage, 8 bit
};

}  // namespace da3::plugin
