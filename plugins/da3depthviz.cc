// SPDX-License-Identifier: MIT
/**
 * SECTION:element-da3depthviz
 * @title: da3depthviz
 *
 * Shows the depth that da3infer attached to each frame: as colours alone, beside the picture or laid over it.
 * The range of the colours follows the percentiles of the depth, smoothed over stream time so that it does
 * not flicker, or is fixed by #GstDa3DepthViz:min-depth and #GstDa3DepthViz:max-depth. With smoothing=0
 * legend=false output-size=model the bytes are those of Depth Anything 3's own visualisation.
 *
 * ## Example
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=30 ! da3infer model=synthetic:da3-small ! da3depthviz
 * layout=side-by-side ! videoconvert ! autovideosink
 * ]|
 */
#include "da3depthviz.h"

#include <gst/video/video.h>

#include <optional>

#include "common/depth_frame.h"
#include "common/frame_output.h"
#include "common/guard.h"
#include "common/mapped_frame.h"
#include "elements.h"
#include "viz_legend.h"
#include "viz_picture.h"
#include "viz_range.h"
#include "viz_render.h"
#include "viz_settings.h"

GST_DEBUG_CATEGORY_STATIC(da3depthviz_debug);
#define GST_CAT_DEFAULT da3depthviz_debug

using da3::image::Colormap;
using namespace da3::plugin;

namespace {

// The first one is taken when downstream takes any.
#define VIZ_FORMATS "{ BGRx, RGBx, xRGB, xBGR, RGB, BGR, BGRA, RGBA, ARGB, ABGR }"

GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE(
    "sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS(GST_VIDEO_CAPS_MAKE(GST_VIDEO_FORMATS_ALL)));
GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE(
    "src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS(GST_VIDEO_CAPS_MAKE(VIZ_FORMATS)));

// What the caps of the output follow from.
struct Shape {
  int width = 0, height = 0;  // of the picture part and of the depth part
  VizLayout layout = VizLayout::depth;
  OutputSize output_size = OutputSize::source;
  int total_width() const { return layout == VizLayout::side_by_side ? 2 * width : width; }
  bool operator==(const Shape&) const = default;
};

struct State {
  explicit State(GstPad* src) : output(src) {}
  FrameOutput output;
  GstVideoInfo in{};
  bool have_in = false;
  bool caps_current = false;  // no new input caps since the last negotiation
  Shape shape;
  int map_width = 0, map_height = 0;  // of the last depth map
  GstVideoInfo out{};
  GstSegment segment{};
  VizRangeTracker range;
  DepthPainter painter;
  Legend legend;
  PictureConverter picture;
  bool warned_no_depth = false;
  std::optional<VizRangeSettings> good_range, bad_range;  // the last ones that make sense, and that do not
};

Canvas canvas_of(GstVideoFrame* frame) {
  Canvas c;
  c.data = static_cast<uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(frame, 0));
  c.width = GST_VIDEO_FRAME_WIDTH(frame);
  c.height = GST_VIDEO_FRAME_HEIGHT(frame);
  c.stride = GST_VIDEO_FRAME_PLANE_STRIDE(frame, 0);
  c.pixel = GST_VIDEO_FRAME_COMP_PSTRIDE(frame, 0);
  c.r = GST_VIDEO_FRAME_COMP_POFFSET(frame, 0);
  c.g = GST_VIDEO_FRAME_COMP_POFFSET(frame, 1);
  c.b = GST_VIDEO_FRAME_COMP_POFFSET(frame, 2);
  c.rest = c.pixel == 4 ? 6 - c.r - c.g - c.b : -1;
  return c;
}

}  // namespace

struct _GstDa3DepthViz {
  GstElement parent;
  GstPad* sink;
  GstPad* src;
  VizSettings* settings;  // under the object lock
  State* state;           // of the streaming thread
};

#define gst_da3_depth_viz_parent_class parent_class
G_DEFINE_TYPE(GstDa3DepthViz, gst_da3_depth_viz, GST_TYPE_ELEMENT)
GST_ELEMENT_REGISTER_DEFINE(da3depthviz, "da3depthviz", GST_RANK_NONE, GST_TYPE_DA3_DEPTH_VIZ)

static VizSettings current_settings(GstDa3DepthViz* self) {
  GST_OBJECT_LOCK(self);
  const VizSettings settings = *self->settings;
  GST_OBJECT_UNLOCK(self);
  return settings;
}

// --- caps
// -----------------------------------------------------------------------------------------------------------

static CapsPtr output_caps(const State& state, const Shape& shape) {
  GstVideoInfo info;
  // Any format of the list has the same fields.
  gst_video_info_set_format(&info, GST_VIDEO_FORMAT_BGRx, guint(shape.total_width()), guint(shape.height));
  info.interlace_mode = state.in.interlace_mode;
  GST_VIDEO_INFO_FPS_N(&info) = GST_VIDEO_INFO_FPS_N(&state.in);
  GST_VIDEO_INFO_FPS_D(&info) = GST_VIDEO_INFO_FPS_D(&state.in);
  // The network sees square pixels.
  if (shape.output_size == OutputSize::source) {
    GST_VIDEO_INFO_PAR_N(&info) = GST_VIDEO_INFO_PAR_N(&state.in);
    GST_VIDEO_INFO_PAR_D(&info) = GST_VIDEO_INFO_PAR_D(&state.in);
  }
  CapsPtr caps(gst_video_info_to_caps(&info));
  GstCaps* formats = gst_static_pad_template_get_caps(&src_template);
  CapsPtr result(gst_caps_new_empty());
  gst_structure_remove_field(gst_caps_get_structure(caps.get(), 0), "format");
  result.reset(gst_caps_intersect_full(formats, caps.get(), GST_CAPS_INTERSECT_FIRST));
  gst_caps_unref(formats);
  return result;
}

static GstFlowReturn negotiate(GstDa3DepthViz* self, const Shape& shape) {
  State& state = *self->state;
  CapsPtr possible = output_caps(state, shape);
  CapsPtr wanted(gst_pad_peer_query_caps(self->src, nullptr));
  CapsPtr common(gst_caps_intersect_full(possible.get(), wanted.get(), GST_CAPS_INTERSECT_FIRST));
  if (gst_caps_is_empty(common.get())) {
    if (FrameOutput::shutting_down(self->src)) return GST_FLOW_FLUSHING;
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION,
                       FrameOutput::refusal(self->src, possible.get()));
  }
  CapsPtr fixed(gst_caps_fixate(common.release()));
  GstVideoInfo out;
  if (!gst_video_info_from_caps(&out, fixed.get()))
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION,
                       "A picture of " + std::to_string(shape.total_width()) + "x" +
                           std::to_string(shape.height) + " pixels is too large.");
  const GstFlowReturn flow = state.output.set_caps(std::move(fixed), GST_VIDEO_INFO_SIZE(&out));
  if (flow != GST_FLOW_OK) return flow;
  state.out = out;
  state.shape = shape;
  state.caps_current = true;
  return GST_FLOW_OK;
}

