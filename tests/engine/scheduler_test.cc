// SPDX-License-Identifier: MIT
//
// The decisions of the batch former, with time as a number.
#include "engine/runtime/scheduler.h"

#include <doctest/doctest.h>

#include <functional>
#include <map>

using namespace da3;

namespace {

constexpr int64_t kMs = 1'000'000;
using Ids = std::vector<uint64_t>;

int64_t gpu_time(uint32_t b) {
  return (8 + 2 * int64_t(b)) * kMs;
}

// A scheduler that knows what passes cost.
struct Fixture {
  explicit Fixture(int64_t (*time)(uint32_t)) : Fixture(8, time) {}
  explicit Fixture(uint32_t limit = 8, int64_t (*time)(uint32_t) = gpu_time) : core(limit) {
    for (uint32_t cost = 1; cost <= 2; ++cost)
      for (int i = 0; i < 40; ++i) {
        const uint32_t b = core.costs(cost).cap();
        core.costs(cost).observe(b, time(b));
      }
  }
  Job job(uint64_t id, uint64_t stream, int64_t at = 0, int64_t deadline = kNever, bool droppable = false,
          uint32_t kind = 1) {
    Job j;
    j.id = id;
    j.stream = stream;
    j.kind = j.cost = kind;
    j.submitted = at;
    j.deadline = deadline;
    j.droppable = droppable;
    return j;
  }
  void push(uint64_t id, uint64_t stream, int64_t at = 0, int64_t deadline = kNever, bool droppable = false,
            uint32_t kind = 1) {
    core.push(job(id, stream, at, deadline, droppable, kind));
  }
  Decision decide(int64_t now = 0) { return core.decide(now); }
  // Runs what is decided; returns the ids.
  Ids run(int64_t* now, int64_t (*time)(uint32_t) = gpu_time) {
    const Decision d = core.decide(*now);
    if (d.action != Decision::run) return {};
    const int64_t t = time(uint32_t(d.batch.size()));
    *now += t;
    core.finished(d.batch, t, *now);
    return ids(d.batch);
  }
  static Ids ids(const std::vector<Job>& jobs) {
    Ids out;
    for (const Job& j : jobs) out.push_back(j.id);
    return out;
  }
  Scheduler core;
};

}  // namespace

TEST_SUITE("batches") {
  TEST_CASE("nothing waits: nothing to do") {
    Fixture f;
    CHECK(f.decide().action == Decision::idle);
    CHECK(f.decide().batch.empty());
  }

  TEST_CASE("what waits runs at once, at its real size") {
    Fixture f;
    f.push(1, 1);
    f.push(2, 2);
    f.push(3, 2);
    const Decision d = f.decide();
    CHECK(d.action == Decision::run);
    CHECK(Fixture::ids(d.batch) == Ids{1, 2, 3});
    CHECK(f.core.waiting() == 0);
    CHECK(f.decide().action == Decision::idle);
  }

  TEST_CASE("no more than the learned cap, or than a member allows") {
    Fixture f(4);
    for (uint64_t i = 1; i <= 6; ++i) f.push(i, i);
    CHECK(f.decide().batch.size() == 4);
    CHECK(f.decide().batch.size() == 2);
    for (uint64_t i = 1; i <= 6; ++i) {
      Job j = f.job(i, i);
      j.max_batch = i == 2 ? 2 : 0;
      f.core.push(j);
    }
    CHECK(Fixture::ids(f.decide().batch) == Ids{1, 2});
    CHECK(f.decide().batch.size() == 4);
    // A fixed size counts whatever was learned, but memory counts more.
    for (uint64_t i = 1; i <= 6; ++i) {
      Job j = f.job(i, i);
      j.max_batch = 6;
      f.core.push(j);
    }
    CHECK(f.decide().batch.size() == 6);
    for (uint64_t i = 1; i <= 6; ++i) {
      Job j = f.job(i, i);
      j.max_batch = 6;
      f.core.push(j);
    }
    f.core.out_of_memory(1, 6);
    CHECK(f.decide().batch.size() == 3);
  }

  TEST_CASE("kinds never mix, and no job overtakes another of its stream") {
    Fixture f;
    f.push(1, 1);
    f.push(2, 1, 0, kNever, false, 2);
    f.push(3, 1);
    f.push(4, 2);
    int64_t now = 0;
    CHECK(f.run(&now) == Ids{1, 4});
    CHECK(f.run(&now) == Ids{2});
    CHECK(f.run(&now) == Ids{3});
  }

  TEST_CASE("a busy kind does not starve a rare one") {
    Fixture f(4);
    int64_t now = 0;
    f.push(1000, 9, now, kNever, false, 2);
    uint64_t id = 0;
    int passes = 0;
    for (; passes < 200; ++passes) {
      while (f.core.waiting() < 8) {
        ++id;
        f.push(id, 1 + id % 3, now);
      }
      if (f.run(&now) == Ids{1000}) break;
    }
    CHECK(passes < 50);
  }

  TEST_CASE("taking out: the rest stays in order") {
    Fixture f;
    for (uint64_t i = 1; i <= 6; ++i) f.push(i, i % 2);
    CHECK(Fixture::ids(f.core.remove([](const Job& j) { return j.stream == 1; })) == Ids{1, 3, 5});
    CHECK(f.core.remove([](const Job& j) { return j.stream == 1; }).empty());
    CHECK(Fixture::ids(f.decide().batch) == Ids{2, 4, 6});
    CHECK(f.core.waiting() == 0);
  }
}

