// SPDX-License-Identifier: MIT
#include "infer_input.h"

#include <algorithm>
#include <string>

#include "common/guard.h"
#include "common/video_layout.h"

namespace da3::plugin {
namespace {

std::string describe(const GstVideoInfo& info) {
  return std::to_string(GST_VIDEO_INFO_WIDTH(&info)) + "x" + std::to_string(GST_VIDEO_INFO_HEIGHT(&info)) +
         " " + gst_video_format_to_string(GST_VIDEO_INFO_FORMAT(&info));
}

ElementError unmappable(GstBuffer* buffer, const GstVideoInfo& info) {
  std::string stored = std::to_string(gst_buffer_get_size(buffer)) + " bytes";
  if (const GstVideoMeta* meta = gst_buffer_get_video_meta(buffer)) {
    stored += ", which says that it holds " + std::to_string(meta->width) + "x" +
              std::to_string(meta->height) + " " + gst_video_format_to_string(meta->format) + ",";
  }
  return ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT,
                      "A buffer of " + stored + " is no frame of " + describe(info) + " (" +
                          std::to_string(GST_VIDEO_INFO_SIZE(&info)) +
                          " bytes), as its caps promise; check the element upstream.");
}

bool goes_upwards(const GstVideoMeta& meta) {
  return std::any_of(meta.stride, meta.stride + meta.n_planes, [](gint stride) { return stride < 0; });
}

// Maps the picture that the caps promise.
bool map_picture(GstVideoFrame* frame, const GstVideoInfo& info, GstBuffer* buffer) {
  const GstVideoMeta* meta = gst_buffer_get_video_meta(buffer);
  if (meta && (goes_upwards(*meta) || !layout_is_sound(*meta, info, gst_buffer_get_size(buffer))))
    return false;
  if (!gst_video_frame_map(frame, &info, buffer, GST_MAP_READ)) return false;
  frame->info.width = GST_VIDEO_INFO_WIDTH(&info);
  frame->info.height = GST_VIDEO_INFO_HEIGHT(&info);
  return true;
}

// Is this the picture that da3preprocess made? A scaler in between may have changed its size.
bool is_processed(const FrameGeometry& geometry, const GstVideoInfo& info) {
  return geometry.has_upstream && geometry.upstream.processed &&
         GST_VIDEO_INFO_FORMAT(&info) == GST_VIDEO_FORMAT_RGB &&
         geometry.upstream.image_width == geometry.frame.width &&
         geometry.upstream.image_height == geometry.frame.height &&
         geometry.frame.width % DA3_PATCH_SIZE == 0 && geometry.frame.height % DA3_PATCH_SIZE == 0;
}

}  // namespace

void Pixels::Unmap::operator()(GstVideoFrame* frame) const {
  gst_video_frame_unmap(frame);
  delete frame;
}

Pixels Pixels::allocate(image::Size size) {
  Pixels pixels;
  pixels.stride_ = 3 * size.width;
  pixels.own_ = std::make_unique_for_overwrite<uint8_t[]>(size_t(pixels.stride_) * size.height);
  pixels.data_ = pixels.own_.get();
  return pixels;
}

bool Pixels::lend(GstBuffer* buffer, const GstVideoInfo& info) {
  auto frame = std::make_unique<GstVideoFrame>();
  if (!map_picture(frame.get(), info, buffer)) return false;
  lent_.reset(frame.release());
  if (GST_VIDEO_FRAME_PLANE_STRIDE(lent_.get(), 0) < 3 * GST_VIDEO_INFO_WIDTH(&info)) {
    lent_.reset();
    return false;
  }
  own_.reset();
  data_ = static_cast<const uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(lent_.get(), 0));
  stride_ = GST_VIDEO_FRAME_PLANE_STRIDE(lent_.get(), 0);
  return true;
}

image::MutableImage Pixels::writable(image::Size size) {
  return {own_.get(), size.width, size.height, stride_};
}

void FrameInput::set_caps(const GstCaps* caps) {
  has_caps_ = configured_ = false;
  if (!gst_video_info_from_caps(&info_, caps)) {
    gchar* text = gst_caps_to_string(caps);
    const std::string copy = text;
    g_free(text);
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION,
                       "These caps do not describe a video frame: " + copy + ".");
  }
  has_caps_ = true;
}

void FrameInput::reset() {
  has_caps_ = configured_ = false;
}

void FrameInput::configure(const InferSettings& settings) {
  if (configured_ && process_res_ == settings.process_res && method_ == settings.process_res_method) return;
  configured_ = false;
  // One thread: the network wants the other cores, and this runs beside it.
  resizer_.configure(info_, settings.process_res, settings.process_res_method, 1);
  process_res_ = settings.process_res;
  method_ = settings.process_res_method;
  configured_ = true;
}

Pixels FrameInput::resize(GstBuffer* buffer) {
  GstVideoFrame frame;
  if (!map_picture(&frame, info_, buffer)) throw unmappable(buffer, info_);
  const std::unique_ptr<GstVideoFrame, decltype(&gst_video_frame_unmap)> unmap(&frame, gst_video_frame_unmap);
  const image::Size size = resizer_.plan().final;
  Pixels pixels = Pixels::allocate(size);
  resizer_.process(&frame, pixels.writable(size));
  return pixels;
}

PreparedFrame FrameInput::prepare(GstBuffer* buffer, const InferSettings& settings) {
  if (!has_caps_) {
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION,
                       "A frame came before its caps; put an element upstream that sends video/x-raw caps.");
  }
  PreparedFrame prepared;
  FrameGeometry& geometry = prepared.geometry;
  geometry.frame = {GST_VIDEO_INFO_WIDTH(&info_), GST_VIDEO_INFO_HEIGHT(&info_)};
  geometry.has_upstream = gst_buffer_get_da3_view(buffer, &geometry.upstream);
  if (!geometry.has_upstream) gst_da3_view_init(&geometry.upstream);
  // What a source knows to be true is there to judge results by; a network that saw it would be judged by
  // itself.
  if (geometry.upstream.role == GST_DA3_ROLE_TRUTH) {
    geometry.upstream.has_intrinsics = geometry.upstream.has_extrinsics = FALSE;
  }

  if (is_processed(geometry, info_)) {
    if (!prepared.pixels.lend(buffer, info_)) throw unmappable(buffer, info_);
    geometry.direct = true;
    geometry.network = geometry.frame;
    return prepared;
  }
  configure(settings);
  prepared.pixels = resize(buffer);
  geometry.plan = resizer_.plan();
  geometry.network = geometry.plan.final;
  return prepared;
}

}  // namespace da3::plugin
