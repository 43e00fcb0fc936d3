// SPDX-License-Identifier: MIT
#include "common/depth_frame.h"

#include <climits>
#include <cmath>
#include <cstring>
#include <string>

#include "common/guard.h"

namespace da3::plugin {
namespace {

std::string shape_text(const GstDa3Tensor& tensor) {
  std::string text = "[";
  for (guint i = 0; i < tensor.n_dims; ++i) text += (i ? ", " : "") + std::to_string(tensor.dims[i]);
  return text + "]";
}

bool good(double start, double length) {
  return std::isfinite(start) && std::isfinite(length) && length > 0;
}

gboolean copy_plain_meta(GstBuffer* from, GstMeta** meta, gpointer to) {
  const GstMetaInfo* info = (*meta)->info;
  const gchar* const* tags = gst_meta_api_type_get_tags(info->api);
  const bool tensor = strstr(g_type_name(info->api), "Tensor") != nullptr;
  if ((tags && tags[0]) || tensor || !info->transform_func ||
      GST_META_FLAG_IS_SET(*meta, GST_META_FLAG_POOLED))
    return TRUE;
  GstMetaTransformCopy copy = {FALSE, 0, gsize(-1)};
  info->transform_func(GST_BUFFER_CAST(to), *meta, from, _gst_meta_transform_copy, &copy);
  return TRUE;
}

// A prediction's tensor or, on a frame that nobody predicted anything of, what a source knows to be true.
bool find_tensor(GstBuffer* frame, const char* id, GstDa3Tensor* tensor) {
  if (gst_buffer_get_da3_tensor(frame, id, tensor)) return true;
  GstDa3View view;
  if (gst_buffer_get_da3_view_by_role(frame, GST_DA3_ROLE_PREDICTION, &view)) return false;
  return gst_buffer_get_da3_tensor(frame, (std::string(id) + "-truth").c_str(), tensor);
}

}  // namespace

std::optional<MapReader> MapReader::open(GstBuffer* frame, const char* id) {
  GstDa3Tensor tensor;
  if (!find_tensor(frame, id, &tensor)) return std::nullopt;
  const bool shaped = tensor.n_dims == 3 && tensor.dims[0] == 1 && tensor.dims[1] >= 1 &&
                      tensor.dims[2] >= 1 && tensor.dims[1] <= INT_MAX / 8 && tensor.dims[2] <= INT_MAX / 8;
  if (!shaped)
    throw ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
                       std::string("The tensor ") + id + " has the shape " + shape_text(tensor) +
                           "; [1, height, width] is needed.");
  MapReader reader;
  reader.width_ = int(tensor.dims[2]);
  reader.height_ = int(tensor.dims[1]);
  GstMapInfo map = GST_MAP_INFO_INIT;
  if (!gst_buffer_map(tensor.data, &map, GST_MAP_READ))
    throw ElementError(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_READ,
                       std::string("The memory of the tensor ") + id + " cannot be read.");
  reader.buffer_ = gst_buffer_ref(tensor.data);
  reader.map_ = map;
  if (map.size / sizeof(float) < reader.count())
    throw ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
                       std::string("The tensor ") + id + " of shape " + shape_text(tensor) + " holds only " +
                           std::to_string(map.size) + " bytes.");
  return reader;
}

MapReader::MapReader(MapReader&& other) noexcept
    : buffer_(std::exchange(other.buffer_, nullptr)),
      map_(other.map_),
      width_(other.width_),
      height_(other.height_) {}

MapReader::~MapReader() {
  if (!buffer_) return;
  gst_buffer_unmap(buffer_, &map_);
  gst_buffer_unref(buffer_);
}

GstDa3View read_view(GstBuffer* frame) {
  GstDa3View view;
  if (!gst_buffer_get_da3_view(frame, &view)) gst_da3_view_init(&view);
  return view;
}

Region depth_region(const GstDa3View& view, int frame_width, int frame_height) {
  const Region whole{0, 0, double(frame_width), double(frame_height)};
  if (!good(view.depth_x, view.depth_w) || !good(view.depth_y, view.depth_h)) return whole;
  // A scaler that did not rescale the meta leaves the old picture size in it.
  const double sx = view.image_width > 0 ? double(frame_width) / view.image_width : 1;
  const double sy = view.image_height > 0 ? double(frame_height) / view.image_height : 1;
  return {view.depth_x * sx, view.depth_y * sy, view.depth_w * sx, view.depth_h * sy};
}

GstDa3View view_of_map(const GstDa3View& view, int frame_width, int frame_height, int map_width,
                       int map_height) {
  GstDa3View out = view;
  const double image_w = view.image_width > 0 ? view.image_width : frame_width;
  const double image_h = view.image_height > 0 ? view.image_height : frame_height;
  const bool region = good(view.depth_x, view.depth_w) && good(view.depth_y, view.depth_h);
  const Region r = region ? Region{view.depth_x, view.depth_y, view.depth_w, view.depth_h}
                          : Region{0, 0, image_w, image_h};
  const double sx = map_width / r.w, sy = map_height / r.h;
  out.fx = view.fx * sx;
  out.fy = view.fy * sy;
  out.cx = (view.cx - r.x) * sx;
  out.cy = (view.cy - r.y) * sy;
  out.source_x = view.source_x + r.x / image_w * view.source_w;
  out.source_y = view.source_y + r.y / image_h * view.source_h;
  out.source_w = view.source_w * r.w / image_w;
  out.source_h = view.source_h * r.h / image_h;
  out.image_width = map_width;
  out.image_height = map_height;
  out.depth_x = out.depth_y = 0;
  out.depth_w = map_width;
  out.depth_h = map_height;
  out.processed = TRUE;
  return out;
}

void copy_frame_properties(GstBuffer* from, GstBuffer* to) {
  gst_buffer_copy_into(to, from, GstBufferCopyFlags(GST_BUFFER_COPY_FLAGS | GST_BUFFER_COPY_TIMESTAMPS), 0,
                       gsize(-1));
  gst_buffer_foreach_meta(from, copy_plain_meta, to);
}

}  // namespace da3::plugin
