// SPDX-License-Identifier: MIT
#include "da3infer.h"

#include <gst/video/video.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/enums.h"
#include "common/guard.h"
#include "elements.h"
#include "engine/api/engine_error.h"
#include "engine/api/engine_module.h"
#include "infer_stream.h"

/**
 * SECTION:element-da3infer
 * @title: da3infer
 * @short_description: depth and camera pose of every frame by Depth Anything 3
 *
 * The frame goes through as it came, whatever its format and size; what the model says about it is attached
 * as metas of libgstda3-1.0: depth, confidence and sky as float32 tensors at process size, and a view meta
 * with pose, intrinsics in pixels of the frame, statistics and timings. da3depthviz, da3extract and
 * da3posesink turn them into pictures, measurements and trajectories.
 *
 * With `views` above 1 so many successive frames are inferred together: they attend to each other and share
 * one world frame. Frames that an engine puts through the network together for speed (`max-batch`) never
 * influence each other.
 *
 * ## Example
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=30 ! da3infer model=synthetic:da3-small process-res=140 !
 * da3depthviz ! \ videoconvert ! autovideosink
 * ]|
 * Depth of a test pattern by an untrained network; with weights: model=depth-anything/DA3-SMALL.
 */

GST_DEBUG_CATEGORY(gst_da3_infer_debug);
#define GST_CAT_DEFAULT gst_da3_infer_debug

namespace {

using da3::Engine;
using da3::EngineError;
using da3::EngineModule;
using da3::plugin::guard;
using da3::plugin::InferSettings;
using da3::plugin::InferStream;

enum Property {
  PROP_0,
  PROP_MODEL,
  PROP_DEVICE,
  PROP_PRECISION,
  PROP_PROCESS_RES,
  PROP_PROCESS_RES_METHOD,
  PROP_VIEWS,
  PROP_REF_VIEW_STRATEGY,
  PROP_USE_RAY_POSE,
  PROP_MAX_BATCH,
  PROP_ACTIVE_DEVICE,
  PROP_ACTIVE_PRECISION,
  PROP_STATS
};

constexpr guint kMaxViews = 1024;
constexpr guint kMaxBatch = 1024;
constexpr int kMinProcessRes = 14;
constexpr int kMaxProcessRes = 8190;

// What the engine is opened with.
struct ModelSettings {
  std::string model;
  std::string device = "auto";
  Da3Precision precision = DA3_PRECISION_AUTO;
  guint max_batch = 0;
  bool operator==(const ModelSettings&) const = default;
};

struct State {
  // Under the object lock.
  ModelSettings wanted;
  InferSettings infer;
  std::string active_device, active_precision;

  // State changes only.
  ModelSettings opened;
  std::unique_ptr<Engine> engine;
  std::set<std::string> notices_posted;

  std::unique_ptr<InferStream> stream;  // before the engine: needs none to go
};

}  // namespace

struct _GstDa3Infer {
  GstElement parent;
  GstPad* sink_pad;
  GstPad* source_pad;
  State* state;
};

G_DEFINE_TYPE(GstDa3Infer, gst_da3_infer, GST_TYPE_ELEMENT)
GST_ELEMENT_REGISTER_DEFINE(da3infer, "da3infer", GST_RANK_NONE, GST_TYPE_DA3_INFER)

namespace {

// Everything is taken; given the choice, what costs the least to convert comes first.
#define DA3_INFER_CAPS \
  GST_VIDEO_CAPS_MAKE("{ RGB, I420, NV12 }") ";" GST_VIDEO_CAPS_MAKE(GST_VIDEO_FORMATS_ALL)

GstStaticPadTemplate sink_template =
    GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS(DA3_INFER_CAPS));
GstStaticPadTemplate source_template =
    GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS(DA3_INFER_CAPS));

class ObjectLock {
 public:
  explicit ObjectLock(gpointer object) : object_(GST_OBJECT_CAST(object)) { GST_OBJECT_LOCK(object_); }
  ~ObjectLock() { GST_OBJECT_UNLOCK(object_); }
  ObjectLock(const ObjectLock&) = delete;
  ObjectLock& operator=(const ObjectLock&) = delete;

 private:
  GstObject* object_;
};

const char* enum_nick(GType type, gint value) {
  auto* klass = static_cast<GEnumClass*>(g_type_class_ref(type));
  const GEnumValue* found = g_enum_get_value(klass, value);
  const char* nick = found ? found->value_nick : "";
  g_type_class_unref(klass);  // static types stay
  return nick;
}

