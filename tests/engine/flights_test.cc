// SPDX-License-Identifier: MIT
//
// The worker with a device that computes beside it: what is handed over when, and what becomes of it.
#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/api/engine_error.h"
#include "engine/runtime/batch_worker.h"
#include "test_clock.h"

struct Da3Result {
  int number;
};

using namespace da3;

namespace {

constexpr int64_t kMs = 1'000'000;
constexpr uint32_t kBatch = 4;
const char streams[2] = {};
using Log = std::vector<std::string>;

struct Ticket {
  int number = 0, calls = 0, result = -1;
  Da3ErrorCode code = DA3_OK;
};

// A device that writes down what it is told. Tests look at it after settle().
class Fixture {
 public:
  std::function<void(const std::vector<Item>&)> begins = [](const auto&) {}, finishes = begins, runs = begins;
  bool typical = true;  // what passes say of themselves
  Log log;
  std::vector<int> order;  // of what was delivered
  int alive = 0, under_way = 0, most_under_way = 0;
  Client client;
  test::TestClock clock;

  explicit Fixture(bool flies = true, std::function<bool(const std::vector<Item>&)> at_once = {}) {
    BatchWorker::Parts parts;
    parts.run = [this](const std::vector<Item>& items, BatchWorker::PassReport* report) {
      report->typical = typical;
      note("run", items);
      runs(items);
      return results(items);
    };
    if (flies)
      parts.begin = [this](const std::vector<Item>& items) -> std::unique_ptr<BatchWorker::Flight> {
        note("begin", items);
        begins(items);
        return std::make_unique<Flight>(this);
      };
    parts.begins_at_once = std::move(at_once);
    parts.release = [this](Da3Result* result) { release(result); };
    worker = std::make_unique<BatchWorker>(std::move(parts), 8, clock);
  }

  // What `body` submits waits together: the worker is kept busy until it is through.
  template <typename Body>
  void together(Body&& body) {
    std::promise<void> reached, go;
    auto task = std::async(std::launch::async, [&] {
      worker->call([&] {
        reached.set_value();
        go.get_future().wait();
      });
    });
    reached.get_future().wait();
    body();
    go.set_value();
    task.wait();
  }
  void submit(int64_t deadline = kNever, int stream = 0, int width = 28) {
    Ticket& ticket = tickets.emplace_back();
    ticket.number = int(tickets.size());
    Item item;
    item.client = &client;
    item.stream = &streams[stream];
    item.views.resize(1);
    item.width = item.height = width;
    item.max_batch = kBatch;
    item.deadline = deadline;
    item.user = new std::pair<Fixture*, Ticket*>(this, &ticket);
    item.done = [](void* user, Da3Result* result, const Da3Error* error) {
      const std::unique_ptr<std::pair<Fixture*, Ticket*>> to(
          static_cast<std::pair<Fixture*, Ticket*>*>(user));
      Ticket& t = *to->second;
      ++t.calls;
      if (result) t.result = result->number;
      if (error) t.code = error->code;
      to->first->order.push_back(t.number);
      if (result) to->first->release(result);
    };
    client.begin(item.stream);
    worker->queue().push(std::move(item));
  }
  void submit_many(int count) {
    for (int i = 0; i < count; ++i) submit();
  }
  // Passes whose time counts.
  uint64_t learned() const {
    Item like;
    like.width = like.height = 28;
    like.views.resize(1);
    Da3ShapeStats stats{};
    stats.struct_size = sizeof stats;
    worker->queue().shape_stats(like, &stats);
    return stats.measured;
  }
  // Everything is answered, once, in order, and the accounts agree.
  void settle(bool all_good = true) {
    client.wait_all();
    for (const Ticket& t : tickets) {
      CHECK(t.calls == 1);
      if (all_good) CHECK(t.result == t.number);
    }
    CHECK(std::is_sorted(order.begin(), order.end()));
    const FormerCounters c = worker->queue().counters();
    CHECK(c.submitted == c.completed + c.failed + c.cancelled + c.expired);
    CHECK(c.waiting == 0);
    CHECK(c.running == 0);
    CHECK(alive == 0);
    CHECK(under_way == 0);
    CHECK(most_under_way <= 2);
  }

