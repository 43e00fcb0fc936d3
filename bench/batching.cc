// SPDX-License-Identifier: MIT
//
// The same images through the real engine with fixed batch sizes and with the learned one, turn by turn, so
// that what else the machine does falls on all of them, each in a process of its own. Uses the engine's
// border only, as the elements do.
#include "batching.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/machine.h"
#include "core/options.h"
#include "core/report.h"
#include "core/stats.h"
#include "core/turns.h"
#include "core/worker.h"
#include "engine/api/engine_module.h"
#include "engine/checkpoint/synthetic.h"
#include "engine/runtime/policy.h"
#include "works/engine_worker.h"

namespace {

using namespace da3::bench;

constexpr double kLongest = 3600;       // seconds for one answer
constexpr uint32_t kLargestFixed = 32;  // as large as the learned one gets in the usual performance mode

constexpr char kUsage[] =
    R"(usage: da3-bench batching [--model MODEL]... [--images N] [--size WxH] [--batches LIST] [--rounds N]
                          [--warm-up N] [--load equal|mixed] [--device D] [--precision P] [--threads N] [--json FILE]
                          [--quick]

Throughput of N images (default 20 of 504x280) with fixed batches and with the batch that the engine learns, each in
a process of its own. One round runs each of them once, in turn; the ratio is the median over rounds of learned to
the best fixed one. Before the first round that counts each runs once alone, and --warm-up rounds (default 1) run. The
mixed load is the same images from one stream, and between them five times as many of a quarter of their sides from
three others; --load measures one of the two. --batches: default 1, 2, 4, ... up to 32 or to as many images of one size as
there are. MODEL is what da3infer takes (default synthetic:da3-small); but for da3-demo a name without a colon, slash or
dot is taken for synthetic:NAME. --quick: 8 small images, 2 rounds.
)";

struct Arguments {
  std::vector<std::string> models;
  std::string device = "auto", json;
  Da3Precision precision = DA3_PRECISION_AUTO;
  Da3Attention attention = DA3_ATTENTION_AUTO;
  std::vector<uint32_t> batches;  // empty: by the work
  int images = 20, width = 504, height = 280, rounds = 5, warm_up = 1;
  bool equal = true, mixed = true;
  unsigned threads = 0;
  bool help = false;
};

int number(const std::string& option, const std::string& text, int most = 100000) {
  size_t used = 0;
  int value = 0;
  try {
    value = std::stoi(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used == 0 || used != text.size() || value < 1 || value > most)
    throw std::invalid_argument(option + " needs whole numbers from 1 to " + std::to_string(most) +
                                ", not '" + text + "'");
  return value;
}

void set(Arguments* a, const std::string& option, const std::string& value) {
  if (option == "--model") {
    const bool ours = value == "da3-demo" || value.find_first_of(":/.") != std::string::npos;
    a->models.push_back(ours ? value : "synthetic:" + value);
  } else if (option == "--images") {
    a->images = number(option, value);
  } else if (option == "--rounds") {
    a->rounds = number(option, value);
  } else if (option == "--warm-up") {
    a->warm_up = value == "0" ? 0 : number(option, value);
  } else if (option == "--load") {
    if (value != "equal" && value != "mixed")
      throw std::invalid_argument("--load needs equal or mixed, not '" + value + "'");
    a->equal = value == "equal";
    a->mixed = value == "mixed";
  } else if (option == "--threads") {
    a->threads = unsigned(number(option, value));
  } else if (option == "--device") {
    a->device = value;
  } else if (option == "--json") {
    a->json = value;
  } else if (option == "--precision") {
    a->precision = precision_of(value);
  } else if (option == "--size") {
    const size_t x = value.find('x');
    if (x == std::string::npos) throw std::invalid_argument("--size needs WxH, not '" + value + "'");
    a->width = number(option, value.substr(0, x));
    a->height = number(option, value.substr(x + 1));
    if (a->width % DA3_PATCH_SIZE || a->height % DA3_PATCH_SIZE)
      throw std::invalid_argument("both sides of --size must be multiples of 14");
  } else if (option == "--batches") {
    a->batches.clear();
    for (size_t start = 0; start <= value.size();) {
      const size_t end = std::min(value.find(',', start), value.size());
      a->batches.push_back(uint32_t(number(option, value.substr(start, end - start), DA3_BATCH_BUCKETS)));
      start = end + 1;
    }
  } else {
    throw std::invalid_argument("unknown option '" + option + "'");
  }
}

Arguments parse(int argc, char** argv) {
  Arguments a;
  for (int i = 0; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--help" || option == "-h") {
      a.help = true;
    } else if (option == "--quick") {
      a.images = 8;
      a.rounds = 2;
      a.warm_up = 0;
      a.width = 140;
      a.height = 84;
    } else {
      if (i + 1 >= argc) throw std::invalid_argument(option + " is unknown or needs a value");
      set(&a, option, argv[++i]);
    }
  }
  if (a.models.empty()) a.models.push_back("synthetic:da3-small");
  return a;
}

