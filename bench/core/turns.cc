// SPDX-License-Identifier: MIT
#include "core/turns.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <limits>

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

AgainstBest against_best(const Turn& mine, std::span<const Turn> others) {
  AgainstBest out;
  const auto usable = [&mine](const Turn& t) {
    return t.failure.empty() && t.milliseconds.size() == mine.milliseconds.size();
  };
  if (!mine.failure.empty() || mine.milliseconds.size() < 2) return out;
  for (const size_t half : {0, 1}) {
    double best = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < others.size(); ++i) {
      if (!usable(others[i])) continue;
      std::vector<double> times;
      for (size_t r = half; r < mine.milliseconds.size(); r += 2) times.push_back(others[i].milliseconds[r]);
      if (const double time = median(times); time < best) {
        best = time;
        out.chosen[half] = i;
      }
    }
    if (std::isinf(best)) return out;
    std::vector<double> ratios;
    for (size_t r = 1 - half; r < mine.milliseconds.size(); r += 2)
      ratios.push_back(others[out.chosen[half]].milliseconds[r] / mine.milliseconds[r]);
    out.ratio += 0.5 * median(ratios);
  }
  return out;
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
