// SPDX-License-Identifier: MIT
#include "stub_engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <future>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#define DA3_ENGINE_BUILD
#include "engine/api/engine.h"
#include "engine/api/engine_error.h"
#include "engine/runtime/batch_worker.h"
#include "stub_time.h"

namespace {

using Clock = std::chrono::steady_clock;
using Options = std::map<std::string, std::string>;
constexpr std::chrono::milliseconds kAskAgain{5};  // a blocked open() or warm_up() whether it is wanted

struct Core;

// One lock and one condition for the whole stub: it is a test double, not a race for speed.
struct Global {
  std::mutex mutex;
  std::condition_variable changed;
  Da3StubCounters counters{};
  int outstanding = 0;
  int passes = 0;  // how many blocked requests may go; negative: all
  int open_passes = 0;
  int opening = 0;  // open() that waited
  int to_expire = 0;
  int slow_passes = 0;  // how many slow passes may end; negative: all
  std::set<std::pair<const Da3Engine*, const void*>> streams;
  std::map<std::string, Core*> engines;
};

Global& global() {
  static Global* instance = new Global;  // worker threads may outlive main()
  return *instance;
}

da3::testing::StubTime& test_time() {
  static auto* time = new da3::testing::StubTime;
  return *time;
}

struct Request {
  Da3Engine* reference = nullptr;
  Da3Request request;
  std::vector<Da3View> views;
  int number = 0;  // of this engine, from 1
  bool expire = false;
  bool halved = false;     // by halve-at
  bool slow_done = false;  // by slow-at
  bool abandoned = false;  // runs, and nobody wants it any more
  Clock::time_point submitted;
};

int set_error(Da3Error* error, Da3ErrorCode code, const std::string& message, const char* detail = nullptr) {
  if (error) {
    error->code = code;
    error->message = strdup(message.c_str());
    error->detail = detail ? strdup(detail) : nullptr;
  }
  return code;
}

Options parse_options(const std::string& text) {
  Options options;
  size_t start = 0;
  while (start < text.size()) {
    const size_t end = std::min(text.find(',', start), text.size());
    const std::string part = text.substr(start, end - start);
    const size_t equals = part.find('=');
    options[part.substr(0, equals)] = equals == std::string::npos ? "1" : part.substr(equals + 1);
    start = end + 1;
  }
  return options;
}

uint32_t parse_outputs(const std::string& text) {
  uint32_t outputs = 0;
  if (text.find("depth") != std::string::npos) outputs |= DA3_OUTPUT_DEPTH;
  if (text.find("confidence") != std::string::npos) outputs |= DA3_OUTPUT_CONFIDENCE;
  if (text.find("sky") != std::string::npos) outputs |= DA3_OUTPUT_SKY;
  if (text.find("pose") != std::string::npos) outputs |= DA3_OUTPUT_POSE;
  if (text.find("ray") != std::string::npos) outputs |= DA3_OUTPUT_RAY;
  return outputs;
}

}  // namespace

struct Da3Result {
  std::atomic<int> refs{1};
  std::string failure;  // why it is none
  Da3ResultData data{};
  std::vector<float> depth, confidence, sky, ray, ray_confidence, extrinsics, intrinsics;
};

// What open() hands out.
struct Da3Engine {
  Core* core = nullptr;
  Da3EngineConfig config{};
  mutable da3::Client client;  // of queue=former
  bool stop_warm_up = false;
};

namespace {

// The real engine's queue and worker.
struct Former {
  bool in_test_time = false;
  std::atomic<std::thread::id> thread{};
  std::unique_ptr<da3::BatchWorker> worker;  // last: ends before the rest goes
};

// What the references to a model share.
struct Core {
  std::string key, name, source, device;
  Options options;
  Da3ModelInfo info{};
  std::set<const Da3Engine*> references;
  int requests = 0;
  bool stopping = false;
  std::deque<std::unique_ptr<Request>> pending;
  std::vector<std::unique_ptr<Request>> running;
  std::thread worker;
  int64_t single_ns = 0;
  uint64_t batches = 0;
  std::unique_ptr<Former> former;  // queue=former; else the stub's own queue

