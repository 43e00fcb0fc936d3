// SPDX-License-Identifier: MIT
//
// What a pass costs, learned from passes: time T(b) and memory M(b) of b items of one kind, and how many
// items to put together. Deterministic, without threads, clock or LibTorch.
//
// T(b) is what a pass usually takes, whatever disturbed it: deadlines depend on it. How many items to put
// together is decided by trials instead: a size and its double measured by turns, so that what else the
// machine does falls on both, and compared by their quickest passes, because what disturbs a pass only ever
// makes it slower.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <vector>

#include "engine/runtime/quantiles.h"

namespace da3 {

constexpr uint64_t kUnlimitedMemory = std::numeric_limits<uint64_t>::max();

class CostModel {
 public:
  // Larger batches are never tried by itself.
  explicit CostModel(uint32_t limit = 64);

  // A pass of `batch` items took `time` ns.
  void observe(uint32_t batch, int64_t time);
  // There is a job with a deadline: for some hundred passes from now larger batches have to gain more.
  void saw_deadline();
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
  uint32_t memory_cap(uint64_t budget) const { return memory_cap(budget, limit_); }
  // The same for who says how many he wants: at most `wanted`, whatever limit() is.
  uint32_t memory_cap(uint64_t budget, uint32_t wanted) const;
  // How many items to put together: known_cap(), or what the trial that is on wants to have measured next.
  uint32_t cap(uint64_t budget = kUnlimitedMemory) const;
  // What is known to pay: the smallest size within 1 % of the best throughput found. Sizes double, and end
  // when two doublings gain under 5 % together (without live streams: and the last one hardly anything), or
  // one is clearly worse.
  uint32_t known_cap(uint64_t budget = kUnlimitedMemory) const;
  // What to measure next, 0 = there is no trial, or memory forbids it.
  uint32_t to_measure(uint64_t budget = kUnlimitedMemory) const;

  uint32_t limit() const { return limit_; }

 private:
  struct Size {
    RecentValues<16> times;
    int64_t typical = 0;  // lower median of `times`
    int64_t smooth = 0;   // made to grow with the size
  };
  // `small` items against twice as many.
  struct Trial {
    uint32_t small = 0;                            // 0: none is on
    std::vector<double> small_times, large_times;  // of an item
    uint32_t missed = 0;                           // passes of other sizes meanwhile
    uint64_t paused_to = 0;                        // not before so many passes
  };
  // What came of trials: throughput of twice the size over that of the size.
  struct Gain {
    double value = 1;
    uint32_t trials = 0;  // that `value` is the mean of
    uint64_t repeat_at = 0;
  };
  struct Choice {
    uint32_t cap = 1;
    uint32_t unknown = 0;  // the size whose doubling is to be tried; 0: all is known
  };
  struct Answer {
    uint64_t budget = 0;
    uint32_t known_cap = 0, to_measure = 0;
  };
  Choice choose(uint32_t most) const;
  const Answer& answer(uint64_t budget) const;
  void changed() { answer_ = {}; }
  void learn_time(uint32_t batch, int64_t time);
  void follow_change(uint32_t batch, int64_t time);
  void smoothen();
  void learn_gain(uint32_t batch, int64_t time);
  void conclude();
  void start_trial();

  const uint32_t limit_;
  std::map<uint32_t, Size> sizes_;
  std::map<uint32_t, uint64_t> memory_;  // most seen
  RecentValues<64> spread_;              // observed / typical, in thousandths
  std::vector<double> changes_;          // the latest of these
  double upper_ = kFirstSpread;
  double noise_;  // how far passes are above what is typical, single outliers aside
  uint64_t measured_ = 0;
  uint64_t live_until_ = 0;                               // in passes
  uint32_t fits_ = std::numeric_limits<uint32_t>::max();  // by what ran out of memory
  uint32_t since_out_of_memory_ = 0;
  std::map<uint32_t, Gain> gains_;  // by the smaller size
  Trial trial_;
  mutable Answer answer_;  // the last one; thrown away by what changes it

  static constexpr double kFirstSpread = 1.15;
};

}  // namespace da3
