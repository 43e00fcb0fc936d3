// SPDX-License-Identifier: MIT
//
// From a video frame to what the network sees. A frame that already has the process size (da3preprocess made
// it) is lent to the engine as it is; any other one is resized into memory of its own.
#pragma once

#include <gst/video/video.h>

#include <cstdint>
#include <memory>

#include "common/frame_resizer.h"
#include "engine/api/engine.h"
#include "gst/da3/da3.h"
#include "image/process_size.h"

namespace da3::plugin {

// What decides how frames are put together and inferred. Frames of different settings never share a group.
struct InferSettings {
  guint views = 1;
  int process_res = 0;  // 0: the model's own
  image::ProcessResMethod process_res_method = image::ProcessResMethod::upper_bound_resize;
  Da3RefViewStrategy ref_view_strategy = DA3_REF_VIEW_SADDLE_BALANCED;
  bool use_ray_pose = false;
  bool operator==(const InferSettings&) const = default;
};

struct BufferUnref {
  void operator()(GstBuffer* buffer) const { gst_buffer_unref(buffer); }
};
using BufferPtr = std::unique_ptr<GstBuffer, BufferUnref>;

// Interleaved 8-bit RGB at process size: own memory, or a frame that stays mapped (and referenced) as long as
// this.
class Pixels {
 public:
  Pixels() = default;
  static Pixels allocate(image::Size size);
  // False (and nothing is taken) when the buffer cannot be mapped as `info` says.
  bool lend(GstBuffer* buffer, const GstVideoInfo& info);

  Da3View view() const { return {data_, stride_}; }
  image::MutableImage writable(image::Size size);

 private:
  struct Unmap {
    void operator()(GstVideoFrame* frame) const;
  };
  std::unique_ptr<uint8_t[]> own_;
  std::unique_ptr<GstVideoFrame, Unmap> lent_;
  const uint8_t* data_ = nullptr;
  int stride_ = 0;
};

// How one frame became the picture that the network saw: what is needed to write its results back.
struct FrameGeometry {
  image::Size frame;          // picture of the buffer
  image::Size network;        // picture that the network saw
  bool direct = false;        // they are the same picture
  image::ProcessPlan plan;    // unless direct
  bool has_upstream = false;  // the frame brought a view meta
  GstDa3View upstream{};      // that meta, or everything unknown
};

struct PreparedFrame {
  Pixels pixels;
  FrameGeometry geometry;
};

// Used by the streaming thread of the sink pad alone.
class FrameInput {
 public:
  // Takes effect with the next frame. Throws ElementError (CORE/NEGOTIATION) if `caps` are no raw video.
  void set_caps(const GstCaps* caps);
  bool has_caps() const { return has_caps_; }
  const GstVideoInfo& info() const { return info_; }
  void reset();

  // Throws ElementError: no caps yet (CORE/NEGOTIATION), a size that cannot be processed or a buffer that is
  // not what the caps say (STREAM/FORMAT).
  PreparedFrame prepare(GstBuffer* buffer, const InferSettings& settings);

 private:
  void configure(const InferSettings& settings);
  Pixels resize(GstBuffer* buffer);

  bool has_caps_ = false;
  bool configured_ = false;
  GstVideoInfo info_{};
  int process_res_ = 0;
  image::ProcessResMethod method_{};
  FrameResizer resizer_;
};

}  // namespace da3::plugin
