// SPDX-License-Identifier: MIT
#include "stub_engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <vector>

#define DA3_ENGINE_BUILD
#include "engine/api/engine.h"

namespace {

using Clock = std::chrono::steady_clock;
using Options = std::map<std::string, std::string>;
constexpr std::chrono::milliseconds kAskAgain{5};  // a blocked open() or warm_up() whether it is wanted

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
  std::set<std::pair<const Da3Engine*, const void*>> streams;
  std::map<std::string, Da3Engine*> engines;
};

Global& global() {
  static Global* instance = new Global;  // worker threads may outlive main()
  return *instance;
}

struct Request {
  Da3Request request;
  std::vector<Da3View> views;
  int number = 0;  // of this engine, from 1
  bool expire = false;
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
  Da3ResultData data{};
  std::vector<float> depth, confidence, sky, ray, ray_confidence, extrinsics, intrinsics;
};

struct Da3Engine {
  std::string key, name, source, device;
  Options options;
  Da3ModelInfo info{};
  int references = 1;
  int requests = 0;
  bool stopping = false;
  std::deque<std::unique_ptr<Request>> pending;
  std::vector<std::unique_ptr<Request>> running;
  std::thread worker;
  bool stop_warm_up = false;
  int64_t single_ns = 0;
  uint64_t batches = 0;
  // Who hears of warnings: the users of all references (the stub does not tell them apart).
  std::vector<Da3EngineConfig> users;

  int number(const char* option, int fallback) const {
    const auto found = options.find(option);
    return found == options.end() ? fallback : std::atoi(found->second.c_str());
  }
  bool hits(const char* option, const Request& request) const { return number(option, 0) == request.number; }
};

