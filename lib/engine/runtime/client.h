// SPDX-License-Identifier: MIT
//
// One reference to an engine: counts its unfinished requests, so that closing and cancelling can wait for
// them. No LibTorch.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "engine/api/engine.h"

namespace da3 {

class Client {
 public:
  uint32_t max_batch = 0;  // 0: learned
  std::atomic<uint32_t> warm_up_stops{0};
  bool warned_of_slowness = false;  // of the engine's worker thread
  // Of Da3EngineConfig.
  void (*warning)(void* user, Da3ErrorCode code, const char* text) = nullptr;
  void (*progress)(void* user, Da3ProgressStage stage, double fraction) = nullptr;
  int32_t (*cancelled)(void* user) = nullptr;
  void* user = nullptr;

  void begin(const void* stream) {
    const std::lock_guard<std::mutex> guard(lock_);
    unfinished_.push_back(stream);
  }
  void finish(const void* stream) {
    // Notified under the lock: whoever waits may destroy this object as soon as the lock is free.
    const std::lock_guard<std::mutex> guard(lock_);
    unfinished_.erase(std::find(unfinished_.begin(), unfinished_.end(), stream));
    changed_.notify_all();
  }
  // Until `stream` has nothing left.
  void wait(const void* stream) {
    std::unique_lock<std::mutex> guard(lock_);
    changed_.wait(guard, [&] { return std::count(unfinished_.begin(), unfinished_.end(), stream) == 0; });
  }
  void wait_all() {
    std::unique_lock<std::mutex> guard(lock_);
    changed_.wait(guard, [&] { return unfinished_.empty(); });
  }

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  std::vector<const void*> unfinished_;  // one entry per request
};

}  // namespace da3
