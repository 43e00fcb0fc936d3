// SPDX-License-Identifier: MIT
//
// A video frame that is mapped as long as this object lives.
#pragma once

#include <gst/video/gstvideometa.h>
#include <gst/video/video.h>

#include <string>

#include "common/guard.h"
#include "common/video_layout.h"

namespace da3::plugin {

class MappedFrame {
 public:
  // Throws ElementError (STREAM/FORMAT) if the buffer is not what `info`, the caps, promise: too small, or
  // with a video meta that says otherwise.
  MappedFrame(GstBuffer* buffer, const GstVideoInfo& info, GstMapFlags flags) {
    if (!is_sound(buffer, info) || !gst_video_frame_map(&frame_, &info, buffer, flags)) {
      throw ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
                         "A buffer of " + std::to_string(gst_buffer_get_size(buffer)) + " bytes is no " +
                             GST_VIDEO_INFO_NAME(&info) + " frame of " +
                             std::to_string(GST_VIDEO_INFO_WIDTH(&info)) + "x" +
                             std::to_string(GST_VIDEO_INFO_HEIGHT(&info)) + " pixels (" +
                             std::to_string(GST_VIDEO_INFO_SIZE(&info)) + " bytes), as the caps promise.");
    }
    // Of a larger one that is stored.
    frame_.info.width = GST_VIDEO_INFO_WIDTH(&info);
    frame_.info.height = GST_VIDEO_INFO_HEIGHT(&info);
  }
  ~MappedFrame() { gst_video_frame_unmap(&frame_); }
  MappedFrame(const MappedFrame&) = delete;
  MappedFrame& operator=(const MappedFrame&) = delete;

  GstVideoFrame* get() { return &frame_; }

 private:
  static bool is_sound(GstBuffer* buffer, const GstVideoInfo& info) {
    const GstVideoMeta* meta = gst_buffer_get_video_meta(buffer);
    return !meta || layout_is_sound(*meta, info, gst_buffer_get_size(buffer));
  }

  GstVideoFrame frame_;
};

}  // namespace da3::plugin
