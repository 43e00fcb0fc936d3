// SPDX-License-Identifier: MIT
#include "engine/network/network.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "engine/api/engine_error.h"
#include "engine/network/postprocess.h"

namespace da3 {
namespace {

// How many images go through a head together. On the CPU one at a time is as fast as several, and its maps
// stay in the cache; who listens wants them together.
int64_t images_at_once(const Tensor& image, const NetworkOptions& options, const Tracer& trace) {
  const bool alone = image.is_cpu() && !trace && !at::GradMode::is_enabled();
  return alone ? 1 : options.head_chunk;
}

// Runs a head over slices of the folded view axis and puts the maps together again.
template <typename Head>
DepthMaps run_in_chunks(int64_t chunk, const std::array<Tensor, 4>& tokens, Head&& head) {
  const int64_t count = tokens[0].size(0);
  if (count <= chunk) return head(tokens);
  std::vector<Tensor> parts[5];
  for (int64_t start = 0; start < count; start += chunk) {
    std::array<Tensor, 4> slice;
    for (size_t k = 0; k < 4; ++k) slice[k] = tokens[k].narrow(0, start, std::min(chunk, count - start));
    DepthMaps maps = head(slice);
    const Tensor* const all[5] = {&maps.depth, &maps.confidence, &maps.sky, &maps.ray, &maps.ray_confidence};
    for (int i = 0; i < 5; ++i)
      if (all[i]->defined()) parts[i].push_back(*all[i]);
  }
  auto join = [](const std::vector<Tensor>& p) { return p.empty() ? Tensor() : at::cat(p); };
  return {join(parts[0]), join(parts[1]), join(parts[2]), join(parts[3]), join(parts[4])};
}

Tensor unfold(const Tensor& map, int64_t batch, int64_t views) {
  if (!map.defined()) return map;
  auto sizes = map.sizes().vec();
  sizes[0] = views;
  sizes.insert(sizes.begin(), batch);
  return map.reshape(sizes);
}

DepthMaps unfold(DepthMaps maps, int64_t batch, int64_t views) {
  return {unfold(maps.depth, batch, views), unfold(maps.confidence, batch, views),
          unfold(maps.sky, batch, views), unfold(maps.ray, batch, views),
          unfold(maps.ray_confidence, batch, views)};
}

Cameras cameras_from_rays(const NetworkOutput& maps, const ImageShape& image, const NetworkOptions& options) {
  const Tensor ray = maps.ray.to(at::kCPU).contiguous(),
               confidence = maps.ray_confidence.to(at::kCPU).contiguous();
  const int64_t batch = ray.size(0), views = ray.size(1), pixels = ray.size(2) * ray.size(3);
  Cameras out;
  out.extrinsics = at::empty({batch, views, 3, 4}, at::TensorOptions(at::kFloat));
  out.intrinsics = at::empty({batch, views, 3, 3}, at::TensorOptions(at::kFloat));
  for (int64_t i = 0; i < batch * views; ++i) {
    geometry::RayView view;
    view.ray = ray.data_ptr<float>() + i * pixels * 6;
    view.confidence = confidence.data_ptr<float>() + i * pixels;
    view.height = int(ray.size(2));
    view.width = int(ray.size(3));
    const geometry::RayPose pose = geometry::solve_ray_pose(view, options.ray_samples);
    const geometry::Matrix34 w2c = geometry::invert(pose.camera_to_world);
    const geometry::Matrix3 k = geometry::intrinsics_from_ray_pose(pose, int(image.width), int(image.height));
    for (int j = 0; j < 12; ++j) out.extrinsics.data_ptr<float>()[i * 12 + j] = float(w2c.data()[j]);
    for (int j = 0; j < 9; ++j) out.intrinsics.data_ptr<float>()[i * 9 + j] = float(k.data()[j]);
    if (options.ray_poses) options.ray_poses->push_back(pose);
  }
  return out;
}

// Backbone and heads of one branch.
class AnyViewNetwork : public Network {
 public:
  AnyViewNetwork(const ModelConfig& config, const Scope& scope)
      : config_(config),
        backbone_(scope, config.backbone),
        head_(scope.for_head() / "head", config.backbone.feature_width(), config.head) {
    const Scope in_float = scope.in_float();
    if (config.cameras) {
      // Few ever give known cameras, and its weights are a fifth of a small model's.
      encoder_source_ = scope.source().keep();
      if (encoder_source_)
        encoder_scope_.emplace((in_float / "cam_enc").out_of(*encoder_source_));
      else
        encoder_.emplace(in_float / "cam_enc", config.backbone.width);
      decoder_.emplace(in_float / "cam_dec", config.backbone.feature_width());
    }
    if (config.gaussians)
      gaussian_head_.emplace(scope.for_head() / "gs_head", config.backbone.feature_width(),
                             config.gaussians->head, kGaussianChannels + 1);
  }

