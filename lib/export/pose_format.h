// SPDX-License-Identifier: MIT
//
// What the writers of trajectory files share: numbers as text, poses in the direction asked for, words for
// headers.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <memory>
#include <string>

#include "export/pose_record.h"
#include "export/pose_writer.h"

namespace da3::exporter {

using PoseMatrix = Eigen::Matrix<double, 3, 4, Eigen::RowMajor>;

// Nine significant digits, "." as decimal separator; 0 for -0. The value must be finite.
void append_number(std::string& out, double value);
// Seconds with nine decimals, exact for every 64-bit count of nanoseconds.
void append_seconds(std::string& out, std::int64_t time_ns);

// `written`: `out` is the pose of `record` in `direction`. Otherwise no_pose or bad_pose, and `out` is
// untouched.
PoseOutcome pose_of(const PoseRecord& record, PoseDirection direction, PoseMatrix& out);

const char* direction_name(PoseDirection direction);      // "c2w", "w2c"
const char* direction_sentence(PoseDirection direction);  // the formula
const char* kind_name(DepthKind kind);                    // "none", "relative", "metric"
const char* unit_name(DepthKind kind);                    // "metre", "relative"
const char* unit_sentence(DepthKind kind);

inline constexpr const char* axes_sentence = "OpenCV camera: x right, y down, z forward";
inline constexpr const char* time_sentence = "seconds of stream time, from the presentation timestamp";
inline constexpr const char* world_sentence =
    "poses of one window share a world; the worlds of different windows are not aligned";

std::unique_ptr<PoseWriter> make_jsonl_writer(const std::string& path, PoseDirection direction);
std::unique_ptr<PoseWriter> make_tum_writer(const std::string& path, PoseDirection direction);
std::unique_ptr<PoseWriter> make_kitti_writer(const std::string& path, PoseDirection direction);

}  // namespace da3::exporter
