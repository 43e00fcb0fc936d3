// SPDX-License-Identifier: MIT
/**
 * SECTION:element-da3posesink
 * @title: da3posesink
 * @short_description: writes the camera of every frame to a trajectory file
 *
 * Takes any stream and reads only the view meta that da3infer (or another source of poses) attached to its
 * buffers. Every line is in the file when the buffer has been rendered: an application may follow the file
 * while it grows, and a crash, an error or a full disk costs no line before it.
 *
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=8 ! video/x-raw,width=320,height=180 !
 *   da3infer model=synthetic:da3-small process-res=112 views=4 ! da3posesink location=/dev/stdout format=tum
 * ]|
 *
 * * `jsonl`: a header object, then one object a frame, with pose, intrinsics, statistics of depth and
 * confidence, model. Frames without a pose are kept with `"pose":null`.
 * * `tum`: `#` header, then `seconds tx ty tz qx qy qz qw`.
 * * `kitti`: twelve numbers a frame; header and times go to `LOCATION.times.txt`, because readers of this
 * format expect nothing but numbers in the pose file.
 *
 * tum and kitti skip frames without a pose; one warning at EOS says how many and why. Times are seconds of
 * stream time from the presentation timestamp (DTS where there is none). An existing file is overwritten.
 * Axes are OpenCV's: x right, y down, z forward. Lengths are metres for metric models, else in a unit that is
 * unknown and may differ between windows.
 */
#include "da3posesink.h"

#include <gst/da3/da3.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <string>

#include "common/guard.h"
#include "elements.h"
#include "export/pose_writer.h"
#include "export/text_file.h"

GST_DEBUG_CATEGORY_STATIC(da3_pose_sink_debug);
#define GST_CAT_DEFAULT da3_pose_sink_debug

using da3::exporter::PoseDirection;
using da3::exporter::PoseOutcome;
using da3::exporter::PoseRecord;
using da3::plugin::ElementError;
using da3::plugin::guard;

namespace {

enum Format { format_jsonl = 0, format_tum, format_kitti };
enum Property { prop_location = 1, prop_format, prop_pose_direction, prop_stats };

constexpr Format default_format = format_jsonl;
constexpr PoseDirection default_direction = PoseDirection::camera_to_world;

#define GST_TYPE_DA3_POSE_FORMAT (pose_format_get_type())
GType pose_format_get_type() {
  static gsize once = 0;
  static const GEnumValue values[] = {
      {format_jsonl, "JSON lines: pose, intrinsics, statistics; frames without a pose are kept", "jsonl"},
      {format_tum, "TUM: time, position, quaternion", "tum"},
      {format_kitti, "KITTI: 3x4 matrices, times in LOCATION.times.txt", "kitti"},
      {0, nullptr, nullptr}};
  if (g_once_init_enter(&once)) g_once_init_leave(&once, g_enum_register_static("GstDa3PoseFormat", values));
  return once;
}

#define GST_TYPE_DA3_POSE_DIRECTION (pose_direction_get_type())
GType pose_direction_get_type() {
  static gsize once = 0;
  static const GEnumValue values[] = {
      {int(PoseDirection::camera_to_world), "Camera to world: the translation is the position of the camera",
       "c2w"},
      {int(PoseDirection::world_to_camera), "World to camera: what the network predicts", "w2c"},
      {0, nullptr, nullptr}};
  if (g_once_init_enter(&once))
    g_once_init_leave(&once, g_enum_register_static("GstDa3PoseDirection", values));
  return once;
}

std::string enum_nick(GType type, int value) {
  auto* enums = static_cast<GEnumClass*>(g_type_class_ref(type));
  const GEnumValue* entry = g_enum_get_value(enums, value);
  std::string nick = entry ? entry->value_nick : "";
  g_type_class_unref(enums);
  return nick;
}

struct Settings {
  std::string location;
  int format = default_format;
  PoseDirection direction = default_direction;
};

// Why frames have no line in the file, or no pose in it.
struct Counts {
  guint64 written = 0;    // frames with a line in the file
  guint64 with_pose = 0;  // of these
  guint64 no_meta = 0;    // nobody inferred the frame
  guint64 no_pose = 0, bad_pose = 0, no_time = 0;
  std::string poseless_model;  // of the last frame that was inferred and has no pose
  guint64 skipped() const { return no_meta + no_pose + bad_pose + no_time; }
};

// The writer and what went through it; settings are copied when it starts.
struct State {
  std::mutex mutex;  // settings, counts and the pointer `writer` itself
  Settings settings;
  Counts counts;
  std::shared_ptr<da3::exporter::PoseWriter> writer;
  bool failed = false;  // a write error was reported

