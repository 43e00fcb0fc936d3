// SPDX-License-Identifier: MIT
#include "engine/runtime/batch_former.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <map>
#include <thread>

#include "test_clock.h"

using da3::BatchFormer;
using da3::Item;
using da3::test::TestClock;

namespace {

const char kA = 0, kB = 0, kC = 0;

// Items are told apart by `user`.
Item make_item(const void* stream, intptr_t number, uint32_t max_batch = 8) {
  static da3::Client client;
  Item item;
  item.client = &client;
  item.stream = stream;
  item.user = reinterpret_cast<void*>(number);
  item.max_batch = max_batch;
  item.width = item.height = 28;
  item.views.resize(1);
  return item;
}

std::vector<intptr_t> numbers(const std::vector<Item>& items) {
  std::vector<intptr_t> out;
  for (const Item& i : items) out.push_back(reinterpret_cast<intptr_t>(i.user));
  return out;
}

using Numbers = std::vector<intptr_t>;

// What the worker gets next; computed in no time.
std::vector<Item> next(BatchFormer& former) {
  auto work = former.next();
  if (!work.batch.empty()) former.finished(work.batch, former.now(), 1, 0, false);
  return work.batch;
}

}  // namespace

TEST_SUITE("compatible") {
  TEST_CASE("an item with itself") {
    CHECK(make_item(&kA, 1).compatible(make_item(&kB, 2)));
  }

  TEST_CASE("what a forward pass fixes keeps items apart") {
    const Item a = make_item(&kA, 1);
    const std::pair<const char*, void (*)(Item&)> changes[] = {
        {"width", [](Item& i) { i.width = 42; }},
        {"height", [](Item& i) { i.height = 42; }},
        {"views", [](Item& i) { i.views.resize(2); }},
        {"outputs", [](Item& i) { i.outputs = DA3_OUTPUT_RAY; }},
        {"strategy", [](Item& i) { i.ref_view_strategy = DA3_REF_VIEW_FIRST; }},
        {"ray pose", [](Item& i) { i.use_ray_pose = true; }},
        {"cameras", [](Item& i) { i.extrinsics.resize(12); }}};
    for (const auto& [name, change] : changes) {
      CAPTURE(name);
      Item b = make_item(&kB, 2);
      change(b);
      CHECK(!a.compatible(b));
      CHECK(!b.compatible(a));
      Item c = make_item(&kC, 3);
      change(c);
      CHECK(b.compatible(c));
    }
  }
}

