// SPDX-License-Identifier: MIT
//
// Depth to colours on a packed 8-bit RGB picture. No GStreamer objects, no locks, no state shared between
// objects.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/depth_frame.h"
#include "common/resample.h"
#include "image/colormap.h"
#include "viz_range.h"

namespace da3::plugin {

// A packed picture of 3 or 4 bytes a pixel, borrowed.
struct Canvas {
  uint8_t* data = nullptr;
  int width = 0, height = 0;
  int stride = 0;  // bytes per row
  int pixel = 4;   // bytes per pixel
  int r = 0, g = 1, b = 2;
  int rest = -1;  // alpha or padding byte, -1 if there is none

  uint8_t* at(int x, int y) const { return data + ptrdiff_t(y) * stride + ptrdiff_t(x) * pixel; }
  // A part of this picture; must lie inside.
  Canvas part(int x, int y, int w, int h) const {
    Canvas c = *this;
    c.data = at(x, y);
    c.width = w;
    c.height = h;
    return c;
  }
};

// Opaque black.
void clear(const Canvas& canvas);

// Which entry of the colour map a depth has: place in the range, then along the map.
struct ColorScale {
  VizRange range;
  VizMode mode = VizMode::disparity;
  bool reverse = false;  // lo of the range gets the last entry
};

// Position along the map times 65536, 0..65535 (entry = position / 256), for one depth. Depths that are not
// finite or not positive are at the far end.
float map_position(const ColorScale& scale, float depth);

class DepthPainter {
 public:
  // Paints the depth map (row-major, `width` x `height`) into `region` of `canvas`, mixed with what is there
  // by `alpha` (0 = untouched, 1 = colours only). Pixels outside the region are left alone.
  void paint(const Canvas& canvas, const float* depth, int width, int height, const Region& region,
             const ColorScale& scale, image::Colormap map, double alpha);

 private:
  struct Geometry {
    int canvas_width = 0, canvas_height = 0, map_width = 0, map_height = 0;
    Region region;
    bool operator==(const Geometry&) const = default;
  };
  void prepare(const Canvas& canvas, int width, int height, const Region& region);
  void shrink(int* width, int* height, const Region& region);

  Geometry geometry_;
  ResampleAxis x_, y_;
  std::vector<float> positions_;  // of the map's pixels
  std::vector<uint8_t> colors_;   // of one row
};

}  // namespace da3::plugin
