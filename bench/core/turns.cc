// SPDX-License-Identifier: MIT
#include "core/turns.h"

#include <algorithm>
#include <chrono>
#include <exception>

#include "core/stats.h"

namespace da3::bench {

double milliseconds_of(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

void run_in_turn(std::vector<Turn>& turns, const RunPlan& plan) {
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  constexpr int kLeast = 3;
  for (int round = 0; round < plan.warm_up + plan.runs; ++round) {
    if (round >= plan.warm_up + std::min(kLeast, plan.runs) && elapsed() > plan.seconds) break;
    for (size_t i = 0; i < turns.size(); ++i) {
      Turn& turn = turns[(i + size_t(round)) % turns.size()];
      if (!turn.failure.empty()) continue;
      try {
        const double milliseconds = turn.once();
        if (round >= plan.warm_up) turn.milliseconds.push_back(milliseconds);
      } catch (const std::exception& e) {
        turn.failure = e.what();
        if (turn.failure.empty()) turn.failure = "failed without a word";
      }
    }
  }
}

void add_times(const Turn& turn, Row* row) {
  if (!turn.failure.empty() || turn.milliseconds.empty()) {
    (*row)["skipped"] = turn.failure.empty() ? "not run" : turn.failure;
    return;
  }
  (*row)["median_ms"] = median(turn.milliseconds);
  (*row)["p5_ms"] = quantile(turn.milliseconds, 0.05);
  (*row)["p95_ms"] = quantile(turn.milliseconds, 0.95);
  (*row)["runs"] = turn.milliseconds.size();
}

}  // namespace da3::bench
