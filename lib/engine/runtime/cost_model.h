// SPDX-License-Identifier: MIT
//
// What a pass costs, learned from passes: time T(b) and memory M(b) of b items of one kind, and from these
// how many items to put together. Deterministic, without threads, clock or LibTorch.
#pragma once

#include <cstdint>
#include <limits>
#include <map>

#include "engine/runtime/quantiles.h"

namespace da3 {

constexpr uint64_t kUnlimitedMemory = std::numeric_limits<uint64_t>::max();

class CostModel {
 public:
  // Larger batches are never tried.
  explicit CostModel(uint32_t limit = 64) : limit_(std::max(1u, limit)) {}

  // A pass of `batch` items took `time` ns.
  void observe(uint32_t batch, int64_t time);
  // A pass of `batch` items took `bytes` beyond what was held before.
  void observe_memory(uint32_t batch, uint64_t bytes);
  // A pass of `batch` items did not fit into memory. Returns true if that lowers the limit.
  bool out_of_memory(uint32_t batch);

  // Passes seen.
  uint64_t measured() const { return measured_; }
  // Typical time of a pass; grows with `batch`, beyond what was measured along a line, at most in proportion.
  // 0 while nothing was measured.
  int64_t time(uint32_t batch) const;
  // The time that nine of ten passes keep.
  int64_t time_upper(uint32_t batch) const;
  // Most bytes of a pass, by straight lines between and beyond what was measured; 0 while nothing was.
  uint64_t memory(uint32_t batch) const;
  // What memory allows: by M(b) within `budget`, and by what ran out before.
  uint32_t memory_cap(uint64_t budget) const;
  // How many items to put together: the smallest size within 1.5 % of the best throughput found, or the next
  // size to try. Sizes to try double and end when the last doubling gained under 5 %.
  uint32_t cap(uint64_t budget = kUnlimitedMemory) const;
  // The same without sizes that were not measured yet: what is known to pay.
  uint32_t known_cap(uint64_t budget = kUnlimitedMemory) const;

  uint32_t limit() const { return limit_; }

 private:
  struct Size {
    RecentValues<16> times;
    int64_t typical = 0;  // lower median of `times`
    int64_t smooth = 0;   // made to grow with the size
  };
  uint32_t choose_cap(uint64_t budget, bool explore) const;
  uint32_t answer(uint64_t budget, bool explore) const;
  void changed() { answers_[0] = answers_[1] = {}; }
  void smoothen();

  const uint32_t limit_;
  std::map<uint32_t, Size> sizes_;
  std::map<uint32_t, uint64_t> memory_;  // most seen
  RecentValues<64> spread_;              // observed / typical, in thousandths
  double upper_ = kFirstSpread;
  uint64_t measured_ = 0;
  uint32_t fits_ = std::numeric_limits<uint32_t>::max();  // by what ran out of memory
  uint32_t since_out_of_memory_ = 0;
  // The last answers; thrown away by what changes them.
  struct Answer {
    uint64_t budget = 0;
    uint32_t cap = 0;
  };
  mutable Answer answers_[2];
  uint32_t since_try_ = 0;  // passes since a size beyond the cap was last tried

  static constexpr double kFirstSpread = 1.15;
};

}  // namespace da3
