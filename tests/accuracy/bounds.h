// SPDX-License-Identifier: MIT
//
// How good the checkpoint that ships must be on the scenes of cases.h: what it reached there and a little
// room, for processors that round otherwise. shipped_test.py reads these lines, too: one constant, one
// number. A better checkpoint brings tighter bounds; a change of the engine that needs wider ones is a
// mistake.
#pragma once

namespace da3::test {

// Depth of one view: scaled by the ratio of the medians of the view.
constexpr double kAbsRelOneView = 0.185;
constexpr double kDelta1OneView = 0.73;
// Depth of four views, each scaled by itself.
constexpr double kAbsRelFourViews = 0.25;
constexpr double kDelta1FourViews = 0.65;
// Depth of four views under one scale.
constexpr double kAbsRelOneScale = 0.25;
// Mean error of the surer half of all pixels of all pictures, over that of the other half. Within one picture
// the confidence of this checkpoint says nothing.
constexpr double kConfidenceRatio = 0.8;
// Rays: median angle to the true direction [degrees], and median factor of its length.
constexpr double kRayDegreesOneView = 2.5;
constexpr double kRayDegreesFourViews = 7;
constexpr double kRayLength = 1.05;
// Poses: median of all pairs [degrees]; rotation also as a share of what standing still would give.
constexpr double kRotationDegrees = 8.5;
constexpr double kRotationOfStill = 0.5;
constexpr double kDirectionDegrees = 52;
constexpr double kOriginDegrees = 85;  // of the ray maps: hardly better than chance
// Depth and translation are in one unit: median factor between the scales that bring each to metres.
constexpr double kUnitFactor = 1.6;
// Median relative error of the angle of view; of one view also as a share of that of a constant guess.
constexpr double kFovOneView = 0.05;
constexpr double kFovOfConstant = 0.5;
constexpr double kFovFourViews = 0.13;
// Other precisions against fp32: median relative difference of depth, and how much worse AbsRel may be.
constexpr double kBf16Depth = 0.005;
constexpr double kBf16AbsRel = 0.003;
constexpr double kFp16Depth = 0.005;
constexpr double kFp16AbsRel = 0.003;
constexpr double kInt8Depth = 0.02;
constexpr double kInt8AbsRel = 0.005;
// Through da3infer and da3score, frames of a walk in groups of four.
constexpr double kAbsRelWalk = 0.25;
constexpr double kFovWalk = 0.13;
constexpr double kRotationWalk = 3.2;
constexpr double kDirectionWalk = 36;

}  // namespace da3::test
