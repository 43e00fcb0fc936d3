// SPDX-License-Identifier: MIT
#include "testsrc_settings.h"

namespace da3::plugin {
namespace {

using scene::Family;
using scene::PathKind;

enum Property : guint {
  prop_is_live = kTestSrcIsLive,
  prop_scene,
  prop_path,
  prop_seed,
  prop_fov,
  prop_speed,
  prop_loop_frames,
  prop_num_frames,
  prop_noise,
  prop_exposure,
  prop_motion_blur,
  prop_antialias,
  prop_threads,
  prop_timestamp_offset
};

constexpr guint kMaxThreads = 256;
constexpr auto kBase = GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS);
constexpr auto kReady = GParamFlags(kBase | GST_PARAM_MUTABLE_READY);
constexpr auto kPlaying = GParamFlags(kBase | GST_PARAM_MUTABLE_PLAYING);

}  // namespace

GType test_scene_get_type() {
  static gsize once = 0;
  static const GEnumValue values[] = {
      {int(Family::room), "Furnished room with windows, 4 to 8 m", scene::family_name(Family::room)},
      {int(Family::corridor), "Corridor around a block, 12 to 26 m a side",
       scene::family_name(Family::corridor)},
      {int(Family::street), "Streets around a block of houses, 50 to 80 m",
       scene::family_name(Family::street)},
      {int(Family::terrain), "Hills with rocks, trees and a track", scene::family_name(Family::terrain)},
      {int(Family::objects), "Boxes, balls, cylinders and cones on a plaza",
       scene::family_name(Family::objects)},
      {int(Family::warehouse), "Hall with loaded racks, up to 40 m", scene::family_name(Family::warehouse)},
      {int(Family::forest), "Trees, bushes and logs beside a path", scene::family_name(Family::forest)},
      {int(Family::ruins), "Columns, broken walls and statues", scene::family_name(Family::ruins)},
      {0, nullptr, nullptr}};
  static_assert(scene::kFamilies == G_N_ELEMENTS(values) - 1);
  if (g_once_init_enter(&once)) g_once_init_leave(&once, g_enum_register_static("GstDa3TestScene", values));
  return once;
}

GType test_path_get_type() {
  static gsize once = 0;
  static const GEnumValue values[] = {
      {int(PathKind::still), "Stands still", scene::path_name(PathKind::still)},
      {int(PathKind::forward), "Moves forward at constant speed", scene::path_name(PathKind::forward)},
      {int(PathKind::orbit), "Circles and looks at one point", scene::path_name(PathKind::orbit)},
      {int(PathKind::handheld), "Held in a hand, looks around, moves slowly",
       scene::path_name(PathKind::handheld)},
      {int(PathKind::loop), "Comes back to exactly where it began", scene::path_name(PathKind::loop)},
      {int(PathKind::drive), "Drives: faster, lower, hardly shaking", scene::path_name(PathKind::drive)},
      {int(PathKind::walk), "Walks: bobs with every step", scene::path_name(PathKind::walk)},
      {0, nullptr, nullptr}};
  static_assert(scene::kPaths == G_N_ELEMENTS(values) - 1);
  if (g_once_init_enter(&once)) g_once_init_leave(&once, g_enum_register_static("GstDa3TestPath", values));
  return once;
}

