// SPDX-License-Identifier: MIT
/**
 * SECTION:element-da3extract
 * @title: da3extract
 *
 * Turns what da3infer attached to each frame into grey video that keeps its unit: 16 bit for depth, disparity
 * (1 / depth) and confidence, 8 bit for sky. Caps fields say how to read a sample, and are the same for the
 * whole stream:
 *
 * * `depth-encoding` linear: depth = depth-offset + depth-scale * sample; inverse: 1 / depth = that
 * * `depth-unit` metre or relative (units of one stream, of unknown length)
 * * `depth-invalid` 0: the sample that means "no measurement"; 65535 means "more than sample 65534 stands
 * for"
 * * confidence: `da3-kind=confidence`, confidence = value-offset + value-scale * sample; sky: `da3-kind=sky`,
 * 255 is sky
 *
 * Nothing is normalised by frame and nothing wraps. The same words go into a `comment` tag, which survives
 * Matroska.
 *
 * ## Example
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=30 ! da3infer model=synthetic:da3-small ! da3extract ! avenc_ffv1 !
 * matroskamux ! filesink location=depth.mkv
 * ]|
 */
#include "da3extract.h"

#include <gst/video/video.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "common/depth_frame.h"
#include "common/frame_output.h"
#include "common/guard.h"
#include "elements.h"
#include "extract_encode.h"

GST_DEBUG_CATEGORY_STATIC(da3extract_debug);
#define GST_CAT_DEFAULT da3extract_debug

using namespace da3::plugin;

namespace {

// One warning in this much stream time.
constexpr GstClockTime kWarningInterval = 10 * GST_SECOND;
constexpr double kWarningShare = 0.01;

GstStaticPadTemplate sink_template =
    GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS("video/x-raw(ANY)"));
GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE(
    "src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS(GST_VIDEO_CAPS_MAKE("{ GRAY16_LE, GRAY8 }")));

GType plane_get_type() {
  static gsize type = 0;
  static const GEnumValue values[] = {
      {int(ExtractPlane::depth), "Depth, GRAY16_LE", "depth"},
      {int(ExtractPlane::disparity), "1 / depth, GRAY16_LE", "disparity"},
      {int(ExtractPlane::confidence), "Confidence, at least 1, GRAY16_LE", "confidence"},
      {int(ExtractPlane::sky), "Sky mask, GRAY8: 255 is sky, 0 is not", "sky"},
      {0, nullptr, nullptr}};
  if (g_once_init_enter(&type))
    g_once_init_leave(&type, g_enum_register_static("GstDa3ExtractPlane", values));
  return type;
}

struct Settings {
  ExtractPlane plane = ExtractPlane::depth;
  OutputSize output_size = OutputSize::model;
  double scale = 0;  // 0 = the default of the plane
  double offset = 0;
};

// Everything the caps of the output follow from.
struct Format {
  ExtractPlane plane = ExtractPlane::depth;
  int width = 0, height = 0;
  bool metric = false;
  double scale = 0, offset = 0;
  bool operator==(const Format&) const = default;
};

// The picture side of the input: caps of any memory, so not necessarily a GstVideoInfo.
struct Input {
  int width = 0, height = 0;
  int fps_n = 0, fps_d = 1;
  int par_n = 1, par_d = 1;
};

struct TagListUnref {
  void operator()(GstTagList* tags) const { gst_tag_list_unref(tags); }
};
using TagListPtr = std::unique_ptr<GstTagList, TagListUnref>;

struct State {
  explicit State(GstPad* src) : output(src) {}
  FrameOutput output;
  std::optional<Input> in;
  bool caps_current = false;
  Format format;
  GstVideoInfo out{};
  TagListPtr tags;  // of the stream, as upstream sent them
  bool warned = false;
  GstClockTime warned_at = GST_CLOCK_TIME_NONE;
};

const char* tensor_id(ExtractPlane plane) {
  switch (plane) {
    case ExtractPlane::confidence:
      return GST_DA3_TENSOR_CONFIDENCE;
    case ExtractPlane::sky:
      return GST_DA3_TENSOR_SKY;
    default:
      return GST_DA3_TENSOR_DEPTH;
  }
}

// Depth: 1 mm to 65 m. Disparity: from 0.15 m, and 0.5 m fine at 70 m. Relative depth is of the order of 1.
double default_scale(ExtractPlane plane) {
  return plane == ExtractPlane::disparity ? 0.0001 : 0.001;
}

std::string number(double value) {
  char text[G_ASCII_DTOSTR_BUF_SIZE];
  return g_ascii_formatd(text, sizeof text, "%.9g", value);
}

enum { PROP_0, PROP_PLANE, PROP_OUTPUT_SIZE, PROP_SCALE, PROP_OFFSET };

}  // namespace