// ---- the model
// ----------------------------------------------------------------------------------------------------

void collect_notice(void* user, const char* text) {
  try {
    static_cast<std::vector<std::string>*>(user)->emplace_back(text ? text : "");
  } catch (...) {
  }
}

void check_settings(const ModelSettings& wanted) {
  if (!wanted.model.empty()) return;
  throw EngineError(
      DA3_ERROR_SETTINGS,
      "No model is set. Set the property model to a .safetensors file, a folder, the id of official weights "
      "(depth-anything/DA3-SMALL, DA3-BASE, DA3-LARGE, DA3-GIANT, DA3MONO-LARGE, DA3METRIC-LARGE, "
      "DA3NESTED-GIANT-LARGE), or, to try without weights, model=synthetic:da3-small.");
}

void close_engine(GstDa3Infer* self) {
  State& state = *self->state;
  state.stream->set_engine(nullptr);
  state.engine.reset();
  const ObjectLock lock(self);
  state.active_device.clear();
  state.active_precision.clear();
}

void check_ray_pose(const Da3ModelInfo& info, bool use_ray_pose) {
  if (!use_ray_pose || (info.outputs & DA3_OUTPUT_RAY)) return;
  throw EngineError(
      DA3_ERROR_UNSUPPORTED,
      std::string("use-ray-pose=true needs a ray map, which model ") + info.name +
          " does not compute; set use-ray-pose=false or take an any-view model (da3-small to da3-giant).");
}

// Opens the model unless the one at hand is what the properties say.
void ensure_engine(GstDa3Infer* self) {
  State& state = *self->state;
  ModelSettings wanted;
  bool use_ray_pose;
  {
    const ObjectLock lock(self);
    wanted = state.wanted;
    use_ray_pose = state.infer.use_ray_pose;
  }
  check_settings(wanted);
  if (!state.engine || state.opened != wanted) {
    close_engine(self);
    std::vector<std::string> notices;
    Da3EngineConfig config{};
    config.struct_size = sizeof(config);
    config.model = wanted.model.c_str();
    config.device = wanted.device.empty() ? "auto" : wanted.device.c_str();
    config.precision = wanted.precision;
    config.max_batch = wanted.max_batch;
    config.notice = collect_notice;
    config.user = &notices;
    state.engine = EngineModule::instance().open(config);
    state.opened = wanted;
    for (const std::string& notice : notices) {
      if (!state.notices_posted.insert(notice).second) continue;
      da3::plugin::post_warning(GST_ELEMENT_CAST(self), GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_SETTINGS,
                                notice);
    }
  }
  const Da3ModelInfo& info = state.engine->info();
  check_ray_pose(info, use_ray_pose);
  GST_INFO_OBJECT(self, "model %s (%s) on %s, batches up to %u", info.name, info.source, info.device,
                  info.max_batch);
  state.stream->set_engine(state.engine.get());
  const ObjectLock lock(self);
  state.active_device = info.device;
  state.active_precision = enum_nick(GST_TYPE_DA3_PRECISION, info.precision);
}

void prepare_to_open(GstDa3Infer* self) {
  try {
    ensure_engine(self);
  } catch (...) {
    close_engine(self);
    throw;
  }
}

// ---- vfuncs of the element
// ----------------------------------------------------------------------------------------

GstStateChangeReturn change_state(GstElement* element, GstStateChange transition) {
  auto* self = GST_DA3_INFER(element);
  const auto failure = GST_STATE_CHANGE_FAILURE;
  const bool up =
      transition == GST_STATE_CHANGE_NULL_TO_READY || transition == GST_STATE_CHANGE_READY_TO_PAUSED;
  if (up) {
    const bool ready = guard(self, false, [&] {
      prepare_to_open(self);
      if (transition == GST_STATE_CHANGE_READY_TO_PAUSED) self->state->stream->restart();
      return true;
    });
    if (!ready) return failure;
  }
  const auto result = GST_ELEMENT_CLASS(gst_da3_infer_parent_class)->change_state(element, transition);
  return guard(self, failure, [&] {
    if (transition == GST_STATE_CHANGE_PAUSED_TO_READY) self->state->stream->clear();
    if (transition == GST_STATE_CHANGE_READY_TO_NULL) close_engine(self);
    return result;
  });
}