  NetworkOutput compute(const Tensor& image, const NetworkOptions& options,
                        const Tracer& trace) const override {
    const int64_t batch = image.size(0), views = image.size(1);
    const ImageShape shape{image.size(3), image.size(4)};
    BackboneOptions b;
    b.ref_view_strategy = options.ref_view_strategy;
    b.feature_layers = options.feature_layers;
    b.restore_feature_order = options.restore_feature_order;
    if (options.extrinsics.defined()) b.camera_tokens = encode(image, shape, options, trace);
    BackboneOutput tokens = backbone_.forward(image, b, trace);

    const bool ray = options.use_ray_pose || options.want_ray;
    DepthMaps maps;
    if (options.want_maps || ray || options.want_gaussians)
      maps = unfold(run_in_chunks(images_at_once(image, options, trace), tokens.features,
                                  [&](const auto& slice) { return head_.forward(slice, shape, ray, trace); }),
                    batch, views);
    NetworkOutput out;
    out.depth = maps.depth;
    out.confidence = maps.confidence;
    out.ray = maps.ray;
    out.ray_confidence = maps.ray_confidence;
    out.features = std::move(tokens.exported);
    out.reference = std::move(tokens.reference);
    if (out.depth.defined()) {
      trace("head.depth", out.depth);
      trace("head.depth_conf", out.confidence);
    }
    if (ray) {
      trace("head.ray", out.ray);
      trace("head.ray_conf", out.ray_confidence);
    }
    const bool gaussians = options.want_gaussians && gaussian_head_;
    if (decoder_ && !options.use_ray_pose && (options.want_pose || gaussians))
      out.pose_encoding = decoder_->forward(tokens.camera_tokens[3], trace);
    if (gaussians) {
      add_cameras(shape, options, &out);
      add_gaussians(image, tokens, options, trace, &out);
    }
    return out;
  }

  void finish(const ImageShape& image, const NetworkOptions& options, const Tracer&,
              NetworkOutput* out) const override {
    if (!out->extrinsics.defined() && options.want_pose) add_cameras(image, options, out);
  }

  // The reference view is chosen in host memory, and given cameras come from there.
  bool recordable(int64_t views, const NetworkOptions& options) const override {
    return views < 3 && !options.extrinsics.defined() && !options.want_gaussians;
  }

 private:
  static constexpr int64_t kGaussianChannels = 37;

  Tensor encode(const Tensor& image, const ImageShape& shape, const NetworkOptions& options,
                const Tracer& trace) const {
    if (!encoder_ && encoder_scope_) encoder_.emplace(*encoder_scope_, config_.backbone.width);
    if (!encoder_)
      throw EngineError(DA3_ERROR_UNSUPPORTED, "The model '" + config_.name +
                                                   "' has no camera encoder: it cannot take known cameras.");
    const Tensor encoding = encode_cameras(options.extrinsics, options.intrinsics, shape.height, shape.width);
    return encoder_->forward(encoding.to(image.device()), trace);
  }

  void add_cameras(const ImageShape& shape, const NetworkOptions& options, NetworkOutput* out) const {
    if (!decoder_) return;
    const Cameras cameras = options.use_ray_pose
                                ? cameras_from_rays(*out, shape, options)
                                : decode_cameras(out->pose_encoding, shape.height, shape.width);
    out->extrinsics = cameras.extrinsics;
    out->intrinsics = cameras.intrinsics;
  }

  void add_gaussians(const Tensor& image, const BackboneOutput& tokens, const NetworkOptions& options,
                     const Tracer& trace, NetworkOutput* out) const {
    const int64_t batch = image.size(0), views = image.size(1);
    const Tensor pixels = image.flatten(0, 1);
    const int64_t chunk = images_at_once(image, options, trace);
    std::vector<Tensor> parts;
    for (int64_t start = 0; start < pixels.size(0); start += chunk) {
      const int64_t n = std::min(chunk, pixels.size(0) - start);
      std::array<Tensor, 4> slice;
      for (size_t k = 0; k < 4; ++k) slice[k] = tokens.features[k].narrow(0, start, n);
      parts.push_back(gaussian_head_->forward(slice, pixels.narrow(0, start, n), trace));
    }
    const Tensor all = unfold(at::cat(parts), batch, views);
    const Tensor raw = all.narrow(-1, 0, kGaussianChannels);
    const Tensor opacity = all.select(-1, kGaussianChannels).sigmoid();
    trace("gs.raw", raw);
    trace("gs.conf", opacity);
    out->gaussians = make_gaussians(*config_.gaussians, raw, opacity, out->depth, out->extrinsics,
                                    out->intrinsics, options.extrinsics, trace);
  }

