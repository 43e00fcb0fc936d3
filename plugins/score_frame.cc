// SPDX-License-Identifier: MIT
#include "score_frame.h"

#include <cmath>
#include <utility>
#include <vector>

#include "common/depth_frame.h"
#include "common/resample.h"

namespace da3::plugin {
namespace {

constexpr float kSkyThreshold = 0.3f;
constexpr const char* kTrueDepth = GST_DA3_TENSOR_DEPTH "-truth";
constexpr const char* kTrueSky = GST_DA3_TENSOR_SKY "-truth";

struct Side {
  GstDa3View view{};
  bool known = false;
  std::optional<MapReader> depth;

  // Metres for one unit of depth or translation, 1 where the unit is not known.
  double unit() const {
    const bool metric = view.kind == GST_DA3_DEPTH_KIND_METRIC && std::isfinite(view.unit_scale);
    return metric && view.unit_scale > 0 ? view.unit_scale : 1;
  }
  bool says_something() const { return known && (depth || view.has_intrinsics || view.has_extrinsics); }
  // The part of the picture that the depth map covers, as shares of the picture.
  Region region() const {
    const double w = view.image_width, h = view.image_height;
    return {view.depth_x / w, view.depth_y / h, view.depth_w / w, view.depth_h / h};
  }
};

bool has_region(const GstDa3View& view) {
  const auto good = [](double start, double length) {
    return std::isfinite(start) && std::isfinite(length) && length > 0;
  };
  return view.image_width > 0 && view.image_height > 0 && good(view.depth_x, view.depth_w) &&
         good(view.depth_y, view.depth_h);
}

bool has_tensor(GstBuffer* buffer, const char* id) {
  GstDa3Tensor tensor;
  return gst_buffer_get_da3_tensor(buffer, id, &tensor) != FALSE;
}

Side read_side(GstBuffer* buffer, GstDa3Role role, const char* id) {
  Side side;
  side.known = gst_buffer_get_da3_view_by_role(buffer, role, &side.view) != FALSE;
  // An element that cropped the picture makes the region of the map unknown.
  if (side.known && has_region(side.view) && has_tensor(buffer, id)) {
    if (auto depth = MapReader::open(buffer, id)) side.depth.emplace(std::move(*depth));
  }
  return side;
}

score::Lens lens_of(const GstDa3View& view) {
  score::Lens lens;
  lens.intrinsics << view.fx, 0, view.cx, 0, view.fy, view.cy, 0, 0, 1;
  lens.width = view.image_width;
  lens.height = view.image_height;
  return lens;
}

bool is_lens(const GstDa3View& view) {
  return view.has_intrinsics && view.image_width > 0 && view.image_height > 0 && view.fx > 0 && view.fy > 0 &&
         std::isfinite(view.fx + view.fy + view.cx + view.cy);
}

std::optional<geometry::Matrix34> pose_of(const Side& side) {
  if (!side.known || !side.view.has_extrinsics) return std::nullopt;
  geometry::Matrix34 pose;
  for (int row = 0; row < 3; ++row) {
    for (int column = 0; column < 3; ++column) pose(row, column) = side.view.rotation[3 * row + column];
    pose(row, 3) = side.view.translation[row] * side.unit();
  }
  return pose;
}

// Truth and prediction at the pixels of the truth that the prediction covers, row by row.
struct Aligned {
  std::vector<float> prediction, truth;
};

Aligned align(const Side& prediction, const Side& truth, const MapReader* sky) {
  const MapReader &p = *prediction.depth, &t = *truth.depth;
  const Region from = prediction.region(), to = truth.region();
  const double sx = t.width() / to.w, sy = t.height() / to.h;
  const ResampleAxis x = make_resample_axis(t.width(), (from.x - to.x) * sx, from.w * sx, p.width());
  const ResampleAxis y = make_resample_axis(t.height(), (from.y - to.y) * sy, from.h * sy, p.height());
  Aligned out;
  out.prediction.reserve(size_t(x.size()) * size_t(y.size()));
  out.truth.reserve(out.prediction.capacity());
  const float predicted_unit = float(prediction.unit()), true_unit = float(truth.unit());
  BilinearRows rows(p.data(), p.width(), x, y);
  for (int n = 0; n < y.size(); ++n) {
    const float* row = rows.row(n);
    const size_t offset = size_t(y.begin + n) * size_t(t.width());
    for (int k = 0; k < x.size(); ++k) {
      const size_t at = offset + size_t(x.begin + k);
      if (sky && sky->data()[at] >= kSkyThreshold) continue;
      out.prediction.push_back(row[k] * predicted_unit);
      out.truth.push_back(t.data()[at] * true_unit);
    }
  }
  return out;
}

std::optional<score::DepthScore> compare_depth(GstBuffer* buffer, const Side& prediction, const Side& truth,
                                               bool median_scaling) {
  if (!prediction.depth || !truth.depth) return std::nullopt;
  const auto sky = MapReader::open(buffer, kTrueSky);
  const bool fits = sky && sky->width() == truth.depth->width() && sky->height() == truth.depth->height();
  const Aligned maps = align(prediction, truth, fits ? &*sky : nullptr);
  return score::score_depth(maps.prediction.data(), maps.truth.data(), maps.truth.size(), median_scaling);
}

}  // namespace

FramePair compare_frame(GstBuffer* buffer, bool median_scaling) {
  const Side truth = read_side(buffer, GST_DA3_ROLE_TRUTH, kTrueDepth);
  const Side prediction = read_side(buffer, GST_DA3_ROLE_PREDICTION, GST_DA3_TENSOR_DEPTH);
  FramePair pair;
  pair.has_truth = truth.says_something();
  pair.stale = prediction.known && prediction.view.stale;
  pair.has_prediction = prediction.says_something() && !pair.stale;
  if (!pair.has_truth || !pair.has_prediction) return pair;
  pair.frame = prediction.view.frame;
  pair.window = prediction.view.window;
  pair.view = prediction.view.view_index;
  pair.views = prediction.view.views;
  pair.depth = compare_depth(buffer, prediction, truth, median_scaling);
  if (prediction.view.has_intrinsics && is_lens(truth.view)) {
    pair.fov_error = score::fov_error(lens_of(prediction.view), lens_of(truth.view));
  }
  pair.predicted_pose = pose_of(prediction);
  pair.true_pose = pose_of(truth);
  if (pair.true_pose && !pair.true_pose->allFinite()) pair.true_pose.reset();
  return pair;
}

}  // namespace da3::plugin
