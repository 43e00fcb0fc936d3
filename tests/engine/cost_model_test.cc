// SPDX-License-Identifier: MIT
#include "engine/runtime/cost_model.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

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

  TEST_CASE("stops where two doublings gain little and the last one nothing; within 1 % of the best seen") {
    CostModel model(64);
    // Saturates at four items.
    feed(
        model, [](uint32_t b, int) { return 1'000'000 * int64_t(std::max(4u, b)); }, 100);
    CHECK(model.known_cap() == 4);
    // 2 % from one to two, from two to four and so on is a tenth in the end.
    const auto steps = [](uint32_t b, int) { return int64_t(1e6 * b / (1 + 0.02 * std::log2(double(b)))); };
    CostModel little(64);
    feed(little, steps, 200);
    CHECK(little.known_cap() >= 32);
    // For a live stream it is no reason to go on, but four is what is best.
    CostModel live(64);
    live.saw_deadline();
    uint32_t largest = 0;
    for (int i = 0; i < 100; ++i) {
      largest = std::max(largest, live.cap());
      live.observe(live.cap(), steps(live.cap(), i));
    }
    CHECK(live.known_cap() == 4);
    CHECK(largest == 4);
    // When it is gone the search goes on; when one comes it ends.
    feed(live, steps, 1000);
    CHECK(live.known_cap() >= 32);
    live.saw_deadline();
    CHECK(live.cap() <= 8);
    CHECK(live.known_cap() == 4);
    // 0.3 % each is nothing.
    CostModel nothing(64);
    largest = 0;
    for (int i = 0; i < 200; ++i) {
      const uint32_t b = nothing.cap();
      largest = std::max(largest, b);
      nothing.observe(b, int64_t(1e6 * b / (1 + 0.003 * std::log2(double(b)))));
    }
    CHECK(nothing.known_cap() == 1);
    CHECK(largest == 4);
    // 4 % each: as long as two doublings are worth it.
    CostModel more(64);
    feed(
        more, [](uint32_t b, int) { return int64_t(1e6 * b / (1 + 0.04 * std::log2(double(b)))); }, 200);
    CHECK(more.known_cap() >= 16);
    // Nothing to two, little to four, a lot to eight: as small pictures on a CPU.
    CostModel step(64);
    feed(
        step,
        [](uint32_t b, int) {
          return int64_t(1e6 * b * (b < 4 ? 1 : b < 8 ? 0.97 : 0.88));
        },
        100);
    CHECK(step.known_cap() == 8);
    CostModel bend(64);
    feed(
        bend,
        [](uint32_t b, int) {
          return int64_t(1e6 * b * (b < 2 ? 1 : b < 4 ? 0.97 : 0.88));
        },
        100);
    CHECK(bend.known_cap() == 4);
    // 1 %: not worth the wait for a second one.
    CostModel hardly(64);
    feed(
        hardly, [](uint32_t b, int) { return int64_t(1e6 * b / (b > 1 ? 1.01 : 1)); }, 100);
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

  TEST_CASE("one pass that was disturbed does not end the search") {
    for (const uint32_t disturbed : {1u, 2u, 4u, 8u}) {
      CAPTURE(disturbed);
      CostModel model(32);
      int seen = 0;
      for (int i = 0; i < 100; ++i) {
        const uint32_t b = model.cap();
        model.observe(b, b == disturbed && ++seen <= 2 ? 5 * gpu(b) : gpu(b));
      }
      CHECK(model.known_cap() == 32);
    }
  }

  TEST_CASE("what less than a full batch takes counts as well") {
    CostModel model(32);
    for (int i = 0; i < 300; ++i)
      for (uint32_t left = 14; left > 0;) {
        const uint32_t b = std::min(left, model.cap());
        model.observe(b, gpu(b));
        left -= b;
      }
    // Sixteen never wait, but fourteen do; alone or with two of another pass they would cost more.
    CHECK(model.known_cap() >= 14);
  }

  TEST_CASE("sizes that do not come are not waited for") {
    CostModel model(32);
    int larger = 0;
    feed(
        model, [](uint32_t b, int) { return 80'000'000 * int64_t(b) + (b == 1 ? 20'000'000 : 0); }, 100);
    REQUIRE(model.known_cap() == 2);
    for (int i = 0; i < 3000; ++i) {
      larger += model.cap() > 2;
      model.observe(5, 500'000'000);  // somebody else's choice
    }
    CHECK(larger <= 600);
  }

  TEST_CASE("a trial that is never in time is not waited for, unless growing pays") {
    const auto larger = [](auto time) {
      CostModel model(32);
      int wanted = 0;
      for (int i = 0; i < 600; ++i) {
        wanted += model.cap() > 2;
        const uint32_t b = std::min(model.cap(), 2u);  // deadlines allow no more
        model.observe(b, time(b, 0));
      }
      return wanted;
    };
    CHECK(larger(cpu) <= 120);
    CHECK(larger(cpu) > 0);
    CHECK(larger(gpu) >= 500);
  }

  TEST_CASE("follows a device that turns so that smaller batches are better") {
    CostModel model(32);
    feed(model, gpu, 200);
    REQUIRE(model.known_cap() == 32);
    feed(
        model, [](uint32_t b, int) { return 1'200'000 * int64_t(b) * int64_t(b); }, 6000);
    CHECK(model.known_cap() <= 4);
  }

  TEST_CASE("a limit of nothing is one") {
    CHECK(CostModel(0).cap() == 1);
  }
}

