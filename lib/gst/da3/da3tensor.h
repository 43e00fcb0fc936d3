/* SPDX-License-Identifier: MIT
 *
 * Dense results attached to a video frame: float32, row-major (C order), native endianness.
 *
 *   id                dims            value
 *   da3-depth         1, H, W         z-depth; metres when the view meta says metric, else relative
 *   da3-confidence    1, H, W         >= 1, no upper bound
 *   da3-sky           1, H, W         >= 0; sky from 0.3 up
 *   da3-ray           1, h, w, 6      ray direction (x, y, z) and origin (x, y, z) in the world frame
 *   da3-ray-confidence 1, h, w        >= 1
 * Truth from a source that knows has the same ids with "-truth" appended.
 *
 * On GStreamer >= 1.28 they are stored as GstTensorMeta, before that as a meta of this library (the GstTensorMeta of
 * 1.26 does not survive a copy of the buffer); the functions below hide which. The map has the process size, not the
 * size of the frame; the view meta says which part of the frame it covers.
 */
#ifndef GST_DA3_TENSOR_H
#define GST_DA3_TENSOR_H

#include <gst/gst.h>

#include <gst/da3/da3api.h>

G_BEGIN_DECLS

#define GST_DA3_TENSOR_DEPTH "da3-depth"
#define GST_DA3_TENSOR_CONFIDENCE "da3-confidence"
#define GST_DA3_TENSOR_SKY "da3-sky"
#define GST_DA3_TENSOR_RAY "da3-ray"
#define GST_DA3_TENSOR_RAY_CONFIDENCE "da3-ray-confidence"

#define GST_DA3_TENSOR_MAX_DIMS 4

typedef struct {
  GstBuffer *data; /* borrowed from the meta: gst_buffer_ref() to keep it beyond the frame */
  guint n_dims;
  gsize dims[GST_DA3_TENSOR_MAX_DIMS];
} GstDa3Tensor;

/* Attaches @data (transfer full) under @id; a tensor of the same id is replaced. @data must hold product(dims) * 4
 * bytes. @buffer must be writable. On FALSE (wrong size, not writable) @data is released. */
GST_DA3_API gboolean gst_buffer_add_da3_tensor (GstBuffer *buffer, const gchar *id, GstBuffer *data, guint n_dims,
                                                const gsize *dims);

/* FALSE if there is no tensor of that id. */
GST_DA3_API gboolean gst_buffer_get_da3_tensor (GstBuffer *buffer, const gchar *id, GstDa3Tensor *tensor);

G_END_DECLS
#endif
