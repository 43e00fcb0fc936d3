// SPDX-License-Identifier: MIT
//
// The command line of da3-bench.
#pragma once

#include <cstdint>
#include <map>
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
  int images = 0;      // batching: of the full size
  std::string load;    // batching: equal or mixed, else both
  std::string json, markdown, svg;
  // compare
  std::string upstream, python, venv, onnx_folder, dacpp, dacpp_arguments;
  std::vector<std::string> peers, dacpp_models;
  // write-model
  std::string write_name, write_folder;
  uint64_t seed = 0;
  std::map<std::string, size_t> given;  // options of the command line, and how many values each has
};

// For options of which a work takes one value; check_taken() has seen to it that there are no more.
template <typename T>
T first_or(const std::vector<T>& values, T otherwise) {
  return values.empty() ? otherwise : values.front();
}

// Throws std::invalid_argument when an option was given that none of the works takes, or several values to
// one that takes one. `takes` has each work's name and its options, separated by blanks, beside --quick,
// --device, --runs, --warm-up, --seconds and the files to write; "--size=1" takes one value.
void check_taken(const Options& options, const std::map<std::string, std::string>& takes);

// Throws std::invalid_argument with a sentence for the user. `known_works` are the names that may be given.
Options parse_options(const std::vector<std::string>& arguments, const std::vector<std::string>& known_works);

// What --help prints; `works` are lines about each work.
std::string usage(const std::string& works);

}  // namespace da3::bench
