// SPDX-License-Identifier: MIT
//
// How far the result of one way of computing is from that of another. No LibTorch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/report.h"

namespace da3::bench {

// What a pass gave, as workers write it to a file for whoever compares: plain float32, native byte order.
struct PassResult {
  std::vector<float> depth;       // all items and views
  std::vector<float> extrinsics;  // [n, 3, 4], or empty
  std::vector<float> intrinsics;  // [n, 3, 3], or empty

  // Header of three 64-bit counts, then the floats. Throws std::runtime_error with name and reason.
  void write(const std::string& path) const;
  static PassResult read(const std::string& path);
};

// depth_rel_err_median, depth_rel_err_p99 of |candidate - reference| / |reference|, and pose_angle_deg, the
// largest angle between rotations, when both have poses. A candidate that is not finite has the error 1e9.
// Throws std::invalid_argument when the sizes differ or there is nothing to compare.
Row compare_results(const PassResult& candidate, const PassResult& reference);

}  // namespace da3::bench
