// SPDX-License-Identifier: MIT
//
// JPEG in memory, through libjpeg.
#pragma once

#include <cstdint>
#include <vector>

namespace da3::bench {

struct DecodedImage {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;
};

// With a size above 0: at the smallest eighth of the full size that is not below it. Throws
// std::runtime_error.
DecodedImage decode_jpeg(const std::vector<uint8_t>& file, int least_width, int least_height);
std::vector<uint8_t> encode_jpeg(const std::vector<uint8_t>& rgb, int width, int height, int quality);

}  // namespace da3::bench
