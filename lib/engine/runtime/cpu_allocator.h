// SPDX-License-Identifier: MIT
//
// LibTorch's big blocks of main memory out of a BlockPool.
#pragma once

#include <cstddef>

namespace da3 {

// From now on all big blocks of the process come from the pool. Once; later calls do nothing. Where
// the system has no 4 KiB pages nothing happens at all.
void use_block_pool();

// While one lives, blocks that its thread takes are kept for the next pass. Of several threads at once, each
// with its own. Threads that help it (OpenMP's) take no big blocks; what they took would not be kept.
class PassBlocks {
 public:
  PassBlocks();
  ~PassBlocks();
  PassBlocks(const PassBlocks&) = delete;
  PassBlocks& operator=(const PassBlocks&) = delete;
};

// Gives back what is kept: a model is gone, and its passes with it.
void trim_block_pool();

// Bytes that are kept and not in use: the next pass gets them.
std::size_t kept_block_bytes();

}  // namespace da3
