// SPDX-License-Identifier: MIT
//
// Writes the results of one frame onto its buffer: tensors without a copy, and the view meta.
#pragma once

#include <memory>

#include "infer_group.h"
#include "infer_input.h"

namespace da3::plugin {

// Exact statistics of the finite values > 0 of `count` floats. Not all zero unless there is no such value.
GstDa3Stats plane_statistics(const float* values, size_t count);

// What the view meta says about a frame besides its results.
struct FrameIdentity {
  gint64 frame = 0;
  gint64 window = 0;
  guint view = 0;
};

struct Attached {
  double usable = 0;  // share of depth values that are usable, 0..1
  gsize copied = 0;   // bytes of planes that had to be written anew
};

// Attaches the results of view `identity.view` to `buffer`, which must be writable. Throws ElementError when
// the depth has no usable value.
Attached attach_results(GstBuffer* buffer, const FrameGeometry& geometry, const FrameIdentity& identity,
                        const Da3ModelInfo& model, const std::shared_ptr<InferResult>& result);

}  // namespace da3::plugin
