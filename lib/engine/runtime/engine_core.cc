// SPDX-License-Identifier: MIT
#include "engine/runtime/engine_core.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <new>
#include <optional>
#include <utility>

#include "engine/api/engine_error.h"
#include "engine/runtime/cpu_allocator.h"
#include "engine/runtime/device.h"
#include "engine/runtime/inference.h"
#include "engine/runtime/memory.h"
#include "engine/runtime/result.h"
#include "engine/runtime/scoped_math.h"

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

// The settings of a pass on a GPU; on the CPU they mean nothing.
std::optional<ScopedMath> math_for(const Model& model) {
  if (!model.device.is_cuda()) return {};
  return std::optional<ScopedMath>(
      std::in_place, MathSettings{model.plan.policy.choose_convolutions, model.plan.policy.tf32});
}

// The driver is asked about the memory of the thread's current device: of several GPUs the right one.
class OnDevice {
 public:
  explicit OnDevice(at::Device device) {
    if (device.is_cuda()) guard_.reset_device(device);
  }

 private:
  c10::OptionalDeviceGuard guard_;
};

}  // namespace

Registry<EngineCore>& EngineCore::registry() {
  static auto* const registry = new Registry<EngineCore>;
  return *registry;
}

std::shared_ptr<EngineCore> EngineCore::acquire(const ModelRequest& request, const Notice& notice,
                                                const Progress& progress, const Cancelled& cancelled) {
  const auto bytes = [&request] {
    return weight_bytes_of(request.config, request.precision, request.plan.policy.beside_int8);
  };
  const auto load = [&] {
    return with_room(
        [&] { return std::make_shared<EngineCore>(load_model(request, notice, progress, cancelled)); });
  };
  return registry().acquire(request.key(), bytes, load, cancelled);
}

EngineCore::EngineCore(std::shared_ptr<const Model> model)
    : model_(std::move(model)),
      weight_bytes_(weight_bytes_of(model_->config, model_->precision, model_->plan.policy.beside_int8)),
      worker_(parts(), model_->plan.policy.batch_limit) {}

BatchWorker::Parts EngineCore::parts() {
  BatchWorker::Parts parts;
  parts.run = [this](const std::vector<Item>& items, uint64_t* bytes) {
    return with_room([&] { return run(items, bytes); });
  };
  // Thread-local in LibTorch, so it is set where the network runs, for as long as the thread.
  parts.thread_started = [] { thread_local const c10::InferenceMode inference; };
  parts.memory_budget = [this] { return refresh_memory(); };
  parts.release = result_unref;
  parts.failure = result_failure;
  return parts;
}

void EngineCore::set_memory_fraction(const Client* client, float fraction) {
  const std::lock_guard<std::mutex> guard(fractions_lock_);
  fractions_[client] = fraction > 0 ? fraction : kMemoryFraction;
  follow_fractions();
}

void EngineCore::forget_memory_fraction(const Client* client) {
  const std::lock_guard<std::mutex> guard(fractions_lock_);
  fractions_.erase(client);
  follow_fractions();
}

void EngineCore::follow_fractions() {
  float least = fractions_.empty() ? kMemoryFraction : 1;
  for (const auto& [client, fraction] : fractions_) least = std::min(least, fraction);
  memory_fraction_ = least;
}

uint64_t EngineCore::refresh_memory() {
  const int64_t now = Clock::real().now();
  if (looked_ == 0 || now - looked_ > kLookInterval) {
    const OnDevice here(model_->device);
    device_free_ = device_memory(model_->device, allocator_reserve_).free;
    // A GPU does not say before something has been done on it: then the next pass asks again.
    if (device_free_ > 0) looked_ = now;
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
  const OnDevice here(model_->device);
  const PassMemory memory(model_->device);
  const auto math = math_for(*model_);
  threads_are_used();
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
  const OnDevice here(model_->device);
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
