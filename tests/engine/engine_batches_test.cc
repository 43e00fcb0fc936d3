// SPDX-License-Identifier: MIT
//
// The engine through its border: batches, and that they never change a result.
#include "batches.h"

using namespace da3;
using namespace da3::test;

TEST_SUITE("batches") {
  TEST_CASE("requests that wait together run together, with the same results") {
    const auto engine = open(Models::any_view(), 4);
    std::deque<Pictures> pictures;
    std::vector<Tensor> alone;
    for (int i = 0; i < 4; ++i) {
      pictures.emplace_back(i, 2);
      Ticket ticket;
      ticket.submit(*engine, pictures.back().request());
      CHECK(ticket.data().batch == 1);
      alone.push_back(depth_of(ticket.data()));
    }
    std::deque<Ticket> tickets(4);
    const char streams[4] = {};
    {
      const Busy busy(*engine);
      for (size_t i = 0; i < 4; ++i)
        tickets[i].submit(*engine, pictures[i].request(DA3_OUTPUT_DEPTH, &streams[i]));
    }
    for (size_t i = 0; i < 4; ++i) {
      CHECK(tickets[i].data().batch == 4);
      CHECK(distance(depth_of(tickets[i].data()), alone[i]) < 2e-5);
      CHECK(distance(depth_of(tickets[i].data()), alone[(i + 1) % 4]) > 1e-3);
    }
  }

  TEST_CASE("of two clients of one engine, and never more than the smaller cap") {
    const auto a = open(Models::any_view(), 8), b = open(Models::any_view(), 2);
    std::deque<Ticket> tickets(5);
    const Pictures pictures(1, 1);
    {
      const Busy busy(*a);
      for (size_t i = 0; i < 5; ++i) tickets[i].submit(i % 2 ? *b : *a, pictures.request());
    }
    for (auto& t : tickets) {
      CHECK(t.code() == DA3_OK);
      CHECK(t.data().batch <= 3);
    }
    CHECK(tickets[0].data().batch == 2);
  }

  TEST_CASE("different requests run apart, in the order of their stream") {
    const auto engine = open(Models::any_view(), 8);
    const Pictures small(1, 1, 14, 14), large(1, 1, 28, 14), pair(1, 2, 14, 14);
    std::vector<Ticket*> order;
    std::mutex lock;
    std::deque<Ticket> tickets(9);
    {
      const Busy busy(*engine);
      for (size_t i = 0; i < 9; ++i) {
        tickets[i].order = &order;
        tickets[i].order_lock = &lock;
        tickets[i].submit(*engine, (i % 3 == 0 ? small : i % 3 == 1 ? large : pair).request());
      }
    }
    for (auto& t : tickets) CHECK(t.data().batch == 1);
    REQUIRE(order.size() == 9);
    for (size_t i = 0; i < 9; ++i) CHECK(order[i] == &tickets[i]);
  }
}

namespace {

// Every kind of network, and what it gives.
struct Kind {
  const char* name;
  const std::string& (*model)();
  uint32_t outputs;
  int views;
};
const Kind kKinds[] = {
    {"any view, one", Models::any_view, kAllOutputs, 1},
    {"any view, three", Models::any_view, kAllOutputs, 3},
    {"mono with sky", Models::mono, DA3_OUTPUT_DEPTH | DA3_OUTPUT_SKY, 1},
    {"nested with sky", Models::nested, kAllOutputs, 2},
    {"with Gaussians", Models::gaussians, DA3_OUTPUT_DEPTH | DA3_OUTPUT_CONFIDENCE, 1},
};

// float32 with sums in another order; the tiny networks amplify little.
constexpr double kRounding = 5e-5;
// 8 bits of mantissa: two units in the last place, for processors that add up in another order. (Where our
// own kernels run the bits are the same.)
constexpr double kRoundingBf16 = 0.01, kRoundingInt8 = 0.01;

}  // namespace

