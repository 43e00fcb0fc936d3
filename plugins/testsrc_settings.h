// SPDX-License-Identifier: MIT
//
// The properties of da3testsrc as one value.
#pragma once

#include <gst/gst.h>

#include "scene/path.h"
#include "scene/scene.h"

namespace da3::plugin {

struct TestSrcSettings {
  scene::Family family = scene::Family::room;
  scene::PathKind path = scene::PathKind::forward;
  guint64 seed = 0;
  double fov = 70;  // degrees, of the longer side
  double speed = 1;
  guint64 loop_frames = 0;  // 0: as the speed has it
  guint64 num_frames = 0;   // 0: endless
  double noise = 0.1;
  double exposure = 0;     // stops
  double motion_blur = 0;  // share of the frame's time that the shutter is open
  bool antialias = true;
  guint threads = 0;
  gint64 timestamp_offset = 0;
};

// Nicks are the names of the families and paths.
GType test_scene_get_type();
GType test_path_get_type();

void install_test_src_properties(GObjectClass* klass);
// FALSE if there is no such property. Call with the object lock held.
bool set_test_src_property(TestSrcSettings& settings, guint id, const GValue* value);
bool get_test_src_property(const TestSrcSettings& settings, guint id, GValue* value);

// Not in TestSrcSettings: the base class keeps it.
constexpr guint kTestSrcIsLive = 1;

}  // namespace da3::plugin
