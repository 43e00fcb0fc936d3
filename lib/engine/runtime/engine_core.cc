// SPDX-License-Identifier: MIT
#include "engine/runtime/engine_core.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <map>

#include "engine/api/engine_error.h"
#include "engine/runtime/result.h"

namespace da3 {
namespace {

// One entry per model ever asked for; loading holds the entry's lock only.
struct Slot {
  std::mutex loading;
  std::weak_ptr<EngineCore> core;
};

std::shared_ptr<Slot> slot_for(const std::string& key) {
  static std::mutex lock;
  static std::map<std::string, std::shared_ptr<Slot>> slots;
  const std::lock_guard<std::mutex> guard(lock);
  auto& slot = slots[key];
  if (!slot) slot = std::make_shared<Slot>();
  return slot;
}

}  // namespace

EngineCore::EngineCore(std::shared_ptr<const Model> model)
    : model_(std::move(model)), worker_([this] { work(); }) {}

EngineCore::~EngineCore() {
  queue_.stop();
  worker_.join();
}

std::shared_ptr<EngineCore> EngineCore::get(const ModelRequest& request, const Notice& notice) {
  const auto slot = slot_for(request.key());
  const std::lock_guard<std::mutex> guard(slot->loading);
  auto core = slot->core.lock();
  if (!core) {
    core = std::make_shared<EngineCore>(load_model(request, notice));
    slot->core = core;
  }
  return core;
}

void EngineCore::work() {
  // Thread-local in LibTorch, so it is set where the network runs.
  const c10::InferenceMode inference;
  for (;;) {
    std::vector<Item> batch = queue_.next();
    if (batch.empty()) return;
    run(std::move(batch));
  }
}

void EngineCore::run(std::vector<Item> batch) {
  std::vector<std::unique_ptr<ResultPlanes>> results;
  Da3ErrorCode code = DA3_OK;
  std::string message, detail;
  try {
    results = infer_batch(*model_, batch);
  } catch (const EngineError& e) {
    code = e.code();
    message = e.what();
    detail = e.detail();
  } catch (const std::exception& e) {
    code = DA3_ERROR_FAILED;
    message = "Inference failed: " + std::string(e.what());
  } catch (...) {
    code = DA3_ERROR_FAILED;
    message = "Inference failed for an unknown reason.";
  }
  if (code == DA3_ERROR_NO_MEMORY && batch.size() > 1) {
    // The same items in two halves, in order.
    std::vector<Item> rest(std::make_move_iterator(batch.begin() + int64_t(batch.size() / 2)),
                           std::make_move_iterator(batch.end()));
    batch.resize(batch.size() / 2);
    run(std::move(batch));
    run(std::move(rest));
    return;
  }
  if (code == DA3_ERROR_NO_MEMORY)
    message = "Out of memory on " + model_->device.str() + " for " + std::to_string(batch[0].views.size()) +
              " view(s) of " + std::to_string(batch[0].width) + "x" + std::to_string(batch[0].height) +
              " pixels. Lower process-res or views, or choose a smaller model or another device.";
  for (size_t i = 0; i < batch.size(); ++i) {
    if (code == DA3_OK)
      deliver(batch[i], std::move(results[i]));
    else
      deliver(batch[i], code, message, detail);
  }
}

void Client::begin(const void* stream) {
  const std::lock_guard<std::mutex> guard(lock_);
  unfinished_.push_back(stream);
}

void Client::finish(const void* stream) {
  // Notified under the lock: whoever waits may destroy this object as soon as the lock is free.
  const std::lock_guard<std::mutex> guard(lock_);
  unfinished_.erase(std::find(unfinished_.begin(), unfinished_.end(), stream));
  changed_.notify_all();
}

void Client::wait(const void* stream) {
  std::unique_lock<std::mutex> guard(lock_);
  changed_.wait(guard, [&] { return std::count(unfinished_.begin(), unfinished_.end(), stream) == 0; });
}

void Client::wait_all() {
  std::unique_lock<std::mutex> guard(lock_);
  changed_.wait(guard, [&] { return unfinished_.empty(); });
}

void deliver(Item& item, std::unique_ptr<ResultPlanes> planes) {
  item.done(item.user, make_result(std::move(planes)), nullptr);
  item.client->finish(item.stream);
}

void deliver(Item& item, Da3ErrorCode code, const std::string& message, const std::string& detail) {
  std::string m = message, d = detail;
  const Da3Error error{code, m.data(), d.empty() ? nullptr : d.data()};
  item.done(item.user, nullptr, &error);
  item.client->finish(item.stream);
}

}  // namespace da3
