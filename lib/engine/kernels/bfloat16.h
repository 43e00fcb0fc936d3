// SPDX-License-Identifier: MIT
//
// For the kernels of this room only: bfloat16, held as uint16_t, and float by the same names. One value at a
// time; avx512.h has sixteen.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace da3::kernels {

inline float widen(float v) {
  return v;
}

inline float widen(uint16_t v) {
  const uint32_t bits = uint32_t(v) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

inline void put(float v, float* to) {
  *to = v;
}

// To nearest even; what is not a number stays one.
inline void put(float v, uint16_t* to) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  *to = std::isnan(v) ? uint16_t(0x7fc0) : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace da3::kernels
