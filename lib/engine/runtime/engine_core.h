// SPDX-License-Identifier: MIT
//
// A loaded model with its worker thread, shared by everybody who opened the same weights on the same device
// in the same precision.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/runtime/batch_worker.h"
#include "engine/runtime/inference.h"
#include "engine/runtime/model.h"
#include "engine/runtime/pass_memory.h"
#include "engine/runtime/registry.h"

namespace da3 {

class EngineCore {
 public:
  explicit EngineCore(std::shared_ptr<const Model> model);

  const Model& model() const { return *model_; }
  BatchFormer& queue() { return worker_.queue(); }
  const BatchFormer& queue() const { return worker_.queue(); }
  BatchWorker& worker() { return worker_; }
  // Largest batch that is learned by itself.
  uint32_t limit() const { return model_->plan.policy.batch_limit; }

  // Part of the free memory that passes may take, 0..1: the least of what its users say, of who says 0 the
  // usual one. Thread-safe.
  void set_memory_fraction(const Client* client, float fraction);
  void forget_memory_fraction(const Client* client);
  // The device now, or on a GPU when the worker last looked.
  DeviceMemory memory() const;
  uint64_t memory_budget() const;
  uint64_t weight_bytes() const { return weight_bytes_; }

  // Those of this process. Never destroyed: at the end of a process LibTorch may be gone already.
  static Registry<EngineCore>& registry();
  // The engine for `request`: the one in use or kept, or a new one. To be given back to registry().
  static std::shared_ptr<EngineCore> acquire(const ModelRequest& request, const Notice& notice,
                                             const Progress& progress, const Cancelled& cancelled = {});

 private:
  class Flight;
  BatchWorker::Parts parts();
  std::unique_ptr<Flight> begin(const std::vector<Item>& items);
  std::vector<Da3Result*> finish(std::unique_ptr<Pass> pass, const std::vector<Item>& items);
  template <typename Body, typename Peak>
  auto explained(const std::vector<Item>& items, Peak&& peak, Body&& body) const -> decltype(body());
  void tell_remark(const std::vector<Item>& items);
  void follow_fractions();  // with the lock
  uint64_t refresh_memory();
  std::string explain_memory(const Item& item, size_t batch, uint64_t peak, const std::string& detail) const;

  std::shared_ptr<const Model> model_;
  const uint64_t weight_bytes_;
  static constexpr float kMemoryFraction = 0.85f;  // of those who say nothing
  std::mutex fractions_lock_;
  std::map<const Client*, float> fractions_;
  std::atomic<float> memory_fraction_{kMemoryFraction};
  std::atomic<uint64_t> device_free_{0}, device_used_{0}, allocator_reserve_{0};
  int64_t looked_ = 0;   // of the worker
  Inference inference_;  // likewise
  BatchWorker worker_;   // last: it uses the rest
};

}  // namespace da3
