// SPDX-License-Identifier: MIT
//
// da3preprocess: any raw video -> RGB at the size at which the network sees it.
#pragma once

#include <gst/base/gstbasetransform.h>

G_BEGIN_DECLS

#define GST_TYPE_DA3_PREPROCESS (gst_da3_preprocess_get_type())
G_DECLARE_FINAL_TYPE(GstDa3Preprocess, gst_da3_preprocess, GST, DA3_PREPROCESS, GstBaseTransform)

G_END_DECLS
