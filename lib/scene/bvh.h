// SPDX-License-Identifier: MIT
//
// Bounding volume hierarchy over primitives. Private to this room.
#pragma once

#include <vector>

#include "scene/scene_data.h"

namespace da3::scene {

struct Bounds {
  float lo[3], hi[3];
};
// Rounded outwards.
Bounds bounds_of(const Primitive& primitive);
// Fills nodes and order; no primitives, no nodes. The same input gives the same tree.
void build_bvh(const std::vector<Primitive>& primitives, std::vector<Node>* nodes,
               std::vector<uint32_t>* order);

}  // namespace da3::scene
