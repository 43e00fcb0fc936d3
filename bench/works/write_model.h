// SPDX-License-Identifier: MIT
//
// Synthetic models as files, so that other programs compute with the same numbers.
#pragma once

#include <cstdint>
#include <string>

namespace da3::bench {

// Writes model.safetensors and config.json of a built-in configuration into `folder`, which is made if
// needed. Throws EngineError (there is no such configuration) or std::runtime_error.
void write_model(const std::string& name, const std::string& folder, uint64_t seed);

}  // namespace da3::bench
