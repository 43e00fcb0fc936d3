// SPDX-License-Identifier: MIT
#include "engine/runtime/batch_former.h"

#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <map>
#include <thread>

using da3::BatchFormer;
using da3::Item;

namespace {

const char kA = 0, kB = 0, kC = 0;

// Items are told apart by `user`.
Item make_item(const void* stream, intptr_t number, uint32_t max_batch = 8) {
  Item item;
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
    CHECK(numbers(former.next()) == Numbers{1, 2, 3, 4});
  }

  TEST_CASE("never more than the cap, of any member") {
    BatchFormer former;
    former.stop();
    for (intptr_t n = 1; n <= 5; ++n) former.push(make_item(&kA, n, 2));
    CHECK(numbers(former.next()) == Numbers{1, 2});
    CHECK(numbers(former.next()) == Numbers{3, 4});
    CHECK(numbers(former.next()) == Numbers{5});

    // The second item would be one of three: it allows two.
    former.push(make_item(&kA, 1, 8));
    former.push(make_item(&kB, 2, 2));
    former.push(make_item(&kC, 3, 8));
    CHECK(numbers(former.next()) == Numbers{1, 2});
    CHECK(numbers(former.next()) == Numbers{3});

    // An item that wants to be alone is.
    former.push(make_item(&kA, 1, 8));
    former.push(make_item(&kB, 2, 1));
    former.push(make_item(&kC, 3, 8));
    CHECK(numbers(former.next()) == Numbers{1, 3});
    CHECK(numbers(former.next()) == Numbers{2});
  }

  TEST_CASE("a cap of zero means one") {
    BatchFormer former;
    former.stop();
    former.push(make_item(&kA, 1, 0));
    former.push(make_item(&kA, 2, 0));
    CHECK(numbers(former.next()) == Numbers{1});
    CHECK(numbers(former.next()) == Numbers{2});
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
    CHECK(numbers(former.next()) == Numbers{1, 4});
    CHECK(numbers(former.next()) == Numbers{2});
    CHECK(numbers(former.next()) == Numbers{3});
  }

  TEST_CASE("the oldest goes first, however many others would fit together") {
    BatchFormer former;
    former.stop();
    Item large = make_item(&kA, 1);
    large.width = 140;
    former.push(large);
    for (intptr_t n = 2; n <= 4; ++n) former.push(make_item(&kB, n));
    CHECK(numbers(former.next()) == Numbers{1});
    CHECK(numbers(former.next()) == Numbers{2, 3, 4});
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
      const auto batch = former.next();
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
    CHECK(numbers(former.next()) == Numbers{2, 4, 6});
  }

  TEST_CASE("of nothing") {
    BatchFormer former;
    CHECK(former.remove([](const Item&) { return true; }).empty());
  }
}

TEST_SUITE("threads") {
  TEST_CASE("waits for the first item") {
    BatchFormer former;
    auto batch = std::async(std::launch::async, [&] { return numbers(former.next()); });
    former.push(make_item(&kA, 7));
    CHECK(batch.get() == Numbers{7});
  }

  TEST_CASE("stop wakes who waits") {
    BatchFormer former;
    auto first = std::async(std::launch::async, [&] { return former.next().size(); });
    auto second = std::async(std::launch::async, [&] { return former.next().size(); });
    former.stop();
    CHECK(first.get() == 0);
    CHECK(second.get() == 0);
    CHECK(former.next().empty());
  }

  TEST_CASE("what waits at the stop is still handed out") {
    BatchFormer former;
    former.push(make_item(&kA, 1, 1));
    former.push(make_item(&kA, 2, 1));
    former.stop();
    CHECK(numbers(former.next()) == Numbers{1});
    CHECK(numbers(former.next()) == Numbers{2});
    CHECK(former.next().empty());
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
        for (auto batch = former.next(); !batch.empty(); batch = former.next()) count(batch);
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
