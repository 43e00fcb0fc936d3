// SPDX-License-Identifier: MIT
#include "engine/kernels/instructions.h"

#include <atomic>

namespace da3::kernels {
namespace {

std::atomic<Instructions> limit{Instructions::all};

struct Processor {
  bool avx512 = false, bf16 = false, vnni = false;
};

Processor look() {
  Processor out;
#if defined(__x86_64__)
  out.avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  out.bf16 = out.avx512 && __builtin_cpu_supports("avx512bf16");
  out.vnni = out.avx512 && __builtin_cpu_supports("avx512vnni");
#endif
  return out;
}

const Processor& processor() {
  static const Processor found = look();
  return found;
}

}  // namespace

bool has_avx512() {
  return processor().avx512 && limit != Instructions::none;
}

bool has_avx512_bf16() {
  return processor().bf16 && limit == Instructions::all;
}

bool has_avx512_vnni() {
  return processor().vnni && limit != Instructions::none;
}

Instructions limit_instructions(Instructions most) {
  return limit.exchange(most);
}

}  // namespace da3::kernels
