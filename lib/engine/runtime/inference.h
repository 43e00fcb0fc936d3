// SPDX-License-Identifier: MIT
//
// One forward pass for a batch of items, from 8-bit pixels to results in host memory.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/runtime/batch_former.h"
#include "engine/runtime/lanes.h"
#include "engine/runtime/model.h"
#include "engine/runtime/recorded_passes.h"

namespace da3 {

// Reference-counted; owns the planes that `data` points to.
struct ResultPlanes {
  Da3ResultData data{};
  std::vector<at::Tensor> owned;
  std::string failure;  // not empty: this item went wrong, and why; the others of its batch are good
};

// A batch on its way through a device.
struct Pass {
  NetworkOptions options;
  std::vector<NetworkOutput> items;  // in host memory; of a GPU when `done` is reached
  bool finished = false;             // by the network, where it was computed
  int64_t started = 0;
  // Of a GPU: what it still works on.
  Tensor bytes;
  NetworkOutput output;
  std::optional<Mark> done;
};

// Passes of one model, which must outlive it. For one thread; on a GPU it uses streams of its own.
class Inference {
 public:
  explicit Inference(const Model& model);
  ~Inference();
  Inference(const Inference&) = delete;
  Inference& operator=(const Inference&) = delete;

  // The items must be compatible. Throws EngineError (NO_MEMORY when the device ran out) or c10::Error.
  // Results are independent of what shares the batch.
  std::vector<std::unique_ptr<ResultPlanes>> run(const std::vector<Item>& items);

  // The same in two halves: hands the items to the device, which computes them while this thread does
  // something else; and waits for them. Passes are finished in the order in which they were begun. Where the
  // device does not work by itself (CPU), begin() computes.
  std::unique_ptr<Pass> begin(const std::vector<Item>& items);
  std::vector<std::unique_ptr<ResultPlanes>> finish(std::unique_ptr<Pass> pass,
                                                    const std::vector<Item>& items);
  bool works_beside() const;
  // Whether begin() comes back before the device has computed anything: else it had better not be called
  // while another pass is under way.
  bool begins_at_once(const std::vector<Item>& items) const;

  // The last pass that was begun was a recording, and so took no memory of its own.
  bool replayed() const { return recorded_.replayed(); }
  // It was computed more than once, to make a recording or to compare it.
  bool proving() const { return recorded_.proving(); }
  // Gives back the memory of recorded passes; false: there were none.
  bool forget_recordings() { return recorded_.clear(); }
  size_t recordings() const { return recorded_.size(); }
  // Why passes are not recorded though they should be; once. Empty: nothing to tell.
  std::string take_remark() { return recorded_.take_remark(); }

 private:
  void compute_on_lanes(const std::vector<Item>& items, const NetworkOptions& options, Pass* pass);

  bool finishes_on_device() const;
  bool has_time(const std::vector<Item>& items, int64_t now) const;

  const Model& model_;
  std::unique_ptr<Lanes> lanes_;  // null: the device computes while the thread waits
  RecordedPasses recorded_;
  int64_t last_end_ = 0, last_time_ = 0;  // of passes, ns
};

// What passes are recorded by: everything that decides what is computed, but the pixels.
RecordedPasses::Key recording_key(const Item& item, size_t batch, const NetworkOptions& options);

}  // namespace da3
