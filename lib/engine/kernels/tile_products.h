// SPDX-License-Identifier: MIT
//
// For the kernels of this room only: products of bfloat16 by AMX, 32 rows at a time. The caller holds a
// TileRegisters and has called written(). And what layers have in common that compute blocks of 32 rows by 32
// outputs: their sums, and the memory for packed rows.
#pragma once

#include <cstdint>

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/amx.h"

namespace da3::kernels {

constexpr int64_t kStep = 32;      // inputs multiplied by one instruction
constexpr int64_t kTileRows = 16;  // of a register
constexpr int64_t kBlock = 32;     // rows and outputs computed together: two tiles by two

constexpr int64_t ceil_div(int64_t value, int64_t by) {
  return (value + by - 1) / by;
}

}  // namespace da3::kernels

#if defined(__x86_64__)

namespace da3::kernels {

constexpr int64_t kTile = kTileRows * kStep;  // values of a register

// Memory for packed rows, one at a time in a thread, which keeps up to 1 MiB of it for its next call.
class PackedRows {
 public:
  PackedRows() = default;
  ~PackedRows() {
    if (memory().bytes() > kMostKept) memory().clear();
  }
  PackedRows(const PackedRows&) = delete;
  PackedRows& operator=(const PackedRows&) = delete;

  uint16_t* get(int64_t values) { return memory().get(size_t(values)); }
  static size_t kept() { return memory().bytes(); }

 private:
  static constexpr size_t kMostKept = 1 << 20;  // bytes
  static AlignedBuffer<uint16_t>& memory() {
    thread_local AlignedBuffer<uint16_t> it;
    return it;
  }
};

// Memory to be asked for while tiles multiply.
struct Soon {
  const char* at;
  const char* end;
  int64_t lines;  // for each step
};

DA3_AMX_INLINE void ask(Soon* soon) {
  for (int64_t i = 0; i < soon->lines && soon->at < soon->end; ++i, soon->at += 64)
    _mm_prefetch(soon->at, _MM_HINT_T1);
}

// The sums of a block are in registers 0 to 3 between these three. They begin as zeros;
DA3_AMX_INLINE void begin_block() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}
// two tiles of rows by two of outputs, each whole and close together, are added;
DA3_AMX_INLINE void add_to_block(const uint16_t* x0, const uint16_t* x1, const uint16_t* w0,
                                 const uint16_t* w1, Soon* soon) {
  constexpr int64_t kRow = 64;  // bytes
  _tile_loadd(4, x0, kRow);
  _tile_loadd(6, w0, kRow);
  _tile_dpbf16ps(0, 4, 6);
  ask(soon);
  _tile_loadd(7, w1, kRow);
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, x1, kRow);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}
// and they end as sums[32][32].
DA3_AMX_INLINE void end_block(float* sums) {
  _tile_stored(0, sums, 4 * kBlock);
  _tile_stored(1, sums + 16, 4 * kBlock);
  _tile_stored(2, sums + 16 * kBlock, 4 * kBlock);
  _tile_stored(3, sums + 16 * kBlock + 16, 4 * kBlock);
}

// 32 values of a row, as bfloat16; fewer, if there are only `count`.
DA3_AMX_INLINE void keep_32(__m512 first, __m512 second, int64_t count, uint16_t* to) {
  if (count >= 32) {
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(second, first));
    return;
  }
  _mm256_mask_storeu_epi16(to, lanes(count), (__m256i)_mm512_cvtneps_pbh(first));
  if (count > 16) _mm256_mask_storeu_epi16(to + 16, lanes(count - 16), (__m256i)_mm512_cvtneps_pbh(second));
}

// out[r * out_stride + n] = sum over 64 values c of x[r * 64 + c] * w[n, c], for 32 rows r and `columns` n, a
// multiple of 32. w lies in panels of 32 columns, pairs of values together: [panel][64 / 2][32][2].
DA3_AMX_INLINE void multiply_by_panels(const uint16_t* x, const uint16_t* w, int64_t columns, float* out,
                                       int64_t out_stride) {
  constexpr int64_t kTileRow = 64;           // bytes
  constexpr int64_t kPanelRow = 32 * 2 * 2;  // bytes from pair to pair
  // All of x stays in registers 4 to 7.
  _tile_loadd(4, x, 2 * kTileRow);
  _tile_loadd(5, x + 32, 2 * kTileRow);
  _tile_loadd(6, x + 16 * 64, 2 * kTileRow);
  _tile_loadd(7, x + 16 * 64 + 32, 2 * kTileRow);
  for (int64_t n = 0; n < columns; n += 16) {
    const uint16_t* const at = w + n / 32 * 32 * 64 + n % 32 * 2;
    _tile_zero(0);
    _tile_zero(1);
    _tile_loadd(2, at, kPanelRow);
    _tile_dpbf16ps(0, 4, 2);
    _tile_dpbf16ps(1, 6, 2);
    _tile_loadd(3, at + 16 * 64, kPanelRow);
    _tile_dpbf16ps(0, 5, 3);
    _tile_dpbf16ps(1, 7, 3);
    _tile_stored(0, out + n, 4 * out_stride);
    _tile_stored(1, out + 16 * out_stride + n, 4 * out_stride);
  }
}

// out[r * 64 + n] += sum over c < depth of x[r * x_stride + c] * w[c, n], for 32 rows r and 64 columns n;
// depth: a multiple of 32. Pairs of w lie together: [depth / 2][64][2].
DA3_AMX_INLINE void add_products(const uint16_t* x, int64_t x_stride, int64_t depth, const uint16_t* w,
                                 float* out) {
  constexpr int64_t kRow = 64 * 4;  // bytes, of `out` and of pairs of w
  for (int64_t n = 0; n < 64; n += 32) {
    float* const to = out + n;
    _tile_loadd(0, to, kRow);
    _tile_loadd(1, to + 16, kRow);
    _tile_loadd(2, to + 16 * 64, kRow);
    _tile_loadd(3, to + 16 * 64 + 16, kRow);
    for (int64_t c = 0; c < depth; c += 32) {
      const uint16_t* const pairs = w + c * 64 + n * 2;
      _tile_loadd(4, x + c, 2 * x_stride);
      _tile_loadd(6, pairs, kRow);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, pairs + 32, kRow);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, x + 16 * x_stride + c, 2 * x_stride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, to, kRow);
    _tile_stored(1, to + 16, kRow);
    _tile_stored(2, to + 16 * 64, kRow);
    _tile_stored(3, to + 16 * 64 + 16, kRow);
  }
}

}  // namespace da3::kernels

#endif
