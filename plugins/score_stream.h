// SPDX-License-Identifier: MIT
//
// The scores of a stream: of each frame as it comes, and of all. No GStreamer. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "score/summary.h"
#include "score_frame.h"

namespace da3::plugin {

// Angles are the means of the pairs of this frame with earlier ones of its window: none for the first.
struct FrameScore {
  int64_t frame = 0, window = 0;
  int view = 0;
  std::optional<score::DepthScore> depth;
  std::optional<double> fov_error, rotation_deg, translation_deg;
};

struct StreamScore {
  uint64_t frames = 0;                       // all that passed
  uint64_t no_truth = 0, no_prediction = 0;  // of these
  uint64_t scored() const { return frames - no_truth - no_prediction; }
  score::Totals totals;
};

class ScoreStream {
 public:
  // Pairs are formed with so many frames before at most: the time for a frame is bounded, however long a
  // window is.
  static constexpr size_t kReach = 63;

  // Empty for a frame without truth or prediction; it is counted.
  std::optional<FrameScore> take(const FramePair& pair);
  // The open window ends here: its trajectory is scored.
  void end_window();
  // With the window that is still open as it is now.
  StreamScore score() const;

 private:
  void score_poses(const FramePair& pair, FrameScore* score);

  uint64_t frames_ = 0, no_truth_ = 0, no_prediction_ = 0;
  score::Summary summary_;
  // Poses of the open window: 200 bytes a frame.
  std::optional<int64_t> window_;
  std::vector<geometry::Matrix34> estimate_, truth_;
};

// One line of JSON without the newline; what has no value is null. `seconds`: stream time.
std::string frame_json(const FrameScore& score, std::optional<double> seconds);
std::string summary_json(const StreamScore& score);
// For people.
std::string frame_text(const FrameScore& score);
std::string summary_text(const StreamScore& score);

}  // namespace da3::plugin