// Stopped from the start: an item too few is an empty batch then, not a test that hangs.
TEST_SUITE("batches") {
  TEST_CASE("everything that waits and fits, oldest first") {
    BatchFormer former;
    former.stop();
    for (intptr_t n = 1; n <= 3; ++n) former.push(make_item(&kA, n));
    former.push(make_item(&kB, 4));
    CHECK(numbers(next(former)) == Numbers{1, 2, 3, 4});
  }

  TEST_CASE("never more than the cap, of any member") {
    BatchFormer former;
    former.stop();
    for (intptr_t n = 1; n <= 5; ++n) former.push(make_item(&kA, n, 2));
    CHECK(numbers(next(former)) == Numbers{1, 2});
    CHECK(numbers(next(former)) == Numbers{3, 4});
    CHECK(numbers(next(former)) == Numbers{5});

    // The second item would be one of three: it allows two.
    former.push(make_item(&kA, 1, 8));
    former.push(make_item(&kB, 2, 2));
    former.push(make_item(&kC, 3, 8));
    CHECK(numbers(next(former)) == Numbers{1, 2});
    CHECK(numbers(next(former)) == Numbers{3});

    // An item that wants to be alone is.
    former.push(make_item(&kA, 1, 8));
    former.push(make_item(&kB, 2, 1));
    former.push(make_item(&kC, 3, 8));
    CHECK(numbers(next(former)) == Numbers{1});
    CHECK(numbers(next(former)) == Numbers{2});
    CHECK(numbers(next(former)) == Numbers{3});
  }

  TEST_CASE("zero is learned: one at a time before anything is known, more when that pays") {
    BatchFormer former(8);
    former.stop();
    size_t last = 0;
    for (int i = 0; i < 30; ++i) {
      for (intptr_t n = 0; n < 8; ++n) former.push(make_item(&kA, n, 0));
      for (;;) {
        auto work = former.next();
        if (work.batch.empty()) break;
        if (i == 0 && last == 0) CHECK(work.batch.size() == 1);
        last = work.batch.size();
        former.finished(work.batch, former.now(), 1000 + int64_t(last), 0, false);
      }
    }
    CHECK(last == 8);
    CHECK(former.cap(make_item(&kA, 0), false) == 8);
  }

  TEST_CASE("what does not fit waits, and holds its stream back") {
    BatchFormer former;
    former.stop();
    former.push(make_item(&kA, 1));
    Item large = make_item(&kA, 2);
    large.width = 140;
    former.push(large);
    former.push(make_item(&kA, 3));  // fits, but must not overtake 2
    former.push(make_item(&kB, 4));  // another stream may
    CHECK(numbers(next(former)) == Numbers{1, 4});
    CHECK(numbers(next(former)) == Numbers{2});
    CHECK(numbers(next(former)) == Numbers{3});
  }

  TEST_CASE("the oldest goes first, however many others would fit together") {
    BatchFormer former;
    former.stop();
    Item large = make_item(&kA, 1);
    large.width = 140;
    former.push(large);
    for (intptr_t n = 2; n <= 4; ++n) former.push(make_item(&kB, n));
    CHECK(numbers(next(former)) == Numbers{1});
    CHECK(numbers(next(former)) == Numbers{2, 3, 4});
  }

  TEST_CASE("streams keep their order in any mixture") {
    BatchFormer former;
    former.stop();
    const void* streams[] = {&kA, &kB, &kC};
    std::map<const void*, Numbers> pushed, seen;
    for (intptr_t n = 0; n < 300; ++n) {
      const uint64_t random = uint64_t(n) * 2654435761u >> 7;
      Item item = make_item(streams[random % 3], n, 1 + uint32_t(random / 3 % 4));
      item.width = 14 * int32_t(1 + random / 16 % 2);
      pushed[item.stream].push_back(n);
      former.push(item);
    }
    size_t count = 0;
    while (count < 300) {
      const auto batch = next(former);
      REQUIRE(!batch.empty());
      for (const Item& i : batch) {
        CHECK(i.max_batch >= batch.size());
        CHECK(i.compatible(batch.front()));
        seen[i.stream].push_back(reinterpret_cast<intptr_t>(i.user));
      }
      count += batch.size();
    }
    CHECK(seen == pushed);
  }
}

