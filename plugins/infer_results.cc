// SPDX-License-Identifier: MIT
#include "infer_results.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/guard.h"

namespace da3::plugin {
namespace {

constexpr float kSkyThreshold = 0.3f;
// The metric network is trained on pictures seen with this focal length (upstream model/da3.py).
constexpr double kReferenceFocal = 300.0;

// ---- statistics
// ---------------------------------------------------------------------------------------------------

bool counts(float value) {
  return value > 0 && std::isfinite(value);
}

// The bits of positive floats sort like the floats; the upper ones make buckets of 1/256 octave.
constexpr int kBucketShift = 15;
constexpr size_t kBuckets = size_t(1) << (31 - kBucketShift);
size_t bucket_of(float value) {
  return std::bit_cast<uint32_t>(value) >> kBucketShift;
}

// Finds order statistics without sorting: the buckets say where a rank is, and only that bucket is looked at.
class RankFinder {
 public:
  RankFinder(const float* values, size_t count) : values_(values, values + count), sizes_(kBuckets) {
    for (const float value : values_) {
      if (!counts(value)) continue;
      ++sizes_[bucket_of(value)];
      ++valid_;
    }
  }
  size_t valid() const { return valid_; }

  // Linear interpolation between the two neighbours, as numpy.percentile does.
  double percentile(double share) {
    const double position = share * double(valid_ - 1);
    const auto rank = size_t(position);
    const double fraction = position - double(rank);
    const double low = at(rank);
    return fraction == 0 ? low : low + fraction * (at(rank + 1) - low);
  }
  double at(size_t rank) {
    size_t bucket = 0;
    for (; rank >= sizes_[bucket]; ++bucket) rank -= sizes_[bucket];
    inside_.clear();
    for (const float value : values_) {
      if (bucket_of(value) == bucket && counts(value)) inside_.push_back(value);
    }
    std::nth_element(inside_.begin(), inside_.begin() + ptrdiff_t(rank), inside_.end());
    return inside_[rank];
  }

