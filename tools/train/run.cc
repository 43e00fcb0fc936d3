// SPDX-License-Identifier: MIT
#include "train/run.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "engine/checkpoint/checkpoint.h"
#include "engine/runtime/device.h"
#include "train/curve.h"
#include "train/demo_config.h"
#include "train/evaluate.h"
#include "train/losses.h"
#include "train/optimizer.h"
#include "train/parallel.h"
#include "train/probes.h"

namespace da3::train {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using nlohmann::json;

// Held-out sets for the progress line: few, and always the same.
constexpr int kProgressSets1 = 28, kProgressSets4 = 14;
constexpr double kProgressSeconds = 15;
// Scores of a checkpoint are of other held-out sets than those that were looked at while it was trained.
constexpr int kFirstScored = 1000;

double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

std::string read_text(const fs::path& path) {
  std::ifstream in(path);
  std::ostringstream out;
  if (!in || !(out << in.rdbuf())) throw std::runtime_error("'" + path.string() + "' cannot be read.");
  return out.str();
}

void write_text(const fs::path& path, const std::string& text) {
  const fs::path part = path.string() + ".part";
  std::ofstream out(part);
  if (!(out << text).flush()) throw std::runtime_error("'" + path.string() + "' cannot be written.");
  out.close();
  fs::rename(part, path);
}

Tensor as_tensor(const TensorView& view) {
  if (view.dtype != DType::f32) throw std::runtime_error("The saved state is not float32.");
  return at::from_blob(const_cast<void*>(view.data), view.shape, at::TensorOptions(at::kFloat)).clone();
}

// What is logged, and what the picture shows.
class History {
 public:
  // Keeps the lines before `step`: what a run wrote after its last saved state is computed again.
  History(fs::path path, int64_t step) : path_(std::move(path)) {
    std::ifstream in(path_);
    std::string line, kept;
    while (std::getline(in, line)) {
      const json row = json::parse(line, nullptr, false);
      if (row.is_discarded() || row.value("step", int64_t(0)) >= step) continue;
      rows_.push_back(row);
      kept += line + "\n";
    }
    write_text(path_, kept);
  }
  void add(const json& row) {
    rows_.push_back(row);
    std::ofstream(path_, std::ios::app) << row.dump() << "\n";
  }
  void draw(const std::string& path, const std::string& title) const {
    const std::vector<std::pair<const char*, const char*>> shown = {
        {"loss", "training loss"},
        {"depth", "depth loss"},
        {"camera", "camera loss (sets of 2 views and more)"},
        {"abs_rel", "held-out AbsRel, one view"},
        {"rotation_deg", "held-out rotation error, four views [degrees]"}};
    std::vector<Curve> curves;
    for (const auto& [key, name] : shown) {
      Curve c{name, {}};
      for (const json& row : rows_)
        if (row.contains(key) && row[key].is_number()) c.points.emplace_back(row["step"], row[key]);
      curves.push_back(std::move(c));
    }
    write_curves(path, title, curves);
  }

