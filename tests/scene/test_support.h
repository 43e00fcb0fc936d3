// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "scene/builder.h"
#include "scene/renderer.h"

namespace da3::scene::test {

struct Shot {
  int width, height;
  std::vector<uint8_t> rgb;
  std::vector<float> depth, sky;
  float z(int x, int y) const { return depth[size_t(y) * size_t(width) + size_t(x)]; }
};

inline Shot shoot(Renderer& renderer, const Scene& scene, const Camera& camera, int width, int height,
                  const RenderOptions& options = {}) {
  const size_t count = size_t(width) * size_t(height);
  Shot shot{width, height, std::vector<uint8_t>(count * 3), std::vector<float>(count, -1),
            std::vector<float>(count, -1)};
  renderer.render(scene, camera, width, height, options,
                  {shot.rgb.data(), size_t(width) * 3, 3, shot.depth.data(), shot.sky.data()});
  return shot;
}

inline Camera camera_at(Vec3 eye, Vec3 forward, double fov, int width, int height, double roll = 0) {
  Camera camera;
  set_intrinsics(camera, fov, width, height);
  look_along(camera, eye, forward, roll);
  return camera;
}

// The ray through the middle of a pixel, scaled so that its parameter is z-depth.
inline Vec3 pixel_ray(const Camera& c, int x, int y) {
  return c.rotation.transpose() * Vec3((x + 0.5 - c.cx) / c.fx, (y + 0.5 - c.cy) / c.fy, 1);
}

inline uint64_t hash(const Shot& shot) {
  uint64_t h = 1469598103934665603ull;
  const auto eat = [&](const void* data, size_t bytes) {
    const auto* p = static_cast<const uint8_t*>(data);
    for (size_t i = 0; i < bytes; ++i) h = (h ^ p[i]) * 1099511628211ull;
  };
  eat(shot.rgb.data(), shot.rgb.size());
  eat(shot.depth.data(), shot.depth.size() * sizeof(float));
  eat(shot.sky.data(), shot.sky.size() * sizeof(float));
  return h;
}

}  // namespace da3::scene::test
