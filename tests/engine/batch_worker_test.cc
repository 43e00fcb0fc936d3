// SPDX-License-Identifier: MIT
//
// The worker with a network that is a function of the test: which fails, runs out of memory, stands still.
#include "engine/runtime/batch_worker.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <future>
#include <set>
#include <stdexcept>

#include "engine/api/engine_error.h"
#include "test_clock.h"

struct Da3Result {
  int number;
};

using namespace da3;

namespace {

constexpr int kStreams = 4;
const char streams[kStreams] = {};

// What became of a request.
struct Ticket {
  int number = 0, calls = 0;
  Da3ErrorCode code = DA3_OK;
  std::string message;
  int result = -1;
};

class Fixture {
 public:
  // Decides what becomes of a pass; called on the worker thread.
  std::function<void(const std::vector<Item>&)> pass = [](const auto&) {};
  std::vector<size_t> sizes;  // of the passes that were tried; of the worker thread, or after settle()
  std::vector<int> order;     // of what was delivered
  std::vector<std::string> warnings;
  std::atomic<int> alive{0};  // results
  Client client;

  explicit Fixture(uint32_t limit = 8) {
    current = this;
    client.user = this;
    client.warning = [](void* user, Da3ErrorCode code, const char* text) {
      CHECK(code == DA3_ERROR_NO_MEMORY);
      static_cast<Fixture*>(user)->warnings.push_back(text);
    };
    BatchWorker::Parts parts;
    parts.run = [this](const std::vector<Item>& items, BatchWorker::PassReport* report) {
      sizes.push_back(items.size());
      pass(items);
      report->bytes = 1000 * items.size();
      std::vector<Da3Result*> results;
      for (const Item& item : items) {
        results.push_back(new Da3Result{static_cast<Ticket*>(item.user)->number});
        ++alive;
      }
      return results;
    };
    parts.release = [this](Da3Result* result) { release(result); };
    worker = std::make_unique<BatchWorker>(std::move(parts), limit);
  }
  void release(Da3Result* result) {
    delete result;
    --alive;
  }

  // Keeps the worker busy until the end of the scope, so that what is submitted meanwhile waits together.
  class Busy {
   public:
    explicit Busy(Fixture& f) {
      std::promise<void> reached;
      done_ = std::async(std::launch::async, [&f, &reached, this] {
        f.worker->call([&] {
          reached.set_value();
          go_.get_future().wait();
        });
      });
      reached.get_future().wait();
    }
    ~Busy() {
      go_.set_value();
      done_.wait();
    }

   private:
    std::promise<void> go_;
    std::future<void> done_;
  };

  Ticket& submit(int stream = 0, uint32_t max_batch = 8, int width = 28) {
    tickets.emplace_back();
    Ticket& ticket = tickets.back();
    ticket.number = int(tickets.size());
    Item item;
    item.client = &client;
    item.stream = &streams[stream];
    item.views.resize(1);
    item.width = item.height = width;
    item.max_batch = max_batch;
    item.user = &ticket;
    item.done = [](void* user, Da3Result* result, const Da3Error* error) {
      auto* t = static_cast<Ticket*>(user);
      ++t->calls;
      if (result) t->result = result->number;
      if (error) {
        t->code = error->code;
        t->message = error->message;
      }
      Fixture* f = current;
      f->order.push_back(t->number);
      if (result) f->release(result);
    };
    client.begin(item.stream);
    worker->queue().push(std::move(item));
    return ticket;
  }
  // Everything that was submitted is answered, exactly once.
  void settle() {
    client.wait_all();
    for (const Ticket& t : tickets) CHECK(t.calls == 1);
    const FormerCounters c = worker->queue().counters();
    CHECK(c.submitted == c.completed + c.failed + c.cancelled + c.expired);
    CHECK(c.waiting == 0);
    CHECK(c.running == 0);
  }

  std::deque<Ticket> tickets;
  std::unique_ptr<BatchWorker> worker;
  static Fixture* current;
};
Fixture* Fixture::current = nullptr;

[[noreturn]] void out_of_memory() {
  throw EngineError(DA3_ERROR_NO_MEMORY, "Out of memory: 3 GiB needed, 1 GiB free.");
}

}  // namespace

