// SPDX-License-Identifier: MIT
/**
 * SECTION:element-da3preprocess
 * @title: da3preprocess
 *
 * Converts any raw video to 8-bit sRGB and resizes it exactly as Depth Anything 3's own input processor does,
 * so that both sides are multiples of 14 pixels. Pixels that are not square are made square. The result
 * carries a view meta that says which part of the source picture it shows; known intrinsics are rescaled with
 * it. RGB frames that have the process size already pass without a copy.
 *
 * The element is optional: da3infer does the same resize itself, with the same bytes. In front of it, it
 * saves memory traffic through queues and tees.
 *
 * ## Example
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=30 ! video/x-raw,width=1280,height=720 ! da3preprocess
 * process-res=504 ! videoconvert ! autovideosink
 * ]|
 */
#include "da3preprocess.h"

#include <gst/video/gstvideometa.h>
#include <gst/video/video.h>

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

#include "common/enums.h"
#include "common/frame_resizer.h"
#include "common/guard.h"
#include "common/mapped_frame.h"
#include "elements.h"
#include "gst/da3/da3.h"
#include "preprocess_caps.h"
#include "preprocess_view.h"

GST_DEBUG_CATEGORY_STATIC(da3preprocess_debug);
#define GST_CAT_DEFAULT da3preprocess_debug

namespace image = da3::image;
using da3::plugin::ElementError;
using da3::plugin::FrameResizer;
using da3::plugin::guard;
using da3::plugin::MappedFrame;
using Settings = da3::plugin::PreprocessSettings;

namespace {

constexpr guint kMinProcessRes = 14, kMaxProcessRes = 8192;
constexpr guint kMaxThreads = 1024;

enum Property { PROP_0, PROP_PROCESS_RES, PROP_PROCESS_RES_METHOD, PROP_N_THREADS };

struct CapsUnref {
  void operator()(GstCaps* caps) const { gst_caps_unref(caps); }
};
struct EventUnref {
  void operator()(GstEvent* event) const { gst_event_unref(event); }
};
struct BufferUnref {
  void operator()(GstBuffer* buffer) const { gst_buffer_unref(buffer); }
};
using BufferPtr = std::unique_ptr<GstBuffer, BufferUnref>;
using CapsPtr = std::unique_ptr<GstCaps, CapsUnref>;
using EventPtr = std::unique_ptr<GstEvent, EventUnref>;

struct State {
  // Under the object lock. Properties write `wanted`; the streaming thread takes it over between two frames,
  // so that caps and resize always follow the same settings.
  Settings wanted, active;
  bool running = false;

  // Streaming thread alone.
  GstVideoInfo in, out;
  FrameResizer resizer;
  bool stale = true;  // resizer was configured with other settings or not at all
  // What the last refusal was about, null if the caps are fine. Such caps come again with every buffer, since
  // a sticky event that was not taken is sent anew; the error is posted once.
  CapsPtr refused;
  Settings refused_settings;
  bool shared = false;  // the frame at hand is passed on in its own memory
  gint64 frame = 0;
};

image::Size stored_size(const GstVideoInfo& info) {
  return {GST_VIDEO_INFO_WIDTH(&info), GST_VIDEO_INFO_HEIGHT(&info)};
}

std::string caps_text(const GstCaps* caps) {
  gchar* text = gst_caps_to_string(caps);
  std::string result = text;
  g_free(text);
  return result.size() > 400 ? result.substr(0, 400) + "..." : result;
}

}  // namespace

struct _GstDa3Preprocess {
  GstBaseTransform parent;
  State* state;
};

G_DEFINE_FINAL_TYPE(GstDa3Preprocess, gst_da3_preprocess, GST_TYPE_BASE_TRANSFORM)
GST_ELEMENT_REGISTER_DEFINE(da3preprocess, "da3preprocess", GST_RANK_NONE, GST_TYPE_DA3_PREPROCESS)

