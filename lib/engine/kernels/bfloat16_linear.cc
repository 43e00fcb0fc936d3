// SPDX-License-Identifier: MIT
#include "engine/kernels/bfloat16_linear.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "engine/kernels/tile_products.h"

namespace da3::kernels {
namespace {

constexpr int64_t kBandRows = 128;      // at most: packed, they stay in the second-level cache
constexpr int64_t kPieceOutputs = 384;  // for which rows are packed, if there are many
constexpr int64_t kSmallOutputs = 96;   // else
constexpr int64_t kManyRows = 4 * kBandRows;

// Weights of `outputs` of 16 outputs as a tile takes them: [pairs of inputs][16 outputs][2], zeros where
// there are none.
void lay_out(const uint16_t* weight, int64_t outputs, int64_t in, int64_t padded_in, uint16_t* to) {
  for (int64_t k = 0; k < padded_in; k += 2)
    for (int64_t n = 0; n < kTileRows; ++n, to += 2) {
      to[0] = n < outputs && k < in ? weight[n * in + k] : uint16_t(0);
      to[1] = n < outputs && k + 1 < in ? weight[n * in + k + 1] : uint16_t(0);
    }
}

#if defined(__x86_64__)
// The same for 16 outputs and an even number of inputs, a pair at a time: twice as fast.
DA3_AVX512 void lay_out_pairs(const uint16_t* weight, int64_t in, int64_t padded_in, uint16_t* to) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i rows = _mm512_mullo_epi32(first, _mm512_set1_epi32(int(in / 2)));
  for (int64_t pair = 0; pair < in / 2; ++pair, to += 2 * kTileRows)
    _mm512_storeu_si512(
        to, _mm512_i32gather_epi32(_mm512_add_epi32(rows, _mm512_set1_epi32(int(pair))), weight, 4));
  std::fill_n(to, (padded_in - in) * kTileRows, uint16_t(0));
}
#endif

}  // namespace

// Bands of rows, and outputs of a piece.
struct Bfloat16Linear::Cut {
  int64_t band_rows, bands, outputs, pieces_a_band;
};

Bfloat16Linear::Cut Bfloat16Linear::cut(int64_t rows) const {
  // As few bands as may be, of equal size but for the last one.
  const int64_t bands = std::max<int64_t>(1, ceil_div(rows, kBandRows));
  const int64_t band_rows = std::max(kBlock, ceil_div(ceil_div(rows, bands), kBlock) * kBlock);
  const int64_t outputs = std::min(columns_, rows < kManyRows ? kSmallOutputs : kPieceOutputs);
  return {band_rows, ceil_div(rows, band_rows), outputs, ceil_div(columns_, outputs)};
}

Bfloat16Linear::Bfloat16Linear(const uint16_t* weight, const float* bias, int64_t out, int64_t in)
    : out_(out), in_(in), steps_(ceil_div(in, kStep)), columns_(ceil_div(out, kBlock) * kBlock) {
  if (out < 1 || in < 1)
    throw std::invalid_argument("A layer has at least one input, not " + std::to_string(in) +
                                ", and at least one output, not " + std::to_string(out) + ".");
  bias_.assign(size_t(columns_), 0.0f);
  if (bias) std::copy_n(bias, out, bias_.begin());
  uint16_t* to = weights_.get(size_t(columns_ * steps_ * kStep));
  const int64_t padded_in = steps_ * kStep;
  for (int64_t first = 0; first < columns_; first += kTileRows, to += padded_in * kTileRows) {
    const int64_t outputs = std::clamp<int64_t>(out - first, 0, kTileRows);
#if defined(__x86_64__)
    if (outputs == kTileRows && in % 2 == 0 && has_avx512()) {
      lay_out_pairs(weight + first * in, in, padded_in, to);
      continue;
    }
#endif
    lay_out(weight + first * in, outputs, in, padded_in, to);
  }
}

int64_t Bfloat16Linear::pieces(int64_t rows) const {
  const Cut c = cut(rows);
  return c.bands * c.pieces_a_band;
}

#if defined(__x86_64__)

