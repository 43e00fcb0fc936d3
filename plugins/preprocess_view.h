// SPDX-License-Identifier: MIT
//
// What da3preprocess makes of the view metas of a frame.
#pragma once

#include "gst/da3/da3.h"
#include "image/process_size.h"

namespace da3::plugin {

// TRUE if a part of the picture is cut off: what belongs to the whole picture does not fit any more.
bool crops(const image::ProcessPlan& plan);

// The view of a frame of `stored` pixels -> the view of the processed picture: intrinsics, the part of the
// source that is shown and the part that a depth map covers follow; a depth map of a cropped picture is
// forgotten. A view that belongs to a picture of another size (an element turned or cropped it without
// knowing the meta) loses its geometry.
void map_view(GstDa3View& view, const image::ProcessPlan& plan, image::Size stored);

}  // namespace da3::plugin