TEST_SUITE("a batch never changes a result") {
  TEST_CASE("any size and composition: the result of the item alone, up to rounding") {
    for (const Kind& kind : kKinds) {
      CAPTURE(kind.name);
      const auto engine = open(kind.model(), 5);
      std::deque<Pictures> pictures;
      std::vector<std::vector<Tensor>> alone;
      for (int i = 0; i < 5; ++i) {
        pictures.emplace_back(i, kind.views);
        Ticket ticket;
        ticket.submit(*engine, pictures.back().request(kind.outputs));
        CHECK(ticket.data().batch == 1);
        alone.push_back(planes_of(ticket.data()));
        CHECK(alone.back().size() >= 2);
      }
      const std::vector<std::vector<size_t>> compositions = {{0, 1},          {1, 0},          {2, 2, 2},
                                                             {0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {3, 0, 3, 1}};
      for (const auto& order : compositions) {
        const auto together = run_together(*engine, pictures, order, kind.outputs);
        for (size_t i = 0; i < order.size(); ++i) {
          CHECK(greatest_distance(together[i], alone[order[i]]) < kRounding);
          // And of no other item.
          CHECK(greatest_distance(together[i], alone[(order[i] + 1) % 5]) > 10 * kRounding);
        }
      }
    }
  }

  TEST_CASE("as many as the engine ever learns to put together: the same") {
    for (const Kind& kind : kKinds) {
      CAPTURE(kind.name);
      const auto engine = open(kind.model(), 32);
      std::deque<Pictures> pictures;
      std::vector<std::vector<Tensor>> alone;
      for (int i = 0; i < 3; ++i) {
        pictures.emplace_back(i, kind.views);
        Ticket ticket;
        ticket.submit(*engine, pictures.back().request(kind.outputs));
        alone.push_back(planes_of(ticket.data()));
      }
      for (const size_t size : {8, 17, 32}) {
        CAPTURE(size);
        std::vector<size_t> order;
        for (size_t i = 0; i < size; ++i) order.push_back((i * i + i / 5) % 3);
        const auto together = run_together(*engine, pictures, order, kind.outputs);
        for (size_t i = 0; i < size; ++i) {
          CHECK(greatest_distance(together[i], alone[order[i]]) < kRounding);
          CHECK(greatest_distance(together[i], alone[(order[i] + 1) % 3]) > 10 * kRounding);
        }
      }
    }
  }

  TEST_CASE("the same batch twice: the same bits") {
    for (const Kind& kind : kKinds) {
      CAPTURE(kind.name);
      const auto engine = open(kind.model(), 4);
      std::deque<Pictures> pictures;
      for (int i = 0; i < 4; ++i) pictures.emplace_back(i, kind.views);
      const auto once = run_together(*engine, pictures, {0, 1, 2, 3}, kind.outputs);
      const auto twice = run_together(*engine, pictures, {0, 1, 2, 3}, kind.outputs);
      for (size_t i = 0; i < 4; ++i) CHECK(all_same_bits(once[i], twice[i]));
    }
  }

  TEST_CASE("at a fixed size the place in the batch and the neighbours do not matter") {
    for (const Kind& kind : kKinds) {
      CAPTURE(kind.name);
      const auto engine = open(kind.model(), 4);
      std::deque<Pictures> pictures;
      for (int i = 0; i < 8; ++i) pictures.emplace_back(i, kind.views);
      const auto reference = run_together(*engine, pictures, {0, 1, 2, 3}, kind.outputs);
      const auto reversed = run_together(*engine, pictures, {3, 2, 1, 0}, kind.outputs);
      const auto strangers = run_together(*engine, pictures, {0, 5, 6, 7}, kind.outputs);
      const auto turned = run_together(*engine, pictures, {1, 2, 3, 0}, kind.outputs);
      // Sums are in the same order wherever an item is in our own kernels; what runs without AVX-512 may have
      // another one for the rows that are left over at the end.
      const bool same_bits = kernels::has_avx512();
      for (size_t i = 0; i < 4; ++i) {
        for (const auto& planes : {reversed[3 - i], turned[(i + 3) % 4]}) {
          CHECK(greatest_distance(planes, reference[i]) < kRounding);
          if (same_bits) CHECK(all_same_bits(planes, reference[i]));
        }
      }
      // In its place an item gives the same bits, whoever is beside it.
      CHECK(all_same_bits(strangers[0], reference[0]));
    }
  }

  TEST_CASE("in half precision and with 8-bit layers too, within their rounding") {
    const DeviceTraits traits = traits_of(at::kCPU);
    struct Case {
      const char* name;
      Da3Precision precision;
      bool native;
      double bound;  // of the greatest distance
    };
    for (const Case& c : {Case{"bf16", DA3_PRECISION_BF16, traits.native_bf16, kRoundingBf16},
                          Case{"int8", DA3_PRECISION_INT8, traits.native_int8, kRoundingInt8}}) {
      if (!c.native) {
        MESSAGE(c.name << " is not native on this processor: its batches are not compared here");
        continue;
      }
      for (const Kind& kind : kKinds) {
        CAPTURE(std::string(c.name));
        CAPTURE(std::string(kind.name));
        const auto engine = open(kind.model(), 4, c.precision);
        CHECK(engine->info().precision == c.precision);
        std::deque<Pictures> pictures;
        std::vector<std::vector<Tensor>> alone;
        for (int i = 0; i < 8; ++i) {
          pictures.emplace_back(i, kind.views);
          Ticket ticket;
          ticket.submit(*engine, pictures.back().request(kind.outputs));
          CHECK(ticket.data().batch == 1);
          alone.push_back(planes_of(ticket.data()));
        }
        const std::vector<size_t> order = {0, 1, 2, 3};
        const auto together = run_together(*engine, pictures, order, kind.outputs);
        const auto again = run_together(*engine, pictures, order, kind.outputs);
        const auto reversed = run_together(*engine, pictures, {3, 2, 1, 0}, kind.outputs);
        const auto strangers = run_together(*engine, pictures, {0, 5, 6, 7}, kind.outputs);
        for (size_t i = 0; i < 4; ++i) {
          CHECK(all_same_bits(again[i], together[i]));
          CHECK(greatest_distance(together[i], alone[i]) < c.bound);
          CHECK(greatest_distance(reversed[3 - i], together[i]) < c.bound);
          // And of no other item.
          CHECK(greatest_distance(together[i], alone[(i + 1) % 4]) > 10 * c.bound);
        }
        CHECK(all_same_bits(strangers[0], together[0]));
      }
    }
  }

  TEST_CASE("what spoils one item stays in it") {
    const auto engine = open(Models::any_view(), 3);
    std::deque<Pictures> pictures;
    for (int i = 0; i < 3; ++i) pictures.emplace_back(i, 2);
    auto [e, k] = make_cameras(1, 2);
    // Cameras at one place have no scale: whatever that gives, the neighbours have theirs.
    const Tensor same_place = e.clone();
    same_place.select(3, 3).zero_();
    std::deque<Ticket> tickets(3), clean(3);
    const auto run = [&](std::deque<Ticket>& to, const Tensor& middle, const Tensor& k) {
      const Busy busy(*engine);
      for (size_t i = 0; i < 3; ++i) {
        Da3Request r = pictures[i].request();
        r.extrinsics = (i == 1 ? middle : e).data_ptr<float>();
        r.intrinsics = k.data_ptr<float>();
        to[i].submit(*engine, r);
      }
    };
    run(tickets, same_place, k);
    run(clean, e, k);
    for (const size_t i : {0, 2}) {
      CHECK(tickets[i].data().batch == 3);
      CHECK(same_bits(depth_of(tickets[i].data()), depth_of(clean[i].data())));
    }
  }
}
