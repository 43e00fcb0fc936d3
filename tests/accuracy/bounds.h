// SPDX-License-Identifier: MIT
//
// How good the checkpoint that ships must be on the scenes of cases.h: what it reached there and a little
// room, for processors that round otherwise. shipped_test.py reads these lines, too: one constant, one
// number. A better checkpoint brings tighter bounds; a change of the engine that needs wider ones is a
// mistake.
#pragma once

namespace da3::test {

// Depth of one view: scaled by the ratio of the medians of the view.
constexpr double kAbsRelOneView = 0.175;
constexpr double kDelta1OneView = 0.76;
// Depth of four views, each scaled by itself.
constexpr double kAbsRelFourViews = 0.24;
constexpr double kDelta1FourViews = 0.675;
// Depth of four views under one scale.
constexpr double kAbsRelOneScale = 0.235;
// Mean error of the surer half of all pixels of all pictures, over that of the other half.
constexpr double kConfidenceRatio = 0.72;
// Rays: median angle to the true direction [degrees], and median factor of its length.
constexpr double kRayDegreesOneView = 1.8;
constexpr double kRayDegreesFourViews = 6.3;
constexpr double kRayLength = 1.03;
// Poses: median of all pairs [degrees]; rotation also as a share of what standing still would give.
constexpr double kRotationDegrees = 5.5;
constexpr double kRotationOfStill = 0.35;
constexpr double kDirectionDegrees = 38;
constexpr double kOriginDegrees = 42;  // of the ray maps
// Depth and translation are in one unit: median factor between the scales that bring each to metres.
constexpr double kUnitFactor = 1.3;
// Median relative error of the angle of view; of one view also as a share of that of a constant guess.
constexpr double kFovOneView = 0.035;
constexpr double kFovOfConstant = 0.35;
constexpr double kFovFourViews = 0.08;
// Other precisions against fp32, medians: relative difference of depth, how much worse AbsRel may be, and by
// how much cameras may be turned [degrees].
struct Nearness {
  double depth, abs_rel, rotation;
};
// TF32: what performance-mode=max does with fp32 on CUDA; 10 bits of mantissa, as fp16.
constexpr Nearness kTf32 = {0.004, 0.002, 0.2};
constexpr Nearness kBf16 = {0.004, 0.002, 0.2};
constexpr Nearness kFp16 = {0.004, 0.002, 0.2};
constexpr Nearness kInt8 = {0.012, 0.003, 0.6};
constexpr Nearness kFp8 = {0.02, 0.005, 1.2};
// Through da3infer and da3score, frames of a walk in groups of four: steps so small that directions are
// loose.
constexpr double kAbsRelWalk = 0.23;
constexpr double kFovWalk = 0.13;
constexpr double kRotationWalk = 2.7;
constexpr double kDirectionWalk = 50;

}  // namespace da3::test