struct _GstDa3Extract {
  GstElement parent;
  GstPad* sink;
  GstPad* src;
  Settings* settings;  // under the object lock
  State* state;        // of the streaming thread
};

#define gst_da3_extract_parent_class parent_class
G_DEFINE_TYPE(GstDa3Extract, gst_da3_extract, GST_TYPE_ELEMENT)
GST_ELEMENT_REGISTER_DEFINE(da3extract, "da3extract", GST_RANK_NONE, GST_TYPE_DA3_EXTRACT)

static Settings current_settings(GstDa3Extract* self) {
  GST_OBJECT_LOCK(self);
  const Settings settings = *self->settings;
  GST_OBJECT_UNLOCK(self);
  return settings;
}

// --- caps and tags
// --------------------------------------------------------------------------------------------------

static void describe(const Format& format, GstStructure* s) {
  switch (format.plane) {
    case ExtractPlane::sky:
      gst_structure_set(s, "da3-kind", G_TYPE_STRING, "sky", nullptr);
      break;
    case ExtractPlane::confidence:
      gst_structure_set(s, "da3-kind", G_TYPE_STRING, "confidence", "value-scale", G_TYPE_DOUBLE,
                        format.scale, "value-offset", G_TYPE_DOUBLE, format.offset, "value-invalid",
                        G_TYPE_INT, int(kExtractInvalid), nullptr);
      break;
    default:
      gst_structure_set(s, "depth-encoding", G_TYPE_STRING,
                        format.plane == ExtractPlane::depth ? "linear" : "inverse", "depth-unit",
                        G_TYPE_STRING, format.metric ? "metre" : "relative", "depth-scale", G_TYPE_DOUBLE,
                        format.scale, "depth-offset", G_TYPE_DOUBLE, format.offset, "depth-invalid",
                        G_TYPE_INT, int(kExtractInvalid), nullptr);
      break;
  }
}

// The caps fields again, for containers that keep none.
static std::string comment(const Format& format) {
  const std::string numbers = "-scale=" + number(format.scale);
  const std::string offset = "-offset=" + number(format.offset);
  switch (format.plane) {
    case ExtractPlane::sky:
      return "da3-kind=sky";
    case ExtractPlane::confidence:
      return "da3-kind=confidence,value" + numbers + ",value" + offset + ",value-invalid=0";
    default:
      return std::string("depth-encoding=") + (format.plane == ExtractPlane::depth ? "linear" : "inverse") +
             ",depth-unit=" + (format.metric ? "metre" : "relative") + ",depth" + numbers + ",depth" +
             offset + ",depth-invalid=0";
  }
}

static void send_tags(GstDa3Extract* self) {
  State& state = *self->state;
  TagListPtr tags(state.tags ? gst_tag_list_copy(state.tags.get()) : gst_tag_list_new_empty());
  gst_tag_list_set_scope(tags.get(), GST_TAG_SCOPE_STREAM);
  gst_tag_list_add(tags.get(), GST_TAG_MERGE_PREPEND, GST_TAG_COMMENT, comment(state.format).c_str(),
                   nullptr);
  gst_pad_push_event(self->src, gst_event_new_tag(tags.release()));
}

