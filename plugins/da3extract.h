// SPDX-License-Identifier: MIT
//
// da3extract: depth, disparity, confidence and sky as grey video for machines. Colours for people are
// da3depthviz's.
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

#define GST_TYPE_DA3_EXTRACT (gst_da3_extract_get_type())
G_DECLARE_FINAL_TYPE(GstDa3Extract, gst_da3_extract, GST, DA3_EXTRACT, GstElement)

G_END_DECLS
