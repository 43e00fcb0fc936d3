// SPDX-License-Identifier: MIT
#include "da3infer.h"

#include <gst/video/video.h>

#include <memory>
#include <mutex>
#include <string>

#include "common/enums.h"
#include "common/guard.h"
#include "elements.h"
#include "engine/api/engine_error.h"
#include "engine/api/engine_module.h"
#include "infer_model.h"
#include "infer_properties.h"
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
 * Behind a live source frames never become old: when there are more than the network can do, the newest wins
 * and the others become gaps (`drop-policy`, `on-drop`, `max-latency`). Behind a file every frame is
 * inferred. `model` can be changed while playing.
 *
 * With `views` above 1 so many successive frames are inferred together: they attend to each other and share
 * one world frame. Frames that an engine puts through the network together for speed (`max-batch`) never
 * influence each other.
 *
 * ## Example
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=30 ! da3infer model=synthetic:da3-small process-res=140 ! \
 *   da3depthviz ! videoconvert ! autovideosink
 * ]|
 * Depth of a test pattern by an untrained network; with weights: model=depth-anything/DA3-SMALL.
 */

GST_DEBUG_CATEGORY(gst_da3_infer_debug);
#define GST_CAT_DEFAULT gst_da3_infer_debug

namespace {

using da3::Engine;
using da3::EngineError;
using da3::plugin::guard;
using da3::plugin::InferProperties;
using da3::plugin::InferStream;
using da3::plugin::ModelLoader;
using da3::plugin::ModelSettings;

struct State {
  std::mutex mutex;
  // Under the mutex.
  InferProperties properties;
  ModelSettings opened;
  std::shared_ptr<Engine> engine;
  bool streaming = false;  // PAUSED or PLAYING: another model is loaded in the background

  // Held from writing `model` until it is requested: the model that is loaded last is the one written last.
  std::mutex wish_mutex;  // before the other one

