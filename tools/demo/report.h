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

// Writes preview.png and summary.json, removes files that came to nothing, and sets outcome.error if a frame
// is missing somewhere or a file cannot be written. Returns the names of the files that are there.
std::vector<std::string> write_report(const Options& options, Outcome& outcome);

}  // namespace da3::demo
