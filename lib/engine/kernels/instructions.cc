// SPDX-License-Identifier: MIT
#include "engine/kernels/instructions.h"

#include <atomic>
#include <cerrno>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace da3::kernels {
namespace {

std::atomic<Instructions> limit{Instructions::all};

struct Processor {
  bool avx512 = false, bf16 = false, vnni = false;
};

#if defined(__x86_64__) && defined(__linux__)

// The system saves tiles for a process only if it asks for that. One request serves all threads; signals take
// more of a stack from then on, so it is made where tiles are about to be used.
bool may_use_tiles() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  const int before = errno;
  const bool granted = syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  errno = before;
  return granted;
}

bool processor_has_tiles() {
  constexpr unsigned kTiles = 1u << 24, kInt8 = 1u << 25, kBf16 = 1u << 22, kAll = kTiles | kInt8 | kBf16;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kAll) == kAll;
}

#endif

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
  return processor().bf16 && limit >= Instructions::no_tiles;
}

bool has_avx512_vnni() {
  return processor().vnni && limit != Instructions::none;
}

bool has_amx() {
#if defined(__x86_64__) && defined(__linux__)
  if (limit != Instructions::all || !processor().bf16 || !processor().vnni) return false;
  static const bool tiles = processor_has_tiles() && may_use_tiles();
  return tiles;
#else
  return false;
#endif
}

Instructions limit_instructions(Instructions most) {
  return limit.exchange(most);
}

}  // namespace da3::kernels