TEST_SUITE("taking out") {
  TEST_CASE("what the predicate wants, in order, the rest stays in order") {
    BatchFormer former;
    for (intptr_t n = 1; n <= 6; ++n) former.push(make_item(n % 2 ? &kA : &kB, n));
    CHECK(numbers(former.remove([](const Item& i) { return i.stream == &kA; })) == Numbers{1, 3, 5});
    CHECK(numbers(former.remove([](const Item& i) { return i.stream == &kA; })).empty());
    CHECK(numbers(next(former)) == Numbers{2, 4, 6});
  }

  TEST_CASE("of nothing") {
    BatchFormer former;
    CHECK(former.remove([](const Item&) { return true; }).empty());
    const da3::Client stranger;
    CHECK(former.abandon(&stranger, &kA).empty());
  }

  TEST_CASE("abandoned: what waits is out, what runs is told apart, what comes later is served") {
    BatchFormer former;
    for (intptr_t n = 1; n <= 4; ++n) former.push(make_item(n % 2 ? &kA : &kB, n, 4));
    const auto work = former.next();
    REQUIRE(work.batch.size() == 4);
    const da3::Client* const client = work.batch.front().client;
    former.push(make_item(&kA, 5));
    former.push(make_item(&kB, 6));
    CHECK(numbers(former.abandon(client, &kA)) == Numbers{5});
    CHECK(former.counters().cancelled == 1);
    CHECK(former.counters().running == 4);
    former.push(make_item(&kA, 7));
    const std::vector<bool> cancelled = former.finished(work.batch, former.now(), 5, 0, false);
    for (size_t i = 0; i < 4; ++i) CHECK(cancelled[i] == (work.batch[i].stream == &kA));
    CHECK(former.counters().completed == 2);
    CHECK(former.counters().cancelled == 3);
    auto later = numbers(next(former));
    std::sort(later.begin(), later.end());
    CHECK(later == Numbers{6, 7});
    CHECK(former.counters().completed == 4);
  }

  TEST_CASE("of another user nothing is abandoned, and a stream that has ended can be") {
    BatchFormer former;
    da3::Client other;
    former.stream_begin(make_item(&kA, 0).client, &kA, {});
    former.push(make_item(&kA, 1));
    const auto work = former.next();
    CHECK(former.abandon(&other, &kA).empty());
    former.stream_end(work.batch.front().client, &kA);
    CHECK(former.abandon(work.batch.front().client, &kB).empty());
    CHECK(former.abandon(work.batch.front().client, &kA).empty());
    CHECK(former.finished(work.batch, former.now(), 5, 0, true) == std::vector<bool>{true});
    CHECK(former.counters().cancelled == 1);
    CHECK(former.counters().failed == 0);
  }

  TEST_CASE("before another try, what was abandoned leaves the batch") {
    BatchFormer former;
    for (intptr_t n = 1; n <= 4; ++n) former.push(make_item(n % 2 ? &kA : &kB, n, 4));
    auto work = former.next();
    CHECK(former.take_abandoned(&work.batch).empty());
    CHECK(work.batch.size() == 4);
    former.abandon(work.batch.front().client, &kA);
    for (const Item& item : former.take_abandoned(&work.batch)) CHECK(item.stream == &kA);
    REQUIRE(work.batch.size() == 2);
    for (const Item& item : work.batch) CHECK(item.stream == &kB);
    CHECK(former.counters().running == 2);
    CHECK(former.counters().cancelled == 2);
    former.finished(work.batch, former.now(), 5, 0, false);
    CHECK(former.counters().completed == 2);
  }
}

TEST_SUITE("threads") {
  TEST_CASE("waits for the first item") {
    BatchFormer former;
    auto batch = std::async(std::launch::async, [&] { return numbers(next(former)); });
    former.push(make_item(&kA, 7));
    CHECK(batch.get() == Numbers{7});
  }

  TEST_CASE("stop wakes who waits") {
    BatchFormer former;
    auto first = std::async(std::launch::async, [&] { return next(former).size(); });
    auto second = std::async(std::launch::async, [&] { return next(former).size(); });
    former.stop();
    CHECK(first.get() == 0);
    CHECK(second.get() == 0);
    CHECK(next(former).empty());
  }

  TEST_CASE("what waits at the stop is still handed out") {
    BatchFormer former;
    former.push(make_item(&kA, 1, 1));
    former.push(make_item(&kA, 2, 1));
    former.stop();
    CHECK(numbers(next(former)) == Numbers{1});
    CHECK(numbers(next(former)) == Numbers{2});
    CHECK(next(former).empty());
  }

  TEST_CASE("many producers, consumers and one who takes out: every item exactly once") {
    BatchFormer former;
    constexpr intptr_t kProducers = 4, kEach = 500;
    std::vector<std::atomic<int>> seen(kProducers * kEach);
    std::atomic<intptr_t> total{0};
    auto count = [&](const std::vector<Item>& items) {
      for (const Item& i : items) ++seen[size_t(reinterpret_cast<intptr_t>(i.user))];
      total += intptr_t(items.size());
    };
    std::vector<std::thread> consumers, producers;
    for (int c = 0; c < 2; ++c)
      consumers.emplace_back([&] {
        for (auto batch = next(former); !batch.empty(); batch = next(former)) count(batch);
      });
    const char stream[kProducers] = {};
    for (intptr_t p = 0; p < kProducers; ++p)
      producers.emplace_back([&, p] {
        for (intptr_t n = 0; n < kEach; ++n) {
          former.push(make_item(&stream[p], p * kEach + n, 3));
          if (n % 50 == 0) count(former.remove([&](const Item& i) { return i.stream == &stream[p]; }));
        }
      });
    for (auto& t : producers) t.join();
    former.stop();
    for (auto& t : consumers) t.join();
    CHECK(total == kProducers * kEach);
    for (const auto& n : seen) CHECK(n == 1);
  }
}

