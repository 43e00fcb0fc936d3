// SPDX-License-Identifier: MIT
//
// A small version of what da3-simulate shows: the engine's own decisions against simulated cameras.
#include "simulator/simulator.h"

#include <doctest/doctest.h>

#include <stdexcept>

#include "simulator/placement.h"

using namespace da3::simulator;

namespace {

Settings few(const CostCurve& curve, uint32_t cameras, double load) {
  Settings s;
  s.curve = curve;
  s.cameras = cameras;
  s.max_latency_ms = curve.fixed_ms > curve.each_ms ? 100 : 1000;
  s.frame_rate = load * curve.capacity(s.max_latency_ms) / cameras;
  s.jitter_ms = 0.1 * 1000 / s.frame_rate;
  s.seconds = 40;
  s.warm_up_seconds = 10;
  return s;
}

Settings many(uint32_t devices) {
  Settings s;
  s.cameras = 100;
  s.devices = devices;
  s.max_latency_ms = 200;
  s.seconds = 6;
  return s;
}

}  // namespace

TEST_SUITE("live cameras on one device") {
  TEST_CASE("below capacity every frame is in time and none is dropped") {
    for (const CostCurve& curve : {gpu_curve(), cpu_curve()})
      for (const uint32_t cameras : {1u, 4u, 16u})
        for (const double load : {0.5, 0.9}) {
          CAPTURE(curve.name);
          CAPTURE(cameras);
          CAPTURE(load);
          const Settings s = few(curve, cameras, load);
          const Outcome o = simulate(s);
          CHECK(o.accounted());
          CHECK(o.offered > 100);
          CHECK(o.age_p95_ms <= s.max_latency_ms);
          CHECK(o.replaced + o.expired + o.late == 0);
          CHECK(o.in_time >= o.offered - o.pending);
        }
  }

  TEST_CASE("at five times capacity: age bounded, devices full, drops spread fairly") {
    for (const CostCurve& curve : {gpu_curve(), cpu_curve()})
      for (const uint32_t cameras : {1u, 4u, 16u}) {
        CAPTURE(curve.name);
        CAPTURE(cameras);
        const Settings s = few(curve, cameras, 5);
        const Outcome o = simulate(s);
        CHECK(o.accounted());
        CHECK(o.age_p95_ms <= s.max_latency_ms);
        CHECK(o.age_max_ms <= 1.3 * s.max_latency_ms);
        CHECK(o.fairness <= 1.2);
        CHECK(o.goodput() >= 0.9 * o.oracle);
        CHECK(double(o.late) <= 0.01 * double(o.offered));
      }
  }

  TEST_CASE("what is too much is replaced by a newer frame before the engine sees it, as da3infer does it") {
    for (const uint32_t cameras : {1u, 4u, 16u}) {
      CAPTURE(cameras);
      const Outcome over = simulate(few(gpu_curve(), cameras, 5));
      CHECK(over.replaced > 4 * over.expired);
      const Outcome under = simulate(few(gpu_curve(), cameras, 0.9));
      CHECK(under.replaced == 0);
      // With batches of one the engine does a seventh of what comes: hardly anything waits behind what runs.
      Settings s = few(gpu_curve(), cameras, 0.9);
      s.fixed_batch = 1;
      const Outcome single = simulate(s);
      CHECK(single.accounted());
      CHECK(single.replaced > single.in_time);
    }
  }

  TEST_CASE("a camera that is too fast for batches of one is served by larger ones") {
    Settings s = few(gpu_curve(), 4, 0.9);
    const Outcome learned = simulate(s);
    s.fixed_batch = 1;
    const Outcome single = simulate(s);
    CHECK(learned.mean_batch > 4);
    CHECK(learned.goodput() > 3 * single.goodput());
  }
}

TEST_SUITE("many cameras on many devices") {
  TEST_CASE("at least nine tenths of what nobody can exceed, below and above capacity") {
    for (const uint32_t devices : {1u, 2u, 4u, 5u, 8u}) {
      CAPTURE(devices);
      const Outcome o = simulate(many(devices));
      CHECK(o.accounted());
      CHECK(o.goodput() >= 0.9 * o.oracle);
      CHECK(o.goodput() <= o.oracle * 1.0001);
    }
  }

  TEST_CASE("the same seed, the same run; another seed, another") {
    Settings s = many(2);
    const std::string once = json_row(s, simulate(s)), twice = json_row(s, simulate(s));
    CHECK(once == twice);
    s.seed = 2;
    CHECK(json_row(s, simulate(s)) != once);
  }

  TEST_CASE("no cameras") {
    Settings s = many(1);
    s.cameras = 1;
    s.frame_rate = 0.01;
    s.seconds = 1;
    const Outcome o = simulate(s);
    CHECK(o.accounted());
    CHECK(o.offered <= 1);
  }
}

