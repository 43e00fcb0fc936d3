// SPDX-License-Identifier: MIT
#include "engine/runtime/cost_model.h"

#include <doctest/doctest.h>

#include <cmath>

using da3::CostModel;

namespace {

// Passes as an engine with that cost would make them when there is always enough to do.
template <typename Time>
void feed(CostModel& model, Time time, int passes, uint64_t budget = da3::kUnlimitedMemory) {
  for (int i = 0; i < passes; ++i) {
    const uint32_t b = model.cap(budget);
    model.observe(b, time(b, i));
  }
}

int64_t gpu(uint32_t b, int = 0) {
  return 8'000'000 + 1'200'000 * int64_t(b);
}
int64_t cpu(uint32_t b, int = 0) {
  return 80'000'000 * int64_t(b);
}

}  // namespace

TEST_SUITE("time") {
  TEST_CASE("nothing is known before the first pass") {
    const CostModel model;
    CHECK(model.time(1) == 0);
    CHECK(model.time_upper(8) == 0);
    CHECK(model.cap() == 1);
    CHECK(model.known_cap() == 1);
    CHECK(model.measured() == 0);
  }

  TEST_CASE("beyond one size: in proportion; beyond two: along their line") {
    CostModel model;
    model.observe(2, 100);
    CHECK(model.time(2) == 100);
    CHECK(model.time(4) == 200);
    CHECK(model.time(1) == 100);  // never said to be cheaper than known
    model.observe(4, 120);
    CHECK(model.time(3) == 110);
    CHECK(model.time(8) == 160);
  }

  TEST_CASE("a larger batch is never said to be faster") {
    CostModel model;
    for (int i = 0; i < 5; ++i) {
      model.observe(1, 100);
      model.observe(2, 90);
      model.observe(4, 80);
      model.observe(8, 300);
    }
    int64_t before = 0;
    for (uint32_t b = 1; b <= 16; ++b) {
      CHECK(model.time(b) >= before);
      before = model.time(b);
    }
    CHECK(model.time(1) == 90);  // the three that contradict each other share their mean
    CHECK(model.time(8) == 300);
  }

  TEST_CASE("one pass that was disturbed changes little, a change that lasts changes all") {
    CostModel model;
    for (int i = 0; i < 20; ++i) model.observe(1, 100);
    model.observe(1, 100000);
    CHECK(model.time(1) == 100);
    CHECK(model.time_upper(1) < 200);
    for (int i = 0; i < 20; ++i) model.observe(1, 300);
    CHECK(model.time(1) == 300);
  }

  TEST_CASE("the upper time follows the scatter, within limits") {
    CostModel steady, wild;
    for (int i = 0; i < 100; ++i) {
      steady.observe(1, 1000);
      wild.observe(1, i % 2 ? 1000 : 1400);
    }
    CHECK(steady.time_upper(1) < 1100);
    CHECK(wild.time_upper(1) >= 1350);
    CostModel mad;
    for (int i = 0; i < 100; ++i) mad.observe(1, i % 3 ? 1000 : 1000000);
    CHECK(mad.time_upper(1) <= 2 * mad.time(1));
  }

  TEST_CASE("nonsense is not learned") {
    CostModel model;
    model.observe(0, 100);
    model.observe(1, 0);
    model.observe(1, -5);
    model.observe_memory(0, 100);
    model.observe_memory(1, 0);
    CHECK(model.measured() == 0);
    CHECK(model.time(1) == 0);
    CHECK(model.memory(1) == 0);
  }
}

