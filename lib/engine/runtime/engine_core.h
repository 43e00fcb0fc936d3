// SPDX-License-Identifier: MIT
//
// A loaded model with its worker thread, shared by everybody who opened the same weights on the same device
// in the same precision.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/runtime/batch_former.h"
#include "engine/runtime/inference.h"
#include "engine/runtime/model.h"

namespace da3 {

class EngineCore {
 public:
  explicit EngineCore(std::shared_ptr<const Model> model);
  ~EngineCore();
  EngineCore(const EngineCore&) = delete;
  EngineCore& operator=(const EngineCore&) = delete;

  const Model& model() const { return *model_; }
  BatchFormer& queue() { return queue_; }

  // The engine for `request`: the one in use, or a new one. Loads of different models do not wait for each
  // other.
  static std::shared_ptr<EngineCore> get(const ModelRequest& request, const Notice& notice);

 private:
  void work();
  void run(std::vector<Item> batch);

  std::shared_ptr<const Model> model_;
  BatchFormer queue_;
  std::thread worker_;
};

// One reference to an engine: counts its unfinished requests, so that closing and cancelling can wait for
// them.
struct Client {
  std::shared_ptr<EngineCore> core;
  uint32_t max_batch = 1;

  void begin(const void* stream);
  void finish(const void* stream);
  void wait(const void* stream);  // until `stream` has nothing left
  void wait_all();

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  std::vector<const void*> unfinished_;  // one entry per request
};

// Hands an error or a result to the request's owner and counts it as finished.
void deliver(Item& item, std::unique_ptr<ResultPlanes> result);
void deliver(Item& item, Da3ErrorCode code, const std::string& message, const std::string& detail = {});

}  // namespace da3
