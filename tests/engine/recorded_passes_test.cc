// SPDX-License-Identifier: MIT
//
// Recorded passes with a device of the test's own: what it is handed it writes down and can do again.
#include "engine/runtime/recorded_passes.h"

#include <doctest/doctest.h>

#include <limits>
#include <stdexcept>

#include "engine/network/shape_caches.h"

using namespace da3;

namespace {

using Key = RecordedPasses::Key;
using Work = std::vector<std::function<void()>>;

class Tape : public Recording {
 public:
  explicit Tape(Work work) : work_(std::move(work)) {}
  void replay() override {
    for (const auto& step : work_) step();
  }

 private:
  Work work_;
};

// depth = factor * input.
class Device {
 public:
  int computed = 0, recorded = 0;
  float factor = 2;
  bool forgets_input = false;  // a recording keeps what it saw when it was made
  bool poisons = false;        // a recording gives NaN
  std::function<void()> before_recording = [] {};

  NetworkOutput compute(const Tensor& input) {
    ++computed;
    NetworkOutput out;
    out.depth = at::empty_like(input);
    const Tensor from = forgets_input && recording_ ? input.clone() : input;
    const float add = poisons && recording_ ? std::numeric_limits<float>::quiet_NaN() : 0;
    const auto step = [this, from, add, to = out.depth]() mutable { to.copy_(from * factor + add); };
    if (recording_)
      work_.push_back(step);
    else
      Work{step}.front()();
    return out;
  }
  Recorder recorder() {
    return [this](const std::function<void()>& body) {
      before_recording();
      ++recorded;
      work_.clear();
      recording_ = true;
      body();
      recording_ = false;
      return std::make_unique<Tape>(work_);
    };
  }

 private:
  bool recording_ = false;
  Work work_;
};

struct Fixture {
  explicit Fixture(size_t most = 16) : passes(device.recorder(), most) {}
  Tensor run(const Tensor& input, Key key = {1}) {
    return passes.run(key, input, [&](const Tensor& t) { return device.compute(t); }).depth;
  }
  // Until its recording is in use.
  void prove(const Key& key = {1}, int64_t size = 4) {
    for (int i = 1; i <= 8 && !passes.replayed(); ++i) run(at::full({size}, float(i)), key);
  }
  Device device;
  RecordedPasses passes;
};

}  // namespace

TEST_SUITE("recorded passes") {
  TEST_CASE("warm, then recorded, then compared, then alone: the same results all the way") {
    Fixture f;
    std::vector<int> computed;
    std::vector<bool> replayed, proving;
    for (int i = 1; i <= 7; ++i) {
      const Tensor input = at::full({4}, float(i));
      CHECK(f.run(input).equal(input * 2));
      computed.push_back(std::exchange(f.device.computed, 0));
      replayed.push_back(f.passes.replayed());
      proving.push_back(f.passes.proving());
    }
    // The third: to record, and to compare with two pictures.
    CHECK(computed == std::vector<int>{1, 1, 3, 0, 0, 0, 0});
    CHECK(replayed == std::vector<bool>{false, false, false, true, true, true, true});
    CHECK(proving == std::vector<bool>{false, false, true, false, false, false, false});
    CHECK(f.device.recorded == 1);
    CHECK(f.passes.size() == 1);
    CHECK(f.passes.take_remark().empty());
  }

  TEST_CASE("a result is not overwritten by the next one") {
    Fixture f;
    f.prove();
    const Tensor first = f.run(at::full({4}, 10.0f)), second = f.run(at::full({4}, 20.0f));
    CHECK(f.passes.replayed());
    CHECK(first.equal(at::full({4}, 20.0f)));
    CHECK(second.equal(at::full({4}, 40.0f)));
  }

  TEST_CASE("each shape has its own, and the longest unused one goes") {
    Fixture f(2);
    // In turn: none is recorded when the others are new.
    for (int i = 1; i <= 4; ++i)
      for (int64_t shape = 1; shape <= 3; ++shape) {
        const Tensor input = at::full({3 + shape}, float(i));
        CHECK(f.run(input, {shape}).equal(input * 2));
        CHECK(f.passes.size() <= 2);
      }
    CHECK(f.passes.size() == 2);
    f.run(at::ones({6}), {3});
    CHECK(f.passes.replayed());
    // What comes once takes no place from what is recorded.
    f.run(at::ones({9}), {9});
    CHECK(f.passes.size() == 2);
    f.run(at::ones({6}), {3});
    CHECK(f.passes.replayed());
  }

  TEST_CASE("where there is no time nothing is recorded, but what is recorded is used") {
    Fixture f;
    const auto run = [&](bool have_time) {
      return f.passes
          .run(
              {1}, at::ones({4}), [&](const Tensor& t) { return f.device.compute(t); }, have_time)
          .depth;
    };
    for (int i = 0; i < 6; ++i) CHECK(run(false).equal(at::full({4}, 2.0f)));
    CHECK(f.device.recorded == 0);
    CHECK(f.device.computed == 6);
    CHECK_FALSE(f.passes.settled({1}));
    run(true);
    CHECK(f.device.recorded == 1);
    run(false);
    CHECK(f.passes.replayed());
  }

  TEST_CASE("settled: the next run does nothing but compute") {
    Fixture f;
    CHECK_FALSE(f.passes.settled({1}));
    f.run(at::ones({4}));
    f.run(at::ones({4}));
    CHECK_FALSE(f.passes.settled({1}));  // it will be recorded
    f.run(at::ones({4}));
    CHECK(f.passes.settled({1}));
    CHECK_FALSE(f.passes.settled({2}));
    CHECK_FALSE(f.passes.settled({}));  // cannot be recorded: it may ask the device
    CHECK(RecordedPasses({}).settled({1}));
  }

  TEST_CASE("hundreds of shapes that come once leave nothing recorded") {
    Fixture f;
    for (int64_t i = 0; i < 1000; ++i) f.run(at::ones({4}), {i});
    CHECK(f.device.recorded == 0);
    CHECK(f.passes.size() == 0);
  }

  TEST_CASE("cleared: made anew") {
    Fixture f;
    CHECK_FALSE(f.passes.clear());
    f.prove();
    CHECK(f.passes.clear());
    CHECK(f.passes.size() == 0);
    CHECK(f.run(at::ones({4})).equal(at::full({4}, 2.0f)));
    CHECK_FALSE(f.passes.replayed());
    f.prove();
    CHECK(f.device.recorded == 2);
  }

  TEST_CASE("what a network kept for a shape is gone: no recording that reads it is done again") {
    Fixture f;
    f.prove();
    ++dropped_shape_caches();
    f.device.factor = 3;
    CHECK(f.run(at::ones({4})).equal(at::full({4}, 3.0f)));
    CHECK_FALSE(f.passes.replayed());
    CHECK(f.passes.size() == 0);
  }
}

