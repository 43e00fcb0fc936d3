// SPDX-License-Identifier: MIT
/**
 * SECTION:element-da3score
 * @title: da3score
 * @short_description: judges depth and cameras against the truth that travels with them
 *
 * Stands behind da3infer in a stream whose source knows the truth (da3testsrc): both are metas of the same
 * buffer, under the roles prediction and truth. The stream passes unchanged.
 *
 * |[
 * gst-launch-1.0 -v da3testsrc scene=street path=drive num-buffers=24 ! video/x-raw,width=320,height=240 !
 *   da3infer model=synthetic:da3-small process-res=112 views=4 ! da3score silent=false ! fakesink
 * ]|
 *
 * * Depth: AbsRel and delta1 (1.25) of each frame after scaling by the ratio of the medians, at the pixels of
 * the truth, without sky; the prediction is interpolated bilinearly. In total: mean of the frames.
 * * Rotation and direction of translation: of the relative poses within a window (views > 1), each frame with
 * up to 63 frames before it. A frame has the mean of its pairs, the total is the median of all pairs, and the
 * area under the recall curve up to 30 degrees.
 * * Field of view: relative error, mean of horizontal and vertical; in total the median.
 * * Trajectory: root mean square error in metres after alignment by a similarity, for each window of three
 * views or more, and relative to the length of the true path; in total the mean of the windows. Where the
 * whole stream is one window, it is that of the stream.
 *
 * Each frame gives an element message `da3-score`, the end of the stream one named `da3-score-summary`, with
 * the fields of #GstDa3Score:summary. #GstDa3Score:location takes the same as JSON, one line each. What has
 * no value (no pose, no window, no frame) is null in JSON and absent from messages.
 */
#include "da3score.h"

#include <gst/da3/da3.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <string>

#include "common/guard.h"
#include "elements.h"
#include "export/text_file.h"
#include "score_frame.h"
#include "score_stream.h"

GST_DEBUG_CATEGORY_STATIC(da3score_debug);
#define GST_CAT_DEFAULT da3score_debug

using da3::exporter::FileError;
using da3::exporter::TextFile;
using da3::plugin::ElementError;
using da3::plugin::FramePair;
using da3::plugin::FrameScore;
using da3::plugin::guard;
using da3::plugin::ScoreStream;
using da3::plugin::StreamScore;

namespace {

enum Property {
  prop_location = 1,
  prop_median_scaling,
  prop_post_messages,
  prop_silent,
  prop_last_message,
  prop_summary
};

struct Settings {
  std::string location;
  bool median_scaling = true, post_messages = true, silent = true;
};

struct State {
  std::mutex mutex;  // all but what follows
  Settings settings;
  ScoreStream stream;
  std::shared_ptr<TextFile> file;
  std::string last_message;
  bool failed = false;   // a write error was reported
  bool reported = true;  // the summary of all frames so far was written and posted

  // Streaming thread alone.
  bool warned_no_truth = false, warned_no_prediction = false;

  Settings get_settings() {
    const std::lock_guard lock(mutex);
    return settings;
  }
  std::shared_ptr<TextFile> get_file() {
    const std::lock_guard lock(mutex);
    return file;
  }
};

}  // namespace

struct _GstDa3Score {
  GstBaseTransform parent;
  State* state;
};

G_DEFINE_FINAL_TYPE(GstDa3Score, gst_da3_score, GST_TYPE_BASE_TRANSFORM)
GST_ELEMENT_REGISTER_DEFINE(da3score, "da3score", GST_RANK_NONE, GST_TYPE_DA3_SCORE)

