// SPDX-License-Identifier: MIT
#include "engine/network/balanced_for.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

namespace da3 {
namespace {

constexpr int64_t kPieces = 16;  // of a share: what is left to wait for at the end is one of them
constexpr int64_t kMostIndices = std::numeric_limits<uint32_t>::max();

struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

// What nobody has taken yet of a thread's share: both ends in one word.
class alignas(64) Share {
 public:
  void set(const Range& range) { rest_.store(pack(range), std::memory_order_relaxed); }
  int64_t left() const { return unpack(rest_.load(std::memory_order_relaxed)).size(); }
  Range take_first(int64_t piece) {
    return take([piece](Range* rest) {
      const Range out{rest->begin, std::min(rest->begin + piece, rest->end)};
      rest->begin = out.end;
      return out;
    });
  }
  Range take_last(int64_t piece) {
    return take([piece](Range* rest) {
      const Range out{std::max(rest->begin, rest->end - piece), rest->end};
      rest->end = out.begin;
      return out;
    });
  }

 private:
  static uint64_t pack(const Range& r) { return uint64_t(r.begin) << 32 | uint64_t(r.end); }
  static Range unpack(uint64_t word) { return {int64_t(word >> 32), int64_t(word & 0xffffffffu)}; }

  // Empty when nothing is left. The word guards itself alone: results meet at the end of the loop.
  template <typename Cut>
  Range take(const Cut& cut) {
    uint64_t seen = rest_.load(std::memory_order_relaxed);
    for (;;) {
      Range rest = unpack(seen);
      if (rest.size() <= 0) return {};
      const Range out = cut(&rest);
      if (rest_.compare_exchange_weak(seen, pack(rest), std::memory_order_relaxed)) return out;
    }
  }

  std::atomic<uint64_t> rest_{0};
};

}  // namespace

void balanced_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& use) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), (count + grain - 1) / grain);
  if (threads <= 1 || count > kMostIndices || at::in_parallel_region()) return use(0, count);
  const int64_t piece = std::max(grain, count / (threads * kPieces));
  std::vector<Share> shares(static_cast<size_t>(threads));
  for (int64_t t = 0; t < threads; ++t)
    shares[size_t(t)].set({count * t / threads, count * (t + 1) / threads});
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t own = first; own < last; ++own)
      for (Range r = shares[size_t(own)].take_first(piece); r.size() > 0;
           r = shares[size_t(own)].take_first(piece))
        use(r.begin, r.end);
    for (;;) {
      const auto fullest = std::max_element(
          shares.begin(), shares.end(), [](const Share& a, const Share& b) { return a.left() < b.left(); });
      const Range r = fullest->take_last(piece);
      // Between a look and a grasp somebody else may have taken it; the next look shows what is left.
      if (r.size() > 0)
        use(r.begin, r.end);
      else if (std::all_of(shares.begin(), shares.end(), [](const Share& s) { return s.left() <= 0; }))
        return;
    }
  });
}

}  // namespace da3