  std::shared_ptr<da3::exporter::PoseWriter> get_writer() {
    const std::lock_guard lock(mutex);
    return writer;
  }
};

ElementError bus_error(const da3::exporter::FileError& e) {
  using Step = da3::exporter::FileError::Step;
  const gint code = e.disk_full()            ? GST_RESOURCE_ERROR_NO_SPACE_LEFT
                    : e.step() == Step::open ? GST_RESOURCE_ERROR_OPEN_WRITE
                                             : GST_RESOURCE_ERROR_WRITE;
  std::string message = e.what();
  if (e.disk_full()) message += " The lines before are complete; free some space or choose another location.";
  return ElementError(
      GST_RESOURCE_ERROR, code, message,
      std::string("errno ") + std::to_string(e.error_number()) + ": " + g_strerror(e.error_number()));
}

da3::exporter::PlaneStats plane_stats(const GstDa3Stats& from, double scale) {
  return {from.min * scale, from.max * scale, from.median * scale,
          from.p2 * scale,  from.p98 * scale, from.valid_fraction};
}

// `sequence`: number of this frame in the sink, for frames that nobody numbered.
PoseRecord record_of(GstBuffer* buffer, guint64 sequence, bool* has_meta) {
  PoseRecord record;
  record.frame = gint64(sequence);
  record.window = gint64(sequence);
  GstDa3View view;
  *has_meta = gst_buffer_get_da3_view(buffer, &view) != FALSE;
  if (!*has_meta) return record;

  record.frame = view.frame;
  record.window = view.window;
  record.view = view.view_index;
  record.views = view.views;
  double scale = 1;
  if (view.kind == GST_DA3_DEPTH_KIND_METRIC && std::isfinite(view.unit_scale) && view.unit_scale > 0) {
    record.kind = da3::exporter::DepthKind::metric;
    scale = view.unit_scale;
  } else if (view.kind != GST_DA3_DEPTH_KIND_NONE) {
    record.kind = da3::exporter::DepthKind::relative;
  }
  if (view.has_extrinsics) {
    const gdouble *r = view.rotation, *t = view.translation;
    record.world_to_camera = {r[0], r[1],         r[2], t[0] * scale, r[3], r[4],
                              r[5], t[1] * scale, r[6], r[7],         r[8], t[2] * scale};
  }
  if (view.has_intrinsics) {
    record.intrinsics = {view.fx, view.fy, view.cx, view.cy, view.image_width, view.image_height};
  }
  if (view.source_width > 0 && view.source_height > 0 && view.source_w > 0 && view.source_h > 0) {
    record.source = {view.source_width, view.source_height, view.source_x,
                     view.source_y,     view.source_w,      view.source_h};
  }
  if (view.depth.valid_fraction > 0) record.depth = plane_stats(view.depth, scale);
  if (view.confidence.valid_fraction > 0) record.confidence = plane_stats(view.confidence, 1);
  if (view.has_sky) record.sky_fraction = view.sky_fraction;
  record.truth = view.role == GST_DA3_ROLE_TRUTH;
  record.model = view.model;
  record.weights = view.weights_hash;
  record.device = view.device;
  record.precision = view.precision;
  record.batch = view.batch;
  record.inference_ns = view.inference_ns;
  return record;
}

std::optional<std::int64_t> stream_time(const GstSegment& segment, GstBuffer* buffer) {
  const GstClockTime position =
      GST_BUFFER_PTS_IS_VALID(buffer) ? GST_BUFFER_PTS(buffer) : GST_BUFFER_DTS(buffer);
  if (!GST_CLOCK_TIME_IS_VALID(position) || segment.format != GST_FORMAT_TIME) return std::nullopt;
  guint64 result = 0;
  const gint sign = gst_segment_to_stream_time_full(&segment, GST_FORMAT_TIME, position, &result);
  if (sign == 0 || result > guint64(G_MAXINT64)) return std::nullopt;
  return sign > 0 ? gint64(result) : -gint64(result);
}

std::string frames(guint64 count) {
  return std::to_string(count) + (count == 1 ? " frame" : " frames");
}

// What the warning at EOS says; empty if there is nothing to warn of.
std::string summary_of(const Counts& counts, int format, const std::string& location) {
  const bool keeps_all = format == format_jsonl;
  const guint64 total = counts.with_pose + counts.skipped();
  // A model without poses is no mishap where the frames are written all the same.
  if (counts.skipped() == 0 || (keeps_all && counts.skipped() == counts.no_pose)) return {};
  std::string text = frames(counts.skipped()) + " of " + std::to_string(total) +
                     (keeps_all ? " have no pose in \"" : " are not in \"") + location + "\":";
  const char* separator = " ";
  const auto add = [&](guint64 count, const std::string& why) {
    if (count == 0) return;
    text += separator + std::to_string(count) + " " + why;
    separator = ", ";
  };
  add(counts.no_meta, "without results of da3infer");
  add(counts.no_pose, "without a pose");
  add(counts.bad_pose, "with a pose that is not a finite rigid transform");
  add(counts.no_time, "without a timestamp");
  text += ".";
  if (counts.no_meta == total) text += " Put da3infer in front of da3posesink.";
  if (counts.no_pose == total) {
    const std::string models = "da3-small, da3-base, da3-large, da3-giant and da3nested-giant-large";
    text += counts.poseless_model.empty()
                ? " Models that compute poses: " + models + "."
                : " The model " + counts.poseless_model + " computes none; " + models + " do.";
    text += " format=jsonl keeps frames without a pose.";
  }
  return text;
}

}  // namespace

