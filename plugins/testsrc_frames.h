// SPDX-License-Identifier: MIT
//
// The frames of da3testsrc: frame number in, picture and truth out, in any order. Used from one thread at a
// time.
#pragma once

#include <gst/video/video.h>

#include "scene/path.h"
#include "scene/renderer.h"
#include "testsrc_settings.h"

namespace da3::plugin {

class TestFrames {
 public:
  // Builds the scene (up to a tenth of a second). Throws std::invalid_argument for settings out of range.
  explicit TestFrames(const TestSrcSettings& settings);

  // `fps_n` 0: one picture without a time.
  void set_rate(int fps_n, int fps_d);
  // Frames of one round of path=loop, else 0.
  guint64 loop_frames() const { return loop_frames_; }
  // What may change while playing: noise, exposure, motion_blur, antialias.
  void set_look(const TestSrcSettings& settings);

  // Renders frame `number` into `buffer`, a writable RGB or RGBx frame as `info` says, and attaches the truth
  // to it.
  void render(guint64 number, GstBuffer* buffer, const GstVideoInfo& info);

 private:
  double time_of(double number) const;  // seconds on the path
  TestSrcSettings settings_;
  scene::Scene scene_;
  scene::CameraPath path_;
  scene::Renderer renderer_;
  int fps_n_ = 30, fps_d_ = 1;
  guint64 loop_frames_ = 0;
};

}  // namespace da3::plugin
