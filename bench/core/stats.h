// SPDX-License-Identifier: MIT
//
// Medians and percentiles of repeated measurements.
#pragma once

#include <vector>

namespace da3::bench {

// Between the neighbours by linear interpolation, as numpy does it; `q` in 0..1. NaN without values. Throws
// std::invalid_argument for a `q` outside.
double quantile(std::vector<double> values, double q);
inline double median(std::vector<double> values) {
  return quantile(std::move(values), 0.5);
}

}  // namespace da3::bench
