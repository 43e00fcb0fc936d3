// SPDX-License-Identifier: MIT
#include "works/work.h"

#include <algorithm>
#include <cstdio>

#include "core/worker.h"
#include "works/ceiling.h"

namespace da3::bench {
namespace {

std::vector<Work>& registered() {
  static std::vector<Work> all;
  return all;
}

}  // namespace

const std::vector<Work>& works() {
  return registered();
}

WorkRegistration::WorkRegistration(const Work& work) {
  auto& all = registered();
  all.insert(std::upper_bound(all.begin(), all.end(), work,
                              [](const Work& a, const Work& b) { return a.rank < b.rank; }),
             work);
}

void Context::add(Row row) {
  report_.add(std::move(row));
  std::printf("%s\n", line_of(report_.rows().back()).c_str());
  std::fflush(stdout);
}

RunPlan Context::plan(int runs, double seconds) const {
  RunPlan plan{2, runs, seconds};
  if (options.quick) plan = {1, 2, 10};
  if (options.runs > 0) plan.runs = options.runs;
  if (options.warm_up >= 0) plan.warm_up = options.warm_up;
  if (options.seconds > 0) plan.seconds = options.seconds;
  return plan;
}

double Context::ceiling(const std::string& device, int64_t threads, const std::string& precision) {
  const std::string key = device + "/" + std::to_string(threads) + "/" + precision;
  const auto found = ceilings_.find(key);
  if (found != ceilings_.end()) return found->second;
  // The short form is enough: the best of several operators counts.
  RunPlan short_plan{1, options.quick ? 2 : 8, options.quick ? 2.0 : 6.0};
  double best = 0;
  try {
    const Row rows =
        in_child([&] { return measure_matmul(device, threads, {precision}, options.quick, short_plan); });
    for (const Row& row : rows["rows"]) best = std::max(best, row.value("gflops", 0.0));
  } catch (const std::exception&) {
    best = 0;  // figures go without their share
  }
  return ceilings_[key] = best;
}

}  // namespace da3::bench
