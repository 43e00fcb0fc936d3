// SPDX-License-Identifier: MIT
//
// The engine through its border: cancelling, deadlines, statistics, warm-up and the model cache.
#include "engine_api.h"

using namespace da3;
using namespace da3::test;

TEST_SUITE("cancelling and closing") {
  TEST_CASE("cancel takes out what waits of this stream, waits for what runs, touches nothing else") {
    const auto engine = open(Models::any_view()), other = open(Models::any_view());
    const Pictures pictures(1, 1, 14, 14);
    const char stream_a = 0, stream_b = 0;
    Gate gate;
    Ticket running(&gate), waiting_1, waiting_2, of_b, of_other;
    running.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    gate.wait_until_reached();
    waiting_1.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    waiting_2.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    of_b.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_b));
    of_other.submit(*other, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    auto cancelled = std::async(std::launch::async, [&] {
      engine->cancel(&stream_a);
      return running.calls();
    });
    CHECK(waiting_1.code() == DA3_ERROR_CANCELLED);
    CHECK(waiting_2.code() == DA3_ERROR_CANCELLED);
    CHECK(!waiting_1.message().empty());
    CHECK(running.calls() == 0);
    CHECK(of_b.calls() == 0);
    gate.open();
    CHECK(cancelled.get() == 1);  // it came back after the running one
    CHECK(running.code() == DA3_OK);
    CHECK(of_b.code() == DA3_OK);
    CHECK(of_other.code() == DA3_OK);
    for (Ticket* t : {&running, &waiting_1, &waiting_2, &of_b, &of_other}) CHECK(t->calls() == 1);
    // The stream can go on.
    Ticket again;
    again.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    CHECK(again.code() == DA3_OK);
  }

  TEST_CASE("cancel without waiting takes out the same, and does not wait") {
    const auto engine = open(Models::any_view()), other = open(Models::any_view());
    const Pictures pictures(1, 1, 14, 14);
    const char stream_a = 0, stream_b = 0;
    Gate gate;
    Ticket running(&gate), waiting_1, waiting_2, of_b, of_other, later;
    running.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    gate.wait_until_reached();
    waiting_1.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    waiting_2.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    of_b.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_b));
    of_other.submit(*other, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    CHECK(engine->cancel_waiting(&stream_a));  // would hang if it waited
    CHECK(waiting_1.calls() == 1);
    CHECK(waiting_2.calls() == 1);
    CHECK(waiting_1.code() == DA3_ERROR_CANCELLED);
    CHECK(waiting_2.code() == DA3_ERROR_CANCELLED);
    CHECK(running.calls() == 0);
    CHECK(engine->cancel_waiting(&stream_a));
    CHECK(engine->cancel_waiting(nullptr));
    later.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream_a));
    gate.open();
    CHECK(running.code() == DA3_OK);  // its callback had begun
    for (Ticket* t : {&of_b, &of_other, &later}) CHECK(t->code() == DA3_OK);
    for (Ticket* t : {&running, &waiting_1, &waiting_2, &of_b, &of_other, &later}) CHECK(t->calls() == 1);
    const Da3EngineStats s = engine->stats();
    CHECK(s.submitted == s.completed + s.failed + s.cancelled + s.expired + s.waiting + s.running);
  }

  TEST_CASE("threads submit and cancel without waiting: every request is answered exactly once") {
    const auto engine = open(Models::any_view(), 3);
    const Pictures pictures(1, 1, 14, 14);
    constexpr size_t kThreads = 3, kEach = 60;
    std::deque<Ticket> tickets[kThreads];
    std::vector<std::thread> threads;
    const char streams[kThreads] = {};
    const uint64_t cancelled = engine->stats().cancelled;
    for (size_t t = 0; t < kThreads; ++t) {
      tickets[t].resize(kEach);
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < kEach; ++i) {
          tickets[t][i].submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &streams[t]));
          if (t == 0 && i % 8 == 7) engine->cancel_waiting(&streams[t]);
          if (i % 16 == 15) tickets[t][i].code();
        }
      });
    }
    for (auto& t : threads) t.join();
    uint64_t told = 0;
    for (size_t t = 0; t < kThreads; ++t)
      for (Ticket& ticket : tickets[t]) {
        const bool good = ticket.code() == DA3_OK;
        CHECK((good || (t == 0 && ticket.code() == DA3_ERROR_CANCELLED)));
        told += !good;
      }
    for (const char& stream : streams) engine->cancel(&stream);
    for (auto& list : tickets)
      for (Ticket& ticket : list) CHECK(ticket.calls() == 1);
    CHECK(engine->stats().cancelled - cancelled == told);
  }

  TEST_CASE("cancel of a stream without requests returns at once, however busy the engine is") {
    const auto engine = open(Models::any_view());
    const char busy_stream = 0, idle_stream = 0;
    engine->cancel(nullptr);
    const Busy busy(*engine, &busy_stream);
    engine->cancel(&idle_stream);
    CHECK(true);
  }

  TEST_CASE("close finishes what waits as cancelled, waits for what runs, and other clients go on") {
    auto engine = open(Models::any_view());
    const auto other = open(Models::any_view());
    const Pictures pictures(1, 1, 14, 14);
    Gate gate;
    Ticket running(&gate), of_other;
    std::deque<Ticket> waiting(5);
    running.submit(*engine, pictures.request());
    gate.wait_until_reached();
    of_other.submit(*other, pictures.request());
    for (Ticket& t : waiting) t.submit(*engine, pictures.request());
    auto closed = std::async(std::launch::async, [&] { engine.reset(); });
    for (Ticket& t : waiting) CHECK(t.code() == DA3_ERROR_CANCELLED);
    CHECK(of_other.calls() == 0);
    gate.open();
    closed.get();
    CHECK(running.calls() == 1);
    CHECK(running.code() == DA3_OK);
    CHECK(of_other.code() == DA3_OK);
    for (Ticket& t : waiting) CHECK(t.calls() == 1);
  }

  TEST_CASE("close of an idle engine, and right after a submit") {
    open(Models::any_view());
    const Pictures pictures(1, 1, 14, 14);
    for (int i = 0; i < 20; ++i) {
      Ticket ticket;
      auto engine = open(Models::any_view());
      ticket.submit(*engine, pictures.request());
      engine.reset();
      CHECK(ticket.calls() == 1);
      CHECK((ticket.code() == DA3_OK || ticket.code() == DA3_ERROR_CANCELLED));
    }
  }

  TEST_CASE("threads submit and cancel at once: every request is answered exactly once, in order") {
    const auto engine = open(Models::any_view(), 3);
    const Pictures small(1, 1, 14, 14), large(2, 1, 14, 28);
    constexpr size_t kThreads = 4, kEach = 40;
    std::mutex locks[kThreads];
    std::vector<Ticket*> orders[kThreads];
    std::deque<Ticket> tickets[kThreads];
    std::vector<std::thread> threads;
    const char streams[kThreads] = {};
    for (size_t t = 0; t < kThreads; ++t) {
      tickets[t].resize(kEach);
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < kEach; ++i) {
          tickets[t][i].order = &orders[t];
          tickets[t][i].order_lock = &locks[t];
          tickets[t][i].submit(*engine, ((i / 3) % 2 ? large : small).request(DA3_OUTPUT_DEPTH, &streams[t]));
          if (t != 0) continue;
          if (i % 8 == 3) tickets[t][i].code();  // the first half of eight is done
          if (i % 8 == 7) engine->cancel(&streams[t]);
        }
      });
    }
    for (auto& t : threads) t.join();
    size_t cancelled = 0;
    for (size_t t = 0; t < kThreads; ++t) {
      for (Ticket& ticket : tickets[t]) {
        const bool good = ticket.code() == DA3_OK;
        CHECK((good || (t == 0 && ticket.code() == DA3_ERROR_CANCELLED)));
        cancelled += !good;
      }
      CHECK(orders[t].size() == kEach);
    }
    // Where nothing was cancelled the order is that of submission.
    for (size_t t = 1; t < kThreads; ++t)
      for (size_t i = 0; i < kEach; ++i) CHECK(orders[t][i] == &tickets[t][i]);
    CHECK(cancelled <= kEach / 2);
    engine->cancel(nullptr);
    for (auto& list : tickets)
      for (Ticket& ticket : list) CHECK(ticket.calls() == 1);
  }
}
TEST_SUITE("deadlines") {
  TEST_CASE("what is late ends as expired, if it wants to, and costs no pass") {
    const auto engine = open(Models::any_view(), 4);
    const Pictures pictures(1, 1);
    Ticket late, late_but_wanted, in_time;
    Da3Request r = pictures.request();
    r.deadline_ns = 1;
    {
      const Busy busy(*engine);
      late_but_wanted.submit(*engine, r);
      r.flags = DA3_REQUEST_DROP_EXPIRED;
      late.submit(*engine, r);
      r.deadline_ns =
          std::chrono::steady_clock::now().time_since_epoch().count() + int64_t(3600) * 1'000'000'000;
      in_time.submit(*engine, r);
    }
    CHECK(late.code() == DA3_ERROR_EXPIRED);
    CHECK(!late.message().empty());
    CHECK(late_but_wanted.code() == DA3_OK);
    CHECK(in_time.code() == DA3_OK);
    CHECK(engine->stats().expired == 1);
  }

  TEST_CASE("that are none are refused") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 1);
    Da3Request r = pictures.request();
    r.deadline_ns = -1;
    CHECK(submit_refusal(*engine, r).says("deadline"));
    r.deadline_ns = 0;
    r.flags = 1u << 7;
    CHECK(submit_refusal(*engine, r).says("flags"));
  }

  TEST_CASE("a caller that does not know them is served") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 1);
    Da3Request r = pictures.request();
    r.struct_size = DA3_REQUEST_SIZE_1;
    r.deadline_ns = -1;  // beyond what it says it filled
    r.flags = 0xffffffffu;
    Ticket ticket;
    ticket.submit(*engine, r);
    CHECK(ticket.code() == DA3_OK);
    Da3EngineConfig config = config_of(Models::any_view());
    config.struct_size = DA3_ENGINE_CONFIG_SIZE_1;
    config.cache_ttl_ms = -1;
    CHECK(EngineModule::instance().open(config) != nullptr);
  }
}