  int number(const char* option, int fallback) const {
    const auto found = options.find(option);
    return found == options.end() ? fallback : std::atoi(found->second.c_str());
  }
  bool hits(const char* option, const Request& request) const { return number(option, 0) == request.number; }
};

// ---- what the stub computes
// ---------------------------------------------------------------------------------------

void compute_view(const Da3Request& request, const Da3View& view, uint32_t index, Da3Result& result) {
  const size_t plane = size_t(request.width) * request.height;
  double red = 0;
  for (int y = 0; y < request.height; ++y) {
    const uint8_t* row = view.rgb + size_t(y) * view.stride;
    for (int x = 0; x < request.width; ++x) {
      const uint8_t* p = row + 3 * x;
      const size_t at = index * plane + size_t(y) * request.width + x;
      red += p[0];
      result.depth[at] = 1.0f + 9.0f * float(p[0] + p[1] + p[2]) / 765.0f;
      if (!result.confidence.empty()) result.confidence[at] = 1.0f + float(p[0]) / 255.0f;
      if (!result.sky.empty()) result.sky[at] = float(p[2]) / 255.0f;
    }
  }
  if (result.extrinsics.empty()) return;
  const float mean = float(red / double(plane) / 255.0);
  const float w2c[12] = {1, 0, 0, mean, 0, 1, 0, float(index), 0, 0, 1, float(request.n_views)};
  const float k[9] = {float(request.width),
                      0,
                      float(request.width) / 2,
                      0,
                      2.0f * float(request.height),
                      float(request.height) / 2,
                      0,
                      0,
                      1};
  std::copy_n(w2c, 12, result.extrinsics.begin() + 12 * index);
  std::copy_n(k, 9, result.intrinsics.begin() + 9 * index);
}

void spoil(const Core& engine, const Request& request, Da3Result& result) {
  Da3ResultData& data = result.data;
  if (engine.hits("nan-at", request)) {
    std::fill(result.depth.begin(), result.depth.end(), std::numeric_limits<float>::quiet_NaN());
  }
  if (engine.hits("some-nan-at", request)) result.depth[0] = std::numeric_limits<float>::quiet_NaN();
  if (engine.hits("wrong-size-at", request)) data.width -= 1;
  if (engine.hits("zero-size-at", request)) data.width = data.height = 0;
  if (engine.hits("wrong-views-at", request)) data.n_views += 1;
  if (engine.hits("no-depth-at", request)) data.depth = nullptr;
  if (engine.hits("no-confidence-at", request)) data.confidence = nullptr;
}

Da3Result* new_result() {
  const std::lock_guard lock(global().mutex);
  ++global().counters.results_alive;
  return new Da3Result;
}

Da3Result* compute(const Core& engine, const Request& item, uint32_t batch) {
  const Da3Request& request = item.request;
  auto* result = new_result();
  const size_t n = request.n_views;
  const size_t values = n * request.width * request.height;
  result->depth.resize(values);
  if (request.outputs & DA3_OUTPUT_CONFIDENCE) result->confidence.resize(values);
  if (request.outputs & DA3_OUTPUT_SKY) result->sky.resize(values);
  if (request.outputs & DA3_OUTPUT_POSE) {
    result->extrinsics.resize(12 * n);
    result->intrinsics.resize(9 * n);
  }
  for (uint32_t i = 0; i < n; ++i) compute_view(request, item.views[i], i, *result);

  Da3ResultData& data = result->data;
  data.struct_size = sizeof(data);
  data.n_views = request.n_views;
  data.width = request.width;
  data.height = request.height;
  data.depth = result->depth.data();
  const auto plane = [](const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); };
  if (request.outputs & DA3_OUTPUT_RAY) {
    data.ray_width = request.width / DA3_PATCH_SIZE;
    data.ray_height = request.height / DA3_PATCH_SIZE;
    result->ray.assign(n * data.ray_width * data.ray_height * 6, 0.5f);
    result->ray_confidence.assign(n * data.ray_width * data.ray_height, 2.0f);
  }
  data.confidence = plane(result->confidence);
  data.sky = plane(result->sky);
  data.ray = plane(result->ray);
  data.ray_confidence = plane(result->ray_confidence);
  data.extrinsics = plane(result->extrinsics);
  data.intrinsics = plane(result->intrinsics);
  data.kind = engine.info.kind;
  data.scale_factor = 1;
  data.metric_valid = engine.number("metric-valid", 1);
  data.batch = batch;
  const int64_t queued = std::chrono::nanoseconds(Clock::now() - item.submitted).count();
  data.queued_ns =
      engine.number("queued-us", -1) < 0 ? queued : int64_t(1000) * engine.number("queued-us", 0);
  data.inference_ns = int64_t(1000) * engine.number("inference-us", 1000);
  spoil(engine, item, *result);
  return result;
}

