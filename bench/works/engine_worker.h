// SPDX-License-Identifier: MIT
//
// A process that holds one model in one configuration and runs passes when told to. All that works know of
// the engine is here: a new precision or attention back end of the engine is found by its name.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/accuracy.h"
#include "core/flops.h"
#include "core/options.h"
#include "core/turns.h"
#include "core/worker.h"
#include "engine/api/engine.h"
#include "works/work.h"

namespace da3::bench {

// Whatever the engine has a name for. Both throw std::invalid_argument for others.
Da3Precision precision_of(const std::string& name);

Da3Attention attention_of(const std::string& name);

// The checkpoint that ships: what a default run has of trained models.
constexpr char kTrainedModel[] = "da3-demo";

struct EngineSetup {
  // precision: a name of the engine, or tf32: fp32 on a GPU with the TF32 of performance-mode max.
  std::string model = "synthetic:da3-small", device = "auto", precision = "fp32", attention = "auto";
  std::string mode;  // performance mode; "": the engine's own
  Size size;
  int64_t batch = 1, views = 1, threads = 0;
  bool pose = true, ray = false;
};

// Loads the model and answers requests until there are none. First says {"ready"} with load_ms, precision,
// attention, threads, device (as in force), tf32 (where float32 products are), gflop (operations of a pass /
// 1e9), synthetic, parameters.
// Requests:
//   {"do": "run"}                  one pass from 8-bit pixels to results in host memory -> {"ms"}
//   {"do": "result", "path"}       writes the result of a pass (accuracy.h)
//   {"do": "memory"}               {"peak_rss_mb", "device_peak_mb"}: since the model was loaded
//   {"do": "score", "scenes"}      {"abs_rel", "delta1"} on rendered scenes that are held out from training
void serve_engine(Channel& channel, const EngineSetup& setup);

// One way of doing something among others, in a process of its own.
struct Alternative {
  Row subject;                    // of its row
  std::function<Worker()> start;  // may throw: the row is skipped with the reason
  // What it returns lives during each run, empty: nothing.
  std::function<std::shared_ptr<void>()> around = {};
  std::optional<size_t> shares = {};  // the process of an earlier one, in place of one of its own
};

struct Outcome {
  Row row;                         // subject, times, memory; "skipped"
  Row ready;                       // what it said first
  std::string result;              // file with its result, or ""
  std::shared_ptr<Worker> worker;  // still there, for more questions; null when it failed
};

// Starts all, runs them in turn and keeps them. `folder` takes the results. Alternatives that take too much
// memory beside each other belong into separate calls.
std::vector<Outcome> run_alternatives(const std::vector<Alternative>& alternatives, const RunPlan& plan,
                                      const std::string& folder);

Alternative engine_alternative(const EngineSetup& setup);

// Operations / 1e9 of a pass, from the model's configuration alone; 0 when there is no such model.
double gflop_of(const EngineSetup& setup);

// The file or folder that a model's name stands for (checkpoint.h); throws std::runtime_error.
std::string source_of_model(const std::string& model);

// The names, fp32 first: it is the reference of others.
std::vector<std::string> fp32_first(std::vector<std::string> precisions);

// Adds images_per_s, gflop, gflops and ceiling_share to a row with times; no share where the row does not say
// its precision.
void add_rates(Context& context, const EngineSetup& setup, const Row& ready, Row* row);

// A folder that vanishes.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace da3::bench