TEST_SUITE("deadlines") {
  TEST_CASE("the earliest goes first") {
    Fixture f(2);
    f.push(1, 1, 0, 300 * kMs);
    f.push(2, 2, 0, 100 * kMs);
    f.push(3, 3, 0, 200 * kMs);
    f.push(4, 4, 0);
    int64_t now = 0;
    CHECK(f.run(&now) == Ids{2, 3});
    CHECK(f.run(&now) == Ids{1, 4});
  }

  TEST_CASE("a batch does not grow past the earliest deadline") {
    Fixture f;
    // T(1) = 10, T(2) = 12, T(4) = 16, T(8) = 24.
    f.push(1, 1, 0, 17 * kMs);
    for (uint64_t i = 2; i <= 8; ++i) f.push(i, i, 0, 500 * kMs);
    const Decision d = f.decide();
    CHECK(d.batch.size() >= 2);
    CHECK(d.batch.size() <= 4);
    CHECK(d.batch.front().id == 1);
  }

  TEST_CASE("what cannot be met any more ends without work, if it may") {
    Fixture f;
    f.push(1, 1, 0, 9 * kMs, true);   // T(1) is 10
    f.push(2, 2, 0, 9 * kMs, false);  // wants to be computed all the same
    f.push(3, 3, 0, 90 * kMs, true);
    const Decision d = f.decide();
    CHECK(Fixture::ids(d.expired) == Ids{1});
    CHECK(Fixture::ids(d.batch) == Ids{2, 3});
  }

  TEST_CASE("an end keeps the order of its stream") {
    Fixture f;
    f.push(1, 1, 0, kNever, true);
    f.push(2, 1, 0, 1 * kMs, true);  // late, but behind one that is not
    f.push(3, 1, 0, 1 * kMs, true);
    Decision d = f.decide(5 * kMs);
    CHECK(d.expired.empty());
    CHECK(Fixture::ids(d.batch) == Ids{1});
    f.core.finished(d.batch, 10 * kMs, 15 * kMs);
    d = f.decide(15 * kMs);
    CHECK(Fixture::ids(d.expired) == Ids{2, 3});
    CHECK(f.core.waiting() == 0);
  }

  TEST_CASE("a job without a deadline never expires, however long it waits") {
    Fixture f;
    f.push(1, 1, 0, kNever, true);
    const Decision d = f.decide(kNever / 2);
    CHECK(d.expired.empty());
    CHECK(d.batch.size() == 1);
  }

  TEST_CASE("unknown costs drop nothing that is not late") {
    Scheduler core(8);
    Fixture f;
    core.push(f.job(1, 1, 0, 1 * kMs, true));
    const Decision d = core.decide(0);
    CHECK(d.expired.empty());
    CHECK(d.batch.size() == 1);
  }

  TEST_CASE("too much to do: full batches of what can be in time, not the one that is nearly late") {
    Fixture f;
    for (uint64_t i = 1; i <= 4; ++i) f.push(i, i, 0, 11 * kMs, true);  // each alone could make it
    for (uint64_t i = 5; i <= 40; ++i) f.push(i, 1 + i % 4, 1, 40 * kMs, true);
    const Decision d = f.decide(1);
    CHECK(d.batch.size() == 8);
    for (const Job& j : d.batch) CHECK(j.id >= 5);
    CHECK(!d.expired.empty());
    for (const Job& j : d.expired) CHECK(j.id <= 4);
  }

  TEST_CASE("files do not keep a live stream waiting longer than it can") {
    Fixture f;
    f.core.stream_begin(1, {});
    f.push(1, 1, 0, 30 * kMs);
    int64_t now = 0;
    f.run(&now);
    // A full batch would take 24 ms; the next live frame has 30 ms and needs 10.
    for (uint64_t i = 2; i <= 9; ++i) f.push(i, 2, now);
    const size_t beside_live = f.decide(now).batch.size();
    CHECK(beside_live < 8);
    CHECK(beside_live >= 1);
    f.core.remove([](const Job&) { return true; });
    f.core.drain(1);
    for (uint64_t i = 12; i <= 19; ++i) f.push(i, 2, now);
    CHECK(f.decide(now).batch.size() == 8);
  }

  TEST_CASE("nor does a camera that can wait long keep one that cannot") {
    Fixture f;
    f.core.stream_begin(1, {});
    f.core.stream_begin(2, {});
    f.push(1, 1, 0, 30 * kMs);
    int64_t now = 0;
    f.run(&now);
    CHECK(f.core.tightest(now).wait <= 20 * kMs);  // its own pass takes 10
    CHECK(f.core.tightest(now).room == 30 * kMs);
    const auto batch_with_deadline = [&](int64_t left) {
      for (uint64_t i = 2; i <= 9; ++i) f.push(i, 2, now, now + left);
      const size_t size = f.decide(now).batch.size();
      f.core.remove([](const Job&) { return true; });
      return size;
    };
    CHECK(batch_with_deadline(5000 * kMs) < 8);
    // Those that can hardly wait longer than the first are served as their own deadlines say.
    CHECK(batch_with_deadline(40 * kMs) == 8);
    f.core.stream_end(1);
    CHECK(f.core.tightest(now).room >= 40 * kMs);
    f.core.drain(2);
    CHECK(f.core.tightest(now).wait == kNever);
  }

  TEST_CASE("how long a camera can wait is by its own passes, not by those of the others") {
    Fixture f;
    for (int i = 0; i < 40; ++i) f.core.costs(3).observe(1, 100 * kMs);  // slow ones: 100 ms each
    for (int i = 0; i < 40; ++i) f.core.costs(3).observe(4, 400 * kMs);
    f.core.stream_begin(1, {});
    f.push(1, 1, 0, 60 * kMs);
    int64_t now = 0;
    f.run(&now);
    for (uint64_t i = 2; i <= 5; ++i) {
      Job j = f.job(i, 2, now, kNever, false, 3);
      j.max_batch = 4;
      f.core.push(j);
    }
    CHECK(f.decide(now).batch.size() == 1);
  }

  TEST_CASE("equal cameras are not cut down because one frame came late") {
    Fixture f;
    f.core.stream_begin(1, {});
    f.core.stream_begin(2, {});
    for (uint64_t i = 1; i <= 4; ++i) f.push(i, 1, 0, 100 * kMs);
    f.push(5, 1, 0, 20 * kMs);  // waited before it was submitted
    int64_t now = 0;
    while (!f.run(&now).empty()) {
    }
    for (uint64_t i = 6; i <= 13; ++i) f.push(i, 2, now, now + 100 * kMs);
    CHECK(f.decide(now).batch.size() == 8);
  }

  TEST_CASE("a camera that nothing could serve in time does not hold up the others") {
    Fixture f;
    f.core.stream_begin(1, {});
    f.push(1, 1, 0, 5 * kMs);  // a pass takes 10
    int64_t now = 0;
    f.run(&now);
    CHECK(f.core.tightest(now).wait == kNever);
    for (uint64_t i = 2; i <= 9; ++i) f.push(i, 2, now);
    CHECK(f.decide(now).batch.size() == 8);
  }
}

