// SPDX-License-Identifier: MIT
#include "engine/runtime/plan.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "engine/api/engine_error.h"
#include "engine/cuda/fused.h"
#include "engine/network/attention.h"
#include "engine/network/block.h"
#include "engine/network/fp8_layer.h"
#include "engine/runtime/device.h"
#include "engine/runtime/scoped_math.h"

namespace da3 {
namespace {

using Clock = std::chrono::steady_clock;

// A measurement ends early once it has taken so long.
constexpr double kLongEnough = 0.5;  // seconds

template <typename Kind>
struct Candidate {
  Kind kind;
  double milliseconds;
};

// Values that cost what real ones cost.
class PlainWeights : public WeightSource {
 public:
  Tensor take(const std::string&, const std::vector<int64_t>& shape) override {
    return at::full(shape, shape.size() > 1 ? 0.01 : 0.5, at::TensorOptions(at::kFloat));
  }
  void declare(const std::string&, const std::vector<int64_t>&) override {}
};

Tensor some_values(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t side : shape) count *= side;
  return at::arange(count, at::TensorOptions(at::kFloat)).mul_(0.37).sin_().view(shape);
}

int64_t head_width_of(const ModelConfig& config) {
  return config.backbone.width / std::max<int64_t>(1, config.backbone.heads);
}

// Whether LibTorch multiplies 8-bit floats on this device shows when it does.
void check_fp8(const ModelConfig& config, at::Device device) {
  for (const ModelConfig* part : {&config, config.metric.get()})
    if (part) check_widths(DA3_PRECISION_FP8, part->backbone.width, part->backbone.ffn_hidden);
  const std::string why = Fp8Layer::refusal(device);
  if (!why.empty())
    throw EngineError(DA3_ERROR_UNSUPPORTED, "precision=fp8 cannot run on " + device.str() + ": " + why +
                                                 ". Use precision=bf16, fp16, fp32 or auto.");
}

// A 16:9 picture at the size that the model is meant for.
int64_t tokens_of(const ModelConfig& config) {
  const int64_t columns = std::max(1, config.process_res / DA3_PATCH_SIZE);
  return 1 + columns * std::max<int64_t>(1, columns * 9 / 16);
}

// A GPU is handed so many calls before it is waited for, and so many pictures by each: what is timed is not
// how quickly calls are handed over, which is about the same whatever they compute.
constexpr int kCallsAtOnce = 5;
constexpr int64_t kPicturesAtOnce = 8;

// The quickest of some calls of what `make` makes; infinite when it cannot be made or run here. The first
// call does not count.
template <typename Make>
double best_of(int repetitions, at::Device device, const Make& make) {
  try {
    const auto body = make();
    // One value on the host: waits for a GPU.
    const auto finish = [](const Tensor& t) { (void)t.as_strided({1}, {1}).item<float>(); };
    finish(body());
    const int calls = device.is_cpu() ? 1 : kCallsAtOnce;
    double best = std::numeric_limits<double>::infinity(), spent = 0;
    for (int i = 0; i < repetitions && spent < kLongEnough; ++i) {
      const auto started = Clock::now();
      for (int c = 1; c < calls; ++c) body();
      finish(body());
      const double seconds = std::chrono::duration<double>(Clock::now() - started).count();
      best = std::min(best, seconds / calls);
      spent += seconds;
    }
    return 1e3 * best;
  } catch (const std::exception&) {
    return std::numeric_limits<double>::infinity();
  }
}

class Measurement {
 public:
  Measurement(const ModelConfig& config, at::Device device, const Policy& policy, const Cancelled& cancelled)
      : config_(config.backbone),
        device_(device),
        policy_(policy),
        cancelled_(cancelled),
        tokens_(tokens_of(config)) {}

  std::vector<Candidate<Da3Precision>> precisions(Da3Attention attention) const {
    const c10::InferenceMode inference;
    // As its passes will run.
    std::optional<ScopedMath> math;
    if (device_.is_cuda()) math.emplace(MathSettings{policy_.choose_convolutions, policy_.tf32});
    std::vector<Candidate<Da3Precision>> out;
    const Tensor x = some_values({pictures(), tokens_, config_.width}).to(device_);
    for (const Da3Precision precision : policy_.precisions) {
      throw_if(cancelled_);
      const double time = best_of(policy_.repetitions, device_, [&] {
        return [&x, block = block(precision, attention)] { return block->forward(x, {}); };
      });
      out.push_back({precision, time});
    }
    return out;
  }

