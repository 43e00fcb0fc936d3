// SPDX-License-Identifier: MIT
//
// What da3-bench can measure. A work is a source file in this folder that ends with DA3_BENCH_WORK(...); the
// build file lists it and nothing else needs to know it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/options.h"
#include "core/report.h"
#include "core/turns.h"

namespace da3::bench {

// What a work sees of the run.
class Context {
 public:
  Context(const Options& options, Report& report) : options(options), report_(report) {}
  const Options& options;

  // Keeps the row and prints it.
  void add(Row row);
  const Report& report() const { return report_; }
  // Rounds and seconds: those of the command line, else few for --quick, else these.
  RunPlan plan(int runs, double seconds) const;
  // GFLOP/s of matrix products that this machine reaches in `precision` ("fp32", ...), measured on first
  // need; 0 when it cannot compute in it.
  double ceiling(const std::string& device, int64_t threads, const std::string& precision);

 private:
  Report& report_;
  std::map<std::string, double> ceilings_;
};

struct Work {
  int rank;  // works are done and listed in this order
  const char* name;
  const char* summary;
  void (*run)(Context&);
  const char* takes;  // options beside those that all have, see check_taken()
};

const std::vector<Work>& works();

struct WorkRegistration {
  explicit WorkRegistration(const Work& work);
};

#define DA3_BENCH_WORK(rank, name, summary, run, takes)             \
  static const ::da3::bench::WorkRegistration registration_of_work( \
      ::da3::bench::Work{rank, name, summary, run, takes})

}  // namespace da3::bench