TEST_SUITE("the cap") {
  TEST_CASE("grows where batches pay, as far as they do") {
    CostModel model(32);
    feed(model, gpu, 100);
    CHECK(model.known_cap() == 32);
    CostModel small(4);
    feed(small, gpu, 100);
    CHECK(small.known_cap() == 4);
  }

  TEST_CASE("stays at one where they do not, and almost no pass is spent on finding out") {
    CostModel model(32);
    int larger = 0;
    for (int i = 0; i < 1000; ++i) {
      const uint32_t b = model.cap();
      larger += b > 1;
      model.observe(b, cpu(b));
    }
    CHECK(model.known_cap() == 1);
    CHECK(larger >= 4);  // it is tried again now and then
    CHECK(larger <= 10);
  }

  TEST_CASE("stops at the size from which a doubling gains less than 5 %, within 1.5 % of the best seen") {
    CostModel model(64);
    // Saturates at four items.
    feed(
        model, [](uint32_t b, int) { return 1'000'000 * int64_t(std::max(4u, b)); }, 100);
    CHECK(model.known_cap() == 4);
    // 4 % from one to two: no reason to go on, but two is what is best.
    CostModel little(64);
    feed(
        little, [](uint32_t b, int) { return int64_t(1e6 * b / (1 + 0.04 * std::log2(double(b)))); }, 100);
    CHECK(little.known_cap() == 2);
    // 1 %: not worth the wait for a second one.
    CostModel hardly(64);
    feed(
        hardly, [](uint32_t b, int) { return int64_t(1e6 * b / (1 + 0.01 * std::log2(double(b)))); }, 100);
    CHECK(hardly.known_cap() == 1);
  }

  TEST_CASE("follows a device that changes") {
    CostModel model(32);
    feed(model, cpu, 100);
    CHECK(model.known_cap() == 1);
    feed(model, gpu, 3000);
    CHECK(model.known_cap() >= 2);
  }

  TEST_CASE("noise does not move it") {
    CostModel model(32);
    uint64_t random = 1;
    feed(
        model,
        [&](uint32_t b, int) {
          random = random * 6364136223846793005u + 1442695040888963407u;
          return int64_t(double(gpu(b)) * (0.95 + 0.1 * double(random >> 40) / double(1 << 24)));
        },
        500);
    CHECK(model.known_cap() >= 16);
  }

  TEST_CASE("a limit of nothing is one") {
    CHECK(CostModel(0).cap() == 1);
  }
}

TEST_SUITE("memory") {
  TEST_CASE("is predicted by a line, and limits the cap before anything runs out") {
    CostModel model(32);
    feed(model, gpu, 100);
    model.observe_memory(1, 100);
    CHECK(model.memory(4) == 400);  // one size: all of it counts as growing
    model.observe_memory(2, 150);
    CHECK(model.memory(2) == 150);
    CHECK(model.memory(4) == 250);
    CHECK(model.memory_cap(250) == 4);
    CHECK(model.memory_cap(249) == 3);
    CHECK(model.cap(250) <= 4);
    CHECK(model.memory_cap(10) == 1);  // one is always tried
    CHECK(model.cap() == 32);
  }

  TEST_CASE("between and below what was measured") {
    CostModel model(32);
    model.observe_memory(4, 400);
    CHECK(model.memory(1) == 100);
    CHECK(model.memory_cap(250) == 2);
    model.observe_memory(8, 600);
    CHECK(model.memory(6) == 500);
    CHECK(model.memory_cap(500) == 6);
  }

  TEST_CASE("the most that was seen counts") {
    CostModel model;
    model.observe_memory(1, 100);
    model.observe_memory(1, 60);
    CHECK(model.memory(1) == 100);
  }

  TEST_CASE("running out halves the cap, is said once for each limit, and is forgotten slowly") {
    CostModel model(32);
    feed(model, gpu, 100);
    CHECK(model.out_of_memory(32));
    CHECK(!model.out_of_memory(32));
    CHECK(model.cap() == 16);
    CHECK(model.out_of_memory(16));
    CHECK(model.cap() == 8);
    feed(model, gpu, 400);
    CHECK(model.cap() == 8);
    feed(model, gpu, 200);
    CHECK(model.cap() == 16);
  }

  TEST_CASE("at one there is nothing to halve") {
    CostModel model(32);
    CHECK(model.out_of_memory(1));
    CHECK(model.cap() == 1);
    CHECK(!model.out_of_memory(1));
  }
}