  std::unique_ptr<InferStream> stream;
  std::unique_ptr<ModelLoader> loader;  // its thread knows the stream
  da3::plugin::EngineCloser closer;     // goes first: engines know both until they are closed
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

const char* enum_nick(GType type, gint value) {
  auto* klass = static_cast<GEnumClass*>(g_type_class_ref(type));
  const GEnumValue* found = g_enum_get_value(klass, value);
  const char* nick = found ? found->value_nick : "";
  g_type_class_unref(klass);  // static types stay
  return nick;
}

// ---- the model
// ----------------------------------------------------------------------------------------------------

void check_ray_pose(const Da3ModelInfo& info, bool use_ray_pose) {
  if (!use_ray_pose || (info.outputs & DA3_OUTPUT_RAY)) return;
  throw EngineError(
      DA3_ERROR_UNSUPPORTED,
      std::string("use-ray-pose=true needs a ray map, which model ") + info.name +
          " does not compute; set use-ray-pose=false or take an any-view model (da3-small to da3-giant).");
}

void check_engine(GstDa3Infer* self, Engine& engine) {
  bool use_ray_pose;
  {
    const std::lock_guard lock(self->state->mutex);
    use_ray_pose = self->state->properties.stream.infer.use_ray_pose;
  }
  check_ray_pose(engine.info(), use_ray_pose);
}

void close_engine(GstDa3Infer* self) {
  State& state = *self->state;
  state.stream->set_engine(nullptr);
  std::shared_ptr<Engine> engine;  // closed without the lock
  {
    const std::lock_guard lock(state.mutex);
    engine.swap(state.engine);
    state.properties.active_model.clear();
    state.properties.active_device.clear();
    state.properties.active_precision.clear();
    state.properties.active_attention.clear();
  }
  // With a pass that runs: no state change waits for that.
  if (engine && engine.use_count() > 1) state.closer.close(std::move(engine), state.stream.get());
}

// What was chosen for this model, and why.
void post_plan(GstElement* element, const Da3ModelInfo& info) {
  GstStructure* plan = gst_structure_new(
      "da3-plan", "model", G_TYPE_STRING, info.name, "device", G_TYPE_STRING, info.device, "precision",
      G_TYPE_STRING, enum_nick(GST_TYPE_DA3_PRECISION, info.precision), "attention", G_TYPE_STRING,
      enum_nick(GST_TYPE_DA3_ATTENTION, info.attention), "performance-mode", G_TYPE_STRING,
      enum_nick(GST_TYPE_DA3_PERFORMANCE_MODE, info.performance_mode), "plan", G_TYPE_STRING,
      info.plan ? info.plan : "", nullptr);
  gst_element_post_message(element, gst_message_new_element(GST_OBJECT_CAST(element), plan));
}

// From now on frames go to this model.
void use_engine(GstDa3Infer* self, std::shared_ptr<Engine> engine, const ModelSettings& settings) {
  State& state = *self->state;
  const Da3ModelInfo& info = engine->info();
  GST_INFO_OBJECT(self, "model %s (%s) on %s, batches up to %u", info.name, info.source, info.device,
                  info.max_batch);
  state.stream->set_engine(engine);
  {
    const std::lock_guard lock(state.mutex);
    state.engine.swap(engine);
    state.opened = settings;
    state.properties.active_model = info.name;
    state.properties.active_device = info.device;
    state.properties.active_precision = enum_nick(GST_TYPE_DA3_PRECISION, info.precision);
    state.properties.active_attention = enum_nick(GST_TYPE_DA3_ATTENTION, info.attention);
  }
  post_plan(GST_ELEMENT_CAST(self), info);
  engine.reset();               // the stream keeps the old one as long as frames need it
  state.stream->take_unused();  // closed here
  for (const char* property : {"active-model", "active-device", "active-precision", "active-attention"})
    g_object_notify(G_OBJECT(self), property);
}

// Opens the model unless the one at hand is what the properties say.
void ensure_engine(GstDa3Infer* self) {
  State& state = *self->state;
  ModelSettings wanted, opened;
  std::shared_ptr<Engine> engine;
  {
    const std::lock_guard lock(state.mutex);
    wanted = state.properties.model;
    opened = state.opened;
    engine = state.engine;
  }
  if (engine && opened == wanted) {
    check_engine(self, *engine);
    return;
  }
  engine.reset();
  close_engine(self);
  state.closer.wait();  // both at once may be more than memory holds
  engine = state.loader->load(wanted);
  check_engine(self, *engine);
  use_engine(self, std::move(engine), wanted);
}

void prepare_to_open(GstDa3Infer* self) {
  try {
    ensure_engine(self);
  } catch (...) {
    close_engine(self);
    throw;
  }
}

// A model set while playing cannot be used: the old one goes on, and the property says so.
void refuse_model(GstDa3Infer* self, const ModelSettings& refused, const std::exception_ptr& error) {
  State& state = *self->state;
  std::string kept, reason = "unknown error";
  {
    const std::lock_guard lock(state.mutex);
    kept = state.opened.model;
    if (state.properties.model.model == refused.model) state.properties.model.model = kept;
  }
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    reason = e.what();
  } catch (...) {
  }
  da3::plugin::post_warning(GST_ELEMENT_CAST(self), GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS,
                            "model=" + refused.model + " cannot be used, " + kept + " goes on: " + reason);
  g_object_notify(G_OBJECT(self), "model");
}

void begin_streaming(GstDa3Infer* self) {
  State& state = *self->state;
  state.stream->restart();
  state.loader->start();
  const std::lock_guard lock(state.mutex);
  state.streaming = true;
}

void end_streaming(GstDa3Infer* self) {
  State& state = *self->state;
  {
    const std::lock_guard lock(state.mutex);
    state.streaming = false;
  }
  state.loader->stop();
  state.stream->clear();
}

ModelLoader::Host loader_host(GstDa3Infer* self) {
  ModelLoader::Host host;
  host.check = [self](Engine& engine) { check_engine(self, engine); };
  host.shape = [self](const Da3ModelInfo& info) { return self->state->stream->live_shape(info); };
  host.adopt = [self](std::shared_ptr<Engine> engine, const ModelSettings& settings) {
    use_engine(self, std::move(engine), settings);
  };
  host.reject = [self](const ModelSettings& settings, const std::exception_ptr& error) {
    refuse_model(self, settings, error);
  };
  host.mended = [self](Da3ErrorCode code, std::string text) {
    self->state->stream->mended(code, std::move(text));
  };
  return host;
}

InferStream::Host stream_host(GstDa3Infer* self) {
  InferStream::Host host;
  host.settings = [self] {
    const std::lock_guard lock(self->state->mutex);
    return self->state->properties.stream;
  };
  host.warm_up = [self](std::shared_ptr<Engine> engine, const Da3Shape& shape) {
    if (!engine || !DA3_ENGINE_HAS(&engine->api(), warm_up)) return false;
    return self->state->loader->warm_up(std::move(engine), shape,
                                        [self] { self->state->stream->warmed_up(); });
  };
  host.close_later = [self](std::shared_ptr<Engine> engine, const void* stream) {
    self->state->closer.close(std::move(engine), stream);
  };
  return host;
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
      if (transition == GST_STATE_CHANGE_READY_TO_PAUSED) begin_streaming(self);
      return true;
    });
    if (!ready) return failure;
  }
  const auto result = GST_ELEMENT_CLASS(gst_da3_infer_parent_class)->change_state(element, transition);
  return guard(self, failure, [&] {
    const bool not_started = transition == GST_STATE_CHANGE_READY_TO_PAUSED && result == failure;
    if (transition == GST_STATE_CHANGE_PAUSED_TO_READY || not_started) end_streaming(self);
    if (transition == GST_STATE_CHANGE_READY_TO_NULL) close_engine(self);
    return result;
  });
}