TEST_SUITE("statistics") {
  TEST_CASE("every request is counted once") {
    const auto engine = open(Models::any_view(), 4);
    const Da3EngineStats before = engine->stats();
    CHECK(before.struct_size == sizeof before);
    const Pictures pictures(1, 1);
    const char stream = 0;
    std::deque<Ticket> tickets(6);
    {
      const Busy busy(*engine);
      for (size_t i = 0; i < 4; ++i) tickets[i].submit(*engine, pictures.request());
      for (size_t i = 4; i < 6; ++i) tickets[i].submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &stream));
      CHECK(engine->stats().waiting == 6);
      engine->cancel(&stream);
      CHECK(engine->stats().waiting == 4);
    }
    for (auto& t : tickets) t.code();
    const Da3EngineStats s = engine->stats();
    CHECK(s.submitted - before.submitted == 7);  // with the one that kept it busy
    CHECK(s.completed - before.completed == 5);
    CHECK(s.cancelled - before.cancelled == 2);
    CHECK(s.submitted == s.completed + s.failed + s.cancelled + s.expired + s.waiting + s.running);
    CHECK(s.batch_histogram[3] - before.batch_histogram[3] == 1);
    CHECK(s.batch_histogram[0] - before.batch_histogram[0] == 1);
    CHECK(s.service.p95_ns >= s.service.p50_ns);
    CHECK(s.service.p50_ns > 0);
    CHECK(s.queue_wait.count >= 5);
    CHECK(s.memory_weights == engine->info().parameters * 4);
    const auto in_8_bits = open(Models::any_view(), 1, DA3_PRECISION_INT8);
    const uint64_t least = in_8_bits->info().parameters, weights = in_8_bits->stats().memory_weights;
    CHECK(weights > least);
    CHECK(weights < 4 * least);
    CHECK(s.memory_used > 0);
    CHECK(s.memory_free > 0);
    CHECK(s.memory_budget > 0);
    CHECK(s.memory_budget <= s.memory_free * 2);
    const Da3ShapeStats shape = engine->shape_stats(shape_of());
    CHECK(shape.measured >= 1);
    CHECK(shape.batch_cap == 4);
    CHECK(shape.service.p95_ns > 0);
    CHECK(shape.memory_single > 0);
    CHECK(engine->shape_stats(shape_of(140, 140)).measured == 0);
  }

  TEST_CASE("the memory for passes is by the least fraction of those who use the engine") {
    const auto with = [](float fraction) {
      Da3EngineConfig config = config_of(Models::any_view());
      config.memory_fraction = fraction;
      return EngineModule::instance().open(config);
    };
    const auto part = [](Engine& engine) {
      // The free memory is looked at before a pass.
      Ticket ticket;
      ticket.submit(engine, Pictures(1, 1).request());
      CHECK(ticket.code() == DA3_OK);
      const Da3EngineStats s = engine.stats();
      return double(s.memory_budget) / double(s.memory_free);
    };
    const auto large = with(0.8f);
    const double most = part(*large);
    {
      const auto small = with(0.2f);
      CHECK(part(*large) < 0.4 * most);
      CHECK(part(*small) < 0.4 * most);
      const auto middle = with(0.6f);  // who comes last does not decide
      CHECK(part(*middle) < 0.4 * most);
    }
    CHECK(part(*large) > 0.7 * most);
  }

  TEST_CASE("who says nothing about memory wants the usual part of it, whatever another one says") {
    const auto part = [](float fraction) {
      Da3EngineConfig config = config_of(Models::any_view());
      config.memory_fraction = fraction;
      const auto engine = EngineModule::instance().open(config);
      const auto silent = EngineModule::instance().open(config_of(Models::any_view()));
      Ticket ticket;
      ticket.submit(*engine, Pictures(1, 1).request());
      CHECK(ticket.code() == DA3_OK);
      const Da3EngineStats s = engine->stats();
      return double(s.memory_budget) / double(s.memory_free);
    };
    // Free memory changes between the look and the question.
    CHECK(part(1) < 0.95);
    CHECK(part(0.2f) < 0.4);
  }

  TEST_CASE("of an older caller are not written beyond its structure") {
    const auto engine = open(Models::any_view());
    Da3EngineStats s{};
    s.waiting = s.running = 77;
    s.struct_size = offsetof(Da3EngineStats, running);
    // Through the table, as C callers do.
    const Da3EngineApi& api = EngineModule::instance().api();
    Da3EngineConfig config = config_of(Models::any_view());
    Da3Error error{};
    Da3Engine* handle = api.open(&config, &error);
    REQUIRE(handle != nullptr);
    api.stats(handle, &s);
    CHECK(s.waiting == 0);
    CHECK(s.running == 77);
    CHECK(s.struct_size == offsetof(Da3EngineStats, running));
    api.close(handle);
  }

  TEST_CASE("streams and users") {
    const auto engine = open(Models::any_view()), other = open(Models::any_view());
    const uint32_t streams = engine->stats().streams;
    const char a = 0, b = 0;
    engine->stream_begin(&a, {sizeof(Da3Stream), 2, 0});
    other->stream_begin(&a, {sizeof(Da3Stream), 2, 0});
    engine->stream_begin(&b, {sizeof(Da3Stream), 0, 33'000'000});
    CHECK(engine->stats().streams == streams + 3);
    CHECK(engine->stats().users == 2);
    engine->drain(&a);
    engine->stream_end(&a);
    engine->stream_end(&a);
    CHECK(engine->stats().streams == streams + 2);
    // A stream that ended is served all the same.
    const Pictures pictures(1, 1);
    Ticket ticket;
    ticket.submit(*engine, pictures.request(DA3_OUTPUT_DEPTH, &a));
    CHECK(ticket.code() == DA3_OK);
  }
}

