// SPDX-License-Identifier: MIT
#include "engine/runtime/cost_model.h"

#include <cmath>
#include <vector>

namespace da3 {
namespace {

constexpr uint64_t kEnough = 3;         // measurements before a size is judged
constexpr double kWorthGrowing = 1.05;  // a doubling that gains less ends the search
constexpr double kNearBest = 0.985;     // the smallest size this near to the best is taken
// After so many passes what was found wanting is tried again: clocks, neighbours and memory change.
constexpr uint32_t kRetryTime = 256;
constexpr uint32_t kRetryMemory = 512;

double per_second(uint32_t batch, int64_t time) {
  return time > 0 ? double(batch) / double(time) : 0.0;
}

}  // namespace

void CostModel::observe(uint32_t batch, int64_t time) {
  if (batch == 0 || time <= 0) return;
  ++measured_;
  Size& size = sizes_[batch];
  if (size.times.count() > 0) {
    spread_.add(int64_t(1000.0 * double(time) / double(std::max<int64_t>(1, size.typical))));
    // One slow pass in ten is expected; one in a hundred that took ten times as long must not stop
    // everything.
    upper_ = std::clamp(double(spread_.at_quantile(0.9)) / 1000.0, 1.02, 2.0);
    if (spread_.count() < 5) upper_ = std::max(upper_, kFirstSpread);
  }
  size.times.add(time);
  std::vector<int64_t> times = size.times.values();
  const auto middle = times.begin() + int64_t((times.size() - 1) / 2);
  std::nth_element(times.begin(), middle, times.end());
  size.typical = *middle;
  smoothen();
  changed();
  if (batch >= fits_ && ++since_out_of_memory_ >= kRetryMemory) {
    fits_ *= 2;
    since_out_of_memory_ = 0;
  }
  const uint32_t known = known_cap();
  since_try_ = batch > known ? 0 : since_try_ + (batch == known ? 1 : 0);
  changed();
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

uint32_t CostModel::memory_cap(uint64_t budget) const {
  uint32_t cap = std::max(1u, std::min(limit_, fits_));
  while (cap > 1 && memory(cap) > budget) --cap;
  return cap;
}

uint32_t CostModel::choose_cap(uint64_t budget, bool explore) const {
  const uint32_t most = memory_cap(budget);
  const auto judged = [this](uint32_t batch) {
    const auto found = sizes_.find(batch);
    return found != sizes_.end() && found->second.times.count() >= kEnough;
  };
  std::vector<uint32_t> ladder = {1};
  uint32_t to_try = 0;
  while (ladder.back() < most && judged(ladder.back())) {
    const uint32_t last = ladder.back(), next = std::min(most, last * 2);
    if (!judged(next)) {
      to_try = next;
      break;
    }
    ladder.push_back(next);
    if (per_second(next, time(next)) < kWorthGrowing * per_second(last, time(last))) {
      if (since_try_ >= kRetryTime) to_try = next;
      break;
    }
  }
  if (explore && to_try > 0) return to_try;
  double best = 0;
  for (const uint32_t b : ladder) best = std::max(best, per_second(b, time(b)));
  for (const uint32_t b : ladder)
    if (per_second(b, time(b)) >= kNearBest * best) return b;
  return 1;
}

uint32_t CostModel::answer(uint64_t budget, bool explore) const {
  Answer& last = answers_[explore];
  if (last.cap == 0 || last.budget != budget) last = {budget, choose_cap(budget, explore)};
  return last.cap;
}

uint32_t CostModel::cap(uint64_t budget) const {
  return answer(budget, true);
}

uint32_t CostModel::known_cap(uint64_t budget) const {
  return answer(budget, false);
}

}  // namespace da3
