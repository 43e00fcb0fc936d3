// SPDX-License-Identifier: MIT
#include "engine/runtime/inference.h"

#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>
#include <stdexcept>
#include <utility>

#include "engine/api/engine_error.h"
#include "engine/runtime/cpu_allocator.h"
#include "engine/runtime/cuda_graph.h"
#include "engine/runtime/images.h"
#include "geometry/pose_align.h"
#include "geometry/rigid.h"

namespace da3 {
namespace {

geometry::Matrix34 pose_of(const float* p) {
  geometry::Matrix34 m;
  for (int i = 0; i < 12; ++i) m(i / 4, i % 4) = p[i];
  return m;
}

void add_known_cameras(const std::vector<Item>& items, NetworkOptions* options) {
  if (items.front().extrinsics.empty()) return;
  const int64_t batch = int64_t(items.size()), views = int64_t(items.front().views.size());
  options->extrinsics = at::empty({batch, views, 3, 4}, at::TensorOptions(at::kFloat));
  options->intrinsics = at::empty({batch, views, 3, 3}, at::TensorOptions(at::kFloat));
  float* e = options->extrinsics.data_ptr<float>();
  float* k = options->intrinsics.data_ptr<float>();
  for (const Item& item : items) {
    std::vector<geometry::Matrix34> poses;
    for (int64_t v = 0; v < views; ++v) poses.push_back(pose_of(item.extrinsics.data() + v * 12));
    for (const auto& pose : geometry::normalise_extrinsics(poses))
      for (int i = 0; i < 12; ++i) *e++ = float(pose.data()[i]);
    std::memcpy(k, item.intrinsics.data(), item.intrinsics.size() * sizeof(float));
    k += item.intrinsics.size();
  }
}

NetworkOptions make_options(const Model& model, const std::vector<Item>& items) {
  const Item& first = items.front();
  NetworkOptions options;
  options.head_chunk = images_at_once(model.plan.policy, first.width, first.height);
  options.ref_view_strategy = first.ref_view_strategy;
  options.use_ray_pose = first.use_ray_pose;
  options.want_ray = (first.outputs & DA3_OUTPUT_RAY) != 0;
  // The scale of known cameras is found by comparison with the predicted ones.
  options.want_pose = (first.outputs & DA3_OUTPUT_POSE) != 0 || !first.extrinsics.empty();
  add_known_cameras(items, &options);
  return options;
}

// What of a pass is not needed to answer the items: it need not come down.
void drop_unasked(uint32_t outputs, bool ray_pose, NetworkOutput* out) {
  const auto drop = [](bool needed, Tensor* t) {
    if (!needed) *t = Tensor();
  };
  const bool nested = out->metric_depth.defined(), mono = !out->confidence.defined();
  drop((outputs & DA3_OUTPUT_CONFIDENCE) || nested, &out->confidence);
  drop((outputs & DA3_OUTPUT_SKY) || mono, &out->sky);  // the sky's depth depends on it
  drop((outputs & DA3_OUTPUT_RAY) || ray_pose, &out->ray);
  drop((outputs & DA3_OUTPUT_RAY) || ray_pose, &out->ray_confidence);
}

// One item of a batch: views of its tensors, or on the way down from a GPU, each in memory of its own.
NetworkOutput item_of(const NetworkOutput& batch, int64_t b, bool wait) {
  NetworkOutput out;
  const auto take = [&](Tensor NetworkOutput::*t) {
    if ((batch.*t).defined()) out.*t = to_host((batch.*t).narrow(0, b, 1), wait);
  };
  for (Tensor NetworkOutput::*t :
       {&NetworkOutput::depth, &NetworkOutput::confidence, &NetworkOutput::sky, &NetworkOutput::ray,
        &NetworkOutput::ray_confidence, &NetworkOutput::pose_encoding, &NetworkOutput::metric_depth,
        &NetworkOutput::metric_sky, &NetworkOutput::extrinsics, &NetworkOutput::intrinsics,
        &NetworkOutput::scale})
    take(t);
  if (batch.scale_valid.defined()) out.scale_valid = batch.scale_valid.narrow(0, b, 1);
  return out;
}

// A plane in host memory, kept by the result.
const float* keep_plane(const Tensor& t, bool wanted, ResultPlanes* result) {
  if (!t.defined() || !wanted) return nullptr;
  Tensor plane = t[0].to(at::kCPU, at::kFloat).contiguous();
  // Of its own: who keeps one result must not keep those of the whole batch.
  if (2 * plane.storage().nbytes() > 3 * plane.nbytes()) plane = plane.clone();
  result->owned.push_back(plane);
  return plane.data_ptr<float>();
}

std::unique_ptr<ResultPlanes> take_item(const NetworkOutput& out, const Item& item, bool metric_model) {
  auto result = std::make_unique<ResultPlanes>();
  Da3ResultData& d = result->data;
  const auto keep = [&](const Tensor& t, uint32_t bit) {
    return keep_plane(t, (item.outputs & bit) == bit, result.get());
  };
  d.struct_size = sizeof d;
  d.n_views = uint32_t(item.views.size());
  d.width = item.width;
  d.height = item.height;
  d.depth = keep_plane(out.depth, true, result.get());
  d.confidence = keep(out.confidence, DA3_OUTPUT_CONFIDENCE);
  d.sky = keep(out.sky, DA3_OUTPUT_SKY);
  d.ray = keep(out.ray, DA3_OUTPUT_RAY);
  d.ray_confidence = keep(out.ray_confidence, DA3_OUTPUT_RAY);
  if (d.ray) {
    d.ray_height = int32_t(out.ray.size(2));
    d.ray_width = int32_t(out.ray.size(3));
  }
  d.extrinsics = keep(out.extrinsics, DA3_OUTPUT_POSE);
  d.intrinsics = keep(out.intrinsics, DA3_OUTPUT_POSE);
  d.scale_factor = out.scale.defined() ? out.scale[0].item<float>() : 1.0f;
  d.metric_valid = out.scale_valid.defined() ? out.scale_valid[0].item<bool>() : 0;
  // Without a fitted scale the any-view depth stays what it is: relative.
  d.kind = metric_model && d.metric_valid ? DA3_KIND_METRIC : DA3_KIND_RELATIVE;
  return result;
}

// With known cameras the answer is given in their frame and units (upstream api.py,
// align_to_input_ext_scale): the given cameras come back, and depth is divided by the scale that maps them
// onto the predicted ones.
void align_to_known_cameras(const NetworkOutput& out, const Item& item, ResultPlanes* result) {
  if (item.extrinsics.empty() || !out.extrinsics.defined()) return;
  const Tensor predicted = out.extrinsics[0].to(at::kCPU, at::kFloat).contiguous();
  std::vector<geometry::Matrix34> given, estimated;
  for (size_t v = 0; v < item.views.size(); ++v) {
    given.push_back(pose_of(item.extrinsics.data() + v * 12));
    estimated.push_back(pose_of(predicted.data_ptr<float>() + v * 12));
  }
  const double scale = geometry::align_trajectories(given, estimated).scale;
  Tensor depth = (out.depth[0] / scale).to(at::kCPU, at::kFloat).contiguous();
  Tensor extrinsics = at::tensor(at::ArrayRef<float>(item.extrinsics), at::TensorOptions(at::kFloat));
  Tensor intrinsics = at::tensor(at::ArrayRef<float>(item.intrinsics), at::TensorOptions(at::kFloat));
  result->data.depth = depth.data_ptr<float>();
  if (result->data.extrinsics) result->data.extrinsics = extrinsics.data_ptr<float>();
  if (result->data.intrinsics) result->data.intrinsics = intrinsics.data_ptr<float>();
  result->owned.insert(result->owned.end(), {depth, extrinsics, intrinsics});
}

// What is wrong with one item alone does not touch the others of its batch.
std::unique_ptr<ResultPlanes> finish_item(const Model& model, const Pass& pass, const Item& item,
                                          NetworkOutput out) {
  if (!pass.finished) model.network->finish({item.height, item.width}, pass.options, {}, &out);
  auto result = take_item(out, item, model.config.nested());
  try {
    align_to_known_cameras(out, item, result.get());
  } catch (const std::invalid_argument& e) {
    result->failure = "Inference failed: the predicted camera poses cannot be aligned with the known ones (" +
                      std::string(e.what()) + ").";
  }
  return result;
}

bool is_out_of_memory(const std::string& text) {
  return text.find("out of memory") != std::string::npos ||
         text.find("can't allocate memory") != std::string::npos ||
         text.find("not enough memory") != std::string::npos;
}

// What `body` throws, as an EngineError.
template <typename Body>
auto translated(Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    throw EngineError(DA3_ERROR_NO_MEMORY, "Out of memory.", "std::bad_alloc");
  } catch (const c10::Error& e) {
    if (is_out_of_memory(e.what())) throw EngineError(DA3_ERROR_NO_MEMORY, "Out of memory.", e.what());
    throw EngineError(DA3_ERROR_FAILED, "Inference failed: " + std::string(e.what_without_backtrace()),
                      e.what());
  }
}

}  // namespace

