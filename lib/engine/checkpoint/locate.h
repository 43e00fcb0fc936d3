// SPDX-License-Identifier: MIT
//
// Inside of the checkpoint room: what a model string means. Not for other rooms.
#pragma once

#include <string>

namespace da3 {

struct Location {
  std::string weights;  // the *.safetensors or *.safetensors.index.json file
  std::string source;   // the file or folder that was asked for, or the snapshot folder of a repository
  std::string config;   // config.json that belongs to it, or ""
  std::string licence;  // SPDX id, or ""
};

// Throws EngineError (see Checkpoint::open).
Location locate(const std::string& model);

}  // namespace da3
