// SPDX-License-Identifier: MIT
//
// Whether a buffer holds the picture that its video meta and the caps speak of.
#pragma once

#include <gst/video/gstvideometa.h>
#include <gst/video/video.h>

namespace da3::plugin {

// A video meta overrides the layout of the caps. It may say that more is stored (a decoder's padding on the
// right and below) and that rows go upwards, not that there is less or something else: another format, a
// smaller picture, rows that overlap or planes that leave the `size` bytes of the buffer.
// gst_video_frame_map() only looks at where a plane begins. Tiles are taken as they are.
bool layout_is_sound(const GstVideoMeta& meta, const GstVideoInfo& info, gsize size);

}  // namespace da3::plugin
