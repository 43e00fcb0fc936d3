// SPDX-License-Identifier: MIT
//
// da3depthviz: depth as colours for people. Depth for machines is da3extract's.
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

#define GST_TYPE_DA3_DEPTH_VIZ (gst_da3_depth_viz_get_type())
G_DECLARE_FINAL_TYPE(GstDa3DepthViz, gst_da3_depth_viz, GST, DA3_DEPTH_VIZ, GstElement)

G_END_DECLS