namespace {

GstDa3Preprocess* cast(gpointer object) {
  return GST_DA3_PREPROCESS(object);
}
GstBaseTransformClass* parent_class() {
  return GST_BASE_TRANSFORM_CLASS(gst_da3_preprocess_parent_class);
}

Settings active_settings(GstDa3Preprocess* self) {
  GST_OBJECT_LOCK(self);
  const Settings settings = self->state->active;
  GST_OBJECT_UNLOCK(self);
  return settings;
}

// Takes over what the properties say; true if that changed anything.
bool refresh_settings(GstDa3Preprocess* self) {
  GST_OBJECT_LOCK(self);
  const bool changed = !(self->state->active == self->state->wanted);
  self->state->active = self->state->wanted;
  GST_OBJECT_UNLOCK(self);
  return changed;
}

void set_running(GstDa3Preprocess* self, bool running) {
  GST_OBJECT_LOCK(self);
  self->state->running = running;
  self->state->active = self->state->wanted;
  GST_OBJECT_UNLOCK(self);
}

void configure(GstDa3Preprocess* self) {
  State& state = *self->state;
  const Settings settings = active_settings(self);
  state.resizer.configure(state.in, int(settings.process_res), settings.method, settings.threads);
  const image::Size final = state.resizer.plan().final;
  if (final != stored_size(state.out)) {
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION,
                       "The negotiated size is not the one that process-res and process-res-method give.");
  }
  state.stale = false;
  GST_INFO_OBJECT(self, "%s %dx%d -> %dx%d -> %dx%d", GST_VIDEO_INFO_NAME(&state.in),
                  GST_VIDEO_INFO_WIDTH(&state.in), GST_VIDEO_INFO_HEIGHT(&state.in),
                  state.resizer.plan().boundary.width, state.resizer.plan().boundary.height, final.width,
                  final.height);
}

// Nobody says why negotiation failed, so say which size this element gives and what the next one takes.
ElementError refused_downstream(GstDa3Preprocess* self, const GstVideoInfo& in) {
  const Settings settings = active_settings(self);
  const image::Size size = da3::plugin::plan_frame(in, int(settings.process_res), settings.method).final;
  GstCaps* wanted = gst_pad_peer_query_caps(GST_BASE_TRANSFORM_SRC_PAD(self), nullptr);
  const std::string text = caps_text(wanted);
  gst_caps_unref(wanted);
  return {GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION,
          "The picture becomes RGB of " + std::to_string(size.width) + "x" + std::to_string(size.height) +
              " pixels with process-res=" + std::to_string(settings.process_res) +
              ", which the next element does not take.",
          "The next element takes: " + text};
}

bool flushing(GstDa3Preprocess* self) {
  return GST_PAD_IS_FLUSHING(GST_BASE_TRANSFORM_SRC_PAD(self));
}

// Remembers the refusal; true if it is a new one.
bool note_refusal(GstDa3Preprocess* self, GstCaps* caps) {
  State& state = *self->state;
  const Settings settings = active_settings(self);
  const bool known =
      state.refused && gst_caps_is_equal(state.refused.get(), caps) && state.refused_settings == settings;
  state.refused.reset(gst_caps_ref(caps));
  state.refused_settings = settings;
  return !known;
}

GstVideoInfo checked_info(GstDa3Preprocess* self, GstCaps* caps) {
  GstVideoInfo info;
  if (!gst_video_info_from_caps(&info, caps)) {
    throw ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
                       "These caps do not describe raw video: " + caps_text(caps) + ".");
  }
  const Settings settings = active_settings(self);
  da3::plugin::plan_frame(info, int(settings.process_res), settings.method);
  return info;
}

gboolean handle_caps(GstDa3Preprocess* self, GstEvent* event) {
  refresh_settings(self);
  GstCaps* parsed = nullptr;
  gst_event_parse_caps(event, &parsed);
  const CapsPtr caps(gst_caps_ref(parsed));
  const EventPtr owned(event);
  try {
    const GstVideoInfo info = checked_info(self, caps.get());
    if (!parent_class()->sink_event(GST_BASE_TRANSFORM(self), gst_event_ref(event))) {
      if (flushing(self)) return FALSE;
      throw refused_downstream(self, info);
    }
    self->state->refused.reset();
    return TRUE;
  } catch (const std::exception& e) {
    GST_WARNING_OBJECT(self, "caps refused: %s", e.what());
    if (note_refusal(self, caps.get())) throw;
    return FALSE;
  }
}

gboolean sink_event(GstBaseTransform* trans, GstEvent* event) {
  if (GST_EVENT_TYPE(event) != GST_EVENT_CAPS) return parent_class()->sink_event(trans, event);
  return guard(trans, FALSE, [&] { return handle_caps(cast(trans), event); });
}

// Lenient: what cannot be processed is refused by the CAPS event, where it can be explained.
gboolean accept_caps(GstBaseTransform* trans, GstPadDirection direction, GstCaps* caps) {
  GstPad* pad =
      direction == GST_PAD_SINK ? GST_BASE_TRANSFORM_SINK_PAD(trans) : GST_BASE_TRANSFORM_SRC_PAD(trans);
  GstCaps* allowed = gst_pad_get_pad_template_caps(pad);
  const gboolean accepted = gst_caps_is_subset(caps, allowed);
  gst_caps_unref(allowed);
  if (!accepted) GST_WARNING_OBJECT(trans, "caps are no raw video in system memory: %" GST_PTR_FORMAT, caps);
  return accepted;
}