static void take_caps(GstDa3DepthViz* self, GstCaps* caps) {
  GstVideoInfo info;
  if (!gst_video_info_from_caps(&info, caps)) {
    gchar* text = gst_caps_to_string(caps);
    const std::string message = std::string("These caps are not raw video: ") + text + ".";
    g_free(text);
    throw ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, message);
  }
  self->state->in = info;
  self->state->have_in = true;
  self->state->caps_current = false;
}

// --- drawing
// --------------------------------------------------------------------------------------------------------

static Shape wanted_shape(const State& state, const VizSettings& settings) {
  Shape shape{GST_VIDEO_INFO_WIDTH(&state.in), GST_VIDEO_INFO_HEIGHT(&state.in), settings.layout,
              settings.output_size};
  if (settings.output_size == OutputSize::model && state.map_width > 0) {
    shape.width = state.map_width;
    shape.height = state.map_height;
  }
  return shape;
}

static void warn_no_depth(GstDa3DepthViz* self) {
  if (std::exchange(self->state->warned_no_depth, true)) return;
  post_warning(GST_ELEMENT_CAST(self), GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
               "Frames come without depth and are shown without colours. Put da3infer before da3depthviz.",
               "no tensor " GST_DA3_TENSOR_DEPTH " on the buffer");
}

// Two properties that belong together are set one after the other: while playing, contradicting ones are
// reported but the ones before stay in force.
static VizRangeSettings usable_range(GstDa3DepthViz* self, const VizRangeSettings& wanted) {
  State& state = *self->state;
  try {
    check_range_settings(wanted);
    state.good_range = wanted;
  } catch (const ElementError& error) {
    if (!state.good_range) throw;
    if (state.bad_range != wanted)
      post_warning(GST_ELEMENT_CAST(self), error.domain(), error.code(),
                   std::string(error.what()) + " The setting before stays in force.");
    state.bad_range = wanted;
  }
  return *state.good_range;
}

static ColorScale color_scale(const VizSettings& settings, const VizRange& range) {
  // lo has the first colour unless reversed. In disparity lo is far, in depth it is near.
  const bool lo_is_near = settings.range.mode == VizMode::depth;
  const bool warm_first = !da3::image::warm_end_is_last(settings.colormap);
  ColorScale scale{range, settings.range.mode, lo_is_near != warm_first};
  if (settings.invert != VizInvert::automatic) scale.reverse = settings.invert == VizInvert::yes;
  if (!range.known) {
    // As upstream: a range around nothing.
    scale.range.lo = -1e-6;
    scale.range.hi = 1e-6;
  }
  return scale;
}

