// SPDX-License-Identifier: MIT
//
// Alternatives measured in turn, so that a slow minute of the machine hurts all of them alike.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/report.h"

namespace da3::bench {

struct RunPlan {
  int warm_up = 2;      // rounds that do not count
  int runs = 10;        // rounds that count
  double seconds = 60;  // no new round after that once three rounds count
};

struct Turn {
  std::function<double()> once;  // does it once; milliseconds
  std::vector<double> milliseconds = {};
  std::string failure = {};  // why it stopped; it is not run again
};

// Every round runs each alternative once, each round beginning with another one. An alternative that throws
// is out.
void run_in_turn(std::vector<Turn>& turns, const RunPlan& plan);

// Times a call.
double milliseconds_of(const std::function<void()>& body);
inline std::function<double()> stopwatch(std::function<void()> body) {
  return [body = std::move(body)] { return milliseconds_of(body); };
}

// What `mine` reaches of the best of `others`, as a ratio of throughputs. The best of several medians that
// scatter is above its own typical value; so the best is chosen by one half of the rounds and compared in the
// other, both ways round: `ratio` is the mean of the two, and `chosen` says which they were. Those that
// failed do not count. ratio = 0: nothing to compare, or fewer than two rounds.
struct AgainstBest {
  double ratio = 0;
  std::array<size_t, 2> chosen = {};
};
AgainstBest against_best(const Turn& mine, std::span<const Turn> others);

// median_ms, p5_ms, p95_ms, runs, or "skipped".
void add_times(const Turn& turn, Row* row);

}  // namespace da3::bench
