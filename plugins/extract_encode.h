// SPDX-License-Identifier: MIT
//
// Measurements as 16-bit and 8-bit samples. No GStreamer objects, no state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/depth_frame.h"

namespace da3::plugin {

enum class ExtractPlane { depth, disparity, confidence, sky };

// value = offset + scale * sample, for samples from 1 to 65534.
struct ExtractCoding {
  ExtractPlane plane = ExtractPlane::depth;
  double scale = 0.001, offset = 0;
  double unit = 1;  // a depth of the map times this is in the unit of the samples
};

constexpr uint16_t kExtractInvalid = 0;      // no measurement: NaN, zero, negative, outside the depth region
constexpr uint16_t kExtractLargest = 65534;  // of a measurement
constexpr uint16_t kExtractBeyond = 65535;   // more than the largest
constexpr float kSkyThreshold = 0.3f;        // sky from here up

// What became of the samples of one frame.
struct ExtractCount {
  size_t measured = 0;  // all but the invalid ones
  size_t beyond = 0;    // stored as 65535
  size_t below = 0;     // less than sample 1 stands for, stored as 1
  double largest = 0;   // of the finite values
};

// A picture of samples, borrowed; `stride` in bytes.
template <typename Sample>
struct SamplePlane {
  uint8_t* data = nullptr;
  int width = 0, height = 0;
  int stride = 0;
  Sample* row(int y) const { return reinterpret_cast<Sample*>(data + ptrdiff_t(y) * stride); }
};

// Encodes the map (row-major, float) bilinearly into `region` of `out`; the rest of `out` becomes invalid.
// Where the nearest pixel of the map is invalid so is the sample; other invalid neighbours do not count. A
// map whose region has its own size is encoded pixel by pixel.
ExtractCount encode_samples(const float* map, int width, int height, const Region& region,
                            const ExtractCoding& coding, const SamplePlane<uint16_t>& out);

// Sky (nearest pixel at least the threshold) is 255, everything else 0.
void encode_sky(const float* map, int width, int height, const Region& region,
                const SamplePlane<uint8_t>& out);

}  // namespace da3::plugin