// One image of a work, and whose it is.
struct Image {
  int width, height;
  std::vector<uint8_t> pixels;
  int stream;
};

// Mixed: between two images of the full size five of a quarter of each side, in whole patches, from three
// other streams. A small one takes about a sixth of the time of a large one: either size takes about half of
// it all, and has enough images to fill batches.
std::vector<Image> make_work(const Arguments& a, bool mixed) {
  constexpr int kSmallOnes = 5, kSmallStreams = 3;
  std::vector<Image> work;
  const auto add = [&](int width, int height, int stream) {
    Image image = {width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3), stream};
    da3::synthetic::fill_rgb(image.pixels.data(), width, height, int(work.size()));
    work.push_back(std::move(image));
  };
  const auto quarter = [](int side) { return std::max(1, side / DA3_PATCH_SIZE / 4) * DA3_PATCH_SIZE; };
  for (int i = 0; i < a.images; ++i) {
    add(a.width, a.height, 0);
    for (int j = 0; mixed && j < kSmallOnes; ++j)
      add(quarter(a.width), quarter(a.height), 1 + (i * kSmallOnes + j) % kSmallStreams);
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

std::unique_ptr<da3::Engine> open(const Arguments& a, const std::string& model, uint32_t batch) {
  Da3EngineConfig config{};
  config.struct_size = sizeof config;
  config.model = model.c_str();
  config.device = a.device.c_str();
  config.precision = a.precision;
  config.attention = a.attention;
  config.max_batch = batch;
  config.threads = a.threads;
  return da3::EngineModule::instance().open(config);
}

void run_once(da3::Engine& engine, const std::vector<Image>& work) {
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

void warm_up(da3::Engine& engine, const std::vector<Image>& work) {
  for (const auto& [width, height] : sizes_of(work)) {
    Da3Shape shape{};
    shape.struct_size = sizeof shape;
    shape.width = width;
    shape.height = height;
    shape.n_views = 1;
    engine.warm_up(shape);
  }
}

// A contender's process. First says {"ready"} with name, device, precision, attention (its number), runtime
// and peak_mb, then answers
//   {"do": "run"}    all images once -> {"ms"}
//   {"do": "state"}  what it has learned -> {"learned"}: size, cap, single_ms of each size
void serve(Channel& channel, const Arguments& a, const std::string& model, uint32_t batch, bool mixed) {
  const std::vector<Image> work = make_work(a, mixed);
  const auto engine = open(a, model, batch);
  if (batch == 0) warm_up(*engine, work);
  run_once(*engine, work);  // does not count
  const Da3ModelInfo& info = engine->info();
  channel.reply({{"ready", true},
                 {"name", info.name},
                 {"device", info.device},
                 {"precision", da3::name_of(info.precision)},
                 {"attention", int(info.attention)},
                 {"threads", at::get_num_threads()},
                 {"runtime", info.runtime},
                 {"peak_mb", peak_memory_mb()}});
  while (const auto request = channel.next()) {
    try {
      if (request->value("do", "") == "run") {
        channel.reply({{"ms", milliseconds_of([&] { run_once(*engine, work); })}});
        continue;
      }
      Row state = Row::array();
      for (const auto& [width, height] : sizes_of(work)) {
        Da3Shape shape{};
        shape.struct_size = sizeof shape;
        shape.width = width;
        shape.height = height;
        shape.n_views = 1;
        const Da3ShapeStats stats = engine->shape_stats(shape);
        state.push_back({{"size", Size{width, height}.text()},
                         {"cap", stats.batch_cap},
                         {"single_ms", double(stats.single_ns) / 1e6}});
      }
      channel.reply({{"learned", state}, {"peak_mb", peak_memory_mb()}});
    } catch (const std::exception& e) {
      channel.reply({{"error", e.what()}});
    }
  }
}

// One way to put the images together. Each has an engine of its own in a process of its own: what one
// learns from its passes is not known to the others.
struct Contender {
  std::string name;
  uint32_t batch;  // 0: learned
  Row ready = Row::object();
  std::shared_ptr<Worker> worker = {};
};

// Each with its own copy of the weights, one after the other: those that would not fit beside the others any
// more are left out and say so.
Turn start(const Arguments& a, const std::string& model, bool mixed, double peak_mb, Contender* c) {
  Turn turn;
  try {
    const double free_mb = available_memory_mb();
    if (free_mb > 0 && free_mb < 1.2 * peak_mb)
      throw std::runtime_error("a process takes about " + number_text(peak_mb) + " MiB of memory, " +
                               number_text(free_mb) + " MiB are free");
    c->worker = std::make_shared<Worker>(
        Worker::fork([=, batch = c->batch](Channel& channel) { serve(channel, a, model, batch, mixed); }));
    c->ready = c->worker->hear(kLongest);
    turn.once = [worker = c->worker] {
      return worker->ask({{"do", "run"}}, kLongest).at("ms").get<double>();
    };
  } catch (const std::exception& e) {
    turn.failure = e.what();
  }
  return turn;
}

// Powers of two up to what the images of one size can fill, or what was asked for; then the learned one.
std::vector<Contender> contenders(const Arguments& a, const std::vector<Image>& work) {
  std::map<std::pair<int, int>, uint32_t> of_size;
  uint32_t most = 0;
  for (const Image& image : work) most = std::max(most, ++of_size[{image.width, image.height}]);
  std::vector<uint32_t> batches = a.batches;
  if (batches.empty())
    for (uint32_t b = 1; b <= std::min(most, kLargestFixed); b *= 2) batches.push_back(b);
  std::vector<Contender> out;
  for (const uint32_t b : batches) out.push_back({"batch " + std::to_string(b), b});
  out.push_back({"learned", 0});
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

// For a person.
void print(const Arguments& a, const std::vector<Contender>& all, const std::vector<Turn>& turns,
           size_t images, bool mixed) {
  const Turn& learned = turns.back();
  const Row& info = all.back().ready;
  std::printf("\n%s\n%s, %s, %s, %d images%s, %d rounds\n", info.value("runtime", "").c_str(),
              info.value("name", "").c_str(), info.value("device", "").c_str(),
              info.value("precision", "").c_str(), int(images),
              mixed ? " of two sizes from four streams"
                    : (" of " + std::to_string(a.width) + "x" + std::to_string(a.height)).c_str(),
              a.rounds);
  size_t best = turns.size();
  for (size_t i = 0; i < all.size(); ++i) {
    const char* const name = all[i].name.c_str();
    if (!turns[i].failure.empty()) {
      std::printf("  %-9s skipped, %s\n", name, turns[i].failure.c_str());
      continue;
    }
    const double time = median(turns[i].milliseconds), rate = 1000 * double(images) / time;
    if (&turns[i] == &learned) {
      std::printf("  %-9s %8.2f images/s\n", name, rate);
      continue;
    }
    std::printf("  %-9s %8.2f images/s   learned is %.3f of it, by 5th percentiles %.3f\n", name, rate,
                ratio(learned, turns[i]), undisturbed_ratio(learned, turns[i]));
    if (best == turns.size() || time < median(turns[best].milliseconds)) best = i;
  }
  if (best < turns.size() && learned.failure.empty()) {
    const Row state = all.back().worker->ask({{"do", "state"}});
    std::printf("  learned / best fixed (%s) = %.3f", all[best].name.c_str(), ratio(learned, turns[best]));
    for (const Row& size : state.at("learned"))
      std::printf("; %s: cap %d, one image %.1f ms", size.value("size", "").c_str(), size.value("cap", 0),
                  size.value("single_ms", 0.0));
    std::printf("\n");
  }
  std::fflush(stdout);
}

// Measures one work; adds its rows.
void measure(Arguments a, const std::string& model, bool mixed, Row* rows) {
  const std::vector<Image> work = make_work(a, mixed);
  std::vector<Contender> all = contenders(a, work);
  std::vector<Turn> turns(all.size());
  // The learned one first: without it there is nothing to compare, and it tries the largest batches.
  double peak_mb = 0;
  for (size_t i = all.size(); i-- > 0;) {
    turns[i] = start(a, model, mixed, peak_mb, &all[i]);
    peak_mb = std::max(peak_mb, all[i].ready.value("peak_mb", 0.0));
    if (i + 1 < all.size()) continue;
    if (!turns[i].failure.empty()) throw std::runtime_error(turns[i].failure);
    // What it chose is for all of them.
    a.precision = precision_of(all[i].ready.value("precision", "auto"));
    a.attention = Da3Attention(all[i].ready.value("attention", 0));
  }
  run_in_turn(turns, {a.warm_up, a.rounds, kLongest});
  print(a, all, turns, work.size(), mixed);
  for (size_t i = 0; i < all.size(); ++i) {
    const Row& info = all.back().ready;
    Row row = {{"model", info.value("name", "")},
               {"work", mixed ? "mixed" : "equal"},
               {"size", Size{a.width, a.height}.text()},
               {"batch", all[i].name},
               {"precision", info.value("precision", "")},
               {"images", work.size()},
               {"views", 1},
               {"attention", da3::name_of(a.attention)},
               {"threads", info.value("threads", 0)}};
    add_times(turns[i], &row);
    if (row.contains("median_ms")) {
      row["images_per_s"] = 1000 * double(work.size()) / row["median_ms"].get<double>();
      row["peak_rss_mb"] = all[i].worker->ask({{"do", "state"}}).at("peak_mb");
    }
    if (const double over = ratio(turns.back(), turns[i]); over > 0) {
      row["learned_over_this"] = over;
      row["learned_over_this_p5"] = undisturbed_ratio(turns.back(), turns[i]);
    }
    rows->push_back(row);
  }
}

int run(const Arguments& a) {
  Row rows = Row::array();
  for (const std::string& model : a.models)
    for (const bool mixed : {false, true})
      if (mixed ? a.mixed : a.equal) measure(a, model, mixed, &rows);
  if (!a.json.empty()) write_file(a.json, rows.dump(1) + "\n");
  return 0;
}

}  // namespace

int bench_batching(int argc, char** argv) {
  try {
    const Arguments arguments = parse(argc, argv);
    if (!arguments.help) return run(arguments);
    std::fputs(kUsage, stdout);
    return 0;
  } catch (const std::invalid_argument& e) {
    std::fprintf(stderr, "da3-bench batching: %s\n%s", e.what(), kUsage);
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "da3-bench batching: %s\n", e.what());
    return 1;
  }
}
