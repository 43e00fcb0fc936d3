// SPDX-License-Identifier: MIT
//
// The held-out scenes of the accuracy tests, and what the checkpoint that ships says about them.
#pragma once

#include <compare>
#include <memory>
#include <vector>

#include "engine/api/engine_module.h"
#include "geometry/rigid.h"
#include "train/sample.h"

namespace da3::test {

using geometry::Matrix3;
using geometry::Matrix34;

// The size that the checkpoint is meant for.
constexpr int kScenes = 8, kWidth = 196, kHeight = 154;
constexpr size_t kPixels = size_t(kWidth) * size_t(kHeight);
constexpr int kRayWidth = kWidth / DA3_PATCH_SIZE * 8, kRayHeight = kHeight / DA3_PATCH_SIZE * 8;
constexpr size_t kRays = size_t(kRayWidth) * size_t(kRayHeight);

// Of one set, laid out as Da3ResultData.
struct Answer {
  std::vector<float> depth, confidence;  // [views, kHeight, kWidth]
  std::vector<float> ray;                // [views, kRayHeight, kRayWidth, 6]
  std::vector<Matrix34> extrinsics;      // world to camera
  std::vector<Matrix3> intrinsics;
};
struct Case {
  train::ViewSet truth;
  Answer answer;
  int views() const { return truth.description.views; }
};
using Cases = std::vector<Case>;

// The answers of a model that knows the truth. World of rays and poses: camera of the first view.
const Cases& true_answers(int views);

// What da3-demo says, computed once for all tests. Throws EngineError.
struct Question {
  int views = 1;
  Da3Precision precision = DA3_PRECISION_FP32;
  Da3RefViewStrategy reference = DA3_REF_VIEW_SADDLE_BALANCED;  // what the elements ask for
  Da3PerformanceMode mode = DA3_PERFORMANCE_BALANCED;
  auto operator<=>(const Question&) const = default;
};
const Cases& answers(const Question& question);

// The checkpoint that ships, by its name, on the CPU or on $DA3_TEST_DEVICE. Throws EngineError.
std::unique_ptr<Engine> open_shipped(Da3Precision precision,
                                     Da3PerformanceMode mode = DA3_PERFORMANCE_BALANCED);

}  // namespace da3::test
