// SPDX-License-Identifier: MIT
//
// Any video/x-raw frame -> RGB at process size. Used by da3preprocess and by da3infer, so both give the same
// bytes. The usual formats of 8 bits with halved chroma, in whole frames and with chroma between its two
// rows, are read as they lie, by lib/image, which asks chroma-site; all others are unpacked by
// GstVideoConverter. The step from Y'CbCr to RGB (matrix and range as the caps say) is lib/image's, exact to
// rounding; transfer and primaries stay as they are, alpha is dropped. An RGB frame is not converted at all.
// The resize is lib/image's, bit-exact with upstream; the pixel aspect ratio is honoured by planning with the
// displayed size.
#pragma once

#include <gst/video/video.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "image/process_size.h"
#include "image/resize.h"

namespace da3::plugin {

// The size at which a frame is seen: pixels wider than high widen the picture, pixels higher than wide make
// it higher, so nothing is thrown away. Rounded to whole pixels; ties go up.
image::Size displayed_size(const GstVideoInfo& info);

// How such a frame is processed. Throws ElementError (STREAM/FORMAT) if it cannot be: not raw, single fields,
// a side below 14 or above 32767 pixels, an aspect ratio that leaves less than one patch of 14 pixels.
image::ProcessPlan plan_frame(const GstVideoInfo& input, int process_res, image::ProcessResMethod method);

class FrameResizer {
 public:
  FrameResizer();
  ~FrameResizer();
  FrameResizer(FrameResizer&&) noexcept;
  FrameResizer& operator=(FrameResizer&&) noexcept;

  // `threads`: 0 = number of cores. Throws as plan_frame() does, and keeps the old configuration then.
  void configure(const GstVideoInfo& input, int process_res, image::ProcessResMethod method,
                 unsigned threads);
  const image::ProcessPlan& plan() const;
  // TRUE if process() would copy the picture unchanged: RGB at process size already.
  bool identity() const;
  // `out` has plan().final. `frame` is mapped for reading; its strides and offsets are honoured. Throws
  // ElementError (STREAM/FORMAT) if the frame is not of the configured size and format. Not thread-safe: one
  // object a thread.
  void process(GstVideoFrame* frame, const image::MutableImage& out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace da3::plugin
