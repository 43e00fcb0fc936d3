// SPDX-License-Identifier: MIT
//
// The depth of one frame on another one (on-drop=reuse).
#pragma once

#include <gst/gst.h>

namespace da3::plugin {

// Puts the predictions that `from` carries (view meta and tensors, shared, not copied) onto `to`, which is
// writable.
void copy_results(GstBuffer* from, GstBuffer* to);

// The same for a frame that was not inferred: its view meta says stale, and has no pose. `frame`: its own
// number. False, and nothing is attached, if `kept` carries no prediction.
bool reuse_results(GstBuffer* kept, GstBuffer* buffer, gint64 frame);

}  // namespace da3::plugin
