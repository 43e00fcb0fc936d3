// SPDX-License-Identifier: MIT
//
// One frame that carries a prediction and the truth: what there is of both, and how far they are apart.
#pragma once

#include <gst/da3/da3.h>

#include <cstdint>
#include <optional>

#include "score/metrics.h"

namespace da3::plugin {

// What da3score compares. World to camera; translations in metres where the view says so.
struct FramePair {
  bool has_truth = false, has_prediction = false;
  bool stale = false;  // what there is was predicted for an earlier frame: no prediction
  int64_t frame = 0;   // number in the stream
  int64_t window = 0;  // views of one window share one world
  int view = 0, views = 1;
  std::optional<score::DepthScore> depth;  // empty where either has no depth, or truth is nothing but sky
  std::optional<double> fov_error;         // empty where either has no intrinsics
  std::optional<geometry::Matrix34> predicted_pose, true_pose;
};

// Depth is compared at the pixels of the truth: the prediction is interpolated bilinearly there, within the
// part of the picture that it covers. Sky is left out. `median_scaling`: see score::score_depth(). Throws
// ElementError (STREAM/FORMAT) for tensors of another shape than they should have.
FramePair compare_frame(GstBuffer* buffer, bool median_scaling);

}  // namespace da3::plugin
