// SPDX-License-Identifier: MIT
//
// For the kernels of this room only: the eight tile registers of AMX, each of 16 rows of 64 bytes. Compilers
// know neither what tile instructions read nor that they need a configuration: so a kernel holds a
// TileRegisters while it runs, and calls written() after it wrote what tiles will read.
#pragma once

#include "engine/kernels/avx512.h"

#if defined(__x86_64__)

#define DA3_AMX   \
  __attribute__(( \
      target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,amx-tile,amx-bf16,amx-int8")))
#define DA3_AMX_INLINE DA3_AMX __attribute__((always_inline)) static inline

namespace da3::kernels {

// Memory that was written is there for the tile loads that follow.
inline void written() {
  __asm__ volatile("" ::: "memory");
}

// All eight registers, whole, for the calling thread as long as this lives. Others (oneDNN) configure theirs
// themselves. Only where has_amx().
class TileRegisters {
 public:
  TileRegisters();
  ~TileRegisters();
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

}  // namespace da3::kernels

#endif
