// SPDX-License-Identifier: MIT
//
// GEnum types of properties that more than one element has. Nicks are what gst-launch-1.0 takes.
#pragma once

#include <glib-object.h>

#include "engine/api/engine.h"
#include "image/process_size.h"

G_BEGIN_DECLS

// Values are those of da3::image::ProcessResMethod; nicks upper_bound_resize, upper_bound_crop,
// lower_bound_resize, lower_bound_crop as upstream spells them.
#define GST_TYPE_DA3_PROCESS_RES_METHOD (gst_da3_process_res_method_get_type())
GType gst_da3_process_res_method_get_type(void);

// Values of Da3Precision; nicks auto, fp32, fp16, bf16, int8.
#define GST_TYPE_DA3_PRECISION (gst_da3_precision_get_type())
GType gst_da3_precision_get_type(void);

// Values of Da3Attention; nicks auto, plain, fused, flash, efficient, cudnn.
#define GST_TYPE_DA3_ATTENTION (gst_da3_attention_get_type())
GType gst_da3_attention_get_type(void);

// Values of Da3PerformanceMode; nicks balanced, minimal, max.
#define GST_TYPE_DA3_PERFORMANCE_MODE (gst_da3_performance_mode_get_type())
GType gst_da3_performance_mode_get_type(void);

// Values of Da3RefViewStrategy; nicks first, middle, saddle_balanced, saddle_sim_range.
#define GST_TYPE_DA3_REF_VIEW_STRATEGY (gst_da3_ref_view_strategy_get_type())
GType gst_da3_ref_view_strategy_get_type(void);

G_END_DECLS
