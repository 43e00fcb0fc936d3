// SPDX-License-Identifier: MIT
//
// Cameras at random places of a scene, for sets of single pictures rather than films. A view costs a few
// dozen rays.
#pragma once

#include <vector>

#include "scene/rng.h"
#include "scene/scene.h"

namespace da3::scene {

struct ViewRange {
  int width = 280, height = 196;        // pixels
  double fov_low = 40, fov_high = 100;  // degrees, of the longer side
  double pitch = 0.2, roll = 0.04;      // deviations, radians
};

// A camera in free space that sees something: most of it neither in front of its nose nor sky, if there is
// such a view within a few tries.
Camera random_view(const Scene& scene, Rng& rng, const ViewRange& range = {});

// `count` cameras of one lens: the first as above, the others near enough to see at least `overlap` of what
// it sees (leaving aside what hides behind other things), if such views are found within a few tries; else
// they stay closer.
std::vector<Camera> random_views(const Scene& scene, Rng& rng, int count, const ViewRange& range = {},
                                 double overlap = 0.3);

// How open a view is: median distance of what it sees [m], sky counting as 50 m; 0 within 0.2 m of a surface.
double view_openness(const Scene& scene, const Camera& camera);

}  // namespace da3::scene
