// SPDX-License-Identifier: MIT
//
// Makes JPEG files in memory, through libjpeg. They are read by image/jpeg.h.
#pragma once

#include <cstdint>
#include <vector>

namespace da3::bench {

// RGB, or grey when there is one byte a pixel -> a JPEG file. `quality` from 1 to 100. Throws
// std::runtime_error.
std::vector<uint8_t> encode_jpeg(const std::vector<uint8_t>& pixels, int width, int height, int quality,
                                 bool progressive = false);

}  // namespace da3::bench
