// SPDX-License-Identifier: MIT
//
// The total of many frames.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "score/metrics.h"

namespace da3::score {

// Median of a stream of numbers in bounded memory: exact (lower median) up to kExact values; from there on
// every second, then every fourth, ... value is kept.
class RunningMedian {
 public:
  static constexpr size_t kExact = size_t(1) << 20;  // 8 MiB

  void add(double value);
  // NaN without values.
  double value() const;
  int64_t count() const { return count_; }

 private:
  std::vector<double> kept_;
  int64_t count_ = 0;
  int64_t step_ = 1;
};

// What has not been measured is NaN.
struct Totals {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  int64_t depths = 0;              // frames with a depth score
  double abs_rel = kNone;          // mean of the frames
  double delta1 = kNone;           // mean of the frames
  int64_t pairs = 0;               // pairs of cameras
  double rotation_deg = kNone;     // median of the pairs
  double translation_deg = kNone;  // median of the pairs that have a direction
  double auc30 = kNone;
  int64_t lenses = 0;
  double fov_error = kNone;  // median
  int64_t trajectories = 0;
  double ate = kNone;           // mean of the trajectories [m]
  double ate_relative = kNone;  // mean of the trajectories that move
};

// Not thread-safe. Memory: at most three RunningMedian (24 MiB), whatever the number of frames.
class Summary {
 public:
  void add(const DepthScore& depth);
  void add(const PairError& pair);
  void add(const std::vector<PairError>& pairs);
  void add(const TrajectoryScore& trajectory);
  void add_fov(double error);
  Totals totals() const;

 private:
  struct Mean {
    double sum = 0;
    int64_t count = 0;
    void add(double value);
    double value() const { return count ? sum / double(count) : Totals::kNone; }
  };
  Mean abs_rel_, delta1_, ate_, ate_relative_;
  RunningMedian rotation_, translation_, fov_;
  std::array<int64_t, 30> histogram_{};  // of PairError::worst()
  int64_t pairs_ = 0;
};

}  // namespace da3::score
