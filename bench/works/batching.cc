// SPDX-License-Identifier: MIT
//
// Work `batching`: the same images through the real engine with fixed batch sizes and with the learned one,
// turn by turn, so that what else the machine does falls on all of them, each in a process of its own. Uses
// the engine's border only, as the elements do.
#include <ATen/Parallel.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/machine.h"
#include "core/stats.h"
#include "core/turns.h"
#include "core/worker.h"
#include "engine/api/engine_module.h"
#include "engine/checkpoint/synthetic.h"
#include "engine/runtime/policy.h"
#include "works/engine_worker.h"
#include "works/libtorch.h"

namespace da3::bench {
namespace {

constexpr double kLongest = 3600;       // seconds for one answer
constexpr uint32_t kLargestFixed = 32;  // as large as the learned one gets in the usual performance mode

struct Setup {
  std::string model, device, attention = "auto";
  std::string precision = "auto";
  std::vector<int64_t> batches;  // fixed ones; empty: by the work
  int images = 20;
  Size size = {504, 280};
  int64_t threads = 0;
};

// One image of a work, and whose it is.
struct Image {
  int width, height;
  std::vector<uint8_t> pixels;
  int stream;
};

// Mixed: between two images of the full size five of a quarter of each side, in whole patches, from three
// other streams. A small one takes about a sixth of the time of a large one: either size takes about half of
// it all, and has enough images to fill batches.
std::vector<Image> make_work(const Setup& s, bool mixed) {
  constexpr int kSmallOnes = 5, kSmallStreams = 3;
  std::vector<Image> work;
  const auto add = [&](int width, int height, int stream) {
    Image image = {width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3), stream};
    synthetic::fill_rgb(image.pixels.data(), width, height, int(work.size()));
    work.push_back(std::move(image));
  };
  const auto quarter = [](int side) { return std::max(1, side / DA3_PATCH_SIZE / 4) * DA3_PATCH_SIZE; };
  for (int i = 0; i < s.images; ++i) {
    add(int(s.size.width), int(s.size.height), 0);
    for (int j = 0; mixed && j < kSmallOnes; ++j)
      add(quarter(int(s.size.width)), quarter(int(s.size.height)), 1 + (i * kSmallOnes + j) % kSmallStreams);
  }
  return work;
}

// Counts answers.
class Answers {
 public:
  explicit Answers(const Da3EngineApi& api) : api_(api) {}
  static void done(void* user, Da3Result* result, const Da3Error* error) {
    auto* self = static_cast<Answers*>(user);
    if (result) self->api_.result_unref(result);
    const std::lock_guard<std::mutex> guard(self->lock_);
    if (error && self->failure_.empty())
      self->failure_ = error->message ? error->message : "inference failed";
    ++self->count_;
    self->changed_.notify_all();
  }
  void wait_for(int count) {
    std::unique_lock<std::mutex> guard(lock_);
    changed_.wait(guard, [&] { return count_ >= count; });
    if (!failure_.empty()) throw std::runtime_error(failure_);
  }