  std::vector<Candidate<Da3Attention>> attentions(Da3Precision precision) const {
    const c10::InferenceMode inference;
    precision = beside(precision, policy_);
    std::vector<Candidate<Da3Attention>> out;
    const Tensor x = some_values({pictures(), config_.heads, tokens_, config_.width / config_.heads})
                         .to(device_, scalar_type_of(precision));
    for (const Da3Attention kind : policy_.attentions) {
      throw_if(cancelled_);
      const double time = best_of(policy_.repetitions + 1, device_, [&] {
        // With the layout that a block goes on with.
        return [&x, kind] { return attention(x, x, x, kind).transpose(1, 2).contiguous(); };
      });
      out.push_back({kind, time});
    }
    return out;
  }

  int64_t tokens() const { return tokens_; }

 private:
  int64_t pictures() const { return device_.is_cpu() ? 1 : kPicturesAtOnce; }
  std::shared_ptr<Block> block(Da3Precision precision, Da3Attention attention) const {
    Placement placement;
    placement.device = device_;
    placement.compute = scalar_type_of(precision);
    placement.prepack = policy_.prepack;
    placement.attention = attention;
    BlockShape shape;
    shape.width = config_.width;
    shape.heads = config_.heads;
    shape.ffn_hidden = config_.ffn_hidden;
    shape.swiglu = config_.swiglu;
    PlainWeights weights;
    return std::make_shared<Block>(Scope(weights, "", placement), shape);
  }

  const BackboneConfig& config_;
  const at::Device device_;
  const Policy& policy_;
  const Cancelled& cancelled_;
  const int64_t tokens_;
};

template <typename Kind>
Kind choose(const std::vector<Candidate<Kind>>& candidates, double gain) {
  std::vector<double> milliseconds;
  for (const Candidate<Kind>& c : candidates) milliseconds.push_back(c.milliseconds);
  return candidates[first_worth_taking(milliseconds, gain)].kind;
}

template <typename Kind>
std::string times(const std::vector<Candidate<Kind>>& candidates) {
  std::string out;
  for (const Candidate<Kind>& c : candidates) {
    char text[48];
    if (c.milliseconds < 1e9)
      std::snprintf(text, sizeof text, "%s %.2f ms", name_of(c.kind), c.milliseconds);
    else
      std::snprintf(text, sizeof text, "%s cannot run", name_of(c.kind));
    out += (out.empty() ? "" : ", ") + std::string(text);
  }
  return out;
}

// What was measured in this process, by what it depends on.
class Answers {
 public:
  // `measure` is called if there is no answer yet, one at a time: two measurements would disturb each other.
  template <typename Kind, typename Measure>
  std::vector<Candidate<Kind>> get(const std::string& key, const Cancelled& cancelled,
                                   const Measure& measure) {
    if (const auto known = find<Kind>(key); !known.empty()) return known;
    std::unique_lock<std::timed_mutex> turn(measuring_, std::defer_lock);
    while (!turn.try_lock_for(kAskAgain)) throw_if(cancelled);
    // Whoever had the turn before may have been asked the same.
    if (const auto known = find<Kind>(key); !known.empty()) return known;
    std::vector<Candidate<Kind>> fresh = measure();
    const std::lock_guard<std::mutex> guard(lock_);
    answers<Kind>()[key] = fresh;
    return fresh;
  }

 private:
  template <typename Kind>
  using Map = std::map<std::string, std::vector<Candidate<Kind>>>;
  static constexpr std::chrono::milliseconds kAskAgain{50};

  template <typename Kind>
  Map<Kind>& answers() {
    return std::get<Map<Kind>>(maps_);
  }
  template <typename Kind>
  std::vector<Candidate<Kind>> find(const std::string& key) {
    const std::lock_guard<std::mutex> guard(lock_);
    const auto found = answers<Kind>().find(key);
    return found == answers<Kind>().end() ? std::vector<Candidate<Kind>>{} : found->second;
  }

  std::mutex lock_;  // never held for long
  std::timed_mutex measuring_;
  std::tuple<Map<Da3Precision>, Map<Da3Attention>> maps_;
};

std::string remaining_settings(const Policy& policy, Da3PerformanceMode mode, at::Device device) {
  std::string out = std::string("; performance-mode ") + name_of(mode) + ": ";
  out += policy.batch_limit == 1 ? "learns no batches"
                                 : "learns batches up to " + std::to_string(policy.batch_limit);
  if (device.is_cpu())
    out += std::string(", weights ") + (policy.prepack ? "laid out for the processor" : "as in the file") +
           ", " + std::to_string(at::get_num_threads()) + " threads";
  if (policy.tf32) out += ", TF32";
  if (policy.choose_convolutions) out += ", convolutions measured";
  if (policy.record_passes) out += ", passes recorded";
  if (policy.begin_ahead) out += ", two batches under way";
  return out;
}

// The first time they are compiled and tried.
std::string own_kernels(at::Device device, Da3Precision precision) {
  std::string why_not;
  if (cuda::has_fused(device, scalar_type_of(precision), &why_not)) return ", sums and norms in one kernel";
  return ", sums and norms by LibTorch (" + why_not + ")";
}

}  // namespace

