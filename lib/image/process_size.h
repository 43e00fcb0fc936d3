// SPDX-License-Identifier: MIT
//
// The size at which the network sees a picture, and how its intrinsics follow (upstream
// utils/io/input_processor.py).
#pragma once

#include <string>
#include <vector>

namespace da3::image {

enum class ProcessResMethod { upper_bound_resize, upper_bound_crop, lower_bound_resize, lower_bound_crop };

struct Size {
  int width = 0, height = 0;
  bool operator==(const Size&) const = default;
};

// Resize to `boundary`, then either resize to `final` (resize methods) or cut `final` out of the centre (crop
// methods).
struct ProcessPlan {
  Size input;     // as displayed: after the pixel aspect ratio
  Size boundary;  // after the boundary resize
  Size final;     // multiples of 14
  bool crop = false;
  int crop_left = 0, crop_top = 0;  // in the boundary image
};

// Sizes are in pixels; ties round to even (boundary) and up (multiple of 14). Throws std::invalid_argument
// with a sentence when a side would end below 14 or above 32767 pixels (aspect ratio too extreme) or an
// argument is not positive.
ProcessPlan plan_process_size(Size input, int process_res, ProcessResMethod method);

// Row-major 3x3 K of a picture of size `frame` -> K of the processed picture. Without `frame`: of size
// plan.input.
void adapt_intrinsics(const ProcessPlan& plan, Size frame, double k[9]);
void adapt_intrinsics(const ProcessPlan& plan, double k[9]);

// The inverse for results: K of the processed picture -> K of the picture of size `frame` it was made from
// (`frame` may differ from plan.input by the pixel aspect ratio).
void restore_intrinsics(const ProcessPlan& plan, Size frame, double k[9]);

// The part of a picture of size `frame` that the processed picture shows [px of the frame]; all of it unless
// cropped.
struct Region {
  double x = 0, y = 0, width = 0, height = 0;
};
Region covered_region(const ProcessPlan& plan, Size frame);

// Views of one scene need one size: each processed picture is cut down to the smallest width and the smallest
// height, centred, nothing is padded. Multiples of 14 stay multiples of 14.
struct Offset {
  int left = 0, top = 0;
  bool operator==(const Offset&) const = default;
};
struct UnifiedSize {
  Size size;
  std::vector<Offset> offsets;  // per picture, in the picture
};
// Throws std::invalid_argument if `sizes` is empty or a side is not positive.
UnifiedSize unify_sizes(const std::vector<Size>& sizes);
// K of a picture -> K of the part of it that begins at `offset`.
void crop_intrinsics(Offset offset, double k[9]);

}  // namespace da3::image
