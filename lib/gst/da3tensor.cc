// SPDX-License-Identifier: MIT
//
// The one place that knows where tensors are stored: GstTensorMeta from GStreamer 1.28 on, an own meta
// before.
#include "gst/da3/da3tensor.h"

#include <gst/video/video.h>

#if GST_CHECK_VERSION(1, 28, 0) && defined(HAVE_GST_ANALYTICS)
#define DA3_USE_GST_TENSOR 1
#include <gst/analytics/analytics.h>
#else
#define DA3_USE_GST_TENSOR 0
#endif

namespace {

constexpr guint kMaxDims = GST_DA3_TENSOR_MAX_DIMS;

// TRUE if `data` holds exactly product(dims) floats; dims of 0 and products beyond gsize are refused.
bool size_matches(GstBuffer* data, guint n_dims, const gsize* dims) {
  if (n_dims == 0 || n_dims > kMaxDims || !dims) return false;
  gsize bytes = sizeof(gfloat);
  for (guint i = 0; i < n_dims; ++i) {
    if (dims[i] == 0 || !g_size_checked_mul(&bytes, bytes, dims[i])) return false;
  }
  return gst_buffer_get_size(data) == bytes;
}

#if DA3_USE_GST_TENSOR

bool is_ours(const GstTensor* tensor) {
  const gchar* id = g_quark_to_string(tensor->id);
  return id && g_str_has_prefix(id, "da3-");
}

GstTensorMeta* next_meta(GstBuffer* buffer, gpointer* state) {
  return reinterpret_cast<GstTensorMeta*>(
      gst_buffer_iterate_meta_filtered(buffer, state, gst_tensor_meta_api_get_type()));
}

// All our tensors share one meta; those of other elements stay in theirs.
GstTensorMeta* our_meta(GstBuffer* buffer) {
  gpointer state = nullptr;
  while (GstTensorMeta* meta = next_meta(buffer, &state)) {
    for (gsize i = 0; i < meta->num_tensors; ++i) {
      if (is_ours(meta->tensors[i])) return meta;
    }
  }
  // Not gst_buffer_add_tensor_meta(): early versions hand out the meta of another element.
  return reinterpret_cast<GstTensorMeta*>(gst_buffer_add_meta(buffer, gst_tensor_meta_get_info(), nullptr));
}

gboolean attach(GstBuffer* buffer, GQuark id, GstBuffer* data, guint n_dims, const gsize* dims) {
  GstTensorMeta* meta = our_meta(buffer);
  GstTensor* tensor = gst_tensor_new_simple(id, GST_TENSOR_DATA_TYPE_FLOAT32, data,
                                            GST_TENSOR_DIM_ORDER_ROW_MAJOR, n_dims, const_cast<gsize*>(dims));
  if (!meta || !tensor) {
    if (tensor) {
      gst_tensor_free(tensor);
    } else {
      gst_buffer_unref(data);
    }
    return FALSE;
  }
  GstTensor** tensors = g_new(GstTensor*, meta->num_tensors + 1);
  guint count = 0;
  for (gsize i = 0; i < meta->num_tensors; ++i) {
    if (meta->tensors[i]->id != id) tensors[count++] = gst_tensor_copy(meta->tensors[i]);
  }
  tensors[count++] = tensor;
  gst_tensor_meta_set(meta, count, tensors);
  return TRUE;
}

gboolean lookup(GstBuffer* buffer, GQuark id, GstDa3Tensor* out) {
  gpointer state = nullptr;
  while (GstTensorMeta* meta = next_meta(buffer, &state)) {
    for (gsize i = 0; i < meta->num_tensors; ++i) {
      const GstTensor* tensor = meta->tensors[i];
      if (tensor->id != id || tensor->data_type != GST_TENSOR_DATA_TYPE_FLOAT32 ||
          tensor->dims_order != GST_TENSOR_DIM_ORDER_ROW_MAJOR || tensor->num_dims > kMaxDims) {
        continue;
      }
      out->data = tensor->data;
      out->n_dims = static_cast<guint>(tensor->num_dims);
      for (gsize d = 0; d < tensor->num_dims; ++d) out->dims[d] = tensor->dims[d];
      return TRUE;
    }
  }
  return FALSE;
}

#else

struct TensorMeta {
  GstMeta meta;
  GQuark id;
  GstBuffer* data;
  guint n_dims;
  gsize dims[kMaxDims];
};

gboolean meta_init(GstMeta* meta, gpointer, GstBuffer*) {
  auto* self = reinterpret_cast<TensorMeta*>(meta);
  self->id = 0;
  self->data = nullptr;
  self->n_dims = 0;
  for (gsize& dim : self->dims) dim = 0;
  return TRUE;
}

void meta_free(GstMeta* meta, GstBuffer*) {
  gst_clear_buffer(&reinterpret_cast<TensorMeta*>(meta)->data);
}

gboolean meta_transform(GstBuffer* target, GstMeta* meta, GstBuffer* source, GQuark type, gpointer data);

GType meta_api() {
  static gsize once = 0;
  if (g_once_init_enter(&once)) {
    const gchar* tags[] = {GST_META_TAG_VIDEO_STR, GST_META_TAG_VIDEO_SIZE_STR,
                           GST_META_TAG_VIDEO_ORIENTATION_STR, nullptr};
    g_once_init_leave(&once, gst_meta_api_type_register("GstDa3TensorMetaAPI", tags));
  }
  return once;
}

const GstMetaInfo* meta_info() {
  static gsize once = 0;
  if (g_once_init_enter(&once)) {
    const GstMetaInfo* info = gst_meta_register(meta_api(), "GstDa3TensorMeta", sizeof(TensorMeta), meta_init,
                                                meta_free, meta_transform);
    g_once_init_leave(&once, reinterpret_cast<gsize>(info));
  }
  return reinterpret_cast<const GstMetaInfo*>(once);
}

TensorMeta* find_meta(GstBuffer* buffer, GQuark id) {
  gpointer state = nullptr;
  while (GstMeta* meta = gst_buffer_iterate_meta_filtered(buffer, &state, meta_api())) {
    auto* tensor = reinterpret_cast<TensorMeta*>(meta);
    if (tensor->id == id) return tensor;
  }
  return nullptr;
}

gboolean attach(GstBuffer* buffer, GQuark id, GstBuffer* data, guint n_dims, const gsize* dims) {
  if (TensorMeta* old = find_meta(buffer, id)) gst_buffer_remove_meta(buffer, &old->meta);
  auto* meta = reinterpret_cast<TensorMeta*>(gst_buffer_add_meta(buffer, meta_info(), nullptr));
  if (!meta) {
    gst_buffer_unref(data);
    return FALSE;
  }
  meta->id = id;
  meta->data = data;
  meta->n_dims = n_dims;
  for (guint i = 0; i < n_dims; ++i) meta->dims[i] = dims[i];
  return TRUE;
}

// The map has its own size, so scaling the picture does not touch it; it is shared, never duplicated. What
// crops or turns a picture, or copies a part of a buffer, drops it together with the view meta.
gboolean meta_transform(GstBuffer* target, GstMeta* meta, GstBuffer*, GQuark type, gpointer data) {
  const bool copy = GST_META_TRANSFORM_IS_COPY(type) && !static_cast<GstMetaTransformCopy*>(data)->region;
  if (!copy && !GST_VIDEO_META_TRANSFORM_IS_SCALE(type)) return FALSE;
  auto* self = reinterpret_cast<TensorMeta*>(meta);
  if (!self->data) return FALSE;
  return attach(target, self->id, gst_buffer_ref(self->data), self->n_dims, self->dims);
}

gboolean lookup(GstBuffer* buffer, GQuark id, GstDa3Tensor* out) {
  const TensorMeta* meta = find_meta(buffer, id);
  if (!meta) return FALSE;
  out->data = meta->data;
  out->n_dims = meta->n_dims;
  for (guint i = 0; i < kMaxDims; ++i) out->dims[i] = meta->dims[i];
  return TRUE;
}

#endif

}  // namespace

gboolean gst_buffer_add_da3_tensor(GstBuffer* buffer, const gchar* id, GstBuffer* data, guint n_dims,
                                   const gsize* dims) {
  g_return_val_if_fail(GST_IS_BUFFER(data), FALSE);
  if (!GST_IS_BUFFER(buffer) || !id || !*id || !gst_buffer_is_writable(buffer) ||
      !size_matches(data, n_dims, dims)) {
    g_warning(
        "Tensor '%s' not added: the buffer must be writable and the data must hold product(dims) * 4 bytes.",
        id ? id : "(null)");
    gst_buffer_unref(data);
    return FALSE;
  }
  return attach(buffer, g_quark_from_string(id), data, n_dims, dims);
}

gboolean gst_buffer_get_da3_tensor(GstBuffer* buffer, const gchar* id, GstDa3Tensor* tensor) {
  g_return_val_if_fail(GST_IS_BUFFER(buffer), FALSE);
  g_return_val_if_fail(id != nullptr, FALSE);
  g_return_val_if_fail(tensor != nullptr, FALSE);
  *tensor = GstDa3Tensor{};
  const GQuark quark = g_quark_try_string(id);
  return quark != 0 && lookup(buffer, quark, tensor);
}
