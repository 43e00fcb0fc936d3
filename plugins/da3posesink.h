// SPDX-License-Identifier: MIT
#pragma once

#include <gst/base/gstbasesink.h>

G_BEGIN_DECLS

#define GST_TYPE_DA3_POSE_SINK (gst_da3_pose_sink_get_type())
G_DECLARE_FINAL_TYPE(GstDa3PoseSink, gst_da3_pose_sink, GST, DA3_POSE_SINK, GstBaseSink)

G_END_DECLS
