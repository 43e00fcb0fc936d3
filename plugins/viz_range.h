// SPDX-License-Identifier: MIT
//
// Which depths get the two ends of the colour map: percentiles of each frame, smoothed over stream time, or
// fixed.
#pragma once

#include <gst/da3/da3view.h>

#include <cstddef>
#include <vector>

namespace da3::plugin {

// What is laid out linearly along the colour map.
enum class VizMode { disparity, depth };

struct VizRangeSettings {
  VizMode mode = VizMode::disparity;
  double percentile_low = 2, percentile_high = 98;  // of the coloured quantity, 0..100
  double min_depth = 0, max_depth = 0;         // metres if metric, else depth units; 0 = from the percentiles
  GstClockTime smoothing = 500 * GST_MSECOND;  // time constant; 0 = every frame on its own
  bool operator==(const VizRangeSettings&) const = default;
};

// Ends of the colour map in the coloured quantity (depth units or their inverse), lo < hi.
struct VizRange {
  bool known = false;  // false: too few valid pixels and nothing to go by
  double lo = 0, hi = 0;
};

// Linear interpolation between order statistics, as numpy.percentile; `values` is reordered and must not be
// empty.
double percentile(std::vector<float>& values, double percent);

// Throws ElementError (RESOURCE/SETTINGS) naming the property if the settings contradict each other.
void check_range_settings(const VizRangeSettings& settings);

// One stream. Not thread-safe.
class VizRangeTracker {
 public:
  // `depth` has `count` values; `time` is the running position of the frame or GST_CLOCK_TIME_NONE,
  // `duration` that of a frame or NONE. A jump of the range from one frame to the next (a cut), a jump back
  // in time, and a change of kind, mode or percentiles start afresh. `settings` must have passed
  // check_range_settings().
  VizRange update(const float* depth, size_t count, const GstDa3View& view, const VizRangeSettings& settings,
                  GstClockTime time, GstClockTime duration);
  void reset() { *this = VizRangeTracker(); }

 private:
  VizRange measure(const float* depth, size_t count, const GstDa3View& view,
                   const VizRangeSettings& settings);
  void smooth(const VizRange& now, const VizRangeSettings& settings, GstClockTime time,
              GstClockTime duration);

  VizRange previous_;  // as measured in the last frame
  VizRange smoothed_;
  GstClockTime last_time_ = GST_CLOCK_TIME_NONE;
  VizRangeSettings settings_;  // of the last frame
  GstDa3DepthKind kind_ = GST_DA3_DEPTH_KIND_NONE;
  double unit_scale_ = 0;
  std::vector<float> scratch_;
};

}  // namespace da3::plugin
