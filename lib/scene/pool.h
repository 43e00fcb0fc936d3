// SPDX-License-Identifier: MIT
//
// A few threads that wait for work without using a processor. Private to this room.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace da3::scene {

class Pool {
 public:
  // `threads` include the caller of run(), so 1 starts none.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Calls work(0) .. work(count - 1), each once, on any of the threads, and returns when all are done. The
  // first exception is thrown here; what had not begun then is left out. One caller at a time.
  void run(int count, const std::function<void(int)>& work);
  int threads() const { return int(workers_.size()) + 1; }

 private:
  void loop();
  void take();
  std::mutex mutex_;
  std::condition_variable begin_, end_;
  const std::function<void(int)>* work_ = nullptr;
  int next_ = 0, count_ = 0, busy_ = 0;
  uint64_t round_ = 0;
  bool quit_ = false;
  std::exception_ptr error_;
  std::vector<std::thread> workers_;
};

}  // namespace da3::scene
