// SPDX-License-Identifier: MIT
//
// Writes the safetensors format (safetensors.h). No LibTorch.
#pragma once

#include <map>
#include <string>

#include "engine/checkpoint/checkpoint.h"

namespace da3 {

// Tensors in the order of falling alignment, then of their names, so that every one lies on a multiple of its
// element size. The file appears whole or not at all: it is written beside `path` first. Throws
// std::invalid_argument for a tensor whose bytes do not fit its shape, std::runtime_error (with the name of
// the file and the reason) when it cannot be written.
void write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace da3
