// SPDX-License-Identifier: MIT
//
// The command line of da3-demo.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace da3::demo {

struct Options {
  std::string input, outdir;  // no input when a rendered clip is shown
  bool render = false;        // a clip of a place that does not exist, whose depth and cameras are known
  std::string model;          // never empty after parsing
  bool model_given = false;
  std::string device = "auto", precision = "auto";
  int process_res = 504;  // that of the checkpoint that ships is smaller
  unsigned views = 1;
  std::optional<std::uint64_t> max_frames;
  bool verbose = false;
  bool help = false;
};

// The command line makes no sense; what() says why.
class UsageError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws UsageError.
Options parse_options(int argc, char** argv);
const char* usage_text();

}  // namespace da3::demo