struct _GstDa3PoseSink {
  GstBaseSink parent;
  State* state;
};

G_DEFINE_FINAL_TYPE(GstDa3PoseSink, gst_da3_pose_sink, GST_TYPE_BASE_SINK)
GST_ELEMENT_REGISTER_DEFINE(da3posesink, "da3posesink", GST_RANK_NONE, GST_TYPE_DA3_POSE_SINK)

namespace {

void set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  State& state = *GST_DA3_POSE_SINK(object)->state;
  bool refused = false;
  {
    const std::lock_guard lock(state.mutex);
    if (state.writer) {
      refused = true;
    } else if (id == prop_location) {
      const char* text = g_value_get_string(value);
      state.settings.location = text ? text : "";
    } else if (id == prop_format) {
      state.settings.format = g_value_get_enum(value);
    } else if (id == prop_pose_direction) {
      state.settings.direction = PoseDirection(g_value_get_enum(value));
    } else {
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
    }
  }
  if (refused) {
    da3::plugin::post_warning(
        GST_ELEMENT(object), GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS,
        std::string("The property \"") + g_param_spec_get_name(spec) +
            "\" cannot be changed while the file is open; set the element to READY first.");
  }
}

void get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  State& state = *GST_DA3_POSE_SINK(object)->state;
  const std::lock_guard lock(state.mutex);
  switch (id) {
    case prop_location:
      g_value_set_string(value, state.settings.location.empty() ? nullptr : state.settings.location.c_str());
      break;
    case prop_format:
      g_value_set_enum(value, state.settings.format);
      break;
    case prop_pose_direction:
      g_value_set_enum(value, int(state.settings.direction));
      break;
    case prop_stats:
      g_value_take_boxed(value, gst_structure_new("application/x-da3-pose-stats", "written", G_TYPE_UINT64,
                                                  state.counts.written, "with-pose", G_TYPE_UINT64,
                                                  state.counts.with_pose, nullptr));
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
  }
}

void finalize(GObject* object) {
  delete GST_DA3_POSE_SINK(object)->state;
  G_OBJECT_CLASS(gst_da3_pose_sink_parent_class)->finalize(object);
}