// ---- passes that go wrong
// ---------------------------------------------------------------------------------------------------

// All who have a part in the pass; while they have, they are not closed. Called without the lock.
void warn(const std::vector<Request*>& items, Da3ErrorCode code, const char* text) {
  std::set<const Da3Engine*> references;
  for (const Request* item : items) references.insert(item->reference);
  for (const Da3Engine* reference : references) {
    if (reference->config.warning) reference->config.warning(reference->config.user, code, text);
  }
}

std::string error_text(Da3ErrorCode code, int number) {
  switch (code) {
    case DA3_ERROR_CANCELLED:
      return "The request was cancelled.";
    case DA3_ERROR_EXPIRED:
      return "The deadline could not be met.";
    case DA3_ERROR_NO_MEMORY:
      return "Out of memory: the stub needs 1 byte more; use a smaller process-res.";
    default:
      return "The stub failed at request " + std::to_string(number) + ".";
  }
}

// Notes a pass of these items. Returns why it fails as a whole, with the number of the request that did it.
Da3ErrorCode begin_pass(Core& engine, const std::vector<Request*>& items, int* culprit) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  if (g.counters.batches < DA3_STUB_MAX_BATCHES) {
    g.counters.batch_sizes[g.counters.batches] = int(items.size());
  }
  ++g.counters.batches;
  ++engine.batches;
  Da3ErrorCode code = DA3_OK;
  for (Request* item : items) {
    if (engine.hits("slow-at", *item) && !std::exchange(item->slow_done, true)) {
      ++g.counters.slow_passes;
      g.changed.notify_all();
      g.changed.wait(lock, [&] { return engine.stopping || g.slow_passes != 0; });
      if (g.slow_passes > 0) --g.slow_passes;
    }
    const bool halves = items.size() > 1 && engine.hits("halve-at", *item) && !item->halved;
    item->halved |= halves;
    const bool no_memory = halves || engine.hits("oom-at", *item);
    if (!no_memory && !engine.hits("break-at", *item)) continue;
    code = no_memory ? DA3_ERROR_NO_MEMORY : DA3_ERROR_FAILED;
    *culprit = item->number;
  }
  if (code != DA3_OK) ++g.counters.broken_passes;
  return code;
}

// The owner of a request hears of its end. Called without the lock.
void tell(const Request& item, Da3Result* result, const Da3Error* error) {
  Global& g = global();
  {
    const std::lock_guard lock(g.mutex);
    --g.outstanding;  // before done(): its callee may submit the next one
  }
  const Da3ErrorCode code = error ? error->code : DA3_OK;
  item.request.done(item.request.user, result, error);
  const std::lock_guard lock(g.mutex);
  ++g.counters.finished;
  if (code == DA3_ERROR_CANCELLED) ++g.counters.cancelled;
  if (code == DA3_ERROR_EXPIRED) ++g.counters.expired;
  g.changed.notify_all();
}

// ---- the stub's own queue and worker
// ---------------------------------------------------------------------------------------------------

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

// ---- the real engine's queue and worker
// ---------------------------------------------------------------------------------------------------

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