void throw_if(const Cancelled& cancelled) {
  if (cancelled && cancelled()) throw EngineError(DA3_ERROR_CANCELLED, "Loading the model was cancelled.");
}

DeviceTraits traits_of(at::Device device, const ModelConfig& config, at::ScalarType type) {
  DeviceTraits out = traits_of(device);
  for (const ModelConfig* part : {&config, config.metric.get()})
    if (part)
      std::erase_if(out.attention, [&](Da3Attention kind) {
        return !has_attention(kind, device, head_width_of(*part), type);
      });
  return out;
}

Plan make_plan(const ModelConfig& config, const std::string& hash, at::Device device, const Wish& wish,
               const Cancelled& cancelled) {
  static Answers remembered;

  const DeviceTraits whole = traits_of(device);
  DeviceTraits traits = traits_of(device, config);
  check_precision(wish.precision, traits);
  if (wish.precision == DA3_PRECISION_FP8) check_fp8(config, device);
  check_attention(wish.attention, whole);
  Plan plan;
  plan.mode = wish.mode;
  plan.policy = make_policy(wish.mode, traits);
  const Policy& policy = plan.policy;
  const bool measure = policy.repetitions > 0;
  const Measurement measurement(config, device, policy, cancelled);
  const std::string block = "a block of " + std::to_string(measurement.tokens()) + " tokens";

  const std::string key = hash + "/" + device.str() + "/" + std::to_string(config.backbone.width) + "/" +
                          std::to_string(measurement.tokens()) + "/" + name_of(wish.mode) + "/" +
                          std::to_string(at::get_num_threads()) + "/";
  std::string why;
  if (wish.precision != DA3_PRECISION_AUTO) {
    plan.precision = wish.precision;
    why = "as asked";
  } else if (policy.precisions.size() == 1) {
    plan.precision = policy.precisions.front();
    why = "the only one that is native here";
  } else if (!measure) {
    plan.precision = policy.quick_precision;
    why = "not measured in this mode";
  } else {
    const Da3Attention attention =
        wish.attention == DA3_ATTENTION_AUTO ? policy.quick_attention : wish.attention;
    const auto known = remembered.get<Da3Precision>(key + name_of(attention), cancelled,
                                                    [&] { return measurement.precisions(attention); });
    plan.precision = choose(known, policy.least_gain);
    why = block + ": " + times(known);
  }
  plan.text = "precision " + std::string(name_of(plan.precision)) + " (" + why + ")";
  if (in_8_bits(plan.precision)) plan.text += ", beside it " + std::string(name_of(policy.beside_8_bits));

  check_together(wish.attention, plan.precision);
  const at::ScalarType type = scalar_type_of(beside(plan.precision, policy));
  traits = traits_of(device, config, type);
  check_attention(wish.attention, traits,
                  "in " + std::string(name_of(beside(plan.precision, policy))) + " with heads of " +
                      std::to_string(head_width_of(config)) + " and this LibTorch");
  plan.policy = make_policy(wish.mode, traits);
  if (wish.attention != DA3_ATTENTION_AUTO) {
    plan.attention = wish.attention;
    why = "as asked";
  } else if (policy.attentions.size() == 1) {
    plan.attention = policy.attentions.front();
    why = "the only one that runs here";
  } else if (has_own_attention(device, head_width_of(config), type)) {
    // Several times as fast as explicit products, whatever the processor: there is nothing to measure.
    plan.attention = DA3_ATTENTION_FUSED;
    why = "a kernel of our own";
  } else if (!measure) {
    plan.attention = policy.quick_attention;
    why = "not measured in this mode";
  } else {
    const auto known = remembered.get<Da3Attention>(key + name_of(plan.precision), cancelled,
                                                    [&] { return measurement.attentions(plan.precision); });
    plan.attention = choose(known, policy.least_gain);
    why = times(known);
  }
  plan.text += ", attention " + std::string(name_of(plan.attention)) + " (" + why + ")";
  plan.text += remaining_settings(policy, wish.mode, device);
  if (device.is_cuda()) plan.text += own_kernels(device, beside(plan.precision, policy));
  return plan;
}

}  // namespace da3
