// SPDX-License-Identifier: MIT
//
// The folder of results: what is in it before and after a run.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "input.h"
#include "options.h"
#include "session.h"

namespace da3::demo {

// Creates the folder and removes the results of an earlier run. Throws DemoError, before anything is removed,
// when that would touch the input.
void prepare_folder(const Options& options, const Input& input);

// Space on the disk of a folder that is given back when something went wrong: when that was a full disk,
// indices, the preview and the summary can still be written. Nothing of it is seen in the folder; a disk too
// full for it does without.
class Reserve {
 public:
  explicit Reserve(const std::filesystem::path& folder);
  ~Reserve() { release(); }
  Reserve(const Reserve&) = delete;
  Reserve& operator=(const Reserve&) = delete;
  void release();

 private:
  int fd_ = -1;
};

// Writes preview.png and summary.json, removes files that came to nothing, and sets outcome.error if a frame
// is missing somewhere or a file cannot be written. Returns the names of the files that are there.
std::vector<std::string> write_report(const Options& options, Outcome& outcome);

}  // namespace da3::demo
