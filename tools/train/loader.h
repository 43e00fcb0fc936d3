// SPDX-License-Identifier: MIT
//
// Makes view sets on several threads and hands them out in order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "train/sample.h"

namespace da3::train {

using Batch = std::vector<ViewSet>;  // sets of one shape

class Loader {
 public:
  // describe(step) lists the sets of a step; it is called from any thread. With `ahead` > 0 that many steps
  // are made in advance; with 0 the threads work only while next() waits, so that training and rendering
  // never compete for the processors.
  Loader(std::function<std::vector<SetDescription>(int64_t)> describe, int64_t first_step, int threads,
         int ahead);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The sets of the next step. Throws what making them threw.
  Batch next();

 private:
  struct Pending {
    std::vector<SetDescription> descriptions;
    Batch sets;
    size_t started = 0, done = 0;
  };
  void loop();
  // Sets of one scene that may be made now: their step and indices [begin, end). Called with the lock held.
  bool pick(int64_t* step, size_t* begin, size_t* end);

  const std::function<std::vector<SetDescription>(int64_t)> describe_;
  const int ahead_;
  std::mutex mutex_;
  std::condition_variable work_, ready_;
  std::map<int64_t, Pending> pending_;
  int64_t wanted_;        // the step that next() hands out next
  bool waiting_ = false;  // next() is waiting
  bool quit_ = false;
  std::exception_ptr error_;
  std::vector<std::thread> threads_;
};

}  // namespace da3::train