Inference::Inference(const Model& model)
    : model_(model),
      recorded_(model.plan.policy.record_passes ? cuda_graph_recorder(model.device) : Recorder()) {}

Inference::~Inference() = default;

bool Inference::works_beside() const {
  return model_.device.is_cuda() && model_.plan.policy.begin_ahead;
}

// Sorting the depths of a picture is the work of a GPU; a camera out of its encoding is not.
bool Inference::finishes_on_device() const {
  return model_.device.is_cuda() && (model_.config.nested() || !model_.config.head.dual);
}

RecordedPasses::Key recording_key(const Item& item, size_t batch, const NetworkOptions& options) {
  return {int64_t(batch),       int64_t(item.views.size()), item.height,
          item.width,           int64_t(item.outputs),      int64_t(options.ref_view_strategy),
          options.use_ray_pose, options.want_ray,           options.want_pose,
          options.head_chunk};
}

bool Inference::begins_at_once(const std::vector<Item>& items) const {
  const Item& first = items.front();
  if (finishes_on_device() || !first.extrinsics.empty()) return false;
  const NetworkOptions options = make_options(model_, items);
  return model_.network->recordable(int64_t(first.views.size()), options) &&
         recorded_.settled(recording_key(first, items.size(), options));
}

// To record a pass takes several, and the making of a graph besides.
bool Inference::has_time(const std::vector<Item>& items, int64_t now) const {
  constexpr int64_t kPasses = 20;
  return std::all_of(items.begin(), items.end(), [&](const Item& item) {
    return item.deadline == kNever || item.deadline - now > kPasses * last_time_;
  });
}

