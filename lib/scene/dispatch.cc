// SPDX-License-Identifier: MIT
#include "scene/kernel.h"

namespace da3::scene {
namespace {

bool has_avx2() {
#if defined(DA3_SCENE_AVX2)
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

}  // namespace

const Kernel* const* all_kernels() {
  static const Kernel* const both[] = {
    &plain::kernel,
#if defined(DA3_SCENE_AVX2)
    &avx2::kernel,
#endif
    nullptr
  };
  static const Kernel* const one[] = {&plain::kernel, nullptr};
  return has_avx2() ? both : one;
}

const Kernel& best_kernel() {
  static const Kernel& best = [&]() -> const Kernel& {
    const Kernel* const* at = all_kernels();
    while (at[1]) ++at;
    return **at;
  }();
  return best;
}

}  // namespace da3::scene