void stub_result_unref(Da3Result* result);

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
  parts.run = [&engine](const std::vector<da3::Item>& items, uint64_t*) {
    return run_former_pass(engine, items);
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

// ---- the API
// ------------------------------------------------------------------------------------------------------

const char* stub_runtime() {
  return "stub";
}

int bad_model(const std::string& name, Da3Error* error) {
  if (name == "missing") return set_error(error, DA3_ERROR_NOT_FOUND, "Model 'stub:missing' is not there.");
  if (name == "unreadable")
    return set_error(error, DA3_ERROR_OPEN_READ, "Model 'stub:unreadable' cannot be read.");
  if (name == "wrong-type") {
    return set_error(error, DA3_ERROR_WRONG_TYPE, "'stub:wrong-type' is not a DA3 checkpoint.",
                     "magic is HTML");
  }
  if (name == "no-memory") return set_error(error, DA3_ERROR_NO_MEMORY, "Out of memory while loading.");
  if (name == "failed") return set_error(error, DA3_ERROR_FAILED, "Loading failed.");
  return DA3_OK;
}

Core* new_engine(const Da3EngineConfig& config, const std::string& key, const Options& options) {
  auto* engine = new Core;
  const auto text = [&](const char* option, const char* fallback) {
    const auto found = options.find(option);
    return found == options.end() ? std::string(fallback) : found->second;
  };
  engine->key = key;
  engine->options = options;
  engine->name = text("name", "stub");
  engine->source = config.model;
  engine->device = config.device && std::strcmp(config.device, "auto") != 0 ? config.device : "cpu";
  Da3ModelInfo& info = engine->info;
  info.struct_size = sizeof(info);
  info.name = engine->name.c_str();
  info.source = engine->source.c_str();
  info.weights_hash = "0123456789abcdef";
  info.licence = "MIT";
  info.device = engine->device.c_str();
  info.runtime = stub_runtime();
  info.precision = config.precision == DA3_PRECISION_AUTO ? DA3_PRECISION_FP32 : config.precision;
  info.kind = text("kind", "relative") == "metric" ? DA3_KIND_METRIC : DA3_KIND_RELATIVE;
  info.outputs = parse_outputs(text("outputs", "depth+confidence+sky+pose"));
  info.max_batch = config.max_batch ? config.max_batch : uint32_t(std::max(1, engine->number("batch", 4)));
  info.synthetic = engine->number("synthetic", 0);
  info.focal_normalised = engine->number("focal", 0);
  info.parameters = 1;
  info.process_res = engine->number("process-res", 504);
  info.performance_mode = config.performance_mode;
  info.attention = config.attention == DA3_ATTENTION_AUTO ? DA3_ATTENTION_PLAIN : config.attention;
  info.plan = "as the stub does";
  if (text("queue", "own") == "former") {
    start_former(*engine);
  } else {
    engine->worker = std::thread(work, engine);
  }
  return engine;
}

// Callers of an older engine.h have no such field.
bool asks_to_stop(const Da3EngineConfig& config) {
  constexpr size_t kSize = offsetof(Da3EngineConfig, cancelled) + sizeof config.cancelled;
  return config.struct_size >= kSize && config.cancelled && config.cancelled(config.user) != 0;
}

Da3Engine* new_reference(Core& core, const Da3EngineConfig& config) {
  auto* reference = new Da3Engine;
  reference->core = &core;
  // Callers of an older engine.h have fewer fields.
  std::memcpy(&reference->config, &config, std::min<size_t>(config.struct_size, sizeof config));
  reference->client.max_batch = config.max_batch;
  reference->client.user = reference->config.user;
  reference->client.warning = reference->config.warning;
  core.references.insert(reference);
  return reference;
}

Da3Engine* stub_open(const Da3EngineConfig* config, Da3Error* error) {
  const std::string model = config->model ? config->model : "";
  if (model.rfind("stub:", 0) != 0) {
    set_error(error, DA3_ERROR_NOT_FOUND, "Model '" + model + "' is not there.");
    return nullptr;
  }
  if (bad_model(model.substr(5), error) != DA3_OK) return nullptr;
  const Options options = parse_options(model.substr(5));
  const std::string device = config->device ? config->device : "auto";
  if (device != "auto" && device != "cpu" && !(options.count("cuda") && device.rfind("cuda", 0) == 0)) {
    set_error(error, DA3_ERROR_DEVICE, "There is no device '" + device + "'; use device=cpu.");
    return nullptr;
  }
  if (config->notice && options.count("synthetic")) {
    config->notice(config->user, "The stub is not a trained model.");
  }
  if (config->progress) {
    for (const double fraction : {0.0, 0.25, 0.5, 1.0})
      config->progress(config->user, DA3_PROGRESS_LOADING, fraction);
  }
  const std::string key = model + "|" + device + "|" + std::to_string(config->precision) + "|" +
                          std::to_string(config->max_batch);
  Global& g = global();
  std::unique_lock lock(g.mutex);
  if (options.count("open-block")) {
    ++g.opening;
    g.changed.notify_all();
    while (g.open_passes == 0) {
      lock.unlock();
      const bool unwanted = asks_to_stop(*config);
      lock.lock();
      if (unwanted) {
        ++g.counters.opens_cancelled;
        g.changed.notify_all();
        set_error(error, DA3_ERROR_CANCELLED, "Loading the model was cancelled.");
        return nullptr;
      }
      g.changed.wait_for(lock, kAskAgain, [&] { return g.open_passes != 0; });
    }
    if (g.open_passes > 0) --g.open_passes;
  }
  ++g.counters.opened;
  g.counters.last_memory_fraction = config->memory_fraction;
  g.counters.last_cache_ttl_ms = config->cache_ttl_ms;
  g.counters.last_cache_memory_limit = config->cache_memory_limit;
  Core*& core = g.engines[key];
  if (!core) {
    core = new_engine(*config, key, options);
    ++g.counters.engines_alive;
  }
  return new_reference(*core, *config);
}

// Requests of this reference that have not started end; then it waits for the running ones.
void end_requests(Da3Engine* reference);

void stub_close(Da3Engine* reference) {
  Global& g = global();
  Core* core = reference->core;
  bool last;
  {
    const std::lock_guard lock(g.mutex);
    ++g.counters.closed;
    std::erase_if(g.streams, [&](const auto& stream) { return stream.first == reference; });
    core->references.erase(reference);
    last = core->references.empty();
    if (last) {
      core->stopping = true;
      g.engines.erase(core->key);
    }
    g.changed.notify_all();
  }
  end_requests(reference);
  delete reference;
  if (!last) return;
  core->former ? core->former->worker.reset() : core->worker.join();
  delete core;
  const std::lock_guard lock(g.mutex);
  --g.counters.engines_alive;
}

const Da3ModelInfo* stub_info(const Da3Engine* reference) {
  return &reference->core->info;
}

int stub_submit(Da3Engine* reference, const Da3Request* request, Da3Error* error) {
  Core* engine = reference->core;
  if (request->outputs & ~engine->info.outputs) {
    return set_error(error, DA3_ERROR_UNSUPPORTED, "The stub does not have this output.");
  }
  if (request->width % DA3_PATCH_SIZE || request->height % DA3_PATCH_SIZE || request->width <= 0 ||
      request->height <= 0 || request->n_views == 0) {
    return set_error(error, DA3_ERROR_SETTINGS, "Sides must be multiples of 14.");
  }
  auto item = std::make_unique<Request>();
  item->reference = reference;
  item->request = *request;
  item->views.assign(request->views, request->views + request->n_views);
  item->submitted = Clock::now();
  Global& g = global();
  std::unique_lock lock(g.mutex);
  item->number = ++engine->requests;
  if (engine->hits("refuse-at", *item)) return set_error(error, DA3_ERROR_SETTINGS, "The stub refuses.");
  if (g.counters.submitted < DA3_STUB_MAX_BATCHES) {
    g.counters.view_counts[g.counters.submitted] = int(request->n_views);
  }
  ++g.counters.submitted;
  g.counters.most_outstanding = std::max(g.counters.most_outstanding, ++g.outstanding);
  g.counters.last_outputs = request->outputs;
  g.counters.last_ref_view_strategy = request->ref_view_strategy;
  g.counters.last_use_ray_pose = request->use_ray_pose;
  g.counters.last_deadline_ns = request->deadline_ns;
  g.counters.last_flags = request->flags;
  g.counters.last_width = request->width;
  g.counters.last_height = request->height;
  if (engine->former) {
    g.changed.notify_all();
    lock.unlock();
    submit_to_former(*reference, std::move(item));
    return DA3_OK;
  }
  engine->pending.push_back(std::move(item));
  g.changed.notify_all();
  return DA3_OK;
}

// What becomes of running requests that are cancelled: they end as cancelled, or are waited for.
enum class Running { mark, wait };

// What waits of the reference, and of the stream if not of all, ends.
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

void take_out_of_former(Da3Engine* reference, const void* stream, bool all) {
  cancel_former_items(reference->core->former->worker->queue().remove([&](const da3::Item& item) {
    return item.client == &reference->client && (all || item.stream == stream);
  }));
}

void end_requests(Da3Engine* reference) {
  const Former* former = reference->core->former.get();
  if (!former) {
    take_out(reference, nullptr, true, Running::wait);
    return;
  }
  take_out_of_former(reference, nullptr, true);
  reference->client.wait_all();
  former->worker->queue().end_streams(&reference->client);
}

void stub_cancel_waiting(Da3Engine* reference, const void* stream) {
  if (const Former* former = reference->core->former.get()) {
    cancel_former_items(former->worker->queue().abandon(&reference->client, stream));
  } else {
    take_out(reference, stream, false, Running::mark);
  }
  const std::lock_guard lock(global().mutex);
  ++global().counters.cancels_without_waiting;
}

void stub_cancel(Da3Engine* reference, const void* stream) {
  if (!reference->core->former) {
    take_out(reference, stream, false, Running::wait);
    return;
  }
  take_out_of_former(reference, stream, false);
  reference->client.wait(stream);
}

const Da3ResultData* stub_result_data(const Da3Result* result) {
  return &result->data;
}

Da3Result* stub_result_ref(Da3Result* result) {
  ++result->refs;
  return result;
}

void stub_result_unref(Da3Result* result) {
  if (--result->refs > 0) return;
  delete result;
  const std::lock_guard lock(global().mutex);
  --global().counters.results_alive;
}

void stub_stream_begin(Da3Engine* reference, const void* stream, const Da3Stream* description) {
  if (const Former* former = reference->core->former.get())
    former->worker->queue().stream_begin(&reference->client, stream,
                                         {description->max_pending, description->interval_ns});
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  ++g.counters.stream_begins;
  g.counters.last_max_pending = description->max_pending;
  g.counters.last_interval_ns = description->interval_ns;
  g.streams.insert({reference, stream});
}

void stub_stream_end(Da3Engine* reference, const void* stream) {
  if (const Former* former = reference->core->former.get())
    former->worker->queue().stream_end(&reference->client, stream);
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  g.streams.erase({reference, stream});
}

void stub_drain(Da3Engine* reference, const void* stream) {
  if (const Former* former = reference->core->former.get())
    former->worker->queue().drain(&reference->client, stream);
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  ++g.counters.drains;
}

// Figures that tests can recognise.
void stub_stats(const Da3Engine* reference, Da3EngineStats* out) {
  const std::lock_guard lock(global().mutex);
  const Core& core = *reference->core;
  out->users = uint32_t(core.references.size());
  out->submitted = uint64_t(core.requests);
  out->batches = core.batches;
  out->memory_weights = 1234;
}

void stub_shape_stats(const Da3Engine* reference, const Da3Shape* shape, Da3ShapeStats* out) {
  const Core& core = *reference->core;
  if (core.former) {
    core.former->worker->queue().shape_stats(item_like(*reference, *shape), out);
    return;
  }
  const std::lock_guard lock(global().mutex);
  out->batch_cap = core.info.max_batch;
  out->single_ns = core.single_ns;
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

int stub_warm_up(Da3Engine* reference, const Da3Shape* shape, Da3Error* error) {
  Core* engine = reference->core;
  Global& g = global();
  std::unique_lock lock(g.mutex);
  ++g.counters.warm_ups;
  g.changed.notify_all();
  if (engine->former) {
    lock.unlock();
    return warm_up_former(*reference, *shape, error);
  }
  if (engine->number("warm-fail", 0)) {
    return set_error(error, DA3_ERROR_NO_MEMORY, "Out of memory: not one item fits.");
  }
  if (engine->number("warm-block", 0)) {
    bool unwanted = false;
    while (!unwanted && !reference->stop_warm_up && g.passes == 0) {
      lock.unlock();
      unwanted = asks_to_stop(reference->config);
      lock.lock();
      if (unwanted) break;
      g.changed.wait_for(lock, kAskAgain, [&] { return reference->stop_warm_up || g.passes != 0; });
    }
    if (unwanted || reference->stop_warm_up)
      return set_error(error, DA3_ERROR_CANCELLED, "The warm-up was stopped.");
  }
  engine->single_ns = int64_t(1000) * engine->number("single-us", 0);
  return DA3_OK;
}

void stub_warm_up_stop(Da3Engine* reference) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  reference->stop_warm_up = true;
  ++reference->client.warm_up_stops;
  g.changed.notify_all();
}

void stub_error_clear(Da3Error* error) {
  std::free(error->message);
  std::free(error->detail);
  *error = Da3Error{};
}

// ---- control
// ------------------------------------------------------------------------------------------------------

void control_reset() {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  const Da3StubCounters old = g.counters;
  g.counters = Da3StubCounters{};
  g.counters.engines_alive = old.engines_alive;
  g.counters.results_alive = old.results_alive;
  g.passes = g.open_passes = g.opening = g.to_expire = g.slow_passes = 0;
  test_time().reset();
}

void control_counters(Da3StubCounters* out) {
  const std::lock_guard lock(global().mutex);
  *out = global().counters;
  out->streams = int(global().streams.size());
}

void control_release(int requests) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  g.passes = requests < 0 ? -1 : g.passes + requests;
  g.changed.notify_all();
}

