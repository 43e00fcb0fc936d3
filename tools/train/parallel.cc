// SPDX-License-Identifier: MIT
#include "train/parallel.h"

#include <ATen/Parallel.h>

#include <exception>
#include <thread>
#include <vector>

namespace da3::train {

void run_parallel(int count, const std::function<void(int)>& work) {
  if (count <= 1) {
    if (count == 1) work(0);
    return;
  }
  std::vector<std::exception_ptr> errors(static_cast<size_t>(count));
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      try {
        at::set_num_threads(1);
        work(i);
      } catch (...) {
        errors[size_t(i)] = std::current_exception();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (const std::exception_ptr& e : errors)
    if (e) std::rethrow_exception(e);
}

}  // namespace da3::train
