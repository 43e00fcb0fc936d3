// SPDX-License-Identifier: MIT
//
// What a trajectory file knows about one frame. Plain values, no GStreamer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace da3::exporter {

// Which way a written pose goes.
enum class PoseDirection {
  camera_to_world,  // X_world = R * X_camera + t; t is the camera centre
  world_to_camera,  // X_camera = R * X_world + t
};

enum class DepthKind { none, relative, metric };

// Image pixels, origin at the top left corner of the top left pixel, no skew; K belongs to a width x height
// image.
struct Intrinsics {
  double fx = 0, fy = 0, cx = 0, cy = 0;
  int width = 0, height = 0;
};

// The part of the original picture that this image shows, in pixels of the original (width x height).
struct SourceRegion {
  int width = 0, height = 0;
  double x = 0, y = 0, w = 0, h = 0;
};

// Over the finite values > 0 of one plane.
struct PlaneStats {
  double min = 0, max = 0, median = 0, p2 = 0, p98 = 0, valid_fraction = 0;
};

struct PoseRecord {
  std::int64_t frame = 0;   // number of the frame in its stream, from 0
  std::int64_t window = 0;  // number of the group of views that share a world, from 0
  int view = 0, views = 1;  // position in that group and its size
  std::optional<std::int64_t> time_ns;

  // World to camera, 3x4 row-major [R|t], OpenCV camera axes (x right, y down, z forward).
  std::optional<std::array<double, 12>> world_to_camera;
  std::optional<Intrinsics> intrinsics;
  std::optional<SourceRegion> source;

  // All lengths (t, depth) are metres when metric, else in the unknown unit of the window.
  DepthKind kind = DepthKind::none;
  std::optional<PlaneStats> depth;
  std::optional<PlaneStats> confidence;  // values are >= 1
  std::optional<double> sky_fraction;

  bool truth = false;  // from a source that knows, not from a network
  std::string model;   // configuration name; empty = the frame was never inferred
  std::string weights, device, precision;
  int batch = 0;
  std::int64_t inference_ns = 0;
};

}  // namespace da3::exporter
