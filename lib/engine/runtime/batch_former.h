// SPDX-License-Identifier: MIT
//
// Decides which items share a forward pass. The seam for smarter schedulers: the worker only asks for the
// next batch. No LibTorch.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/api/engine.h"

namespace da3 {

struct Client;  // one reference to an engine

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
  uint32_t max_batch = 1;
  Da3DoneFunc done = nullptr;
  void* user = nullptr;
  std::chrono::steady_clock::time_point submitted;

  // May share a forward pass with `other`.
  bool compatible(const Item& other) const;
};

// Takes the oldest item and whatever compatible items wait already; never waits for more. Items of one stream
// keep their order. Thread-safe.
class BatchFormer {
 public:
  void push(Item item);
  // Blocks until there is an item (then at least one is returned) or stop() was called (then empty).
  std::vector<Item> next();
  // Takes out the waiting items for which `predicate` holds, in order.
  std::vector<Item> remove(const std::function<bool(const Item&)>& predicate);
  void stop();

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<Item> waiting_;
  bool stopped_ = false;
};

}  // namespace da3
