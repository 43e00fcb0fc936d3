// SPDX-License-Identifier: MIT
#include "engine/network/balanced_for.h"

#include <ATen/Parallel.h>
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "engine/network/attention.h"

using da3::balanced_for;

namespace {

// So many threads for LibTorch; afterwards as many as before.
class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  const int before_;
};

// How often each index was given out.
std::vector<int> given(int64_t count, int64_t grain) {
  std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
  balanced_for(count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++seen.at(size_t(i));
  });
  return {seen.begin(), seen.end()};
}

}  // namespace

TEST_CASE("balanced loop: every index once, for any number of them and of threads") {
  for (const int threads : {1, 2, 3, 4, 7}) {
    const Threads these(threads);
    for (const int64_t count : {1, 2, 3, 5, 31, 32, 33, 100, 1000, 4099})
      for (const int64_t grain : {1, 2, 7, 64, 5000}) {
        CAPTURE(threads);
        CAPTURE(count);
        CAPTURE(grain);
        CHECK((given(count, grain) == std::vector<int>(size_t(count), 1)));
      }
  }
}

TEST_CASE("balanced loop: nothing to do is no call, and a grain below one is one") {
  const Threads four(4);
  for (const int64_t count : {int64_t(0), int64_t(-3)})
    balanced_for(count, 1, [](int64_t, int64_t) { FAIL("called"); });
  CHECK((given(50, 0) == std::vector<int>(50, 1)));
  CHECK((given(50, -4) == std::vector<int>(50, 1)));
}

TEST_CASE("balanced loop: what a thread that is held up has not begun, others do") {
  const Threads two(2);
  std::mutex lock;
  std::condition_variable changed;
  const int64_t count = 3200;
  int64_t done = 0;
  bool in_time = true;
  // The call that has index 0 returns only when all but its own piece is done: with halves it never would be.
  balanced_for(count, 1, [&](int64_t begin, int64_t end) {
    std::unique_lock<std::mutex> guard(lock);
    if (begin == 0)
      in_time = changed.wait_for(guard, std::chrono::seconds(30), [&] { return done == count - end; });
    done += end - begin;
    changed.notify_all();
  });
  CHECK(in_time);
  CHECK(done == count);
}

TEST_CASE("balanced loop: a piece is no smaller than asked for, and small work stays on this thread") {
  const Threads four(4);
  std::mutex lock;
  std::vector<int64_t> pieces;
  balanced_for(1000, 40, [&](int64_t begin, int64_t end) {
    const std::lock_guard<std::mutex> guard(lock);
    pieces.push_back(end - begin);
  });
  int short_ones = 0;  // the last piece of each share
  for (const int64_t p : pieces) short_ones += p < 40;
  CHECK(short_ones <= 4);
  CHECK(pieces.size() > 4);
  int calls = 0;
  const auto here = std::this_thread::get_id();
  balanced_for(40, 40, [&](int64_t begin, int64_t end) {
    ++calls;
    CHECK((begin == 0 && end == 40 && std::this_thread::get_id() == here));
  });
  CHECK(calls == 1);
}

TEST_CASE("balanced loop: what a call throws arrives, and the next loop works") {
  const Threads two(2);
  CHECK_THROWS_AS(balanced_for(100, 1,
                               [](int64_t begin, int64_t end) {
                                 if (begin <= 70 && 70 < end) throw std::runtime_error("no");
                               }),
                  std::runtime_error);
  CHECK((given(100, 1) == std::vector<int>(100, 1)));
}

TEST_CASE("balanced loop: within a parallel region it is one call") {
  const Threads two(2);
  std::atomic<int> calls{0};
  at::parallel_for(0, 2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) balanced_for(500, 1, [&](int64_t, int64_t) { ++calls; });
  });
  CHECK(calls == 2);
}

TEST_CASE("own attention: the same bits on any number of threads, call by call") {
  at::manual_seed(3);
  const auto input = [] { return at::randn({2, 3, 500, 64}); };
  for (int call = 0; call < 3; ++call) {  // what a thread kept of the call before is not taken for this one's
    const at::Tensor q = input(), k = input(), v = input();
    std::vector<at::Tensor> results;
    for (const int threads : {1, 2, 3}) {
      const Threads these(threads);
      results.push_back(da3::attention(q, k, v));
    }
    CHECK(results[1].equal(results[0]));
    CHECK(results[2].equal(results[0]));
  }
}
