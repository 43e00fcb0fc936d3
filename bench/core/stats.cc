// SPDX-License-Identifier: MIT
#include "core/stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace da3::bench {

double quantile(std::vector<double> values, double q) {
  if (!(q >= 0 && q <= 1)) throw std::invalid_argument("a quantile lies between 0 and 1");
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const double position = q * double(values.size() - 1);
  const auto low = size_t(position);
  const size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (position - double(low)) * (values[high] - values[low]);
}

}  // namespace da3::bench
