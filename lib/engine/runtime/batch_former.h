// SPDX-License-Identifier: MIT
//
// The place where requests wait: a Scheduler with a lock, a clock and the requests themselves. No LibTorch.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "engine/api/engine.h"
#include "engine/runtime/client.h"
#include "engine/runtime/scheduler.h"

namespace da3 {

// A request as it waits: its own copy of everything but the pixels.
struct Item {
  Client* client = nullptr;
  const void* stream = nullptr;
  std::vector<Da3View> views;
  int32_t width = 0, height = 0;
  uint32_t outputs = 0;
  Da3RefViewStrategy ref_view_strategy = DA3_REF_VIEW_SADDLE_BALANCED;
  bool use_ray_pose = false;
  std::vector<float> extrinsics, intrinsics;  // empty: unknown cameras
  uint32_t max_batch = 0;                     // 0: learned
  int64_t deadline = kNever;
  bool droppable = false;
  Da3DoneFunc done = nullptr;
  void* user = nullptr;
  int64_t submitted = 0;  // ns of the former's clock; set by push()
  uint64_t id = 0;        // set by push()

  // May share a forward pass with `other`.
  bool compatible(const Item& other) const { return kind() == other.kind(); }
  using Cost = std::tuple<int32_t, int32_t, size_t, uint32_t, bool>;
  using Kind = std::tuple<Cost, int, bool>;
  Cost cost() const { return {width, height, views.size(), outputs, use_ray_pose}; }
  Kind kind() const { return {cost(), int(ref_view_strategy), !extrinsics.empty()}; }
};

// Time as the former sees it; tests have their own.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  // Until `time`, or sooner.
  virtual void wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& guard,
                          int64_t time) {
    changed.wait_until(guard, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(time)));
  }
  static Clock& real();
};

// What became of requests and passes.
struct FormerCounters {
  uint64_t submitted = 0, completed = 0, failed = 0, cancelled = 0, expired = 0, batches = 0,
           memory_retries = 0;
  std::array<uint64_t, DA3_BATCH_BUCKETS> histogram{};
  uint32_t waiting = 0, running = 0, streams = 0;
  RecentValues<512> service, queue_wait;
};

// Thread-safe, but next() and what follows it are for one thread: the worker.
class BatchFormer {
 public:
  // `limit`: largest batch that is learned.
  explicit BatchFormer(uint32_t limit = 64, Clock& clock = Clock::real()) : clock_(clock), core_(limit) {}

  void push(Item item);
  // Takes out the waiting items for which `predicate` holds, in order; counted as cancelled.
  std::vector<Item> remove(const std::function<bool(const Item&)>& predicate);
  // The same for the waiting items of one stream; those that run will end as cancelled, see finished().
  std::vector<Item> abandon(const Client* client, const void* stream);
  void stream_begin(const Client* client, const void* stream, const StreamTraits& traits);
  void stream_end(const Client* client, const void* stream);
  void end_streams(const Client* client);  // all of it
  void drain(const Client* client, const void* stream);
  // Runs `task` between two batches on the thread that calls next(). Not after stop().
  bool add_task(std::function<void()> task);
  void stop();

  struct Work {
    std::vector<Item> batch, expired;
    std::function<void()> task;
    bool stopped = false;
    bool probe = false;  // the batch is one item whose deadline cannot be met by what was learned
  };
  // Blocks until there is something to do. Tasks and batches take turns. After stop(): what waits is handed
  // out first, then `stopped`.
  Work next();
  // What may be begun while a batch still runs: a batch as Scheduler::ahead() says, or nothing. Never blocks.
  // Nothing while a task waits: it runs between two batches.
  Work ahead();
  // A batch, or a part of one, is through: it took `time`, needed `bytes` (0 = not known) and `failed` or
  // not; of one that did not, the items in `bad` failed all the same (empty: none). From a time that is not
  // `typical` nothing is learned. Call before its items are delivered. Returns which were abandoned
  // meanwhile: they are counted as cancelled.
  std::vector<bool> finished(const std::vector<Item>& items, int64_t started, int64_t time, uint64_t bytes,
                             bool failed, const std::vector<bool>& bad = {}, bool typical = true);
  // Of a batch that has failed and will be tried again: takes out what was abandoned, counted as cancelled.
  std::vector<Item> take_abandoned(std::vector<Item>* items);
  // It did not fit into memory and will be tried in parts. True if a new limit was learned.
  bool out_of_memory(const std::vector<Item>& items);
  // A pass that nobody asked for (warm-up).
  void measured(const Item& like, uint32_t batch, int64_t time, uint64_t bytes);
  // Asked for the bytes that a pass may take before each decision, with the lock held. Before the first
  // next().
  void set_memory_source(std::function<uint64_t()> source) { memory_source_ = std::move(source); }

  FormerCounters counters() const;
  // Of the kind of `like`, as far as struct_size.
  void shape_stats(const Item& like, Da3ShapeStats* out) const;
  // What is learned about batches of the kind of `like`.
  uint32_t cap(const Item& like, bool explore);
  // The size of the pass that would show most, 0 = enough is known.
  uint32_t to_measure(const Item& like);
  int64_t now() const { return clock_.now(); }

 private:
  struct Learned {
    uint32_t index;
    uint64_t used = 0;  // for forgetting
    RecentValues<256> service, queue_wait;
  };
  struct Running {
    Job job;
    const Client* client;
    const void* stream;
    bool abandoned = false;
  };
  uint64_t stream_id(const Client* client, const void* stream);
  Learned& learned(const Item& like);
  const Learned* find_learned(const Item& like) const;
  uint32_t kind_of(const Item& item);
  Item take(uint64_t id);
  void hand_out(const Decision& decision, Work* work);
  void forget_kinds();

  Clock& clock_;
  std::function<uint64_t()> memory_source_;
  mutable std::mutex lock_;
  std::condition_variable changed_;
  mutable Scheduler core_;
  std::unordered_map<uint64_t, Item> waiting_;
  std::unordered_map<uint64_t, Running> running_;
  std::map<std::pair<const Client*, const void*>, uint64_t> streams_;
  std::map<Item::Kind, uint32_t> kinds_;
  std::map<Item::Cost, Learned> learned_;
  std::deque<std::function<void()>> tasks_;
  FormerCounters counters_;
  uint64_t next_id_ = 1, next_stream_ = 1, uses_ = 0;
  uint32_t next_kind_ = 1;
  bool stopped_ = false, task_was_last_ = false;
};

}  // namespace da3
