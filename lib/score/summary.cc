// SPDX-License-Identifier: MIT
#include "score/summary.h"

#include <algorithm>
#include <cmath>

#include "score/histogram.h"

namespace da3::score {

void RunningMedian::add(double value) {
  if (count_++ % step_ != 0) return;
  if (kept_.size() == kExact) {
    for (size_t i = 0; i < kExact / 2; ++i) kept_[i] = kept_[2 * i];
    kept_.resize(kExact / 2);
    step_ *= 2;
    if ((count_ - 1) % step_ != 0) return;
  }
  kept_.push_back(value);
}

double RunningMedian::value() const {
  if (kept_.empty()) return Totals::kNone;
  std::vector<double> values = kept_;
  const auto middle = values.begin() + ptrdiff_t((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void Summary::Mean::add(double value) {
  sum += value;
  ++count;
}

void Summary::add(const DepthScore& depth) {
  abs_rel_.add(depth.abs_rel);
  delta1_.add(depth.delta1);
}

void Summary::add(const PairError& pair) {
  ++pairs_;
  rotation_.add(pair.rotation_deg);
  if (!std::isnan(pair.translation_deg)) translation_.add(pair.translation_deg);
  count_error(histogram_, pair.worst());
}

void Summary::add(const std::vector<PairError>& pairs) {
  for (const auto& pair : pairs) add(pair);
}

void Summary::add(const TrajectoryScore& trajectory) {
  ate_.add(trajectory.ate);
  if (!std::isnan(trajectory.relative)) ate_relative_.add(trajectory.relative);
}

void Summary::add_fov(double error) {
  fov_.add(error);
}

Totals Summary::totals() const {
  Totals totals;
  totals.depths = abs_rel_.count;
  totals.abs_rel = abs_rel_.value();
  totals.delta1 = delta1_.value();
  totals.pairs = pairs_;
  totals.rotation_deg = rotation_.value();
  totals.translation_deg = translation_.value();
  if (pairs_ > 0) totals.auc30 = area(histogram_, pairs_);
  totals.lenses = fov_.count();
  totals.fov_error = fov_.value();
  totals.trajectories = ate_.count;
  totals.ate = ate_.value();
  totals.ate_relative = ate_relative_.value();
  return totals;
}

}  // namespace da3::score