GstCaps* transform_caps(GstBaseTransform* trans, GstPadDirection direction, GstCaps* caps, GstCaps* filter) {
  return guard(trans, static_cast<GstCaps*>(nullptr), [&] {
    GstCaps* result = da3::plugin::preprocess_other_caps(direction, caps, active_settings(cast(trans)));
    if (!filter) return result;
    GstCaps* filtered = gst_caps_intersect_full(filter, result, GST_CAPS_INTERSECT_FIRST);
    gst_caps_unref(result);
    return filtered;
  });
}

gboolean set_caps(GstBaseTransform* trans, GstCaps* in, GstCaps* out) {
  return guard(trans, FALSE, [&]() -> gboolean {
    GstDa3Preprocess* self = cast(trans);
    if (!gst_video_info_from_caps(&self->state->in, in) ||
        !gst_video_info_from_caps(&self->state->out, out)) {
      throw ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
                         "These caps do not describe raw video: " + caps_text(in) + ".");
    }
    configure(self);
    return TRUE;
  });
}

gboolean get_unit_size(GstBaseTransform*, GstCaps* caps, gsize* size) {
  GstVideoInfo info;
  if (!gst_video_info_from_caps(&info, caps)) return FALSE;
  *size = GST_VIDEO_INFO_SIZE(&info);
  return TRUE;
}

// A frame gives a frame, whatever padding its buffer has.
gboolean transform_size(GstBaseTransform* trans, GstPadDirection, GstCaps*, gsize, GstCaps* other,
                        gsize* size) {
  return get_unit_size(trans, other, size);
}

gboolean propose_allocation(GstBaseTransform* trans, GstQuery* decide, GstQuery* query) {
  if (!parent_class()->propose_allocation(trans, decide, query)) return FALSE;
  if (!gst_query_find_allocation_meta(query, GST_VIDEO_META_API_TYPE, nullptr)) {
    gst_query_add_allocation_meta(query, GST_VIDEO_META_API_TYPE, nullptr);
  }
  return TRUE;
}

// Takes over new settings before the next frame; true if there were any.
bool renegotiate(GstDa3Preprocess* self, GstCaps* caps) {
  if (!refresh_settings(self)) return false;
  self->state->stale = true;
  gst_base_transform_reconfigure_src(GST_BASE_TRANSFORM(self));
  if (caps) checked_info(self, caps);
  return true;
}

GstFlowReturn submit(GstDa3Preprocess* self, gboolean discont, BufferPtr buffer) {
  State& state = *self->state;
  GstBaseTransform* trans = GST_BASE_TRANSFORM(self);
  const CapsPtr caps(gst_pad_get_current_caps(trans->sinkpad));
  try {
    const bool changed = renegotiate(self, caps.get());
    // Caps that were refused are not the current ones; only new settings that were refused can be taken back.
    const bool retry = changed && caps && state.refused && gst_caps_is_equal(state.refused.get(), caps.get());
    if (state.refused && !retry) return GST_FLOW_NOT_NEGOTIATED;
    const GstFlowReturn flow = parent_class()->submit_input_buffer(trans, discont, buffer.release());
    if (flow == GST_FLOW_NOT_NEGOTIATED && changed && caps) throw refused_downstream(self, state.in);
    if (flow == GST_FLOW_OK) state.refused.reset();
    return flow;
  } catch (const std::exception& e) {
    GST_WARNING_OBJECT(self, "new settings refused: %s", e.what());
    if (caps) note_refusal(self, caps.get());
    throw;
  }
}

GstFlowReturn submit_input_buffer(GstBaseTransform* trans, gboolean discont, GstBuffer* buffer) {
  return guard(trans, GST_FLOW_ERROR, [&] { return submit(cast(trans), discont, BufferPtr(buffer)); });
}

// Not every element reads strides from a video meta, so rows of another length are copied.
bool has_default_layout(GstBuffer* buffer, const GstVideoInfo& info) {
  const GstVideoMeta* meta = gst_buffer_get_video_meta(buffer);
  return !meta || (meta->offset[0] == 0 && meta->stride[0] == GST_VIDEO_INFO_PLANE_STRIDE(&info, 0));
}

