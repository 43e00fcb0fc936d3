// SPDX-License-Identifier: MIT
#pragma once

#include <gst/base/gstbasetransform.h>

G_BEGIN_DECLS

#define GST_TYPE_DA3_SCORE (gst_da3_score_get_type())
G_DECLARE_FINAL_TYPE(GstDa3Score, gst_da3_score, GST, DA3_SCORE, GstBaseTransform)

G_END_DECLS
