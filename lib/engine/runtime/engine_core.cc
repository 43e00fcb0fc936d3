// SPDX-License-Identifier: MIT
#include "engine/runtime/engine_core.h"

#include <c10/core/InferenceMode.h>

#include <new>

#include "engine/api/engine_error.h"
#include "engine/runtime/inference.h"
#include "engine/runtime/memory.h"
#include "engine/runtime/result.h"

namespace da3 {
namespace {

constexpr int64_t kLookInterval = 250'000'000;  // ns between two looks at the free memory

// Runs `body`; when memory runs out and there are models that nobody uses, once more without those.
template <typename Body>
auto with_room(Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const EngineError& e) {
    if (e.code() != DA3_ERROR_NO_MEMORY || !EngineCore::registry().evict_unused()) throw;
  } catch (const std::bad_alloc&) {
    if (!EngineCore::registry().evict_unused()) throw;
  }
  return body();
}

// The settings of a policy that LibTorch only has for the whole process, for the time of a pass.
class ScopedMath {
 public:
  explicit ScopedMath(const Model& model) : on_(model.device.is_cuda()) {
    if (!on_) return;
    auto& context = at::globalContext();
    benchmark_ = context.benchmarkCuDNN();
    blas_ = context.allowTF32CuBLAS();
    cudnn_ = context.allowTF32CuDNN();
    set(model.plan.policy.choose_convolutions, model.plan.policy.tf32, model.plan.policy.tf32);
  }
  ~ScopedMath() {
    if (on_) set(benchmark_, blas_, cudnn_);
  }
  ScopedMath(const ScopedMath&) = delete;
  ScopedMath& operator=(const ScopedMath&) = delete;

 private:
  static void set(bool benchmark, bool blas, bool cudnn) {
    auto& context = at::globalContext();
    context.setBenchmarkCuDNN(benchmark);
    context.setAllowTF32CuBLAS(blas);
    context.setAllowTF32CuDNN(cudnn);
  }
  const bool on_;
  bool benchmark_ = false, blas_ = false, cudnn_ = false;
};

}  // namespace

Registry<EngineCore>& EngineCore::registry() {
  static auto* const registry = new Registry<EngineCore>;
  return *registry;
}

uint64_t EngineCore::bytes_of(uint64_t parameters, Da3Precision precision) {
  const bool half = precision == DA3_PRECISION_FP16 || precision == DA3_PRECISION_BF16;
  return parameters * (half ? 2 : 4);
}

std::shared_ptr<EngineCore> EngineCore::acquire(const ModelRequest& request, const Notice& notice,
                                                const Progress& progress) {
  const auto bytes = [&request] {
    uint64_t parameters = 0;
    for (const KeyShape& k : network_keys(request.config)) {
      uint64_t n = 1;
      for (const int64_t side : k.shape) n *= uint64_t(side);
      parameters += n;
    }
    return bytes_of(parameters, request.precision);
  };
  return registry().acquire(request.key(), bytes, [&] {
    return with_room([&] { return std::make_shared<EngineCore>(load_model(request, notice, progress)); });
  });
}

EngineCore::EngineCore(std::shared_ptr<const Model> model)
    : model_(std::move(model)), worker_(parts(), model_->plan.policy.batch_limit) {}

BatchWorker::Parts EngineCore::parts() {
  BatchWorker::Parts parts;
  parts.run = [this](const std::vector<Item>& items, uint64_t* bytes) {
    return with_room([&] { return run(items, bytes); });
  };
  // Thread-local in LibTorch, so it is set where the network runs, for as long as the thread.
  parts.thread_started = [] { thread_local const c10::InferenceMode inference; };
  parts.memory_budget = [this] { return refresh_memory(); };
  parts.release = result_unref;
  return parts;
}

uint64_t EngineCore::refresh_memory() {
  const int64_t now = Clock::real().now();
  if (looked_ == 0 || now - looked_ > kLookInterval) {
    looked_ = now;
    device_free_ = device_memory(model_->device, allocator_reserve_).free;
  }
  return memory_budget();
}

uint64_t EngineCore::memory_budget() const {
  const uint64_t free = device_free_;
  return free > 0 ? uint64_t(double(free) * double(memory_fraction_)) : kUnlimitedMemory;
}

DeviceMemory EngineCore::memory() const {
  if (model_->device.is_cpu()) return device_memory(model_->device, 0);
  return {device_free_, device_used_};
}

std::vector<Da3Result*> EngineCore::run(const std::vector<Item>& items, uint64_t* bytes) {
  const PassMemory memory(model_->device);
  const ScopedMath math(*model_);
  std::vector<std::unique_ptr<ResultPlanes>> planes;
  try {
    planes = infer_batch(*model_, items);
  } catch (const EngineError& e) {
    if (e.code() != DA3_ERROR_NO_MEMORY) throw;
    throw EngineError(e.code(), explain_memory(items.front(), items.size(), memory.peak(), e.detail()),
                      e.detail());
  }
  *bytes = memory.peak();
  device_used_ = memory.allocated();
  allocator_reserve_ = memory.reserved() - std::min(memory.reserved(), memory.allocated());
  std::vector<Da3Result*> results;
  for (auto& p : planes) results.push_back(make_result(std::move(p)));
  return results;
}

std::string EngineCore::explain_memory(const Item& item, size_t batch, uint64_t peak,
                                       const std::string& detail) const {
  const uint64_t needed = peak + bytes_asked(detail).value_or(0);
  const DeviceMemory now = device_memory(model_->device, allocator_reserve_);
  std::string out = "Out of memory on " + model_->device.str() + " for ";
  if (batch > 1) out += "a batch of " + std::to_string(batch) + " with ";
  out += std::to_string(item.views.size()) + " view(s) of " + std::to_string(item.width) + "x" +
         std::to_string(item.height) + " pixels";
  if (needed > 0) out += ": at least " + bytes_text(needed) + " are needed beside the weights";
  if (now.free > 0) out += std::string(needed > 0 ? ", " : ": ") + bytes_text(now.free) + " are free";
  return out + ". Lower process-res or views, or choose a smaller model or another device.";
}

}  // namespace da3
