// SPDX-License-Identifier: MIT
#include "engine/kernels/bfloat16_conv.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "engine/kernels/tile_products.h"

namespace da3::kernels {
namespace {

constexpr int64_t kTaps = 9;
constexpr int64_t kPackedValues = int64_t(256) << 10;  // of a band: they stay in the second-level cache
constexpr int64_t kFewestPixels = 128;                 // of a band, though they be more
constexpr int64_t kFewestPieces = 32;  // for many threads; if there are less, bands are cut, and outputs
constexpr int64_t kPieceOutputs = 64;

}  // namespace

// Bands of rows of one item, and outputs of a piece. A row is packed with a pixel of zeros before and after
// it.
struct Bfloat16Conv::Cut {
  int64_t pitch;      // pixels of a packed row
  int64_t band_rows;  // of the result; packed, there are two more
  int64_t bands;      // of an item
  int64_t outputs, pieces_a_band;

  // Values of a band for each step of inputs, and what the last block of pixels reads beyond the last row.
  int64_t plane() const { return ((band_rows + 2) * pitch + kBlock + 3) * kStep; }
};

Bfloat16Conv::Cut Bfloat16Conv::cut(const Job& job) const {
  Cut c;
  const int64_t rows = std::max<int64_t>(job.out_rows(), 1);
  c.pitch = job.columns + 2;
  // Fewer pixels are not worth reading all weights for, nor the two rows packed besides.
  const int64_t least = std::min(rows, ceil_div(kFewestPixels, c.pitch));
  const int64_t fitting = kPackedValues / (c.pitch * steps_ * kStep) - 2;
  c.bands = ceil_div(rows, std::clamp(fitting, least, rows));
  c.outputs = columns_;
  if (job.items * c.bands < kFewestPieces) {
    c.outputs = std::min(columns_, kPieceOutputs);
    const int64_t wanted = ceil_div(kFewestPieces, job.items * ceil_div(columns_, c.outputs));
    c.bands = std::clamp(wanted, c.bands, std::max(c.bands, rows / least));
  }
  c.band_rows = ceil_div(rows, c.bands);
  c.bands = ceil_div(rows, c.band_rows);
  c.pieces_a_band = ceil_div(columns_, c.outputs);
  return c;
}

Bfloat16Conv::Bfloat16Conv(const uint16_t* weight, const float* bias, int64_t out, int64_t in)
    : out_(out), in_(in), steps_(ceil_div(in, kStep)), columns_(ceil_div(out, kBlock) * kBlock) {
  if (out < 1 || in < 1)
    throw std::invalid_argument("A convolution has at least one input, not " + std::to_string(in) +
                                ", and at least one output, not " + std::to_string(out) + ".");
  bias_.assign(size_t(columns_), 0.0f);
  if (bias) std::copy_n(bias, out, bias_.begin());
  uint16_t* to = weights_.get(size_t(columns_ * steps_ * kStep * kTaps));
  const auto value = [&](int64_t n, int64_t c, int64_t tap) {
    return n < out && c < in ? weight[(n * in + c) * kTaps + tap] : uint16_t(0);
  };
  for (int64_t block = 0; block < columns_; block += kBlock)
    for (int64_t step = 0; step < steps_; ++step)
      for (int64_t tap = 0; tap < kTaps; ++tap)
        for (int64_t first = block; first < block + kBlock; first += kTileRows)
          for (int64_t c = step * kStep; c < (step + 1) * kStep; c += 2)
            for (int64_t n = first; n < first + kTileRows; ++n) {
              *to++ = value(n, c, tap);
              *to++ = value(n, c + 1, tap);
            }
}

int64_t Bfloat16Conv::pieces(const Job& job) const {
  if (job.items < 1 || job.out_rows() < 1 || job.columns < 1) return 0;
  const Cut c = cut(job);
  return job.items * c.bands * c.pieces_a_band;
}

#if defined(__x86_64__)

namespace {

// One packed row: for each step of inputs `pitch` pixels of 32 values, zeros around those of `from` and
// behind the last input. `from` null: all zeros.
DA3_AMX void pack_row(const uint16_t* from, int64_t in, int64_t steps, int64_t pitch, int64_t plane,
                      uint16_t* to) {
  const __m512i zero = _mm512_setzero_si512();
  for (int64_t s = 0; s < steps; ++s) {
    uint16_t* at = to + s * plane;
    if (!from) {
      std::fill_n(at, pitch * kStep, uint16_t(0));
      continue;
    }
    const int64_t there = std::min(kStep, in - s * kStep);
    const __mmask32 lanes = there == kStep ? ~0u : (1u << there) - 1u;
    _mm512_store_si512(at, zero);
    for (int64_t x = 0; x < pitch - 2; ++x)
      _mm512_store_si512(at += kStep, _mm512_maskz_loadu_epi16(lanes, from + x * in + s * kStep));
    _mm512_store_si512(at + kStep, zero);
  }
}

// sums[32][32] of 32 pixels that follow each other in packed rows, from the top left of what they need on, by
// 32 outputs.
DA3_AMX_INLINE void multiply(const uint16_t* x, int64_t pitch, int64_t plane, int64_t steps,
                             const uint16_t* w, Soon* soon, float* sums) {
  begin_block();
  for (int64_t s = 0; s < steps; ++s, x += plane)
    for (int64_t dy = 0; dy < 3; ++dy) {
      const uint16_t* at = x + dy * pitch * kStep;
#pragma GCC unroll 3
      for (int64_t dx = 0; dx < 3; ++dx, at += kStep, w += 2 * kTile)
        add_to_block(at, at + kTile, w, w + kTile, soon);
    }
  end_block(sums);
}

// What becomes of the sums of 32 outputs, or of those that are there.
struct Finish {
  const float* bias;
  int64_t outputs;
  bool relu, add;
};

DA3_AMX_INLINE __m512 finished(const Finish& f, const float* sums, const uint16_t* to, int64_t n) {
  __m512 v = _mm512_add_ps(_mm512_loadu_ps(sums + n), _mm512_loadu_ps(f.bias + n));
  if (f.add) v = _mm512_add_ps(v, load(to + n, lanes(std::max<int64_t>(f.outputs - n, 0))));
  if (f.relu) v = _mm512_max_ps(_mm512_setzero_ps(), v);  // in this order NaN stays NaN
  return v;
}

DA3_AMX_INLINE void finish(const Finish& f, const float* sums, uint16_t* to) {
  keep_32(finished(f, sums, to, 0), finished(f, sums, to, 16), f.outputs, to);
}

// A packed band and where its results go.
struct Band {
  const uint16_t* packed;
  int64_t pitch, plane, steps;
  int64_t rows, columns;
  uint16_t* to;    // of the first pixel's first output of those that follow
  int64_t stride;  // values from pixel to pixel
};

// By `blocks` blocks of outputs, the first of which `f` tells of, beginning at `w`; after the last one `next`
// is used.
DA3_AMX void convolve(const Band& band, const uint16_t* w, int64_t blocks, const uint16_t* next, Finish f) {
  alignas(64) float sums[kBlock * kBlock];
  const int64_t weights = kBlock * band.steps * kStep * kTaps;
  // Rows with the two pixels between them; what comes of those is dropped.
  const int64_t pixels = (band.rows - 1) * band.pitch + band.columns, times = ceil_div(pixels, kBlock);
  const int64_t lines = ceil_div(kBlock, times);  // so that all are asked for
  written();
  uint16_t* to = band.to;
  for (int64_t b = 0; b < blocks; ++b, w += weights, to += kBlock, f.outputs -= kBlock, f.bias += kBlock) {
    const char* const soon = reinterpret_cast<const char*>(b + 1 < blocks ? w + weights : next);
    Soon asked{soon, soon + 2 * weights, lines};
    int64_t column = 0;
    uint16_t* at = to;
    for (int64_t first = 0; first < pixels; first += kBlock) {
      multiply(band.packed + first * kStep, band.pitch, band.plane, band.steps, w, &asked, sums);
      const int64_t count = std::min(kBlock, pixels - first);
      for (int64_t i = 0; i < count; ++i) {
        if (column < band.columns) {
          finish(f, sums + i * kBlock, at);
          at += band.stride;
        }
        if (++column == band.pitch) column = 0;
      }
    }
  }
}

}  // namespace

bool Bfloat16Conv::available() {
  return has_amx();
}

void Bfloat16Conv::run(const Job& job, int64_t begin, int64_t end) const {
  if (!available()) throw std::logic_error("This processor has no tiles (AMX).");
  const Cut c = cut(job);
  const int64_t out_rows = job.out_rows(), plane = c.plane(), weights = steps_ * kStep * kTaps;
  PackedRows memory;
  uint16_t* const packed = memory.get(plane * steps_);
  const TileRegisters registers;
  int64_t packed_band = -1;
  for (int64_t p = begin; p < end; ++p) {
    const int64_t which = p / c.pieces_a_band, item = which / c.bands;
    const int64_t row = which % c.bands * c.band_rows, rows = std::min(c.band_rows, out_rows - row);
    if (which != packed_band) {
      for (int64_t r = 0; r < rows + 2; ++r) {
        const int64_t y = row - job.row_padding + r;
        const bool inside = y >= 0 && y < job.rows;
        pack_row(inside ? job.from + (item * job.rows + y) * job.columns * in_ : nullptr, in_, steps_,
                 c.pitch, plane, packed + r * c.pitch * kStep);
      }
      // What the last block of pixels reads beyond the last row.
      for (int64_t s = 0; s < steps_; ++s)
        std::fill_n(packed + s * plane + (rows + 2) * c.pitch * kStep, kBlock * kStep, uint16_t(0));
      packed_band = which;
    }
    const int64_t n = p % c.pieces_a_band * c.outputs, outputs = std::min(c.outputs, columns_ - n);
    const int64_t after = n + outputs < columns_ ? n + outputs : 0;
    convolve({packed, c.pitch, plane, steps_, rows, job.columns,
              job.to + (item * out_rows + row) * job.columns * out_ + n, out_},
             weights_.data() + n * weights, outputs / kBlock, weights_.data() + after * weights,
             {bias_.data() + n, out_ - n, job.relu, job.add});
  }
}

size_t Bfloat16Conv::kept() {
  return PackedRows::kept();
}

#else

bool Bfloat16Conv::available() {
  return false;
}
void Bfloat16Conv::run(const Job&, int64_t, int64_t) const {
  throw std::logic_error("This processor has no tiles (AMX).");
}
size_t Bfloat16Conv::kept() {
  return 0;
}

#endif

}  // namespace da3::kernels
