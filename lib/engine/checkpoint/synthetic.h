// SPDX-License-Identifier: MIT
//
// Synthetic weights and inputs: functions of (name, index, seed), so that two implementations can make the same
// numbers without a file. No LibTorch. Used by synthetic:NAME models, tests and benchmarks.
//
//   u(key, i, seed) = (splitmix64((fnv1a64(key) ^ (seed * 0x9E3779B97F4A7C15)) + i) >> 11) * 2^-52 - 1   in [-1, 1)
//   weight          = (float)(base + scale * u)      in double, no fused multiply-add
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace da3::synthetic {

uint64_t fnv1a64(const std::string& text);
uint64_t splitmix64(uint64_t x);
// One number in [-1, 1), exact.
double unit(const std::string& key, uint64_t index, uint64_t seed);

// Multiplies every tensor whose key contains `part` by `factor` (in double, rounded once).
struct ValueFactor {
  std::string part;
  double factor;
};

// Fills `count` = product(shape) floats of the weight with checkpoint key `key`, on `threads` threads (0 = all cores).
void fill_weight(float* out, const std::string& key, const std::vector<int64_t>& shape, uint64_t seed,
                 const std::vector<ValueFactor>& factors = {}, unsigned threads = 0);

// Normalised network input [B, S, 3, H, W]; `name` selects the waves.
void fill_input(float* out, const std::string& name, int64_t b, int64_t s, int64_t h, int64_t w, uint64_t seed);

// Interleaved RGB image of integer arithmetic, width*height*3 bytes.
void fill_rgb(uint8_t* out, int width, int height, int index);

}  // namespace da3::synthetic
