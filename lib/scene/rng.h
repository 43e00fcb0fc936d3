// SPDX-License-Identifier: MIT
//
// A small generator with the same sequence everywhere (SplitMix64); the distributions of the standard library
// differ from one library to the next.
#pragma once

#include <cmath>
#include <cstdint>

namespace da3::scene {

// Bounds of what is drawn: lo <= value < hi.
struct Range {
  double lo, hi;
};

// Two draws in one expression come in an order that the compiler chooses (unless in a braced list), so that
// each compiler would have scenes of its own. Every draw is a statement of its own, or goes through a
// function that says its order.
class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 0xD1B54A32D192ED03ull) { next(); }

  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15ull;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  uint32_t bits() { return uint32_t(next() >> 32); }
  // 0 <= value < 1
  double uniform() { return double(next() >> 11) * 0x1p-53; }
  double uniform(double lo, double hi) { return lo + (hi - lo) * uniform(); }
  double uniform(Range range) { return uniform(range.lo, range.hi); }
  // 0 <= value < count
  int index(int count) { return int(uniform() * count); }
  bool chance(double probability) { return uniform() < probability; }
  // Mean 0, deviation 1: sum of twelve uniforms, so within -6..6.
  double normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }

 private:
  uint64_t state_;
};

}  // namespace da3::scene
