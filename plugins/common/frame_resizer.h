// SPDX-License-Identifier: MIT
//
// Any video/x-raw frame -> RGB at process size. Used by da3preprocess and by da3infer, so both give the same bytes.
// Colour conversion (formats, matrix, range, strides, chroma siting, interlacing of chroma) is GstVideoConverter's; an
// RGB frame is not converted at all. The resize is lib/image's, bit-exact with upstream; the pixel aspect ratio is
// honoured by planning with the displayed size.
#pragma once

#include <gst/video/video.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "image/process_size.h"
#include "image/resize.h"

namespace da3::plugin {

class FrameResizer {
 public:
  FrameResizer();
  ~FrameResizer();
  FrameResizer(FrameResizer&&) noexcept;
  FrameResizer& operator=(FrameResizer&&) noexcept;

  // `threads`: 0 = number of cores. Throws ElementError (STREAM/FORMAT) naming the size or format that cannot be processed.
  void configure(const GstVideoInfo& input, int process_res, image::ProcessResMethod method, unsigned threads);
  const image::ProcessPlan& plan() const;
  // `out` has plan().final. `frame` is mapped for reading; its strides and offsets are honoured.
  void process(GstVideoFrame* frame, const image::MutableImage& out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace da3::plugin