// Frames that need no work keep their memory; only the metas are new.
GstFlowReturn prepare_output_buffer(GstBaseTransform* trans, GstBuffer* in, GstBuffer** out) {
  return guard(trans, GST_FLOW_ERROR, [&] {
    GstDa3Preprocess* self = cast(trans);
    if (self->state->stale) configure(self);
    self->state->shared = self->state->resizer.identity() && has_default_layout(in, self->state->in);
    if (!self->state->shared) return parent_class()->prepare_output_buffer(trans, in, out);
    *out = gst_buffer_copy(in);
    return *out ? GST_FLOW_OK : GST_FLOW_ERROR;
  });
}

// TRUE if the meta says that it depends on nothing but `allowed`.
bool tags_within(const GstMetaInfo* info, std::initializer_list<std::string_view> allowed) {
  const gchar* const* tags = gst_meta_api_type_get_tags(info->api);
  for (; tags && *tags; ++tags) {
    if (std::find(allowed.begin(), allowed.end(), *tags) == allowed.end()) return false;
  }
  return true;
}

gboolean transform_meta(GstBaseTransform* trans, GstBuffer* out, GstMeta* meta, GstBuffer* in) {
  State& state = *cast(trans)->state;
  const GstMetaInfo* info = meta->info;
  if (g_strcmp0(g_type_name(info->type), GST_DA3_VIEW_META_NAME) == 0)
    return FALSE;  // attach_views() does it
  if (tags_within(info, {GST_META_TAG_VIDEO_STR})) return TRUE;
  const bool of_picture = tags_within(
      info, {GST_META_TAG_VIDEO_STR, GST_META_TAG_VIDEO_SIZE_STR, GST_META_TAG_VIDEO_ORIENTATION_STR});
  if (!of_picture || da3::plugin::crops(state.resizer.plan()) || !info->transform_func) return FALSE;
  GstVideoMetaTransform scale = {&state.in, &state.out};
  info->transform_func(out, meta, in, gst_video_meta_transform_scale_get_quark(), &scale);
  return FALSE;
}

void attach_views(State& state, GstBuffer* in, GstBuffer* out) {
  const image::ProcessPlan& plan = state.resizer.plan();
  GstDa3View view;
  bool any = false;
  for (GstDa3Role role : {GST_DA3_ROLE_PREDICTION, GST_DA3_ROLE_TRUTH}) {
    if (!gst_buffer_get_da3_view_by_role(in, role, &view)) continue;
    da3::plugin::map_view(view, plan, stored_size(state.in));
    any |= gst_buffer_add_da3_view(out, &view) != FALSE;
  }
  if (!any) {
    gst_da3_view_init(&view);
    view.frame = state.frame;
    da3::plugin::map_view(view, plan, stored_size(state.in));
    gst_buffer_add_da3_view(out, &view);
  }
  ++state.frame;
}

GstFlowReturn transform(GstBaseTransform* trans, GstBuffer* in, GstBuffer* out) {
  return guard(trans, GST_FLOW_ERROR, [&] {
    State& state = *cast(trans)->state;
    MappedFrame source(in, state.in, GST_MAP_READ);
    if (!state.shared) {
      MappedFrame target(out, state.out, GST_MAP_WRITE);
      GstVideoFrame* frame = target.get();
      state.resizer.process(source.get(), {static_cast<uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(frame, 0)),
                                           GST_VIDEO_FRAME_WIDTH(frame), GST_VIDEO_FRAME_HEIGHT(frame),
                                           GST_VIDEO_FRAME_PLANE_STRIDE(frame, 0)});
    }
    attach_views(state, in, out);
    return GST_FLOW_OK;
  });
}

gboolean start(GstBaseTransform* trans) {
  GstDa3Preprocess* self = cast(trans);
  set_running(self, true);
  self->state->frame = 0;
  self->state->refused.reset();
  return TRUE;
}

gboolean stop(GstBaseTransform* trans) {
  GstDa3Preprocess* self = cast(trans);
  set_running(self, false);
  self->state->resizer = FrameResizer();
  self->state->stale = true;
  return TRUE;
}

void set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  GstDa3Preprocess* self = cast(object);
  GST_OBJECT_LOCK(self);
  Settings& wanted = self->state->wanted;
  switch (id) {
    case PROP_PROCESS_RES:
      wanted.process_res = g_value_get_uint(value);
      break;
    case PROP_PROCESS_RES_METHOD:
      wanted.method = static_cast<image::ProcessResMethod>(g_value_get_enum(value));
      break;
    case PROP_N_THREADS:
      wanted.threads = g_value_get_uint(value);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
      break;
  }
  if (!self->state->running) self->state->active = wanted;
  GST_OBJECT_UNLOCK(self);
}

