// SPDX-License-Identifier: MIT
//
// engine.h on top of EngineCore. The only place where the border is crossed: nothing throws out of these
// functions.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "engine/api/engine.h"
#include "engine/api/engine_error.h"
#include "engine/runtime/device.h"
#include "engine/runtime/engine_core.h"
#include "engine/runtime/result.h"

struct Da3Engine {
  std::unique_ptr<da3::Client> client;
  std::shared_ptr<da3::EngineCore> core;
  int64_t keep_ns = 0;  // after close()
  Da3ModelInfo info{};
  // What the pointers in `info` point to.
  std::string device, runtime, plan;
};

namespace da3 {
namespace {

char* copy_text(const std::string& text) {
  auto* out = static_cast<char*>(std::malloc(text.size() + 1));
  if (out) std::memcpy(out, text.c_str(), text.size() + 1);
  return out;
}

void fill(Da3Error* error, Da3ErrorCode code, const std::string& message, const std::string& detail) {
  if (!error) return;
  error->code = code;
  error->message = copy_text(message);
  error->detail = detail.empty() ? nullptr : copy_text(detail);
}

// Runs `body`; turns an exception into *error and returns its code.
template <typename Body>
Da3ErrorCode guarded(Da3Error* error, Body&& body) noexcept {
  try {
    body();
    return DA3_OK;
  } catch (const EngineError& e) {
    fill(error, e.code(), e.what(), e.detail());
    return e.code();
  } catch (const std::bad_alloc&) {
    fill(error, DA3_ERROR_NO_MEMORY, "Out of memory while loading the model. Choose a smaller one.", {});
    return DA3_ERROR_NO_MEMORY;
  } catch (const c10::Error& e) {
    const bool memory =
        std::strstr(e.what(), "out of memory") || std::strstr(e.what(), "can't allocate memory");
    const Da3ErrorCode code = memory ? DA3_ERROR_NO_MEMORY : DA3_ERROR_FAILED;
    fill(error, code, e.what_without_backtrace(), e.what());
    return code;
  } catch (const std::exception& e) {
    fill(error, DA3_ERROR_FAILED, e.what(), {});
    return DA3_ERROR_FAILED;
  } catch (...) {
    fill(error, DA3_ERROR_FAILED, "An unknown error occurred in the engine.", {});
    return DA3_ERROR_FAILED;
  }
}

// What a request can get: results have no place for Gaussians yet.
uint32_t deliverable_outputs(const ModelConfig& config) {
  return network_outputs(config) & ~uint32_t(DA3_OUTPUT_GAUSSIANS);
}

// The number in an enumeration that a C caller filled: reading one that is no enumerator is undefined in C++.
template <typename Enumeration>
int number_in(const Enumeration& value) {
  static_assert(sizeof value == sizeof(int));
  int number;
  std::memcpy(&number, &value, sizeof number);
  return number;
}

// A structure of a caller who may know fewer fields: those it does not know are 0.
template <typename Struct>
Struct as_known(const Struct& given) {
  Struct out{};
  std::memcpy(&out, &given, std::min<size_t>(given.struct_size, sizeof out));
  return out;
}
template <typename Struct>
void give(const Struct& from, Struct* to) {
  const uint32_t size = to->struct_size;
  std::memcpy(to, &from, std::min<size_t>(size, sizeof from));
  if (size >= sizeof size) to->struct_size = size;
}

void fill_info(Da3Engine* engine) {
  const Model& m = engine->core->model();
  Da3ModelInfo& info = engine->info;
  engine->device = m.device.str();
  engine->runtime = describe_runtime();
  info.struct_size = sizeof info;
  info.name = m.config.name.c_str();
  info.source = m.source.c_str();
  info.weights_hash = m.hash.c_str();
  info.licence = m.licence.c_str();
  info.device = engine->device.c_str();
  info.runtime = engine->runtime.c_str();
  info.precision = m.precision;
  info.kind = m.config.nested() ? DA3_KIND_METRIC : DA3_KIND_RELATIVE;
  info.outputs = deliverable_outputs(m.config);
  info.max_batch = engine->client->max_batch > 0 ? engine->client->max_batch : engine->core->limit();
  info.synthetic = m.synthetic;
  info.focal_normalised = m.config.focal_normalised;
  info.parameters = m.parameters;
  info.process_res = m.config.process_res;
  info.performance_mode = m.plan.mode;
  info.attention = m.plan.attention;
  info.plan = engine->plan.c_str();
}

void check(const Da3EngineConfig& config) {
  if (!config.model || !*config.model)
    throw EngineError(DA3_ERROR_SETTINGS,
                      "No model given. Give a safetensors file, a folder, a repository id such as "
                      "depth-anything/DA3-SMALL, or synthetic:da3-small to try things out.");
  const int precision = number_in(config.precision);
  if (precision < DA3_PRECISION_AUTO || precision > DA3_PRECISION_FP8)
    throw EngineError(DA3_ERROR_SETTINGS, "There is no precision number " + std::to_string(precision) + ".");
  const int mode = number_in(config.performance_mode), attention = number_in(config.attention);
  if (mode < DA3_PERFORMANCE_BALANCED || mode > DA3_PERFORMANCE_MAX)
    throw EngineError(DA3_ERROR_SETTINGS,
                      "There is no performance mode number " + std::to_string(mode) + ".");
  if (attention < DA3_ATTENTION_AUTO || attention > DA3_ATTENTION_CUDNN)
    throw EngineError(DA3_ERROR_SETTINGS, "There is no attention number " + std::to_string(attention) + ".");
  if (!(config.memory_fraction >= 0 && config.memory_fraction <= 1))
    throw EngineError(DA3_ERROR_SETTINGS, "memory-fraction is " + std::to_string(config.memory_fraction) +
                                              "; give a part of the free memory, above 0 and at most 1.");
  if (config.cache_ttl_ms < 0)
    throw EngineError(DA3_ERROR_SETTINGS, "cache-ttl is negative; give milliseconds, or 0 to keep nothing.");
}

Da3Engine* open_engine(const Da3EngineConfig* given, Da3Error* error) {
  Da3Engine* out = nullptr;
  guarded(error, [&] {
    if (!given || given->struct_size < DA3_ENGINE_CONFIG_SIZE_1)
      throw EngineError(DA3_ERROR_LIBRARY, "The engine module is newer than its caller.");
    const Da3EngineConfig config = as_known(*given);
    check(config);
    const Notice notice = [&config](const std::string& text) {
      if (config.notice) config.notice(config.user, text.c_str());
    };
    const Progress progress = [&config](double part) {
      if (config.progress) config.progress(config.user, DA3_PROGRESS_LOADING, part);
    };
    Cancelled cancelled;
    if (config.cancelled) cancelled = [&config] { return config.cancelled(config.user) != 0; };
    progress(0);
    if (!set_threads(config.threads))
      notice(
          "threads=" + std::to_string(config.threads) +
          " changes nothing: an earlier user of this process has set another number of CPU threads, or has "
          "computed with all of them. Set it for the first one.");
    const ModelRequest request =
        resolve_model(config.model, config.device ? config.device : "auto",
                      Wish{config.performance_mode, config.precision, config.attention}, cancelled);
    if (config.cache_memory_limit > 0) EngineCore::registry().set_limit(config.cache_memory_limit);
    auto engine = std::make_unique<Da3Engine>();
    engine->client = std::make_unique<Client>();
    engine->client->max_batch = config.max_batch;
    engine->client->warning = config.warning;
    engine->client->progress = config.progress;
    engine->client->cancelled = config.cancelled;
    engine->client->user = config.user;
    engine->keep_ns = int64_t(config.cache_ttl_ms) * 1'000'000;
    // Why it is so for this user: another one may have come to the same model by another wish.
    engine->plan = request.plan.text;
    if (config.max_batch > 0)
      engine->plan += ", max-batch " + std::to_string(config.max_batch) + " (as asked)";
    engine->core = EngineCore::acquire(request, notice, progress, cancelled);
    engine->core->set_memory_fraction(engine->client.get(), config.memory_fraction);
    fill_info(engine.get());
    progress(1);
    out = engine.release();
  });
  return out;
}

// Takes the waiting requests of this client (and stream, if not all) out and tells their owners.
void take_out_waiting(Da3Engine& engine, const void* stream, bool all) {
  auto items = engine.core->queue().remove(
      [&](const Item& item) { return item.client == engine.client.get() && (all || item.stream == stream); });
  for (Item& item : items) deliver(item, DA3_ERROR_CANCELLED, "Cancelled.");
}

void close_engine(Da3Engine* engine) {
  if (!engine) return;
  guarded(nullptr, [&] {
    take_out_waiting(*engine, nullptr, true);
    engine->client->wait_all();
    engine->core->queue().end_streams(engine->client.get());
    engine->core->forget_memory_fraction(engine->client.get());
    EngineCore::registry().release(std::move(engine->core), engine->keep_ns);
  });
  delete engine;
}

void cancel_stream(Da3Engine* engine, const void* stream) {
  guarded(nullptr, [&] {
    take_out_waiting(*engine, stream, false);
    engine->client->wait(stream);
  });
}

void cancel_without_waiting(Da3Engine* engine, const void* stream) {
  guarded(nullptr, [&] {
    for (Item& item : engine->core->queue().abandon(engine->client.get(), stream))
      deliver(item, DA3_ERROR_CANCELLED, "Cancelled.");
  });
}

std::string name_outputs(uint32_t bits) {
  static const std::pair<uint32_t, const char*> names[] = {
      {DA3_OUTPUT_DEPTH, "depth"}, {DA3_OUTPUT_CONFIDENCE, "confidence"},
      {DA3_OUTPUT_SKY, "sky"},     {DA3_OUTPUT_POSE, "pose"},
      {DA3_OUTPUT_RAY, "rays"},    {DA3_OUTPUT_GAUSSIANS, "Gaussians"}};
  std::string out;
  for (const auto& [bit, name] : names)
    if (bits & bit) out += (out.empty() ? "" : ", ") + std::string(name);
  return out;
}

// One impossible camera would spoil the results of everything that shares its batch.
void check_cameras(const Da3Request& r) {
  for (uint32_t v = 0; v < r.n_views; ++v) {
    const float *e = r.extrinsics + size_t(v) * 12, *k = r.intrinsics + size_t(v) * 9;
    const std::string view = "The known camera of view " + std::to_string(v);
    bool finite = true;
    for (int i = 0; i < 12; ++i) finite &= std::isfinite(e[i]);
    for (int i = 0; i < 9; ++i) finite &= std::isfinite(k[i]);
    if (!finite)
      throw EngineError(DA3_ERROR_SETTINGS,
                        view + " has a value that is not finite. Leave it out or fix it.");
    if (k[0] <= 0 || k[4] <= 0)
      throw EngineError(DA3_ERROR_SETTINGS,
                        view + " has a focal length that is not positive. Give it in pixels of the image.");
    double worst = 0;  // of R R^T - 1
    for (int a = 0; a < 3; ++a)
      for (int b = 0; b < 3; ++b) {
        double dot = a == b ? -1 : 0;
        for (int i = 0; i < 3; ++i) dot += double(e[4 * a + i]) * e[4 * b + i];
        worst = std::max(worst, std::abs(dot));
      }
    const double determinant = double(e[0]) * (double(e[5]) * e[10] - double(e[6]) * e[9]) -
                               double(e[1]) * (double(e[4]) * e[10] - double(e[6]) * e[8]) +
                               double(e[2]) * (double(e[4]) * e[9] - double(e[5]) * e[8]);
    if (worst > 1e-2 || determinant < 0)
      throw EngineError(
          DA3_ERROR_SETTINGS,
          view + " has a matrix that is no rotation. Give world to camera [R|t] without scale.");
  }
}

void check(const Da3Request& r, const Model& model) {
  if (!r.done || !r.views || r.n_views == 0)
    throw EngineError(DA3_ERROR_SETTINGS, "The request is incomplete.");
  if (r.width < DA3_PATCH_SIZE || r.height < DA3_PATCH_SIZE || r.width % DA3_PATCH_SIZE ||
      r.height % DA3_PATCH_SIZE)
    throw EngineError(DA3_ERROR_SETTINGS, "The image size " + std::to_string(r.width) + "x" +
                                              std::to_string(r.height) +
                                              " is no multiple of 14. Resize it first (da3preprocess does).");
  for (uint32_t v = 0; v < r.n_views; ++v)
    if (!r.views[v].rgb || r.views[v].stride < int64_t(3) * r.width)
      throw EngineError(DA3_ERROR_SETTINGS,
                        "View " + std::to_string(v) + " has no pixels or a stride below 3 * width.");
  const int strategy = number_in(r.ref_view_strategy);
  if (strategy < DA3_REF_VIEW_FIRST || strategy > DA3_REF_VIEW_SADDLE_SIM_RANGE)
    throw EngineError(DA3_ERROR_SETTINGS,
                      "There is no reference view strategy number " + std::to_string(strategy) + ".");
  const uint32_t has = deliverable_outputs(model.config);
  const uint32_t lacking = r.outputs & ~has;
  if (lacking)
    throw EngineError(DA3_ERROR_UNSUPPORTED, "The model '" + model.config.name + "' does not compute " +
                                                 name_outputs(lacking) + "; it has " + name_outputs(has) +
                                                 ".");
  if (r.use_ray_pose && !(has & DA3_OUTPUT_RAY))
    throw EngineError(DA3_ERROR_UNSUPPORTED,
                      "use-ray-pose needs a model with a ray head; '" + model.config.name + "' has none.");
  if ((r.extrinsics == nullptr) != (r.intrinsics == nullptr))
    throw EngineError(DA3_ERROR_SETTINGS, "Known cameras need extrinsics and intrinsics, both or none.");
  if (r.extrinsics && !model.config.cameras)
    throw EngineError(DA3_ERROR_UNSUPPORTED, "The model '" + model.config.name +
                                                 "' has no camera encoder: it cannot take known cameras.");
  if (r.extrinsics) check_cameras(r);
}

int submit_request(Da3Engine* engine, const Da3Request* request, Da3Error* error) {
  return guarded(error, [&] {
    if (request->struct_size < DA3_REQUEST_SIZE_1)
      throw EngineError(DA3_ERROR_SETTINGS, "The request is incomplete.");
    const Da3Request r = as_known(*request);
    check(r, engine->core->model());
    if (r.flags & ~uint32_t(DA3_REQUEST_DROP_EXPIRED))
      throw EngineError(DA3_ERROR_SETTINGS, "The request has flags that this engine does not know.");
    if (r.deadline_ns < 0) throw EngineError(DA3_ERROR_SETTINGS, "The request's deadline is negative.");
    Item item;
    item.client = engine->client.get();
    item.stream = r.stream;
    item.views.assign(r.views, r.views + r.n_views);
    item.width = r.width;
    item.height = r.height;
    item.outputs = r.outputs | DA3_OUTPUT_DEPTH;
    item.ref_view_strategy = r.ref_view_strategy;
    item.use_ray_pose = r.use_ray_pose != 0;
    if (r.extrinsics) {
      item.extrinsics.assign(r.extrinsics, r.extrinsics + size_t(r.n_views) * 12);
      item.intrinsics.assign(r.intrinsics, r.intrinsics + size_t(r.n_views) * 9);
    }
    item.max_batch = engine->client->max_batch;
    if (r.deadline_ns > 0) item.deadline = r.deadline_ns;
    item.droppable = (r.flags & DA3_REQUEST_DROP_EXPIRED) != 0;
    item.done = r.done;
    item.user = r.user;
    engine->client->begin(r.stream);
    engine->core->queue().push(std::move(item));
  });
}

void begin_stream(Da3Engine* engine, const void* stream, const Da3Stream* given) {
  guarded(nullptr, [&] {
    const Da3Stream description = given ? as_known(*given) : Da3Stream{};
    engine->core->queue().stream_begin(
        engine->client.get(), stream,
        {description.max_pending, std::max<int64_t>(0, description.interval_ns)});
  });
}

void end_stream(Da3Engine* engine, const void* stream) {
  guarded(nullptr, [&] { engine->core->queue().stream_end(engine->client.get(), stream); });
}

void drain_stream(Da3Engine* engine, const void* stream) {
  guarded(nullptr, [&] { engine->core->queue().drain(engine->client.get(), stream); });
}

void fill_stats(const Da3Engine* engine, Da3EngineStats* out) {
  guarded(nullptr, [&] {
    const EngineCore& core = *engine->core;
    const FormerCounters c = core.queue().counters();
    const RegistryCounters cache = EngineCore::registry().counters();
    const DeviceMemory memory = core.memory();
    Da3EngineStats s{};
    s.users = EngineCore::registry().users(&core);
    s.streams = c.streams;
    s.waiting = c.waiting;
    s.running = c.running;
    s.submitted = c.submitted;
    s.completed = c.completed;
    s.failed = c.failed;
    s.cancelled = c.cancelled;
    s.expired = c.expired;
    s.batches = c.batches;
    std::copy(c.histogram.begin(), c.histogram.end(), s.batch_histogram);
    s.memory_retries = c.memory_retries;
    s.service = c.service.quantiles();
    s.queue_wait = c.queue_wait.quantiles();
    s.memory_weights = core.weight_bytes();
    s.memory_used = memory.used;
    s.memory_free = memory.free;
    s.memory_budget = core.memory_budget() == kUnlimitedMemory ? 0 : core.memory_budget();
    s.cache_hits = cache.hits;
    s.cache_misses = cache.misses;
    s.cache_evictions = cache.evictions;
    s.cache_memory = cache.unused_bytes;
    give(s, out);
  });
}

// The pixels of a made-up picture: shades, so that no branch of the network sees a constant.
std::vector<uint8_t> made_up_picture(int width, int height) {
  std::vector<uint8_t> pixels(size_t(width) * size_t(height) * 3);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = uint8_t((i * 2654435761u) >> 24);
  return pixels;
}

Item item_like(const Da3Engine* engine, const Da3Shape& shape, const uint8_t* pixels) {
  Item item;
  item.client = engine->client.get();
  item.views.assign(shape.n_views, {pixels, shape.width * 3});
  item.width = shape.width;
  item.height = shape.height;
  item.outputs = shape.outputs | DA3_OUTPUT_DEPTH;
  item.use_ray_pose = shape.use_ray_pose != 0;
  item.max_batch = engine->client->max_batch;
  return item;
}

void fill_shape_stats(const Da3Engine* engine, const Da3Shape* shape, Da3ShapeStats* out) {
  guarded(nullptr, [&] {
    const Da3Shape known = as_known(*shape);
    engine->core->queue().shape_stats(item_like(engine, known, nullptr), out);
  });
}

int warm_up_engine(Da3Engine* engine, const Da3Shape* given, Da3Error* error) {
  return guarded(error, [&] {
    const Da3Shape shape = as_known(*given);
    constexpr uint32_t kMostViews = 1u << 16;
    const std::vector<Da3View> none(std::min(shape.n_views, kMostViews),
                                    {reinterpret_cast<const uint8_t*>(""), 0x7fffffff});
    Da3Request request{};
    request.struct_size = sizeof request;
    request.views = none.data();
    request.n_views = uint32_t(none.size());
    request.width = shape.width;
    request.height = shape.height;
    request.outputs = shape.outputs;
    request.use_ray_pose = shape.use_ray_pose;
    request.ref_view_strategy = DA3_REF_VIEW_SADDLE_BALANCED;
    request.done = [](void*, Da3Result*, const Da3Error*) {};
    check(request, engine->core->model());
    const std::vector<uint8_t> pixels = made_up_picture(shape.width, shape.height);
    const uint32_t most = shape.max_batch > 0 ? shape.max_batch : engine->info.max_batch;
    Client& client = *engine->client;
    const uint32_t stops = client.warm_up_stops;
    const auto unwanted = [&] {
      return client.warm_up_stops != stops || (client.cancelled && client.cancelled(client.user) != 0);
    };
    const bool complete = engine->core->worker().warm_up(
        item_like(engine, shape, pixels.data()), most, unwanted, [&](double part) {
          if (client.progress) client.progress(client.user, DA3_PROGRESS_WARM_UP, part);
        });
    if (!complete) throw EngineError(DA3_ERROR_CANCELLED, "The warm-up was stopped.");
  });
}

void stop_warm_up(Da3Engine* engine) {
  ++engine->client->warm_up_stops;
}

void clear_error(Da3Error* error) {
  if (!error) return;
  std::free(error->message);
  std::free(error->detail);
  *error = {};
}

const char* runtime_text() {
  static const std::string text = describe_runtime();
  return text.c_str();
}

}  // namespace
}  // namespace da3

extern "C" const Da3EngineApi* da3_engine_get_api(uint32_t abi) {
  static const Da3EngineApi api = {
      DA3_ENGINE_ABI,        sizeof(Da3EngineApi),
      da3::runtime_text,     da3::open_engine,
      da3::close_engine,     [](const Da3Engine* engine) -> const Da3ModelInfo* { return &engine->info; },
      da3::submit_request,   da3::cancel_stream,
      da3::result_data,      da3::result_ref,
      da3::result_unref,     da3::clear_error,
      da3::begin_stream,     da3::end_stream,
      da3::drain_stream,     da3::fill_stats,
      da3::fill_shape_stats, da3::warm_up_engine,
      da3::stop_warm_up,     da3::cancel_without_waiting,
  };
  return abi == DA3_ENGINE_ABI ? &api : nullptr;
}
