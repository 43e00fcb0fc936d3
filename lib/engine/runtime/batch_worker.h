// SPDX-License-Identifier: MIT
//
// The one permanent thread of an engine: takes batches from a BatchFormer, runs them, hands out what comes
// back. A batch that fails is run again in halves, so that in the end only those fail that fail alone. What
// "run" is comes from outside, so this is tested without LibTorch.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "engine/runtime/batch_former.h"

namespace da3 {

class BatchWorker {
 public:
  // Computes the items, which are compatible: one result each, in order; `*bytes` is what it took beyond what
  // was held before, 0 = not known. Throws EngineError (NO_MEMORY: the message is for a batch of one) or
  // anything else.
  using Run = std::function<std::vector<Da3Result*>(const std::vector<Item>& items, uint64_t* bytes)>;
  struct Parts {
    Run run;
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
  void work();
  int64_t run(std::vector<Item> batch);
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
