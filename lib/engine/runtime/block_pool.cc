// SPDX-License-Identifier: MIT
#include "engine/runtime/block_pool.h"

#include <sys/mman.h>

#include <algorithm>

namespace da3 {
namespace {

constexpr size_t kPage = 4096, kHugePage = size_t(2) << 20;
// Blocks of the other half of a pass wait for their turn: what is kept may add this part to the most that
// passes needed at once. Memory for time: without it a pass of da3-base takes 5 % longer.
constexpr double kSpare = 0.5;

size_t round_up(size_t value, size_t step) {
  return (value + step - 1) / step * step;
}

// Aligned to huge pages, so that all of it but the end can be made of them.
void* map_block(size_t size) {
  const size_t room = size + kHugePage;
  if (room < size) return nullptr;
  void* const mapped = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(mapped), block = round_up(begin, kHugePage);
  if (block > begin) munmap(mapped, block - begin);
  if (begin + room > block + size) munmap(reinterpret_cast<void*>(block + size), begin + room - block - size);
#if defined(MADV_HUGEPAGE)
  // Whole ones only: memory that nobody asked for would be lost. A system without them says no, and all is
  // well.
  if (size >= kHugePage) madvise(reinterpret_cast<void*>(block), size / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return reinterpret_cast<void*>(block);
}

}  // namespace

BlockPool::~BlockPool() {
  trim();
}

void* BlockPool::take(size_t bytes, bool reusable) {
  if (bytes > SIZE_MAX - kPage) return nullptr;
  size_t size = round_up(std::max<size_t>(bytes, 1), kPage);
  const std::lock_guard<std::mutex> guard(lock_);
  void* block = nullptr;
  const auto found = reusable ? kept_.lower_bound(size) : kept_.end();
  if (found != kept_.end() && found->first <= size + size / 8) {
    block = found->second.block;
    size = found->first;
    kept_bytes_ -= size;
    kept_.erase(found);
  } else {
    if (reusable) make_room(size);
    block = map_block(size);
    if (!block && !kept_.empty()) {
      make_room(SIZE_MAX);
      block = map_block(size);
    }
    if (!block) return nullptr;
    ++made_;
  }
  blocks_[block] = {bytes, size, reusable};
  taken_ += size;
  if (reusable) most_reusable_ = std::max(most_reusable_, reusable_taken_ += size);
  return block;
}

// For SIZE_MAX: all there can be. Call with the lock.
void BlockPool::make_room(size_t size) {
  const size_t most = most_reusable_ + size_t(kSpare * double(most_reusable_));
  while (!kept_.empty() && (size == SIZE_MAX || reusable_taken_ + kept_bytes_ + size > most)) {
    const auto oldest = std::min_element(kept_.begin(), kept_.end(), [](const auto& a, const auto& b) {
      return a.second.order < b.second.order;
    });
    munmap(oldest->second.block, oldest->first);
    kept_bytes_ -= oldest->first;
    kept_.erase(oldest);
  }
}

size_t BlockPool::give_back(void* block) {
  if (reinterpret_cast<uintptr_t>(block) % kPage != 0 || !block) return 0;
  const std::lock_guard<std::mutex> guard(lock_);
  const auto found = blocks_.find(block);
  if (found == blocks_.end()) return 0;
  const Block b = found->second;
  blocks_.erase(found);
  taken_ -= b.size;
  if (b.reusable) {
    reusable_taken_ -= b.size;
    kept_.emplace(b.size, Kept{block, pass_, ++given_back_});
    kept_bytes_ += b.size;
  } else {
    munmap(block, b.size);
  }
  return b.asked;
}

void BlockPool::end_pass() {
  const std::lock_guard<std::mutex> guard(lock_);
  ++pass_;
  for (auto i = kept_.begin(); i != kept_.end();) {
    if (i->second.pass + 2 >= pass_) {
      ++i;
      continue;
    }
    munmap(i->second.block, i->first);
    kept_bytes_ -= i->first;
    i = kept_.erase(i);
  }
}

void BlockPool::trim() {
  const std::lock_guard<std::mutex> guard(lock_);
  make_room(SIZE_MAX);
  most_reusable_ = reusable_taken_;
}

size_t BlockPool::taken() const {
  const std::lock_guard<std::mutex> guard(lock_);
  return taken_;
}

size_t BlockPool::kept() const {
  const std::lock_guard<std::mutex> guard(lock_);
  return kept_bytes_;
}

uint64_t BlockPool::made() const {
  const std::lock_guard<std::mutex> guard(lock_);
  return made_;
}

}  // namespace da3