static GstFlowReturn negotiate(GstDa3Extract* self, const Format& format, OutputSize size) {
  State& state = *self->state;
  GstVideoInfo out;
  const bool sky = format.plane == ExtractPlane::sky;
  if (!gst_video_info_set_format(&out, sky ? GST_VIDEO_FORMAT_GRAY8 : GST_VIDEO_FORMAT_GRAY16_LE,
                                 guint(format.width), guint(format.height)))
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION,
                       "A map of " + std::to_string(format.width) + "x" + std::to_string(format.height) +
                           " pixels is too large for a video frame.");
  GST_VIDEO_INFO_FPS_N(&out) = state.in->fps_n;
  GST_VIDEO_INFO_FPS_D(&out) = state.in->fps_d;
  // The network sees square pixels.
  if (size == OutputSize::source) {
    GST_VIDEO_INFO_PAR_N(&out) = state.in->par_n;
    GST_VIDEO_INFO_PAR_D(&out) = state.in->par_d;
  }
  CapsPtr caps(gst_video_info_to_caps(&out));
  describe(format, gst_caps_get_structure(caps.get(), 0));
  const bool retag = !state.output.has_caps() || format != state.format;
  const GstFlowReturn flow = state.output.set_caps(std::move(caps), GST_VIDEO_INFO_SIZE(&out));
  if (flow != GST_FLOW_OK) return flow;
  state.out = out;
  state.format = format;
  state.caps_current = true;
  if (retag) send_tags(self);
  return GST_FLOW_OK;
}

static void take_caps(GstDa3Extract* self, GstCaps* caps) {
  const GstStructure* s = gst_caps_get_structure(caps, 0);
  Input in;
  if (!gst_structure_get_int(s, "width", &in.width) || !gst_structure_get_int(s, "height", &in.height) ||
      in.width < 1 || in.height < 1) {
    gchar* text = gst_caps_to_string(caps);
    const std::string message = std::string("These caps say no picture size: ") + text + ".";
    g_free(text);
    throw ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, message);
  }
  gst_structure_get_fraction(s, "framerate", &in.fps_n, &in.fps_d);
  gst_structure_get_fraction(s, "pixel-aspect-ratio", &in.par_n, &in.par_d);
  self->state->in = in;
  self->state->caps_current = false;
}

// --- frames
// ---------------------------------------------------------------------------------------------------------

[[noreturn]] static void fail_without(ExtractPlane plane, GstBuffer* in) {
  GstDa3View view;
  const bool viewed = gst_buffer_get_da3_view(in, &view);
  GstDa3Tensor depth;
  const bool inferred = (viewed && view.kind != GST_DA3_DEPTH_KIND_NONE) ||
                        gst_buffer_get_da3_tensor(in, GST_DA3_TENSOR_DEPTH, &depth);
  const std::string model = viewed && view.model[0] ? std::string(" (") + view.model + ")" : "";
  std::string message;
  if (!inferred) {
    message = "The frames carry no depth. Put da3infer before da3extract.";
  } else if (plane == ExtractPlane::sky) {
    message =
        "This model" + model +
        " gives no sky mask: only da3mono-large and da3metric-large do. Choose one of them or another plane.";
  } else if (plane == ExtractPlane::confidence) {
    message = "This model" + model +
              " gives no confidence: da3-small, da3-base, da3-large, da3-giant and da3nested-giant-large do, "
              "da3mono-large and da3metric-large do not. Choose one of them or another plane.";
  } else {
    message = "A frame" + model + " came without a depth map.";
  }
  throw ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, message,
                     std::string("no tensor ") + tensor_id(plane) + " on the buffer");
}

