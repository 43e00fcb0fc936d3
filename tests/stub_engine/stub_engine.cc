// SPDX-License-Identifier: MIT
//
// The engine's API of the stub: models that open or do not, requests, streams, figures, measurements.
#include "stub_engine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#define DA3_ENGINE_BUILD
#include "stub_core.h"

namespace da3::stub {

namespace {

constexpr std::chrono::milliseconds kAskAgain{5};  // a blocked open() or warm_up() whether it is wanted

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
  out->batch_histogram[2] = 5;
  out->service.p95_ns = 678;
  out->queue_wait.p50_ns = 90;
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

}  // namespace

}  // namespace da3::stub

extern "C" {

const Da3EngineApi* da3_engine_get_api(uint32_t abi) {
  using namespace da3::stub;
  static const Da3EngineApi api = {
      DA3_ENGINE_ABI,    sizeof(Da3EngineApi), stub_runtime,      stub_open,         stub_close,
      stub_info,         stub_submit,          stub_cancel,       stub_result_data,  stub_result_ref,
      stub_result_unref, stub_error_clear,     stub_stream_begin, stub_stream_end,   stub_drain,
      stub_stats,        stub_shape_stats,     stub_warm_up,      stub_warm_up_stop, stub_cancel_waiting,
  };
  return abi == DA3_ENGINE_ABI ? &api : nullptr;
}
}
