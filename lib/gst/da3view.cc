// SPDX-License-Identifier: MIT
#include "gst/da3/da3view.h"

#include <gst/video/video.h>

#include <cmath>
#include <cstddef>
#include <cstring>

namespace {

// One row per field of the structure; reading, writing and defaults all walk this table.
enum class Kind { integer, enumeration, integer64, boolean, number, text };

struct Field {
  const char* name;
  Kind kind;
  size_t offset;
  size_t size;
};

#define DA3_FIELD(kind, member) \
  { #member, Kind::kind, offsetof(GstDa3View, member), sizeof(GstDa3View::member) }
#define DA3_NAMED(name, kind, member) \
  { name, Kind::kind, offsetof(GstDa3View, member), sizeof(double) }
#define DA3_STATS(prefix)                                                                               \
  DA3_NAMED(#prefix "_min", number, prefix.min), DA3_NAMED(#prefix "_max", number, prefix.max),         \
      DA3_NAMED(#prefix "_median", number, prefix.median), DA3_NAMED(#prefix "_p2", number, prefix.p2), \
      DA3_NAMED(#prefix "_p98", number, prefix.p98),                                                    \
      DA3_NAMED(#prefix "_valid_fraction", number, prefix.valid_fraction)

const Field kFields[] = {
    DA3_FIELD(integer, version),
    DA3_FIELD(enumeration, role),
    DA3_FIELD(integer64, frame),
    DA3_FIELD(integer64, window),
    DA3_FIELD(integer, view_index),
    DA3_FIELD(integer, views),
    DA3_FIELD(integer, image_width),
    DA3_FIELD(integer, image_height),
    DA3_FIELD(boolean, processed),
    DA3_FIELD(integer, source_width),
    DA3_FIELD(integer, source_height),
    DA3_FIELD(number, source_x),
    DA3_FIELD(number, source_y),
    DA3_FIELD(number, source_w),
    DA3_FIELD(number, source_h),
    DA3_FIELD(number, depth_x),
    DA3_FIELD(number, depth_y),
    DA3_FIELD(number, depth_w),
    DA3_FIELD(number, depth_h),
    DA3_FIELD(boolean, has_intrinsics),
    DA3_FIELD(number, fx),
    DA3_FIELD(number, fy),
    DA3_FIELD(number, cx),
    DA3_FIELD(number, cy),
    DA3_FIELD(boolean, has_extrinsics),
    DA3_NAMED("r00", number, rotation[0]),
    DA3_NAMED("r01", number, rotation[1]),
    DA3_NAMED("r02", number, rotation[2]),
    DA3_NAMED("r10", number, rotation[3]),
    DA3_NAMED("r11", number, rotation[4]),
    DA3_NAMED("r12", number, rotation[5]),
    DA3_NAMED("r20", number, rotation[6]),
    DA3_NAMED("r21", number, rotation[7]),
    DA3_NAMED("r22", number, rotation[8]),
    DA3_NAMED("t0", number, translation[0]),
    DA3_NAMED("t1", number, translation[1]),
    DA3_NAMED("t2", number, translation[2]),
    DA3_FIELD(enumeration, kind),
    DA3_FIELD(number, unit_scale),
    DA3_STATS(depth),
    DA3_STATS(confidence),
    DA3_FIELD(boolean, has_sky),
    DA3_FIELD(number, sky_fraction),
    DA3_FIELD(text, model),
    DA3_FIELD(text, weights_hash),
    DA3_FIELD(text, device),
    DA3_FIELD(text, precision),
    DA3_FIELD(integer, batch),
    DA3_FIELD(integer64, queued_ns),
    DA3_FIELD(integer64, inference_ns),
    DA3_FIELD(boolean, stale),
};

static_assert(sizeof(GstDa3Role) == sizeof(gint) && sizeof(GstDa3DepthKind) == sizeof(gint));

template <typename T>
T load(const GstDa3View& view, const Field& field) {
  T value;
  std::memcpy(&value, reinterpret_cast<const char*>(&view) + field.offset, sizeof(T));
  return value;
}

template <typename T>
void store(GstDa3View& view, const Field& field, T value) {
  std::memcpy(reinterpret_cast<char*>(&view) + field.offset, &value, sizeof(T));
}

void write_field(GstStructure* structure, const GstDa3View& view, const Field& field) {
  switch (field.kind) {
    case Kind::integer:
    case Kind::enumeration:
      gst_structure_set(structure, field.name, G_TYPE_INT, load<gint>(view, field), nullptr);
      break;
    case Kind::integer64:
      gst_structure_set(structure, field.name, G_TYPE_INT64, load<gint64>(view, field), nullptr);
      break;
    case Kind::boolean:
      gst_structure_set(structure, field.name, G_TYPE_BOOLEAN, load<gboolean>(view, field) != FALSE, nullptr);
      break;
    case Kind::number:
      gst_structure_set(structure, field.name, G_TYPE_DOUBLE, load<gdouble>(view, field), nullptr);
      break;
    case Kind::text: {
      // The array of a foreign caller may lack its terminator, and GStreamer wants UTF-8.
      char* text = g_strndup(reinterpret_cast<const char*>(&view) + field.offset, field.size - 1);
      char* valid = g_utf8_make_valid(text, -1);
      gst_structure_set(structure, field.name, G_TYPE_STRING, valid, nullptr);
      g_free(valid);
      g_free(text);
      break;
    }
  }
}

// A field that is absent or of another type leaves the default: a newer or foreign writer must not break a
// reader.
void read_field(const GstStructure* structure, GstDa3View& view, const Field& field) {
  switch (field.kind) {
    case Kind::integer:
    case Kind::enumeration:
      if (gint value; gst_structure_get_int(structure, field.name, &value)) store(view, field, value);
      break;
    case Kind::integer64:
      if (gint64 value; gst_structure_get_int64(structure, field.name, &value)) store(view, field, value);
      break;
    case Kind::boolean:
      if (gboolean value; gst_structure_get_boolean(structure, field.name, &value)) store(view, field, value);
      break;
    case Kind::number:
      if (gdouble value; gst_structure_get_double(structure, field.name, &value)) store(view, field, value);
      break;
    case Kind::text:
      if (const char* value = gst_structure_get_string(structure, field.name)) {
        g_strlcpy(reinterpret_cast<char*>(&view) + field.offset, value, field.size);
      }
      break;
  }
}

GstDa3View read_view(const GstStructure* structure) {
  GstDa3View view;
  gst_da3_view_init(&view);
  for (const Field& field : kFields) read_field(structure, view, field);
  return view;
}

gint role_of(GstCustomMeta* meta) {
  gint role = GST_DA3_ROLE_PREDICTION;
  gst_structure_get_int(gst_custom_meta_get_structure(meta), "role", &role);
  return role;
}

// The first view meta of `role` (any role if negative), or null.
GstCustomMeta* find_meta(GstBuffer* buffer, gint role) {
  gst_da3_view_register();
  const GstMetaInfo* info = gst_meta_get_info(GST_DA3_VIEW_META_NAME);
  gpointer state = nullptr;
  while (GstMeta* meta = gst_buffer_iterate_meta_filtered(buffer, &state, info->api)) {
    auto* custom = reinterpret_cast<GstCustomMeta*>(meta);
    if (role < 0 || role_of(custom) == role) return custom;
  }
  return nullptr;
}

GstStructure* replace_meta(GstBuffer* buffer, gint role) {
  while (GstCustomMeta* old = find_meta(buffer, role)) {
    if (!gst_buffer_remove_meta(buffer, &old->meta)) return nullptr;
  }
  GstCustomMeta* meta = gst_buffer_add_custom_meta(buffer, GST_DA3_VIEW_META_NAME);
  return meta ? gst_custom_meta_get_structure(meta) : nullptr;
}

gboolean copy_one(GQuark id, const GValue* value, gpointer target) {
  gst_structure_id_set_value(static_cast<GstStructure*>(target), id, value);
  return TRUE;
}

int scaled(int length, int in, int out) {
  if (length == in || in <= 0) return out;
  return static_cast<int>(std::lround(double(length) * out / in));
}

void rescale(GstStructure* structure, const GstVideoMetaTransform& scale) {
  const GstVideoInfo* in = scale.in_info;
  const GstVideoInfo* out = scale.out_info;
  const int in_w = GST_VIDEO_INFO_WIDTH(in), in_h = GST_VIDEO_INFO_HEIGHT(in);
  const int out_w = GST_VIDEO_INFO_WIDTH(out), out_h = GST_VIDEO_INFO_HEIGHT(out);
  if (in_w <= 0 || in_h <= 0 || (in_w == out_w && in_h == out_h)) return;
  const double x = double(out_w) / in_w, y = double(out_h) / in_h;
  GstDa3View view = read_view(structure);
  gst_structure_set(structure,                                                           //
                    "image_width", G_TYPE_INT, scaled(view.image_width, in_w, out_w),    //
                    "image_height", G_TYPE_INT, scaled(view.image_height, in_h, out_h),  //
                    "fx", G_TYPE_DOUBLE, view.fx * x, "cx", G_TYPE_DOUBLE, view.cx * x,  //
                    "fy", G_TYPE_DOUBLE, view.fy * y, "cy", G_TYPE_DOUBLE, view.cy * y,  //
                    "depth_x", G_TYPE_DOUBLE, view.depth_x * x, "depth_w", G_TYPE_DOUBLE, view.depth_w * x,
                    "depth_y", G_TYPE_DOUBLE, view.depth_y * y, "depth_h", G_TYPE_DOUBLE, view.depth_h * y,
                    "processed", G_TYPE_BOOLEAN, FALSE, nullptr);
}

// Copies whole pictures and scaled ones; anything else (crop, turn, part of a buffer) makes the numbers
// wrong.
gboolean transform(GstBuffer* target, GstCustomMeta* meta, GstBuffer*, GQuark type, gpointer data, gpointer) {
  const bool copy = GST_META_TRANSFORM_IS_COPY(type) && !static_cast<GstMetaTransformCopy*>(data)->region;
  const bool scale = GST_VIDEO_META_TRANSFORM_IS_SCALE(type);
  if (!copy && !scale) return FALSE;
  GstStructure* structure = replace_meta(target, role_of(meta));
  if (!structure) return FALSE;
  gst_structure_foreach(gst_custom_meta_get_structure(meta), copy_one, structure);
  if (scale) rescale(structure, *static_cast<GstVideoMetaTransform*>(data));
  return TRUE;
}

}  // namespace

void gst_da3_view_register(void) {
  static gsize once = 0;
  if (!g_once_init_enter(&once)) return;
  const gchar* tags[] = {GST_META_TAG_VIDEO_STR, GST_META_TAG_VIDEO_SIZE_STR,
                         GST_META_TAG_VIDEO_ORIENTATION_STR, nullptr};
  gst_meta_register_custom(GST_DA3_VIEW_META_NAME, tags, transform, nullptr, nullptr);
  g_once_init_leave(&once, 1);
}

void gst_da3_view_init(GstDa3View* view) {
  g_return_if_fail(view != nullptr);
  *view = GstDa3View{};
  view->version = GST_DA3_VIEW_VERSION;
  view->views = 1;
}

gboolean gst_buffer_add_da3_view(GstBuffer* buffer, const GstDa3View* view) {
  g_return_val_if_fail(GST_IS_BUFFER(buffer), FALSE);
  g_return_val_if_fail(view != nullptr, FALSE);
  if (!gst_buffer_is_writable(buffer)) {
    g_warning("A view meta cannot be added to a buffer that is not writable.");
    return FALSE;
  }
  GstStructure* structure = replace_meta(buffer, view->role);
  if (!structure) return FALSE;
  for (const Field& field : kFields) write_field(structure, *view, field);
  return TRUE;
}

gboolean gst_buffer_get_da3_view_by_role(GstBuffer* buffer, GstDa3Role role, GstDa3View* view) {
  g_return_val_if_fail(GST_IS_BUFFER(buffer), FALSE);
  g_return_val_if_fail(view != nullptr, FALSE);
  GstCustomMeta* meta = find_meta(buffer, role);
  if (!meta) return FALSE;
  *view = read_view(gst_custom_meta_get_structure(meta));
  return TRUE;
}

gboolean gst_buffer_get_da3_view(GstBuffer* buffer, GstDa3View* view) {
  g_return_val_if_fail(GST_IS_BUFFER(buffer), FALSE);
  g_return_val_if_fail(view != nullptr, FALSE);
  GstCustomMeta* meta = find_meta(buffer, GST_DA3_ROLE_PREDICTION);
  if (!meta) meta = find_meta(buffer, -1);
  if (!meta) return FALSE;
  *view = read_view(gst_custom_meta_get_structure(meta));
  return TRUE;
}