void set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  State& state = *GST_DA3_INFER(object)->state;
  const auto text = [value] {
    const gchar* set = g_value_get_string(value);
    return std::string(set ? set : "");
  };
  const ObjectLock lock(object);
  switch (id) {
    case PROP_MODEL:
      state.wanted.model = text();
      break;
    case PROP_DEVICE:
      state.wanted.device = text();
      break;
    case PROP_PRECISION:
      state.wanted.precision = Da3Precision(g_value_get_enum(value));
      break;
    case PROP_MAX_BATCH:
      state.wanted.max_batch = g_value_get_uint(value);
      break;
    case PROP_PROCESS_RES:
      state.infer.process_res = g_value_get_int(value);
      break;
    case PROP_PROCESS_RES_METHOD:
      state.infer.process_res_method = da3::image::ProcessResMethod(g_value_get_enum(value));
      break;
    case PROP_VIEWS:
      state.infer.views = g_value_get_uint(value);
      break;
    case PROP_REF_VIEW_STRATEGY:
      state.infer.ref_view_strategy = Da3RefViewStrategy(g_value_get_enum(value));
      break;
    case PROP_USE_RAY_POSE:
      state.infer.use_ray_pose = g_value_get_boolean(value);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
  }
}

GstStructure* stats_structure(const InferStream& stream) {
  const InferStream::Statistics s = stream.statistics();
  return gst_structure_new("da3infer-stats", "frames-in", G_TYPE_UINT64, s.frames_in, "frames-out",
                           G_TYPE_UINT64, s.frames_out, "frames-dropped", G_TYPE_UINT64, s.frames_dropped,
                           "groups", G_TYPE_UINT64, s.groups, "queue-level", G_TYPE_UINT, s.queued,
                           "last-batch", G_TYPE_UINT64, s.last_batch, "last-inference-ns", G_TYPE_INT64,
                           s.last_inference_ns, "last-queued-ns", G_TYPE_INT64, s.last_queued_ns, nullptr);
}

void get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  State& state = *GST_DA3_INFER(object)->state;
  if (id == PROP_STATS) {
    g_value_take_boxed(value, stats_structure(*state.stream));
    return;
  }
  const ObjectLock lock(object);
  switch (id) {
    case PROP_MODEL:
      g_value_set_string(value, state.wanted.model.empty() ? nullptr : state.wanted.model.c_str());
      break;
    case PROP_DEVICE:
      g_value_set_string(value, state.wanted.device.c_str());
      break;
    case PROP_PRECISION:
      g_value_set_enum(value, state.wanted.precision);
      break;
    case PROP_MAX_BATCH:
      g_value_set_uint(value, state.wanted.max_batch);
      break;
    case PROP_PROCESS_RES:
      g_value_set_int(value, state.infer.process_res);
      break;
    case PROP_PROCESS_RES_METHOD:
      g_value_set_enum(value, gint(state.infer.process_res_method));
      break;
    case PROP_VIEWS:
      g_value_set_uint(value, state.infer.views);
      break;
    case PROP_REF_VIEW_STRATEGY:
      g_value_set_enum(value, state.infer.ref_view_strategy);
      break;
    case PROP_USE_RAY_POSE:
      g_value_set_boolean(value, state.infer.use_ray_pose);
      break;
    case PROP_ACTIVE_DEVICE:
      g_value_set_string(value, state.active_device.empty() ? nullptr : state.active_device.c_str());
      break;
    case PROP_ACTIVE_PRECISION:
      g_value_set_string(value, state.active_precision.empty() ? nullptr : state.active_precision.c_str());
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
  }
}

void finalize(GObject* object) {
  auto* self = GST_DA3_INFER(object);
  guard(self, 0, [&] {
    self->state->engine.reset();
    delete self->state;
    return 0;
  });
  G_OBJECT_CLASS(gst_da3_infer_parent_class)->finalize(object);
}

// ---- pad functions
// ------------------------------------------------------------------------------------------------

InferStream& stream_of(GstObject* parent) {
  return *GST_DA3_INFER(parent)->state->stream;
}

GstFlowReturn sink_chain(GstPad*, GstObject* parent, GstBuffer* buffer) {
  return guard(parent, GST_FLOW_ERROR, [&] { return stream_of(parent).chain(buffer); });
}

gboolean sink_event(GstPad*, GstObject* parent, GstEvent* event) {
  return guard(parent, FALSE, [&] { return stream_of(parent).sink_event(event); });
}

gboolean sink_query(GstPad* pad, GstObject* parent, GstQuery* query) {
  if (unsigned(GST_QUERY_TYPE(query)) & unsigned(GST_QUERY_TYPE_SERIALIZED)) {
    return guard(parent, FALSE, [&] { return stream_of(parent).serialised_query(query); });
  }
  return gst_pad_query_default(pad, parent, query);
}

