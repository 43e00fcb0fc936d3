// SPDX-License-Identifier: MIT
//
// Colour maps of 256 RGB entries. Thread-safe; the tables are built once and live as long as the process.
#pragma once

#include <array>
#include <cstdint>

namespace da3::image {

enum class Colormap { spectral, turbo, inferno, viridis, gray };

struct Rgb {
  uint8_t r = 0, g = 0, b = 0;
  bool operator==(const Rgb&) const = default;
};
using ColorTable = std::array<Rgb, 256>;

// spectral is ColorBrewer's eleven colours, interpolated and truncated to bytes as upstream's visualisation
// does (utils/visualize.py); turbo, inferno and viridis are OpenCV's tables; gray is the identity. Throws
// std::invalid_argument for a value that is not in the enumeration.
const ColorTable& color_table(Colormap map);

// TRUE if the last entry is the warm or bright end of the map, FALSE if the first is.
bool warm_end_is_last(Colormap map);

}  // namespace da3::image