namespace {

// Passes of b items, each slower than undisturbed by a random part, and now and then by twice.
class Machine {
 public:
  // `item`: what one costs in batches of 1, 2, 4, ..., relative; a pass of one takes about `single` ns.
  Machine(std::vector<double> item, double single, double noise, uint64_t seed)
      : item_(std::move(item)), single_(single), noise_(noise), random_(seed) {}
  double undisturbed(uint32_t batch) const {
    const double at = std::log2(double(batch));
    const auto below = std::min(size_t(at), item_.size() - 2);
    const double each = item_[below] + (item_[below + 1] - item_[below]) * (at - double(below));
    return single_ * batch * each;
  }
  int64_t pass(uint32_t batch) {
    const double outlier = uniform() < 0.02 ? 2 : 1;
    return int64_t(undisturbed(batch) * (1 - noise_ * std::log(1 - uniform())) * outlier);
  }

 private:
  double uniform() { return double(random_() >> 11) * 0x1.0p-53; }
  std::vector<double> item_;
  double single_, noise_;
  std::mt19937_64 random_;
};

// All images at once, but the first starts before the others are there. The time without disturbances.
template <typename Cap>
double round(const Machine& machine, uint32_t images, Cap cap) {
  double time = 0;
  for (uint32_t left = images, batch; left > 0; left -= batch) {
    batch = left == images ? 1 : std::min(left, cap());
    time += machine.undisturbed(batch);
  }
  return time;
}

// The learned size over the best fixed one, after a warm-up and one round, as da3-bench measures it.
double learned_over_best(Machine& machine, uint32_t images) {
  CostModel model(32);
  const auto pass = [&](uint32_t batch) { model.observe(batch, machine.pass(batch)); };
  double spent = 0;
  for (uint32_t b = 1; b > 0 && spent < 3e9; b = model.to_measure()) {
    pass(b);
    spent += machine.undisturbed(b);
  }
  const auto once = [&] {
    double time = 0;
    for (uint32_t left = images, batch; left > 0; left -= batch) {
      batch = left == images ? 1 : std::min(left, model.cap());
      time += machine.undisturbed(batch);
      pass(batch);
    }
    return time;
  };
  once();
  double learned = 0, best = 1e300;
  for (int i = 0; i < 5; ++i) learned += once() / 5;
  for (const uint32_t fixed : {1u, 2u, 4u, 8u, 16u, 32u})
    best = std::min(best, round(machine, images, [fixed] { return fixed; }));
  return best / learned;
}

}  // namespace