TEST_SUITE("passes") {
  TEST_CASE("everybody gets his own result") {
    Fixture f;
    {
      const Fixture::Busy busy(f);
      for (int i = 0; i < 12; ++i) f.submit(i % kStreams);
    }
    f.settle();
    for (const Ticket& t : f.tickets) CHECK(t.result == t.number);
    CHECK(f.sizes == std::vector<size_t>{8, 4});
    CHECK(f.alive == 0);
  }

  TEST_CASE("what spoils a pass fails alone, whoever shares it with it, at any place") {
    for (const bool unknown : {false, true})
      for (const int n_streams : {1, kStreams})
        for (int position = 1; position <= 6; ++position) {
          CAPTURE(position);
          Fixture f;
          f.pass = [&](const std::vector<Item>& items) {
            for (const Item& item : items) {
              if (static_cast<Ticket*>(item.user)->number != position) continue;
              if (unknown) throw 5;
              throw std::runtime_error("broken");
            }
          };
          {
            const Fixture::Busy busy(f);
            for (int i = 0; i < 6; ++i) f.submit(i % n_streams);
          }
          f.settle();
          for (const Ticket& t : f.tickets) {
            const bool bad = t.number == position;
            CHECK(t.code == (bad ? DA3_ERROR_FAILED : DA3_OK));
            CHECK(t.message.empty() == !bad);
            if (!bad) CHECK(t.result == t.number);
          }
          CHECK(f.worker->queue().counters().failed == 1);
          CHECK(f.worker->queue().counters().completed == 5);
          CHECK(f.worker->queue().counters().memory_retries == 0);
          CHECK(f.warnings.empty());
          CHECK(f.alive == 0);
          if (n_streams == 1) CHECK(std::is_sorted(f.order.begin(), f.order.end()));
        }
  }

  TEST_CASE("what fails once and not again fails nobody") {
    Fixture f;
    int passes = 0;
    f.pass = [&](const auto&) {
      if (++passes == 1) throw std::runtime_error("a hiccup");
    };
    {
      const Fixture::Busy busy(f);
      for (int i = 0; i < 4; ++i) f.submit(i);
    }
    f.settle();
    for (const Ticket& t : f.tickets) CHECK(t.code == DA3_OK);
    CHECK(f.sizes == std::vector<size_t>{4, 2, 2});
  }

  TEST_CASE("a device that is lost fails everything, after less than two passes an item") {
    Fixture f;
    f.pass = [](const auto&) { throw std::runtime_error("lost"); };
    {
      const Fixture::Busy busy(f);
      for (int i = 0; i < 8; ++i) f.submit(i % kStreams);
    }
    f.settle();
    for (const Ticket& t : f.tickets) {
      CHECK(t.code == DA3_ERROR_FAILED);
      CHECK(t.message.find("lost") != std::string::npos);
    }
    CHECK(f.sizes.size() == 15);
  }

  TEST_CASE("of a pass that failed, what nobody wants any more is not run again") {
    Fixture f;
    f.pass = [&](const std::vector<Item>& items) {
      if (items.size() < 4) return;
      // Given up while it runs: nothing waits, so nothing comes back at once.
      CHECK(f.worker->queue().abandon(&f.client, &streams[1]).empty());
      throw std::runtime_error("broken");
    };
    {
      const Fixture::Busy busy(f);
      for (int i = 0; i < 4; ++i) f.submit(i % 2);
    }
    f.settle();
    for (const Ticket& t : f.tickets) CHECK(t.code == (t.number % 2 ? DA3_OK : DA3_ERROR_CANCELLED));
    CHECK(f.sizes == std::vector<size_t>{4, 1, 1});
    CHECK(f.worker->queue().counters().cancelled == 2);
    CHECK(f.alive == 0);
  }

  TEST_CASE("given up while it runs: computed, given back, and told as cancelled") {
    Fixture f;
    f.pass = [&](const std::vector<Item>& items) {
      if (items.size() == 4) f.worker->queue().abandon(&f.client, &streams[0]);
    };
    {
      const Fixture::Busy busy(f);
      for (int i = 0; i < 4; ++i) f.submit(i % 2);
    }
    f.settle();
    for (const Ticket& t : f.tickets) {
      CHECK(t.code == (t.number % 2 ? DA3_ERROR_CANCELLED : DA3_OK));
      CHECK(t.result == (t.number % 2 ? -1 : t.number));
    }
    CHECK(f.sizes == std::vector<size_t>{4});
    CHECK(f.alive == 0);
    // Whatever comes later is wanted.
    f.submit(0);
    f.settle();
    CHECK(f.tickets.back().code == DA3_OK);
  }

  TEST_CASE("an item that went wrong by itself leaves its batch alone") {
    Fixture f;
    BatchWorker::Parts parts;
    int passes = 0;
    parts.run = [&](const std::vector<Item>& items, BatchWorker::PassReport*) {
      ++passes;
      std::vector<Da3Result*> results;
      for (const Item& item : items) {
        results.push_back(new Da3Result{static_cast<Ticket*>(item.user)->number});
        ++f.alive;
      }
      return results;
    };
    parts.release = [&](Da3Result* r) { f.release(r); };
    parts.failure = [](const Da3Result* r) { return std::string(r->number == 2 ? "no pose" : ""); };
    f.worker = std::make_unique<BatchWorker>(std::move(parts), 8);
    {
      const Fixture::Busy busy(f);
      for (int i = 0; i < 3; ++i) f.submit();
    }
    f.settle();
    for (const Ticket& t : f.tickets) CHECK(t.code == (t.number == 2 ? DA3_ERROR_FAILED : DA3_OK));
    CHECK(f.tickets[1].message == "no pose");
    CHECK(f.order == std::vector<int>{1, 2, 3});
    CHECK(passes == 1);
    CHECK(f.alive == 0);
    CHECK(f.worker->queue().counters().failed == 1);
  }

  TEST_CASE("too few results: an error, and those that came are given back") {
    BatchWorker::Parts parts;
    int given_back = 0;
    parts.run = [](const std::vector<Item>& items, BatchWorker::PassReport*) {
      std::vector<Da3Result*> results(items.size() - 1);
      for (Da3Result*& r : results) r = new Da3Result{0};
      return results;
    };
    parts.release = [&](Da3Result* r) {
      delete r;
      ++given_back;
    };
    Fixture f;
    f.worker = std::make_unique<BatchWorker>(std::move(parts), 8);
    {
      const Fixture::Busy busy(f);
      f.submit();
      f.submit();
    }
    f.settle();
    for (const Ticket& t : f.tickets) {
      CHECK(t.code == DA3_ERROR_FAILED);
      CHECK(t.message.find("0 results for 1 items") != std::string::npos);
    }
    CHECK(given_back == 1);
  }

  TEST_CASE("what waits at the end is computed") {
    Fixture f;
    {
      const Fixture::Busy busy(f);
      for (int i = 0; i < 5; ++i) f.submit(0, 1);
    }
    f.worker.reset();
    for (const Ticket& t : f.tickets) CHECK(t.result == t.number);
  }
}

