// SPDX-License-Identifier: MIT
#include "viz_settings.h"

namespace da3::plugin {
namespace {

using image::Colormap;

GType colormap_get_type() {
  static gsize type = 0;
  static const GEnumValue values[] = {
      {int(Colormap::spectral), "Spectral as Depth Anything 3 shows it, near is red", "spectral"},
      {int(Colormap::turbo), "Turbo, near is red", "turbo"},
      {int(Colormap::inferno), "Inferno, near is bright yellow", "inferno"},
      {int(Colormap::viridis), "Viridis, near is yellow", "viridis"},
      {int(Colormap::gray), "Gray, near is white", "gray"},
      {0, nullptr, nullptr}};
  if (g_once_init_enter(&type)) g_once_init_leave(&type, g_enum_register_static("GstDa3Colormap", values));
  return type;
}

GType layout_get_type() {
  static gsize type = 0;
  static const GEnumValue values[] = {
      {int(VizLayout::depth), "Depth colours alone", "depth"},
      {int(VizLayout::side_by_side), "Picture left, depth colours right", "side-by-side"},
      {int(VizLayout::overlay), "Depth colours laid over the picture", "overlay"},
      {0, nullptr, nullptr}};
  if (g_once_init_enter(&type)) g_once_init_leave(&type, g_enum_register_static("GstDa3VizLayout", values));
  return type;
}

GType mode_get_type() {
  static gsize type = 0;
  static const GEnumValue values[] = {
      {int(VizMode::disparity), "Colours are linear in 1 / depth: detail in the foreground", "disparity"},
      {int(VizMode::depth), "Colours are linear in depth", "depth"},
      {0, nullptr, nullptr}};
  if (g_once_init_enter(&type)) g_once_init_leave(&type, g_enum_register_static("GstDa3VizMode", values));
  return type;
}

GType invert_get_type() {
  static gsize type = 0;
  static const GEnumValue values[] = {
      {int(VizInvert::automatic),
       "Near is warm or bright, for metric and relative depth and every colour map", "auto"},
      {int(VizInvert::no), "The smallest value (of depth, or of 1 / depth) has the first colour of the map",
       "no"},
      {int(VizInvert::yes), "The smallest value has the last colour of the map", "yes"},
      {0, nullptr, nullptr}};
  if (g_once_init_enter(&type)) g_once_init_leave(&type, g_enum_register_static("GstDa3VizInvert", values));
  return type;
}

enum {
  PROP_0,
  PROP_COLORMAP,
  PROP_LAYOUT,
  PROP_MODE,
  PROP_INVERT,
  PROP_ALPHA,
  PROP_OUTPUT_SIZE,
  PROP_PERCENTILE_LOW,
  PROP_PERCENTILE_HIGH,
  PROP_MIN_DEPTH,
  PROP_MAX_DEPTH,
  PROP_SMOOTHING,
  PROP_LEGEND,
};

}  // namespace

void install_viz_properties(GObjectClass* object) {
  const auto flags = GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING);
  const VizSettings d;
  const auto choice = [&](guint id, const char* name, const char* nick, const char* text, GType type,
                          int value) {
    g_object_class_install_property(object, id, g_param_spec_enum(name, nick, text, type, value, flags));
  };
  const auto number = [&](guint id, const char* name, const char* nick, const char* text, double max,
                          double value) {
    g_object_class_install_property(object, id, g_param_spec_double(name, nick, text, 0, max, value, flags));
  };
  choice(PROP_COLORMAP, "colormap", "Colour map", "Colours of the depth", colormap_get_type(),
         int(d.colormap));
  choice(PROP_LAYOUT, "layout", "Layout", "What the output shows", layout_get_type(), int(d.layout));
  choice(PROP_MODE, "mode", "Mode", "What is laid out linearly along the colours", mode_get_type(),
         int(d.range.mode));
  choice(PROP_INVERT, "invert", "Invert", "Which end of the colour map is near", invert_get_type(),
         int(d.invert));
  number(PROP_ALPHA, "alpha", "Alpha",
         "Opacity of the colours with layout=overlay (0 = picture only, 1 = colours only)", 1, d.alpha);
  choice(PROP_OUTPUT_SIZE, "output-size", "Output size", "Size of the picture part and of the depth part",
         output_size_get_type(), int(d.output_size));
  number(PROP_PERCENTILE_LOW, "percentile-low", "Low percentile",
         "Percentile of the coloured quantity (1 / depth, or depth) at the low end of the colours", 100,
         d.range.percentile_low);
  number(PROP_PERCENTILE_HIGH, "percentile-high", "High percentile",
         "Percentile of the coloured quantity at the high end of the colours", 100, d.range.percentile_high);
  number(PROP_MIN_DEPTH, "min-depth", "Minimum depth",
         "Depth at the near end of the colours, in metres, or in depth units when depth is relative (0 = by "
         "percentile)",
         G_MAXFLOAT, d.range.min_depth);
  number(PROP_MAX_DEPTH, "max-depth", "Maximum depth",
         "Depth at the far end of the colours, in metres, or in depth units when depth is relative (0 = by "
         "percentile)",
         G_MAXFLOAT, d.range.max_depth);
  g_object_class_install_property(
      object, PROP_SMOOTHING,
      g_param_spec_uint64(
          "smoothing", "Smoothing",
          "Time constant with which the range of the colours follows the percentiles, in nanoseconds of "
          "stream time (0 = each frame on its own)",
          0, 3600 * GST_SECOND, d.range.smoothing, flags));
  g_object_class_install_property(
      object, PROP_LEGEND,
      g_param_spec_boolean("legend", "Legend",
                           "Draw a colour bar with depths, where the picture has room for one", d.legend,
                           flags));
  for (GType type :
       {colormap_get_type(), layout_get_type(), mode_get_type(), invert_get_type(), output_size_get_type()})
    gst_type_mark_as_plugin_api(type, GstPluginAPIFlags(0));
}

