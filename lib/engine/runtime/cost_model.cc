// SPDX-License-Identifier: MIT
#include "engine/runtime/cost_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace da3 {
namespace {

// Two doublings that gain less together end the search: for live streams, to whom a larger batch costs time,
// at once; for others if the last one gained hardly anything.
constexpr double kWorthGrowing = 1.05, kHardlyGrowing = 1.005;
constexpr double kClearLoss = 0.9;  // and so does one that is so much worse
constexpr double kNearBest = 0.99;  // the smallest size this near to the best is taken
constexpr size_t kEnough = 3;       // passes of each size before a trial can end,
// and when it ends, however near the decision is: a live stream does not wait for the last word.
constexpr size_t kSure = 9, kSureLive = 8;
// After so many passes a trial is repeated: clocks, neighbours and memory change. The first times sooner,
// where it was a near thing.
constexpr uint64_t kRepeat = 512, kFirstRepeat = 16;
constexpr uint64_t kLive = 512;      // after the last job of a live stream
constexpr uint32_t kMostTrials = 4;  // that count together
constexpr double kOtherTime = 0.1;   // trials that differ by more do not
constexpr double kMostNoise = 0.15;
constexpr uint32_t kRetryMemory = 512;
// A repeated trial whose sizes do not come because less is waiting ends after so many other passes, for so
// many.
constexpr uint32_t kMostMissed = 8;
constexpr uint64_t kPause = 64;
// So many passes in a row, each that much slower or faster than usual: everything has become so.
constexpr size_t kChange = 4;
constexpr double kMuchSlower = 1.25, kMuchFaster = 0.8;

// What undisturbed passes take: the mean of the quickest third of the last `count`.
double undisturbed(const std::vector<double>& times, size_t count) {
  std::vector<double> sorted(times.end() - int64_t(count), times.end());
  std::sort(sorted.begin(), sorted.end());
  sorted.resize((count + 1) / 3);
  return std::accumulate(sorted.begin(), sorted.end(), 0.0) / double(sorted.size());
}

}  // namespace

CostModel::CostModel(uint32_t limit) : limit_(std::max(1u, limit)), noise_(kMostNoise) {
  start_trial();
}

void CostModel::observe(uint32_t batch, int64_t time) {
  if (batch == 0 || time <= 0) return;
  ++measured_;
  if (batch >= fits_ && ++since_out_of_memory_ >= kRetryMemory) {
    fits_ *= 2;
    since_out_of_memory_ = 0;
  }
  follow_change(batch, time);
  learn_time(batch, time);
  learn_gain(batch, time);
  changed();
}

void CostModel::saw_deadline() {
  const bool was_live = measured_ < live_until_;
  live_until_ = measured_ + kLive;
  if (was_live) return;
  changed();
  // A trial of sizes that are out of reach now ends.
  const Choice choice = choose(std::min(limit_, fits_));
  if (trial_.small > std::max(choice.cap, choice.unknown)) trial_ = {};
  if (trial_.small == 0) start_trial();
}

void CostModel::learn_time(uint32_t batch, int64_t time) {
  Size& size = sizes_[batch];
  if (size.times.count() > 0) {
    spread_.add(int64_t(1000.0 * double(time) / double(std::max<int64_t>(1, size.typical))));
    // One slow pass in ten is expected; one in a hundred that took ten times as long must not stop
    // everything.
    upper_ = std::clamp(double(spread_.at_quantile(0.9)) / 1000.0, 1.02, 2.0);
    if (spread_.count() < 5) upper_ = std::max(upper_, kFirstSpread);
    if (spread_.count() >= kEnough)
      noise_ = std::clamp(double(spread_.at_quantile(0.9)) / 1000.0 - 1, 0.0, kMostNoise);
  }
  size.times.add(time);
  std::vector<int64_t> times = size.times.values();
  const auto middle = times.begin() + int64_t((times.size() - 1) / 2);
  std::nth_element(times.begin(), middle, times.end());
  size.typical = *middle;
  smoothen();
}

// Passes that are all much slower, or all much faster, than their sizes used to be change what is known of
// all sizes: those that do not run now, because they would be too late by what was known, could never show
// it.
void CostModel::follow_change(uint32_t batch, int64_t time) {
  const auto found = sizes_.find(batch);
  if (found == sizes_.end() || found->second.times.count() < kEnough) return;
  changes_.push_back(double(time) / double(std::max<int64_t>(1, found->second.typical)));
  if (changes_.size() > kChange) changes_.erase(changes_.begin());
  if (changes_.size() < kChange) return;
  std::vector<double> sorted = changes_;
  std::sort(sorted.begin(), sorted.end());
  if (sorted.front() < kMuchSlower && sorted.back() > kMuchFaster) return;
  const double factor = sorted[(kChange - 1) / 2];
  for (auto& [b, size] : sizes_) {
    size.times.scale(factor);
    size.typical = std::max<int64_t>(1, std::llround(factor * double(size.typical)));
  }
  changes_.clear();
  // Passes from before and after cannot be compared.
  trial_.small_times.clear();
  trial_.large_times.clear();
  for (auto& [b, gain] : gains_) gain.repeat_at = std::min(gain.repeat_at, measured_ + kFirstRepeat);
}

