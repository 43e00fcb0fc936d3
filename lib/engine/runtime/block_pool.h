// SPDX-License-Identifier: MIT
//
// Big blocks of main memory straight from the system, in huge pages where it gives them. Those that a pass
// takes are kept for the next one: it needs the same sizes again, and the system clears every page that it
// hands out anew. No LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>

namespace da3 {

// Thread-safe.
class BlockPool {
 public:
  // Smaller blocks are better served elsewhere.
  static constexpr size_t kSmallest = size_t(1) << 20;

  BlockPool() = default;
  ~BlockPool();  // what is still taken stays
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // At least `bytes`, aligned to pages, not cleared; null when there is no memory. `reusable`: keep it once
  // it is given back.
  void* take(size_t bytes, bool reusable);
  // The bytes that were asked for, or 0: not a block of this pool, nothing done.
  size_t give_back(void* block);

  // A pass has ended: what it and the one before it did not use goes back to the system.
  void end_pass();
  // All that is kept goes back to the system.
  void trim();

  // Taken and kept blocks in bytes, and how many of them the system was asked for so far.
  size_t taken() const;
  size_t kept() const;
  uint64_t made() const;

 private:
  struct Block {
    size_t asked, size;
    bool reusable;
  };
  struct Kept {
    void* block;
    uint64_t pass;   // the last one that used it
    uint64_t order;  // of being given back
  };
  void make_room(size_t size);

  mutable std::mutex lock_;
  std::unordered_map<void*, Block> blocks_;
  std::multimap<size_t, Kept> kept_;  // by size
  size_t taken_ = 0, reusable_taken_ = 0, kept_bytes_ = 0;
  size_t most_reusable_ = 0;  // in use at once, since the last trim
  uint64_t pass_ = 0, made_ = 0, given_back_ = 0;
};

}  // namespace da3
