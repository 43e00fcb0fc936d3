// SPDX-License-Identifier: MIT
//
// queue=former: the requests of the stub engine in the real engine's queue, run by its worker.
#include <algorithm>
#include <future>

#include "engine/api/engine_error.h"
#include "stub_core.h"

namespace da3::stub {

namespace {

// The end of a request that was in the queue.
void on_former_done(void* user, Da3Result* result, const Da3Error* error) {
  const std::unique_ptr<Request> item(static_cast<Request*>(user));
  const Former& former = *item->reference->core->former;
  uint8_t rgb[3];  // the pixels are gone afterwards
  std::copy_n(item->views.front().rgb, 3, rgb);
  tell(*item, result, error);
  if (former.in_test_time)
    test_time().ended(rgb, error ? error->code : DA3_OK, former.thread.load() == std::this_thread::get_id());
}

// What a pass of so many items takes.
void spend_time(const Core& engine, size_t items) {
  if (engine.former->in_test_time) {
    test_time().spend(int64_t(1000) *
                      (engine.number("base-us", 0) + engine.number("item-us", 1000) * int64_t(items)));
  } else if (const int delay = engine.number("delay-ms", 0)) {
    Global& g = global();
    std::unique_lock lock(g.mutex);
    g.changed.wait_for(lock, std::chrono::milliseconds(delay), [&] { return engine.stopping; });
  }
}

std::vector<Da3Result*> run_former_pass(Core& engine, const std::vector<da3::Item>& items) {
  const int64_t started = engine.former->worker->queue().now();
  std::vector<Da3Result*> results;
  if (!items.front().user) {  // a measurement
    spend_time(engine, items.size());
    for (size_t i = 0; i < items.size(); ++i) results.push_back(new_result());
    return results;
  }
  std::vector<Request*> requests;
  for (const da3::Item& item : items) requests.push_back(static_cast<Request*>(item.user));
  int culprit = 0;
  const Da3ErrorCode code = begin_pass(engine, requests, &culprit);
  if (code != DA3_OK) throw da3::EngineError(code, error_text(code, culprit), "stub");
  spend_time(engine, items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    const Request& request = *requests[i];
    if (engine.hits("no-result-at", request)) {
      results.push_back(nullptr);
      continue;
    }
    Da3Result* result = compute(engine, request, uint32_t(items.size()));
    result->data.queued_ns = started - items[i].submitted;
    result->data.inference_ns = engine.former->worker->queue().now() - started;
    if (engine.hits("fail-at", request)) result->failure = error_text(DA3_ERROR_FAILED, request.number);
    results.push_back(result);
  }
  return results;
}

// beside=1: passes are computed on a thread of their own, as a GPU computes them beside the worker.
class Beside : public da3::BatchWorker::Flight {
 public:
  Beside(Core& engine, const std::vector<da3::Item>& items)
      : results_(
            std::async(std::launch::async, [&engine, items] { return run_former_pass(engine, items); })) {}
  std::vector<Da3Result*> finish(const std::vector<da3::Item>&, da3::BatchWorker::PassReport*) override {
    return results_.get();
  }

 private:
  std::future<std::vector<Da3Result*>> results_;
};

}  // namespace

void start_former(Core& engine) {
  engine.former = std::make_unique<Former>();
  Former& former = *engine.former;
  former.in_test_time = engine.number("test-time", 0) != 0;
  da3::BatchWorker::Parts parts;
  std::promise<void> may_run;  // not before `worker` is there
  parts.thread_started = [&former, ready = may_run.get_future().share()] {
    ready.wait();
    former.thread = std::this_thread::get_id();
  };
  parts.run = [&engine](const std::vector<da3::Item>& items, da3::BatchWorker::PassReport*) {
    return run_former_pass(engine, items);
  };
  if (engine.number("beside", 0))
    parts.begin = [&engine](const std::vector<da3::Item>& items) {
      return std::make_unique<Beside>(engine, items);
    };
  parts.release = [](Da3Result* result) {
    if (result) stub_result_unref(result);
  };
  parts.failure = [](const Da3Result* result) { return result ? result->failure : std::string(); };
  former.worker = std::make_unique<da3::BatchWorker>(
      std::move(parts), engine.info.max_batch,
      former.in_test_time ? static_cast<da3::Clock&>(test_time()) : da3::Clock::real());
  if (engine.number("block", 0)) {
    former.worker->queue().add_task([&engine] {
      Global& g = global();
      std::unique_lock lock(g.mutex);
      g.changed.wait(lock, [&] { return engine.stopping || g.passes != 0; });
    });
  }
  may_run.set_value();
}

void cancel_former_items(std::vector<da3::Item> items) {
  for (da3::Item& item : items)
    da3::deliver(item, DA3_ERROR_CANCELLED, error_text(DA3_ERROR_CANCELLED, 0), "stub");
}

void submit_to_former(Da3Engine& reference, std::unique_ptr<Request> request) {
  const Former& former = *reference.core->former;
  const Da3Request& r = request->request;
  da3::Item item;
  item.client = &reference.client;
  item.stream = r.stream;
  item.views = request->views;
  item.width = r.width;
  item.height = r.height;
  item.outputs = r.outputs | DA3_OUTPUT_DEPTH;
  item.ref_view_strategy = r.ref_view_strategy;
  item.use_ray_pose = r.use_ray_pose != 0;
  item.max_batch = reference.client.max_batch;
  item.droppable = (r.flags & DA3_REQUEST_DROP_EXPIRED) != 0;
  if (r.deadline_ns > 0) {
    item.deadline = r.deadline_ns;
    // The same time from now.
    if (former.in_test_time) item.deadline += test_time().now() - da3::Clock::real().now();
  }
  item.done = on_former_done;
  item.user = request.release();
  reference.client.begin(item.stream);
  const da3::testing::StubTime::Submitting submitting(former.in_test_time ? &test_time() : nullptr);
  former.worker->queue().push(std::move(item));
}

da3::Item item_like(const Da3Engine& reference, const Da3Shape& shape) {
  da3::Item item;
  item.client = &reference.client;
  item.views.resize(shape.n_views);
  item.width = shape.width;
  item.height = shape.height;
  item.outputs = shape.outputs | DA3_OUTPUT_DEPTH;
  item.use_ray_pose = shape.use_ray_pose != 0;
  item.max_batch = reference.client.max_batch;
  return item;
}

void take_out_of_former(Da3Engine* reference, const void* stream, bool all) {
  cancel_former_items(reference->core->former->worker->queue().remove([&](const da3::Item& item) {
    return item.client == &reference->client && (all || item.stream == stream);
  }));
}

int warm_up_former(Da3Engine& reference, const Da3Shape& shape, Da3Error* error) {
  const Core& core = *reference.core;
  const uint32_t stops = reference.client.warm_up_stops;
  const uint32_t most = shape.max_batch > 0 ? shape.max_batch : core.info.max_batch;
  const auto unwanted = [&] {
    return reference.client.warm_up_stops != stops || asks_to_stop(reference.config);
  };
  const bool complete =
      core.former->worker->warm_up(item_like(reference, shape), most, unwanted, [](double) {});
  return complete ? DA3_OK : set_error(error, DA3_ERROR_CANCELLED, "The warm-up was stopped.");
}

}  // namespace da3::stub