static void draw_picture(State& state, const Region& region, GstBuffer* in, GstVideoFrame* out) {
  MappedFrame frame(in, state.in, GST_MAP_READ);
  PixelRect from{0, 0, GST_VIDEO_INFO_WIDTH(&state.in), GST_VIDEO_INFO_HEIGHT(&state.in)};
  if (state.shape.output_size == OutputSize::model && state.map_width > 0) {
    // The part of the picture that the map shows, so that both halves match.
    const int x = std::clamp(int(std::lround(region.x)), 0, from.w - 1);
    const int y = std::clamp(int(std::lround(region.y)), 0, from.h - 1);
    from = {x, y, std::clamp(int(std::lround(region.w)), 1, from.w - x),
            std::clamp(int(std::lround(region.h)), 1, from.h - y)};
  }
  state.picture.convert(frame.get(), from, out, {0, 0, state.shape.width, state.shape.height});
}

static void draw(GstDa3DepthViz* self, const VizSettings& settings, GstBuffer* in,
                 const std::optional<MapReader>& depth, const GstDa3View& view, GstBuffer* out) {
  State& state = *self->state;
  const Shape& shape = state.shape;
  MappedFrame frame(out, state.out, GST_MAP_READWRITE);
  const Canvas canvas = canvas_of(frame.get());
  Region region = depth_region(view, GST_VIDEO_INFO_WIDTH(&state.in), GST_VIDEO_INFO_HEIGHT(&state.in));
  const bool overlay = shape.layout == VizLayout::overlay;
  const Canvas part = canvas.part(canvas.width - shape.width, 0, shape.width, shape.height);
  if (shape.layout != VizLayout::depth) draw_picture(state, region, in, frame.get());
  // After the picture: the converter may write past its part of a row.
  if (!overlay) clear(part);
  if (!depth) return;
  if (shape.output_size == OutputSize::model) region = {0, 0, double(shape.width), double(shape.height)};

  const GstClockTime time = gst_segment_to_running_time(&state.segment, GST_FORMAT_TIME, GST_BUFFER_PTS(in));
  const VizRange range =
      state.range.update(depth->data(), depth->count(), view, settings.range, time, GST_BUFFER_DURATION(in));
  const ColorScale scale = color_scale(settings, range);
  state.painter.paint(part, depth->data(), depth->width(), depth->height(), region, scale, settings.colormap,
                      overlay ? settings.alpha : 1.0);
  if (settings.legend)
    state.legend.draw(part, scale, settings.colormap, view.kind == GST_DA3_DEPTH_KIND_METRIC,
                      view.unit_scale);
}

static void attach_view(const State& state, GstBuffer* in, bool have_map, GstBuffer* out) {
  // K does not fit a picture with a second one beside it.
  if (state.shape.layout == VizLayout::side_by_side) return;
  GstDa3View view;
  if (!gst_buffer_get_da3_view(in, &view)) return;
  if (have_map && state.shape.output_size == OutputSize::model)
    view = view_of_map(view, GST_VIDEO_INFO_WIDTH(&state.in), GST_VIDEO_INFO_HEIGHT(&state.in),
                       state.shape.width, state.shape.height);
  gst_buffer_add_da3_view(out, &view);
}

static GstFlowReturn process(GstDa3DepthViz* self, BufferPtr in) {
  State& state = *self->state;
  if (!state.have_in)
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION,
                       "A frame came before the caps of the stream.");
  VizSettings settings = current_settings(self);
  settings.range = usable_range(self, settings.range);
  const auto depth = MapReader::open(in.get(), GST_DA3_TENSOR_DEPTH);
  if (depth) {
    state.map_width = depth->width();
    state.map_height = depth->height();
  } else {
    warn_no_depth(self);
  }
  const Shape shape = wanted_shape(state, settings);
  const bool reconfigure = gst_pad_check_reconfigure(self->src);
  if (!state.caps_current || shape != state.shape || reconfigure) {
    const GstFlowReturn flow = negotiate(self, shape);
    if (flow != GST_FLOW_OK) {
      gst_pad_mark_reconfigure(self->src);
      return flow;
    }
  }
  BufferPtr out = state.output.new_frame();
  if (!out) return GST_FLOW_FLUSHING;
  draw(self, settings, in.get(), depth, read_view(in.get()), out.get());
  copy_frame_properties(in.get(), out.get());
  attach_view(state, in.get(), depth.has_value(), out.get());
  in.reset();
  return state.output.push(std::move(out));
}