gboolean set_clock(GstElement* element, GstClock* clock) {
  guard(element, 0, [&] {
    GST_DA3_INFER(element)->state->stream->set_clock(clock);
    return 0;
  });
  return GST_ELEMENT_CLASS(gst_da3_infer_parent_class)->set_clock(element, clock);
}

void set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  auto* self = GST_DA3_INFER(object);
  guard(self, 0, [&] {
    State& state = *self->state;
    std::unique_lock<std::mutex> wish;
    if (id == da3::plugin::PROP_INFER_MODEL) wish = std::unique_lock(state.wish_mutex);
    ModelSettings wanted;
    {
      const std::lock_guard lock(state.mutex);
      if (!da3::plugin::set_infer_property(state.properties, id, value)) {
        G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
        return 0;
      }
      if (id != da3::plugin::PROP_INFER_MODEL || !state.streaming) return 0;
      // What can be changed in READY only waits for that.
      wanted = state.opened;
      wanted.model = state.properties.model.model;
      if (wanted == state.opened && !state.loader->loading()) return 0;
    }
    state.loader->request(wanted);
    return 0;
  });
}

void get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  auto* self = GST_DA3_INFER(object);
  guard(self, 0, [&] {
    State& state = *self->state;
    if (id == da3::plugin::PROP_INFER_STATS) {
      g_value_take_boxed(value, da3::plugin::stats_structure(state.stream->readings()));
      return 0;
    }
    const std::lock_guard lock(state.mutex);
    if (!da3::plugin::get_infer_property(state.properties, id, value)) {
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
    }
    return 0;
  });
}

void finalize(GObject* object) {
  auto* self = GST_DA3_INFER(object);
  guard(self, 0, [&] {
    self->state->stream->set_clock(nullptr);
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

gboolean sink_activate_mode(GstPad*, GstObject* parent, GstPadMode mode, gboolean active) {
  if (mode != GST_PAD_MODE_PUSH) return FALSE;
  return guard(parent, FALSE, [&] {
    stream_of(parent).activate_sink(active);
    return TRUE;
  });
}

gboolean source_activate_mode(GstPad*, GstObject* parent, GstPadMode mode, gboolean active) {
  if (mode != GST_PAD_MODE_PUSH) return FALSE;
  return guard(parent, FALSE, [&] { return stream_of(parent).activate_source(active); });
}

gboolean source_event(GstPad* pad, GstObject* parent, GstEvent* event) {
  guard(parent, 0, [&] {
    stream_of(parent).upstream_event(event);
    return 0;
  });
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
  InferStream& stream = *self->state->stream;
  const GstClockTime added = stream.latency(duration);
  min += added;
  // The list holds back so much before upstream has to wait; without a frame rate that is not known as a
  // time.
  if (GST_CLOCK_TIME_IS_VALID(max)) max += std::max(added, stream.capacity() * duration);
  gst_query_set_latency(query, live, min, max);
  return TRUE;
}

gboolean source_query(GstPad* pad, GstObject* parent, GstQuery* query) {
  if (GST_QUERY_TYPE(query) == GST_QUERY_LATENCY) {
    return guard(parent, FALSE, [&] { return answer_latency(GST_DA3_INFER(parent), query); });
  }
  return gst_pad_query_default(pad, parent, query);
}

}  // namespace

static void gst_da3_infer_class_init(GstDa3InferClass* klass) {
  GST_DEBUG_CATEGORY_INIT(gst_da3_infer_debug, "da3infer", 0, "Depth Anything 3 inference");
  auto* object_class = G_OBJECT_CLASS(klass);
  object_class->set_property = set_property;
  object_class->get_property = get_property;
  object_class->finalize = finalize;
  da3::plugin::install_infer_properties(object_class);

  auto* element_class = GST_ELEMENT_CLASS(klass);
  element_class->change_state = change_state;
  element_class->set_clock = set_clock;
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
  self->state->stream = std::make_unique<InferStream>(GST_ELEMENT_CAST(self), self->sink_pad,
                                                      self->source_pad, stream_host(self));
  self->state->loader = std::make_unique<ModelLoader>(GST_ELEMENT_CAST(self), loader_host(self));
}
