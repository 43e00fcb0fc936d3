// SPDX-License-Identifier: MIT
#include "engine/runtime/cuda_graph.h"

#ifdef DA3_CUDA_GRAPHS
#include <ATen/cuda/CUDAGraph.h>
#include <torch/version.h>
#endif

namespace da3 {

#ifdef DA3_CUDA_GRAPHS

namespace {

using Pool = decltype(at::cuda::graph_pool_handle());

class Graph : public Recording {
 public:
  // All graphs of a recorder share their memory: one is done at a time, and what it gave is copied before the
  // next one.
  void begin(const Pool& pool) {
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 1)
    // Other threads may do what cannot be recorded meanwhile.
    graph_.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
#else
    graph_.capture_begin(pool);
#endif
  }
  void end() {
    graph_.capture_end();
  }
  void replay() override {
    graph_.replay();
  }

 private:
  at::cuda::CUDAGraph graph_;
};

// What goes wrong while a recording is broken off says less than what broke it.
void abandon(Graph& graph) {
  try {
    graph.end();
  } catch (const std::exception&) {
  }
}

}  // namespace

Recorder cuda_graph_recorder(at::Device device) {
  if (!device.is_cuda()) return {};
  return [pool = at::cuda::graph_pool_handle()](const std::function<void()>& body) {
    auto graph = std::make_unique<Graph>();
    graph->begin(pool);
    try {
      body();
    } catch (...) {
      abandon(*graph);
      throw;
    }
    graph->end();
    return graph;
  };
}

#else

Recorder cuda_graph_recorder(at::Device) {
  return {};
}

#endif

}  // namespace da3
