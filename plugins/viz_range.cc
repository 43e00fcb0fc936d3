// SPDX-License-Identifier: MIT
#include "viz_range.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "common/guard.h"

namespace da3::plugin {
namespace {

// Upstream's limit: with so few valid pixels there is no range.
constexpr size_t kTooFew = 10;
// Two ranges of following frames that share less than this part belong to different scenes.
constexpr double kSameScene = 0.5;

bool valid(float depth) {
  return depth > 0 && std::isfinite(depth);
}

double overlap(const VizRange& a, const VizRange& b) {
  const double common = std::min(a.hi, b.hi) - std::max(a.lo, b.lo);
  const double both = std::max(a.hi, b.hi) - std::min(a.lo, b.lo);
  return both > 0 ? std::max(common, 0.0) / both : 1;
}

VizRange widened(double lo, double hi) {
  if (lo != hi) return {true, lo, hi};
  // Upstream's margin, and one that large numbers feel.
  const double margin = std::max(1e-6, std::abs(lo) * 1e-9);
  return {true, lo - margin, hi + margin};
}

// An end that the user fixed stays where it is; the other one gives way.
VizRange with_fixed_ends(VizRange range, const VizRangeSettings& settings, double unit) {
  const bool inverse = settings.mode == VizMode::disparity;
  const double near = settings.min_depth / unit, far = settings.max_depth / unit;
  const double fixed_lo = inverse ? (far > 0 ? 1 / far : 0) : near;
  const double fixed_hi = inverse ? (near > 0 ? 1 / near : 0) : far;
  if (fixed_lo <= 0 && fixed_hi <= 0) return range;
  if (fixed_lo > 0 && fixed_hi > 0) return {true, fixed_lo, fixed_hi};
  if (!range.known) range = {true, fixed_lo > 0 ? fixed_lo : 0, fixed_hi};
  if (fixed_lo > 0) return {true, fixed_lo, std::max(range.hi, fixed_lo * 1.01)};
  return {true, std::min(range.lo, fixed_hi * 0.99), fixed_hi};
}

}  // namespace

double percentile(std::vector<float>& values, double percent) {
  const double position = std::clamp(percent, 0.0, 100.0) / 100 * double(values.size() - 1);
  const auto below = size_t(position);
  std::nth_element(values.begin(), values.begin() + below, values.end());
  const double a = values[below];
  const double t = position - double(below);
  if (t == 0) return a;
  const double b = *std::min_element(values.begin() + below + 1, values.end());
  return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t);
}

void check_range_settings(const VizRangeSettings& s) {
  const auto fail = [](const char* low, double a, const char* high, double b) {
    throw ElementError(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS,
                       std::string(low) + " (" + std::to_string(a) + ") must be below " + high + " (" +
                           std::to_string(b) + ").");
  };
  if (s.percentile_low >= s.percentile_high)
    fail("percentile-low", s.percentile_low, "percentile-high", s.percentile_high);
  if (s.min_depth > 0 && s.max_depth > 0 && s.min_depth >= s.max_depth)
    fail("min-depth", s.min_depth, "max-depth", s.max_depth);
}

VizRange VizRangeTracker::measure(const float* depth, size_t count, const GstDa3View& view,
                                  const VizRangeSettings& s) {
  const bool inverse = s.mode == VizMode::disparity;
  const GstDa3Stats& stats = view.depth;
  const bool stats_fit = s.percentile_low == 2 && s.percentile_high == 98 &&
                         stats.valid_fraction * double(count) > kTooFew && stats.p2 > 0 &&
                         stats.p98 >= stats.p2 && std::isfinite(stats.p98);
  // The inverse of a percentile of depth is that of disparity up to the interpolation between neighbours.
  if (stats_fit && !inverse) return widened(stats.p2, stats.p98);
  if (stats_fit && s.smoothing > 0) return widened(1 / stats.p98, 1 / stats.p2);

  scratch_.clear();
  scratch_.reserve(count);
  for (size_t i = 0; i < count; ++i)
    if (valid(depth[i])) scratch_.push_back(inverse ? 1.0f / depth[i] : depth[i]);
  // The inverse of a denormal depth overflows.
  if (inverse) std::erase_if(scratch_, [](float v) { return !std::isfinite(v); });
  if (scratch_.size() <= kTooFew) return {};
  const double lo = percentile(scratch_, s.percentile_low);
  return widened(lo, percentile(scratch_, s.percentile_high));
}

void VizRangeTracker::smooth(const VizRange& now, const VizRangeSettings& s, GstClockTime time,
                             GstClockTime duration) {
  const bool timed = GST_CLOCK_TIME_IS_VALID(time) && GST_CLOCK_TIME_IS_VALID(last_time_);
  const bool back = timed && time < last_time_;
  const bool cut = previous_.known && overlap(previous_, now) < kSameScene;
  if (s.smoothing == 0 || !smoothed_.known || back || cut) {
    smoothed_ = now;
    return;
  }
  GstClockTime step = GST_SECOND / 30;
  if (timed) {
    step = time - last_time_;
  } else if (GST_CLOCK_TIME_IS_VALID(duration)) {
    step = duration;
  }
  const double share = -std::expm1(-double(step) / double(s.smoothing));
  smoothed_.lo += (now.lo - smoothed_.lo) * share;
  smoothed_.hi += (now.hi - smoothed_.hi) * share;
}

VizRange VizRangeTracker::update(const float* depth, size_t count, const GstDa3View& view,
                                 const VizRangeSettings& s, GstClockTime time, GstClockTime duration) {
  const bool same_question = s.mode == settings_.mode && s.percentile_low == settings_.percentile_low &&
                             s.percentile_high == settings_.percentile_high;
  if (!same_question || view.kind != kind_ || view.unit_scale != unit_scale_) {
    reset();
    kind_ = view.kind;
    unit_scale_ = view.unit_scale;
  }
  settings_ = s;
  const double unit = view.kind == GST_DA3_DEPTH_KIND_METRIC && view.unit_scale > 0 ? view.unit_scale : 1;
  if (s.min_depth > 0 && s.max_depth > 0) return with_fixed_ends({}, s, unit);
  const VizRange now = measure(depth, count, view, s);
  if (now.known) {
    smooth(now, s, time, duration);
    previous_ = now;
    if (GST_CLOCK_TIME_IS_VALID(time)) last_time_ = time;
  } else if (s.smoothing == 0) {
    smoothed_ = {};
  }
  return with_fixed_ends(smoothed_, s, unit);
}

}  // namespace da3::plugin