bool set_viz_property(VizSettings& s, guint id, const GValue* value) {
  switch (id) {
    case PROP_COLORMAP:
      s.colormap = Colormap(g_value_get_enum(value));
      break;
    case PROP_LAYOUT:
      s.layout = VizLayout(g_value_get_enum(value));
      break;
    case PROP_MODE:
      s.range.mode = VizMode(g_value_get_enum(value));
      break;
    case PROP_INVERT:
      s.invert = VizInvert(g_value_get_enum(value));
      break;
    case PROP_ALPHA:
      s.alpha = g_value_get_double(value);
      break;
    case PROP_OUTPUT_SIZE:
      s.output_size = OutputSize(g_value_get_enum(value));
      break;
    case PROP_PERCENTILE_LOW:
      s.range.percentile_low = g_value_get_double(value);
      break;
    case PROP_PERCENTILE_HIGH:
      s.range.percentile_high = g_value_get_double(value);
      break;
    case PROP_MIN_DEPTH:
      s.range.min_depth = g_value_get_double(value);
      break;
    case PROP_MAX_DEPTH:
      s.range.max_depth = g_value_get_double(value);
      break;
    case PROP_SMOOTHING:
      s.range.smoothing = g_value_get_uint64(value);
      break;
    case PROP_LEGEND:
      s.legend = g_value_get_boolean(value);
      break;
    default:
      return false;
  }
  return true;
}

bool get_viz_property(const VizSettings& s, guint id, GValue* value) {
  switch (id) {
    case PROP_COLORMAP:
      g_value_set_enum(value, int(s.colormap));
      break;
    case PROP_LAYOUT:
      g_value_set_enum(value, int(s.layout));
      break;
    case PROP_MODE:
      g_value_set_enum(value, int(s.range.mode));
      break;
    case PROP_INVERT:
      g_value_set_enum(value, int(s.invert));
      break;
    case PROP_ALPHA:
      g_value_set_double(value, s.alpha);
      break;
    case PROP_OUTPUT_SIZE:
      g_value_set_enum(value, int(s.output_size));
      break;
    case PROP_PERCENTILE_LOW:
      g_value_set_double(value, s.range.percentile_low);
      break;
    case PROP_PERCENTILE_HIGH:
      g_value_set_double(value, s.range.percentile_high);
      break;
    case PROP_MIN_DEPTH:
      g_value_set_double(value, s.range.min_depth);
      break;
    case PROP_MAX_DEPTH:
      g_value_set_double(value, s.range.max_depth);
      break;
    case PROP_SMOOTHING:
      g_value_set_uint64(value, s.range.smoothing);
      break;
    case PROP_LEGEND:
      g_value_set_boolean(value, s.legend);
      break;
    default:
      return false;
  }
  return true;
}

bool viz_property_changes_size(guint id) {
  return id == PROP_LAYOUT || id == PROP_OUTPUT_SIZE;
}

}  // namespace da3::plugin