namespace {

GParamSpec* last_message_spec = nullptr;

ElementError bus_error(const FileError& e) {
  using Step = FileError::Step;
  const gint code = e.disk_full()            ? GST_RESOURCE_ERROR_NO_SPACE_LEFT
                    : e.step() == Step::open ? GST_RESOURCE_ERROR_OPEN_WRITE
                                             : GST_RESOURCE_ERROR_WRITE;
  return ElementError(
      GST_RESOURCE_ERROR, code, e.what(),
      std::string("errno ") + std::to_string(e.error_number()) + ": " + g_strerror(e.error_number()));
}

// ---- what is reported
// ----------------------------------------------------------------------------------------------

void put(GstStructure* structure, const char* name, std::optional<double> value) {
  if (value && std::isfinite(*value)) gst_structure_set(structure, name, G_TYPE_DOUBLE, *value, nullptr);
}

GstStructure* frame_structure(const FrameScore& score, GstClockTime timestamp) {
  GstStructure* s = gst_structure_new("da3-score", "frame", G_TYPE_INT64, score.frame, "window", G_TYPE_INT64,
                                      score.window, "view", G_TYPE_INT, score.view, "timestamp",
                                      G_TYPE_UINT64, guint64(timestamp), nullptr);
  if (score.depth) {
    put(s, "abs_rel", score.depth->abs_rel);
    put(s, "delta1", score.depth->delta1);
    put(s, "scale", score.depth->scale);
    gst_structure_set(s, "pixels", G_TYPE_INT64, gint64(score.depth->pixels), nullptr);
  }
  put(s, "rotation_error_deg", score.rotation_deg);
  put(s, "translation_direction_error_deg", score.translation_deg);
  put(s, "fov_error", score.fov_error);
  return s;
}

GstStructure* summary_structure(const StreamScore& score) {
  const da3::score::Totals& totals = score.totals;
  GstStructure* s = gst_structure_new(
      "da3-score-summary", "frames", G_TYPE_UINT64, guint64(score.frames), "scored", G_TYPE_UINT64,
      guint64(score.scored()), "without_truth", G_TYPE_UINT64, guint64(score.no_truth), "without_prediction",
      G_TYPE_UINT64, guint64(score.no_prediction), "pairs", G_TYPE_INT64, gint64(totals.pairs),
      "trajectories", G_TYPE_INT64, gint64(totals.trajectories), nullptr);
  put(s, "abs_rel", totals.abs_rel);
  put(s, "delta1", totals.delta1);
  put(s, "rotation_error_deg", totals.rotation_deg);
  put(s, "translation_direction_error_deg", totals.translation_deg);
  put(s, "auc30", totals.auc30);
  put(s, "fov_error", totals.fov_error);
  put(s, "ate", totals.ate);
  put(s, "ate_relative", totals.ate_relative);
  return s;
}

// Throws ElementError, or da3::exporter::Cancelled while flushing.
void write_line(State& state, const std::string& line) {
  const auto file = state.get_file();
  if (!file) return;
  try {
    file->write_line(line);
  } catch (const FileError& e) {
    const std::lock_guard lock(state.mutex);
    state.failed = true;
    throw bus_error(e);
  }
}

void say(GstDa3Score* self, const Settings& settings, const std::string& text) {
  GST_DEBUG_OBJECT(self, "%s", text.c_str());
  if (settings.silent) return;
  {
    const std::lock_guard lock(self->state->mutex);
    self->state->last_message = text;
  }
  g_object_notify_by_pspec(G_OBJECT(self), last_message_spec);
}

// Once for all frames since the last time; `only_new`: not if there were none.
void report_summary(GstDa3Score* self, bool only_new, bool post) {
  State& state = *self->state;
  StreamScore score;
  Settings settings;
  {
    const std::lock_guard lock(state.mutex);
    if (only_new && state.reported) return;
    state.reported = true;
    state.stream.end_window();
    score = state.stream.score();
    settings = state.settings;
  }
  if (post) {
    // After the line is in the file; and also if it cannot be written.
    say(self, settings, da3::plugin::summary_text(score));
    gst_element_post_message(GST_ELEMENT(self),
                             gst_message_new_element(GST_OBJECT(self), summary_structure(score)));
  }
  write_line(state, da3::plugin::summary_json(score));
}

// ---- frames
// --------------------------------------------------------------------------------------------------------

void warn_if_missing(GstDa3Score* self, const FramePair& pair) {
  State& state = *self->state;
  if (!pair.has_truth && !std::exchange(state.warned_no_truth, true)) {
    da3::plugin::post_warning(
        GST_ELEMENT(self), GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
        "Frames come without truth and are not scored. The source has to know it: da3testsrc does; elements "
        "that crop or turn the picture between it and da3score take it away.",
        "no view meta of role truth with depth, intrinsics or pose on the buffer");
  } else if (pair.has_truth && !pair.has_prediction && !pair.stale &&
             !std::exchange(state.warned_no_prediction, true)) {
    da3::plugin::post_warning(GST_ELEMENT(self), GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
                              "Frames come without a prediction and are not scored. Put da3infer between the "
                              "source of the truth and da3score.",
                              "no view meta of role prediction with depth, intrinsics or pose on the buffer");
  }
}

std::optional<double> stream_seconds(const GstSegment& segment, GstBuffer* buffer) {
  if (!GST_BUFFER_PTS_IS_VALID(buffer) || segment.format != GST_FORMAT_TIME) return std::nullopt;
  guint64 time = 0;
  const gint sign = gst_segment_to_stream_time_full(&segment, GST_FORMAT_TIME, GST_BUFFER_PTS(buffer), &time);
  if (sign == 0) return std::nullopt;
  return sign * double(time) / double(GST_SECOND);
}

GstFlowReturn score_frame(GstDa3Score* self, GstBuffer* buffer) {
  State& state = *self->state;
  const Settings settings = state.get_settings();
  const FramePair pair = da3::plugin::compare_frame(buffer, settings.median_scaling);
  std::optional<FrameScore> score;
  {
    const std::lock_guard lock(state.mutex);
    state.reported = false;
    score = state.stream.take(pair);
  }
  warn_if_missing(self, pair);
  if (!score) return GST_FLOW_OK;
  say(self, settings, da3::plugin::frame_text(*score));
  if (settings.post_messages) {
    gst_element_post_message(
        GST_ELEMENT(self),
        gst_message_new_element(GST_OBJECT(self), frame_structure(*score, GST_BUFFER_PTS(buffer))));
  }
  const auto seconds = stream_seconds(GST_BASE_TRANSFORM(self)->segment, buffer);
  write_line(state, da3::plugin::frame_json(*score, seconds));
  return GST_FLOW_OK;
}

GstFlowReturn transform_ip(GstBaseTransform* base, GstBuffer* buffer) {
  return guard(base, GST_FLOW_ERROR, [&] {
    try {
      return score_frame(GST_DA3_SCORE(base), buffer);
    } catch (const da3::exporter::Cancelled&) {
      return GST_FLOW_FLUSHING;
    }
  });
}

gboolean sink_event(GstBaseTransform* base, GstEvent* event) {
  auto* self = GST_DA3_SCORE(base);
  guard(self, FALSE, [&]() -> gboolean {
    State& state = *self->state;
    switch (GST_EVENT_TYPE(event)) {
      case GST_EVENT_FLUSH_START:
        // Wakes a write that waits for the reader of a FIFO.
        if (const auto file = state.get_file()) file->cancel();
        break;
      case GST_EVENT_FLUSH_STOP:
        if (const auto file = state.get_file()) file->uncancel();
        [[fallthrough]];
      case GST_EVENT_SEGMENT: {
        // What follows may be another place and another time, and is another window.
        const std::lock_guard lock(state.mutex);
        state.stream.end_window();
        break;
      }
      case GST_EVENT_EOS:
        try {
          report_summary(self, false, true);
        } catch (const da3::exporter::Cancelled&) {
        }
        break;
      default:
        break;
    }
    return TRUE;
  });
  return GST_BASE_TRANSFORM_CLASS(gst_da3_score_parent_class)->sink_event(base, event);
}

// ---- states
// --------------------------------------------------------------------------------------------------------

void open(State& state) {
  const std::string location = state.get_settings().location;
  std::shared_ptr<TextFile> file;
  try {
    if (!location.empty()) file = std::make_shared<TextFile>(location);
  } catch (const FileError& e) {
    throw bus_error(e);
  }
  state.warned_no_truth = state.warned_no_prediction = false;
  const std::lock_guard lock(state.mutex);
  state.stream = ScoreStream();
  state.file = std::move(file);
  state.failed = false;
  state.reported = true;
  state.last_message.clear();
}

// A stream that was stopped before its end has a summary, too.
void close(GstDa3Score* self) {
  State& state = *self->state;
  const auto file = state.get_file();
  if (!file) return;
  bool failed;
  std::string location;
  {
    const std::lock_guard lock(state.mutex);
    failed = state.failed;
    location = state.settings.location;
    if (failed) state.file.reset();
  }
  if (failed) return;
  // A FIFO may have no reader any more, and nobody should have to wait for one now.
  if (da3::exporter::is_ordinary_path(location)) {
    file->uncancel();
    report_summary(self, true, false);
  }
  {
    const std::lock_guard lock(state.mutex);
    state.file.reset();
  }
  try {
    file->close();
  } catch (const FileError& e) {
    throw bus_error(e);
  }
}

gboolean start(GstBaseTransform* base) {
  return guard(base, FALSE, [&]() -> gboolean {
    open(*GST_DA3_SCORE(base)->state);
    return TRUE;
  });
}

gboolean stop(GstBaseTransform* base) {
  return guard(base, FALSE, [&]() -> gboolean {
    close(GST_DA3_SCORE(base));
    return TRUE;
  });
}

GstStateChangeReturn change_state(GstElement* element, GstStateChange transition) {
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY) {
    guard(element, FALSE, [&]() -> gboolean {
      if (const auto file = GST_DA3_SCORE(element)->state->get_file()) file->cancel();
      return TRUE;
    });
  }
  return GST_ELEMENT_CLASS(gst_da3_score_parent_class)->change_state(element, transition);
}