static void check_saturation(GstDa3Extract* self, const ExtractCount& count, GstClockTime time) {
  State& state = *self->state;
  const size_t lost = count.beyond + count.below;
  if (lost == 0 || double(lost) <= kWarningShare * double(count.measured)) return;
  const bool timed = GST_CLOCK_TIME_IS_VALID(time) && GST_CLOCK_TIME_IS_VALID(state.warned_at);
  if (state.warned && (!timed || (time >= state.warned_at && time - state.warned_at < kWarningInterval)))
    return;
  state.warned = true;
  state.warned_at = time;

  const Format& f = state.format;
  const char* unit = f.plane == ExtractPlane::confidence ? "" : f.metric ? " m" : " units";
  const std::string suffix = f.plane == ExtractPlane::disparity ? (f.metric ? " 1/m" : " 1/units") : unit;
  char share[16];
  g_ascii_formatd(share, sizeof share, "%.1f", 100.0 * double(lost) / double(count.measured));
  std::string message = std::string(share) + " % of a frame lies outside " + number(f.offset + f.scale) +
                        " to " + number(f.offset + f.scale * kExtractLargest) + suffix +
                        ", the range of depth-scale=" + number(f.scale) +
                        " depth-offset=" + number(f.offset) + ".";
  if (count.beyond > count.below && count.largest > f.offset)
    message += " The largest value is " + number(count.largest) + ": set depth-scale to at least " +
               number(std::ceil((count.largest - f.offset) / kExtractLargest * 1e6) / 1e6) + ".";
  if (count.below >= count.beyond) message += " Set a smaller depth-scale or depth-offset.";
  post_warning(GST_ELEMENT_CAST(self), GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, message,
               std::to_string(count.beyond) + " beyond, " + std::to_string(count.below) + " below, of " +
                   std::to_string(count.measured));
}

static void fill(GstDa3Extract* self, const MapReader& map, const GstDa3View& view, OutputSize size,
                 GstClockTime time, GstBuffer* out) {
  State& state = *self->state;
  const Format& format = state.format;
  Region region{0, 0, double(format.width), double(format.height)};
  if (size == OutputSize::source) region = depth_region(view, format.width, format.height);
  GstMapInfo memory;
  if (!gst_buffer_map(out, &memory, GST_MAP_WRITE))
    throw ElementError(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_WRITE,
                       "The memory of an output frame cannot be written.");
  const int stride = GST_VIDEO_INFO_PLANE_STRIDE(&state.out, 0);
  ExtractCount count;
  // Frames are used again; their rows may end in padding that nobody writes.
  memset(memory.data, 0, memory.size);
  if (format.plane == ExtractPlane::sky) {
    encode_sky(map.data(), map.width(), map.height(), region,
               {memory.data, format.width, format.height, stride});
  } else {
    const bool scaled = format.metric && view.unit_scale > 0;
    const ExtractCoding coding{format.plane, format.scale, format.offset, scaled ? view.unit_scale : 1};
    count = encode_samples(map.data(), map.width(), map.height(), region, coding,
                           {memory.data, format.width, format.height, stride});
  }
  gst_buffer_unmap(out, &memory);
  check_saturation(self, count, time);
}

static Format wanted_format(const State& state, const Settings& settings, const MapReader& map,
                            const GstDa3View& view) {
  Format format;
  format.plane = settings.plane;
  format.width = settings.output_size == OutputSize::model ? map.width() : state.in->width;
  format.height = settings.output_size == OutputSize::model ? map.height() : state.in->height;
  if (settings.plane == ExtractPlane::sky) return format;
  format.metric = settings.plane != ExtractPlane::confidence && view.kind == GST_DA3_DEPTH_KIND_METRIC;
  format.scale = settings.scale > 0 ? settings.scale : default_scale(settings.plane);
  format.offset = settings.offset;
  return format;
}

static GstFlowReturn process(GstDa3Extract* self, BufferPtr in) {
  State& state = *self->state;
  if (!state.in)
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION,
                       "A frame came before the caps of the stream.");
  const Settings settings = current_settings(self);
  const auto map = MapReader::open(in.get(), tensor_id(settings.plane));
  if (!map) fail_without(settings.plane, in.get());
  const GstDa3View view = read_view(in.get());
  const Format format = wanted_format(state, settings, *map, view);
  const bool reconfigure = gst_pad_check_reconfigure(self->src);
  if (!state.caps_current || format != state.format || reconfigure) {
    const GstFlowReturn flow = negotiate(self, format, settings.output_size);
    if (flow != GST_FLOW_OK) {
      gst_pad_mark_reconfigure(self->src);
      return flow;
    }
  }
  BufferPtr out = state.output.new_frame();
  if (!out) return GST_FLOW_FLUSHING;
  fill(self, *map, view, settings.output_size, GST_BUFFER_PTS(in.get()), out.get());
  copy_frame_properties(in.get(), out.get());
  // A map has no fields, whatever the picture had.
  GST_BUFFER_FLAG_UNSET(out.get(), GST_VIDEO_BUFFER_FLAG_INTERLACED | GST_VIDEO_BUFFER_FLAG_TFF |
                                       GST_VIDEO_BUFFER_FLAG_RFF | GST_VIDEO_BUFFER_FLAG_ONEFIELD);
  if (GstDa3View attached; gst_buffer_get_da3_view(in.get(), &attached)) {
    if (settings.output_size == OutputSize::model)
      attached = view_of_map(attached, state.in->width, state.in->height, format.width, format.height);
    gst_buffer_add_da3_view(out.get(), &attached);
  }
  in.reset();
  return state.output.push(std::move(out));
}