void install_test_src_properties(GObjectClass* klass) {
  const TestSrcSettings d;
  const auto add = [klass](guint id, GParamSpec* spec) { g_object_class_install_property(klass, id, spec); };
  add(prop_is_live,
      g_param_spec_boolean("is-live", "Is live",
                           "Produce frames at the pace of the clock; frames that come too late are left "
                           "out",
                           FALSE, kReady));
  add(prop_scene, g_param_spec_enum("scene", "Scene", "Family of the scene; the seed chooses one of it",
                                    test_scene_get_type(), int(d.family), kReady));
  add(prop_path,
      g_param_spec_enum("path", "Path", "How the camera moves", test_path_get_type(), int(d.path), kReady));
  add(prop_seed,
      g_param_spec_uint64("seed", "Seed",
                          "Which scene of the family, where the path begins, and the noise. The same seed "
                          "gives the same frames",
                          0, G_MAXUINT64, d.seed, kReady));
  add(prop_fov, g_param_spec_double("fov", "Field of view", "Of the longer side of the picture [degrees]", 40,
                                    100, d.fov, kReady));
  add(prop_speed,
      g_param_spec_double("speed", "Speed", "Factor on the natural speed of the path in that scene", 0.01,
                          100, d.speed, kReady));
  add(prop_loop_frames,
      g_param_spec_uint64(
          "loop-frames", "Frames of a loop",
          "Frames of one round of path=loop: frame number loop-frames is seen from where frame 0 is. 0: as "
          "many as the speed needs",
          0, G_MAXINT32, d.loop_frames, kReady));
  add(prop_num_frames,
      g_param_spec_uint64(
          "num-frames", "Number of frames",
          "Length of the stream in frames, 0: endless. Unlike num-buffers it does not count what a seek "
          "left out",
          0, G_MAXINT32, d.num_frames, kReady));
  add(prop_noise,
      g_param_spec_double("noise", "Noise",
                          "Noise of the sensor; 1 is a deviation of about 16 of 255 in the shadows", 0, 1,
                          d.noise, kPlaying));
  add(prop_exposure, g_param_spec_double("exposure", "Exposure", "Brighter than what suits the scene [stops]",
                                         -8, 8, d.exposure, kPlaying));
  add(prop_motion_blur,
      g_param_spec_double("motion-blur", "Motion blur",
                          "Share of the time from frame to frame that the shutter is open; more than 0 "
                          "renders 8 pictures a frame. Depth is that of the middle",
                          0, 1, d.motion_blur, kPlaying));
  add(prop_antialias,
      g_param_spec_boolean("antialias", "Antialias", "Four rays for pixels on edges; depth has always one",
                           d.antialias, kPlaying));
  add(prop_threads,
      g_param_spec_uint("n-threads", "Number of threads",
                        "Threads that render, 0: one for each processor. The frames do not depend on it", 0,
                        kMaxThreads, d.threads, kReady));
  add(prop_timestamp_offset,
      g_param_spec_int64("timestamp-offset", "Timestamp offset", "Added to the timestamps [ns]", 0,
                         G_MAXINT64 / 2, d.timestamp_offset, kReady));
}

bool set_test_src_property(TestSrcSettings& s, guint id, const GValue* value) {
  switch (id) {
    case prop_scene:
      s.family = Family(g_value_get_enum(value));
      return true;
    case prop_path:
      s.path = PathKind(g_value_get_enum(value));
      return true;
    case prop_seed:
      s.seed = g_value_get_uint64(value);
      return true;
    case prop_fov:
      s.fov = g_value_get_double(value);
      return true;
    case prop_speed:
      s.speed = g_value_get_double(value);
      return true;
    case prop_loop_frames:
      s.loop_frames = g_value_get_uint64(value);
      return true;
    case prop_num_frames:
      s.num_frames = g_value_get_uint64(value);
      return true;
    case prop_noise:
      s.noise = g_value_get_double(value);
      return true;
    case prop_exposure:
      s.exposure = g_value_get_double(value);
      return true;
    case prop_motion_blur:
      s.motion_blur = g_value_get_double(value);
      return true;
    case prop_antialias:
      s.antialias = g_value_get_boolean(value);
      return true;
    case prop_threads:
      s.threads = g_value_get_uint(value);
      return true;
    case prop_timestamp_offset:
      s.timestamp_offset = g_value_get_int64(value);
      return true;
    default:
      return false;
  }
}

bool get_test_src_property(const TestSrcSettings& s, guint id, GValue* value) {
  switch (id) {
    case prop_scene:
      g_value_set_enum(value, int(s.family));
      return true;
    case prop_path:
      g_value_set_enum(value, int(s.path));
      return true;
    case prop_seed:
      g_value_set_uint64(value, s.seed);
      return true;
    case prop_fov:
      g_value_set_double(value, s.fov);
      return true;
    case prop_speed:
      g_value_set_double(value, s.speed);
      return true;
    case prop_loop_frames:
      g_value_set_uint64(value, s.loop_frames);
      return true;
    case prop_num_frames:
      g_value_set_uint64(value, s.num_frames);
      return true;
    case prop_noise:
      g_value_set_double(value, s.noise);
      return true;
    case prop_exposure:
      g_value_set_double(value, s.exposure);
      return true;
    case prop_motion_blur:
      g_value_set_double(value, s.motion_blur);
      return true;
    case prop_antialias:
      g_value_set_boolean(value, s.antialias);
      return true;
    case prop_threads:
      g_value_set_uint(value, s.threads);
      return true;
    case prop_timestamp_offset:
      g_value_set_int64(value, s.timestamp_offset);
      return true;
    default:
      return false;
  }
}

}  // namespace da3::plugin