 private:
  fs::path path_;
  std::vector<json> rows_;
};

struct Replica {
  explicit Replica(std::vector<Parameter>& values) : weights(values) {}
  SharedWeights weights;
  std::unique_ptr<Network> network;
  std::optional<Probes> probes;
};

// Matrix products and convolutions of the calling thread in bf16 while it lives; what needs float32 stays so.
class Autocast {
 public:
#if TORCH_VERSION_MAJOR >= 2 && TORCH_VERSION_MINOR >= 4
  Autocast(bool on, at::Device device) : on_(on), type_(device.type()) {
    if (!on_) return;
    at::autocast::set_autocast_enabled(type_, true);
    at::autocast::set_autocast_dtype(type_, at::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    if (!on_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type_, false);
  }

 private:
  bool on_;
  at::DeviceType type_;
#else
  Autocast(bool, at::Device) {}
  ~Autocast() {}
#endif
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;
};

bool has_fast_bf16(at::Device device) {
#if defined(__x86_64__)
  if (device.is_cpu()) return __builtin_cpu_supports("avx512bf16");
#endif
  return device.is_cuda();
}

// Products of float32 matrices in bf16 with float32 sums where the processor has bf16 instructions, TF32 on
// CUDA: two to four times faster, and gradients are far noisier than this rounding.
void allow_reduced_matmul() {
#if TORCH_VERSION_MAJOR >= 2
  at::globalContext().setFloat32MatmulPrecision(at::globalContext().hasCUDA() ? "high" : "medium");
#endif
}

class Run {
 public:
  explicit Run(const RunOptions& o)
      : options_(o), folder_(o.folder), device_(o.device), weights_(o.schedule.seed, device_) {
    fs::create_directories(folder_);
    config_text_ = o.config.empty() ? demo_config() : read_text(o.config);
    const ModelConfig config = config_from_json(config_text_);
    if (!config.head.dual || !config.cameras || config.nested())
      throw std::invalid_argument("Only any-view models with cameras can be trained, not '" + config.name +
                                  "'.");
    network_ = make_network(config, weights_, Placement{device_, at::kFloat});
    for (const Parameter& p : weights_.parameters()) count_ += p.value.numel();
    Probes probes(weights_, config.backbone.feature_width());  // declares their parameters
    const int replicas = o.replicas > 0 ? o.replicas : device_.is_cpu() ? 2 : 1;
    for (int i = 0; i < replicas; ++i) {
      auto replica = std::make_unique<Replica>(weights_.parameters());
      replica->network = make_network(config, replica->weights, Placement{device_, at::kFloat});
      replica->probes.emplace(replica->weights, config.backbone.feature_width());
      replicas_.push_back(std::move(replica));
    }
    // The parts are the threads; more within one would only wait for each other.
    if (replicas > 1) at::set_num_threads(1);
    bf16_ = o.precision == "bf16" || (o.precision == "auto" && has_fast_bf16(device_));
    optimizer_.emplace(weights_.parameters(), Optimizer::Settings{});
    if (fs::exists(state_path())) restore();
  }

  bool train(const std::atomic<bool>& stop) {
    const int64_t total = options_.schedule.steps(), first = step_;
    std::printf("%lld parameters, %lld steps from %lld, device %s, %s, batch in %d parts\n",
                (long long)count_, (long long)total, (long long)step_, options_.device.c_str(),
                bf16_ ? "bf16" : "fp32", int(replicas_.size()));
    History history(folder_ / "history.jsonl", step_);
    if (!begun_as_.empty() && begun_as_ != describe(options_.schedule)) {
      std::printf("The run in '%s' was trained with %s so far; from step %lld on with %s.\n",
                  options_.folder.c_str(), begun_as_.c_str(), (long long)step_,
                  describe(options_.schedule).c_str());
      history.add({{"step", step_}, {"before", begun_as_}, {"from here on", describe(options_.schedule)}});
    }
    const int ahead = options_.ahead >= 0 ? options_.ahead : device_.is_cpu() ? 0 : 8;
    Loader loader([this](int64_t s) { return options_.schedule.sets(s); }, step_, threads(), ahead);
    Clock::time_point saved = Clock::now(), told = saved;
    const Clock::time_point begun = saved;
    int64_t images = 0;
    while (step_ < total && !stop && (options_.stop_after == 0 || step_ - first < options_.stop_after)) {
      const Batch batch = loader.next();
      const json row = one_step(batch);
      images += int64_t(batch.size()) * batch.front().description.views;
      history.add(row);
      ++step_;
      const bool due = step_ % options_.evaluate_every == 0 || step_ == total;
      if (seconds_since(told) > kProgressSeconds || due) {
        told = Clock::now();
        tell(row, double(images) / seconds_since(begun),
             seconds_since(begun) / double(step_ - first) * double(total - step_));
      }
      if (due) history.add(progress_scores());
      if (due || seconds_since(saved) > options_.save_every) {
        save(history);
        saved = Clock::now();
      }
    }
    save(history);
    return step_ >= total;
  }

 private:
  fs::path state_path() const { return folder_ / "state.safetensors"; }
  int threads() const {
    return options_.threads > 0 ? options_.threads : std::max(1, int(std::thread::hardware_concurrency()));
  }

