// SPDX-License-Identifier: MIT
#include "engine/runtime/inference.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

#include "engine/api/engine_error.h"
#include "engine/runtime/cpu_allocator.h"
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

// What the items asked for, in host memory: each map moved once for the whole batch. (On the CPU nothing
// moves.)
NetworkOutput take_to_host(NetworkOutput out, uint32_t outputs) {
  const auto take = [outputs](uint32_t bit, Tensor* t) {
    *t = t->defined() && (outputs & bit) == bit ? to_host(*t) : Tensor();
  };
  if (out.depth.defined()) out.depth = to_host(out.depth);
  take(DA3_OUTPUT_CONFIDENCE, &out.confidence);
  take(DA3_OUTPUT_SKY, &out.sky);
  take(DA3_OUTPUT_RAY, &out.ray);
  take(DA3_OUTPUT_RAY, &out.ray_confidence);
  return out;
}

// Item b of a batch as a plane in host memory.
const float* take_plane(const Tensor& batch, int64_t b, ResultPlanes* result) {
  if (!batch.defined()) return nullptr;
  Tensor plane = batch[b].to(at::kCPU, at::kFloat).contiguous();
  // Of its own: who keeps one result must not keep those of the whole batch.
  if (plane.is_alias_of(batch) && batch.size(0) > 1) plane = plane.clone();
  result->owned.push_back(plane);
  return plane.data_ptr<float>();
}

std::unique_ptr<ResultPlanes> take_item(const NetworkOutput& out, const Item& item, int64_t b,
                                        bool metric_model) {
  auto result = std::make_unique<ResultPlanes>();
  Da3ResultData& d = result->data;
  d.struct_size = sizeof d;
  d.n_views = uint32_t(item.views.size());
  d.width = item.width;
  d.height = item.height;
  d.depth = take_plane(out.depth, b, result.get());
  d.confidence = take_plane(out.confidence, b, result.get());
  d.sky = take_plane(out.sky, b, result.get());
  d.ray = take_plane(out.ray, b, result.get());
  d.ray_confidence = take_plane(out.ray_confidence, b, result.get());
  if (out.ray.defined()) {
    d.ray_height = int32_t(out.ray.size(2));
    d.ray_width = int32_t(out.ray.size(3));
  }
  if (item.outputs & DA3_OUTPUT_POSE) {
    d.extrinsics = take_plane(out.extrinsics, b, result.get());
    d.intrinsics = take_plane(out.intrinsics, b, result.get());
  }
  d.scale_factor = out.scale.defined() ? out.scale[b].item<float>() : 1.0f;
  d.metric_valid = out.scale_valid.defined() ? out.scale_valid[b].item<bool>() : 0;
  // Without a fitted scale the any-view depth stays what it is: relative.
  d.kind = metric_model && d.metric_valid ? DA3_KIND_METRIC : DA3_KIND_RELATIVE;
  return result;
}

// With known cameras the answer is given in their frame and units (upstream api.py,
// align_to_input_ext_scale): the given cameras come back, and depth is divided by the scale that maps them
// onto the predicted ones.
void align_to_known_cameras(const NetworkOutput& out, const Item& item, int64_t b, ResultPlanes* result) {
  if (item.extrinsics.empty() || !out.extrinsics.defined()) return;
  const Tensor predicted = out.extrinsics[b].to(at::kCPU, at::kFloat).contiguous();
  std::vector<geometry::Matrix34> given, estimated;
  for (size_t v = 0; v < item.views.size(); ++v) {
    given.push_back(pose_of(item.extrinsics.data() + v * 12));
    estimated.push_back(pose_of(predicted.data_ptr<float>() + v * 12));
  }
  const double scale = geometry::align_trajectories(given, estimated).scale;
  Tensor depth = (out.depth[b] / scale).to(at::kCPU, at::kFloat).contiguous();
  Tensor extrinsics = at::tensor(at::ArrayRef<float>(item.extrinsics), at::TensorOptions(at::kFloat));
  Tensor intrinsics = at::tensor(at::ArrayRef<float>(item.intrinsics), at::TensorOptions(at::kFloat));
  result->data.depth = depth.data_ptr<float>();
  if (result->data.extrinsics) result->data.extrinsics = extrinsics.data_ptr<float>();
  if (result->data.intrinsics) result->data.intrinsics = intrinsics.data_ptr<float>();
  result->owned.insert(result->owned.end(), {depth, extrinsics, intrinsics});
}

// Item b of a batch. What is wrong with this item alone does not touch the others.
std::unique_ptr<ResultPlanes> finish_item(const NetworkOutput& out, const Item& item, int64_t b,
                                          bool metric_model) {
  auto result = take_item(out, item, b, metric_model);
  try {
    align_to_known_cameras(out, item, b, result.get());
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

}  // namespace

std::vector<std::unique_ptr<ResultPlanes>> infer_batch(const Model& model, const std::vector<Item>& items) {
  const int64_t started = Clock::real().now();
  std::vector<std::unique_ptr<ResultPlanes>> results;
  const PassBlocks blocks;
  try {
    const Tensor images = make_images(items, model.device);
    const NetworkOutput out =
        take_to_host(model.network->forward(images, make_options(model, items), {}), items.front().outputs);
    for (size_t b = 0; b < items.size(); ++b)
      results.push_back(finish_item(out, items[b], int64_t(b), model.config.nested()));
  } catch (const std::bad_alloc&) {
    throw EngineError(DA3_ERROR_NO_MEMORY, "Out of memory.", "std::bad_alloc");
  } catch (const c10::Error& e) {
    if (is_out_of_memory(e.what())) throw EngineError(DA3_ERROR_NO_MEMORY, "Out of memory.", e.what());
    throw EngineError(DA3_ERROR_FAILED, "Inference failed: " + std::string(e.what_without_backtrace()),
                      e.what());
  }
  const int64_t elapsed = Clock::real().now() - started;
  for (size_t b = 0; b < items.size(); ++b) {
    Da3ResultData& d = results[b]->data;
    d.batch = uint32_t(items.size());
    d.inference_ns = elapsed;
    d.queued_ns = started - items[b].submitted;
  }
  return results;
}

}  // namespace da3
