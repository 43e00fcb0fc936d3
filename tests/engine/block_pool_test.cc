// SPDX-License-Identifier: MIT
#include "engine/runtime/block_pool.h"

#include <doctest/doctest.h>

#include <cstring>
#include <thread>
#include <vector>

using da3::BlockPool;

namespace {

constexpr size_t kMega = size_t(1) << 20;

// Takes a block, writes to all of it and gives it back.
void* use(BlockPool& pool, size_t bytes) {
  void* const block = pool.take(bytes, true);
  REQUIRE(block);
  std::memset(block, 1, bytes);
  CHECK(pool.give_back(block) == bytes);
  return block;
}

}  // namespace

TEST_CASE("block pool: the next pass gets the blocks of the last one") {
  BlockPool pool;
  void* const a = use(pool, 3 * kMega);
  pool.end_pass();
  CHECK(use(pool, 3 * kMega) == a);
  CHECK(use(pool, 3 * kMega - 100) == a);
  CHECK(pool.made() == 1);
  CHECK(pool.taken() == 0);
  CHECK(pool.kept() == 3 * kMega);
}

TEST_CASE("block pool: blocks in use are never given out again") {
  BlockPool pool;
  void *const a = pool.take(kMega, true), *const b = pool.take(kMega, true);
  CHECK(a != b);
  CHECK(pool.taken() == 2 * kMega);
  CHECK(pool.give_back(a) == kMega);
  CHECK(pool.take(kMega, true) == a);
}

TEST_CASE("block pool: a block that is much too big is left for others") {
  BlockPool pool;
  use(pool, 8 * kMega);
  void* const small = pool.take(2 * kMega, true);
  CHECK(pool.made() == 2);
  CHECK(pool.give_back(small) == 2 * kMega);
}

TEST_CASE("block pool: what passes do not need is not kept") {
  BlockPool pool;
  void* const weights = pool.take(4 * kMega, false);
  std::memset(weights, 1, 4 * kMega);
  CHECK(pool.give_back(weights) == 4 * kMega);
  CHECK(pool.kept() == 0);
  use(pool, 2 * kMega);
  CHECK(pool.take(2 * kMega, false) != nullptr);  // nor are kept blocks spent on it
  CHECK(pool.kept() == 2 * kMega);
}

TEST_CASE("block pool: at most half as much again as passes once used at the same time") {
  BlockPool pool;
  for (int round = 0; round < 3; ++round)
    for (const size_t megas : {2, 5, 9, 3, 7, 4}) {
      use(pool, megas * kMega);
      CHECK(pool.kept() + pool.taken() <= 27 * kMega / 2);
    }
  CHECK(pool.kept() > 9 * kMega);  // those of other sizes are there for the next pass
  void* const held = pool.take(6 * kMega, true);
  use(pool, 5 * kMega);
  CHECK(pool.kept() + pool.taken() <= 33 * kMega / 2);
  CHECK(pool.give_back(held) == 6 * kMega);
}

TEST_CASE("block pool: blocks that take turns within a pass are all there in the next one") {
  BlockPool pool;
  const auto pass = [&] {
    use(pool, 8 * kMega);
    use(pool, 4 * kMega);
    pool.end_pass();
  };
  pass();
  const uint64_t made = pool.made();
  pass();
  CHECK(pool.made() == made);
}

TEST_CASE("block pool: unused for two passes, gone") {
  BlockPool pool;
  use(pool, kMega);
  pool.end_pass();
  pool.end_pass();
  CHECK(pool.kept() == kMega);
  pool.end_pass();
  CHECK(pool.kept() == 0);
}

TEST_CASE("block pool: trimming gives everything back and forgets how much there was") {
  BlockPool pool;
  void* const held = pool.take(2 * kMega, true);
  use(pool, 9 * kMega);
  pool.trim();
  CHECK(pool.kept() == 0);
  CHECK(pool.taken() == 2 * kMega);
  std::memset(held, 1, 2 * kMega);  // is still there
  use(pool, 3 * kMega);
  use(pool, 4 * kMega);
  CHECK(pool.kept() <= 4 * kMega);
  CHECK(pool.give_back(held) == 2 * kMega);
}

TEST_CASE("block pool: other memory is none of its business") {
  BlockPool pool;
  std::vector<char> other(64);
  void* const a = pool.take(kMega, true);
  CHECK(pool.give_back(other.data()) == 0);
  CHECK(pool.give_back(nullptr) == 0);
  CHECK(pool.give_back(static_cast<char*>(a) + 4096) == 0);
  CHECK(pool.give_back(a) == kMega);
  CHECK(pool.give_back(a) == 0);  // already back
  CHECK(pool.kept() == kMega);
}

TEST_CASE("block pool: impossible sizes give nothing and break nothing") {
  BlockPool pool;
  use(pool, kMega);
  CHECK(pool.take(SIZE_MAX, true) == nullptr);
  CHECK(pool.take(SIZE_MAX - 8192, true) == nullptr);
  CHECK(pool.take(SIZE_MAX / 2, false) == nullptr);
  CHECK(pool.taken() == 0);
  use(pool, kMega);
  void* const empty = pool.take(0, true);
  CHECK(empty);
  pool.give_back(empty);
}

TEST_CASE("block pool: several threads") {
  BlockPool pool;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&pool, t] {
      for (int i = 0; i < 50; ++i) {
        const size_t bytes = kMega + size_t(i % 3) * 64 * 1024;
        auto* const block = static_cast<unsigned char*>(pool.take(bytes, true));
        std::memset(block, t, bytes);
        bool mine = true;
        for (size_t k = 0; k < bytes; k += 4096) mine &= block[k] == t;
        CHECK(mine);
        pool.give_back(block);
        if (i % 10 == 0) pool.end_pass();
      }
    });
  for (auto& t : threads) t.join();
  CHECK(pool.taken() == 0);
}
