/* SPDX-License-Identifier: MIT
 *
 * The view meta: what is known about the camera and the depth of one video frame. Scalars only.
 *
 * It is stored in a registered GstCustomMeta named "GstDa3ViewMeta" with flat fields of the same names as below
 * (matrices as r00..r22, t0..t2), so that bindings without this library can read it:
 *   Python:  buf.get_custom_meta('GstDa3ViewMeta').get_structure().get_double('fx')
 * The meta is tagged video, size and orientation; a scaler keeps it and K, image size and depth region are
 * rescaled; elements that crop or turn a picture drop it.
 *
 * Axes: OpenCV camera (x right, y down, z forward). Pixels: origin at the top left corner of the top left pixel.
 */
#ifndef GST_DA3_VIEW_H
#define GST_DA3_VIEW_H

#include <gst/gst.h>

#include <gst/da3/da3api.h>

G_BEGIN_DECLS

#define GST_DA3_VIEW_META_NAME "GstDa3ViewMeta"
#define GST_DA3_VIEW_VERSION 1

/**
 * GstDa3DepthKind:
 * @GST_DA3_DEPTH_KIND_NONE: no depth is attached
 * @GST_DA3_DEPTH_KIND_RELATIVE: depth up to an unknown scale
 * @GST_DA3_DEPTH_KIND_METRIC: depth in units of `unit_scale` metres
 */
typedef enum {
  GST_DA3_DEPTH_KIND_NONE = 0,
  GST_DA3_DEPTH_KIND_RELATIVE = 1,
  GST_DA3_DEPTH_KIND_METRIC = 2
} GstDa3DepthKind;

/**
 * GstDa3Role:
 * @GST_DA3_ROLE_PREDICTION: written by a network
 * @GST_DA3_ROLE_TRUTH: written by a source that knows
 */
typedef enum { GST_DA3_ROLE_PREDICTION = 0, GST_DA3_ROLE_TRUTH = 1 } GstDa3Role;

/* Statistics of one plane of this frame; all zero when `valid_fraction` is 0. */
typedef struct {
  gdouble min, max, median, p2, p98; /* percentiles by linear interpolation, over finite values > 0 */
  gdouble valid_fraction;            /* share of such values, 0..1 */
} GstDa3Stats;

typedef struct {
  gint version;        /* GST_DA3_VIEW_VERSION */
  GstDa3Role role;
  gint64 frame;        /* number of this frame in its stream, from 0 */
  gint64 window;       /* number of the group of views that was inferred together, from 0 */
  gint view_index;     /* position in that group */
  gint views;          /* size of that group; 1 = monocular */

  gint image_width;    /* size of the image that K and the regions belong to [px]: this buffer's picture */
  gint image_height;
  gboolean processed;  /* TRUE: this picture already has the process size (da3preprocess made it) */

  /* Which part of the original picture this image shows [px of the original]. */
  gint source_width, source_height;
  gdouble source_x, source_y, source_w, source_h;
  /* Which part of this image the depth map covers [px of this image]; w = 0: no depth yet. */
  gdouble depth_x, depth_y, depth_w, depth_h;

  gboolean has_intrinsics;
  gdouble fx, fy, cx, cy; /* [px of this image], skew 0 */
  gboolean has_extrinsics;
  gdouble rotation[9];    /* world to camera, row-major */
  gdouble translation[3]; /* world to camera, in depth units */

  GstDa3DepthKind kind;
  gdouble unit_scale;  /* metres per depth unit when metric, else 0 */
  GstDa3Stats depth;
  GstDa3Stats confidence; /* values are >= 1 */
  gboolean has_sky;
  gdouble sky_fraction; /* share of pixels with sky >= 0.3 */

  gchar model[64];        /* configuration name, e.g. "da3-small" */
  gchar weights_hash[17]; /* 16 hexadecimal digits */
  gchar device[16];
  gchar precision[8];
  gint batch;             /* how many items shared the forward pass */
  gint64 queued_ns;       /* waited for the engine */
  gint64 inference_ns;    /* time of that forward pass */
  gboolean stale;         /* TRUE: depth of an earlier frame (da3infer on-drop=reuse), never with a pose */
} GstDa3View;

/* Registers the meta; idempotent, thread-safe. The functions below call it. */
GST_DA3_API void gst_da3_view_register (void);

/* Sets every field to "unknown" (zero, version set, kind none, views 1). */
GST_DA3_API void gst_da3_view_init (GstDa3View *view);

/* Attaches a copy of @view, replacing a view meta of the same role. @buffer must be writable. Returns FALSE (and
 * warns) if it is not. */
GST_DA3_API gboolean gst_buffer_add_da3_view (GstBuffer *buffer, const GstDa3View *view);

/* Copies the view meta of role prediction (or, if there is none, the first one) to @view. FALSE if there is none. */
GST_DA3_API gboolean gst_buffer_get_da3_view (GstBuffer *buffer, GstDa3View *view);

/* The same for one role. */
GST_DA3_API gboolean gst_buffer_get_da3_view_by_role (GstBuffer *buffer, GstDa3Role role, GstDa3View *view);

G_END_DECLS
#endif