  static int number_of(const Item& item) {
    return static_cast<std::pair<Fixture*, Ticket*>*>(item.user)->second->number;
  }

  std::deque<Ticket> tickets;
  std::unique_ptr<BatchWorker> worker;

 private:
  class Flight : public BatchWorker::Flight {
   public:
    explicit Flight(Fixture* f) : f_(f) { f->most_under_way = std::max(f->most_under_way, ++f->under_way); }
    ~Flight() override { --f_->under_way; }
    std::vector<Da3Result*> finish(const std::vector<Item>& items, BatchWorker::PassReport* report) override {
      report->typical = f_->typical;
      f_->note("finish", items);
      f_->finishes(items);
      return f_->results(items);
    }

   private:
    Fixture* f_;
  };
  // "begin 1-4"
  void note(const char* what, const std::vector<Item>& items) {
    const int first = number_of(items.front()), last = number_of(items.back());
    log.push_back(std::string(what) + " " + std::to_string(first) +
                  (last > first ? "-" + std::to_string(last) : ""));
  }
  std::vector<Da3Result*> results(const std::vector<Item>& items) {
    std::vector<Da3Result*> out;
    for (const Item& item : items) out.push_back(new Da3Result{number_of(item)});
    alive += int(out.size());
    return out;
  }
  void release(Da3Result* result) {
    delete result;
    --alive;
  }
};

bool has(const std::vector<Item>& items, size_t size) {
  return items.size() == size;
}

}  // namespace

TEST_SUITE("two batches under way") {
  TEST_CASE("a full batch is handed over before the one before it is through; what is left waits") {
    Fixture f;
    f.together([&] { f.submit_many(14); });
    f.settle();
    CHECK(f.log == Log{"begin 1-4", "begin 5-8", "finish 1-4", "begin 9-12", "finish 5-8", "finish 9-12",
                       "begin 13-14", "finish 13-14"});
    CHECK(f.most_under_way == 2);
  }

  TEST_CASE("one that could still grow is not") {
    Fixture f;
    f.together([&] { f.submit_many(7); });
    f.settle();
    CHECK(f.log == Log{"begin 1-4", "finish 1-4", "begin 5-7", "finish 5-7"});
    CHECK(f.most_under_way == 1);
  }

  TEST_CASE("nor anything where something has a deadline, in the batch or beside it") {
    for (const int with_deadline : {0, 5, 9}) {
      CAPTURE(with_deadline);
      Fixture f;
      f.together([&] {
        for (int i = 0; i < 12; ++i)
          f.submit(i == with_deadline ? f.clock.now() + 1000 * kMs : kNever, i == with_deadline);
      });
      f.client.wait_all();
      CHECK(f.most_under_way == 1);
    }
  }

  TEST_CASE("nor the full batch of a size that is not next") {
    Fixture f;
    f.together([&] {
      f.submit_many(4);
      f.submit(kNever, 0, 42);
      f.submit_many(4);
    });
    f.settle();
    CHECK(f.log == Log{"begin 1-4", "finish 1-4", "begin 5", "begin 6-9", "finish 5", "finish 6-9"});
  }

  TEST_CASE("nothing is handed over while a task waits: it runs between two batches") {
    Fixture f;
    f.begins = [&, once = false](const std::vector<Item>&) mutable {
      if (!std::exchange(once, true)) f.worker->queue().add_task([&] { f.log.push_back("task"); });
    };
    f.together([&] { f.submit_many(16); });
    f.settle();
    CHECK(f.log == Log{"begin 1-4", "finish 1-4", "task", "begin 5-8", "begin 9-12", "finish 5-8",
                       "begin 13-16", "finish 9-12", "finish 13-16"});
  }

  TEST_CASE("what would make the thread wait for the device is not handed over while it works") {
    Fixture f(true, [](const std::vector<Item>& items) { return Fixture::number_of(items.front()) != 5; });
    f.together([&] { f.submit_many(12); });
    f.settle();
    CHECK(f.log == Log{"begin 1-4", "finish 1-4", "begin 5-8", "begin 9-12", "finish 5-8", "finish 9-12"});
  }

  TEST_CASE("a device that works while the thread waits gets one after the other") {
    Fixture f(false);
    f.together([&] { f.submit_many(8); });
    f.settle();
    CHECK(f.log == Log{"run 1-4", "run 5-8"});
  }

  TEST_CASE("a pass takes from the end of the one before it, not from when it was handed over") {
    Fixture f;
    f.finishes = [&](const auto&) { f.clock.advance(10 * kMs); };
    f.together([&] { f.submit_many(8); });
    f.settle();
    const FormerCounters c = f.worker->queue().counters();
    CHECK(c.batches == 2);
    CHECK(c.service.quantiles().p99_ns == 10 * kMs);  // not 20
  }

  TEST_CASE("nothing is learned from the time of a pass that did more than compute") {
    for (const bool typical : {false, true}) {
      Fixture f;
      f.typical = typical;
      f.finishes = [&](const auto&) { f.clock.advance(10 * kMs); };
      f.together([&] { f.submit_many(8); });
      f.settle();
      CHECK((f.learned() > 0) == typical);
    }
  }

  TEST_CASE("what waits or is under way at the end is computed") {
    Fixture f;
    f.together([&] { f.submit_many(11); });
    f.worker.reset();
    CHECK(f.order.size() == 11);
    CHECK(f.under_way == 0);
    CHECK(f.alive == 0);
  }
}

