// SPDX-License-Identifier: MIT
//
// Trajectory files. One interface, one writer a format:
//   jsonl  a header object, then one JSON object a frame; frames without a pose are kept ("pose":null)
//   tum    '#' header, then `time tx ty tz qx qy qz qw` (seconds, unit quaternion with qw >= 0)
//   kitti  `r11 r12 r13 tx r21 r22 r23 ty r31 r32 r33 tz`, no header because the readers of this format know
//   none; the
//          header and one time a line go to PATH.times.txt, line by line beside the poses
// Numbers have nine significant digits (a float survives), times nine decimals; the locale plays no part.
// Each line is in the file when write() returns.
//
// Poses of one window share a world; the worlds of different windows are not aligned with each other.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "export/pose_record.h"

namespace da3::exporter {

// What became of the pose of a frame. Other formats than jsonl, which has a line for every frame, skip a
// frame without.
enum class PoseOutcome {
  written,
  no_pose,   // the frame has none
  bad_pose,  // not finite, or its rotation is not a rotation
  no_time,   // the format needs a time and the frame has none
};

class PoseWriter {
 public:
  virtual ~PoseWriter() = default;
  // Throws FileError when the file cannot take the line; the file then ends with the line before.
  virtual PoseOutcome write(const PoseRecord& record) = 0;
  // Writes the header if no record came, closes and checks. Throws FileError.
  virtual void close() = 0;
  // See TextFile; from any thread.
  virtual void cancel() noexcept = 0;
  virtual void uncancel() noexcept = 0;
};

// The formats that make_pose_writer() knows, in the order of the list above.
const std::vector<std::string>& pose_formats();

// Creates or empties the file. Throws FileError, or std::invalid_argument (it lists the formats) for an
// unknown one.
std::unique_ptr<PoseWriter> make_pose_writer(const std::string& format, const std::string& path,
                                             PoseDirection direction);

}  // namespace da3::exporter
