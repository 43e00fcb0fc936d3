// SPDX-License-Identifier: MIT
#include "engine/runtime/batch_worker.h"

#include <future>
#include <memory>
#include <new>
#include <set>

#include "engine/api/engine_error.h"

namespace da3 {
namespace {

struct Failure {
  Da3ErrorCode code = DA3_OK;
  std::string message, detail;
};

// What the exception in flight means to the owner of a request.
Failure current_failure() {
  try {
    throw;
  } catch (const EngineError& e) {
    return {e.code(), e.what(), e.detail()};
  } catch (const std::bad_alloc&) {
    return {DA3_ERROR_NO_MEMORY, "Out of memory. Lower process-res or views, or choose a smaller model.", {}};
  } catch (const std::exception& e) {
    return {DA3_ERROR_FAILED, "Inference failed: " + std::string(e.what()), {}};
  } catch (...) {
    return {DA3_ERROR_FAILED, "Inference failed for an unknown reason.", {}};
  }
}

std::string describe(const Item& item) {
  return std::to_string(item.width) + "x" + std::to_string(item.height) +
         (item.views.size() > 1 ? " with " + std::to_string(item.views.size()) + " views" : "");
}

}  // namespace

BatchWorker::BatchWorker(Parts parts, uint32_t limit, Clock& clock)
    : parts_(std::move(parts)), former_(limit, clock) {
  former_.set_memory_source(parts_.memory_budget);
  worker_ = std::thread([this] { work(); });
}

BatchWorker::~BatchWorker() {
  former_.stop();
  worker_.join();
}

void BatchWorker::work() {
  if (parts_.thread_started) parts_.thread_started();
  for (;;) {
    BatchFormer::Work work = former_.next();
    for (Item& item : work.expired)
      deliver(item, DA3_ERROR_EXPIRED, "The frame could not be computed before its deadline.");
    if (work.task) work.task();
    if (!work.batch.empty()) run(std::move(work.batch));
    if (work.stopped) return;
  }
}

void BatchWorker::run(std::vector<Item> batch) {
  std::vector<Da3Result*> results;
  Failure failure;
  uint64_t bytes = 0;
  const int64_t started = former_.now();
  try {
    results = parts_.run(batch, &bytes);
    if (results.size() != batch.size())
      throw EngineError(DA3_ERROR_FAILED, "Inference failed: " + std::to_string(results.size()) +
                                              " results for " + std::to_string(batch.size()) + " items.");
  } catch (...) {
    failure = current_failure();
    for (Da3Result* result : results) parts_.release(result);
  }
  const int64_t elapsed = std::max<int64_t>(1, former_.now() - started);
  if (failure.code == DA3_ERROR_NO_MEMORY && batch.size() > 1) {
    if (former_.out_of_memory(batch)) warn_of_memory(batch, failure.message);
    // The same items in two halves, in order.
    const auto middle = batch.begin() + int64_t((batch.size() + 1) / 2);
    std::vector<Item> rest(std::make_move_iterator(middle), std::make_move_iterator(batch.end()));
    batch.erase(middle, batch.end());
    run(std::move(batch));
    run(std::move(rest));
    return;
  }
  former_.finished(batch, started, elapsed, bytes, failure.code != DA3_OK);
  for (size_t i = 0; i < batch.size(); ++i) {
    if (failure.code == DA3_OK)
      deliver(batch[i], results[i]);
    else
      deliver(batch[i], failure.code, failure.message, failure.detail);
  }
}

void BatchWorker::warn_of_memory(const std::vector<Item>& batch, const std::string& why) {
  const std::string text = "A batch of " + std::to_string(batch.size()) + " images of " +
                           describe(batch.front()) + " did not fit into memory; going on with at most " +
                           std::to_string(batch.size() / 2) + ". No frame is lost. (" + why + ")";
  std::set<const Client*> told;
  for (const Item& item : batch)
    if (item.client && item.client->warning && told.insert(item.client).second)
      item.client->warning(item.client->user, DA3_ERROR_NO_MEMORY, text.c_str());
}

bool BatchWorker::call(const std::function<void()>& task) {
  // What goes wrong comes back as a value: an exception object is not shared between threads.
  auto done = std::make_shared<std::promise<Failure>>();
  auto result = done->get_future();
  const bool accepted = former_.add_task([&task, done] {
    Failure failure;
    try {
      task();
    } catch (...) {
      failure = current_failure();
    }
    done->set_value(std::move(failure));
  });
  if (!accepted) return false;
  const Failure failure = result.get();
  if (failure.code != DA3_OK) throw EngineError(failure.code, failure.message, failure.detail);
  return true;
}

bool BatchWorker::warm_up(const Item& like, uint32_t most, const std::function<bool()>& stop,
                          const std::function<void(double)>& progress) {
  constexpr int kPasses = 4;  // the first of a size does not count: it fills caches and workspaces
  most = std::max(1u, most);
  uint32_t size = 1;
  double steps = 1;
  for (uint32_t b = 1; b < most; b *= 2) ++steps;
  double step = 0;
  progress(0);
  for (;;) {
    for (int pass = 0; pass < kPasses; ++pass) {
      if (stop()) return false;
      bool fits = true;
      const bool called = call([&] {
        const std::vector<Item> items(size, like);
        uint64_t bytes = 0;
        const int64_t started = former_.now();
        try {
          for (Da3Result* result : parts_.run(items, &bytes)) parts_.release(result);
        } catch (...) {
          if (current_failure().code != DA3_ERROR_NO_MEMORY || size == 1) throw;
          former_.out_of_memory(items);
          fits = false;
        }
        if (fits && pass > 0)
          former_.measured(like, size, std::max<int64_t>(1, former_.now() - started), bytes);
      });
      if (!called) return false;
      if (!fits) {
        progress(1);
        return true;
      }
      progress((step + double(pass + 1) / kPasses) / steps);
    }
    step += 1;
    // The next size to try, if the last one was worth it.
    const uint32_t next = std::min(most, former_.cap(like, true));
    if (next <= size) break;
    size = next;
  }
  progress(1);
  return true;
}

void deliver(Item& item, Da3Result* result) {
  item.done(item.user, result, nullptr);
  item.client->finish(item.stream);
}

void deliver(Item& item, Da3ErrorCode code, const std::string& message, const std::string& detail) {
  std::string m = message, d = detail;
  const Da3Error error{code, m.data(), d.empty() ? nullptr : d.data()};
  item.done(item.user, nullptr, &error);
  item.client->finish(item.stream);
}

}  // namespace da3
