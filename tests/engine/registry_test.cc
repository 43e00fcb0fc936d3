// SPDX-License-Identifier: MIT
#include "engine/runtime/registry.h"

#include <doctest/doctest.h>

#include <future>
#include <stdexcept>

#include "test_clock.h"

using da3::test::TestClock;

namespace {

struct Thing {
  explicit Thing(std::atomic<int>* alive) : alive(alive) { ++*alive; }
  ~Thing() { --*alive; }
  std::atomic<int>* alive;
};
using Registry = da3::Registry<Thing>;

struct Fixture {
  std::atomic<int> alive{0};
  std::atomic<int> loads{0};
  TestClock clock;
  Registry registry{clock};
  Registry::Load load() {
    return [this] {
      ++loads;
      return std::make_shared<Thing>(&alive);
    };
  }
  std::shared_ptr<Thing> get(const std::string& key, uint64_t bytes = 100) {
    return registry.acquire(key, bytes, load());
  }
};

}  // namespace

TEST_SUITE("sharing") {
  TEST_CASE("one for each key, however often it is asked for") {
    Fixture f;
    auto a = f.get("a"), again = f.get("a"), b = f.get("b");
    CHECK(a == again);
    CHECK(a != b);
    CHECK(f.loads == 2);
    CHECK(f.registry.users(a.get()) == 2);
    CHECK(f.registry.users(b.get()) == 1);
    f.registry.release(std::move(a), 0);
    CHECK(f.alive == 2);
    f.registry.release(std::move(again), 0);
    CHECK(f.alive == 1);
    CHECK(f.registry.counters().hits == 1);
    CHECK(f.registry.counters().misses == 2);
    CHECK(f.registry.counters().evictions == 1);
    f.registry.release(std::move(b), 0);
    CHECK(f.alive == 0);
    CHECK(f.registry.users(nullptr) == 0);
  }

  TEST_CASE("asked for at once it is loaded once, and other keys do not wait for it") {
    Fixture f;
    std::promise<void> started, go;
    auto first = std::async(std::launch::async, [&] {
      return f.registry.acquire("slow", 1, [&] {
        started.set_value();
        go.get_future().wait();
        return f.load()();
      });
    });
    started.get_future().wait();
    auto second = std::async(std::launch::async, [&] { return f.get("slow"); });
    auto other = f.get("quick");  // would hang if it waited
    CHECK(f.loads == 1);
    go.set_value();
    auto a = first.get(), b = second.get();
    CHECK(a == b);
    CHECK(f.loads == 2);
    for (auto* value : {&a, &b, &other}) f.registry.release(std::move(*value), 0);
    CHECK(f.alive == 0);
  }

  TEST_CASE("a load that fails is told to everybody who waits for it, and not kept") {
    Fixture f;
    std::promise<void> started, go;
    auto first = std::async(std::launch::async, [&] {
      return f.registry.acquire("bad", 1, [&]() -> std::shared_ptr<Thing> {
        started.set_value();
        go.get_future().wait();
        throw std::runtime_error("no such file");
      });
    });
    started.get_future().wait();
    std::atomic<bool> asked{false};
    auto second = std::async(std::launch::async, [&] {
      asked = true;
      return f.get("bad");
    });
    while (!asked) std::this_thread::yield();
    go.set_value();
    CHECK_THROWS_AS(first.get(), std::runtime_error);
    // It came while the first one was loading, or after it: then it loaded by itself.
    try {
      f.registry.release(second.get(), 0);
      CHECK(f.loads == 1);
    } catch (const std::runtime_error&) {
      CHECK(f.loads == 0);
    }
    auto later = f.get("bad");
    CHECK(later != nullptr);
    f.registry.release(std::move(later), 0);
    CHECK(f.alive == 0);
  }
}

