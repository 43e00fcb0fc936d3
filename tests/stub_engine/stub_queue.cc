// SPDX-License-Identifier: MIT
//
// The stub engine's own queue and worker, which take whatever waits.
#include <algorithm>
#include <cstdlib>

#include "stub_core.h"

namespace da3::stub {

namespace {

// Called without the lock.
void finish(const Core& engine, Request& item, Da3ErrorCode code, uint32_t batch) {
  if (engine.hits("fail-at", item)) code = DA3_ERROR_FAILED;
  if (item.expire && code == DA3_OK) code = DA3_ERROR_EXPIRED;
  {
    const std::lock_guard lock(global().mutex);
    if (item.abandoned) code = DA3_ERROR_CANCELLED;
  }
  if (code == DA3_OK) {
    tell(item, engine.hits("no-result-at", item) ? nullptr : compute(engine, item, batch), nullptr);
    return;
  }
  Da3Error error{};
  set_error(&error, code, error_text(code, item.number), "stub");
  tell(item, nullptr, &error);
  std::free(error.message);
  std::free(error.detail);
}

bool may_start(const Core& engine) {
  return !engine.pending.empty() && (!engine.number("block", 0) || global().passes != 0);
}

// Takes the longest run of equal shape that fits into a batch.
void form_batch(Core& engine) {
  const Da3Request& first = engine.pending.front()->request;
  while (may_start(engine) && engine.running.size() < engine.info.max_batch) {
    const Da3Request& next = engine.pending.front()->request;
    if (next.width != first.width || next.height != first.height || next.n_views != first.n_views) break;
    std::unique_ptr<Request> item = std::move(engine.pending.front());
    engine.pending.pop_front();
    if (engine.number("block", 0) && global().passes > 0) --global().passes;
    if (item->request.flags & DA3_REQUEST_DROP_EXPIRED) {
      item->expire = global().to_expire > 0 || engine.hits("expire-at", *item);
      if (global().to_expire > 0) --global().to_expire;
    }
    engine.running.push_back(std::move(item));
  }
}

// Some of what runs, as one pass. One that fails as a whole is run again in halves, as the engine does.
void run_pass(Core& engine, size_t begin, size_t end) {
  std::vector<Request*> items;
  for (size_t i = begin; i < end; ++i) items.push_back(engine.running[i].get());
  int culprit = 0;
  const Da3ErrorCode code = begin_pass(engine, items, &culprit);
  if (code == DA3_OK || items.size() == 1) {
    for (Request* item : items) finish(engine, *item, code, uint32_t(items.size()));
    return;
  }
  if (code == DA3_ERROR_NO_MEMORY) {
    const std::string text = "Out of memory with " + std::to_string(items.size()) + " items; from now on " +
                             std::to_string(items.size() / 2) + ".";
    warn(items, code, text.c_str());
  }
  const size_t middle = (begin + end + 1) / 2;
  run_pass(engine, begin, middle);
  run_pass(engine, middle, end);
}

}  // namespace

void work(Core* engine) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  while (true) {
    g.changed.wait(lock, [&] { return engine->stopping || may_start(*engine); });
    if (engine->stopping && engine->pending.empty()) return;
    if (engine->stopping) {
      engine->running.push_back(std::move(engine->pending.front()));
      engine->pending.pop_front();
    } else {
      if (const int delay = engine->number("delay-ms", 0)) {
        g.changed.wait_for(lock, std::chrono::milliseconds(delay),
                           [&] { return engine->stopping || engine->pending.empty(); });
        if (engine->stopping || engine->pending.empty()) continue;
      }
      form_batch(*engine);
    }
    const bool stopping = engine->stopping;
    lock.unlock();
    if (stopping) {
      for (const auto& item : engine->running) finish(*engine, *item, DA3_ERROR_CANCELLED, 0);
    } else {
      run_pass(*engine, 0, engine->running.size());
    }
    lock.lock();
    engine->running.clear();
    g.changed.notify_all();
  }
}

void take_out(Da3Engine* reference, const void* stream, bool all, Running what_runs) {
  Global& g = global();
  Core* engine = reference->core;
  const auto meant = [&](const auto& item) {
    return item && item->reference == reference && (all || item->request.stream == stream);
  };
  std::vector<std::unique_ptr<Request>> dropped;
  {
    const std::lock_guard lock(g.mutex);
    for (auto& item : engine->pending) {
      if (meant(item)) dropped.push_back(std::move(item));
    }
    std::erase(engine->pending, nullptr);
    for (auto& item : engine->running) {
      if (what_runs == Running::mark && meant(item)) item->abandoned = true;
    }
    g.changed.notify_all();
  }
  for (auto& item : dropped) finish(*engine, *item, DA3_ERROR_CANCELLED, 0);
  if (what_runs != Running::wait) return;
  std::unique_lock lock(g.mutex);
  g.changed.wait(lock, [&] { return std::none_of(engine->running.begin(), engine->running.end(), meant); });
}

}  // namespace da3::stub
