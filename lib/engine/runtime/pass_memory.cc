// SPDX-License-Identifier: MIT
#include "engine/runtime/pass_memory.h"

#include <dlfcn.h>

#include <algorithm>
#include <optional>

#include "engine/runtime/cpu_allocator.h"
#include "engine/runtime/memory.h"

namespace da3 {

struct PassMemory::Reporter : c10::MemoryReportingInfoBase {
  explicit Reporter(c10::Device d) : device(d) {}
  // LibTorch changed the types of the totals between its versions; one of the two overrides.
  void reportMemoryUsage(void*, int64_t size, size_t total_allocated, size_t total_reserved,
                         c10::Device where) {
    note(size, int64_t(total_allocated), int64_t(total_reserved), where);
  }
  void reportMemoryUsage(void*, int64_t size, int64_t total_allocated, int64_t total_reserved,
                         c10::Device where) {
    note(size, total_allocated, total_reserved, where);
  }
  bool memoryProfilingEnabled() const override { return true; }

  void note(int64_t size, int64_t total_allocated, int64_t total_reserved, c10::Device where) {
    if (where.type() != device.type()) return;
    held += size;
    peak = std::max(peak, held);
    allocated = total_allocated;
    reserved = total_reserved;
  }

  const c10::Device device;
  int64_t held = 0, peak = 0, allocated = 0, reserved = 0;
};

PassMemory::PassMemory(c10::Device device)
    : reporter_(std::make_shared<Reporter>(device)),
      guard_(std::make_unique<c10::DebugInfoGuard>(c10::DebugInfoKind::PROFILER_STATE, reporter_)) {}

PassMemory::~PassMemory() = default;

uint64_t PassMemory::peak() const {
  return uint64_t(std::max<int64_t>(0, reporter_->peak));
}

uint64_t PassMemory::reserved() const {
  return reporter_->device.is_cpu() ? 0 : uint64_t(std::max<int64_t>(0, reporter_->reserved));
}

uint64_t PassMemory::allocated() const {
  return reporter_->device.is_cpu() ? 0 : uint64_t(std::max<int64_t>(0, reporter_->allocated));
}

namespace {

// Asked of the driver itself: that needs no CUDA headers. For the context of the calling thread, which is
// there once the thread has used the device.
std::optional<uint64_t> free_cuda_memory() {
  static void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) return std::nullopt;
  using GetInfo = int (*)(size_t*, size_t*);
  static const auto get = reinterpret_cast<GetInfo>(dlsym(driver, "cuMemGetInfo_v2"));
  size_t free = 0, total = 0;
  if (!get || get(&free, &total) != 0) return std::nullopt;
  return free;
}

}  // namespace

DeviceMemory device_memory(c10::Device device, uint64_t reserve) {
  DeviceMemory out;
  if (device.is_cuda()) {
    if (const auto free = free_cuda_memory()) out.free = std::max<uint64_t>(1, *free + reserve);
  } else {
    // What the pool keeps is resident and yet free for the next pass.
    if (const auto free = free_main_memory()) out.free = std::max<uint64_t>(1, *free + kept_block_bytes());
    out.used = resident_memory();
  }
  return out;
}

}  // namespace da3
