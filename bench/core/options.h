// SPDX-License-Identifier: MIT
//
// The command line of da3-bench.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace da3::bench {

struct Size {
  int64_t width = 504, height = 504;
  bool operator==(const Size&) const = default;
  std::string text() const { return std::to_string(width) + "x" + std::to_string(height); }
};

// Empty lists and zeros: what the work takes by default.
struct Options {
  std::vector<std::string> works;
  bool quick = false, help = false, list = false;
  std::string device = "auto";
  std::vector<std::string> precisions, attentions, models, modes;
  std::vector<Size> sizes;  // of the network's input, multiples of 14
  std::vector<int64_t> batches, views, threads;
  int runs = 0, warm_up = -1;
  int scenes = 0;      // held-out scenes for AbsRel
  int neighbours = 0;  // busy processes beside a second round of `model`
  double seconds = 0;  // most for the runs of one group of alternatives
  std::string json, markdown, svg;
  // compare
  std::string upstream, python, venv, onnx_folder, dacpp, dacpp_arguments;
  std::vector<std::string> peers, dacpp_models;
  // write-model
  std::string write_name, write_folder;
  uint64_t seed = 0;
};

// Throws std::invalid_argument with a sentence for the user. `known_works` are the names that may be given.
Options parse_options(const std::vector<std::string>& arguments, const std::vector<std::string>& known_works);

// What --help prints; `works` are lines about each work.
std::string usage(const std::string& works);

}  // namespace da3::bench