TEST_SUITE("two batches under way: what goes wrong") {
  TEST_CASE("at the handing over: the one before it comes first, then it is tried alone and in parts") {
    Fixture f;
    f.begins = f.runs = [&](const std::vector<Item>& items) {
      if (f.log.size() > 1 && has(items, 4)) throw EngineError(DA3_ERROR_NO_MEMORY, "Out of memory.");
    };
    f.together([&] { f.submit_many(8); });
    f.settle();
    CHECK(f.log == Log{"begin 1-4", "begin 5-8", "finish 1-4", "run 5-8", "run 5-6", "run 7-8"});
    CHECK(f.worker->queue().counters().memory_retries == 1);
  }

  TEST_CASE("at the end of the first: it is tried again in parts before the second is taken") {
    Fixture f;
    f.finishes = [&](const std::vector<Item>& items) {
      if (f.most_under_way == 2 && f.under_way == 2 && has(items, 4)) throw std::runtime_error("lost");
    };
    f.together([&] { f.submit_many(8); });
    f.settle();
    CHECK(f.log == Log{"begin 1-4", "begin 5-8", "finish 1-4", "run 1-2", "run 3-4", "finish 5-8"});
    // Of the second one's time, which has the halves in it, nothing is learned.
    CHECK(f.learned() == 2);
  }

  TEST_CASE("always: every item fails once, and the worker lives on") {
    Fixture f;
    f.begins = f.runs = [](const auto&) { throw std::runtime_error("no device"); };
    f.together([&] { f.submit_many(9); });
    f.settle(false);
    for (const Ticket& t : f.tickets) CHECK(t.code == DA3_ERROR_FAILED);
    f.begins = f.runs = [](const auto&) {};
    f.submit();
    f.client.wait_all();
    CHECK(f.tickets.back().result == f.tickets.back().number);
  }

  TEST_CASE("given up while it is under way: computed, given back, and told as cancelled") {
    Fixture f;
    f.finishes = [&](const std::vector<Item>&) {
      if (f.log.size() == 3) f.worker->queue().abandon(&f.client, &streams[0]);
    };
    f.together([&] { f.submit_many(8); });
    f.settle(false);
    for (const Ticket& t : f.tickets) CHECK(t.code == DA3_ERROR_CANCELLED);
    CHECK(f.worker->queue().counters().cancelled == 8);
  }
}
