// SPDX-License-Identifier: MIT
#include "works/engine_worker.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/version.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <stdexcept>

#include "core/machine.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/synthetic.h"
#include "engine/runtime/device.h"
#include "engine/runtime/inference.h"
#include "engine/runtime/pass_memory.h"
#include "engine/runtime/scoped_math.h"
#include "score/summary.h"
#include "train/sample.h"
#include "works/libtorch.h"

namespace da3::bench {

Da3Precision precision_of(const std::string& name) {
  if (name == "auto") return DA3_PRECISION_AUTO;
  // Unknown values are called "auto", too.
  for (int p = 1; p < 16; ++p)
    if (name == name_of(Da3Precision(p))) return Da3Precision(p);
  throw std::invalid_argument("the engine has no precision '" + name + "'");
}

Da3Attention attention_of(const std::string& name) {
  for (int k = DA3_ATTENTION_AUTO; k <= DA3_ATTENTION_CUDNN; ++k)
    if (name == name_of(Da3Attention(k))) return Da3Attention(k);
  throw std::invalid_argument("the engine has no attention back end '" + name + "'");
}

namespace {

Da3PerformanceMode mode_of(const std::string& name) {
  if (name.empty()) return DA3_PERFORMANCE_BALANCED;
  for (const Da3PerformanceMode m : {DA3_PERFORMANCE_MINIMAL, DA3_PERFORMANCE_BALANCED, DA3_PERFORMANCE_MAX})
    if (name == name_of(m)) return m;
  throw std::invalid_argument("the engine has no performance mode '" + name + "'");
}

constexpr char kTf32[] = "tf32";
// A large network that torch.compile has not seen takes that long.
constexpr double kFirstPassSeconds = 1800;

bool has_pose(const ModelConfig& config, const EngineSetup& setup) {
  return setup.pose && (network_outputs(config) & DA3_OUTPUT_POSE) != 0;
}

double gflop_of(const ModelConfig& config, const EngineSetup& setup) {
  PassShape shape;
  shape.batch = setup.batch;
  shape.views = setup.views;
  shape.height = setup.size.height;
  shape.width = setup.size.width;
  shape.pose = has_pose(config, setup);
  shape.ray = setup.ray;
  return count_operations(config, shape).total() / 1e9;
}

// One model and its input.
class Session {
 public:
  explicit Session(const EngineSetup& setup) : setup_(setup) {
    set_threads(unsigned(setup.threads));
    const bool tf32 = setup.precision == kTf32;
    if (tf32 && !select_device(setup.device).is_cuda())
      throw std::invalid_argument("TF32 is of CUDA devices; this one computes float32 products in full");
    const Wish wish{mode_of(setup.mode), tf32 ? DA3_PRECISION_FP32 : precision_of(setup.precision),
                    attention_of(setup.attention)};
    load_ms_ =
        milliseconds_of([&] { model_ = load_model(resolve_model(setup.model, setup.device, wish), {}); });
    inference_.emplace(*model_);
    set_math(tf32);
    const auto bytes = size_t(setup.size.width * setup.size.height * 3);
    for (int64_t i = 0; i < setup.batch * setup.views; ++i) {
      pixels_.emplace_back(bytes);
      synthetic::fill_rgb(pixels_.back().data(), int(setup.size.width), int(setup.size.height), int(i));
    }
    reset_peak_memory();
  }

  Row ready() const {
    Row out = {{"ready", true},
               {"load_ms", load_ms_},
               {"precision", setup_.precision == kTf32 ? kTf32 : name_of(model_->precision)},
               {"attention", name_of(model_->plan.attention)},
               {"threads", at::get_num_threads()},
               {"device", model_->device.str()},
               {"gflop", gflop_of(model_->config, setup_)},
               {"synthetic", model_->synthetic},
               {"name", model_->config.name},
               {"parameters", model_->parameters},
               {"plan", model_->plan.text}};
    if (tf32_ && model_->precision == DA3_PRECISION_FP32) out["tf32"] = true;
    return out;
  }

  double run() {
    // The first pass needs most: shapes are new.
    std::optional<PassMemory> pass;
    if (device_peak_mb_ == 0 && !model_->device.is_cpu()) pass.emplace(model_->device);
    const double elapsed = milliseconds_of([&] { last_ = infer(pixels_, setup_.batch, setup_.views); });
    if (pass) device_peak_mb_ = double(pass->peak()) / (1 << 20);
    return elapsed;
  }

