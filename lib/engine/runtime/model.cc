// SPDX-License-Identifier: MIT
#include "engine/runtime/model.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <sstream>
#include <thread>

#include "engine/api/engine_error.h"
#include "engine/checkpoint/synthetic.h"
#include "engine/kernels/int8_linear.h"
#include "engine/network/block.h"
#include "engine/runtime/cpu_allocator.h"
#include "engine/runtime/device.h"

namespace da3 {
namespace {

constexpr char kSynthetic[] = "synthetic:";

// synthetic:NAME[?seed=N]
void parse_synthetic(const std::string& model, ModelRequest* out) {
  std::string name = model.substr(sizeof kSynthetic - 1);
  const size_t question = name.find('?');
  if (question != std::string::npos) {
    const std::string query = name.substr(question + 1);
    name.resize(question);
    const std::string digits = query.rfind("seed=", 0) == 0 ? query.substr(5) : "";
    if (digits.empty() || digits.size() > 19 || digits.find_first_not_of("0123456789") != std::string::npos)
      throw EngineError(
          DA3_ERROR_SETTINGS,
          "The model '" + model +
              "' is not understood. Give synthetic:NAME or synthetic:NAME?seed=N with a whole number N.");
    out->seed = std::stoull(digits);
  }
  out->config = builtin_config(name);
  out->source = model;
  char text[17];
  std::snprintf(text, sizeof text, "%016llx",
                static_cast<unsigned long long>(synthetic::fnv1a64("synthetic/" + name) ^
                                                out->seed * 0x9E3779B97F4A7C15ull));
  out->hash = text;
}

uint64_t count_parameters(const std::vector<KeyShape>& keys) {
  uint64_t sum = 0;
  for (const auto& k : keys) {
    uint64_t n = 1;
    for (int64_t s : k.shape) n *= uint64_t(s);
    sum += n;
  }
  return sum;
}

// Everything that a configuration says: the same weights mean another network under another one.
std::string fingerprint(const ModelConfig& c) {
  std::ostringstream out;
  const BackboneConfig& b = c.backbone;
  out << c.name << "," << b.width << "," << b.depth << "," << b.heads << "," << b.ffn_hidden << ","
      << b.swiglu << "," << b.alt_start << "," << b.cat_token << "," << b.pos_grid << "," << c.cameras << ","
      << c.focal_normalised;
  for (const int layer : b.out_layers) out << "," << layer;
  auto add_head = [&out](const HeadConfig& head) {
    out << "," << head.dual << "," << head.features;
    for (const int64_t o : head.out_channels) out << "," << o;
  };
  add_head(c.head);
  if (c.gaussians) {
    add_head(c.gaussians->head);
    out << "," << c.gaussians->sh_degree << "," << c.gaussians->scale_min << "," << c.gaussians->scale_max;
  }
  if (c.metric) out << "," << fingerprint(*c.metric);
  return out.str();
}

// Another source, how far it is by the number of parameters, and whether it is wanted any more. It asks and
// tells on the thread that made it, whichever threads take weights.
class CountedWeights : public WeightSource {
 public:
  CountedWeights(WeightSource& source, const ModelRequest& request, uint64_t parameters,
                 const Progress& progress, const Cancelled& cancelled)
      : source_(source),
        checkpoint_(request.checkpoint.get()),
        on_cpu_(request.device.is_cpu()),
        parameters_(std::max<uint64_t>(1, parameters)),
        progress_(progress),
        cancelled_(cancelled) {}
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
    const bool own_thread = std::this_thread::get_id() == thread_;
    if (own_thread && cancelled_ && cancelled_()) unwanted_ = true;
    throw_if([this] { return unwanted_.load(); });
    Tensor out = source_.take(key, shape);
    uint64_t n = 1;
    for (const int64_t side : shape) n *= uint64_t(side);
    const uint64_t before = taken_.fetch_add(n), after = before + n;
    if (checkpoint_ && before / kForgetAfter != after / kForgetAfter) checkpoint_->forget_pages();
    const double part = double(after) / double(parameters_);
    if (own_thread && progress_ && part - told_ >= 0.01 && part < 1) progress_(told_ = part);
    return out;
  }
  void declare(const std::string& key, const std::vector<int64_t>& shape) override {
    source_.declare(key, shape);
  }
  std::shared_ptr<WeightSource> keep() const override { return source_.keep(); }
  // Copies to another device wait for each other anyway.
  bool concurrent() const override { return on_cpu_ && source_.concurrent(); }

