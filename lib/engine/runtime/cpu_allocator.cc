// SPDX-License-Identifier: MIT
#include "engine/runtime/cpu_allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <unistd.h>

#include <cstring>
#include <mutex>

#include "engine/runtime/block_pool.h"

namespace da3 {
namespace {

// Never destroyed: tensors may outlive everything.
BlockPool& pool() {
  static BlockPool* const it = new BlockPool;
  return *it;
}

c10::Allocator* usual() {
  static c10::Allocator* const it = c10::GetDefaultCPUAllocator();
  return it;
}

// Of this thread: weights that another one loads meanwhile are not for the next pass.
thread_local int passes = 0;

void report(void* block, int64_t bytes) {
  if (c10::memoryProfilingEnabled())
    c10::reportMemoryUsageToProfiler(block, bytes, pool().taken(), 0, c10::Device(c10::DeviceType::CPU));
}

// Also of blocks that came from the allocator that was there before.
void release(void* block) {
  const size_t bytes = pool().give_back(block);
  if (bytes > 0)
    report(block, -int64_t(bytes));
  else
    usual()->raw_deleter()(block);
}

// LibTorch has changed the signature of allocate() between its versions; one of the two overrides.
struct PoolAllocator : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) const { return get(bytes); }
  c10::DataPtr allocate(size_t bytes) { return get(bytes); }
  void copy_data(void* to, const void* from, size_t count) const { std::memcpy(to, from, count); }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }

 private:
  static c10::DataPtr get(size_t bytes) {
    if (bytes < BlockPool::kSmallest) return usual()->allocate(bytes);
    void* const block = pool().take(bytes, passes > 0);
    // The usual one says what is wrong, in its own words.
    if (!block) return usual()->allocate(bytes);
    report(block, int64_t(bytes));
    return {block, block, &release, c10::Device(c10::DeviceType::CPU)};
  }
};

}  // namespace

void use_block_pool() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (sysconf(_SC_PAGESIZE) != 4096 || !usual()->raw_deleter()) return;
    c10::SetCPUAllocator(new PoolAllocator);
  });
}

PassBlocks::PassBlocks() {
  ++passes;
}

PassBlocks::~PassBlocks() {
  --passes;
  pool().end_pass();
}

void trim_block_pool() {
  pool().trim();
}

std::size_t kept_block_bytes() {
  return pool().kept();
}

}  // namespace da3
