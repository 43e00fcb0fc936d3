// SPDX-License-Identifier: MIT
//
// The same images through the real engine with fixed batch sizes and with the learned one, turn by turn, so
// that what else the machine does falls on all of them. Uses the engine's border only, as the elements do.
#include "batching.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/api/engine_module.h"
#include "engine/checkpoint/synthetic.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr char kUsage[] =
    R"(usage: da3-bench batching [--model MODEL]... [--images N] [--size WxH] [--batches 1,2,4,8] [--rounds N]
                          [--device D] [--precision P] [--threads N] [--json FILE] [--quick]

Throughput of N images (default 20 of 504x280) with fixed batches and with the batch that the engine learns. One
round runs each of them once, in turn; the ratio is the median over rounds of learned to the best fixed one. The
mixed load has twice as many images, one stream of the size beside three of a quarter of its sides. MODEL is what
da3infer takes (default synthetic:da3-small); but for da3-demo a name without a colon, slash or dot is taken for
synthetic:NAME. --quick: 8 small images, 2 rounds.
)";

struct Arguments {
  std::vector<std::string> models;
  std::string device = "auto", json;
  Da3Precision precision = DA3_PRECISION_AUTO;
  std::vector<uint32_t> batches = {1, 2, 4, 8};
  int images = 20, width = 504, height = 280, rounds = 5;
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

Da3Precision precision_of(const std::string& name) {
  const std::pair<const char*, Da3Precision> names[] = {{"auto", DA3_PRECISION_AUTO},
                                                        {"fp32", DA3_PRECISION_FP32},
                                                        {"fp16", DA3_PRECISION_FP16},
                                                        {"bf16", DA3_PRECISION_BF16}};
  for (const auto& [text, precision] : names)
    if (name == text) return precision;
  throw std::invalid_argument("unknown precision '" + name + "' (auto, fp32, fp16, bf16)");
}

void set(Arguments* a, const std::string& option, const std::string& value) {
  if (option == "--model") {
    const bool ours = value == "da3-demo" || value.find_first_of(":/.") != std::string::npos;
    a->models.push_back(ours ? value : "synthetic:" + value);
  } else if (option == "--images") {
    a->images = number(option, value);
  } else if (option == "--rounds") {
    a->rounds = number(option, value);
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

std::vector<Image> make_work(const Arguments& a, bool mixed) {
  std::vector<Image> work;
  const int images = mixed ? 2 * a.images : a.images;
  for (int i = 0; i < images; ++i) {
    Image image;
    // Mixed: one stream of the full size beside three of a quarter of each side, in whole patches. The small
    // ones bring twelve times as many, so that either size takes a good part of the time.
    const bool small = mixed && i % 13 != 0;
    image.stream = small ? 1 + i % 3 : 0;
    const auto side = [&](int s) { return small ? std::max(1, s / DA3_PATCH_SIZE / 4) * DA3_PATCH_SIZE : s; };
    image.width = side(a.width);
    image.height = side(a.height);
    image.pixels.resize(size_t(image.width) * size_t(image.height) * 3);
    da3::synthetic::fill_rgb(image.pixels.data(), image.width, image.height, i);
    work.push_back(std::move(image));
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

// One way to put the images together. All are references to one engine: one copy of the weights.
struct Contender {
  std::string name;
  std::unique_ptr<da3::Engine> engine;
  std::vector<double> rates;  // images a second, one each round
};

Contender open(const Arguments& a, const std::string& model, uint32_t batch) {
  Da3EngineConfig config{};
  config.struct_size = sizeof config;
  config.model = model.c_str();
  config.device = a.device.c_str();
  config.precision = a.precision;
  config.max_batch = batch;
  config.threads = a.threads;
  return {
      batch ? "batch " + std::to_string(batch) : "learned", da3::EngineModule::instance().open(config), {}};
}

double run_once(da3::Engine& engine, const std::vector<Image>& work) {
  static const char streams[4] = {};
  Answers answers(engine.api());
  const auto started = Clock::now();
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
  return double(work.size()) / std::chrono::duration<double>(Clock::now() - started).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

void warm_up(da3::Engine& engine, const std::vector<Image>& work) {
  std::vector<std::pair<int, int>> seen;
  for (const Image& image : work) {
    if (std::find(seen.begin(), seen.end(), std::pair(image.width, image.height)) != seen.end()) continue;
    seen.emplace_back(image.width, image.height);
    Da3Shape shape{};
    shape.struct_size = sizeof shape;
    shape.width = image.width;
    shape.height = image.height;
    shape.n_views = 1;
    engine.warm_up(shape);
  }
}

// Measures one work; returns rows as JSON.
std::string measure(const Arguments& a, const std::string& model, bool mixed) {
  const std::vector<Image> work = make_work(a, mixed);
  std::vector<Contender> all;
  for (const uint32_t batch : a.batches) all.push_back(open(a, model, batch));
  all.push_back(open(a, model, 0));
  Contender& learned = all.back();
  warm_up(*learned.engine, work);
  for (Contender& c : all) run_once(*c.engine, work);  // does not count
  for (int round = 0; round < a.rounds; ++round)
    for (size_t i = 0; i < all.size(); ++i) {
      // Everyone goes first once.
      Contender& c = all[(i + size_t(round)) % all.size()];
      c.rates.push_back(run_once(*c.engine, work));
    }

  const Da3ModelInfo& info = learned.engine->info();
  std::printf("\n%s, %s, %d images%s, %d rounds\n", info.name, info.device, int(work.size()),
              mixed ? " of two sizes from four streams"
                    : (" of " + std::to_string(a.width) + "x" + std::to_string(a.height)).c_str(),
              a.rounds);
  std::string json;
  const Contender* best = nullptr;
  for (const Contender& c : all) {
    const double rate = median(c.rates);
    if (&c != &learned && (!best || rate > median(best->rates))) best = &c;
    std::vector<double> ratios;  // within a round
    for (size_t r = 0; r < c.rates.size(); ++r) ratios.push_back(learned.rates[r] / c.rates[r]);
    std::printf("  %-9s %8.2f images/s%s\n", c.name.c_str(), rate,
                &c == &learned
                    ? ""
                    : ("   learned is " + std::to_string(median(ratios)).substr(0, 5) + " of it").c_str());
    json += (json.empty() ? "" : ",\n  ") + std::string("{\"model\": \"") + info.name + "\", \"work\": \"" +
            (mixed ? "mixed" : "equal") + "\", \"batch\": \"" + c.name +
            "\", \"images_per_s\": " + std::to_string(rate) +
            ", \"learned_over_this\": " + std::to_string(median(ratios)) + "}";
  }
  std::vector<double> ratios;
  for (size_t r = 0; r < learned.rates.size(); ++r) ratios.push_back(learned.rates[r] / best->rates[r]);
  Da3Shape shape{};
  shape.struct_size = sizeof shape;
  shape.width = a.width;
  shape.height = a.height;
  shape.n_views = 1;
  const Da3ShapeStats stats = learned.engine->shape_stats(shape);
  std::printf("  learned / best fixed (%s) = %.3f; learned cap %u, one image %.1f ms\n", best->name.c_str(),
              median(ratios), stats.batch_cap, double(stats.single_ns) / 1e6);
  std::fflush(stdout);
  return json;
}

int run(const Arguments& a) {
  std::printf("%s\n", da3::EngineModule::instance().api().runtime());
  std::string json;
  for (const std::string& model : a.models)
    for (const bool mixed : {false, true})
      json += (json.empty() ? "[\n  " : ",\n  ") + measure(a, model, mixed);
  if (a.json.empty()) return 0;
  std::ofstream file(a.json, std::ios::binary);
  file << json << "\n]\n";
  file.close();
  if (!file) throw std::runtime_error("cannot write " + a.json);
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
