// SPDX-License-Identifier: MIT
#include "viz_picture.h"

#include <string>

#include "common/guard.h"

namespace da3::plugin {

void PictureConverter::convert(GstVideoFrame* in, const PixelRect& from, GstVideoFrame* out,
                               const PixelRect& to) {
  // Colour conversion changes neither the frame rate nor interlacing.
  GstVideoInfo out_info = out->info;
  out_info.interlace_mode = in->info.interlace_mode;
  GST_VIDEO_INFO_FPS_N(&out_info) = GST_VIDEO_INFO_FPS_N(&in->info);
  GST_VIDEO_INFO_FPS_D(&out_info) = GST_VIDEO_INFO_FPS_D(&in->info);
  if (!converter_ || !gst_video_info_is_equal(&in_, &in->info) ||
      !gst_video_info_is_equal(&out_, &out_info) || from != from_ || to != to_) {
    GstStructure* config = gst_structure_new(
        "da3depthviz", GST_VIDEO_CONVERTER_OPT_SRC_X, G_TYPE_INT, from.x, GST_VIDEO_CONVERTER_OPT_SRC_Y,
        G_TYPE_INT, from.y, GST_VIDEO_CONVERTER_OPT_SRC_WIDTH, G_TYPE_INT, from.w,
        GST_VIDEO_CONVERTER_OPT_SRC_HEIGHT, G_TYPE_INT, from.h, GST_VIDEO_CONVERTER_OPT_DEST_X, G_TYPE_INT,
        to.x, GST_VIDEO_CONVERTER_OPT_DEST_Y, G_TYPE_INT, to.y, GST_VIDEO_CONVERTER_OPT_DEST_WIDTH,
        G_TYPE_INT, to.w, GST_VIDEO_CONVERTER_OPT_DEST_HEIGHT, G_TYPE_INT, to.h,
        GST_VIDEO_CONVERTER_OPT_FILL_BORDER, G_TYPE_BOOLEAN, FALSE, nullptr);
    converter_.reset(gst_video_converter_new(&in->info, &out_info, config));
    if (!converter_)
      throw ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
                         std::string("A picture of format ") +
                             gst_video_format_to_string(GST_VIDEO_INFO_FORMAT(&in->info)) +
                             " cannot be converted to RGB; put videoconvert before this element.");
    in_ = in->info;
    out_ = out_info;
    from_ = from;
    to_ = to;
  }
  gst_video_converter_frame(converter_.get(), in, out);
}

}  // namespace da3::plugin
