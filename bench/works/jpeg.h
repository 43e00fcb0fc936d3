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

// Into `out`, whose memory is used again. With a size above 0: at the smallest of 1/8, 1/4, 1/2 and 1 of the
// full size that is not below it (libjpeg-turbo has no fast way to the other eighths). Throws
// std::runtime_error.
void decode_jpeg(const std::vector<uint8_t>& file, int least_width, int least_height, DecodedImage* out);
std::vector<uint8_t> encode_jpeg(const std::vector<uint8_t>& rgb, int width, int height, int quality);

}  // namespace da3::bench