namespace {

// A camera whose frames may be dropped, on an engine whose passes take what `time` says of the number so far.
struct Camera {
  int64_t frame = 33 * kMs, slack = 30 * kMs;
  std::function<int64_t(int pass)> time;
  int passes = 0, probes = 0, frames = 0, in_time = 0;

  void run(Fixture* f, int64_t from, int64_t until) {
    frames = in_time = 0;
    int64_t now = from, next = from;
    while (now < until) {
      for (; next <= now; next += frame, ++frames) f->push(++id_, 1, next, next + slack, true);
      const Decision d = f->decide(now);
      if (d.action != Decision::run) {
        now = next;
        continue;
      }
      probes += d.probe;
      CHECK((!d.probe || d.batch.size() == 1));
      const int64_t t = time(passes++);
      now += t;
      f->core.finished(d.batch, t, now);
      for (const Job& j : d.batch) in_time += now <= j.deadline;
    }
  }

 private:
  uint64_t id_ = 0;
};

constexpr int64_t kSecond = 1000 * kMs;

}  // namespace

TEST_SUITE("what is known grows old") {
  TEST_CASE("a live stream comes back after a slowdown that dropped all of it") {
    Fixture f(1);
    Camera camera;
    // T(1) = 10 ms, and for 32 passes 40 ms: more than the frames have.
    camera.time = [](int pass) { return (pass >= 100 && pass < 132 ? 40 : 10) * kMs; };
    camera.run(&f, 0, 3 * kSecond);
    CHECK(camera.in_time >= 0.95 * camera.frames);
    CHECK(camera.probes == 0);
    camera.run(&f, 3 * kSecond, 5 * kSecond);
    CHECK(camera.in_time < 0.9 * camera.frames);
    // However long the slow ones lasted: some tries, seconds apart.
    camera.run(&f, 5 * kSecond, 200 * kSecond);
    CHECK(camera.passes > 132);
    CHECK(camera.probes > 8);
    camera.run(&f, 200 * kSecond, 210 * kSecond);
    CHECK(camera.in_time >= 0.95 * camera.frames);
  }

  TEST_CASE("what never fits is tried seldom, and costs others little") {
    Fixture f;
    Camera camera;
    camera.slack = 9 * kMs;
    camera.time = [](int) { return 10 * kMs; };
    camera.run(&f, 0, 100 * kSecond);
    CHECK(camera.probes == camera.passes);
    CHECK(camera.probes >= 10);
    CHECK(camera.probes <= 30);
    CHECK(camera.in_time == 0);
    // Longer passes, longer pauses: at most one part in five, and less as nothing changes.
    Fixture g([](uint32_t b) { return int64_t(b) * kSecond; });
    Camera slow;
    slow.time = [](int) { return kSecond; };
    slow.run(&g, 0, 400 * kSecond);
    CHECK(slow.probes >= 5);
    CHECK(slow.probes <= 30);
  }

  TEST_CASE("one job for each try, and none while the last pass is not old") {
    Fixture f;
    int64_t now = 0;
    f.push(1, 1, now, now + 100 * kMs, true);
    CHECK(f.run(&now) == Ids{1});
    f.push(2, 1, now, now + 5 * kMs, true);
    CHECK(Fixture::ids(f.decide(now).expired) == Ids{2});
    now += 2 * kSecond;
    f.push(3, 1, now, now + 5 * kMs, true);
    f.push(4, 1, now, now + 5 * kMs, true);
    f.push(5, 2, now, now + 5 * kMs, true);
    f.push(6, 3, now, now + 90 * kMs, true);
    Decision d = f.decide(now);
    CHECK(d.expired.size() <= 2);
    CHECK(d.probe);
    CHECK(Fixture::ids(d.batch) == Ids{5});  // of the stream that was served less
    now += 10 * kMs;
    f.core.finished(d.batch, 10 * kMs, now);
    // Its time is as old as that pass now, and the others are too late.
    d = f.decide(now);
    CHECK(!d.probe);
    CHECK(Fixture::ids(d.batch) == Ids{6});
    CHECK(Fixture::ids(d.expired) == Ids{3, 4});
    CHECK(f.core.waiting() == 0);
  }

  TEST_CASE("what is late already is not tried, nor what must not be dropped") {
    Fixture f;
    int64_t now = 0;
    f.push(1, 1, now);
    f.run(&now);
    f.push(2, 1, now, now + 5 * kMs, true);
    now += 2 * kSecond;
    Decision d = f.decide(now);
    CHECK(Fixture::ids(d.expired) == Ids{2});
    CHECK(d.action == Decision::idle);
    f.push(3, 1, now, now + 5 * kMs, false);
    d = f.decide(now);
    CHECK(Fixture::ids(d.batch) == Ids{3});
    CHECK(!d.probe);
  }

  TEST_CASE("a try does not overtake what its stream brought before, nor take company") {
    Fixture f;
    int64_t now = 0;
    f.push(1, 1, now);
    f.run(&now);
    now += 2 * kSecond;
    f.push(2, 1, now, now + 500 * kMs, true);
    f.push(3, 1, now, now + 5 * kMs, true);
    f.push(4, 2, now, now + 500 * kMs, true);
    const Decision d = f.decide(now);
    CHECK(!d.probe);
    CHECK(Fixture::ids(d.batch) == Ids{4, 2});  // the less served stream first
    CHECK(d.expired.empty());
  }
}

