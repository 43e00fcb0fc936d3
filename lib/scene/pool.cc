// SPDX-License-Identifier: MIT
#include "scene/pool.h"

#include <utility>

namespace da3::scene {

Pool::Pool(int threads) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { loop(); });
}

Pool::~Pool() {
  {
    const std::lock_guard lock(mutex_);
    quit_ = true;
  }
  begin_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Pool::loop() {
  uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    begin_.wait(lock, [&] { return quit_ || round_ != seen; });
    if (quit_) return;
    seen = round_;
    lock.unlock();
    take();
    lock.lock();
  }
}

// Pieces are large (a tile), so a lock for each costs nothing.
void Pool::take() {
  std::unique_lock lock(mutex_);
  while (next_ < count_) {
    const int index = next_++;
    const auto* work = work_;
    ++busy_;
    lock.unlock();
    std::exception_ptr error;
    try {
      (*work)(index);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    --busy_;
    if (error) {
      if (!error_) error_ = error;
      next_ = count_;
    }
  }
  if (busy_ == 0) end_.notify_all();
}

void Pool::run(int count, const std::function<void(int)>& work) {
  {
    const std::lock_guard lock(mutex_);
    work_ = &work;
    next_ = 0;
    count_ = count;
    error_ = nullptr;
    ++round_;
  }
  if (count > 1) begin_.notify_all();
  take();
  std::unique_lock lock(mutex_);
  end_.wait(lock, [&] { return next_ >= count_ && busy_ == 0; });
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace da3::scene
