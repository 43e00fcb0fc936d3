// SPDX-License-Identifier: MIT
//
// A clock that stands still until the test moves it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "engine/runtime/batch_former.h"

namespace da3::test {

class TestClock : public Clock {
 public:
  int64_t now() const override { return now_; }
  void wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& guard,
                  int64_t time) override {
    if (now_ >= time) return;
    {
      const std::lock_guard<std::mutex> own(lock_);
      waiter_ = &changed;
      waiter_lock_ = guard.mutex();
      until_ = time;
      seen_.notify_all();
    }
    changed.wait(guard);
    const std::lock_guard<std::mutex> own(lock_);
    waiter_ = nullptr;
  }
  void set(int64_t time) { now_ = time; }
  void advance(int64_t by) {
    now_ += by;
    std::unique_lock<std::mutex> own(lock_);
    std::condition_variable* const waiter = waiter_;
    std::mutex* const lock = waiter_lock_;
    own.unlock();
    if (!waiter) return;
    // Whoever is about to sleep holds this lock until it does.
    { const std::lock_guard<std::mutex> its(*lock); }
    waiter->notify_all();
  }
  // Until somebody waits for a time; returns that time.
  int64_t wait_for_waiter() {
    std::unique_lock<std::mutex> own(lock_);
    seen_.wait(own, [this] { return waiter_ != nullptr; });
    return until_;
  }

 private:
  std::atomic<int64_t> now_{1'000'000'000};
  std::mutex lock_;
  std::condition_variable seen_;
  std::condition_variable* waiter_ = nullptr;
  std::mutex* waiter_lock_ = nullptr;
  int64_t until_ = 0;
};

}  // namespace da3::test