// ---- object
// --------------------------------------------------------------------------------------------------------

void set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  State& state = *GST_DA3_SCORE(object)->state;
  bool refused = false;
  {
    const std::lock_guard lock(state.mutex);
    if (id == prop_location) {
      const char* text = g_value_get_string(value);
      refused = state.file != nullptr;
      if (!refused) state.settings.location = text ? text : "";
    } else if (id == prop_median_scaling) {
      state.settings.median_scaling = g_value_get_boolean(value);
    } else if (id == prop_post_messages) {
      state.settings.post_messages = g_value_get_boolean(value);
    } else if (id == prop_silent) {
      state.settings.silent = g_value_get_boolean(value);
    } else {
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
    }
  }
  if (refused) {
    da3::plugin::post_warning(GST_ELEMENT(object), GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS,
                              "The property \"location\" cannot be changed while the file is open; set the "
                              "element to READY first.");
  }
}

void get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  State& state = *GST_DA3_SCORE(object)->state;
  const std::lock_guard lock(state.mutex);
  const auto text = [](const std::string& s) { return s.empty() ? nullptr : s.c_str(); };
  switch (id) {
    case prop_location:
      g_value_set_string(value, text(state.settings.location));
      break;
    case prop_median_scaling:
      g_value_set_boolean(value, state.settings.median_scaling);
      break;
    case prop_post_messages:
      g_value_set_boolean(value, state.settings.post_messages);
      break;
    case prop_silent:
      g_value_set_boolean(value, state.settings.silent);
      break;
    case prop_last_message:
      g_value_set_string(value, text(state.last_message));
      break;
    case prop_summary:
      g_value_take_boxed(value, summary_structure(state.stream.score()));
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
  }
}