TEST_SUITE("the bound") {
  TEST_CASE("is what arrives, or what the devices can do in passes that are short enough") {
    Settings s = many(1);
    CHECK(oracle_rate(s, 10) == doctest::Approx(10));
    const double full = 1000.0 * 32 / gpu_curve().time_ms(32);
    CHECK(gpu_curve().capacity(1000) == doctest::Approx(full));
    CHECK(oracle_rate(s, 1e9) >= full);
    CHECK(oracle_rate(s, 1e9) <= full * 1.05);
    // 9.2 ms is one item: nothing larger helps within 10 ms, and nothing at all within 5.
    CHECK(gpu_curve().capacity(10) == doctest::Approx(1000.0 / 9.2));
    CHECK(gpu_curve().capacity(5) == 0);
  }
}

TEST_SUITE("placement") {
  TEST_CASE("spreads by load and speed, and leaves streams where they are") {
    Placement p({1.0, 1.0, 2.0});
    for (uint64_t s = 0; s < 40; ++s) p.add(s, 0.1);
    CHECK(p.load(0) == doctest::Approx(1.0));
    CHECK(p.load(1) == doctest::Approx(1.0));
    CHECK(p.load(2) == doctest::Approx(1.0));
    CHECK(!p.rebalance());
    p.set_work(0, 0.101);
    CHECK(!p.rebalance());
  }

  TEST_CASE("moves one stream when that helps, and settles") {
    Placement p({1.0, 1.0});
    for (uint64_t s = 0; s < 8; ++s) p.add(s, 0.1);
    std::vector<uint64_t> on_0;
    for (uint64_t s = 0; s < 8; ++s)
      if (p.device_of(s) == 0) on_0.push_back(s);
    for (const uint64_t s : on_0) p.remove(s);
    int moves = 0;
    while (const auto move = p.rebalance()) {
      CHECK(move->from == 1);
      CHECK(move->to == 0);
      CHECK(p.device_of(move->stream) == 0);
      REQUIRE(++moves <= 2);
    }
    CHECK(moves == 2);
    CHECK(p.load(0) == doctest::Approx(p.load(1)));
  }

  TEST_CASE("a device that is lost gives its streams to the others; the last one stays") {
    Placement p({1.0, 1.0, 1.0});
    for (uint64_t s = 0; s < 9; ++s) p.add(s, 0.1);
    CHECK(p.lose(1));
    for (uint64_t s = 0; s < 9; ++s) CHECK(p.device_of(s) != 1);
    CHECK(p.load(0) + p.load(2) == doctest::Approx(0.9));
    CHECK(p.lose(1));
    CHECK(p.lose(0));
    CHECK(!p.lose(2));
    for (uint64_t s = 0; s < 9; ++s) CHECK(p.device_of(s) == 2);
  }

  TEST_CASE("what cannot be is refused") {
    CHECK_THROWS_AS(Placement({}), std::invalid_argument);
    CHECK_THROWS_AS(Placement({1.0, 0.0}), std::invalid_argument);
    Placement p({1.0});
    p.add(1, 0.1);
    CHECK_THROWS_AS(p.add(1, 0.1), std::invalid_argument);
    CHECK_THROWS(p.remove(2));
    CHECK_THROWS(p.device_of(2));
  }
}

TEST_SUITE("reports") {
  TEST_CASE("the picture has both lines and no value that is no number") {
    std::vector<std::pair<Settings, Outcome>> rows;
    for (const uint32_t devices : {1u, 4u}) {
      Settings s = many(devices);
      s.seconds = 1;
      rows.emplace_back(s, simulate(s));
    }
    const std::string svg = svg_picture("title & more", rows);
    CHECK(svg.find("<svg") == 0);
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(svg.find("inf") == std::string::npos);
    CHECK(svg.find("title &amp; more") != std::string::npos);
    CHECK(svg.find("polyline") != std::string::npos);
    CHECK(svg_picture("nothing", {}).find("nan") == std::string::npos);
  }
}
