// SPDX-License-Identifier: MIT
//
// The one permanent thread of an engine: takes batches from a BatchFormer, runs them, hands out what comes
// back. A batch that fails is run again in halves, so that in the end only those fail that fail alone. What
// "run" is comes from outside, so this is tested without LibTorch.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/runtime/batch_former.h"

namespace da3 {

class BatchWorker {
 public:
  // What a pass was.
  struct PassReport {
    uint64_t bytes = 0;   // that it took beyond what was held before, 0 = not known
    bool typical = true;  // false: it did more than compute, and its time says nothing about the next one
  };
  // Computes the items, which are compatible: one result each, in order. Throws EngineError (NO_MEMORY: the
  // message is for a batch of one) or anything else.
  using Run = std::function<std::vector<Da3Result*>(const std::vector<Item>& items, PassReport* report)>;
  // A pass that a device computes by itself.
  class Flight {
   public:
    virtual ~Flight() = default;
    // Waits for it; `items` are those that it was begun with. Otherwise as Run. Once.
    virtual std::vector<Da3Result*> finish(const std::vector<Item>& items, PassReport* report) = 0;
  };
  struct Parts {
    Run run;
    // run() in two halves, for a device that works beside the thread: hands the items to it and comes back.
    // At most two flights are under way at once; they are finished in the order in which they were begun.
    // Throws as run(), and nothing is under way then. May be null.
    std::function<std::unique_ptr<Flight>(const std::vector<Item>& items)> begin;
    // Whether begin() would come back at once: else what is under way is finished first. May be null: it
    // does.
    std::function<bool(const std::vector<Item>& items)> begins_at_once;
    std::function<void()> thread_started;     // on the worker thread, first
    std::function<uint64_t()> memory_budget;  // asked before decisions; may be null
    std::function<void(Da3Result*)> release;  // of results that nobody will get
    // Why a result is none, of an item that went wrong without harm to its batch; empty: it is good. May be
    // null.
    std::function<std::string(const Da3Result*)> failure;
  };

  BatchWorker(Parts parts, uint32_t limit, Clock& clock = Clock::real());
  // What waits is computed first.
  ~BatchWorker();
  BatchWorker(const BatchWorker&) = delete;
  BatchWorker& operator=(const BatchWorker&) = delete;

  BatchFormer& queue() { return former_; }
  const BatchFormer& queue() const { return former_; }
  // Runs `task` on the worker thread between two batches and waits for it; throws what it throws, as an
  // EngineError. False after the end.
  bool call(const std::function<void()>& task);
  // Measures passes of 1, 2, 4, ... copies of `like` as the cost model wants; see engine.h. `progress` on
  // this thread. Throws what run() throws for a single item. False: `stop` said so.
  bool warm_up(const Item& like, uint32_t most, const std::function<bool()>& stop,
               const std::function<void(double)>& progress);

 private:
  struct Flying {
    std::vector<Item> batch;
    int64_t started;
    std::unique_ptr<Flight> flight;
    bool typical = true;
  };
  struct Attempt;
  Attempt attempt(size_t size, const std::function<std::vector<Da3Result*>(PassReport*)>& pass);
  void work();
  int64_t run(std::vector<Item> batch);
  int64_t complete(std::vector<Item> batch, Attempt attempt, int64_t started);
  std::optional<Flying> begin(std::vector<Item> batch, std::optional<Flying> earlier);
  bool land(Flying flying, int64_t* ended);
  void run_halves(std::vector<Item> batch);
  void run_probe(std::vector<Item> batch);
  bool measure(const Item& like, uint32_t size, bool counts);
  void warn_of_memory(const std::vector<Item>& batch, const std::string& why);
  void warn_of_slowness(Client& client, const std::string& what, int64_t slack, int64_t time);

  Parts parts_;
  BatchFormer former_;
  std::thread worker_;
};

// Hands an error or a result to the request's owner and counts it as finished.
void deliver(Item& item, Da3Result* result);
void deliver(Item& item, Da3ErrorCode code, const std::string& message, const std::string& detail = {});

}  // namespace da3