TEST_SUITE("passes that are disturbed") {
  TEST_CASE("cost little of what the best fixed size reaches") {
    struct Case {
      std::string name;
      std::vector<double> item;
      double single;
      uint32_t images;
      double mean = 0.985, tenth = 0.97;  // the least: of all runs, and of nineteen in twenty
    };
    const Case cases[] = {
        {"hardly any gain", {1, 0.99, 0.98, 0.98, 0.98, 0.98}, 40e6, 20},
        {"a tenth, best at four", {1.10, 1.02, 1.0, 1.03, 1.08, 1.10}, 40e6, 20},
        {"best at two", {1.05, 1.0, 1.0, 1.01, 1.05, 1.1}, 40e6, 20},
        // Steps that are smaller than what single passes scatter.
        {"a twentieth, step by step", {1.055, 1.035, 1.02, 1.0, 1.0, 1.0}, 50e6, 20, 0.985, 0.96},
        {"four hundredths, step by step", {1.04, 1.03, 1.02, 1.01, 1.0, 1.0}, 50e6, 20, 0.98, 0.96},
        {"none", {1, 1.05, 1.1, 1.12, 1.15, 1.2}, 40e6, 20},
        {"a GPU", {9.2, 5.2, 3.2, 2.2, 1.7, 1.45}, 1e6, 20},
        {"small pictures", {7.08, 5.85, 5.67, 5.16, 5.17, 5.18}, 1e6, 100},
    };
    for (const Case& c : cases)
      for (const double noise : {0.03, 0.05, 0.08}) {
        CAPTURE(c.name);
        CAPTURE(noise);
        std::vector<double> ratios;
        for (uint64_t seed = 1; seed <= 200; ++seed) {
          Machine machine(c.item, c.single, noise, seed);
          ratios.push_back(learned_over_best(machine, c.images));
        }
        std::sort(ratios.begin(), ratios.end());
        double mean = 0;
        for (const double r : ratios) mean += r / double(ratios.size());
        CHECK(mean >= c.mean);
        CHECK(ratios[10] >= c.tenth);  // of 200
      }
  }

  TEST_CASE("count in what deadlines ask for") {
    Machine machine({1, 1}, 10e6, 0.08, 1);
    CostModel model(1);
    std::vector<int64_t> times;
    for (int i = 0; i < 400; ++i) {
      times.push_back(machine.pass(1));
      model.observe(1, times.back());
    }
    std::sort(times.begin(), times.end());
    CHECK(double(model.time(1)) >= 1.02 * 10e6);  // not the quickest
    CHECK(double(model.time(1)) == doctest::Approx(double(times[200])).epsilon(0.05));
    CHECK(double(model.time_upper(1)) == doctest::Approx(double(times[360])).epsilon(0.1));
  }
}

TEST_SUITE("a change of everything") {
  TEST_CASE("is followed in sizes that do not run") {
    CostModel model(32);
    feed(model, gpu, 200);
    for (int i = 0; i < 4; ++i) model.observe(1, 4 * gpu(1));
    CHECK(model.time(1) == 4 * gpu(1));
    CHECK(model.time(8) == 4 * gpu(8));
    for (int i = 0; i < 40; ++i) model.observe(32, 4 * gpu(32));
    // It has passed: the larger ones, which would be too late by what was seen of them, need not run for it.
    for (int i = 0; i < 4; ++i) model.observe(1, gpu(1));
    CHECK(double(model.time(1)) == doctest::Approx(double(gpu(1))).epsilon(0.01));
    CHECK(double(model.time(32)) == doctest::Approx(double(gpu(32))).epsilon(0.01));
    CHECK(model.known_cap() == 32);
  }

  TEST_CASE("is none while single passes differ, or only a little") {
    CostModel model(8);
    feed(model, gpu, 100);
    for (int i = 0; i < 30; ++i) model.observe(1, i % 2 ? gpu(1) : 3 * gpu(1));
    CHECK(model.time(8) == gpu(8));
    for (int i = 0; i < 30; ++i) model.observe(1, gpu(1) * 11 / 10);
    CHECK(model.time(8) == gpu(8));
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
    // Who says how many he wants gets them, as far as memory goes.
    CHECK(model.memory_cap(da3::kUnlimitedMemory, 64) == 64);
    CHECK(model.memory_cap(250, 64) == 4);
    CHECK(model.memory_cap(250, 3) == 3);
    CHECK(CostModel(8).memory_cap(da3::kUnlimitedMemory, 64) == 8);  // but not before anything ran
    CHECK(model.memory_cap(10) == 1);                                // one is always tried
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
