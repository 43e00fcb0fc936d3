// SPDX-License-Identifier: MIT
#include "infer_reuse.h"

#include "gst/da3/da3.h"

namespace da3::plugin {
namespace {

constexpr const char* kTensors[] = {GST_DA3_TENSOR_DEPTH, GST_DA3_TENSOR_CONFIDENCE, GST_DA3_TENSOR_SKY};
// Rays hold the pose of their own frame.
constexpr const char* kRays[] = {GST_DA3_TENSOR_RAY, GST_DA3_TENSOR_RAY_CONFIDENCE};

void share_tensor(GstBuffer* from, GstBuffer* to, const char* id) {
  GstDa3Tensor tensor;
  if (!gst_buffer_get_da3_tensor(from, id, &tensor)) return;
  gst_buffer_add_da3_tensor(to, id, gst_buffer_ref(tensor.data), tensor.n_dims, tensor.dims);
}

}  // namespace

void copy_results(GstBuffer* from, GstBuffer* to) {
  GstDa3View view;
  if (!gst_buffer_get_da3_view_by_role(from, GST_DA3_ROLE_PREDICTION, &view)) return;
  for (const char* id : kTensors) share_tensor(from, to, id);
  for (const char* id : kRays) share_tensor(from, to, id);
  gst_buffer_add_da3_view(to, &view);
}

bool reuse_results(GstBuffer* kept, GstBuffer* buffer, gint64 frame) {
  GstDa3View view, own;
  if (!gst_buffer_get_da3_view_by_role(kept, GST_DA3_ROLE_PREDICTION, &view)) return false;
  if (gst_buffer_get_da3_view_by_role(buffer, GST_DA3_ROLE_PREDICTION, &own)) {
    view.source_x = own.source_x;
    view.source_y = own.source_y;
    view.source_w = own.source_w;
    view.source_h = own.source_h;
  }
  view.frame = frame;
  view.stale = TRUE;
  view.has_extrinsics = FALSE;
  for (const char* id : kTensors) share_tensor(kept, buffer, id);
  return gst_buffer_add_da3_view(buffer, &view);
}

}  // namespace da3::plugin
