// SPDX-License-Identifier: MIT
//
// The properties of da3depthviz as plain values.
#pragma once

#include <gst/gst.h>

#include "common/frame_output.h"
#include "image/colormap.h"
#include "viz_range.h"

namespace da3::plugin {

enum class VizLayout { depth, side_by_side, overlay };
enum class VizInvert { automatic, no, yes };

struct VizSettings {
  image::Colormap colormap = image::Colormap::spectral;
  VizLayout layout = VizLayout::depth;
  VizInvert invert = VizInvert::automatic;
  double alpha = 0.6;
  OutputSize output_size = OutputSize::source;
  bool legend = true;
  VizRangeSettings range;
};

// Installs the properties with ids from 1 on, all changeable while playing.
void install_viz_properties(GObjectClass* klass);

// FALSE if there is no property of that id.
bool set_viz_property(VizSettings& settings, guint id, const GValue* value);
bool get_viz_property(const VizSettings& settings, guint id, GValue* value);

// TRUE if the size of the output depends on that property.
bool viz_property_changes_size(guint id);

}  // namespace da3::plugin