gboolean sink_activate_mode(GstPad* pad, GstObject* parent, GstPadMode mode, gboolean active) {
  if (mode != GST_PAD_MODE_PUSH) return FALSE;
  return guard(parent, FALSE, [&] {
    stream_of(parent).activate_sink(pad, active);
    return TRUE;
  });
}

gboolean source_activate_mode(GstPad*, GstObject* parent, GstPadMode mode, gboolean active) {
  if (mode != GST_PAD_MODE_PUSH) return FALSE;
  return guard(parent, FALSE, [&] { return stream_of(parent).activate_source(active); });
}

gboolean source_event(GstPad* pad, GstObject* parent, GstEvent* event) {
  if (GST_EVENT_TYPE(event) == GST_EVENT_RECONFIGURE) {
    guard(parent, 0, [&] {
      stream_of(parent).relinked();
      return 0;
    });
  }
  return gst_pad_event_default(pad, parent, event);
}

GstClockTime frame_duration(GstPad* pad) {
  GstCaps* caps = gst_pad_get_current_caps(pad);
  if (!caps) return 0;
  GstVideoInfo info;
  const bool known = gst_video_info_from_caps(&info, caps) && GST_VIDEO_INFO_FPS_N(&info) > 0;
  gst_caps_unref(caps);
  return known
             ? gst_util_uint64_scale_int(GST_SECOND, GST_VIDEO_INFO_FPS_D(&info), GST_VIDEO_INFO_FPS_N(&info))
             : 0;
}

gboolean answer_latency(GstDa3Infer* self, GstQuery* query) {
  if (!gst_pad_peer_query(self->sink_pad, query)) return FALSE;
  gboolean live;
  GstClockTime min, max;
  gst_query_parse_latency(query, &live, &min, &max);
  const GstClockTime duration = frame_duration(self->sink_pad);
  const InferStream& stream = *self->state->stream;
  const GstClockTime added = stream.latency(duration);
  min += added;
  // The list holds back so much before upstream has to wait; unknown without a frame rate.
  if (GST_CLOCK_TIME_IS_VALID(max)) {
    max = duration ? max + std::max(added, stream.capacity() * duration) : GST_CLOCK_TIME_NONE;
  }
  gst_query_set_latency(query, live, min, max);
  return TRUE;
}

gboolean source_query(GstPad* pad, GstObject* parent, GstQuery* query) {
  if (GST_QUERY_TYPE(query) == GST_QUERY_LATENCY) {
    return guard(parent, FALSE, [&] { return answer_latency(GST_DA3_INFER(parent), query); });
  }
  return gst_pad_query_default(pad, parent, query);
}

// ---- the class
// ----------------------------------------------------------------------------------------------------

void install_model_properties(GObjectClass* klass) {
  const auto ready = GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  g_object_class_install_property(
      klass, PROP_MODEL,
      g_param_spec_string(
          "model", "Model",
          "A .safetensors file, a folder with config.json, the id of a Hugging Face repository in the "
          "local cache (depth-anything/DA3-SMALL), or synthetic:NAME (untrained: synthetic:da3-small)",
          nullptr, ready));
  g_object_class_install_property(
      klass, PROP_DEVICE,
      g_param_spec_string(
          "device", "Device",
          "auto (the best there is), cpu, cuda, cuda:N or mps; a device that is not there is an error",
          "auto", ready));
  g_object_class_install_property(klass, PROP_PRECISION,
                                  g_param_spec_enum("precision", "Precision", "Number format of the network",
                                                    GST_TYPE_DA3_PRECISION, DA3_PRECISION_AUTO, ready));
  g_object_class_install_property(
      klass, PROP_MAX_BATCH,
      g_param_spec_uint(
          "max-batch", "Largest batch",
          "Most independent frames (or groups of views) put through the network together for speed; "
          "changes no result beyond rounding. 0 = chosen for the device",
          0, kMaxBatch, 0, ready));
}

