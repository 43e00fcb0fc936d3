// SPDX-License-Identifier: MIT
//
// Inside of the checkpoint room: what a model string means. Not for other rooms.
#pragma once

#include <string>
#include <vector>

namespace da3 {

// The checkpoint that ships with gst-da3, as a model string; an empty one means the same.
constexpr const char* kShippedModel = "da3-demo";

struct Location {
  std::string weights;  // the *.safetensors or *.safetensors.index.json file
  std::string source;   // the file or folder that was asked for, or the snapshot folder of a repository
  std::string config;   // config.json that belongs to it, or ""
  std::string licence;  // SPDX id, or ""
};

// Throws EngineError (see Checkpoint::open).
Location locate(const std::string& model);

// Folders that may hold kShippedModel, in the order of search: those of $DA3_MODEL_PATH (separated by
// colons), DATADIR/gst-da3/models of the installation that the file `module` is part of, wherever it was
// moved, and the folder it was configured for. `module` "": the file that holds this function.
std::vector<std::string> model_folders(const std::string& module = {});

}  // namespace da3