namespace {

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

void spoil(const Da3Engine& engine, const Request& request, Da3Result& result) {
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

Da3Result* compute(const Da3Engine& engine, const Request& item, uint32_t batch) {
  const Da3Request& request = item.request;
  auto* result = new Da3Result;
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

// ---- the worker
// ---------------------------------------------------------------------------------------------------

void warn(const Da3Engine& engine) {
  std::vector<Da3EngineConfig> users;
  {
    const std::lock_guard lock(global().mutex);
    users = engine.users;
  }
  for (const Da3EngineConfig& user : users) {
    if (user.warning)
      user.warning(user.user, DA3_ERROR_NO_MEMORY, "Out of memory with 4 items; from now on 2.");
  }
}

// Called without the lock.
void finish(const Da3Engine& engine, Request& item, Da3ErrorCode code, uint32_t batch) {
  if (engine.hits("fail-at", item)) code = DA3_ERROR_FAILED;
  if (engine.hits("oom-at", item)) code = DA3_ERROR_NO_MEMORY;
  if (item.expire && code == DA3_OK) code = DA3_ERROR_EXPIRED;
  if (engine.hits("halve-at", item)) warn(engine);
  {
    const std::lock_guard lock(global().mutex);
    if (item.abandoned) code = DA3_ERROR_CANCELLED;
    --global().outstanding;  // before done(): its callee may submit the next one
  }
  Da3Result* result = nullptr;
  if (code == DA3_OK && !engine.hits("no-result-at", item)) {
    result = compute(engine, item, batch);
    const std::lock_guard lock(global().mutex);
    ++global().counters.results_alive;
  }
  if (code == DA3_OK) {
    item.request.done(item.request.user, result, nullptr);
  } else {
    Da3Error error{};
    set_error(&error, code,
              code == DA3_ERROR_CANCELLED ? "The request was cancelled."
              : code == DA3_ERROR_EXPIRED ? "The deadline could not be met."
              : code == DA3_ERROR_NO_MEMORY
                  ? "Out of memory: the stub needs 1 byte more; use a smaller process-res."
                  : "The stub failed at request " + std::to_string(item.number) + ".",
              "stub");
    item.request.done(item.request.user, nullptr, &error);
    std::free(error.message);
    std::free(error.detail);
  }
  const std::lock_guard lock(global().mutex);
  ++global().counters.finished;
  if (code == DA3_ERROR_CANCELLED) ++global().counters.cancelled;
  if (code == DA3_ERROR_EXPIRED) ++global().counters.expired;
  global().changed.notify_all();
}

bool may_start(const Da3Engine& engine) {
  return !engine.pending.empty() && (!engine.number("block", 0) || global().passes != 0);
}

// Takes the longest run of equal shape that fits into a batch.
void form_batch(Da3Engine& engine) {
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

// Some of what runs, as one pass. One that breaks is run again in halves, as the engine does.
void run_pass(const Da3Engine& engine, size_t begin, size_t end, Da3ErrorCode code) {
  const auto breaks = [&](const auto& item) { return engine.hits("break-at", *item); };
  const bool broken = code == DA3_OK && std::any_of(engine.running.begin() + std::ptrdiff_t(begin),
                                                    engine.running.begin() + std::ptrdiff_t(end), breaks);
  if (broken) {
    const std::lock_guard lock(global().mutex);
    ++global().counters.broken_passes;
  }
  if (broken && end - begin > 1) {
    const size_t middle = (begin + end + 1) / 2;
    run_pass(engine, begin, middle, code);
    run_pass(engine, middle, end, code);
    return;
  }
  for (size_t i = begin; i < end; ++i)
    finish(engine, *engine.running[i], broken ? DA3_ERROR_FAILED : code, uint32_t(end - begin));
}

void work(Da3Engine* engine) {
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
      if (g.counters.batches < DA3_STUB_MAX_BATCHES) {
        g.counters.batch_sizes[g.counters.batches] = int(engine->running.size());
      }
      ++g.counters.batches;
      ++engine->batches;
    }
    const Da3ErrorCode code = engine->stopping ? DA3_ERROR_CANCELLED : DA3_OK;
    lock.unlock();
    run_pass(*engine, 0, engine->running.size(), code);
    lock.lock();
    engine->running.clear();
    g.changed.notify_all();
  }
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

Da3Engine* new_engine(const Da3EngineConfig& config, const std::string& key, const Options& options) {
  auto* engine = new Da3Engine;
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
  engine->worker = std::thread(work, engine);
  return engine;
}

// Callers of an older engine.h have no such field.
bool asks_to_stop(const Da3EngineConfig& config) {
  constexpr size_t kSize = offsetof(Da3EngineConfig, cancelled) + sizeof config.cancelled;
  return config.struct_size >= kSize && config.cancelled && config.cancelled(config.user) != 0;
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
  Da3Engine*& engine = g.engines[key];
  if (engine) {
    ++engine->references;
  } else {
    engine = new_engine(*config, key, options);
    ++g.counters.engines_alive;
  }
  engine->users.push_back(*config);
  return engine;
}

void stub_close(Da3Engine* engine) {
  Global& g = global();
  {
    const std::lock_guard lock(g.mutex);
    ++g.counters.closed;
    std::erase_if(g.streams,
                  [engine](const auto& stream) { return engine->references == 1 && stream.first == engine; });
    engine->users.clear();  // whose it was is not known; the others go without warnings
    if (--engine->references > 0) return;
    engine->stopping = true;
    g.engines.erase(engine->key);
    g.changed.notify_all();
  }
  engine->worker.join();
  delete engine;
  const std::lock_guard lock(g.mutex);
  --g.counters.engines_alive;
}

const Da3ModelInfo* stub_info(const Da3Engine* engine) {
  return &engine->info;
}

int stub_submit(Da3Engine* engine, const Da3Request* request, Da3Error* error) {
  if (request->outputs & ~engine->info.outputs) {
    return set_error(error, DA3_ERROR_UNSUPPORTED, "The stub does not have this output.");
  }
  if (request->width % DA3_PATCH_SIZE || request->height % DA3_PATCH_SIZE || request->width <= 0 ||
      request->height <= 0 || request->n_views == 0) {
    return set_error(error, DA3_ERROR_SETTINGS, "Sides must be multiples of 14.");
  }
  auto item = std::make_unique<Request>();
  item->request = *request;
  item->views.assign(request->views, request->views + request->n_views);
  item->submitted = Clock::now();
  Global& g = global();
  const std::lock_guard lock(g.mutex);
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
  engine->pending.push_back(std::move(item));
  g.changed.notify_all();
  return DA3_OK;
}

// What waits of the stream ends; with `mark`, what runs will end as cancelled too.
void take_out(Da3Engine* engine, const void* stream, bool mark) {
  Global& g = global();
  std::vector<std::unique_ptr<Request>> dropped;
  {
    const std::lock_guard lock(g.mutex);
    for (auto& item : engine->pending) {
      if (item->request.stream == stream) dropped.push_back(std::move(item));
    }
    std::erase(engine->pending, nullptr);
    for (auto& item : engine->running) {
      if (mark && item && item->request.stream == stream) item->abandoned = true;
    }
    g.changed.notify_all();
  }
  for (auto& item : dropped) finish(*engine, *item, DA3_ERROR_CANCELLED, 0);
}

void stub_cancel_waiting(Da3Engine* engine, const void* stream) {
  take_out(engine, stream, true);
  const std::lock_guard lock(global().mutex);
  ++global().counters.cancels_without_waiting;
}

void stub_cancel(Da3Engine* engine, const void* stream) {
  Global& g = global();
  take_out(engine, stream, false);
  std::unique_lock lock(g.mutex);
  g.changed.notify_all();
  g.changed.wait(lock, [&] {
    return std::none_of(engine->running.begin(), engine->running.end(),
                        [&](const auto& item) { return item && item->request.stream == stream; });
  });
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

void stub_stream_begin(Da3Engine* engine, const void* stream, const Da3Stream* description) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  ++g.counters.stream_begins;
  g.counters.last_max_pending = description->max_pending;
  g.counters.last_interval_ns = description->interval_ns;
  g.streams.insert({engine, stream});
}

void stub_stream_end(Da3Engine* engine, const void* stream) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  g.streams.erase({engine, stream});
}

void stub_drain(Da3Engine*, const void*) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  ++g.counters.drains;
}

// Figures that tests can recognise.
void stub_stats(const Da3Engine* engine, Da3EngineStats* out) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  out->users = uint32_t(engine->references);
  out->submitted = uint64_t(engine->requests);
  out->batches = engine->batches;
  out->memory_weights = 1234;
}