TEST_SUITE("warm-up") {
  TEST_CASE("learns what passes cost, says how far it is, and submits nothing") {
    struct Seen {
      std::vector<double> loading, warm_up;
    } seen;
    Da3EngineConfig config = config_of(Models::mono());
    config.user = &seen;
    config.progress = [](void* user, Da3ProgressStage stage, double part) {
      auto* s = static_cast<Seen*>(user);
      (stage == DA3_PROGRESS_LOADING ? s->loading : s->warm_up).push_back(part);
    };
    const auto engine = EngineModule::instance().open(config);
    REQUIRE(seen.loading.size() >= 2);
    CHECK(seen.loading.front() == 0);
    CHECK(seen.loading.back() == 1);
    CHECK(seen.warm_up.empty());
    CHECK(engine->warm_up(shape_of()));
    CHECK(seen.warm_up.front() == 0);
    CHECK(seen.warm_up.back() == 1);
    for (const auto* list : {&seen.loading, &seen.warm_up}) CHECK(std::is_sorted(list->begin(), list->end()));
    CHECK(engine->stats().submitted == 0);
    const Da3ShapeStats s = engine->shape_stats(shape_of());
    CHECK(s.measured >= 3);
    CHECK(s.single_ns > 0);
    CHECK(s.cap_ns >= s.single_ns);
    CHECK(s.batch_cap >= 1);
    CHECK(s.items_per_second > 0);
    CHECK(s.memory_cap >= s.memory_single);
  }

  TEST_CASE("of what cannot be computed is refused as a request is") {
    const auto engine = open(Models::mono());
    const auto refusal = [&](const Da3Shape& shape) { return refusal_of([&] { engine->warm_up(shape); }); };
    CHECK(refusal(shape_of(55, 42)).says("multiple of 14"));
    Da3Shape shape = shape_of();
    shape.outputs = DA3_OUTPUT_POSE;
    CHECK(refusal(shape).code == DA3_ERROR_UNSUPPORTED);
    shape = shape_of();
    shape.n_views = 0;
    CHECK(refusal(shape).code == DA3_ERROR_SETTINGS);
    shape = shape_of();
    shape.use_ray_pose = 1;
    CHECK(refusal(shape).says("ray"));
  }

  TEST_CASE("can be stopped from its own progress") {
    struct Stop {
      Engine* engine = nullptr;
    } stop;
    Da3EngineConfig config = config_of(Models::any_view());
    config.user = &stop;
    config.progress = [](void* user, Da3ProgressStage stage, double part) {
      auto* s = static_cast<Stop*>(user);
      if (stage == DA3_PROGRESS_WARM_UP && part > 0) s->engine->warm_up_stop();
    };
    const auto engine = EngineModule::instance().open(config);
    stop.engine = engine.get();
    CHECK(refusal_of([&] { engine->warm_up(shape_of()); }).code == DA3_ERROR_CANCELLED);
  }
}

