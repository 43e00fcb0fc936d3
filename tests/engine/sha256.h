// SPDX-License-Identifier: MIT
//
// SHA-256 (FIPS 180-4), for comparing images with recorded hashes.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace da3::test {

// The first 32 bits of the fractional part of a root of the first primes.
template <size_t N>
std::array<uint32_t, N> sha256_constants(long double (*root)(long double)) {
  std::array<uint32_t, N> constants{};
  size_t found = 0;
  for (int n = 2; found < N; ++n) {
    bool prime = true;
    for (int d = 2; d * d <= n; ++d) prime = prime && n % d != 0;
    if (!prime) continue;
    const long double value = root(static_cast<long double>(n));
    constants[found++] = static_cast<uint32_t>((value - std::floor(value)) * 4294967296.0L);
  }
  return constants;
}

inline std::string sha256(std::vector<uint8_t> bytes) {
  static const auto k = sha256_constants<64>([](long double x) { return std::cbrt(x); });
  auto state = sha256_constants<8>([](long double x) { return std::sqrt(x); });
  const uint64_t length = bytes.size() * 8;
  bytes.push_back(0x80);
  while (bytes.size() % 64 != 56) bytes.push_back(0);
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(length >> shift));
  for (size_t block = 0; block < bytes.size(); block += 64) {
    std::array<uint32_t, 64> w{};
    for (size_t i = 0; i < 64; ++i) {
      if (i < 16) {
        for (size_t j = 0; j < 4; ++j) w[i] = w[i] << 8 | bytes[block + 4 * i + j];
        continue;
      }
      const uint32_t a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) + w[i - 7] +
             (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
    }
    auto s = state;
    for (size_t i = 0; i < 64; ++i) {
      const uint32_t t1 = s[7] + (std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25)) +
                          ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
      const uint32_t t2 = (std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22)) +
                          ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      s = {t1 + t2, s[0], s[1], s[2], s[3] + t1, s[4], s[5], s[6]};
    }
    for (size_t i = 0; i < 8; ++i) state[i] += s[i];
  }
  std::string text;
  for (const uint32_t word : state)
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  return text;
}

}  // namespace da3::test