TEST_SUITE("fairness") {
  TEST_CASE("streams that are always ready are served equally, whatever else they do") {
    Fixture f(4);
    int64_t now = 0;
    std::map<uint64_t, int> served;
    uint64_t id = 0;
    std::map<uint64_t, uint64_t> stream_of;
    for (int pass = 0; pass < 600; ++pass) {
      // Stream 1 is greedy, 2 and 3 keep one waiting; with deadlines that cannot be kept together.
      const std::pair<uint64_t, size_t> wants[] = {{1, 12}, {2, 1}, {3, 2}};
      for (const auto& [stream, depth] : wants)
        while (f.core.waiting(stream) < depth) {
          ++id;
          stream_of[id] = stream;
          f.push(id, stream, now, now + 20 * kMs + int64_t(stream) * kMs, true);
        }
      for (const uint64_t done : f.run(&now)) ++served[stream_of[done]];
    }
    const auto [least, most] = std::minmax({served[1], served[2], served[3]});
    CHECK(least > 100);
    // Stream 2 offers one item a pass, so a batch of four serves it once.
    CHECK(double(served[3]) / served[2] < 2.1);
    CHECK(most > 0);
  }

  TEST_CASE("two equal streams, one with earlier deadlines: no more than a little ahead") {
    Fixture f(2);
    int64_t now = 0;
    std::map<uint64_t, int> served;
    uint64_t id = 0;
    for (int pass = 0; pass < 400; ++pass) {
      for (const uint64_t stream : {1, 2})
        while (f.core.waiting(stream) < 3) {
          id += 2;
          f.push(id + stream - 1, stream, now, now + (stream == 1 ? 30 : 35) * kMs, true);
        }
      for (const uint64_t done : f.run(&now)) ++served[1 + done % 2];
    }
    CHECK(served[1] > 0);
    CHECK(served[2] > 0);
    CHECK(double(std::max(served[1], served[2])) / double(std::min(served[1], served[2])) <= 1.2);
  }

  TEST_CASE("who comes back after a pause does not take it all") {
    Fixture f(1);
    int64_t now = 0;
    uint64_t id = 0;
    for (int pass = 0; pass < 100; ++pass) {
      f.push(++id, 1, now);
      f.run(&now);
    }
    // Stream 2 begins now and did nothing before; stream 1 must not wait for a hundred of it.
    int of_1 = 0;
    for (int pass = 0; pass < 20; ++pass) {
      while (f.core.waiting(1) < 2) f.push(++id, 1, now);
      while (f.core.waiting(2) < 2) f.push(100000 + ++id, 2, now);
      for (const uint64_t done : f.run(&now)) of_1 += done < 100000;
    }
    CHECK(of_1 >= 5);
  }
}