TEST_SUITE("out of memory") {
  TEST_CASE("halves until it fits: the same items, in order, one warning for each new limit") {
    Fixture f;
    f.pass = [](const auto& items) {
      if (items.size() > 3) out_of_memory();
    };
    {
      const Fixture::Busy busy(f);
      for (int i = 0; i < 8; ++i) f.submit();
    }
    f.settle();
    for (const Ticket& t : f.tickets) CHECK(t.result == t.number);
    CHECK(f.order == std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8});
    CHECK(f.sizes == std::vector<size_t>{8, 4, 2, 2, 4, 2, 2});
    REQUIRE(f.warnings.size() == 2);
    CHECK(f.warnings[0].find("batch of 8") != std::string::npos);
    CHECK(f.warnings[0].find("at most 4") != std::string::npos);
    CHECK(f.warnings[0].find("3 GiB needed") != std::string::npos);
    CHECK(f.warnings[1].find("at most 2") != std::string::npos);
    // Learned: the next ones do not even try.
    f.sizes.clear();
    {
      const Fixture::Busy busy(f);
      for (int i = 0; i < 4; ++i) f.submit();
    }
    f.settle();
    CHECK(f.sizes == std::vector<size_t>{2, 2});
    CHECK(f.warnings.size() == 2);
  }

  TEST_CASE("at any position in a batch, with one and four streams: every item is answered once") {
    for (const int n_streams : {1, kStreams})
      for (int position = 1; position <= 6; ++position) {
        CAPTURE(n_streams);
        CAPTURE(position);
        Fixture f;
        f.pass = [&](const std::vector<Item>& items) {
          for (const Item& item : items)
            if (static_cast<Ticket*>(item.user)->number == position) out_of_memory();
        };
        {
          const Fixture::Busy busy(f);
          for (int i = 0; i < 6; ++i) f.submit(i % n_streams);
        }
        f.settle();
        for (const Ticket& t : f.tickets) {
          CHECK(t.code == (t.number == position ? DA3_ERROR_NO_MEMORY : DA3_OK));
          if (t.number == position) CHECK(t.message == "Out of memory: 3 GiB needed, 1 GiB free.");
        }
        CHECK(f.worker->queue().counters().completed == 5);
        CHECK(f.worker->queue().counters().failed == 1);
      }
  }

  TEST_CASE("of the plain kind") {
    Fixture f;
    f.pass = [](const auto&) { throw std::bad_alloc(); };
    f.submit();
    f.settle();
    CHECK(f.tickets[0].code == DA3_ERROR_NO_MEMORY);
    CHECK(f.tickets[0].message.find("Out of memory") == 0);
    CHECK(f.warnings.empty());
  }

  TEST_CASE("another size has another limit") {
    Fixture f;
    f.pass = [](const std::vector<Item>& items) {
      if (items.size() > 1 && items[0].width > 28) out_of_memory();
    };
    {
      const Fixture::Busy busy(f);
      for (int i = 0; i < 2; ++i) f.submit(0, 8, 56);
      for (int i = 0; i < 4; ++i) f.submit(1, 8, 28);
    }
    f.settle();
    CHECK(std::multiset<size_t>(f.sizes.begin(), f.sizes.end()) == std::multiset<size_t>{1, 1, 2, 4});
  }
}