// --- pads
// -----------------------------------------------------------------------------------------------------------

static GstFlowReturn sink_chain(GstPad*, GstObject* parent, GstBuffer* buffer) {
  auto* self = GST_DA3_DEPTH_VIZ(parent);
  BufferPtr in(buffer);
  return guard(self, GST_FLOW_ERROR, [&] { return process(self, std::move(in)); });
}

static gboolean sink_event(GstPad*, GstObject* parent, GstEvent* raw) {
  auto* self = GST_DA3_DEPTH_VIZ(parent);
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
      case GST_EVENT_SEGMENT:
        gst_event_copy_segment(event.get(), &state.segment);
        break;
      case GST_EVENT_FLUSH_STOP:
        // After a seek the colours start with the range of the new place.
        gst_segment_init(&state.segment, GST_FORMAT_UNDEFINED);
        state.range.reset();
        break;
      default:
        break;
    }
    return state.output.forward(std::move(event));
  });
}

static gboolean sink_query(GstPad* pad, GstObject* parent, GstQuery* query) {
  auto* self = GST_DA3_DEPTH_VIZ(parent);
  return guard(self, FALSE, [&]() -> gboolean {
    switch (GST_QUERY_TYPE(query)) {
      case GST_QUERY_CAPS: {
        GstCaps* filter = nullptr;
        gst_query_parse_caps(query, &filter);
        const VizSettings settings = current_settings(self);
        const bool same_size =
            settings.output_size == OutputSize::source && settings.layout != VizLayout::side_by_side;
        const CapsPtr caps = FrameOutput::input_caps(self->src, &sink_template, same_size, filter);
        gst_query_set_caps_result(query, caps.get());
        return TRUE;
      }
      case GST_QUERY_ALLOCATION:
        // Strides and offsets of the frame are honoured.
        gst_query_add_allocation_meta(query, GST_VIDEO_META_API_TYPE, nullptr);
        return TRUE;
      default:
        return gst_pad_query_default(pad, parent, query);
    }
  });
}

static GstStateChangeReturn change_state(GstElement* element, GstStateChange transition) {
  auto* self = GST_DA3_DEPTH_VIZ(element);
  return guard(self, GST_STATE_CHANGE_FAILURE, [&] {
    if (transition == GST_STATE_CHANGE_READY_TO_PAUSED) check_range_settings(current_settings(self).range);
    const GstStateChangeReturn result = GST_ELEMENT_CLASS(parent_class)->change_state(element, transition);
    if (transition == GST_STATE_CHANGE_PAUSED_TO_READY) {
      delete self->state;
      self->state = new State(self->src);
      gst_segment_init(&self->state->segment, GST_FORMAT_UNDEFINED);
    }
    return result;
  });
}

// --- GObject
// --------------------------------------------------------------------------------------------------------

static void set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  auto* self = GST_DA3_DEPTH_VIZ(object);
  GST_OBJECT_LOCK(self);
  const bool known = set_viz_property(*self->settings, id, value);
  GST_OBJECT_UNLOCK(self);
  if (!known) G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
  // Upstream may pick another size now.
  if (viz_property_changes_size(id)) gst_pad_push_event(self->sink, gst_event_new_reconfigure());
}

static void get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  if (!get_viz_property(current_settings(GST_DA3_DEPTH_VIZ(object)), id, value))
    G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
}

static void finalize(GObject* object) {
  auto* self = GST_DA3_DEPTH_VIZ(object);
  delete self->state;
  delete self->settings;
  G_OBJECT_CLASS(parent_class)->finalize(object);
}

static void gst_da3_depth_viz_class_init(GstDa3DepthVizClass* klass) {
  GST_DEBUG_CATEGORY_INIT(da3depthviz_debug, "da3depthviz", 0, "depth as colours");
  auto* object = G_OBJECT_CLASS(klass);
  auto* element = GST_ELEMENT_CLASS(klass);
  object->set_property = set_property;
  object->get_property = get_property;
  object->finalize = finalize;
  install_viz_properties(object);
  element->change_state = GST_DEBUG_FUNCPTR(change_state);
  gst_element_class_add_static_pad_template(element, &sink_template);
  gst_element_class_add_static_pad_template(element, &src_template);
  gst_element_class_set_static_metadata(
      element, "Depth visualiser", "Filter/Effect/Video/Visualization",
      "Shows the depth attached by da3infer as colours, alone, beside or over the picture", "gst-da3");
}

static void gst_da3_depth_viz_init(GstDa3DepthViz* self) {
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
  self->settings = new VizSettings();
  self->state = new State(self->src);
  gst_segment_init(&self->state->segment, GST_FORMAT_UNDEFINED);
}