  Row memory() {
    Row out = {{"peak_rss_mb", peak_memory_mb()}};
    if (device_peak_mb_ > 0) out["device_peak_mb"] = device_peak_mb_;
    if (model_->device.is_cuda()) out["replayed"] = inference_->replayed();
    if (const std::string remark = inference_->take_remark(); !remark.empty()) out["remark"] = remark;
    return out;
  }

  void write_result(const std::string& path) {
    if (last_.empty()) run();
    PassResult out;
    const size_t plane = size_t(setup_.size.width * setup_.size.height);
    for (const auto& item : last_) {
      const Da3ResultData& d = item->data;
      out.depth.insert(out.depth.end(), d.depth, d.depth + d.n_views * plane);
      if (d.extrinsics)
        out.extrinsics.insert(out.extrinsics.end(), d.extrinsics, d.extrinsics + d.n_views * 12);
      if (d.intrinsics)
        out.intrinsics.insert(out.intrinsics.end(), d.intrinsics, d.intrinsics + d.n_views * 9);
    }
    out.write(path);
  }

  Row score(int scenes) {
    score::Summary summary;
    scene::Renderer renderer(at::get_num_threads());
    const int width = int(setup_.size.width), height = int(setup_.size.height), views = int(setup_.views);
    const size_t pixels = size_t(width) * size_t(height);
    for (int i = 0; i < scenes; ++i) {
      // Scenes by turns of families that were trained on and of the one that never was.
      const auto description = i % 2 == 0 ? train::held_out_set(uint64_t(i / 2), views, width, height)
                                          : train::held_out_family_set(uint64_t(i / 2), views, width, height);
      const train::ViewSet set = train::make_view_set(description, renderer);
      std::vector<std::vector<uint8_t>> pictures;
      for (int v = 0; v < views; ++v)
        pictures.emplace_back(set.rgb.begin() + std::ptrdiff_t(size_t(v) * pixels * 3),
                              set.rgb.begin() + std::ptrdiff_t(size_t(v + 1) * pixels * 3));
      const auto result = infer(pictures, 1, views);
      for (int v = 0; v < views; ++v)
        if (const auto depth = score::score_depth(result[0]->data.depth + size_t(v) * pixels,
                                                  set.depth.data() + size_t(v) * pixels, pixels, true))
          summary.add(*depth);
    }
    const score::Totals totals = summary.totals();
    return {{"abs_rel", totals.abs_rel}, {"delta1", totals.delta1}};
  }

 private:
  using Pictures = std::vector<std::vector<uint8_t>>;

  // As the engine does around its passes.
  void set_math(bool tf32) {
    if (!model_->device.is_cuda()) return;
    const Policy& policy = model_->plan.policy;
    tf32_ = tf32 || policy.tf32;
    math_.emplace(MathSettings{policy.choose_convolutions, tf32_});
  }

  std::vector<std::unique_ptr<ResultPlanes>> infer(const Pictures& pictures, int64_t batch, int64_t views) {
    const c10::InferenceMode inference;
    std::vector<Item> items;
    for (int64_t b = 0; b < batch; ++b) {
      Item item;
      item.width = int32_t(setup_.size.width);
      item.height = int32_t(setup_.size.height);
      item.outputs = DA3_OUTPUT_DEPTH | (has_pose(model_->config, setup_) ? uint32_t(DA3_OUTPUT_POSE) : 0u) |
                     (setup_.ray ? uint32_t(DA3_OUTPUT_RAY) : 0u);
      for (int64_t v = 0; v < views; ++v)
        item.views.push_back({pictures[size_t(b * views + v)].data(), item.width * 3});
      items.push_back(std::move(item));
    }
    return inference_->run(items);
  }

