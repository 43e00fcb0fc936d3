// SPDX-License-Identifier: MIT
//
// The colour picture beside or below the depth colours: any raw format into a part of a packed RGB frame, by
// GstVideoConverter.
#pragma once

#include <gst/video/video.h>

#include <memory>

namespace da3::plugin {

struct PixelRect {
  int x = 0, y = 0, w = 0, h = 0;
  bool operator==(const PixelRect&) const = default;
};

// Not thread-safe.
class PictureConverter {
 public:
  // Converts and scales `from` of `in` to `to` of `out`; the rest of `out` is left alone. Throws ElementError
  // (STREAM/FORMAT) naming the format if it cannot be converted.
  void convert(GstVideoFrame* in, const PixelRect& from, GstVideoFrame* out, const PixelRect& to);

 private:
  struct Free {
    void operator()(GstVideoConverter* converter) const { gst_video_converter_free(converter); }
  };
  std::unique_ptr<GstVideoConverter, Free> converter_;
  GstVideoInfo in_{}, out_{};
  PixelRect from_, to_;
};

}  // namespace da3::plugin