TEST_SUITE("giving up") {
  // A load that stands still until it is let go or cancelled, on a thread of its own.
  struct Loading {
    explicit Loading(Fixture& f, const std::string& key) {
      done = std::async(std::launch::async, [this, &f, key] {
        return f.registry.acquire(key, 1, [this, &f] {
          started.set_value();
          if (go.get_future().get())
            throw da3::EngineError(DA3_ERROR_CANCELLED, "Loading the model was cancelled.");
          return f.load()();
        });
      });
      started.get_future().wait();
    }
    std::promise<void> started;
    std::promise<bool> go;  // true: cancelled
    std::future<std::shared_ptr<Thing>> done;
  };
  Da3ErrorCode code_of(std::future<std::shared_ptr<Thing>> & waiting) {
    try {
      waiting.get();
      return DA3_OK;
    } catch (const da3::EngineError& e) {
      return e.code();
    }
  }

  TEST_CASE("whoever waits for another's load can stop waiting; the load goes on") {
    Fixture f;
    Loading first(f, "slow");
    std::atomic<bool> cancelled{false};
    auto second = std::async(std::launch::async, [&] {
      return f.registry.acquire("slow", 1, f.load(), [&] { return cancelled.load(); });
    });
    const int64_t until = f.clock.wait_for_waiter();
    CHECK(until > f.clock.now());
    cancelled = true;
    f.clock.advance(until - f.clock.now());
    CHECK(code_of(second) == DA3_ERROR_CANCELLED);
    first.go.set_value(false);
    auto value = first.done.get();
    CHECK(f.registry.users(value.get()) == 1);
    CHECK(f.loads == 1);
    f.registry.release(std::move(value), 0);
    CHECK(f.alive == 0);
  }

  TEST_CASE("whoever is never cancelled gets what another loads") {
    Fixture f;
    Loading first(f, "slow");
    auto second = std::async(std::launch::async,
                             [&] { return f.registry.acquire("slow", 1, f.load(), [] { return false; }); });
    const int64_t until = f.clock.wait_for_waiter();
    f.clock.advance(until - f.clock.now());  // asked once more
    first.go.set_value(false);
    auto a = first.done.get(), b = second.get();
    CHECK(a == b);
    CHECK(f.loads == 1);
    CHECK(f.registry.users(a.get()) == 2);
    CHECK(f.registry.counters().hits == 1);
    f.registry.release(std::move(a), 0);
    f.registry.release(std::move(b), 0);
    CHECK(f.alive == 0);
  }

  TEST_CASE("when the one who loads gives up, one of those who wait takes over, with or without a question") {
    for (const bool asks : {true, false}) {
      Fixture f;
      Loading first(f, "slow");
      std::vector<std::future<std::shared_ptr<Thing>>> others;
      for (int i = 0; i < 3; ++i)
        others.push_back(std::async(std::launch::async, [&] {
          return f.registry.acquire("slow", 1, f.load(), asks ? [] { return false; } : Registry::Cancelled());
        }));
      first.go.set_value(true);
      CHECK(code_of(first.done) == DA3_ERROR_CANCELLED);
      std::vector<std::shared_ptr<Thing>> values;
      for (auto& other : others) values.push_back(other.get());
      CHECK(f.loads == 1);
      CHECK(f.registry.users(values[0].get()) == 3);
      CHECK(f.registry.counters().misses == 1);
      for (auto& value : values) f.registry.release(std::move(value), 0);
      CHECK(f.alive == 0);
    }
  }

  TEST_CASE("alone: the error comes back, nothing is kept, and the next one loads") {
    Fixture f;
    Loading first(f, "slow");
    first.go.set_value(true);
    CHECK(code_of(first.done) == DA3_ERROR_CANCELLED);
    CHECK(f.registry.counters().misses == 0);
    auto value = f.get("slow");
    CHECK(f.loads == 1);
    f.registry.release(std::move(value), 0);
    CHECK(f.alive == 0);
  }
}

TEST_SUITE("keeping") {
  TEST_CASE("for a while after the last user: the next one finds it") {
    Fixture f;
    f.registry.release(f.get("a"), 1000);
    CHECK(f.alive == 1);
    CHECK(f.registry.counters().unused_bytes == 100);
    auto again = f.get("a");
    CHECK(f.loads == 1);
    CHECK(f.registry.counters().hits == 1);
    CHECK(f.registry.counters().unused_bytes == 0);
    f.registry.release(std::move(again), 1000);
    f.clock.set(f.clock.now() + 999);
    f.registry.expire();
    CHECK(f.alive == 1);
    f.clock.set(f.clock.now() + 1);
    f.registry.expire();
    CHECK(f.alive == 0);
  }

  TEST_CASE("its own thread frees it when the time is over") {
    Fixture f;
    f.registry.release(f.get("a"), 1000);
    CHECK(f.clock.wait_for_waiter() == f.clock.now() + 1000);
    auto gone = std::async(std::launch::async, [&] {
      while (f.alive > 0) std::this_thread::yield();
    });
    f.clock.advance(1000);
    gone.get();
    CHECK(f.registry.counters().evictions == 1);
  }

  TEST_CASE("what is used is never freed: not by time, limit or need") {
    Fixture f;
    auto a = f.get("a");
    f.registry.set_limit(1);
    f.clock.set(f.clock.now() + 1'000'000'000);
    f.registry.expire();
    CHECK(!f.registry.evict_unused());
    CHECK(f.alive == 1);
    f.registry.release(std::move(a), 1000);  // over the limit at once
    CHECK(f.alive == 0);
  }

  TEST_CASE("over the limit the one unused for longest goes") {
    Fixture f;
    f.registry.set_limit(250);
    auto a = f.get("a"), b = f.get("b"), c = f.get("c");
    f.registry.release(std::move(b), 1000);
    f.registry.release(std::move(a), 1000);
    CHECK(f.alive == 3);
    f.registry.release(std::move(c), 1000);
    CHECK(f.alive == 2);
    auto a2 = f.get("a"), c2 = f.get("c");
    CHECK(f.loads == 3);
    auto b2 = f.get("b");
    CHECK(f.loads == 4);
    for (auto* value : {&a2, &b2, &c2}) f.registry.release(std::move(*value), 0);
    CHECK(f.alive == 0);
  }

  TEST_CASE("need frees all that nobody uses") {
    Fixture f;
    auto used = f.get("used");
    f.registry.release(f.get("a"), 1000);
    f.registry.release(f.get("b"), 1000);
    CHECK(f.registry.evict_unused());
    CHECK(!f.registry.evict_unused());
    CHECK(f.alive == 1);
    f.registry.release(std::move(used), -5);
    CHECK(f.alive == 0);
  }

  TEST_CASE("the end of the registry is not held up by what it keeps") {
    std::atomic<int> alive{0};
    {
      Registry registry;  // with the real clock
      registry.release(registry.acquire("a", 1, [&] { return std::make_shared<Thing>(&alive); }),
                       int64_t(3600) * 1'000'000'000);
      CHECK(alive == 1);
    }
    CHECK(alive == 0);
  }
}