void open_file(State& state) {
  Settings settings;
  {
    const std::lock_guard lock(state.mutex);
    settings = state.settings;
  }
  if (settings.location.empty()) {
    throw ElementError(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS,
                       "No file to write the poses to: set the property \"location\".");
  }
  std::shared_ptr<da3::exporter::PoseWriter> writer;
  try {
    writer = da3::exporter::make_pose_writer(enum_nick(GST_TYPE_DA3_POSE_FORMAT, settings.format),
                                             settings.location, settings.direction);
  } catch (const da3::exporter::FileError& e) {
    throw bus_error(e);
  }
  const std::lock_guard lock(state.mutex);
  state.counts = {};
  state.failed = false;
  state.writer = std::move(writer);
}

void close_file(State& state) {
  std::shared_ptr<da3::exporter::PoseWriter> writer;
  bool failed;
  {
    const std::lock_guard lock(state.mutex);
    writer = std::move(state.writer);
    state.writer = nullptr;
    failed = state.failed;
  }
  if (!writer) return;
  try {
    writer->close();
  } catch (const da3::exporter::Cancelled&) {
    // unlock() came before: only the header of an empty file is missing.
  } catch (const da3::exporter::FileError& e) {
    // After a write error closing fails for the same reason; one report is enough.
    if (!failed) throw bus_error(e);
    GST_WARNING("closing: %s", e.what());
  }
}

// The file is open from PAUSED on, so that its properties can be set in READY.
GstStateChangeReturn change_state(GstElement* element, GstStateChange transition) {
  State& state = *GST_DA3_POSE_SINK(element)->state;
  if (transition == GST_STATE_CHANGE_READY_TO_PAUSED) {
    const bool opened = guard(element, false, [&] {
      open_file(state);
      return true;
    });
    if (!opened) return GST_STATE_CHANGE_FAILURE;
  }
  const GstStateChangeReturn result =
      GST_ELEMENT_CLASS(gst_da3_pose_sink_parent_class)->change_state(element, transition);
  const bool failed_to_open =
      transition == GST_STATE_CHANGE_READY_TO_PAUSED && result == GST_STATE_CHANGE_FAILURE;
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY || failed_to_open) {
    const bool closed = guard(element, false, [&] {
      close_file(state);
      return true;
    });
    if (!closed) return GST_STATE_CHANGE_FAILURE;
  }
  return result;
}

GstFlowReturn render(GstBaseSink* base, GstBuffer* buffer) {
  return guard(base, GST_FLOW_ERROR, [&] {
    State& state = *GST_DA3_POSE_SINK(base)->state;
    const auto writer = state.get_writer();
    if (!writer) return GST_FLOW_FLUSHING;
    guint64 sequence;
    int format;
    {
      const std::lock_guard lock(state.mutex);
      sequence = state.counts.with_pose + state.counts.skipped();
      format = state.settings.format;
    }
    bool has_meta = false;
    PoseRecord record = record_of(buffer, sequence, &has_meta);
    record.time_ns = stream_time(base->segment, buffer);
    PoseOutcome outcome;
    for (;;) {
      try {
        outcome = writer->write(record);
        break;
      } catch (const da3::exporter::Cancelled&) {
        const GstFlowReturn flow = gst_base_sink_wait_preroll(base);
        if (flow != GST_FLOW_OK) return flow;
      } catch (const da3::exporter::FileError& e) {
        const std::lock_guard lock(state.mutex);
        state.failed = true;
        throw bus_error(e);
      }
    }
    const std::lock_guard lock(state.mutex);
    Counts& counts = state.counts;
    if (outcome == PoseOutcome::written || format == format_jsonl) ++counts.written;
    if (outcome == PoseOutcome::written) {
      ++counts.with_pose;
    } else if (outcome == PoseOutcome::bad_pose) {
      ++counts.bad_pose;
    } else if (outcome == PoseOutcome::no_time) {
      ++counts.no_time;
    } else if (!has_meta) {
      ++counts.no_meta;
    } else {
      ++counts.no_pose;
      counts.poseless_model = record.model;
    }
    return GST_FLOW_OK;
  });
}