  // Forward and backward over a part of the batch; leaves its gradients in the replica.
  static Losses run_part(Replica& replica, const Batch& part, const StepPlan& plan, at::Device device,
                         bool bf16) {
    const Targets targets = make_targets(part, device);
    NetworkOptions o;
    o.ref_view_strategy = DA3_REF_VIEW_FIRST;
    o.want_maps = plan.maps;
    o.want_ray = plan.ray;
    o.head_chunk = int64_t(part.size()) * plan.views;
    if (plan.known_cameras) {
      o.extrinsics = targets.extrinsics;
      o.intrinsics = targets.intrinsics;
    }
    NetworkOutput out;
    {
      const Autocast autocast(bf16, device);
      out = replica.network->forward(targets.image, o, replica.probes->tracer());
    }
    Losses losses = compute_losses(out, targets);
    const Tensor probe = replica.probes->loss(targets);
    losses.probe = probe.item<double>();
    losses.match = replica.probes->last_match();
    losses.total = losses.total + probe;
    losses.total.backward();
    losses.total = losses.total.detach();
    return losses;
  }

  // Means over the parts, in a fixed order.
  void gather_gradients(const std::vector<double>& shares) {
    const at::NoGradGuard no_grad;
    for (size_t p = 0; p < weights_.parameters().size(); ++p) {
      Tensor sum;
      for (size_t r = 0; r < shares.size(); ++r) {
        Tensor& grad = replicas_[r]->weights.leaves()[p].mutable_grad();
        if (!grad.defined()) continue;
        sum = sum.defined() ? sum.add_(grad, shares[r]) : grad * shares[r];
        grad.reset();
      }
      if (sum.defined()) weights_.parameters()[p].value.mutable_grad() = sum;
    }
  }

  json one_step(const Batch& batch) {
    const StepPlan plan = options_.schedule.plan(step_);
    const size_t parts = std::min(replicas_.size(), batch.size());
    std::vector<Losses> losses(parts);
    std::vector<double> shares(parts);
    run_parallel(int(parts), [&](int r) {
      const size_t begin = batch.size() * size_t(r) / parts, end = batch.size() * size_t(r + 1) / parts;
      const Batch part(batch.begin() + ptrdiff_t(begin), batch.begin() + ptrdiff_t(end));
      shares[size_t(r)] = double(part.size()) / double(batch.size());
      losses[size_t(r)] = run_part(*replicas_[size_t(r)], part, plan, device_, bf16_);
    });
    gather_gradients(shares);
    const double norm = optimizer_->step(plan.learning_rate, int(replicas_.size()));
    const auto mean = [&](auto&& of) {
      double sum = 0;
      for (size_t r = 0; r < parts; ++r) sum += shares[r] * of(losses[r]);
      return sum;
    };
    json row = {{"step", step_},
                {"loss", mean([](const Losses& l) { return l.total.item<double>(); })},
                {"probe", mean([](const Losses& l) { return l.probe; })},
                {"norm", norm},
                {"views", plan.views},
                {"rate", plan.learning_rate}};
    if (plan.views > 1) row["match"] = mean([](const Losses& l) { return l.match; });
    if (plan.maps) {
      row["depth"] = mean([](const Losses& l) { return l.depth; });
      row["gradient"] = mean([](const Losses& l) { return l.gradient; });
      row["sky"] = mean([](const Losses& l) { return l.sky; });
    }
    if (plan.views > 1 && !plan.known_cameras) row["camera"] = mean([](const Losses& l) { return l.camera; });
    if (plan.ray) {
      row["ray"] = mean([](const Losses& l) { return l.ray; });
      row["point"] = mean([](const Losses& l) { return l.point; });
    }
    return row;
  }

  static void tell(const json& row, double images_per_second, double left) {
    const auto part = [&](const char* name) {
      char text[32] = "-";
      if (row.contains(name)) std::snprintf(text, sizeof text, "%.4f", row[name].get<double>());
      return std::string(text);
    };
    std::printf(
        "step %lld  loss %.4f  tokens %.4f  depth %s  camera %s  gradient norm %.2f  %.1f images/s  "
        "%d:%02d:%02d left\n",
        (long long)row["step"].get<int64_t>() + 1, row["loss"].get<double>(), row["probe"].get<double>(),
        part("depth").c_str(), part("camera").c_str(), row["norm"].get<double>(), images_per_second,
        int(left) / 3600, int(left) / 60 % 60, int(left) % 60);
    std::fflush(stdout);
  }