TEST_SUITE("waiting") {
  // Two streams that bring the next item 1 ms after they got one back.
  struct ClosedLoop : Fixture {
    ClosedLoop() {
      for (const uint64_t stream : {1, 2}) core.stream_begin(stream, {1, 0});
      for (int i = 0; i < 10; ++i) {
        push(++id, 1, now);
        push(++id, 2, now);
        REQUIRE(run(&now).size() == 2);
        now += 1 * kMs;
      }
    }
    int64_t now = 0;
    uint64_t id = 0;
  };

  TEST_CASE("for a stream that is about to deliver, when that makes items cheaper") {
    ClosedLoop f;
    f.now -= kMs / 2;  // stream 1 is early
    f.push(100, 1, f.now);
    const Decision d = f.decide(f.now);
    CHECK(d.action == Decision::wait);
    CHECK(d.wake > f.now);
    CHECK(d.wake < f.now + 5 * kMs);
    f.push(101, 2, f.now + kMs / 4);
    CHECK(Fixture::ids(f.decide(f.now + kMs / 4).batch) == Ids{100, 101});
  }

  TEST_CASE("never longer than it said") {
    ClosedLoop f;
    f.push(100, 1, f.now - kMs / 2);
    Decision d = f.decide(f.now - kMs / 2);
    REQUIRE(d.action == Decision::wait);
    d = f.decide(d.wake);
    CHECK(d.action == Decision::run);
    CHECK(d.batch.size() == 1);
  }

  TEST_CASE("not for a stream that is drained, ended or not registered") {
    const std::pair<const char*, void (*)(ClosedLoop&)> ways[] = {
        {"drain", [](ClosedLoop& f) { f.core.drain(2); }},
        {"end", [](ClosedLoop& f) { f.core.stream_end(2); }},
        {"drain all", [](ClosedLoop& f) { f.core.drain_all(); }}};
    for (const auto& [name, way] : ways) {
      CAPTURE(name);
      ClosedLoop f;
      f.push(100, 1, f.now - kMs / 2);
      REQUIRE(f.decide(f.now - kMs / 2).action == Decision::wait);
      way(f);
      CHECK(f.decide(f.now - kMs / 2).action == Decision::run);
    }
    Fixture strangers;
    int64_t now = 0;
    for (uint64_t i = 0; i < 20; i += 2) {
      strangers.push(i + 1, 1, now);
      strangers.push(i + 2, 2, now);
      strangers.run(&now);
      now += kMs;
    }
    strangers.push(100, 1, now - kMs / 2);
    CHECK(strangers.decide(now - kMs / 2).action == Decision::run);
  }

  TEST_CASE("not past a deadline") {
    ClosedLoop f;
    const int64_t at = f.now - kMs / 2;
    f.push(100, 1, at, at + 11 * kMs);  // T(1) = 10, T(2) = 12
    CHECK(f.decide(at).action == Decision::run);
  }

  TEST_CASE("not where batches gain nothing") {
    const auto flat = [](uint32_t b) { return 10 * kMs * int64_t(b); };
    Fixture f(8, flat);
    for (const uint64_t stream : {1, 2}) f.core.stream_begin(stream, {1, 0});
    int64_t now = 0;
    uint64_t id = 0;
    for (int i = 0; i < 10; ++i) {
      f.push(++id, 1, now);
      f.push(++id, 2, now);
      f.run(&now, flat);
      f.run(&now, flat);
      now += kMs;
    }
    f.push(100, 1, now - kMs / 2);
    CHECK(f.decide(now - kMs / 2).action == Decision::run);
  }

  TEST_CASE("not for live streams that keep up: their frames come anyway") {
    Fixture f;
    for (const uint64_t stream : {1, 2}) f.core.stream_begin(stream, {0, 40 * kMs});
    int64_t now = 0;
    for (uint64_t i = 0; i < 10; ++i) {
      f.push(2 * i + 1, 1, int64_t(i) * 40 * kMs, int64_t(i) * 40 * kMs + 100 * kMs, true);
      now = int64_t(i) * 40 * kMs;
      CHECK(f.run(&now) == Ids{2 * i + 1});
      now = int64_t(i) * 40 * kMs + 12 * kMs;
      f.push(2 * i + 2, 2, now, now + 100 * kMs, true);
      CHECK(f.run(&now) == Ids{2 * i + 2});
    }
  }

  TEST_CASE("not for a stream that can have no more unfinished") {
    ClosedLoop f;
    f.push(100, 1, f.now - kMs / 2);
    f.push(101, 2, f.now - kMs / 2);
    CHECK(Fixture::ids(f.decide(f.now - kMs / 2).batch) == Ids{100, 101});
    // Both are running: nothing can come.
    f.core.stream_begin(3, {1, 0});
    f.push(102, 3, f.now);
    CHECK(f.decide(f.now).action == Decision::run);
  }
}

