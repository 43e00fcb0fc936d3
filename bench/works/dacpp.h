// SPDX-License-Identifier: MIT
//
// The program of depth-anything.cpp as a peer. It has no protocol: every run is a process of its own, and the
// time is the one that it prints.
#pragma once

#include <string>
#include <vector>

#include "core/options.h"
#include "core/worker.h"

namespace da3::bench {

struct DacppSetup {
  std::string program, model,
      arguments;         // arguments: with {model}, {image} and {threads}; "" for the usual ones
  std::string pictures;  // raw RGB of one picture
  Size size;
  int64_t threads = 0;
};

// A worker that answers "run", "memory" (peak of the program, too) and, with the usual arguments, "result"
// (depth). Throws std::runtime_error when something needed is missing.
Worker start_dacpp(const DacppSetup& setup);

// The last number before "ms" (or before "s", then times 1000) in what a program printed. Throws
// std::runtime_error with the last line when there is none.
double printed_milliseconds(const std::string& output);

// The type of most weights of a GGUF file: "fp32", "bf16", "fp16" or, in words of that format, "q8_0" and the
// like; "" when the file does not say.
std::string precision_of_gguf(const std::string& path);

// A file of one float a pixel as the program writes it (PFM, "Pf"), top row first. Throws
// std::runtime_error with name and reason.
std::vector<float> read_pfm(const std::string& path);

}  // namespace da3::bench
