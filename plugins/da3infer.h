// SPDX-License-Identifier: MIT
//
// da3infer: depth, confidence, sky and camera of every video frame by a Depth Anything 3 model.
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

#define GST_TYPE_DA3_INFER (gst_da3_infer_get_type())
G_DECLARE_FINAL_TYPE(GstDa3Infer, gst_da3_infer, GST, DA3_INFER, GstElement)

G_END_DECLS
