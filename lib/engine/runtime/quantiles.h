// SPDX-License-Identifier: MIT
//
// Quantiles of the latest measurements. No LibTorch.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/api/engine.h"

namespace da3 {

// Value at rank ceil(q n) of `values`, which are reordered; 0 of nothing.
inline int64_t quantile(std::vector<int64_t>& values, double q) {
  if (values.empty()) return 0;
  const auto rank = size_t(std::max(1.0, std::ceil(q * double(values.size()))));
  const auto at = values.begin() + int64_t(std::min(rank, values.size()) - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

// Keeps the latest `N` values. Adding is cheap, asking sorts. Not thread-safe.
template <size_t N = 256>
class RecentValues {
 public:
  void add(int64_t value) {
    values_[size_t(count_ % N)] = value;
    ++count_;
  }
  // As if all had been measured at another speed.
  void scale(double factor) {
    for (int64_t& value : values_) value = std::llround(factor * double(value));
  }
  uint64_t count() const { return count_; }
  std::vector<int64_t> values() const {
    return {values_.begin(), values_.begin() + int64_t(std::min<uint64_t>(count_, N))};
  }
  int64_t at_quantile(double q) const {
    std::vector<int64_t> sorted = values();
    return quantile(sorted, q);
  }
  Da3Quantiles quantiles() const { return {at_quantile(0.5), at_quantile(0.95), at_quantile(0.99), count_}; }

 private:
  std::array<int64_t, N> values_{};
  uint64_t count_ = 0;
};

}  // namespace da3
