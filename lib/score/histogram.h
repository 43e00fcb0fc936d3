// SPDX-License-Identifier: MIT
//
// The recall curve in bins of one degree, shared by auc() and Summary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace da3::score {

// Counts `error` in its bin; the last bin holds its upper edge, too. Larger errors are in none.
inline void count_error(std::span<int64_t> bins, double error) {
  if (!(error >= 0 && error <= double(bins.size()))) return;
  const auto bin = size_t(error);
  ++bins[bin < bins.size() ? bin : bins.size() - 1];
}

// Mean of the cumulative sums, as shares of `total` (above 0).
inline double area(std::span<const int64_t> bins, int64_t total) {
  double within = 0, sum = 0;
  for (const int64_t bin : bins) sum += within += double(bin);
  return sum / double(bins.size()) / double(total);
}

}  // namespace da3::score
