// SPDX-License-Identifier: MIT
//
// Pictures of a scene with exact depth, by ray casting. The result depends on the arguments alone: not on the
// number of threads, and on processors of one architecture not on their instruction sets either.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "scene/scene.h"

namespace da3::scene {

struct RenderOptions {
  double exposure = 0;  // stops (factors of 2) brighter than what suits the scene, -8..8
  double noise = 0;     // of the sensor, 0..1; 1 is a deviation of about 16 of 255 in the shadows
  uint64_t noise_seed = 0;
  uint64_t frame = 0;     // noise differs from frame to frame
  bool antialias = true;  // four rays for pixels on edges
  // Camera poses while the shutter is open, evenly spread over time; their pictures are averaged. Empty: no
  // motion blur. Only rotation and translation count. Depth and sky are always those of `camera`.
  std::vector<Camera> shutter;
};

// Where the result goes; null means "not wanted". Rows of `depth` and `sky` are not padded.
struct RenderTarget {
  uint8_t* rgb = nullptr;  // sRGB
  size_t stride = 0;       // bytes from row to row
  int pixel_bytes = 3;     // 3: RGB; 4: RGB and a byte that is set to 255
  float* depth = nullptr;  // [height, width], metres, 0 for sky
  float* sky = nullptr;    // [height, width], 1 for sky, else 0
};

constexpr int kMaxSide = 16384;

class Renderer {
 public:
  // 0: as many threads as processors; at most 256. They sleep between pictures.
  explicit Renderer(int threads = 0);
  ~Renderer();
  Renderer(const Renderer&) = delete;
  Renderer& operator=(const Renderer&) = delete;

  // Throws std::invalid_argument for a size outside 1..kMaxSide, intrinsics or a pose that are not finite or
  // not usable, options out of range, or a stride below width * pixel_bytes. One call at a time.
  void render(const Scene& scene, const Camera& camera, int width, int height, const RenderOptions& options,
              const RenderTarget& target);
  int threads() const;
  // "plain", "avx2": what the rays are cast with.
  static const char* instruction_set();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace da3::scene
