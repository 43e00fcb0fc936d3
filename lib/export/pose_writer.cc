// SPDX-License-Identifier: MIT
#include "export/pose_writer.h"

#include <Eigen/LU>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <stdexcept>

#include "export/pose_format.h"

namespace da3::exporter {
namespace {

struct Format {
  const char* name;
  std::unique_ptr<PoseWriter> (*make)(const std::string& path, PoseDirection direction);
};

constexpr Format formats[] = {
    {"jsonl", make_jsonl_writer},
    {"tum", make_tum_writer},
    {"kitti", make_kitti_writer},
};

// How far R R^T may be from the identity: far above float rounding, far below a scale or a shear that someone
// meant.
constexpr double rotation_tolerance = 1e-3;

bool is_rotation(const Eigen::Matrix3d& r) {
  const Eigen::Matrix3d error = r * r.transpose() - Eigen::Matrix3d::Identity();
  return error.cwiseAbs().maxCoeff() < rotation_tolerance && r.determinant() > 0;
}

}  // namespace

void append_number(std::string& out, double value) {
  char text[32];
  if (value == 0) value = 0;  // no "-0"
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, 9).ptr;
  out.append(text, end);
}

void append_seconds(std::string& out, std::int64_t time_ns) {
  constexpr std::uint64_t second = 1'000'000'000;
  // The magnitude as unsigned: INT64_MIN has no positive counterpart.
  const std::uint64_t magnitude = time_ns < 0 ? 0 - std::uint64_t(time_ns) : std::uint64_t(time_ns);
  if (time_ns < 0) out.push_back('-');
  out += std::to_string(magnitude / second);
  const std::string fraction = std::to_string(magnitude % second);
  out.push_back('.');
  out.append(9 - fraction.size(), '0').append(fraction);
}

PoseOutcome pose_of(const PoseRecord& record, PoseDirection direction, PoseMatrix& out) {
  if (!record.world_to_camera) return PoseOutcome::no_pose;
  const Eigen::Map<const PoseMatrix> pose(record.world_to_camera->data());
  if (!pose.allFinite() || !is_rotation(pose.leftCols<3>())) return PoseOutcome::bad_pose;
  if (direction == PoseDirection::world_to_camera) {
    out = pose;
  } else {
    out.leftCols<3>() = pose.leftCols<3>().transpose();
    out.col(3) = -(pose.leftCols<3>().transpose() * pose.col(3));
  }
  return PoseOutcome::written;
}

const char* direction_name(PoseDirection direction) {
  return direction == PoseDirection::camera_to_world ? "c2w" : "w2c";
}

const char* direction_sentence(PoseDirection direction) {
  return direction == PoseDirection::camera_to_world ? "camera to world: X_world = R * X_camera + t"
                                                     : "world to camera: X_camera = R * X_world + t";
}

const char* kind_name(DepthKind kind) {
  switch (kind) {
    case DepthKind::relative:
      return "relative";
    case DepthKind::metric:
      return "metric";
    default:
      return "none";
  }
}

const char* unit_name(DepthKind kind) {
  return kind == DepthKind::metric ? "metre" : "relative";
}

const char* unit_sentence(DepthKind kind) {
  return kind == DepthKind::metric ? "metre" : "relative (unknown scale, one for each window)";
}

const std::vector<std::string>& pose_formats() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Format& format : formats) list.emplace_back(format.name);
    return list;
  }();
  return names;
}

std::unique_ptr<PoseWriter> make_pose_writer(const std::string& format, const std::string& path,
                                             PoseDirection direction) {
  std::string known;
  for (const Format& candidate : formats) {
    if (format == candidate.name) return candidate.make(path, direction);
    known += (known.empty() ? "" : ", ") + std::string(candidate.name);
  }
  throw std::invalid_argument("Unknown trajectory format \"" + format + "\"; known are " + known + ".");
}

}  // namespace da3::exporter
