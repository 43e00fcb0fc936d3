// SPDX-License-Identifier: MIT
#include "engine/runtime/cuda_graph.h"

#ifdef DA3_CUDA_GRAPHS
#include <ATen/cuda/CUDAGraph.h>
#include <torch/version.h>
// Before 2.5 the allocator's part in a recording that fails had other names.
#if TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR >= 205
#define DA3_RECORDS
#endif
// Since 2.11 the allocator of page-locked memory takes part, too.
#if TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR >= 211
#define DA3_RECORDS_PINNED
#include <ATen/core/CachingHostAllocator.h>
#endif
#endif

#ifdef DA3_RECORDS
#include <mutex>
#endif

namespace da3 {

#ifdef DA3_RECORDS

namespace {

using Pool = decltype(at::cuda::graph_pool_handle());

// LibTorch's generator of random numbers notes graphs that are begun and freed, without a lock.
std::recursive_mutex& one_at_a_time() {
  static auto* const mutex = new std::recursive_mutex;
  return *mutex;
}

class Graph : public Recording {
 public:
  Graph(at::Device device, std::shared_ptr<const Pool> pool)
      : device_(device), pool_(std::move(pool)), graph_(std::make_unique<at::cuda::CUDAGraph>()) {}
  ~Graph() override {
    const std::lock_guard<std::recursive_mutex> guard(one_at_a_time());
    graph_.reset();
  }
  void record(const std::function<void()>& body) {
    try {
      // Other threads may do what cannot be recorded meanwhile.
      graph_->capture_begin(*pool_, cudaStreamCaptureModeThreadLocal);
      begun_ = true;
      body();
    } catch (...) {
      abandon();
      throw;
    }
    try {
      graph_->capture_end();
    } catch (...) {
      leave_pool();
      throw;
    }
  }
  void replay() override { graph_->replay(); }

 private:
  // What goes wrong while a recording is broken off says less than what broke it.
  void abandon() {
    try {
      if (begun_) {
        graph_->capture_end();
        return;
      }
    } catch (const std::exception&) {
    }
    leave_pool();
  }
  // Where the end of a recording failed, the allocators may still be told that one is under way, and the
  // graph does not give its memory back. What has been ended throws.
  void leave_pool() {
    namespace cuda = c10::cuda::CUDACachingAllocator;
    leave([&] { cuda::endAllocateToPool(device_.index(), *pool_); },
          [&] { cuda::releasePool(device_.index(), *pool_); });
#ifdef DA3_RECORDS_PINNED
    auto* const pinned = at::getHostAllocator(at::kCUDA);
    leave([&] { pinned->end_allocate_to_pool(*pool_); }, [&] { pinned->release_pool(*pool_); });
#endif
  }
  static void leave(const std::function<void()>& end, const std::function<void()>& release) {
    try {
      end();
      release();
    } catch (const std::exception&) {
    }
  }

  const at::Device device_;
  const std::shared_ptr<const Pool> pool_;
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
  bool begun_ = false;
};

}  // namespace

// All graphs of a recorder share their memory: one is done at a time, and what it gave is copied before the
// next one. When the last one has gone its memory has, too, and the next one begins with another.
Recorder cuda_graph_recorder(at::Device device) {
  if (!device.is_cuda()) return {};
  return [device, shared = std::weak_ptr<const Pool>()](const std::function<void()>& body) mutable {
    const std::lock_guard<std::recursive_mutex> guard(one_at_a_time());
    std::shared_ptr<const Pool> pool = shared.lock();
    if (!pool) {
      pool = std::make_shared<const Pool>(at::cuda::graph_pool_handle());
      shared = pool;
    }
    auto graph = std::make_unique<Graph>(device, std::move(pool));
    graph->record(body);
    return graph;
  };
}

#else

Recorder cuda_graph_recorder(at::Device) {
  return {};
}

#endif

}  // namespace da3
