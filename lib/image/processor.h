// SPDX-License-Identifier: MIT
//
// What the processor has of what kernels here are written for.
#pragma once

#include <atomic>

namespace da3::image {

// The most that kernels may use: for tests, which compare them.
enum class Vectors { none, avx2, avx512 };
inline std::atomic<Vectors> most_vectors = Vectors::avx512;

inline bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && most_vectors != Vectors::none;
#else
  return false;
#endif
}

inline bool has_avx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         most_vectors == Vectors::avx512;
#else
  return false;
#endif
}

}  // namespace da3::image
