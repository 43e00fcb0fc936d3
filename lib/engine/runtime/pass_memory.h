// SPDX-License-Identifier: MIT
//
// The memory of a device as LibTorch's allocators and the system see it.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <cstdint>
#include <memory>

namespace da3 {

struct DeviceMemory {
  // Other programs counted; what the allocator holds in reserve counts as free. 0: not known; where it is
  // known, at least 1.
  uint64_t free = 0;
  uint64_t used = 0;  // by this process
};

// Follows the allocations of the thread that makes it, on one device, while it lives: what a pass needs at
// its peak.
class PassMemory {
 public:
  explicit PassMemory(c10::Device device);
  ~PassMemory();
  PassMemory(const PassMemory&) = delete;
  PassMemory& operator=(const PassMemory&) = delete;
  uint64_t peak() const;
  // Bytes that the device's allocator held and had handed out when it last said; 0 for the CPU.
  uint64_t reserved() const;
  uint64_t allocated() const;

 private:
  struct Reporter;
  std::shared_ptr<Reporter> reporter_;
  std::unique_ptr<c10::DebugInfoGuard> guard_;
};

// `reserve`: bytes that the allocator of a GPU holds without using them; on the CPU it is asked itself.
DeviceMemory device_memory(c10::Device device, uint64_t reserve);

}  // namespace da3
