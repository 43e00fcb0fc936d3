// SPDX-License-Identifier: MIT
//
// Training data: sets of views of rendered scenes with exact depth, pose and intrinsics. A set depends on its
// description alone, so it can be made by any thread at any time.
#pragma once

#include <cstdint>
#include <vector>

#include "geometry/rigid.h"
#include "scene/renderer.h"
#include "scene/scene.h"

namespace da3::train {

// Scenes with smaller seeds are never trained on: they are for validation, tests and demonstrations.
constexpr uint64_t kFirstTrainingSeed = 1u << 20;
// Nor is this family.
constexpr scene::Family kHeldOutFamily = scene::Family::ruins;

struct SetDescription {
  scene::Family family = scene::Family::room;
  uint64_t scene_seed = 0;
  uint64_t view_seed = 0;
  int views = 1;
  int width = 252, height = 196;       // pixels
  double fov_low = 45, fov_high = 95;  // degrees, of the longer side
  // Share of sets that are frames of one camera path instead of free views.
  double path_share = 0.25;
  bool augment = false;  // exposure, colours, noise
};

struct ViewSet {
  SetDescription description;
  std::vector<uint8_t> rgb;                    // [views, height, width, 3]
  std::vector<float> depth;                    // [views, height, width], metres, 0 for sky
  std::vector<geometry::Matrix34> extrinsics;  // world to camera
  std::vector<geometry::Matrix3> intrinsics;   // pixels
};

ViewSet make_view_set(const SetDescription& description, scene::Renderer& renderer);
// The same; `scene` is the description's.
ViewSet make_view_set(const SetDescription& description, const scene::Scene& scene,
                      scene::Renderer& renderer);

// The n-th set of a training run. Small pictures share their scene with their neighbours, eight to two
// pictures a scene: building one costs more than rendering them.
SetDescription training_set(uint64_t run_seed, uint64_t index, int views, int width, int height);
// The n-th of the held-out sets with `views` views; the families in turn.
SetDescription held_out_set(uint64_t index, int views, int width, int height);
// The same of the family that is never trained on.
SetDescription held_out_family_set(uint64_t index, int views, int width, int height);

}  // namespace da3::train