void finalize(GObject* object) {
  delete GST_DA3_SCORE(object)->state;
  G_OBJECT_CLASS(gst_da3_score_parent_class)->finalize(object);
}

void install_properties(GObjectClass* object) {
  const auto any_time = GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING);
  const auto read_only = GParamFlags(G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);
  const auto flag = [&](guint id, const char* name, const char* nick, const char* text) {
    g_object_class_install_property(object, id, g_param_spec_boolean(name, nick, text, TRUE, any_time));
  };
  g_object_class_install_property(
      object, prop_location,
      g_param_spec_string(
          "location", "Location",
          "File for the scores: one JSON object a frame, and one with \"type\":\"summary\" at the end; "
          "/dev/stdout writes to standard output. Unset: no file",
          nullptr, GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY)));
  flag(prop_median_scaling, "median-scaling", "Median scaling",
       "Scale depth by the ratio of the medians of each frame before it is compared; false compares metres");
  flag(prop_post_messages, "post-messages", "Post messages",
       "Post an element message da3-score for each frame (da3-score-summary at the end of the stream is "
       "posted always)");
  flag(prop_silent, "silent", "Silent",
       "Do not put the scores into last-message, which gst-launch-1.0 -v shows");
  last_message_spec = g_param_spec_string("last-message", "Last message",
                                          "The last score in words, with silent=false", nullptr, read_only);
  g_object_class_install_property(object, prop_last_message, last_message_spec);
  g_object_class_install_property(
      object, prop_summary,
      g_param_spec_boxed(
          "summary", "Summary",
          "All frames since PAUSED: frames, scored, without_truth, without_prediction, abs_rel, delta1 "
          "(means "
          "of frames), pairs, rotation_error_deg, translation_direction_error_deg (medians of pairs), auc30, "
          "fov_error (median), trajectories, ate [m], ate_relative (means); absent: has no value",
          GST_TYPE_STRUCTURE, read_only));
}

}  // namespace

