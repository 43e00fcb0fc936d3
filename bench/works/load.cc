// SPDX-License-Identifier: MIT
//
// Work `load`: from the call that opens a model until it is ready, and until the first result, as a program
// that uses the engine's module sees it. Every opening but the cached one happens in a new process.
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <stdexcept>

#include "core/machine.h"
#include "core/worker.h"
#include "engine/api/engine_module.h"
#include "engine/checkpoint/synthetic.h"
#include "engine/runtime/policy.h"
#include "works/engine_worker.h"
#include "works/write_model.h"

namespace da3::bench {
namespace {

namespace fs = std::filesystem;

// What opening a model reads: all files of a folder, a single one, or an index and its shards.
std::vector<std::string> files_of(const std::string& source) {
  fs::path path = source;
  if (!fs::is_directory(path) && path.extension() == ".json") path = path.parent_path();
  if (!fs::is_directory(path)) return {path.string()};
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  return files;
}

double weight_bytes(const std::vector<std::string>& files) {
  double sum = 0;
  for (const std::string& file : files)
    if (fs::path(file).extension() == ".safetensors") sum += double(fs::file_size(file));
  return sum;
}

// Lets the system forget what it holds of files; throws when it will not say so.
void drop_from_cache(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    const int handle = open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (handle < 0) throw std::runtime_error("cannot open '" + file + "'");
    fdatasync(handle);  // pages that are not on the disk yet cannot be dropped
    const int failed = posix_fadvise(handle, 0, 0, POSIX_FADV_DONTNEED);
    close(handle);
    if (failed != 0) throw std::runtime_error("the system does not drop pages of '" + file + "'");
  }
}

struct Opened {
  std::unique_ptr<Engine> engine;
  double milliseconds = 0;
};

Opened open_model(const std::string& model, const Options& options, const std::string& precision,
                  int64_t threads) {
  const EngineModule& module = EngineModule::instance();
  Da3EngineConfig config{};
  config.struct_size = sizeof config;
  config.model = model.c_str();
  config.device = options.device.c_str();
  config.threads = uint32_t(threads);
  config.precision = precision_of(precision);
  Opened out;
  out.milliseconds = milliseconds_of([&] { out.engine = module.open(config); });
  return out;
}

// One picture, until its result is there.
void first_result(Engine& engine, const Size& size) {
  std::vector<uint8_t> pixels(size_t(size.width * size.height * 3));
  synthetic::fill_rgb(pixels.data(), int(size.width), int(size.height), 0);
  const Da3View view{pixels.data(), int32_t(size.width * 3)};
  struct Wait {
    std::mutex lock;
    std::condition_variable changed;
    bool done = false;
    std::string failure;
    const Da3EngineApi* api;
  } wait;
  wait.api = &engine.api();
  Da3Request request{};
  request.struct_size = sizeof request;
  request.stream = &wait;
  request.views = &view;
  request.n_views = 1;
  request.width = int32_t(size.width);
  request.height = int32_t(size.height);
  request.outputs = DA3_OUTPUT_DEPTH;
  request.user = &wait;
  request.done = [](void* user, Da3Result* result, const Da3Error* error) {
    auto* w = static_cast<Wait*>(user);
    if (result) w->api->result_unref(result);
    const std::lock_guard<std::mutex> guard(w->lock);
    if (error) w->failure = error->message;
    w->done = true;
    w->changed.notify_one();
  };
  engine.submit(request);
  std::unique_lock<std::mutex> guard(wait.lock);
  wait.changed.wait(guard, [&] { return wait.done; });
  if (!wait.failure.empty()) throw std::runtime_error(wait.failure);
}

struct Kind {
  const char* name;
  bool drop, cached, first;
  // Its time is that of the weights alone.
  bool reads() const { return !cached && !first; }
};
constexpr Kind kKinds[] = {{"cold", true, false, false},
                           {"warm", false, false, false},
                           {"cached", false, true, false},
                           {"warm, first result", false, false, true}};

// In a process of its own.
Row load_once(const Kind& kind, const std::string& model, const Options& options,
              const std::string& precision, int64_t threads, const Size& size) {
  EngineModule::instance();  // loading LibTorch is another matter
  std::unique_ptr<Engine> kept;
  if (kind.cached) kept = open_model(model, options, precision, threads).engine;
  Row out;
  reset_peak_memory();
  double total = milliseconds_of([&] {
    Opened opened = open_model(model, options, precision, threads);
    if (kind.first) first_result(*opened.engine, size);
    out["ms"] = opened.milliseconds;
    out["peak_rss_mb"] = peak_memory_mb();
    out["threads"] = at::get_num_threads();
    out["precision"] = name_of(opened.engine->info().precision);
    if (!kept) kept = std::move(opened.engine);  // closing is not measured
  });
  if (kind.first) out["ms"] = total;
  return out;
}

void measure_model(Context& context, const std::string& name, const std::string& model,
                   const std::string& precision) {
  const Options& o = context.options;
  const int64_t threads = first_or(o.threads, int64_t(0));
  const Size size = first_or(o.sizes, o.quick ? Size{84, 84} : Size{504, 504});
  std::vector<Turn> turns;
  std::vector<double> peaks(std::size(kKinds), 0.0);
  std::string in_force = precision;
  int64_t threads_in_force = threads;
  std::vector<std::string> files;
  for (size_t i = 0; i < std::size(kKinds); ++i) {
    const Kind& kind = kKinds[i];
    double& peak = peaks[i];
    turns.push_back({[&, kind] {
      // Where a name leads is asked of the engine; it has touched headers alone.
      if (files.empty()) files = files_of(source_of_model(model));
      if (kind.drop) drop_from_cache(files);
      const Row answer = in_child([&] { return load_once(kind, model, o, precision, threads, size); });
      peak = std::max(peak, answer.value("peak_rss_mb", 0.0));
      in_force = answer.value("precision", precision);
      threads_in_force = answer.value("threads", threads);
      return answer.at("ms").get<double>();
    }});
  }
  run_in_turn(turns, context.plan(5, 120));
  for (size_t i = 0; i < turns.size(); ++i) {
    Row row = {{"work", "load"},
               {"model", name},
               {"case", kKinds[i].name},
               {"precision", in_force},
               {"threads", threads_in_force}};
    add_times(turns[i], &row);
    if (row.contains("median_ms")) {
      if (kKinds[i].reads()) row["gbytes_per_s"] = weight_bytes(files) / row["median_ms"].get<double>() / 1e6;
      if (peaks[i] > 0) row["peak_rss_mb"] = peaks[i];
    }
    context.add(row);
  }
}

void run(Context& context) {
  const Options& o = context.options;
  std::vector<std::string> models = o.models;
  if (models.empty())
    models = o.quick ? std::vector<std::string>{"synthetic:da3-small"}
                     : std::vector<std::string>{"synthetic:da3-small", "synthetic:da3-base",
                                                "synthetic:da3-large"};
  std::vector<std::string> precisions = o.precisions;
  if (precisions.empty()) {
    precisions = {"fp32"};
    // The only one whose weights are computed anew.
    if (context.report().machine().value("device", "cpu") == "cpu") precisions.push_back("int8");
  }
  for (const std::string& model : models) {
    // Loading is about files: a synthetic model becomes one.
    const TemporaryFolder folder;
    std::string path = model;
    if (model.rfind("synthetic:", 0) == 0) {
      path = folder / "model";
      in_child([&]() -> Row {
        write_model(model.substr(model.find(':') + 1), path, o.seed);
        return {{"done", true}};
      });
    }
    for (const std::string& precision : precisions) measure_model(context, model, path, precision);
  }
}

DA3_BENCH_WORK(30, "load",
               "opening a model: from the disk, from the page cache, again; until the first result", run,
               "--model --precision --size=1 --threads=1 --seed");

}  // namespace
}  // namespace da3::bench