 private:
  // Parameters: what has been laid out anew need not lie in memory twice, and what has not comes back.
  static constexpr uint64_t kForgetAfter = uint64_t(16) << 20;

  WeightSource& source_;
  const Checkpoint* const checkpoint_;  // may be null
  const bool on_cpu_;
  const uint64_t parameters_;
  const Progress& progress_;
  const Cancelled& cancelled_;
  const std::thread::id thread_ = std::this_thread::get_id();
  std::atomic<uint64_t> taken_{0};
  std::atomic<bool> unwanted_{false};
  double told_ = 0;
};

}  // namespace

Model::~Model() {
  // First what it holds: blocks that come back after the trim would be kept for a pass that never comes.
  network.reset();
  if (device.is_cpu()) trim_block_pool();
}

std::string ModelRequest::key() const {
  return hash + "/" + fingerprint(config) + "/" + device.str() + "/" + name_of(precision) + "/" +
         name_of(plan.attention) + "/" + name_of(plan.mode);
}

ModelRequest resolve_model(const std::string& model, const std::string& device, const Wish& wish,
                           const Cancelled& cancelled) {
  throw_if(cancelled);
  ModelRequest out;
  if (model.rfind(kSynthetic, 0) == 0) {
    parse_synthetic(model, &out);
  } else {
    out.checkpoint = Checkpoint::open(model);
    out.config = config_of(*out.checkpoint);
    out.source = out.checkpoint->source();
    out.hash = out.checkpoint->hash();
  }
  out.device = select_device(device);
  out.plan = make_plan(out.config, out.hash, out.device, wish, cancelled);
  out.precision = out.plan.precision;
  return out;
}

uint64_t weight_bytes_of(const ModelConfig& config, Da3Precision precision, Da3Precision beside) {
  const bool eight = in_8_bits(precision);
  const uint64_t usual = c10::elementSize(scalar_type_of(eight ? beside : precision));
  uint64_t sum = 0;
  for (const KeyShape& k : network_keys(config)) {
    const bool projection = k.key.find(".attn.proj.") != std::string::npos;
    const bool a_byte = eight && k.shape.size() == 2 &&
                        k.key.find("backbone.pretrained.blocks.") != std::string::npos &&
                        (!projection || projection_in_8_bits(scalar_type_of(beside)));
    sum += count_parameters({k}) * (a_byte ? 1 : usual);
  }
  return sum;
}

std::shared_ptr<const Model> load_model(const ModelRequest& request, const Notice& notice,
                                        const Progress& progress, const Cancelled& cancelled) {
  auto model = std::make_shared<Model>();
  model->config = request.config;
  model->checkpoint = request.checkpoint;
  model->device = request.device;
  model->precision = request.precision;
  model->plan = request.plan;
  model->source = request.source;
  model->hash = request.hash;
  model->synthetic = request.checkpoint == nullptr;
  if (request.device.is_cpu()) use_block_pool();
  const auto keys = network_keys(request.config);
  model->parameters = count_parameters(keys);
  Placement placement;
  placement.device = request.device;
  placement.int8 = request.precision == DA3_PRECISION_INT8;
  placement.fp8 = request.precision == DA3_PRECISION_FP8;
  placement.compute = scalar_type_of(beside(request.precision, request.plan.policy));
  placement.prepack = request.plan.policy.prepack;
  placement.attention = request.plan.attention;
  if (placement.int8 && notice && kernels::Int8Linear::instruction_set() == std::string("plain"))
    notice("This processor has no 8-bit dot products (AVX-512 VNNI): precision=int8 is exact but slow here.");
  if (model->synthetic) {
    SyntheticWeights weights(request.seed);
    CountedWeights counted(weights, request, model->parameters, progress, cancelled);
    model->network = make_network(request.config, counted, placement);
    if (notice)
      notice("'" + request.source +
             "' is not a trained model: its weights come from a formula, so depth and pose are noise. Give "
             "model=FILE, "
             "FOLDER or a repository id such as depth-anything/DA3-SMALL for real results.");
  } else {
    model->licence = request.checkpoint->licence();
    CheckpointWeights weights(request.checkpoint);
    weights.check(keys);
    CountedWeights counted(weights, request, model->parameters, progress, cancelled);
    model->network = make_network(request.config, counted, placement);
    request.checkpoint->forget_pages();  // most weights have been laid out anew or copied to the device
    if (notice && model->licence == "CC-BY-NC-4.0")
      notice("The weights in '" + request.source + "' are licensed CC BY-NC 4.0: not for commercial use.");
  }
  return model;
}

}  // namespace da3