// --- pads
// -----------------------------------------------------------------------------------------------------------

static GstFlowReturn sink_chain(GstPad*, GstObject* parent, GstBuffer* buffer) {
  auto* self = GST_DA3_EXTRACT(parent);
  BufferPtr in(buffer);
  return guard(self, GST_FLOW_ERROR, [&] { return process(self, std::move(in)); });
}

static gboolean sink_event(GstPad*, GstObject* parent, GstEvent* raw) {
  auto* self = GST_DA3_EXTRACT(parent);
  EventPtr event(raw);
  return guard(self, FALSE, [&]() -> gboolean {
    State& state = *self->state;
    switch (GST_EVENT_TYPE(event.get())) {
      case GST_EVENT_CAPS: {
        GstCaps* caps = nullptr;
        gst_event_parse_caps(event.get(), &caps);
        take_caps(self, caps);
        return TRUE;
      }
      case GST_EVENT_STREAM_START:
        state.tags.reset();
        break;
      case GST_EVENT_TAG: {
        GstTagList* tags = nullptr;
        gst_event_parse_tag(event.get(), &tags);
        if (gst_tag_list_get_scope(tags) != GST_TAG_SCOPE_STREAM) break;
        // One list per stream: a later one replaces this element's, so they are sent as one.
        state.tags.reset(gst_tag_list_ref(tags));
        if (state.output.has_caps()) send_tags(self);
        return TRUE;
      }
      default:
        break;
    }
    return state.output.forward(std::move(event));
  });
}

static gboolean sink_query(GstPad* pad, GstObject* parent, GstQuery* query) {
  auto* self = GST_DA3_EXTRACT(parent);
  return guard(self, FALSE, [&]() -> gboolean {
    switch (GST_QUERY_TYPE(query)) {
      case GST_QUERY_CAPS: {
        GstCaps* filter = nullptr;
        gst_query_parse_caps(query, &filter);
        const bool same_size = current_settings(self).output_size == OutputSize::source;
        const CapsPtr caps = FrameOutput::input_caps(self->src, &sink_template, same_size, filter);
        gst_query_set_caps_result(query, caps.get());
        return TRUE;
      }
      case GST_QUERY_ALLOCATION:
        // The picture itself is not looked at.
        gst_query_add_allocation_meta(query, GST_VIDEO_META_API_TYPE, nullptr);
        return TRUE;
      default:
        return gst_pad_query_default(pad, parent, query);
    }
  });
}

static GstStateChangeReturn change_state(GstElement* element, GstStateChange transition) {
  auto* self = GST_DA3_EXTRACT(element);
  return guard(self, GST_STATE_CHANGE_FAILURE, [&] {
    const GstStateChangeReturn result = GST_ELEMENT_CLASS(parent_class)->change_state(element, transition);
    if (transition == GST_STATE_CHANGE_PAUSED_TO_READY) {
      delete std::exchange(self->state, nullptr);
      self->state = new State(self->src);
    }
    return result;
  });
}

// --- GObject
// --------------------------------------------------------------------------------------------------------

static void set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  auto* self = GST_DA3_EXTRACT(object);
  GST_OBJECT_LOCK(self);
  Settings& s = *self->settings;
  switch (id) {
    case PROP_PLANE:
      s.plane = ExtractPlane(g_value_get_enum(value));
      break;
    case PROP_OUTPUT_SIZE:
      s.output_size = OutputSize(g_value_get_enum(value));
      break;
    case PROP_SCALE:
      s.scale = g_value_get_double(value);
      break;
    case PROP_OFFSET:
      s.offset = g_value_get_double(value);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
      break;
  }
  GST_OBJECT_UNLOCK(self);
  // Upstream may pick another size now.
  if (id == PROP_OUTPUT_SIZE) gst_pad_push_event(self->sink, gst_event_new_reconfigure());
}