  json progress_scores() {
    const int side = options_.schedule.phases.back().long_side, height = side / 14 * 7 / 9 * 14;
    const Evaluation one = evaluate(*network_, device_, false, kProgressSets1, 1, side, height, threads());
    const Evaluation four = evaluate(*network_, device_, false, kProgressSets4, 4, side, height, threads());
    std::printf("held out, %s\nheld out, %s\n", describe(one, 1).c_str(), describe(four, 4).c_str());
    std::fflush(stdout);
    return {{"step", step_ - 1},
            {"abs_rel", one.totals.abs_rel},
            {"delta1", one.totals.delta1},
            {"rotation_deg", four.totals.rotation_deg},
            {"identity_rotation_deg", four.identity_rotation_deg},
            {"translation_deg", four.totals.translation_deg},
            {"auc30", four.totals.auc30},
            {"fov_error", four.totals.fov_error}};
  }

  void save(const History& history) {
    std::map<std::string, Tensor> state = optimizer_->state();
    for (const Parameter& p : weights_.parameters()) state["value." + p.key] = p.value;
    write_tensors(state_path().string(), state,
                  {{"step", std::to_string(step_)}, {"schedule", describe(options_.schedule)}});
    write_text(folder_ / "config.json", config_text_);
    write_checkpoint((folder_ / "model.safetensors").string(), weights_);
    history.draw((folder_ / "loss.svg").string(), "Training of " + config_from_json(config_text_).name);
  }

  void restore() {
    const at::NoGradGuard no_grad;
    const auto checkpoint = Checkpoint::open(state_path().string());
    std::map<std::string, Tensor> state;
    for (const auto& [name, view] : checkpoint->tensors()) state[name] = as_tensor(view);
    for (Parameter& p : weights_.parameters()) {
      const auto found = state.find("value." + p.key);
      if (found == state.end() || found->second.sizes() != p.value.sizes())
        throw std::runtime_error("The state in '" + folder_.string() + "' is of another model: '" + p.key +
                                 "' does not fit. Train into another folder.");
      p.value.detach().copy_(found->second);
    }
    optimizer_->restore(state);
    step_ = std::stoll(checkpoint->metadata().at("step"));
    const auto schedule = checkpoint->metadata().find("schedule");
    if (schedule != checkpoint->metadata().end()) begun_as_ = schedule->second;
  }

  const RunOptions& options_;
  fs::path folder_;
  at::Device device_;
  TrainableWeights weights_;
  std::unique_ptr<Network> network_;  // for scores
  std::vector<std::unique_ptr<Replica>> replicas_;
  std::optional<Optimizer> optimizer_;
  std::string config_text_;
  std::string begun_as_;  // the schedule of the state that was found
  int64_t count_ = 0, step_ = 0;
  bool bf16_ = false;
};

json to_json(const Evaluation& e) {
  const auto value = [](double v) { return std::isfinite(v) ? json(v) : json(); };
  const score::Totals& t = e.totals;
  return {{"abs_rel", value(t.abs_rel)},
          {"delta1", value(t.delta1)},
          {"rotation_error_deg", value(t.rotation_deg)},
          {"identity_rotation_error_deg", value(e.identity_rotation_deg)},
          {"translation_direction_error_deg", value(t.translation_deg)},
          {"auc30", value(t.auc30)},
          {"fov_error", value(t.fov_error)},
          {"ate_relative", value(t.ate_relative)}};
}

}  // namespace

bool train(const RunOptions& options, const std::atomic<bool>& stop) {
  allow_reduced_matmul();
  return Run(options).train(stop);
}

void score_model(const std::string& model, const std::string& device, int sets, int width, int height,
                 int threads, const std::string& path) {
  set_threads(unsigned(std::max(0, threads)));
  const auto checkpoint = Checkpoint::open(model);
  const ModelConfig config = config_of(*checkpoint);
  CheckpointWeights weights(checkpoint);
  weights.check(network_keys(config));
  const at::Device where(device);
  const auto network = make_network(config, weights, Placement{where, at::kFloat});
  const int workers = threads > 0 ? threads : std::max(1, int(std::thread::hardware_concurrency()));
  json all = json::array();
  for (const bool family : {false, true}) {
    std::printf("%s, %d sets, %dx%d\n", family ? "held-out family" : "held-out seeds", sets, width, height);
    for (const int views : {1, 2, 4, 6}) {
      const Evaluation e =
          evaluate(*network, where, family, sets, views, width, height, workers, kFirstScored);
      std::printf("  %s\n", describe(e, views).c_str());
      json row = to_json(e);
      row["views"] = views;
      row["scenes"] = family ? "family" : "seeds";
      all.push_back(row);
    }
  }
  if (!path.empty()) write_text(path, all.dump(2) + "\n");
}

}  // namespace da3::train
