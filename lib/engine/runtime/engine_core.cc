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

// Runs `body`; when memory runs out and make_room() finds some, once more.
template <typename Body, typename MakeRoom>
auto with_room(Body&& body, MakeRoom&& make_room) -> decltype(body()) {
  try {
    return body();
  } catch (const EngineError& e) {
    if (e.code() != DA3_ERROR_NO_MEMORY || !make_room()) throw;
  } catch (const std::bad_alloc&) {
    if (!make_room()) throw;
  }
  return body();
}

// That of models that nobody uses.
bool evict_unused() {
  return EngineCore::registry().evict_unused();
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
    return weight_bytes_of(request.config, request.precision, request.plan.policy.beside_8_bits);
  };
  const auto load = [&] {
    return with_room(
        [&] { return std::make_shared<EngineCore>(load_model(request, notice, progress, cancelled)); },
        evict_unused);
  };
  return registry().acquire(request.key(), bytes, load, cancelled);
}

EngineCore::EngineCore(std::shared_ptr<const Model> model)
    : model_(std::move(model)),
      weight_bytes_(weight_bytes_of(model_->config, model_->precision, model_->plan.policy.beside_8_bits)),
      inference_(*model_),
      worker_(parts(), model_->plan.policy.batch_limit) {}

// A pass under way, and the memory that it took.
class EngineCore::Flight : public BatchWorker::Flight {
 public:
  Flight(EngineCore* core, std::unique_ptr<Pass> pass, BatchWorker::PassReport report)
      : core_(core), pass_(std::move(pass)), report_(report) {}
  std::vector<Da3Result*> finish(const std::vector<Item>& items, BatchWorker::PassReport* report) override {
    *report = report_;
    return core_->finish(std::move(pass_), items);
  }

 private:
  EngineCore* core_;
  std::unique_ptr<Pass> pass_;
  BatchWorker::PassReport report_;
};

BatchWorker::Parts EngineCore::parts() {
  BatchWorker::Parts parts;
  const auto make_room = [this] { return inference_.forget_recordings() || evict_unused(); };
  parts.run = [this, make_room](const std::vector<Item>& items, BatchWorker::PassReport* report) {
    const PassBlocks blocks;
    return with_room([&] { return begin(items)->finish(items, report); }, make_room);
  };
  if (inference_.works_beside())
    parts.begin = [this, make_room](const std::vector<Item>& items) -> std::unique_ptr<BatchWorker::Flight> {
      return with_room([&] { return begin(items); }, make_room);
    };
  parts.begins_at_once = [this](const std::vector<Item>& items) { return inference_.begins_at_once(items); };
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

// Runs `body`; where memory runs out, says for what. `peak`: bytes that the pass held at most.
template <typename Body, typename Peak>
auto EngineCore::explained(const std::vector<Item>& items, Peak&& peak, Body&& body) const
    -> decltype(body()) {
  try {
    return body();
  } catch (const EngineError& e) {
    if (e.code() != DA3_ERROR_NO_MEMORY) throw;
    throw EngineError(e.code(), explain_memory(items.front(), items.size(), peak(), e.detail()), e.detail());
  }
}

std::unique_ptr<EngineCore::Flight> EngineCore::begin(const std::vector<Item>& items) {
  const OnDevice here(model_->device);
  const PassMemory memory(model_->device);
  const auto math = math_for(*model_);
  threads_are_used();
  auto pass = explained(
      items, [&] { return memory.peak(); }, [&] { return inference_.begin(items); });
  tell_remark(items);
  device_used_ = memory.allocated();
  allocator_reserve_ = memory.reserved() - std::min(memory.reserved(), memory.allocated());
  BatchWorker::PassReport report;
  // What a recording needs was taken when it was made.
  report.bytes = inference_.replayed() ? 0 : memory.peak();
  report.typical = !inference_.proving();
  return std::make_unique<Flight>(this, std::move(pass), report);
}

std::vector<Da3Result*> EngineCore::finish(std::unique_ptr<Pass> pass, const std::vector<Item>& items) {
  const OnDevice here(model_->device);
  const auto planes = [&] { return inference_.finish(std::move(pass), items); };
  std::vector<Da3Result*> results;
  for (auto& p : explained(
           items, [] { return uint64_t(0); }, planes))
    results.push_back(make_result(std::move(p)));
  return results;
}

void EngineCore::tell_remark(const std::vector<Item>& items) {
  const Client* const client = items.front().client;
  if (!client || !client->warning) return;
  const std::string remark = inference_.take_remark();
  if (remark.empty()) return;
  const std::string text = "Passes on " + model_->device.str() + " are not recorded (" + remark +
                           "). Results are the same; single pictures may take longer.";
  client->warning(client->user, DA3_ERROR_UNSUPPORTED, text.c_str());
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