namespace {

// `rows` rows as tiles take them, [16 rows][step][16][32], up to a whole block of rows, with zeros.
DA3_AMX void pack(const uint16_t* x, int64_t rows, int64_t in, int64_t steps, uint16_t* to) {
  const int64_t padded = ceil_div(rows, kBlock) * kBlock;
  for (int64_t first = 0; first < padded; first += kTileRows)
    for (int64_t s = 0; s < steps; ++s)
      for (int64_t r = first; r < first + kTileRows; ++r, to += kStep) {
        const int64_t there = std::min(kStep, in - s * kStep);
        const __mmask32 lanes = r >= rows ? 0u : there == kStep ? ~0u : (1u << there) - 1u;
        _mm512_store_si512(to, _mm512_maskz_loadu_epi16(lanes, x + (r < rows ? r : 0) * in + s * kStep));
      }
}

// sums[32][32] of two tiles of rows, x [2][steps], by two of outputs, w [2][steps].
DA3_AMX_INLINE void multiply(const uint16_t* x, const uint16_t* w, int64_t steps, Soon* soon, float* sums) {
  const int64_t half = steps * kTile;
  begin_block();
  for (int64_t s = 0; s < steps; ++s, x += kTile, w += kTile) add_to_block(x, x + half, w, w + half, soon);
  end_block(sums);
}

// What becomes of the sums of a block; `outputs` <= 32 of them are there.
struct Finish {
  const float* bias;
  int64_t outputs;
  uint16_t* y;
  int64_t stride;  // values
  bool gelu;
};

DA3_AMX_INLINE __m512 finished(const Finish& f, const float* sums, int64_t n) {
  const __m512 v = _mm512_add_ps(_mm512_loadu_ps(sums + n), _mm512_loadu_ps(f.bias + n));
  return f.gelu ? gelu_of(v) : v;
}

DA3_AMX void finish(const Finish& f, int64_t rows, const float* sums) {
  for (int64_t r = 0; r < rows; ++r, sums += kBlock)
    keep_32(finished(f, sums, 0), finished(f, sums, 16), f.outputs, f.y + r * f.stride);
}

// A band of rows, packed, by `blocks` blocks of outputs, beginning at `w`; after the last one `next` is used.
DA3_AMX void band(const uint16_t* x, int64_t rows, int64_t steps, const uint16_t* w, int64_t blocks,
                  const uint16_t* next, const Finish& first) {
  alignas(64) float sums[kBlock * kBlock];
  const int64_t weights = kBlock * steps * kStep;  // of a block of outputs
  const int64_t down = ceil_div(rows, kBlock);
  const int64_t lines = ceil_div(kBlock, down);  // so that all are asked for
  written();
  Finish f = first;
  for (int64_t b = 0; b < blocks; ++b, w += weights) {
    const char* const soon = reinterpret_cast<const char*>(b + 1 < blocks ? w + weights : next);
    Soon asked{soon, soon + 2 * weights, lines};
    f.outputs = std::min(kBlock, first.outputs - b * kBlock);
    f.bias = first.bias + b * kBlock;
    for (int64_t m = 0; m < rows; m += kBlock) {
      f.y = first.y + m * f.stride + b * kBlock;
      multiply(x + m * steps * kStep, w, steps, &asked, sums);
      finish(f, std::min(kBlock, rows - m), sums);
    }
  }
}

}  // namespace

bool Bfloat16Linear::available() {
  return has_amx();
}

void Bfloat16Linear::run(const Job& job, int64_t begin, int64_t end) const {
  if (!available()) throw std::logic_error("This processor has no tiles (AMX).");
  const Cut c = cut(job.rows);
  PackedRows memory;
  uint16_t* const packed = memory.get(c.band_rows * steps_ * kStep);
  const TileRegisters registers;
  int64_t packed_band = -1;
  for (int64_t p = begin; p < end; ++p) {
    const int64_t which = p / c.pieces_a_band, n = p % c.pieces_a_band * c.outputs;
    const int64_t m = which * c.band_rows, rows = std::min(c.band_rows, job.rows - m);
    if (which != packed_band) pack(job.x + m * in_, rows, in_, steps_, packed);
    packed_band = which;
    const int64_t outputs = std::min(c.outputs, columns_ - n), at = m * out_ + n;
    const int64_t after = n + outputs < columns_ ? n + outputs : 0;
    const uint16_t* const weights = weights_.data();
    band(packed, rows, steps_, weights + n * steps_ * kStep, outputs / kBlock,
         weights + after * steps_ * kStep, {bias_.data() + n, out_ - n, job.y + at, out_, job.gelu});
  }
}

size_t Bfloat16Linear::kept() {
  return PackedRows::kept();
}

#else

bool Bfloat16Linear::available() {
  return false;
}
void Bfloat16Linear::run(const Job&, int64_t, int64_t) const {
  throw std::logic_error("This processor has no tiles (AMX).");
}
size_t Bfloat16Linear::kept() {
  return 0;
}

#endif

}  // namespace da3::kernels