TEST_SUITE("the model cache") {
  TEST_CASE("keeps a model for the time asked for, and counts") {
    const std::string& model = Models::gaussians();
    Da3EngineConfig config = config_of(model);
    config.cache_ttl_ms = 3'600'000;
    const auto watch = open(Models::any_view());
    const auto before = watch->stats();
    EngineModule::instance().open(config).reset();
    const auto kept = watch->stats();
    CHECK(kept.cache_misses == before.cache_misses + 1);
    CHECK(kept.cache_memory > before.cache_memory);
    CHECK(kept.cache_evictions == before.cache_evictions);
    config.cache_ttl_ms = 0;
    EngineModule::instance().open(config).reset();
    const auto freed = watch->stats();
    CHECK(freed.cache_hits == kept.cache_hits + 1);
    CHECK(freed.cache_misses == kept.cache_misses);
    CHECK(freed.cache_memory == before.cache_memory);
    CHECK(freed.cache_evictions == kept.cache_evictions + 1);
  }

  TEST_CASE("settings that mean nothing are refused") {
    Da3EngineConfig config = config_of(Models::any_view());
    for (const float fraction : {-0.1f, 1.5f, NAN, INFINITY}) {
      config.memory_fraction = fraction;
      CHECK(refusal_of([&] { EngineModule::instance().open(config); }).says("memory-fraction"));
    }
    config.memory_fraction = 0.5f;
    config.cache_ttl_ms = -1;
    CHECK(refusal_of([&] { EngineModule::instance().open(config); }).says("cache-ttl"));
  }

  TEST_CASE("a model that cannot be loaded is tried again") {
    const TempDir temp;
    StoredTensors tensors = synthetic_tensors(tiny_config(tiny_mono()));
    const StoredTensors whole = tensors;
    tensors.erase(tensors.begin());
    const std::string folder = write_model(temp, "model", tiny_mono(), tensors);
    CHECK(open_refusal(folder).code == DA3_ERROR_WRONG_TYPE);
    write_model(temp, "model", tiny_mono(), whole);
    CHECK(open(folder) != nullptr);
  }

#ifdef __linux__
  TEST_CASE("many users of a model hold one copy of its weights") {
    const auto resident = [] {
      std::ifstream file("/proc/self/statm");
      uint64_t size = 0, pages = 0;
      file >> size >> pages;
      return pages * 4096;
    };
    const std::string model = "synthetic:da3-small?seed=77";
    const uint64_t none = resident();
    std::vector<std::unique_ptr<Engine>> engines;
    engines.push_back(open(model));
    const uint64_t one = resident();
    for (int i = 0; i < 7; ++i) engines.push_back(open(model));
    const uint64_t eight = resident();
    const uint64_t weights = engines[0]->stats().memory_weights;
    CHECK(weights > 80'000'000);
    CHECK(one > none);
    CHECK(eight < one + weights / 4);
    CHECK(engines[0]->stats().users == 8);
  }
#endif
}
