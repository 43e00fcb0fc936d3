// SPDX-License-Identifier: MIT
//
// The caps of da3preprocess: any raw video in system memory -> progressive sRGB with square pixels at process
// size.
#pragma once

#include <gst/video/video.h>

#include "image/process_size.h"

namespace da3::plugin {

struct PreprocessSettings {
  guint process_res = 504;
  image::ProcessResMethod method = image::ProcessResMethod::upper_bound_resize;
  guint threads = 0;
  bool operator==(const PreprocessSettings&) const = default;
};

// Transfer full.
GstCaps* preprocess_sink_caps();
GstCaps* preprocess_src_caps();

// Caps of the pad of `direction` -> what the other pad can have; transfer full. A size that cannot be
// processed leaves the other size open: it is refused, and explained, when such a picture really comes.
GstCaps* preprocess_other_caps(GstPadDirection direction, const GstCaps* caps,
                               const PreprocessSettings& settings);

}  // namespace da3::plugin