void install_infer_properties(GObjectClass* klass) {
  const auto playing = GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING);
  const InferSettings defaults;
  g_object_class_install_property(
      klass, PROP_PROCESS_RES,
      g_param_spec_int(
          "process-res", "Process resolution",
          "Side length in pixels that process-res-method aims at; sides become multiples of 14. Frames "
          "from da3preprocess keep their size",
          kMinProcessRes, kMaxProcessRes, defaults.process_res, playing));
  g_object_class_install_property(
      klass, PROP_PROCESS_RES_METHOD,
      g_param_spec_enum("process-res-method", "Process resolution method",
                        "How a frame gets the process size", GST_TYPE_DA3_PROCESS_RES_METHOD,
                        gint(defaults.process_res_method), playing));
  g_object_class_install_property(
      klass, PROP_VIEWS,
      g_param_spec_uint(
          "views", "Views",
          "Successive frames that attend to each other and share one world frame; changes results. 1 = "
          "every frame on its own. The end of the stream, new caps or a new segment close a smaller group",
          1, kMaxViews, defaults.views, playing));
  g_object_class_install_property(
      klass, PROP_REF_VIEW_STRATEGY,
      g_param_spec_enum("ref-view-strategy", "Reference view strategy",
                        "Which view of a group is the reference (with 3 views or more)",
                        GST_TYPE_DA3_REF_VIEW_STRATEGY, defaults.ref_view_strategy, playing));
  g_object_class_install_property(
      klass, PROP_USE_RAY_POSE,
      g_param_spec_boolean(
          "use-ray-pose", "Use ray pose",
          "Cameras from the ray map instead of the camera decoder: slower; attaches the ray map, too",
          defaults.use_ray_pose, playing));
}

void install_readings(GObjectClass* klass) {
  const auto reading = GParamFlags(G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);
  g_object_class_install_property(
      klass, PROP_ACTIVE_DEVICE,
      g_param_spec_string("active-device", "Active device", "Device in use, e.g. cuda:0 (from READY on)",
                          nullptr, reading));
  g_object_class_install_property(
      klass, PROP_ACTIVE_PRECISION,
      g_param_spec_string("active-precision", "Active precision",
                          "Precision in use, e.g. fp32 (from READY on)", nullptr, reading));
  g_object_class_install_property(
      klass, PROP_STATS,
      g_param_spec_boxed(
          "stats", "Statistics",
          "frames-in, frames-out, frames-dropped, groups (requests to the engine), queue-level [frames], "
          "last-batch [requests], last-inference-ns, last-queued-ns",
          GST_TYPE_STRUCTURE, reading));
}

}  // namespace

static void gst_da3_infer_class_init(GstDa3InferClass* klass) {
  GST_DEBUG_CATEGORY_INIT(gst_da3_infer_debug, "da3infer", 0, "Depth Anything 3 inference");
  auto* object_class = G_OBJECT_CLASS(klass);
  object_class->set_property = set_property;
  object_class->get_property = get_property;
  object_class->finalize = finalize;
  install_model_properties(object_class);
  install_infer_properties(object_class);
  install_readings(object_class);

  auto* element_class = GST_ELEMENT_CLASS(klass);
  element_class->change_state = change_state;
  gst_element_class_add_static_pad_template(element_class, &sink_template);
  gst_element_class_add_static_pad_template(element_class, &source_template);
  gst_element_class_set_static_metadata(element_class, "Depth Anything 3 inference", "Filter/Analyzer/Video",
                                        "Attaches depth, confidence, sky and camera pose to video frames",
                                        "gst-da3");
}

static void gst_da3_infer_init(GstDa3Infer* self) {
  self->sink_pad = gst_pad_new_from_static_template(&sink_template, "sink");
  gst_pad_set_chain_function(self->sink_pad, GST_DEBUG_FUNCPTR(sink_chain));
  gst_pad_set_event_function(self->sink_pad, GST_DEBUG_FUNCPTR(sink_event));
  gst_pad_set_query_function(self->sink_pad, GST_DEBUG_FUNCPTR(sink_query));
  gst_pad_set_activatemode_function(self->sink_pad, GST_DEBUG_FUNCPTR(sink_activate_mode));
  GST_PAD_SET_PROXY_CAPS(self->sink_pad);
  gst_element_add_pad(GST_ELEMENT_CAST(self), self->sink_pad);

  self->source_pad = gst_pad_new_from_static_template(&source_template, "src");
  gst_pad_set_event_function(self->source_pad, GST_DEBUG_FUNCPTR(source_event));
  gst_pad_set_query_function(self->source_pad, GST_DEBUG_FUNCPTR(source_query));
  gst_pad_set_activatemode_function(self->source_pad, GST_DEBUG_FUNCPTR(source_activate_mode));
  GST_PAD_SET_PROXY_CAPS(self->source_pad);
  gst_element_add_pad(GST_ELEMENT_CAST(self), self->source_pad);

  self->state = new State;
  self->state->stream = std::make_unique<InferStream>(GST_ELEMENT_CAST(self), self->source_pad, [self] {
    const ObjectLock lock(self);
    return self->state->infer;
  });
}