TEST_SUITE("recorded passes that cannot be") {
  TEST_CASE("nothing to record with") {
    RecordedPasses passes({});
    Device device;
    for (int i = 0; i < 8; ++i) {
      CHECK(passes.run({1}, at::ones({4}), [&](const Tensor& t) { return device.compute(t); })
                .depth.equal(at::full({4}, 2.0f)));
      CHECK_FALSE(passes.replayed());
    }
    CHECK(device.computed == 8);
    CHECK_FALSE(passes.clear());
  }

  TEST_CASE("no key: nothing to record it by") {
    Fixture f;
    for (int i = 0; i < 8; ++i) CHECK(f.run(at::ones({4}), {}).equal(at::full({4}, 2.0f)));
    CHECK(f.device.recorded == 0);
    CHECK(f.passes.size() == 0);
  }

  TEST_CASE("a recording that cannot be made is told once, not tried again, and takes nothing from others") {
    Fixture f;
    f.prove();
    int tries = 0;
    f.device.before_recording = [&] {
      ++tries;
      throw std::runtime_error("operation not permitted when stream is capturing\nat line 3");
    };
    for (int64_t shape = 2; shape < 6; ++shape)
      for (int i = 0; i < 5; ++i) CHECK(f.run(at::ones({4}), {shape}).equal(at::full({4}, 2.0f)));
    CHECK(tries == 1);
    CHECK(f.passes.take_remark() ==
          "a pass cannot be recorded: operation not permitted when stream is capturing");
    CHECK(f.passes.take_remark().empty());
    f.run(at::ones({4}));
    CHECK(f.passes.replayed());
  }

  TEST_CASE("one that memory is short for says nothing about smaller ones") {
    Fixture f;
    f.device.before_recording = [] { throw std::runtime_error("CUDA out of memory."); };
    for (int i = 0; i < 5; ++i) CHECK(f.run(at::ones({4}), {1}).equal(at::full({4}, 2.0f)));
    CHECK(f.passes.settled({1}));  // as it is
    f.device.before_recording = [] {};
    f.prove({2});
    CHECK(f.passes.size() == 1);
  }

  TEST_CASE(
      "one that does not follow its input is found out, even by the same picture, and never given out") {
    for (const bool same_picture : {false, true}) {
      Fixture f;
      f.device.forgets_input = true;
      for (int i = 1; i <= 8; ++i) {
        const Tensor input = at::full({4}, same_picture ? 1.0f : float(i));
        CHECK(f.run(input).equal(input * 2));
        CHECK_FALSE(f.passes.replayed());
      }
      CHECK(f.device.recorded == 1);
      CHECK(f.passes.take_remark() == "a recorded pass differs from the pass itself");
    }
  }

  TEST_CASE("values that are no numbers must be in the same places") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    Fixture f;
    for (int i = 0; i < 6; ++i) f.run(at::full({4}, nan));
    CHECK(f.passes.replayed());  // they are
    Fixture g;
    g.device.before_recording = [&] { g.device.poisons = true; };
    for (int i = 0; i < 6; ++i) CHECK(g.run(at::ones({4})).equal(at::full({4}, 2.0f)));
    CHECK(g.passes.take_remark() == "a recorded pass differs from the pass itself");
  }

  TEST_CASE("a pass that fails while a recording is compared leaves none that was not") {
    Fixture f;
    f.run(at::ones({4}));
    f.run(at::ones({4}));
    int passes = 0;
    const auto fails_second = [&](const Tensor& t) {
      if (++passes == 2) throw std::runtime_error("CUDA out of memory.");  // the first is recorded
      return f.device.compute(t);
    };
    CHECK_THROWS_AS(f.passes.run({1}, at::ones({4}), fails_second), std::runtime_error);
    CHECK(f.passes.size() == 0);
    CHECK(f.run(at::ones({4})).equal(at::full({4}, 2.0f)));
    CHECK_FALSE(f.passes.replayed());
  }

  TEST_CASE("what the pass itself throws is thrown on, and nothing is recorded of it") {
    Fixture f;
    const auto fails = [](const Tensor&) -> NetworkOutput { throw std::runtime_error("out of memory"); };
    CHECK_THROWS_WITH_AS(f.passes.run({1}, at::ones({4}), fails), "out of memory", std::runtime_error);
    CHECK(f.run(at::ones({4})).equal(at::full({4}, 2.0f)));
    CHECK(f.device.recorded == 0);
  }
}