static void get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  const Settings s = current_settings(GST_DA3_EXTRACT(object));
  switch (id) {
    case PROP_PLANE:
      g_value_set_enum(value, int(s.plane));
      break;
    case PROP_OUTPUT_SIZE:
      g_value_set_enum(value, int(s.output_size));
      break;
    case PROP_SCALE:
      g_value_set_double(value, s.scale);
      break;
    case PROP_OFFSET:
      g_value_set_double(value, s.offset);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
      break;
  }
}

static void finalize(GObject* object) {
  auto* self = GST_DA3_EXTRACT(object);
  delete self->state;
  delete self->settings;
  G_OBJECT_CLASS(parent_class)->finalize(object);
}

static void install_properties(GObjectClass* object) {
  const auto flags = GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING);
  const Settings d;
  g_object_class_install_property(
      object, PROP_PLANE,
      g_param_spec_enum("plane", "Plane", "What to extract; a change while playing changes the caps",
                        plane_get_type(), int(d.plane), flags));
  g_object_class_install_property(
      object, PROP_OUTPUT_SIZE,
      g_param_spec_enum(
          "output-size", "Output size",
          "Size of the output: model keeps the values as the network gave them, source interpolates "
          "(sky: nearest) into the part of the picture they belong to",
          output_size_get_type(), int(d.output_size), flags));
  g_object_class_install_property(
      object, PROP_SCALE,
      g_param_spec_double(
          "depth-scale", "Depth scale",
          "What one step of a sample stands for: metres (relative depth: depth units) of depth, 1/metre of "
          "disparity, or confidence. 0 = 0.001 for depth and confidence, 0.0001 for disparity",
          0, G_MAXFLOAT, d.scale, flags));
  g_object_class_install_property(
      object, PROP_OFFSET,
      g_param_spec_double(
          "depth-offset", "Depth offset",
          "What sample 0 would stand for, in the unit of depth-scale: value = offset + scale * sample",
          -G_MAXFLOAT, G_MAXFLOAT, d.offset, flags));
}

static void gst_da3_extract_class_init(GstDa3ExtractClass* klass) {
  GST_DEBUG_CATEGORY_INIT(da3extract_debug, "da3extract", 0, "depth as grey video");
  auto* object = G_OBJECT_CLASS(klass);
  auto* element = GST_ELEMENT_CLASS(klass);
  object->set_property = set_property;
  object->get_property = get_property;
  object->finalize = finalize;
  install_properties(object);
  element->change_state = GST_DEBUG_FUNCPTR(change_state);
  gst_element_class_add_static_pad_template(element, &sink_template);
  gst_element_class_add_static_pad_template(element, &src_template);
  gst_element_class_set_static_metadata(
      element, "Depth extractor", "Filter/Converter/Video",
      "Depth, disparity, confidence or sky attached by da3infer, as grey video with unit and scale",
      "gst-da3");
  gst_type_mark_as_plugin_api(plane_get_type(), GstPluginAPIFlags(0));
}

static void gst_da3_extract_init(GstDa3Extract* self) {
  auto* element = GST_ELEMENT_CAST(self);
  self->sink = gst_pad_new_from_static_template(&sink_template, "sink");
  gst_pad_set_chain_function(self->sink, GST_DEBUG_FUNCPTR(sink_chain));
  gst_pad_set_event_function(self->sink, GST_DEBUG_FUNCPTR(sink_event));
  gst_pad_set_query_function(self->sink, GST_DEBUG_FUNCPTR(sink_query));
  GST_PAD_SET_ACCEPT_TEMPLATE(self->sink);
  gst_element_add_pad(element, self->sink);
  self->src = gst_pad_new_from_static_template(&src_template, "src");
  gst_pad_use_fixed_caps(self->src);
  gst_element_add_pad(element, self->src);
  self->settings = new Settings();
  self->state = new State(self->src);
}
