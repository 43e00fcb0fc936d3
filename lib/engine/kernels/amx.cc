// SPDX-License-Identifier: MIT
#include "engine/kernels/amx.h"

#if defined(__x86_64__)

namespace da3::kernels {
namespace {

// The operand of LDTILECFG.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfiguration) == 64);

constexpr TileConfiguration kWhole;

DA3_AMX void configure() {
  _tile_loadconfig(&kWhole);
}

DA3_AMX void release() {
  _tile_release();
}

}  // namespace

TileRegisters::TileRegisters() {
  configure();
}

TileRegisters::~TileRegisters() {
  release();
}

}  // namespace da3::kernels

#endif
