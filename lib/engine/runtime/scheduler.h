// SPDX-License-Identifier: MIT
//
// Which requests share the next pass, and when it starts. The decisions alone: time is an argument, nothing
// waits, nothing runs, no thread and no LibTorch, so that a simulator can ask the same code with a clock of
// its own. docs/batching.md states the rules.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

#include "engine/runtime/cost_model.h"

namespace da3 {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// A request as the scheduler sees it. Times in ns of one clock.
struct Job {
  uint64_t id = 0;
  uint64_t stream = 0;
  uint32_t kind = 0;  // jobs of equal kind may share a pass
  uint32_t cost = 0;  // index of its CostModel; a function of the kind
  int64_t submitted = 0;
  int64_t deadline = kNever;
  uint32_t max_batch = 0;  // most in its batch, whatever was learned; 0 = what was learned
  bool droppable = false;  // may end as expired
};

struct StreamTraits {
  uint32_t max_pending = 0;  // 0 = any number
  int64_t interval = 0;      // 0 = not known
};

struct Decision {
  enum Action { idle, wait, run } action = idle;
  std::vector<Job> batch;    // run: to be computed now, then finished()
  std::vector<Job> expired;  // whatever the action: to be ended without work
  int64_t wake = kNever;     // wait: ask again then, or when something changed
  // run: `batch` is one job that would expire by what is known, but what is known is old.
  bool probe = false;
};

class Scheduler {
 public:
  // Limit of batch sizes for learned kinds.
  explicit Scheduler(uint32_t limit = 64) : limit_(limit) {}

  void stream_begin(uint64_t stream, const StreamTraits& traits);
  void stream_end(uint64_t stream);
  void drain(uint64_t stream);
  void drain_all();
  // Streams that are neither registered nor have anything unfinished may be forgotten.
  bool knows(uint64_t stream) const { return streams_.count(stream) != 0; }

  // Jobs of one stream are served in the order of push().
  void push(const Job& job);
  // Takes out waiting jobs, in the order of their streams.
  std::vector<Job> remove(const std::function<bool(const Job&)>& predicate);
  size_t waiting(uint64_t stream) const;
  Decision decide(int64_t now);
  // What a device may be handed while it still computes another batch: a batch that nothing could make
  // larger, of which and beside which nothing has a deadline. Else idle. Nothing expires and nothing waits by
  // it.
  Decision ahead(int64_t now);
  // The batch that decide() handed out has been computed, or has failed (then time = 0).
  void finished(const std::vector<Job>& batch, int64_t time, int64_t now);
  // A pass of `batch` items of that cost took `time`, and ended `now`.
  void observe(uint32_t cost, uint32_t batch, int64_t time, int64_t now);
  // A part of a batch that was handed out did not fit into memory. True if a new limit was learned.
  bool out_of_memory(uint32_t cost, uint32_t batch) { return costs(cost).out_of_memory(batch); }
  // Bytes that a pass may take.
  void set_memory_budget(uint64_t bytes) { memory_budget_ = bytes; }

  CostModel& costs(uint32_t cost) { return learned(cost).model; }
  // Nothing of that cost may be waiting or running.
  void forget_costs(uint32_t cost) { costs_.erase(cost); }
  size_t waiting() const { return waiting_; }
  size_t streams() const;         // registered ones
  size_t active_streams() const;  // of these, those from which more may come
  // The live stream that can wait least at `now` for a pass of others, of those that an idle engine can serve
  // in time.
  struct Tightest {
    int64_t wait = kNever;  // so long, before a job of its own has to run; kNever: there is no such stream
    int64_t room = kNever;  // what its jobs have until their deadlines as a rule
  };
  Tightest tightest(int64_t now) const;
  uint64_t memory_budget() const { return memory_budget_; }

 private:
  struct Stream {
    bool registered = false, drained = false;
    StreamTraits traits;
    std::deque<Job> waiting;
    uint32_t unfinished = 0;  // waiting or running
    uint32_t last_kind = 0;
    double served = 0;           // items, on a scale that all streams share
    int64_t last_push = kNever;  // kNever: none yet
    int64_t last_finish = kNever;
    double interval = 0;                  // measured, between pushes
    bool was_full = false;                // had max_pending unfinished at its last push
    double think = -1, think_spread = 0;  // measured, from the end of a pass to the next push; -1: not known
    uint32_t last_cost = 0;
    // Deadline - submission of late: the least, and the most. kNever: without deadlines.
    int64_t slack = kNever, room = kNever;
    bool closed_loop() const { return was_full && think >= 0; }
  };
  struct Candidate {
    const Job* job;
    Stream* stream;
    double tag;   // fair order
    int64_t due;  // order by deadline; own patience for jobs without one
    bool probe = false;
  };
  struct Learned {
    explicit Learned(uint32_t limit) : model(limit) {}
    CostModel model;
    int64_t looked = kNever;  // the last look at how long it takes; kNever: nobody asked for its age yet
    int64_t patience = 1;     // with the next try
    bool trying = false;      // one is handed out
  };
  enum class Order { deadline, fair };

  Learned& learned(uint32_t cost) { return costs_.try_emplace(cost, limit_).first->second; }
  // By what is known it would be late even if it ran now and alone, and it may be dropped.
  bool hopeless(const Job& job, int64_t now);
  // What is known is so old that it should be tried with this job: nothing runs, so nothing is learned.
  bool worth_a_try(const Job& job, int64_t now);
  void expire_front(Stream& stream, int64_t now, std::vector<Job>* out);
  void expire(int64_t now, std::vector<Job>* out);
  std::vector<Candidate> candidates(int64_t now);
  bool feasible(std::vector<Candidate> order, int64_t now);
  // Sorts; returns whether all deadlines can be met that way.
  bool arrange(std::vector<Candidate>& all, int64_t now);
  uint32_t cap_of(const Job& job);
  uint32_t most_together(const std::vector<Candidate>& same_kind);
  bool anything_is_due(int64_t now) const;
  void choose_in_time(std::vector<Candidate>& members, int64_t now, uint32_t cap);
  void choose_overloaded(std::vector<Candidate>& members, int64_t now, uint32_t cap,
                         std::vector<Job>* expired);
  uint32_t limit_blocking(const std::vector<Candidate>& members, int64_t now, uint32_t size);
  // When to ask again, or 0: now is the time to run.
  int64_t worth_waiting(const std::vector<Candidate>& members, int64_t now, uint32_t cap);
  bool waits(const std::vector<Candidate>& members, int64_t now, Decision* decision);
  void take_out(const Job& job);
  void hand_out(const std::vector<Candidate>& batch, const std::vector<Job>& passed_over, Decision* decision);
  void forget_idle();

  const uint32_t limit_;
  std::map<uint64_t, Stream> streams_;
  std::map<uint32_t, Learned> costs_;
  std::set<uint64_t> probes_;  // jobs that expire() left for a try
  size_t waiting_ = 0;
  double virtual_time_ = 0;
  int64_t pressed_until_ = std::numeric_limits<int64_t>::min();
  uint64_t memory_budget_ = kUnlimitedMemory;
};

}  // namespace da3