gboolean event(GstBaseSink* base, GstEvent* event) {
  if (GST_EVENT_TYPE(event) == GST_EVENT_EOS) {
    guard(base, FALSE, [&] {
      State& state = *GST_DA3_POSE_SINK(base)->state;
      std::string warning;
      {
        const std::lock_guard lock(state.mutex);
        warning = summary_of(state.counts, state.settings.format, state.settings.location);
      }
      if (!warning.empty()) {
        da3::plugin::post_warning(GST_ELEMENT(base), GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, warning);
      }
      return TRUE;
    });
  }
  return GST_BASE_SINK_CLASS(gst_da3_pose_sink_parent_class)->event(base, event);
}

gboolean unlock(GstBaseSink* base) {
  return guard(base, FALSE, [&]() -> gboolean {
    if (const auto writer = GST_DA3_POSE_SINK(base)->state->get_writer()) writer->cancel();
    return TRUE;
  });
}

gboolean unlock_stop(GstBaseSink* base) {
  return guard(base, FALSE, [&]() -> gboolean {
    if (const auto writer = GST_DA3_POSE_SINK(base)->state->get_writer()) writer->uncancel();
    return TRUE;
  });
}

void install_properties(GObjectClass* object_class) {
  const auto flags = GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  g_object_class_install_property(
      object_class, prop_location,
      g_param_spec_string(
          "location", "Location",
          "File to write; an existing one is overwritten. A FIFO needs a reader beforehand; /dev/stdout "
          "writes to standard output",
          nullptr, flags));
  g_object_class_install_property(object_class, prop_format,
                                  g_param_spec_enum("format", "Format", "Format of the file",
                                                    GST_TYPE_DA3_POSE_FORMAT, default_format, flags));
  g_object_class_install_property(
      object_class, prop_pose_direction,
      g_param_spec_enum("pose-direction", "Pose direction",
                        "Which way the written transforms go; the header says it too",
                        GST_TYPE_DA3_POSE_DIRECTION, int(default_direction), flags));
  g_object_class_install_property(
      object_class, prop_stats,
      g_param_spec_boxed(
          "stats", "Statistics",
          "Frames since the file was opened: written (guint64, lines) and with-pose (guint64, of these "
          "with a pose)",
          GST_TYPE_STRUCTURE, GParamFlags(G_PARAM_READABLE | G_PARAM_STATIC_STRINGS)));
}

}  // namespace

static void gst_da3_pose_sink_class_init(GstDa3PoseSinkClass* klass) {
  auto* object_class = G_OBJECT_CLASS(klass);
  auto* element_class = GST_ELEMENT_CLASS(klass);
  auto* sink_class = GST_BASE_SINK_CLASS(klass);
  GST_DEBUG_CATEGORY_INIT(da3_pose_sink_debug, "da3posesink", 0, "trajectory writer");

  object_class->set_property = set_property;
  object_class->get_property = get_property;
  object_class->finalize = finalize;
  install_properties(object_class);
  gst_type_mark_as_plugin_api(GST_TYPE_DA3_POSE_FORMAT, GstPluginAPIFlags(0));
  gst_type_mark_as_plugin_api(GST_TYPE_DA3_POSE_DIRECTION, GstPluginAPIFlags(0));

  // Any caps: only the view meta of the buffers is read.
  static GstStaticPadTemplate sink_template =
      GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);
  gst_element_class_add_static_pad_template(element_class, &sink_template);
  gst_element_class_set_static_metadata(
      element_class, "Depth Anything 3 pose writer", "Sink/File/Metadata",
      "Writes camera poses and intrinsics to a trajectory file (JSON lines, TUM, KITTI)", "gst-da3");
  element_class->change_state = change_state;
  sink_class->render = render;
  sink_class->event = event;
  sink_class->unlock = unlock;
  sink_class->unlock_stop = unlock_stop;
}

static void gst_da3_pose_sink_init(GstDa3PoseSink* self) {
  self->state = new State;
  gst_base_sink_set_sync(GST_BASE_SINK(self), FALSE);
  // Holding the last frame would only keep a buffer from its pool.
  gst_base_sink_set_last_sample_enabled(GST_BASE_SINK(self), FALSE);
}