 private:
  const Da3EngineApi& api_;
  std::mutex lock_;
  std::condition_variable changed_;
  int count_ = 0;
  std::string failure_;
};

std::unique_ptr<Engine> open(const Setup& s, uint32_t batch) {
  Da3EngineConfig config{};
  config.struct_size = sizeof config;
  config.model = s.model.c_str();
  config.device = s.device.c_str();
  config.precision = precision_of(s.precision);
  config.attention = attention_of(s.attention);
  config.max_batch = batch;
  config.threads = uint32_t(s.threads);
  return EngineModule::instance().open(config);
}

void run_once(Engine& engine, const std::vector<Image>& work) {
  static const char streams[4] = {};
  Answers answers(engine.api());
  for (const Image& image : work) {
    const Da3View view = {image.pixels.data(), 3 * image.width};
    Da3Request r{};
    r.struct_size = sizeof r;
    r.stream = &streams[image.stream];
    r.views = &view;
    r.n_views = 1;
    r.width = image.width;
    r.height = image.height;
    r.outputs = DA3_OUTPUT_DEPTH;
    r.ref_view_strategy = DA3_REF_VIEW_SADDLE_BALANCED;
    r.done = Answers::done;
    r.user = &answers;
    engine.submit(r);
  }
  answers.wait_for(int(work.size()));
}

std::vector<std::pair<int, int>> sizes_of(const std::vector<Image>& work) {
  std::vector<std::pair<int, int>> sizes;
  for (const Image& image : work)
    if (std::find(sizes.begin(), sizes.end(), std::pair(image.width, image.height)) == sizes.end())
      sizes.emplace_back(image.width, image.height);
  return sizes;
}

void warm_up(Engine& engine, const std::vector<Image>& work) {
  for (const auto& [width, height] : sizes_of(work)) {
    Da3Shape shape{};
    shape.struct_size = sizeof shape;
    shape.width = width;
    shape.height = height;
    shape.n_views = 1;
    engine.warm_up(shape);
  }
}

// A contender's process. First says {"ready"} with name, device, precision, attention, threads and peak_mb,
// then answers
//   {"do": "run"}    all images once -> {"ms"}
//   {"do": "state"}  -> "cap" that it has learned for the images of full size, "peak_mb"
void serve(Channel& channel, const Setup& s, uint32_t batch, bool mixed) {
  const std::vector<Image> work = make_work(s, mixed);
  const auto engine = open(s, batch);
  if (batch == 0) warm_up(*engine, work);
  run_once(*engine, work);  // does not count
  const Da3ModelInfo& info = engine->info();
  channel.reply({{"ready", true},
                 {"name", info.name},
                 {"device", info.device},
                 {"precision", name_of(info.precision)},
                 {"attention", name_of(info.attention)},
                 {"threads", at::get_num_threads()},
                 {"peak_mb", peak_memory_mb()}});
  while (const auto request = channel.next()) {
    try {
      if (request->value("do", "") == "run") {
        channel.reply({{"ms", milliseconds_of([&] { run_once(*engine, work); })}});
        continue;
      }
      Da3Shape shape{};
      shape.struct_size = sizeof shape;
      shape.width = int32_t(s.size.width);
      shape.height = int32_t(s.size.height);
      shape.n_views = 1;
      channel.reply({{"cap", engine->shape_stats(shape).batch_cap}, {"peak_mb", peak_memory_mb()}});
    } catch (const std::exception& e) {
      channel.reply({{"error", e.what()}});
    }
  }
}

// One way to put the images together. Each has an engine of its own in a process of its own: what one
// learns from its passes is not known to the others.
struct Contender {
  uint32_t batch;  // 0: learned
  Row ready = Row::object();
  std::shared_ptr<Worker> worker = {};
};

// Each with its own copy of the weights, one after the other: those that would not fit beside the others any
// more are left out and say so.
Turn start(const Setup& s, bool mixed, double peak_mb, Contender* c) {
  Turn turn;
  try {
    const double free_mb = available_memory_mb();
    if (free_mb > 0 && free_mb < 1.2 * peak_mb)
      throw std::runtime_error("a process takes about " + number_text(peak_mb) + " MiB of memory, " +
                               number_text(free_mb) + " MiB are free");
    c->worker = std::make_shared<Worker>(
        Worker::fork([=, batch = c->batch](Channel& channel) { serve(channel, s, batch, mixed); }));
    c->ready = c->worker->hear(kLongest);
    turn.once = [worker = c->worker] {
      return worker->ask({{"do", "run"}}, kLongest).at("ms").get<double>();
    };
  } catch (const std::exception& e) {
    turn.failure = first_line(e.what());
  }
  return turn;
}

// Powers of two up to what the images of one size can fill, or what was asked for; then the learned one.
std::vector<Contender> contenders(const Setup& s, const std::vector<Image>& work) {
  std::map<std::pair<int, int>, uint32_t> of_size;
  uint32_t most = 0;
  for (const Image& image : work) most = std::max(most, ++of_size[{image.width, image.height}]);
  std::vector<Contender> out;
  for (const int64_t b : s.batches) out.push_back({uint32_t(b)});
  if (out.empty())
    for (uint32_t b = 1; b <= std::min(most, kLargestFixed); b *= 2) out.push_back({b});
  out.push_back({0});
  return out;
}

// How much faster `learned` is, round by round; 0 when one of them has failed.
double ratio(const Turn& learned, const Turn& other) {
  std::vector<double> ratios;
  for (size_t r = 0; r < std::min(learned.milliseconds.size(), other.milliseconds.size()); ++r)
    ratios.push_back(other.milliseconds[r] / learned.milliseconds[r]);
  return ratios.empty() || !learned.failure.empty() || !other.failure.empty() ? 0 : median(ratios);
}

// The same by the passes that were disturbed least: the 5th percentiles of both.
double undisturbed_ratio(const Turn& learned, const Turn& other) {
  if (!learned.failure.empty() || !other.failure.empty() || learned.milliseconds.empty() ||
      other.milliseconds.empty())
    return 0;
  return quantile(other.milliseconds, 0.05) / quantile(learned.milliseconds, 0.05);
}

// Operations / 1e9 of all images.
double gflop_of_work(const Setup& s, const std::vector<Image>& work) {
  std::map<std::pair<int, int>, double> of_size;
  double sum = 0;
  for (const Image& image : work) {
    const auto [found, fresh] = of_size.try_emplace({image.width, image.height});
    if (fresh) {
      EngineSetup setup;
      setup.model = s.model;
      setup.size = {image.width, image.height};
      setup.pose = false;
      found->second = gflop_of(setup);
    }
    sum += found->second;
  }
  return sum;
}

void measure(Context& context, Setup s, bool mixed) {
  const std::vector<Image> work = make_work(s, mixed);
  std::vector<Contender> all = contenders(s, work);
  std::vector<Turn> turns(all.size());
  // The learned one first: without it there is nothing to compare, and it tries the largest batches.
  double peak_mb = 0;
  for (size_t i = all.size(); i-- > 0;) {
    turns[i] = start(s, mixed, peak_mb, &all[i]);
    peak_mb = std::max(peak_mb, all[i].ready.value("peak_mb", 0.0));
    if (i + 1 < all.size()) continue;
    if (!turns[i].failure.empty()) throw std::runtime_error(turns[i].failure);
    // What it chose is for all of them.
    s.precision = all[i].ready.value("precision", s.precision);
    s.attention = all[i].ready.value("attention", s.attention);
  }
  RunPlan plan = context.plan(5, kLongest);
  if (context.options.warm_up < 0) plan.warm_up = context.options.quick ? 0 : 1;
  run_in_turn(turns, plan);
  const Row info = all.back().ready;
  std::vector<Row> memory(all.size(), Row::object());
  for (size_t i = 0; i < all.size(); ++i)
    if (turns[i].failure.empty()) memory[i] = all[i].worker->ask({{"do", "state"}});
  for (Contender& c : all) c.worker.reset();  // the ceiling is measured alone
  const double gflop = gflop_of_work(s, work);
  for (size_t i = 0; i < all.size(); ++i) {
    const bool learned = all[i].batch == 0;
    Row row = {{"work", "batching"},
               {"model", info.value("name", "")},
               {"case", mixed ? "mixed" : "equal"},
               {"size", s.size.text()},
               {"forming", learned ? "learned" : "fixed"},
               {"batch", learned ? memory[i].value("cap", int64_t(0)) : int64_t(all[i].batch)},
               {"views", 1},
               {"precision", s.precision},
               {"attention", s.attention},
               {"threads", info.value("threads", 0)},
               {"images", work.size()}};
    add_times(turns[i], &row);
    if (row.contains("median_ms")) {
      const double ms = row["median_ms"].get<double>();
      row["images_per_s"] = 1000 * double(work.size()) / ms;
      row["peak_rss_mb"] = memory[i].value("peak_mb", 0.0);
      if (gflop > 0) {
        row["gflop"] = gflop;
        row["gflops"] = 1000 * gflop / ms;
        const double ceiling = context.ceiling(s.device, s.threads, s.precision);
        if (ceiling > 0) row["ceiling_share"] = 1000 * gflop / ms / ceiling;
      }
    }
    if (const double over = ratio(turns.back(), turns[i]); over > 0 && !learned) {
      row["learned_over_this"] = over;
      row["learned_over_this_p5"] = undisturbed_ratio(turns.back(), turns[i]);
    }
    if (learned)
      if (const AgainstBest b = against_best(turns.back(), std::span(turns).first(turns.size() - 1));
          b.ratio > 0) {
        row["learned_over_best"] = b.ratio;
        row["best"] = std::to_string(all[b.chosen[0]].batch) + ", " + std::to_string(all[b.chosen[1]].batch);
      }
    context.add(row);
  }
}

void run(Context& context) {
  const Options& o = context.options;
  std::vector<std::string> models = o.models;
  if (models.empty()) models = {"synthetic:da3-small"};
  for (const int64_t b : o.batches)
    if (b > DA3_BATCH_BUCKETS)
      throw std::runtime_error("--batch of work batching needs whole numbers from 1 to " +
                               std::to_string(DA3_BATCH_BUCKETS) + ", not '" + std::to_string(b) + "'");
  for (const std::string& model : models)
    for (const char* load : {"equal", "mixed"}) {
      if (!o.load.empty() && o.load != load) continue;
      Setup s;
      s.model = model;
      s.device = o.device;
      s.precision = first_or(o.precisions, s.precision);
      s.attention = first_or(o.attentions, s.attention);
      s.batches = o.batches;
      s.images = o.images > 0 ? o.images : o.quick ? 8 : 20;
      s.size = first_or(o.sizes, o.quick ? Size{140, 84} : s.size);
      s.threads = first_or(o.threads, s.threads);
      measure(context, s, load == std::string("mixed"));
    }
}

DA3_BENCH_WORK(60, "batching", "images through the engine with fixed batches and with the learned one", run,
               "--model --size=1 --batch --precision=1 --attention=1 --threads=1 --images --load=1");

}  // namespace
}  // namespace da3::bench
