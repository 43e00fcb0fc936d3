// SPDX-License-Identifier: MIT
//
// One run of the pipeline, from the first frame to completed files.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "graph.h"
#include "input.h"
#include "options.h"

namespace da3::demo {

struct Outcome {
  std::uint64_t frames_in = 0;                  // decoded and handed to the network
  std::map<std::string, std::uint64_t> frames;  // in each file
  double seconds = 0;                           // from the first decoded frame to the last written one
  bool interrupted = false;
  bool cut_short = false;          // a second interrupt did not wait for the files
  std::optional<DemoError> error;  // the first one
  std::vector<std::string> warnings;
  std::optional<ModelInfo> model;
  std::optional<Scores> scores;
  SamplePtr preview;
};

// Runs until everything is written, also after an error or SIGINT; `on_error` is called at the first error.
// Never throws for what happens in the pipeline; throws DemoError if it cannot be built.
Outcome run_session(const Options& options, const Input& input, const std::function<void()>& on_error);

}  // namespace da3::demo
