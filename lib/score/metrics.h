// SPDX-License-Identifier: MIT
//
// How far depth and cameras are from the truth, with the measures of the literature. Angles in degrees,
// truth in metres, poses world to camera with OpenCV axes (x right, y down, z forward). All functions are
// pure and thread-safe. What has no value is NaN (or an empty optional) and is said so below; what the
// estimate should have and has not counts as wrong and is never skipped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "geometry/rigid.h"

namespace da3::score {

// Two cameras whose centres are nearer than this in truth [m] have no direction to each other, and a path
// shorter than this stands still.
constexpr double kStill = 1e-3;

struct DepthScore {
  double abs_rel;  // mean of |scale * prediction - truth| / truth
  double delta1;   // share of pixels, 0..1, with max(ratio, 1 / ratio) < 1.25
  double scale;    // factor on the prediction; 1 without alignment
  int64_t pixels;  // pixels with truth
};

// Counts the pixels whose truth is finite and above 0. A prediction there that is not finite or not above 0
// is wrong: error 1, and outside delta1. With `align_median` the prediction is first multiplied by
// median(truth) / median(prediction), lower medians over the pixels where both are usable (1 if there is
// none). Empty if no pixel has truth. Throws std::invalid_argument for null with a count above 0.
std::optional<DepthScore> score_depth(const float* prediction, const float* truth, size_t count,
                                      bool align_median);

struct PairError {
  double rotation_deg;     // angle of the rotation between estimated and true relative rotation, 0..180
  double translation_deg;  // angle between the directions of the relative translations, 0..180, NaN: none
  // The larger of the two, or the rotation where there is no direction.
  double worst() const;
};

// Relative pose from camera i to camera j, P_j P_i^-1. The direction is signed: an estimate that moves
// backwards is 180 degrees wrong (upstream folds 180 to 0). It is NaN where the true cameras are nearer than
// kStill. An estimate whose cameras are in one place gives no direction and is 90 degrees wrong (as
// upstream); one that is not finite is 180 degrees wrong in both. Throws std::invalid_argument if the truth
// is not finite.
PairError score_pair(const geometry::Matrix34& estimate_i, const geometry::Matrix34& estimate_j,
                     const geometry::Matrix34& truth_i, const geometry::Matrix34& truth_j);

// All pairs i < j in the order (0,1), (0,2), ..., (1,2), ...; none for fewer than two poses. Throws
// std::invalid_argument for counts that differ.
std::vector<PairError> score_pairs(const std::vector<geometry::Matrix34>& estimate_w2c,
                                   const std::vector<geometry::Matrix34>& truth_w2c);

// Area under the recall curve of PairError::worst(), 0..1, as the benchmarks of DA3 (bench/utils.py,
// calculate_auc_np) and VGGT have it: a histogram with bins of one degree, [0, 1) ... [n - 1, n] up to the
// threshold n, divided by the number of pairs, and the mean of its cumulative sums. NaN without pairs.
// Throws std::invalid_argument unless the threshold is a whole number of degrees in 1..180.
double auc(const std::vector<PairError>& errors, double threshold_deg);

// Intrinsics and the picture they belong to, both in pixels.
struct Lens {
  geometry::Matrix3 intrinsics = geometry::Matrix3::Identity();
  double width = 0, height = 0;
};

// |estimate - truth| / truth of the angles of view between the edges of the picture, mean of horizontal and
// vertical. Both must show the same part of the scene; their sizes may differ. An estimate that is no camera
// (not finite, a focal length or size not above 0) has the error 1. Throws std::invalid_argument for such a
// truth.
double fov_error(const Lens& estimate, const Lens& truth);

struct TrajectoryScore {
  double ate;       // root mean square of the distances of the camera centres after Sim(3) alignment [m]
  double relative;  // ate / path; NaN where truth stands still
  double path;      // length of the true path [m]
  int64_t poses;
};

// Aligned by least squares of the centres (Umeyama). Where these do not fix a rotation (one or two poses, a
// straight path, a camera that stands still) orientations do: geometry::align_trajectories. Where truth
// stands still there is no scale, and `ate` is in the unit of the estimate. Empty for no poses, and `ate` is
// infinite for an estimate that is not finite. Throws std::invalid_argument for counts that differ and for
// truth that is not finite.
std::optional<TrajectoryScore> score_trajectory(const std::vector<geometry::Matrix34>& estimate_w2c,
                                                const std::vector<geometry::Matrix34>& truth_w2c);

}  // namespace da3::score