TEST_SUITE("ahead of the end of a pass") {
  Ids ahead(Fixture & f, int64_t now = 0) {
    const Decision d = f.core.ahead(now);
    CHECK((d.action == Decision::run) == !d.batch.empty());
    CHECK(d.expired.empty());
    return Fixture::ids(d.batch);
  }

  TEST_CASE("a batch that nothing could make larger, the same that would be next") {
    Fixture f(4), same(4);
    for (uint64_t i = 1; i <= 9; ++i) {
      f.push(i, i % 3);
      same.push(i, i % 3);
    }
    CHECK(ahead(f) == Fixture::ids(same.decide().batch));
    CHECK(ahead(f) == Fixture::ids(same.decide().batch));
    CHECK(f.core.waiting() == 1);
  }

  TEST_CASE("not one that could grow, and it stays in line") {
    Fixture f(4);
    for (uint64_t i = 1; i <= 3; ++i) f.push(i, i);
    CHECK(ahead(f).empty());
    CHECK(f.core.waiting() == 3);
    CHECK(Fixture::ids(f.decide().batch) == Ids{1, 2, 3});
    CHECK(ahead(f).empty());  // nothing waits
  }

  TEST_CASE("by what a member allows") {
    Fixture f(8);
    for (uint64_t i = 1; i <= 3; ++i) {
      Job j = f.job(i, i);
      j.max_batch = 2;
      f.core.push(j);
    }
    CHECK(ahead(f) == Ids{1, 2});
    CHECK(ahead(f).empty());
  }

  TEST_CASE("not past a rarer kind that is next") {
    Fixture f(4);
    f.push(1, 1, 0, kNever, false, 2);
    for (uint64_t i = 2; i <= 6; ++i) f.push(i, i, kMs);
    CHECK(ahead(f, kMs).empty());
    CHECK(Fixture::ids(f.decide(kMs).batch) == Ids{1});
    CHECK(ahead(f, kMs).size() == 4);
  }

  TEST_CASE("not where anything has a deadline, however deep it is in line") {
    Fixture f(4);
    for (uint64_t i = 1; i <= 8; ++i) f.push(i, 1, 0, i == 8 ? 10'000 * kMs : kNever);
    CHECK(ahead(f).empty());
    CHECK(f.core.waiting() == 8);
  }

  TEST_CASE("not beside a camera that is about to bring the next frame, but after it has gone") {
    Fixture f(4);
    f.push(1, 1, 0, 100 * kMs, true);
    int64_t now = 0;
    CHECK(f.run(&now) == Ids{1});
    for (uint64_t i = 2; i <= 9; ++i) f.push(i, 2, now);
    CHECK(ahead(f, now).empty());
    f.core.drain(1);
    CHECK(ahead(f, now).size() == 4);
  }
}

TEST_SUITE("streams") {
  TEST_CASE("are counted, and forgotten when they are gone") {
    Fixture f;
    CHECK(f.core.streams() == 0);
    f.core.stream_begin(1, {});
    f.core.stream_begin(1, {});
    f.core.stream_begin(2, {});
    CHECK(f.core.streams() == 2);
    f.core.stream_end(1);
    f.core.stream_end(1);
    f.core.stream_end(77);
    f.core.drain(77);
    CHECK(f.core.streams() == 1);
    CHECK(!f.core.knows(1));
    // What waits of an ended stream is still served.
    f.push(1, 2);
    f.core.stream_end(2);
    CHECK(f.core.streams() == 0);
    CHECK(f.decide().batch.size() == 1);
  }

  TEST_CASE("ten thousand that never say goodbye do not stay") {
    Fixture f;
    int64_t now = 0;
    for (uint64_t s = 1; s <= 10000; ++s) {
      f.push(s, s, ++now);
      const Decision d = f.core.decide(now);
      f.core.finished(d.batch, 10, now);
    }
    size_t known = 0;
    for (uint64_t s = 1; s <= 10000; ++s) known += f.core.knows(s);
    CHECK(known <= 1100);
    CHECK(f.core.knows(10000));
  }
}
