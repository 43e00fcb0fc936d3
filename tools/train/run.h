// SPDX-License-Identifier: MIT
//
// A training run: a folder that holds the state, the checkpoint, the history and the picture of it.
#pragma once

#include <atomic>
#include <string>

#include "train/schedule.h"

namespace da3::train {

struct RunOptions {
  std::string folder;
  std::string config;  // path of a config.json; empty: the built-in one of da3-demo
  std::string device = "cpu";
  std::string precision =
      "auto";  // of matrix products: fp32, bf16, auto (bf16 where the device is native in it)
  Schedule schedule;
  int threads = 0;   // for rendering; 0: all processors
  int replicas = 0;  // a batch is split over so many threads; 0: 2 on the CPU, else 1. Changes rounding
  int ahead = -1;    // steps rendered in advance; -1: none on the CPU, 8 elsewhere
  int64_t evaluate_every = 500;  // steps
  double save_every = 120;       // seconds
  int64_t stop_after = 0;        // end after so many steps of this call (the run can be resumed); 0: never
};

// Trains until the schedule ends or `*stop` is set; then the state is saved and false is returned. Goes on
// where the folder's state stands, if there is one. Writes model.safetensors, config.json, state.safetensors,
// history.jsonl, loss.svg. Throws std::runtime_error, std::invalid_argument and EngineError.
bool train(const RunOptions& options, const std::atomic<bool>& stop);

// Scores a checkpoint (file or folder) on held-out scenes and prints the table; the same numbers as JSON go
// to `json` unless that is empty.
void score_model(const std::string& model, const std::string& device, int sets, int width, int height,
                 int threads, const std::string& json);

}  // namespace da3::train
