// SPDX-License-Identifier: MIT
//
// LibTorch's big blocks of main memory out of a BlockPool.
#pragma once

namespace da3 {

// From now on all big blocks of the process come from the pool. Once; later calls do nothing. Where
// the system has no 4 KiB pages nothing happens at all.
void use_block_pool();

// While one lives, blocks are kept for the next pass. Of one thread at a time or of several.
class PassBlocks {
 public:
  PassBlocks();
  ~PassBlocks();
  PassBlocks(const PassBlocks&) = delete;
  PassBlocks& operator=(const PassBlocks&) = delete;
};

// Gives back what is kept: a model is gone, or nothing has been computed for long.
void trim_block_pool();

}  // namespace da3