TEST_SUITE("deadlines that nothing can keep") {
  struct SlowDevice {
    da3::test::TestClock clock;
    std::vector<std::string> warnings;
    Fixture f;

    SlowDevice() {
      f.client.user = this;
      f.client.warning = [](void* user, Da3ErrorCode code, const char* text) {
        CHECK(code == DA3_ERROR_EXPIRED);
        static_cast<SlowDevice*>(user)->warnings.push_back(text);
      };
      BatchWorker::Parts parts;
      parts.run = [this](const std::vector<Item>& items, BatchWorker::PassReport*) {
        clock.advance(40'000'000);
        std::vector<Da3Result*> results;
        for (const Item& item : items) {
          results.push_back(new Da3Result{static_cast<Ticket*>(item.user)->number});
          ++f.alive;
        }
        return results;
      };
      parts.release = [this](Da3Result* r) { f.release(r); };
      f.worker = std::make_unique<BatchWorker>(std::move(parts), 8, clock);
    }
    Da3ErrorCode live(int64_t slack) {
      Ticket& ticket = f.tickets.emplace_back();
      Item item;
      item.client = &f.client;
      item.stream = &streams[0];
      item.views.resize(1);
      item.width = item.height = 28;
      item.deadline = clock.now() + slack;
      item.droppable = true;
      item.user = &ticket;
      item.done = [](void* user, Da3Result* result, const Da3Error* error) {
        auto* t = static_cast<Ticket*>(user);
        ++t->calls;
        if (error) t->code = error->code;
        if (result) Fixture::current->release(result);
      };
      f.client.begin(item.stream);
      f.worker->queue().push(std::move(item));
      f.settle();
      return ticket.code;
    }
  };

  TEST_CASE("are said once, when a try has shown it") {
    SlowDevice s;
    CHECK(s.live(5'000'000) == DA3_OK);  // nothing is known yet
    CHECK(s.warnings.empty());
    CHECK(s.live(5'000'000) == DA3_ERROR_EXPIRED);
    CHECK(s.warnings.empty());
    for (int i = 0; i < 3; ++i) {
      s.clock.advance(20'000'000'000);
      CHECK(s.live(5'000'000) == DA3_OK);  // tried, and late
      CHECK(s.live(5'000'000) == DA3_ERROR_EXPIRED);
    }
    REQUIRE(s.warnings.size() == 1);
    CHECK(s.warnings[0].find("28x28") != std::string::npos);
    CHECK(s.warnings[0].find("40 ms") != std::string::npos);
    CHECK(s.warnings[0].find("5 ms") != std::string::npos);
    CHECK(s.warnings[0].find("max-latency") != std::string::npos);
  }

  TEST_CASE("others are not warned of") {
    SlowDevice s;
    for (int i = 0; i < 5; ++i) {
      CHECK(s.live(50'000'000) == DA3_OK);
      s.clock.advance(20'000'000'000);
    }
    CHECK(s.warnings.empty());
    s.f.client.warning = nullptr;  // nobody listens
    CHECK(s.live(5'000'000) == DA3_OK);
    CHECK(s.live(5'000'000) == DA3_ERROR_EXPIRED);
  }
}

TEST_SUITE("memory budget") {
  TEST_CASE("keeps a batch from being tried that would not fit, and leaves room for it again") {
    std::atomic<uint64_t> budget{kUnlimitedMemory};
    std::vector<size_t> sizes;
    BatchWorker::Parts parts;
    parts.run = [&](const std::vector<Item>& items, BatchWorker::PassReport* report) {
      sizes.push_back(items.size());
      report->bytes = 1000 * items.size();
      std::vector<Da3Result*> results;
      for (const Item& item : items)
        results.push_back(new Da3Result{static_cast<Ticket*>(item.user)->number});
      return results;
    };
    parts.release = [](Da3Result* result) { delete result; };
    parts.memory_budget = [&] { return budget.load(); };
    Fixture f;
    f.worker = std::make_unique<BatchWorker>(std::move(parts), 8);
    const auto submit_six = [&] {
      {
        const Fixture::Busy busy(f);
        for (int i = 0; i < 6; ++i) f.submit();
      }
      f.settle();
    };
    submit_six();
    budget = 2500;
    submit_six();
    budget = 10;  // one is always tried
    f.submit();
    f.submit();
    f.settle();
    budget = kUnlimitedMemory;
    submit_six();
    CHECK(sizes == std::vector<size_t>{6, 2, 2, 2, 1, 1, 6});
    CHECK(f.worker->queue().counters().memory_retries == 0);
  }
}

TEST_SUITE("warm-up") {
  Item like(Fixture & f, Ticket & ticket) {
    Item item;
    item.client = &f.client;
    item.views.resize(1);
    item.width = item.height = 28;
    item.user = &ticket;
    return item;
  }

  TEST_CASE("measures 1, 2, 4 ... up to the most, and says how far it is") {
    // Every pass takes the same time: batches pay fully.
    Fixture f(8);
    Ticket ticket;
    std::vector<double> progress;
    std::promise<void> pause;
    CHECK(f.worker->warm_up(
        like(f, ticket), 4, [] { return false; }, [&](double p) { progress.push_back(p); }));
    CHECK(f.sizes.front() == 1);
    CHECK(f.sizes.back() <= 4);
    CHECK(f.alive == 0);
    CHECK(progress.front() == 0);
    CHECK(progress.back() == 1);
    CHECK(std::is_sorted(progress.begin(), progress.end()));
    Da3ShapeStats stats{};
    stats.struct_size = sizeof stats;
    f.worker->queue().shape_stats(like(f, ticket), &stats);
    CHECK(stats.measured >= 3);
    CHECK(stats.memory_single == 1000);
    CHECK(f.worker->queue().counters().submitted == 0);
  }

  TEST_CASE("one at a time: once to fill caches, once to measure") {
    Fixture f(8);
    Ticket ticket;
    double last = 0;
    CHECK(f.worker->warm_up(
        like(f, ticket), 1, [] { return false; }, [&](double p) { last = p; }));
    CHECK(f.sizes == std::vector<size_t>{1, 1});
    CHECK(last == 1);
    Da3ShapeStats stats{};
    stats.struct_size = sizeof stats;
    f.worker->queue().shape_stats(like(f, ticket), &stats);
    CHECK(stats.measured == 1);
    CHECK(stats.single_ns > 0);
  }

  TEST_CASE("stays within the memory that passes may take") {
    std::vector<size_t> sizes;
    BatchWorker::Parts parts;
    parts.run = [&](const std::vector<Item>& items, BatchWorker::PassReport* report) {
      sizes.push_back(items.size());
      report->bytes = 1000 * items.size();
      return std::vector<Da3Result*>(items.size(), nullptr);
    };
    parts.release = [](Da3Result*) {};
    parts.memory_budget = [] { return uint64_t(2500); };
    BatchWorker worker(std::move(parts), 8);
    Fixture f;
    Ticket ticket;
    CHECK(worker.warm_up(
        like(f, ticket), 8, [] { return false; }, [](double) {}));
    CHECK(*std::max_element(sizes.begin(), sizes.end()) == 2);
  }

  TEST_CASE("ends at what does not fit, keeping what was measured") {
    Fixture f(8);
    f.pass = [](const auto& items) {
      if (items.size() > 1) out_of_memory();
    };
    Ticket ticket;
    double last = 0;
    CHECK(f.worker->warm_up(
        like(f, ticket), 8, [] { return false; }, [&](double p) { last = p; }));
    CHECK(last == 1);
    CHECK(f.sizes == std::vector<size_t>{1, 1, 1, 1, 2});
    CHECK(f.worker->queue().cap(like(f, ticket), true) == 1);
    CHECK(f.warnings.empty());
  }

  TEST_CASE("fails where a single item does, and the worker lives on") {
    Fixture f(8);
    f.pass = [](const auto&) { out_of_memory(); };
    Ticket ticket;
    CHECK_THROWS_AS(f.worker->warm_up(
                        like(f, ticket), 8, [] { return false; }, [](double) {}),
                    EngineError);
    f.pass = [](const auto&) { throw std::runtime_error("broken"); };
    CHECK_THROWS_AS(f.worker->warm_up(
                        like(f, ticket), 8, [] { return false; }, [](double) {}),
                    EngineError);
    f.pass = [](const auto&) {};
    f.submit();
    f.settle();
    CHECK(f.tickets[0].code == DA3_OK);
  }

  TEST_CASE("can be stopped") {
    Fixture f(8);
    Ticket ticket;
    int asked = 0;
    CHECK(!f.worker->warm_up(
        like(f, ticket), 8, [&] { return ++asked > 2; }, [](double) {}));
    CHECK(f.sizes.size() == 2);
  }
}

TEST_SUITE("threads") {
  TEST_CASE("producers, one who takes out and a warm-up at once: every request is answered once, in order") {
    Fixture f;
    static constexpr int kEach = 300;
    std::deque<Ticket> tickets[kStreams];
    static std::vector<int> orders[kStreams];
    for (auto& order : orders) order.clear();
    std::vector<std::thread> producers;
    for (int s = 0; s < kStreams; ++s) {
      tickets[s].resize(kEach);
      producers.emplace_back([&, s] {
        for (int i = 0; i < kEach; ++i) {
          Ticket& t = tickets[s][size_t(i)];
          t.number = s * kEach + i;
          Item item;
          item.client = &f.client;
          item.stream = &streams[s];
          item.views.resize(1);
          item.width = item.height = i % 7 ? 28 : 56;
          item.user = &t;
          item.done = [](void* user, Da3Result* result, const Da3Error* error) {
            auto* ticket = static_cast<Ticket*>(user);
            ++ticket->calls;
            if (error) ticket->code = error->code;
            if (!result) return;
            ticket->result = result->number;
            orders[ticket->number / kEach].push_back(ticket->number);
            Fixture::current->release(result);
          };
          f.client.begin(item.stream);
          f.worker->queue().push(std::move(item));
          if (s == 0 && i % 40 == 39)
            for (Item& out :
                 f.worker->queue().remove([](const Item& it) { return it.stream == &streams[0]; }))
              deliver(out, DA3_ERROR_CANCELLED, "Cancelled.");
        }
      });
    }
    Ticket warm;
    Item shape;
    shape.client = &f.client;
    shape.views.resize(1);
    shape.width = shape.height = 28;
    shape.user = &warm;
    f.worker->warm_up(
        shape, 4, [] { return false; }, [](double) {});
    for (auto& p : producers) p.join();
    f.client.wait_all();
    int done = 0;
    for (int s = 0; s < kStreams; ++s) {
      CHECK(std::is_sorted(orders[s].begin(), orders[s].end()));
      for (const Ticket& t : tickets[s]) {
        CHECK(t.calls == 1);
        CHECK((t.code == DA3_OK || (s == 0 && t.code == DA3_ERROR_CANCELLED)));
        done += t.code == DA3_OK;
      }
    }
    const FormerCounters c = f.worker->queue().counters();
    CHECK(c.submitted == kStreams * kEach);
    CHECK(c.completed == uint64_t(done));
    CHECK(c.completed + c.cancelled == c.submitted);
    CHECK(f.alive == 0);
  }
}
