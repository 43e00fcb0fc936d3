// SPDX-License-Identifier: MIT
#include "image/process_size.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace da3::image {
namespace {

constexpr int kPatch = 14;
constexpr int kMaxSide = 32767;

std::string text(Size size) {
  return std::to_string(size.width) + "x" + std::to_string(size.height);
}

bool is_upper(ProcessResMethod method) {
  return method == ProcessResMethod::upper_bound_resize || method == ProcessResMethod::upper_bound_crop;
}

bool is_crop(ProcessResMethod method) {
  return method == ProcessResMethod::upper_bound_crop || method == ProcessResMethod::lower_bound_crop;
}

// Ties to even, as the default rounding mode does.
int scaled_side(int side, double scale) {
  return static_cast<int>(std::clamp(std::nearbyint(side * scale), 1.0, double(kMaxSide) + 1.0));
}

Size boundary_size(Size input, int process_res, ProcessResMethod method) {
  const int bound =
      is_upper(method) ? std::max(input.width, input.height) : std::min(input.width, input.height);
  if (bound == process_res) return input;
  const double scale = double(process_res) / bound;
  return {scaled_side(input.width, scale), scaled_side(input.height, scale)};
}

// The remainder 7 goes up.
int nearest_multiple(int side) {
  return (side + kPatch / 2) / kPatch * kPatch;
}
int lower_multiple(int side) {
  return side / kPatch * kPatch;
}

void scale_rows(double k[9], double x, double y) {
  for (int i = 0; i < 3; ++i) {
    k[i] *= x;
    k[3 + i] *= y;
  }
}

}  // namespace

ProcessPlan plan_process_size(Size input, int process_res, ProcessResMethod method) {
  if (input.width <= 0 || input.height <= 0) {
    throw std::invalid_argument("A picture of " + text(input) + " pixels cannot be processed.");
  }
  if (process_res <= 0) {
    throw std::invalid_argument("process-res is " + std::to_string(process_res) + ", it must be positive.");
  }
  ProcessPlan plan;
  plan.input = input;
  plan.boundary = boundary_size(input, process_res, method);
  plan.crop = is_crop(method);
  const auto side = plan.crop ? lower_multiple : nearest_multiple;
  plan.final = {side(plan.boundary.width), side(plan.boundary.height)};
  const auto [shorter, longer] = std::minmax(plan.final.width, plan.final.height);
  if (shorter < kPatch || std::max({longer, plan.boundary.width, plan.boundary.height}) > kMaxSide) {
    throw std::invalid_argument("A picture of " + text(input) + " pixels would be processed at " +
                                text(plan.boundary) + ", but each side must be between " +
                                std::to_string(kPatch) + " and " + std::to_string(kMaxSide) + ": " +
                                (process_res < kPatch
                                     ? "process-res " + std::to_string(process_res) +
                                           " is too small. Set it to " + std::to_string(kPatch) + " or more."
                                     : "its aspect ratio is too extreme for process-res " +
                                           std::to_string(process_res) +
                                           ". Crop it, or change process-res or process-res-method."));
  }
  if (plan.crop) {
    plan.crop_left = (plan.boundary.width - plan.final.width) / 2;
    plan.crop_top = (plan.boundary.height - plan.final.height) / 2;
  }
  return plan;
}

void adapt_intrinsics(const ProcessPlan& plan, Size frame, double k[9]) {
  scale_rows(k, double(plan.boundary.width) / frame.width, double(plan.boundary.height) / frame.height);
  if (plan.crop) {
    crop_intrinsics({plan.crop_left, plan.crop_top}, k);
  } else {
    scale_rows(k, double(plan.final.width) / plan.boundary.width,
               double(plan.final.height) / plan.boundary.height);
  }
}

void adapt_intrinsics(const ProcessPlan& plan, double k[9]) {
  adapt_intrinsics(plan, plan.input, k);
}

void restore_intrinsics(const ProcessPlan& plan, Size frame, double k[9]) {
  if (plan.crop) {
    crop_intrinsics({-plan.crop_left, -plan.crop_top}, k);
    scale_rows(k, double(frame.width) / plan.boundary.width, double(frame.height) / plan.boundary.height);
  } else {
    scale_rows(k, double(frame.width) / plan.final.width, double(frame.height) / plan.final.height);
  }
}

Region covered_region(const ProcessPlan& plan, Size frame) {
  if (!plan.crop) return {0, 0, double(frame.width), double(frame.height)};
  const double x = double(frame.width) / plan.boundary.width, y = double(frame.height) / plan.boundary.height;
  return {plan.crop_left * x, plan.crop_top * y, plan.final.width * x, plan.final.height * y};
}

UnifiedSize unify_sizes(const std::vector<Size>& sizes) {
  if (sizes.empty()) throw std::invalid_argument("There is no picture to unify.");
  UnifiedSize unified{sizes.front(), {}};
  for (const Size& size : sizes) {
    if (size.width <= 0 || size.height <= 0) {
      throw std::invalid_argument("A picture of " + text(size) + " pixels cannot be unified with others.");
    }
    unified.size = {std::min(unified.size.width, size.width), std::min(unified.size.height, size.height)};
  }
  for (const Size& size : sizes) {
    unified.offsets.push_back(
        {(size.width - unified.size.width) / 2, (size.height - unified.size.height) / 2});
  }
  return unified;
}

void crop_intrinsics(Offset offset, double k[9]) {
  k[2] -= offset.left;
  k[5] -= offset.top;
}

}  // namespace da3::image
