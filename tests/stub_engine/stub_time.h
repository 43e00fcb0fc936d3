// SPDX-License-Identifier: MIT
//
// Time that stands still until a test moves it, for a stub engine whose requests wait in the real
// BatchFormer. Its worker and the test go in turns: the test sees what the engine is at (a pass that takes
// until then, waiting for more requests until then, a request that has ended, nothing) and moves time, so
// that whatever happens does so at the same moments in every run.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "engine/runtime/batch_former.h"
#include "stub_engine.h"

namespace da3::testing {

class StubTime : public Clock {
 public:
  // ---- the engine's side

  int64_t now() const override {
    const std::lock_guard lock(mutex_);
    // The queue reads the clock with its lock held when it takes a request: who waits for more decides anew.
    if (submitting() && state_.at == DA3_STUB_WAITS) state_.at = DA3_STUB_BUSY;
    return now_;
  }
  void wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& guard,
                  int64_t time) override {
    {
      const std::lock_guard lock(mutex_);
      if (now_ >= time) return;
      waiter_ = &changed;
      waiter_mutex_ = guard.mutex();
      enter(DA3_STUB_WAITS, time);
    }
    if (free_) {
      changed.wait_for(guard, std::chrono::milliseconds(1));
    } else {
      changed.wait(guard);
    }
    const std::lock_guard lock(mutex_);
    waiter_ = nullptr;
    if (state_.at == DA3_STUB_WAITS) state_.at = DA3_STUB_BUSY;
  }
  // A pass takes so long.
  void spend(int64_t ns) {
    std::unique_lock lock(mutex_);
    const int64_t end = now_ + ns;
    enter(DA3_STUB_RUNS, end);
    changed_.wait(lock, [&] { return free_ || now_ >= end; });
    if (state_.at == DA3_STUB_RUNS) state_.at = DA3_STUB_BUSY;
  }
  // Around the push into the queue.
  struct Submitting {
    explicit Submitting(StubTime* time) : time_(time) {
      if (!time_) return;
      submitting() = true;
      const std::lock_guard lock(time_->mutex_);
      ++time_->inside_;
    }
    ~Submitting() {
      if (time_) submitting() = false;
    }
    Submitting(const Submitting&) = delete;
    Submitting& operator=(const Submitting&) = delete;

   private:
    StubTime* const time_;
  };
  // The owner of a request was told of its end. The worker goes on when the test has looked at it.
  void ended(const uint8_t* rgb, int code, bool by_worker) {
    std::unique_lock lock(mutex_);
    --inside_;
    if (!by_worker || free_) {
      changed_.notify_all();
      return;
    }
    std::copy_n(rgb, 3, state_.rgb);
    state_.code = code;
    enter(DA3_STUB_ENDED, now_);
    changed_.wait(lock, [&] { return free_ || state_.at != DA3_STUB_ENDED; });
    state_.at = DA3_STUB_BUSY;
  }

  // ---- the test's side

  void reset() {
    const std::lock_guard lock(mutex_);
    now_ = 0;
    inside_ = 0;
    free_ = false;
    state_ = {};
  }
  // Negative: time does not matter any more, nobody is waited for.
  void set(int64_t time) {
    std::condition_variable* waiter = nullptr;
    std::mutex* waiter_mutex = nullptr;
    {
      const std::lock_guard lock(mutex_);
      free_ = time < 0;
      now_ = free_ ? int64_t(1) << 62 : time;
      const bool over = (state_.at == DA3_STUB_RUNS || state_.at == DA3_STUB_WAITS) && now_ >= state_.until;
      if (over) state_.at = DA3_STUB_BUSY;
      waiter = waiter_;
      waiter_mutex = waiter_mutex_;
    }
    changed_.notify_all();
    if (!waiter) return;
    // Whoever is about to sleep holds this lock until it does.
    { const std::lock_guard its(*waiter_mutex); }
    waiter->notify_all();
  }
  // Waits until the engine is at something that takes time, has ended a request or, if that counts, has none.
  void look(bool idle_counts, Da3StubState* out) {
    std::unique_lock lock(mutex_);
    const auto idle = [&] { return idle_counts && inside_ == 0 && state_.at == DA3_STUB_BUSY; };
    changed_.wait(lock, [&] { return state_.at != DA3_STUB_BUSY || idle(); });
    *out = state_;
    if (state_.at == DA3_STUB_BUSY) out->at = DA3_STUB_IDLE;
  }
  // The request that has ended was looked at.
  void proceed() {
    {
      const std::lock_guard lock(mutex_);
      if (state_.at == DA3_STUB_ENDED) state_.at = DA3_STUB_BUSY;
    }
    changed_.notify_all();
  }

 private:
  static bool& submitting() {
    static thread_local bool value = false;
    return value;
  }
  // With the lock held.
  void enter(Da3StubAt at, int64_t until) {
    state_.at = at;
    state_.until = until;
    changed_.notify_all();
  }

  mutable std::mutex mutex_;  // taken after the queue's own
  std::condition_variable changed_;
  int64_t now_ = 0;
  int inside_ = 0;  // requests that have not ended
  std::atomic<bool> free_{false};
  mutable Da3StubState state_{};
  std::condition_variable* waiter_ = nullptr;
  std::mutex* waiter_mutex_ = nullptr;
};

}  // namespace da3::testing