void stub_shape_stats(const Da3Engine* engine, const Da3Shape*, Da3ShapeStats* out) {
  const std::lock_guard lock(global().mutex);
  out->batch_cap = engine->info.max_batch;
  out->single_ns = engine->single_ns;
}

int stub_warm_up(Da3Engine* engine, const Da3Shape*, Da3Error* error) {
  Global& g = global();
  std::unique_lock lock(g.mutex);
  ++g.counters.warm_ups;
  g.changed.notify_all();
  if (engine->number("warm-fail", 0)) {
    return set_error(error, DA3_ERROR_NO_MEMORY, "Out of memory: not one item fits.");
  }
  if (engine->number("warm-block", 0)) {
    const Da3EngineConfig user = engine->users.empty() ? Da3EngineConfig{} : engine->users.back();
    bool unwanted = false;
    while (!unwanted && !engine->stop_warm_up && g.passes == 0) {
      lock.unlock();
      unwanted = asks_to_stop(user);
      lock.lock();
      if (unwanted) break;
      g.changed.wait_for(lock, kAskAgain, [&] { return engine->stop_warm_up || g.passes != 0; });
    }
    if (unwanted || engine->stop_warm_up)
      return set_error(error, DA3_ERROR_CANCELLED, "The warm-up was stopped.");
  }
  engine->single_ns = int64_t(1000) * engine->number("single-us", 0);
  return DA3_OK;
}

void stub_warm_up_stop(Da3Engine* engine) {
  Global& g = global();
  const std::lock_guard lock(g.mutex);
  engine->stop_warm_up = true;
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
  g.passes = g.open_passes = g.opening = g.to_expire = 0;
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
                                         control_wait_opening,   control_expire};
  return &control;
}
}
