// SPDX-License-Identifier: MIT
#include "common/video_layout.h"

#include <algorithm>
#include <cstdlib>

namespace da3::plugin {
namespace {

bool component_is_sound(const GstVideoMeta& meta, const GstVideoInfo& info, guint component, gsize size) {
  const GstVideoFormatInfo* format = info.finfo;
  const guint plane = GST_VIDEO_FORMAT_INFO_PLANE(format, component);
  if (plane >= meta.n_planes || meta.offset[plane] > size) return false;
  // A palette is no picture: 256 colours of four bytes, whatever the size.
  constexpr gsize kPaletteBytes = 256 * 4;
  if (GST_VIDEO_FORMAT_INFO_HAS_PALETTE(format) && component == GST_VIDEO_COMP_PALETTE)
    return meta.offset[plane] + kPaletteBytes <= size;
  const gint64 rows = GST_VIDEO_FORMAT_INFO_SCALE_HEIGHT(format, component, GST_VIDEO_INFO_HEIGHT(&info));
  const gint64 columns = GST_VIDEO_FORMAT_INFO_SCALE_WIDTH(format, component, GST_VIDEO_INFO_WIDTH(&info));
  // Packed formats without whole bytes per pixel have no pixel stride: then the beginning of the last row
  // counts.
  const gint64 row = std::max<gint64>(1, columns * GST_VIDEO_FORMAT_INFO_PSTRIDE(format, component));
  const gint64 stride = meta.stride[plane], first = gint64(meta.offset[plane]),
               last = first + (rows - 1) * stride;
  return std::abs(stride) >= row && std::min(first, last) >= 0 && std::max(first, last) + row <= gint64(size);
}

}  // namespace

bool layout_is_sound(const GstVideoMeta& meta, const GstVideoInfo& info, gsize size) {
  if (meta.format != GST_VIDEO_INFO_FORMAT(&info) || int(meta.width) < GST_VIDEO_INFO_WIDTH(&info) ||
      int(meta.height) < GST_VIDEO_INFO_HEIGHT(&info)) {
    return false;
  }
  if (GST_VIDEO_FORMAT_INFO_IS_TILED(info.finfo)) return true;
  for (guint i = 0; i < GST_VIDEO_INFO_N_COMPONENTS(&info); ++i) {
    if (!component_is_sound(meta, info, i, size)) return false;
  }
  return true;
}

}  // namespace da3::plugin
