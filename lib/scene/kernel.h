// SPDX-License-Identifier: MIT
//
// The ray caster: one table of functions per instruction set, all with the same results. Private to this
// room.
#pragma once

#include <cstdint>

#include "scene/scene_data.h"

namespace da3::scene {

// Row-major planes of one picture; width and height in pixels.
struct Planes {
  int width = 0, height = 0;
  float* red = nullptr;  // linear light
  float* green = nullptr;
  float* blue = nullptr;
  float* depth = nullptr;      // metres; 0: sky
  int32_t* surface = nullptr;  // which face of which primitive; -1: sky
};

struct Kernel {
  // Casts the pixels x0 <= x < x1, y0 <= y < y1 (centres at +0.5 plus the offset). Colours are overwritten;
  // depth and surface too unless null.
  void (*tile)(const SceneData&, const RayCamera&, const Planes&, int x0, int y0, int x1, int y1,
               float offset_x, float offset_y);
  // Colours of single rays at picture positions (x, y), added to red, green, blue.
  void (*samples)(const SceneData&, const RayCamera&, int count, const float* x, const float* y, float* red,
                  float* green, float* blue);
  // Where rays first hit something: t (0: nothing) of origin + t * direction; origins and directions are xyz
  // triples.
  void (*rays)(const SceneData&, int count, const float* origin, const float* direction, float* t);
  const char* name;
};

// The best one for this processor.
const Kernel& best_kernel();
// All that this processor can run, the plainest first; ends with null. For tests.
const Kernel* const* all_kernels();

namespace plain {
extern const Kernel kernel;
}
namespace avx2 {
extern const Kernel kernel;
}

}  // namespace da3::scene