  const EngineSetup setup_;
  double load_ms_ = 0, device_peak_mb_ = 0;
  bool tf32_ = false;
  std::optional<ScopedMath> math_;
  std::shared_ptr<const Model> model_;
  std::optional<Inference> inference_;
  Pictures pixels_;
  std::vector<std::unique_ptr<ResultPlanes>> last_;
};

}  // namespace

void serve_engine(Channel& channel, const EngineSetup& setup) {
  Session session(setup);
  channel.reply(session.ready());
  while (const auto request = channel.next()) {
    const std::string what = request->value("do", "");
    try {
      if (what == "run") {
        channel.reply({{"ms", session.run()}});
      } else if (what == "memory") {
        channel.reply(session.memory());
      } else if (what == "result") {
        session.write_result(request->at("path").get<std::string>());
        channel.reply({{"done", true}});
      } else if (what == "score") {
        channel.reply(session.score(request->value("scenes", 1)));
      } else {
        channel.reply({{"error", "unknown request '" + what + "'"}});
      }
    } catch (const std::exception& e) {
      channel.reply({{"error", first_line(e.what())}});
    }
  }
}

Alternative engine_alternative(const EngineSetup& setup) {
  Row subject = {{"model", setup.model}, {"size", setup.size.text()},    {"batch", setup.batch},
                 {"views", setup.views}, {"precision", setup.precision}, {"attention", setup.attention}};
  return {subject,
          [setup] { return Worker::fork([setup](Channel& channel) { serve_engine(channel, setup); }); }};
}

std::vector<Outcome> run_alternatives(const std::vector<Alternative>& alternatives, const RunPlan& plan,
                                      const std::string& folder) {
  std::vector<Outcome> out;
  std::vector<Turn> turns(alternatives.size());
  for (size_t i = 0; i < alternatives.size(); ++i) {
    Outcome outcome;
    outcome.row = alternatives[i].subject;
    try {
      std::shared_ptr<Worker> worker;
      if (const auto other = alternatives[i].shares) {
        worker = out.at(*other).worker;
        outcome.ready = out[*other].ready;
        if (!worker) throw std::runtime_error(turns[*other].failure);
      } else {
        worker = std::make_shared<Worker>(alternatives[i].start());
        outcome.ready = worker->hear(1800);
        worker->ask({{"do", "run"}}, kFirstPassSeconds);  // shapes are new: counts in no plan
      }
      outcome.worker = worker;
      turns[i].once = [worker, around = alternatives[i].around] {
        const std::shared_ptr<void> during = around ? around() : nullptr;
        return worker->ask({{"do", "run"}}).at("ms").get<double>();
      };
    } catch (const std::exception& e) {
      turns[i].failure = e.what();
    }
    out.push_back(std::move(outcome));
  }
  run_in_turn(turns, plan);
  for (size_t i = 0; i < out.size(); ++i) {
    Outcome& outcome = out[i];
    for (const char* key : {"precision", "attention", "tf32", "threads", "plan"})
      if (outcome.ready.contains(key)) outcome.row[key] = outcome.ready[key];
    add_times(turns[i], &outcome.row);
    if (outcome.row.contains("skipped")) {
      outcome.worker.reset();
      continue;
    }
    try {
      // Of all passes: what the engine keeps from one to the next grows after the first.
      const Row memory = outcome.worker->ask({{"do", "memory"}});
      for (const auto& [key, value] : memory.items()) outcome.row[key] = value;
      const std::string path = folder + "/" + std::to_string(i) + ".result";
      outcome.worker->ask({{"do", "result"}, {"path", path}});
      outcome.result = path;
    } catch (const std::exception& e) {
      outcome.row["remark"] = e.what();  // has times all the same
    }
  }
  return out;
}

double gflop_of(const EngineSetup& setup) {
  try {
    const Row answer = in_child([&]() -> Row {
      // Nothing is left to be measured.
      const Wish wish{DA3_PERFORMANCE_BALANCED, DA3_PRECISION_FP32, DA3_ATTENTION_PLAIN};
      return {{"gflop", gflop_of(resolve_model(setup.model, "cpu", wish).config, setup)}};
    });
    return answer.value("gflop", 0.0);
  } catch (const std::exception&) {
    return 0;  // figures go without their rate
  }
}

std::string source_of_model(const std::string& model) {
  return in_child([&]() -> Row {
           return {{"source", Checkpoint::open(model)->source()}};
         })
      .value("source", model);
}

std::vector<std::string> fp32_first(std::vector<std::string> precisions) {
  std::stable_partition(precisions.begin(), precisions.end(),
                        [](const std::string& precision) { return precision == "fp32"; });
  return precisions;
}

void add_rates(Context& context, const EngineSetup& setup, const Row& ready, Row* row) {
  if (!row->contains("median_ms")) return;
  const double milliseconds = row->at("median_ms").get<double>();
  (*row)["images_per_s"] = 1000.0 * double(setup.batch * setup.views) / milliseconds;
  if (!ready.contains("gflop")) return;
  const double gflop = ready["gflop"].get<double>(), rate = 1000 * gflop / milliseconds;
  (*row)["gflop"] = gflop;
  (*row)["gflops"] = rate;
  if (!row->contains("precision")) return;
  const std::string precision = row->value("tf32", false) ? kTf32 : row->at("precision").get<std::string>();
  const double ceiling = context.ceiling(setup.device, setup.threads, precision);
  if (ceiling > 0) (*row)["ceiling_share"] = rate / ceiling;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "da3-bench-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder '" + name + "'");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace da3::bench