// Three queues of the device, each waiting for what it needs of the one before. Tensors that one of them made
// and another one reads live until the pass is finished.
void Inference::compute_on_lanes(const std::vector<Item>& items, const NetworkOptions& options, Pass* pass) {
  if (!lanes_) lanes_ = std::make_unique<Lanes>(model_.device);
  const Item& first = items.front();
  Mark uploaded(model_.device), computed(model_.device);
  {
    const c10::StreamGuard lane(lanes_->upload);
    pass->bytes = pack_bytes(items, true).to(model_.device, at::kByte, /*non_blocking=*/true);
    uploaded.set(lanes_->upload);
  }
  {
    const c10::StreamGuard lane(lanes_->compute);
    uploaded.hold(lanes_->compute);
    const auto compute = [&](const Tensor& bytes) {
      NetworkOutput out = model_.network->compute(images_of_bytes(bytes), options, {});
      drop_unasked(first.outputs, options.use_ray_pose, &out);
      return out;
    };
    RecordedPasses::Key key;
    if (model_.network->recordable(int64_t(first.views.size()), options))
      key = recording_key(first, items.size(), options);
    pass->output = recorded_.run(key, pass->bytes, compute, has_time(items, pass->started));
    if (finishes_on_device()) {
      model_.network->finish({first.height, first.width}, options, {}, &pass->output);
      pass->finished = true;
    }
    computed.set(lanes_->compute);
  }
  const c10::StreamGuard lane(lanes_->download);
  computed.hold(lanes_->download);
  for (size_t b = 0; b < items.size(); ++b) pass->items.push_back(item_of(pass->output, int64_t(b), false));
  pass->done.emplace(model_.device).set(lanes_->download);
}

std::unique_ptr<Pass> Inference::begin(const std::vector<Item>& items) {
  return translated([&] {
    auto pass = std::make_unique<Pass>();
    pass->started = Clock::real().now();
    pass->options = make_options(model_, items);
    if (model_.device.is_cuda()) {
      compute_on_lanes(items, pass->options, pass.get());
      return pass;
    }
    NetworkOutput out = model_.network->compute(make_images(items, model_.device), pass->options, {});
    drop_unasked(items.front().outputs, pass->options.use_ray_pose, &out);
    for (size_t b = 0; b < items.size(); ++b) pass->items.push_back(item_of(out, int64_t(b), true));
    return pass;
  });
}

std::vector<std::unique_ptr<ResultPlanes>> Inference::finish(std::unique_ptr<Pass> pass,
                                                             const std::vector<Item>& items) {
  return translated([&] {
    if (pass->done) pass->done->wait();
    std::vector<std::unique_ptr<ResultPlanes>> results;
    for (size_t b = 0; b < items.size(); ++b)
      results.push_back(finish_item(model_, *pass, items[b], std::move(pass->items[b])));
    // Of two under way the second one begins when the first one ends.
    const int64_t started = std::max(pass->started, last_end_);
    last_end_ = Clock::real().now();
    const int64_t elapsed = last_time_ = last_end_ - started;
    for (size_t b = 0; b < items.size(); ++b) {
      Da3ResultData& d = results[b]->data;
      d.batch = uint32_t(items.size());
      d.inference_ns = elapsed;
      d.queued_ns = started - items[b].submitted;
    }
    return results;
  });
}

std::vector<std::unique_ptr<ResultPlanes>> Inference::run(const std::vector<Item>& items) {
  const PassBlocks blocks;
  return finish(begin(items), items);
}

}  // namespace da3