 private:
  std::span<const float> values_;
  std::vector<uint32_t> sizes_;
  std::vector<float> inside_;
  size_t valid_ = 0;
};

// ---- tensors
// ------------------------------------------------------------------------------------------------------

void drop_result(gpointer user) {
  delete static_cast<std::shared_ptr<InferResult>*>(user);
}

void add_tensor(GstBuffer* buffer, const char* id, GstBuffer* data, guint n_dims, const gsize* dims) {
  if (gst_buffer_add_da3_tensor(buffer, id, data, n_dims, dims)) return;
  throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_FAILED,
                     std::string("Could not attach ") + id + " to a frame.");
}

// The planes stay where the engine put them; the last tensor to go releases them.
GstBuffer* wrap(const float* values, size_t count, const std::shared_ptr<InferResult>& result) {
  const gsize bytes = count * sizeof(float);
  return gst_buffer_new_wrapped_full(GST_MEMORY_FLAG_READONLY, const_cast<float*>(values), bytes, 0, bytes,
                                     new std::shared_ptr<InferResult>(result), drop_result);
}

GstBuffer* scaled_copy(const float* values, size_t count, float factor) {
  auto* copy = static_cast<float*>(g_malloc(count * sizeof(float)));
  std::transform(values, values + count, copy, [factor](float value) { return value * factor; });
  return gst_buffer_new_wrapped(copy, count * sizeof(float));
}

// ---- cameras and regions
// ------------------------------------------------------------------------------------------

// Mean focal length in pixels of the network's picture, or 0 if upstream does not know the camera.
double network_focal(const FrameGeometry& geometry) {
  const GstDa3View& upstream = geometry.upstream;
  if (!geometry.has_upstream || !upstream.has_intrinsics) return 0;
  double k[9] = {upstream.fx, 0, upstream.cx, 0, upstream.fy, upstream.cy, 0, 0, 1};
  if (!geometry.direct) {
    // The plan starts at the displayed size; with pixels that are not square the frame has another one.
    const double sx = double(geometry.plan.input.width) / geometry.frame.width;
    const double sy = double(geometry.plan.input.height) / geometry.frame.height;
    k[0] *= sx;
    k[2] *= sx;
    k[4] *= sy;
    k[5] *= sy;
    image::adapt_intrinsics(geometry.plan, k);
  }
  const double focal = (k[0] + k[4]) / 2;
  return std::isfinite(focal) && focal > 0 ? focal : 0;
}

// A camera that is not finite (a degenerate fit) counts as unknown.
void set_camera(GstDa3View& view, const FrameGeometry& geometry, const float* extrinsics,
                const float* intrinsics) {
  const auto finite = [](float value) { return std::isfinite(value); };
  view.has_intrinsics = view.has_extrinsics = FALSE;
  if (!std::all_of(extrinsics, extrinsics + 12, finite) || !std::all_of(intrinsics, intrinsics + 9, finite))
    return;
  double k[9];
  std::copy_n(intrinsics, 9, k);
  if (!geometry.direct) image::restore_intrinsics(geometry.plan, geometry.frame, k);
  view.has_intrinsics = view.has_extrinsics = TRUE;
  view.fx = k[0];
  view.fy = k[4];
  view.cx = k[2];
  view.cy = k[5];
  for (int row = 0; row < 3; ++row) {
    for (int column = 0; column < 3; ++column) view.rotation[3 * row + column] = extrinsics[4 * row + column];
    view.translation[row] = extrinsics[4 * row + 3];
  }
}

void set_regions(GstDa3View& view, const FrameGeometry& geometry) {
  view.image_width = geometry.frame.width;
  view.image_height = geometry.frame.height;
  view.processed = geometry.direct;
  if (view.source_width <= 0 || view.source_height <= 0) {
    view.source_width = geometry.frame.width;
    view.source_height = geometry.frame.height;
    view.source_x = view.source_y = 0;
    view.source_w = geometry.frame.width;
    view.source_h = geometry.frame.height;
  }
  view.depth_x = view.depth_y = 0;
  view.depth_w = geometry.frame.width;
  view.depth_h = geometry.frame.height;
  if (geometry.direct || !geometry.plan.crop) return;
  const double sx = double(geometry.frame.width) / geometry.plan.boundary.width;
  const double sy = double(geometry.frame.height) / geometry.plan.boundary.height;
  view.depth_x = sx * geometry.plan.crop_left;
  view.depth_y = sy * geometry.plan.crop_top;
  view.depth_w = sx * geometry.plan.final.width;
  view.depth_h = sy * geometry.plan.final.height;
}

const char* precision_name(Da3Precision precision) {
  switch (precision) {
    case DA3_PRECISION_FP32:
      return "fp32";
    case DA3_PRECISION_FP16:
      return "fp16";
    case DA3_PRECISION_BF16:
      return "bf16";
    case DA3_PRECISION_INT8:
      return "int8";
    case DA3_PRECISION_FP8:
      return "fp8";
    default:
      return "";
  }
}

void set_model(GstDa3View& view, const Da3ModelInfo& model, const Da3ResultData& data) {
  g_strlcpy(view.model, model.name, sizeof(view.model));
  g_strlcpy(view.weights_hash, model.weights_hash, sizeof(view.weights_hash));
  g_strlcpy(view.device, model.device, sizeof(view.device));
  g_strlcpy(view.precision, precision_name(model.precision), sizeof(view.precision));
  view.batch = int(data.batch);
  view.queued_ns = data.queued_ns;
  view.inference_ns = data.inference_ns;
}

void set_kind(GstDa3View& view, const Da3ModelInfo& model, const Da3ResultData& data, double focal) {
  bool metric = data.kind == DA3_KIND_METRIC && data.metric_valid;
  if (model.focal_normalised) metric = focal > 0;
  view.kind = metric ? GST_DA3_DEPTH_KIND_METRIC : GST_DA3_DEPTH_KIND_RELATIVE;
  view.unit_scale = metric ? 1 : 0;
}

// ---- planes
// -------------------------------------------------------------------------------------------------------

void add_sky(GstBuffer* buffer, GstDa3View& view, const float* sky, size_t plane, const gsize* dims,
             const std::shared_ptr<InferResult>& result) {
  const auto covered = std::count_if(sky, sky + plane, [](float value) { return value >= kSkyThreshold; });
  view.has_sky = TRUE;
  view.sky_fraction = double(covered) / double(plane);
  add_tensor(buffer, GST_DA3_TENSOR_SKY, wrap(sky, plane, result), 3, dims);
}

void add_rays(GstBuffer* buffer, const Da3ResultData& data, guint index,
              const std::shared_ptr<InferResult>& result) {
  const gsize dims[] = {1, gsize(data.ray_height), gsize(data.ray_width), 6};
  const size_t plane = dims[1] * dims[2];
  add_tensor(buffer, GST_DA3_TENSOR_RAY, wrap(data.ray + index * plane * 6, plane * 6, result), 4, dims);
  if (!data.ray_confidence) return;
  add_tensor(buffer, GST_DA3_TENSOR_RAY_CONFIDENCE, wrap(data.ray_confidence + index * plane, plane, result),
             3, dims);
}

void add_depth(GstBuffer* buffer, GstDa3View& view, const float* depth, size_t plane, const gsize* dims,
               double factor, const std::shared_ptr<InferResult>& result) {
  GstBuffer* data = factor == 1 ? wrap(depth, plane, result) : scaled_copy(depth, plane, float(factor));
  add_tensor(buffer, GST_DA3_TENSOR_DEPTH, data, 3, dims);
  view.depth = plane_statistics(depth, plane);
  for (gdouble* value :
       {&view.depth.min, &view.depth.max, &view.depth.median, &view.depth.p2, &view.depth.p98}) {
    *value *= factor;
  }
}

}  // namespace