void get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  GstDa3Preprocess* self = cast(object);
  GST_OBJECT_LOCK(self);
  const Settings wanted = self->state->wanted;
  GST_OBJECT_UNLOCK(self);
  switch (id) {
    case PROP_PROCESS_RES:
      g_value_set_uint(value, wanted.process_res);
      break;
    case PROP_PROCESS_RES_METHOD:
      g_value_set_enum(value, int(wanted.method));
      break;
    case PROP_N_THREADS:
      g_value_set_uint(value, wanted.threads);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
      break;
  }
}

void finalize(GObject* object) {
  delete cast(object)->state;
  G_OBJECT_CLASS(gst_da3_preprocess_parent_class)->finalize(object);
}

void install_properties(GObjectClass* klass) {
  constexpr auto flags =
      static_cast<GParamFlags>(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING);
  g_object_class_install_property(
      klass, PROP_PROCESS_RES,
      g_param_spec_uint(
          "process-res", "Process resolution",
          "Length of the longest (upper_bound_*) or shortest (lower_bound_*) side at which the network "
          "sees the picture, in pixels; sides become multiples of 14",
          kMinProcessRes, kMaxProcessRes, Settings().process_res, flags));
  g_object_class_install_property(
      klass, PROP_PROCESS_RES_METHOD,
      g_param_spec_enum(
          "process-res-method", "Process resolution method",
          "Which side process-res bounds, and whether multiples of 14 are reached by resizing or by "
          "cropping the centre",
          GST_TYPE_DA3_PROCESS_RES_METHOD, int(Settings().method), flags));
  g_object_class_install_property(
      klass, PROP_N_THREADS,
      g_param_spec_uint(
          "n-threads", "Threads",
          "Threads for the colour conversion (0 = number of cores); 1 also keeps the resize on one "
          "thread. Does not change the result",
          0, kMaxThreads, 0, flags));
}

}  // namespace

static void gst_da3_preprocess_init(GstDa3Preprocess* self) {
  self->state = new State();
  gst_base_transform_set_in_place(GST_BASE_TRANSFORM(self), FALSE);
  gst_base_transform_set_gap_aware(GST_BASE_TRANSFORM(self), TRUE);
}

static void gst_da3_preprocess_class_init(GstDa3PreprocessClass* klass) {
  GST_DEBUG_CATEGORY_INIT(da3preprocess_debug, "da3preprocess", 0, "Depth Anything 3 preprocessing");
  auto* object = G_OBJECT_CLASS(klass);
  object->set_property = set_property;
  object->get_property = get_property;
  object->finalize = finalize;
  install_properties(object);

  auto* element = GST_ELEMENT_CLASS(klass);
  gst_element_class_set_static_metadata(element, "Depth Anything 3 preprocessing",
                                        "Filter/Converter/Video/Scaler",
                                        "Converts video to RGB and resizes it exactly as Depth Anything 3 "
                                        "does, to sides that are multiples of 14",
                                        "gst-da3");
  GstCaps* sink_caps = da3::plugin::preprocess_sink_caps();
  GstCaps* src_caps = da3::plugin::preprocess_src_caps();
  gst_element_class_add_pad_template(element,
                                     gst_pad_template_new("sink", GST_PAD_SINK, GST_PAD_ALWAYS, sink_caps));
  gst_element_class_add_pad_template(element,
                                     gst_pad_template_new("src", GST_PAD_SRC, GST_PAD_ALWAYS, src_caps));
  gst_caps_unref(sink_caps);
  gst_caps_unref(src_caps);
  gst_type_mark_as_plugin_api(GST_TYPE_DA3_PROCESS_RES_METHOD, static_cast<GstPluginAPIFlags>(0));

  auto* trans = GST_BASE_TRANSFORM_CLASS(klass);
  trans->passthrough_on_same_caps = FALSE;
  trans->start = start;
  trans->stop = stop;
  trans->sink_event = sink_event;
  trans->accept_caps = accept_caps;
  trans->transform_caps = transform_caps;
  trans->set_caps = set_caps;
  trans->get_unit_size = get_unit_size;
  trans->transform_size = transform_size;
  trans->propose_allocation = propose_allocation;
  trans->submit_input_buffer = submit_input_buffer;
  trans->prepare_output_buffer = prepare_output_buffer;
  trans->transform_meta = transform_meta;
  trans->transform = transform;
}