TEST_SUITE("accounts") {
  TEST_CASE("no size is to be measured that a live stream could not wait for") {
    TestClock clock;
    BatchFormer former(8, clock);
    const Item like = make_item(&kA, 0, 0);
    for (int i = 0; i < 3; ++i) former.measured(like, 1, 20'000'000, 0);
    CHECK(former.to_measure(like) == 2);
    Item live = make_item(&kB, 1, 0);
    live.deadline = clock.now() + 50'000'000;  // 30 ms before its own pass
    former.push(std::move(live));
    CHECK(former.to_measure(like) == 0);
    clock.advance(10'000'000'000);  // long after it has ended
    CHECK(former.to_measure(like) == 2);
  }

  TEST_CASE("every request is in exactly one place at any moment") {
    TestClock clock;
    BatchFormer former(8, clock);
    const auto balance = [&] {
      const auto c = former.counters();
      return c.submitted == c.completed + c.failed + c.cancelled + c.expired + c.waiting + c.running;
    };
    CHECK(balance());
    for (intptr_t n = 1; n <= 10; ++n) former.push(make_item(n % 2 ? &kA : &kB, n, 3));
    CHECK(former.counters().waiting == 10);
    CHECK(balance());
    auto work = former.next();
    CHECK(former.counters().running == 3);
    CHECK(balance());
    former.finished(work.batch, clock.now(), 5, 0, false);
    CHECK(former.counters().completed == 3);
    work = former.next();
    former.finished(work.batch, clock.now(), 5, 0, true);
    CHECK(former.counters().failed == 3);
    CHECK(balance());
    CHECK(former.remove([](const Item& i) { return i.stream == &kA; }).size() == 2);
    CHECK(former.counters().cancelled == 2);
    Item late = make_item(&kC, 99);
    late.deadline = clock.now() - 1;
    late.droppable = true;
    former.push(late);
    work = former.next();
    CHECK(numbers(work.expired) == Numbers{99});
    CHECK(former.counters().expired == 1);
    CHECK(balance());
    CHECK(former.counters().batches == 2);
    CHECK(former.counters().histogram[2] == 2);
    // A pass that went well with one item that did not.
    if (!work.batch.empty()) former.finished(work.batch, clock.now(), 5, 0, false);
    while (former.counters().waiting > 0) next(former);
    CHECK(former.counters().completed == 5);
    for (intptr_t n = 11; n <= 13; ++n) former.push(make_item(&kC, n, 3));
    work = former.next();
    REQUIRE(work.batch.size() == 3);
    former.finished(work.batch, clock.now(), 5, 0, false, {false, true, false});
    CHECK(former.counters().completed == 7);
    CHECK(former.counters().failed == 4);
    CHECK(balance());
  }

  TEST_CASE("times of passes and waits") {
    TestClock clock;
    BatchFormer former(8, clock);
    former.push(make_item(&kA, 1));
    clock.advance(500);
    auto work = former.next();
    former.finished(work.batch, clock.now(), 70, 1000, false);
    CHECK(former.counters().queue_wait.at_quantile(0.5) == 500);
    CHECK(former.counters().service.at_quantile(0.99) == 70);
    Da3ShapeStats stats{};
    stats.struct_size = sizeof stats;
    former.shape_stats(make_item(&kA, 1, 0), &stats);
    CHECK(stats.measured == 1);
    CHECK(stats.single_ns == 70);
    CHECK(stats.service.p95_ns == 70);
    CHECK(stats.queue_wait.p95_ns == 500);
    CHECK(stats.memory_single == 1000);
    CHECK(stats.batch_cap == 1);
    Item other = make_item(&kA, 1, 0);
    other.width = 140;
    former.shape_stats(other, &stats);
    CHECK(stats.measured == 0);
    CHECK(stats.service.p95_ns == 0);
    CHECK(stats.batch_cap == 1);
  }

  TEST_CASE("an answer is not written beyond what the caller knows") {
    BatchFormer former;
    Da3ShapeStats stats{};
    stats.batch_cap = 77;
    stats.measured = 77;
    stats.struct_size = offsetof(Da3ShapeStats, measured);
    former.shape_stats(make_item(&kA, 1, 0), &stats);
    CHECK(stats.batch_cap == 1);
    CHECK(stats.measured == 77);
  }

  TEST_CASE("out of memory: the cap falls, and the items still count once") {
    BatchFormer former(8);
    for (intptr_t n = 1; n <= 4; ++n) former.push(make_item(&kA, n, 4));
    auto work = former.next();
    REQUIRE(work.batch.size() == 4);
    CHECK(former.out_of_memory(work.batch));
    CHECK(!former.out_of_memory(work.batch));
    CHECK(former.counters().memory_retries == 2);
    std::vector<Item> half(work.batch.begin(), work.batch.begin() + 2),
        rest(work.batch.begin() + 2, work.batch.end());
    former.finished(half, former.now(), 5, 0, false);
    CHECK(former.counters().running == 2);
    former.finished(rest, former.now(), 5, 0, false);
    CHECK(former.counters().completed == 4);
    for (intptr_t n = 1; n <= 4; ++n) former.push(make_item(&kA, n, 4));
    CHECK(former.next().batch.size() == 2);
  }

  TEST_CASE("sizes are forgotten while another one waits and a third one runs, but for these") {
    BatchFormer former(8);
    const auto sized = [](const void* stream, intptr_t n, int32_t width) {
      Item item = make_item(stream, n, 1);
      item.width = width;
      return item;
    };
    former.push(sized(&kA, 1, 28));
    const auto running = former.next();
    REQUIRE(numbers(running.batch) == Numbers{1});
    for (intptr_t n = 0; n < 3000; ++n) {
      former.push(sized(&kB, n, 14 * int32_t(3 + n)));
      former.push(sized(&kC, n, 14 * int32_t(4000 + n)));
      CHECK(next(former).size() == 1);  // one of the two goes on waiting
      if (n % 2) CHECK(next(former).size() == 1);
      if (n % 2) CHECK(next(former).size() == 1);
    }
    Da3ShapeStats stats{};
    stats.struct_size = sizeof stats;
    former.shape_stats(sized(&kB, 0, 14 * 3), &stats);
    CHECK(stats.measured == 0);
    former.finished(running.batch, former.now(), 1000, 0, false);
    former.shape_stats(sized(&kA, 0, 28), &stats);
    CHECK(stats.measured == 1);
  }

  TEST_CASE("thousands of sizes and streams leave little behind") {
    BatchFormer former(8);
    std::vector<char> streams(20000);
    for (intptr_t n = 0; n < 20000; ++n) {
      Item item = make_item(&streams[size_t(n)], n);
      item.width = 14 * int32_t(1 + n % 3000);
      former.push(item);
      CHECK(numbers(next(former)) == Numbers{n});
    }
    CHECK(former.counters().completed == 20000);
    // What was used last is still known.
    Da3ShapeStats stats{};
    stats.struct_size = sizeof stats;
    Item last = make_item(&kA, 0, 0);
    last.width = 14 * (1 + 19999 % 3000);
    former.shape_stats(last, &stats);
    CHECK(stats.measured >= 1);
    Item first = make_item(&kA, 0, 0);
    first.width = 14 * (1 + 2000);
    former.shape_stats(first, &stats);
    CHECK(stats.measured == 0);
  }
}

TEST_SUITE("waiting for streams") {
  // Two streams that answer one item with the next, 1000 ns after a pass of 10000 (and 1000 more for each
  // item).
  struct ClosedLoop {
    ClosedLoop() {
      for (const void* stream : {&kA, &kB}) former.stream_begin(&client, stream, {1, 0});
      for (int i = 0; i < 10; ++i) {
        push(&kA);
        push(&kB);
        auto work = former.next();
        REQUIRE(work.batch.size() == 2);
        const int64_t started = clock.now();
        clock.advance(12000);
        former.finished(work.batch, started, 12000, 0, false);
        clock.advance(1000);
      }
      former.measured(item(&kA), 1, 11000, 0);
    }
    Item item(const void* stream) {
      Item i = make_item(stream, 1);
      i.client = &client;
      return i;
    }
    void push(const void* stream) { former.push(item(stream)); }
    da3::Client client;
    TestClock clock;
    BatchFormer former{8, clock};
  };

  TEST_CASE("the batch closes when the stream has delivered, before the time is over") {
    ClosedLoop f;
    f.clock.set(f.clock.now() - 500);
    f.push(&kA);
    auto batch = std::async(std::launch::async, [&] { return f.former.next().batch.size(); });
    const int64_t until = f.clock.wait_for_waiter();
    CHECK(until > f.clock.now());
    f.push(&kB);
    CHECK(batch.get() == 2);
    CHECK(f.clock.now() < until);
  }

  TEST_CASE("or when its time is over") {
    ClosedLoop f;
    f.clock.set(f.clock.now() - 500);
    f.push(&kA);
    auto batch = std::async(std::launch::async, [&] { return f.former.next().batch.size(); });
    f.clock.advance(f.clock.wait_for_waiter() - f.clock.now());
    CHECK(batch.get() == 1);
  }

  TEST_CASE("or when it is drained, ends, or its client goes") {
    const std::pair<const char*, void (*)(ClosedLoop&)> ways[] = {
        {"drain", [](ClosedLoop& f) { f.former.drain(&f.client, &kB); }},
        {"end", [](ClosedLoop& f) { f.former.stream_end(&f.client, &kB); }},
        {"client", [](ClosedLoop& f) { f.former.end_streams(&f.client); }},
        {"stop", [](ClosedLoop& f) { f.former.stop(); }}};
    for (const auto& [name, way] : ways) {
      CAPTURE(name);
      ClosedLoop f;
      f.clock.set(f.clock.now() - 500);
      f.push(&kA);
      auto batch = std::async(std::launch::async, [&] { return f.former.next().batch.size(); });
      f.clock.wait_for_waiter();
      way(f);
      CHECK(batch.get() == 1);
    }
  }

  TEST_CASE("draining or ending another client's stream changes nothing") {
    ClosedLoop f;
    da3::Client other;
    f.former.drain(&other, &kB);
    f.former.stream_end(&other, &kB);
    CHECK(f.former.counters().streams == 2);
    f.former.end_streams(&other);
    CHECK(f.former.counters().streams == 2);
    f.former.end_streams(&f.client);
    CHECK(f.former.counters().streams == 0);
  }
}

TEST_SUITE("tasks") {
  TEST_CASE("take turns with batches") {
    BatchFormer former;
    std::string log;
    for (int i = 0; i < 3; ++i) CHECK(former.add_task([&] { log += 't'; }));
    for (intptr_t n = 1; n <= 3; ++n) former.push(make_item(&kA, n, 1));
    former.stop();
    CHECK(!former.add_task([] {}));
    for (auto work = former.next(); !work.stopped; work = former.next()) {
      if (work.task) work.task();
      if (work.batch.empty()) continue;
      log += 'b';
      former.finished(work.batch, former.now(), 1, 0, false);
    }
    CHECK(log == "tbtbtb");
  }
}