GstDa3Stats plane_statistics(const float* values, size_t count) {
  GstDa3Stats stats{};
  RankFinder ranks(values, count);
  if (ranks.valid() == 0) return stats;
  stats.valid_fraction = double(ranks.valid()) / double(count);
  stats.min = ranks.at(0);
  stats.max = ranks.at(ranks.valid() - 1);
  stats.p2 = ranks.percentile(0.02);
  stats.median = ranks.percentile(0.5);
  stats.p98 = ranks.percentile(0.98);
  return stats;
}

Attached attach_results(GstBuffer* buffer, const FrameGeometry& geometry, const FrameIdentity& identity,
                        const Da3ModelInfo& model, const std::shared_ptr<InferResult>& result) {
  const Da3ResultData& data = result->data();
  const gsize dims[] = {1, gsize(data.height), gsize(data.width)};
  const size_t plane = dims[1] * dims[2];
  const size_t offset = identity.view * plane;

  GstDa3View view = geometry.upstream;
  view.version = GST_DA3_VIEW_VERSION;
  view.role = GST_DA3_ROLE_PREDICTION;
  view.frame = identity.frame;
  view.window = identity.window;
  view.view_index = int(identity.view);
  view.views = int(data.n_views);
  // Known intrinsics stay if the model predicts none; a pose of somebody else belongs to another depth scale.
  view.has_extrinsics = FALSE;
  view.has_sky = FALSE;
  view.sky_fraction = 0;
  view.confidence = GstDa3Stats{};
  const double focal = network_focal(geometry);
  set_regions(view, geometry);
  set_model(view, model, data);
  set_kind(view, model, data, focal);

  const double factor = model.focal_normalised && focal > 0 ? focal / kReferenceFocal : 1;
  add_depth(buffer, view, data.depth + offset, plane, dims, factor, result);
  if (view.depth.valid_fraction == 0) {
    throw ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED,
                       "The network gave no usable depth (not one finite value above 0) for frame " +
                           std::to_string(identity.frame) + "; try precision=fp32 or check the model file.");
  }
  if (data.confidence) {
    view.confidence = plane_statistics(data.confidence + offset, plane);
    add_tensor(buffer, GST_DA3_TENSOR_CONFIDENCE, wrap(data.confidence + offset, plane, result), 3, dims);
  }
  if (data.sky) add_sky(buffer, view, data.sky + offset, plane, dims, result);
  if (data.ray) add_rays(buffer, data, identity.view, result);
  if (data.extrinsics && data.intrinsics) {
    set_camera(view, geometry, data.extrinsics + 12 * identity.view, data.intrinsics + 9 * identity.view);
  }
  if (!gst_buffer_add_da3_view(buffer, &view)) {
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_FAILED, "Could not attach the view meta to a frame.");
  }
  return {view.depth.valid_fraction, factor == 1 ? 0 : plane * sizeof(float)};
}

}  // namespace da3::plugin
