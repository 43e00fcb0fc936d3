// SPDX-License-Identifier: MIT
//
// bfloat16 as kernels without LibTorch hold it.
#pragma once

#include <cstdint>
#include <cstring>

namespace da3::test {

// To nearest even.
inline uint16_t bfloat16(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  return uint16_t((bits + ((bits >> 16) & 1) + 0x7fff) >> 16);
}

inline float from_bfloat16(uint16_t v) {
  const uint32_t bits = uint32_t(v) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

}  // namespace da3::test