// Isotonic regression, weighted by the number of measurements: neighbours that contradict each other share
// their mean.
void CostModel::smoothen() {
  struct Block {
    double sum, weight;
    size_t members;
  };
  std::vector<Block> blocks;
  for (const auto& [batch, size] : sizes_) {
    const auto weight = double(std::min<uint64_t>(size.times.count(), 16));
    blocks.push_back({double(size.typical) * weight, weight, 1});
    while (blocks.size() > 1) {
      Block& last = blocks.back();
      Block& before = blocks[blocks.size() - 2];
      if (before.sum / before.weight <= last.sum / last.weight) break;
      before = {before.sum + last.sum, before.weight + last.weight, before.members + last.members};
      blocks.pop_back();
    }
  }
  auto it = sizes_.begin();
  for (const Block& block : blocks)
    for (size_t i = 0; i < block.members; ++i, ++it)
      it->second.smooth = std::max<int64_t>(1, std::llround(block.sum / block.weight));
}

void CostModel::observe_memory(uint32_t batch, uint64_t bytes) {
  if (batch == 0 || bytes == 0) return;
  uint64_t& most = memory_[batch];
  if (bytes <= most) return;
  most = bytes;
  changed();
}

bool CostModel::out_of_memory(uint32_t batch) {
  since_out_of_memory_ = 0;
  const uint32_t fits = std::max(1u, batch / 2);
  if (fits >= fits_) return false;
  fits_ = fits;
  if (trial_.small > fits / 2) trial_ = {};
  changed();
  return true;
}

int64_t CostModel::time(uint32_t batch) const {
  if (sizes_.empty()) return 0;
  const auto above = sizes_.lower_bound(batch);
  if (above != sizes_.end() && (above->first == batch || above == sizes_.begin()))
    return above->second.smooth;
  const auto below = std::prev(above);
  const double t0 = double(below->second.smooth), b0 = double(below->first);
  if (above == sizes_.end()) {
    const double in_proportion = t0 / b0;
    if (below == sizes_.begin()) return int64_t(in_proportion * double(batch));
    const auto before = std::prev(below);
    const double slope = (t0 - double(before->second.smooth)) / (b0 - double(before->first));
    return int64_t(t0 + std::min(slope, in_proportion) * (double(batch) - b0));
  }
  const double t1 = double(above->second.smooth), b1 = double(above->first);
  return int64_t(t0 + (t1 - t0) * (double(batch) - b0) / (b1 - b0));
}

int64_t CostModel::time_upper(uint32_t batch) const {
  return int64_t(double(time(batch)) * upper_);
}

uint64_t CostModel::memory(uint32_t batch) const {
  if (memory_.empty()) return 0;
  const auto& [b0, m0] = *memory_.begin();
  const auto& [b1, m1] = *memory_.rbegin();
  if (batch >= b1) {
    // The fixed part is what the smallest size shows; without a second size everything counts as growing.
    const double slope = b1 > b0 && m1 > m0 ? double(m1 - m0) / double(b1 - b0) : double(m1) / double(b1);
    return m1 + uint64_t(slope * double(batch - b1));
  }
  const auto above = memory_.lower_bound(batch);
  if (above->first == batch) return above->second;
  // Below the smallest in proportion, between two along their line.
  const double low = above == memory_.begin() ? 0 : std::prev(above)->first;
  const double low_bytes = above == memory_.begin() ? 0 : double(std::prev(above)->second);
  return uint64_t(low_bytes +
                  (double(above->second) - low_bytes) * (double(batch) - low) / (above->first - low));
}

uint32_t CostModel::memory_cap(uint64_t budget, uint32_t wanted) const {
  // Nothing is known of the first pass.
  if (measured_ == 0) wanted = std::min(wanted, std::max(1u, limit_));
  uint32_t cap = std::max(1u, std::min(wanted, fits_));
  while (cap > 1 && memory(cap) > budget) --cap;
  return cap;
}