void control_wait_submitted(int requests) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  g.changed.wait(lock, [&] { return g.counters.submitted >= requests; });
}

void control_wait_finished(int requests) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  g.changed.wait(lock, [&] { return g.counters.finished >= requests; });
}

void control_release_opens(int models) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  g.open_passes = models < 0 ? -1 : g.open_passes + models;
  g.changed.notify_all();
}

void control_wait_opening(int models) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  g.changed.wait(lock, [&] { return g.opening >= models; });
}

void control_expire(int requests) {
  const std::lock_guard lock(global().mutex);
  global().to_expire = requests;
}

void control_wait_slow(int passes) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  g.changed.wait(lock, [&] { return g.counters.slow_passes >= passes; });
}

void control_finish_slow(int passes) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  g.slow_passes = passes < 0 ? -1 : g.slow_passes + passes;
  g.changed.notify_all();
}

void control_set_time(int64_t ns) {
  test_time().set(ns);
}

void control_look(int idle_counts, Da3StubState* out) {
  test_time().look(idle_counts != 0, out);
}

void control_proceed() {
  test_time().proceed();
}

}  // namespace

extern "C" {

const Da3EngineApi* da3_engine_get_api(uint32_t abi) {
  static const Da3EngineApi api = {
      DA3_ENGINE_ABI,    sizeof(Da3EngineApi), stub_runtime,      stub_open,         stub_close,
      stub_info,         stub_submit,          stub_cancel,       stub_result_data,  stub_result_ref,
      stub_result_unref, stub_error_clear,     stub_stream_begin, stub_stream_end,   stub_drain,
      stub_stats,        stub_shape_stats,     stub_warm_up,      stub_warm_up_stop, stub_cancel_waiting,
  };
  return abi == DA3_ENGINE_ABI ? &api : nullptr;
}

__attribute__((visibility("default"))) const Da3StubControl* da3_stub_get_control(void) {
  static const Da3StubControl control = {control_reset,          control_counters,      control_release,
                                         control_wait_submitted, control_wait_finished, control_release_opens,
                                         control_wait_opening,   control_expire,        control_wait_slow,
                                         control_finish_slow,    control_set_time,      control_look,
                                         control_proceed};
  return &control;
}
}