  ModelConfig config_;
  Backbone backbone_;
  DualDptHead head_;
  std::shared_ptr<WeightSource> encoder_source_;  // null: the encoder is there from the beginning
  std::optional<Scope> encoder_scope_;
  mutable std::optional<CameraEncoder> encoder_;
  std::optional<CameraDecoder> decoder_;
  std::optional<GaussianDptHead> gaussian_head_;
};

class MonoNetwork : public Network {
 public:
  MonoNetwork(const ModelConfig& config, const Scope& scope)
      : config_(config),
        backbone_(scope, config.backbone),
        head_(scope.for_head() / "head", config.backbone.feature_width(), config.head) {}

  NetworkOutput compute(const Tensor& image, const NetworkOptions& options,
                        const Tracer& trace) const override {
    const int64_t batch = image.size(0), views = image.size(1);
    const ImageShape shape{image.size(3), image.size(4)};
    BackboneOptions b;
    b.feature_layers = options.feature_layers;
    BackboneOutput tokens = backbone_.forward(image, b, trace);
    const DepthMaps maps =
        unfold(run_in_chunks(images_at_once(image, options, trace), tokens.features,
                             [&](const auto& slice) { return head_.forward(slice, shape, trace); }),
               batch, views);
    trace("head.depth", maps.depth);
    trace("head.sky", maps.sky);
    NetworkOutput out;
    out.features = std::move(tokens.exported);
    out.sky = maps.sky;
    out.depth = maps.depth;
    return out;
  }

  void finish(const ImageShape&, const NetworkOptions&, const Tracer&, NetworkOutput* out) const override {
    out->depth = fill_sky(out->depth, out->sky);
  }

  bool recordable(int64_t, const NetworkOptions&) const override { return true; }

 private:
  ModelConfig config_;
  Backbone backbone_;
  MonoDptHead head_;
};

// The any-view branch in the scale of the metric branch.
class NestedNetwork : public Network {
 public:
  NestedNetwork(std::unique_ptr<Network> any_view, std::unique_ptr<Network> metric)
      : any_view_(std::move(any_view)), metric_(std::move(metric)) {}

  NetworkOutput compute(const Tensor& image, const NetworkOptions& options,
                        const Tracer& trace) const override {
    NetworkOutput out = any_view_->compute(image, with_pose(options), trace.prefixed("da3."));
    NetworkOptions metric_options;
    metric_options.head_chunk = options.head_chunk;
    NetworkOutput metric = metric_->compute(image, metric_options, trace.prefixed("metric."));
    out.metric_depth = metric.depth;
    out.metric_sky = metric.sky;
    return out;
  }

  void finish(const ImageShape& image, const NetworkOptions& options, const Tracer& trace,
              NetworkOutput* out) const override {
    any_view_->finish(image, with_pose(options), trace.prefixed("da3."), out);
    NetworkOutput metric;
    metric.depth = std::move(out->metric_depth);
    metric.sky = std::move(out->metric_sky);
    metric_->finish(image, {}, trace.prefixed("metric."), &metric);
    trace("da3.depth", out->depth);
    trace("da3.extrinsics", out->extrinsics);
    trace("metric.depth", metric.depth);
    const MetricAlignment aligned = align_to_metric(out->depth, out->confidence, out->extrinsics,
                                                    out->intrinsics, metric.depth, metric.sky);
    out->depth = aligned.depth;
    out->confidence = aligned.confidence;
    out->extrinsics = aligned.extrinsics;
    out->scale = aligned.scale;
    out->scale_valid = aligned.valid;
    out->metric = true;
  }

  bool recordable(int64_t views, const NetworkOptions& options) const override {
    return any_view_->recordable(views, with_pose(options));
  }

 private:
  // The scale needs the predicted focal length.
  static NetworkOptions with_pose(NetworkOptions options) {
    options.want_pose = true;
    return options;
  }

  std::unique_ptr<Network> any_view_, metric_;
};

std::unique_ptr<Network> make_branch(const ModelConfig& config, const Scope& scope) {
  if (config.head.dual) return std::make_unique<AnyViewNetwork>(config, scope);
  return std::make_unique<MonoNetwork>(config, scope);
}

}  // namespace

std::unique_ptr<Network> make_network(const ModelConfig& config, WeightSource& source,
                                      const Placement& placement) {
  const Scope root(source, "model.", placement);
  if (!config.nested()) return make_branch(config, root);
  return std::make_unique<NestedNetwork>(make_branch(config, root / "da3"),
                                         make_branch(*config.metric, root / "da3_metric"));
}

std::vector<KeyShape> network_keys(const ModelConfig& config) {
  KeyList keys;
  make_network(config, keys, {});
  return std::move(keys.keys);
}

uint32_t network_outputs(const ModelConfig& config) {
  uint32_t out = DA3_OUTPUT_DEPTH;
  if (config.head.dual) out |= DA3_OUTPUT_CONFIDENCE | DA3_OUTPUT_RAY;
  if (!config.head.dual) out |= DA3_OUTPUT_SKY;
  if (config.cameras) out |= DA3_OUTPUT_POSE;
  if (config.gaussians) out |= DA3_OUTPUT_GAUSSIANS;
  return out;
}

}  // namespace da3