// Along the doublings from 1 on.
CostModel::Choice CostModel::choose(uint32_t most) const {
  Choice out;
  std::vector<std::pair<uint32_t, double>> ladder = {{1, 1.0}};  // sizes and their throughput
  for (;;) {
    const auto [last, rate] = ladder.back();
    const double before = ladder.size() > 1 ? ladder[ladder.size() - 2].second : 0;
    if (last > most / 2) {
      // No room for a doubling: up to what there is, if growing paid so far.
      if (last < most && before > 0 && rate >= kWorthGrowing * before)
        ladder.emplace_back(most, kWorthGrowing * rate);
      break;
    }
    const auto known = gains_.find(last);
    if (known == gains_.end()) {
      out.unknown = last;
      break;
    }
    const double gain = known->second.value;
    ladder.emplace_back(2 * last, gain * rate);
    const bool little = gain * rate < kWorthGrowing * before;
    if (gain < kClearLoss || (little && (gain < kHardlyGrowing || measured_ < live_until_))) break;
  }
  double best = 0;
  for (const auto& [size, rate] : ladder) best = std::max(best, rate);
  while (ladder.front().second < kNearBest * best) ladder.erase(ladder.begin());
  out.cap = ladder.front().first;
  return out;
}

void CostModel::learn_gain(uint32_t batch, int64_t time) {
  if (trial_.small == 0) start_trial();
  if (trial_.small == 0 || measured_ < trial_.paused_to) return;
  // Less than a size of the trial was waiting. Most of the larger one shows what that is like, too.
  const uint32_t small = trial_.small;
  if (batch < small || batch > 2 * small) return;
  const bool between = batch > small && 2 * batch < 3 * small;
  std::vector<double>& times = batch == small ? trial_.small_times : trial_.large_times;
  const bool asked_for_larger = to_measure(kUnlimitedMemory) != small;
  if (!between) {
    times.push_back(double(time) / double(batch));
    if (times.size() > kSure) times.erase(times.begin());
  }
  // While growing pays it is not given up.
  const auto half = gains_.find(small / 2);
  const bool growing =
      !gains_.count(small) && (small == 1 || (half != gains_.end() && half->second.value >= kWorthGrowing));
  const bool missed = between || (batch == small && asked_for_larger);
  if (missed && !growing && ++trial_.missed >= kMostMissed) {
    trial_ = {small, {}, {}, 0, measured_ + kPause};
    return;
  }
  conclude();
}

void CostModel::conclude() {
  const size_t count = std::min(trial_.small_times.size(), trial_.large_times.size());
  if (count < kEnough) return;
  const double found = undisturbed(trial_.small_times, count) / undisturbed(trial_.large_times, count);
  const double doubt = noise_ / std::sqrt(double(count));
  const bool near = found > 1 - doubt && found < kWorthGrowing + doubt;
  if (near && count < (measured_ < live_until_ ? kSureLive : kSure)) return;
  Gain& gain = gains_[trial_.small];
  // What was found before counts too, unless it is of another time.
  gain.trials = std::abs(found / gain.value - 1) < kOtherTime ? gain.trials + 1 : 1;
  gain.value += (found - gain.value) / double(std::min(gain.trials, kMostTrials));
  const bool soon = near && gain.trials < kMostTrials;
  gain.repeat_at = measured_ + (soon ? kFirstRepeat << gain.trials : kRepeat);
  const Trial done = std::exchange(trial_, {});
  start_trial();
  if (trial_.small == 2 * done.small)
    trial_.small_times.assign(done.large_times.end() - int64_t(kEnough), done.large_times.end());
}

// The next size whose doubling is not known, or a known one again: to the size in use, or from it.
void CostModel::start_trial() {
  const Choice choice = choose(std::min(limit_, fits_));
  trial_.small = choice.unknown;
  uint64_t due = measured_;
  for (const uint32_t small : {choice.cap / 2, choice.cap}) {
    const auto known = gains_.find(small);
    if (choice.unknown > 0 || known == gains_.end() || known->second.repeat_at > due) continue;
    due = known->second.repeat_at;
    trial_.small = small;
  }
}

uint32_t CostModel::to_measure(uint64_t budget) const {
  const uint32_t small = trial_.small;
  if (small == 0 || measured_ < trial_.paused_to || 2 * small > memory_cap(budget)) return 0;
  const size_t smalls = trial_.small_times.size(), larges = trial_.large_times.size();
  return smalls < kEnough || smalls <= larges ? small : 2 * small;
}

const CostModel::Answer& CostModel::answer(uint64_t budget) const {
  if (answer_.known_cap == 0 || answer_.budget != budget)
    answer_ = {budget, choose(memory_cap(budget)).cap, to_measure(budget)};
  return answer_;
}

uint32_t CostModel::cap(uint64_t budget) const {
  const Answer& a = answer(budget);
  return a.to_measure > 0 ? a.to_measure : a.known_cap;
}

uint32_t CostModel::known_cap(uint64_t budget) const {
  return answer(budget).known_cap;
}

}  // namespace da3