static void gst_da3_score_class_init(GstDa3ScoreClass* klass) {
  GST_DEBUG_CATEGORY_INIT(da3score_debug, "da3score", 0, "scores against truth");
  auto* object = G_OBJECT_CLASS(klass);
  auto* element = GST_ELEMENT_CLASS(klass);
  auto* base = GST_BASE_TRANSFORM_CLASS(klass);
  object->set_property = set_property;
  object->get_property = get_property;
  object->finalize = finalize;
  install_properties(object);

  // Any caps: only the metas of the buffers are read.
  static GstStaticPadTemplate sink_template =
      GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);
  static GstStaticPadTemplate src_template =
      GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);
  gst_element_class_add_static_pad_template(element, &sink_template);
  gst_element_class_add_static_pad_template(element, &src_template);
  gst_element_class_set_static_metadata(
      element, "Depth Anything 3 scores", "Filter/Analyzer/Video",
      "Judges predicted depth and cameras against the truth on the same buffers", "gst-da3");
  element->change_state = GST_DEBUG_FUNCPTR(change_state);
  base->start = GST_DEBUG_FUNCPTR(start);
  base->stop = GST_DEBUG_FUNCPTR(stop);
  base->sink_event = GST_DEBUG_FUNCPTR(sink_event);
  base->transform_ip = GST_DEBUG_FUNCPTR(transform_ip);
  base->passthrough_on_same_caps = TRUE;
}

static void gst_da3_score_init(GstDa3Score* self) {
  self->state = new State;
  auto* base = GST_BASE_TRANSFORM(self);
  gst_base_transform_set_in_place(base, TRUE);
  gst_base_transform_set_passthrough(base, TRUE);
  // Frames without content may have truth, and none is left out because it is late.
  gst_base_transform_set_gap_aware(base, TRUE);
}
