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
  std::function<void()> before_recording = [] {};

  NetworkOutput compute(const Tensor& input) {
    ++computed;
    NetworkOutput out;
    out.depth = at::empty_like(input);
    const Tensor from = forgets_input && recording_ ? input.clone() : input;
    const auto step = [this, from, to = out.depth]() mutable { to.copy_(from * factor); };
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
    // The third: to record, and to compare.
    CHECK(computed == std::vector<int>{1, 1, 2, 1, 0, 0, 0});
    CHECK(replayed == std::vector<bool>{false, false, false, false, true, true, true});
    CHECK(proving == std::vector<bool>{false, false, true, true, false, false, false});
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
    f.prove({1}, 4);
    f.run(at::ones({5}), {2});
    f.prove({2}, 5);
    CHECK(f.passes.size() == 2);
    f.run(at::ones({4}), {1});
    CHECK(f.passes.replayed());
    f.run(at::ones({6}), {3});
    CHECK_FALSE(f.passes.replayed());
    CHECK(f.passes.size() == 1);
    f.run(at::ones({4}), {1});
    CHECK(f.passes.replayed());  // the other one went
    CHECK(f.run(at::ones({5}), {2}).equal(at::full({5}, 2.0f)));
    CHECK_FALSE(f.passes.replayed());
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

  TEST_CASE("a recording that cannot be made is told once, and given up after a few shapes") {
    Fixture f;
    int tries = 0;
    f.device.before_recording = [&] {
      ++tries;
      throw std::runtime_error("operation not permitted when stream is capturing\nat line 3");
    };
    for (int64_t shape = 0; shape < 6; ++shape)
      for (int i = 0; i < 5; ++i) CHECK(f.run(at::ones({4}), {shape}).equal(at::full({4}, 2.0f)));
    CHECK(tries == 3);
    CHECK(f.passes.take_remark() ==
          "a pass cannot be recorded: operation not permitted when stream is capturing");
    CHECK(f.passes.take_remark().empty());
    CHECK(f.passes.size() == 0);
  }

  TEST_CASE("one that does not follow its input is found out, and never given out") {
    Fixture f;
    f.device.forgets_input = true;
    for (int i = 1; i <= 8; ++i) {
      const Tensor input = at::full({4}, float(i));
      CHECK(f.run(input).equal(input * 2));
      CHECK_FALSE(f.passes.replayed());
    }
    CHECK(f.device.recorded == 1);
    CHECK(f.passes.take_remark() == "a recorded pass differs from the pass itself");
  }

  TEST_CASE("values that are no numbers must be in the same places") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    Fixture f;
    for (int i = 0; i < 6; ++i) f.run(at::full({4}, nan));
    CHECK(f.passes.replayed());  // they are
    Fixture g;
    g.run(at::ones({4}));
    g.run(at::ones({4}));
    g.device.forgets_input = true;
    g.run(at::ones({4}));  // recorded, and right for these
    CHECK(g.run(at::full({4}, nan)).isnan().all().item<bool>());
    CHECK(g.passes.take_remark() == "a recorded pass differs from the pass itself");
  }

  TEST_CASE("what the pass itself throws is thrown on, and nothing is recorded of it") {
    Fixture f;
    const auto fails = [](const Tensor&) -> NetworkOutput { throw std::runtime_error("out of memory"); };
    CHECK_THROWS_WITH_AS(f.passes.run({1}, at::ones({4}), fails), "out of memory", std::runtime_error);
    CHECK(f.run(at::ones({4})).equal(at::full({4}, 2.0f)));
    CHECK(f.device.recorded == 0);
  }
}
