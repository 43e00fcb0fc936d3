// SPDX-License-Identifier: MIT
#include "engine/kernels/int8_linear.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "engine/kernels/amx.h"
#include "engine/kernels/avx512.h"
#include "engine/kernels/bfloat16.h"

namespace da3::kernels {
namespace {

constexpr int64_t kVector = 16;     // outputs whose weights lie together
constexpr int64_t kPanel = 48;      // outputs computed together: three vectors
constexpr int64_t kRows = 8;        // rows computed together
constexpr int64_t kTileRows = 128;  // at most: they stay in the second-level cache beside a panel
constexpr int kGroup = 4;           // inputs multiplied by one instruction
constexpr int kOffset = 128;        // weights are stored unsigned
constexpr int64_t kLine = 64;       // bytes: of the cache, of a row of a tile
constexpr int64_t kTiledRows = 32;  // rows computed together by AMX, with one or two panels
constexpr int64_t kMostInputs = int64_t(1) << 16;  // 255 * 127 times that is less than 2^31

struct Block {
  const int8_t* x;         // first of the rows
  int64_t stride;          // bytes from row to row
  const uint8_t* weights;  // of the panel's first vector
  int64_t depth;           // groups

  // Of a group and 16 outputs: [16][4].
  const uint8_t* at(int64_t g, int64_t vector) const {
    return weights + (vector * depth + g) * kVector * kGroup;
  }
};

// What makes numbers of the sums of a block.
template <typename T>
struct Finish {
  const Int8Rows& x;
  int64_t first;       // row
  const float* scale;  // [columns, rounded up to 16]
  const float* shift;  // the same
  int64_t columns;     // that are there
  T* y;                // [rows, columns] of them
  int64_t stride;      // values from row to row
  Int8Output how;
  int64_t sums_stride = kPanel;  // from row to row
};

// sums[r][n] = sum over inputs of x[r] * (w[n] + 128), for `rows` <= 8 rows.
void plain_block(const Block& b, int64_t rows, int32_t* sums) {
  std::fill_n(sums, rows * kPanel, 0);
  for (int64_t g = 0; g < b.depth; ++g) {
    for (int64_t r = 0; r < rows; ++r) {
      const int8_t* x = b.x + r * b.stride + g * kGroup;
      for (int64_t v = 0; v < kPanel / kVector; ++v) {
        const uint8_t* const w = b.at(g, v);
        int32_t* const to = sums + r * kPanel + v * kVector;
        for (int64_t n = 0; n < kVector; ++n)
          to[n] += w[n * 4] * x[0] + w[n * 4 + 1] * x[1] + w[n * 4 + 2] * x[2] + w[n * 4 + 3] * x[3];
      }
    }
  }
}

template <typename T>
void plain_finish(const Finish<T>& f, int64_t rows, const int32_t* sums) {
  for (int64_t r = 0; r < rows; ++r, sums += f.sums_stride) {
    const float row_scale = f.x.scale(f.first + r);
    const int32_t offset = kOffset * f.x.sum(f.first + r);
    T* to = f.y + r * f.stride;
    for (int64_t n = 0; n < f.columns; ++n) {
      float v = float(sums[n] - offset) * (row_scale * f.scale[n]) + f.shift[n];
      if (f.how == Int8Output::gelu) v = 0.5f * v * std::erfc(v * -0.70710678f);
      if (f.how == Int8Output::add) v += widen(to[n]);
      put(v, to + n);
    }
  }
}

#if defined(__x86_64__)

#define DA3_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define DA3_VNNI_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")))
#define DA3_VNNI_INLINE DA3_VNNI __attribute__((always_inline)) static inline

// Every loop over rows and vectors is unrolled, so that the sums stay in registers.
template <int R>
DA3_VNNI void vnni_rows(const Block& b, int32_t* sums) {
  __m512i a[R][3];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) a[r][v] = _mm512_setzero_si512();
  const uint8_t* w = b.weights;
  const int8_t* x = b.x;
  const int64_t stride = b.stride, depth = b.depth, apart = depth * kVector * kGroup;
  for (int64_t g = 0; g < depth; ++g, w += kVector * kGroup, x += kGroup) {
    __m512i panel[3];
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) panel[v] = _mm512_loadu_si512(w + v * apart);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      int32_t four;
      __builtin_memcpy(&four, x + r * stride, 4);
      const __m512i xs = _mm512_set1_epi32(four);
#pragma GCC unroll 3
      for (int v = 0; v < 3; ++v) a[r][v] = _mm512_dpbusd_epi32(a[r][v], panel[v], xs);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) _mm512_storeu_si512(sums + r * kPanel + v * 16, a[r][v]);
}

DA3_VNNI void vnni_block(const Block& b, int64_t rows, int32_t* sums) {
  switch (rows) {
    case 8:
      return vnni_rows<8>(b, sums);
    case 7:
      return vnni_rows<7>(b, sums);
    case 6:
      return vnni_rows<6>(b, sums);
    case 5:
      return vnni_rows<5>(b, sums);
    case 4:
      return vnni_rows<4>(b, sums);
    case 3:
      return vnni_rows<3>(b, sums);
    case 2:
      return vnni_rows<2>(b, sums);
    default:
      return vnni_rows<1>(b, sums);
  }
}

// 32 rows by 16 outputs twice (or once); weights of their first groups.
template <int Tiles>
DA3_AMX_INLINE void amx_columns(const Block& b, const uint8_t* first, const uint8_t* second, int32_t* sums,
                                int64_t sums_stride) {
  constexpr int64_t kStep = kVector * kGroup;
  _tile_zero(0);
  _tile_zero(2);
  if (Tiles > 1) {
    _tile_zero(1);
    _tile_zero(3);
  }
  const int8_t* x = b.x;
  for (int64_t g = 0; g < b.depth; g += 16, x += kLine, first += 16 * kStep) {
    _tile_loadd(4, x, b.stride);
    _tile_loadd(6, first, kStep);
    _tile_dpbsud(0, 4, 6);
    if (Tiles > 1) {
      _tile_loadd(7, second, kStep);
      second += 16 * kStep;
      _tile_dpbsud(1, 4, 7);
    }
    _tile_loadd(5, x + 16 * b.stride, b.stride);
    _tile_dpbsud(2, 5, 6);
    if (Tiles > 1) _tile_dpbsud(3, 5, 7);
  }
  const int64_t row = sums_stride * int64_t(sizeof(int32_t));
  _tile_stored(0, sums, row);
  _tile_stored(2, sums + 16 * sums_stride, row);
  if (Tiles > 1) {
    _tile_stored(1, sums + 16, row);
    _tile_stored(3, sums + 16 * sums_stride + 16, row);
  }
}

// sums[r][n] for 32 rows and the outputs of one or two panels.
DA3_AMX void amx_block(const Block& b, int64_t panels, int32_t* sums) {
  const int64_t columns = panels * kPanel;
  written();
  int64_t n = 0;
  for (; n + 2 * kVector <= columns; n += 2 * kVector)
    amx_columns<2>(b, b.at(0, n / kVector), b.at(0, n / kVector + 1), sums + n, columns);
  if (n < columns) amx_columns<1>(b, b.at(0, n / kVector), nullptr, sums + n, columns);
}

// What is the same for a row of a block, and 16 results of it.
struct RowFactors {
  __m512 scale;
  __m512i offset;
};

template <typename T>
DA3_VNNI_INLINE RowFactors factors_of(const Finish<T>& f, int64_t r) {
  return {_mm512_set1_ps(f.x.scale(f.first + r)), _mm512_set1_epi32(kOffset * f.x.sum(f.first + r))};
}

template <Int8Output How, typename T>
DA3_VNNI_INLINE __m512 finished(const RowFactors& row, const int32_t* sums, const float* scale,
                                const float* shift, const T* to, __mmask16 there) {
  const __m512i sum = _mm512_sub_epi32(_mm512_loadu_si512(sums), row.offset);
  const __m512 factor = _mm512_mul_ps(row.scale, _mm512_loadu_ps(scale));
  __m512 v =
      _mm512_add_ps(_mm512_mul_ps(_mm512_maskz_cvtepi32_ps(0xffff, sum), factor), _mm512_loadu_ps(shift));
  if constexpr (How == Int8Output::gelu) v = gelu_of(v);
  if constexpr (How == Int8Output::add) v = _mm512_add_ps(v, load(to, there));
  return v;
}

template <Int8Output How, typename T>
DA3_VNNI void vnni_finish(const Finish<T>& f, int64_t rows, const int32_t* sums) {
  for (int64_t r = 0; r < rows; ++r, sums += f.sums_stride) {
    const RowFactors row = factors_of(f, r);
    T* to = f.y + r * f.stride;
    for (int64_t n = 0; n < f.columns; n += 16) {
      const __mmask16 there = lanes(f.columns - n);
      keep(finished<How>(row, sums + n, f.scale + n, f.shift + n, to + n, there), there, to + n);
    }
  }
}

// The same where the processor rounds to bfloat16 by itself.
template <Int8Output How>
DA3_VNNI_BF16 void vnni_finish_bf16(const Finish<uint16_t>& f, int64_t rows, const int32_t* sums) {
  const float *const scale = f.scale, *const shift = f.shift;
  const int64_t columns = f.columns, pairs = columns / 32 * 32;
  for (int64_t r = 0; r < rows; ++r, sums += f.sums_stride) {
    const RowFactors row = factors_of(f, r);
    uint16_t* const to = f.y + r * f.stride;
    for (int64_t n = 0; n < pairs; n += 32) {
      const __m512 low = finished<How>(row, sums + n, scale + n, shift + n, to + n, 0xffff);
      const __m512 high =
          finished<How>(row, sums + n + 16, scale + n + 16, shift + n + 16, to + n + 16, 0xffff);
      _mm512_storeu_si512(to + n, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
    for (int64_t n = pairs; n < columns; n += 16) {
      const __mmask16 there = lanes(columns - n);
      const __m256bh rounded =
          _mm512_cvtneps_pbh(finished<How>(row, sums + n, scale + n, shift + n, to + n, there));
      _mm256_mask_storeu_epi16(to + n, there, (__m256i)rounded);
    }
  }
}

template <Int8Output How, typename T>
void finish_as(const Finish<T>& f, int64_t rows, const int32_t* sums) {
  if constexpr (std::is_same_v<T, uint16_t>)
    if (has_avx512_bf16()) return vnni_finish_bf16<How>(f, rows, sums);
  vnni_finish<How>(f, rows, sums);
}

template <typename T>
void fast_finish(const Finish<T>& f, int64_t rows, const int32_t* sums) {
  switch (f.how) {
    case Int8Output::gelu:
      return finish_as<Int8Output::gelu>(f, rows, sums);
    case Int8Output::add:
      return finish_as<Int8Output::add>(f, rows, sums);
    default:
      finish_as<Int8Output::store>(f, rows, sums);
  }
}

// Largest magnitude; NaN if a value is not finite. (Forms with a mask throughout: GCC 12 takes the others'
// undefined lanes for a mistake of ours.)
template <typename T>
DA3_VNNI float vnni_largest(const T* x, int64_t count) {
  const __m512 most = _mm512_set1_ps(std::numeric_limits<float>::max());
  __m512 largest = _mm512_setzero_ps();
  __mmask16 finite = 0xffff;
  for (int64_t i = 0; i < count; i += 16) {
    const __m512 v = _mm512_abs_ps(load(x + i, lanes(count - i)));
    finite &= _mm512_cmp_ps_mask(v, most, _CMP_LE_OQ);
    largest = _mm512_maskz_max_ps(0xffff, largest, v);
  }
  if (finite != 0xffff) return std::numeric_limits<float>::quiet_NaN();
  alignas(64) float each[16];
  _mm512_store_ps(each, largest);
  return *std::max_element(each, each + 16);
}

// Rounds to even, as the plain one. Returns the sum.
template <typename T>
DA3_VNNI int32_t vnni_quantise(const T* x, int64_t count, float inverse, int8_t* to) {
  const __m512 factor = _mm512_set1_ps(inverse);
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 there = lanes(count - i);
    const __m512i q = _mm512_maskz_cvtps_epi32(there, _mm512_mul_ps(load(x + i, there), factor));
    sum = _mm512_add_epi32(sum, q);
    _mm512_mask_cvtsepi32_storeu_epi8(to + i, there, q);
  }
  alignas(64) int32_t each[16];
  _mm512_store_si512(each, sum);
  return std::accumulate(each, each + 16, 0);
}

#else

struct TileRegisters {};
void amx_block(const Block&, int64_t, int32_t*) {}
void vnni_block(const Block& b, int64_t rows, int32_t* sums) {
  plain_block(b, rows, sums);
}
template <typename T>
void fast_finish(const Finish<T>& f, int64_t rows, const int32_t* sums) {
  plain_finish(f, rows, sums);
}
template <typename T>
float vnni_largest(const T*, int64_t) {
  return 0;
}
template <typename T>
int32_t vnni_quantise(const T*, int64_t, float, int8_t*) {
  return 0;
}

#endif

// Values so small that the inverse of their scale may be infinite count as zeros.
float scale_of(float largest) {
  const float scale = largest / 127.0f;
  return scale < std::numeric_limits<float>::min() ? 0.0f : scale;  // NaN stays
}

int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

// Largest magnitude; NaN if a value is not finite.
template <typename T>
float plain_largest(const T* values, int64_t count) {
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    const float v = std::abs(widen(values[i]));
    largest = v > largest ? v : largest;
    finite &= v <= std::numeric_limits<float>::max();
  }
  return finite ? largest : std::numeric_limits<float>::quiet_NaN();
}

template <typename T>
int32_t plain_quantise(const T* x, int64_t count, float inverse, int8_t* to) {
  int32_t sum = 0;
  for (int64_t k = 0; k < count; ++k) {
    // Rounds to even by the addition: |value| <= 127 here, and the vectoriser likes it.
    const float shifted = widen(x[k]) * inverse + 12582912.0f;
    const int32_t q = int32_t(shifted - 12582912.0f);
    to[k] = int8_t(q);
    sum += q;
  }
  return sum;
}

// Quantises a row; returns its scale, which is 0 for a row that counts as zeros and NaN for one that is not
// finite: nothing is written then.
template <typename T>
float quantise(const T* x, int64_t count, int8_t* to, int32_t* sum) {
  const bool vnni = has_avx512_vnni();
  const float scale = scale_of(vnni ? vnni_largest(x, count) : plain_largest(x, count));
  if (!(scale > 0)) return scale;
  const float inverse = 1.0f / scale;
  *sum = vnni ? vnni_quantise(x, count, inverse, to) : plain_quantise(x, count, inverse, to);
  return scale;
}

// Rows of a multiple of 1024 bytes would compete for the same places in the cache.
int64_t stride_of(int64_t width) {
  const int64_t stride = round_up(width, kGroup);
  return stride % 1024 == 0 ? stride + kLine : stride;
}

}  // namespace

size_t Int8Rows::bytes(int64_t rows, int64_t width) {
  return size_t(round_up(rows * 2 * int64_t(sizeof(float)), kLine) + rows * stride_of(width));
}

Int8Rows::Int8Rows(int64_t rows, int64_t width, void* memory)
    : rows_(rows),
      width_(width),
      stride_(stride_of(width)),
      scales_(static_cast<float*>(memory)),
      sums_(reinterpret_cast<int32_t*>(scales_ + rows)),
      values_(static_cast<int8_t*>(memory) + round_up(rows * 2 * int64_t(sizeof(float)), kLine)) {}

template <typename T>
void Int8Rows::quantise_row(int64_t m, const T* x) {
  int8_t* to = values_ + m * stride_;
  std::fill(to + width_, to + stride_, int8_t(0));
  sums_[m] = 0;
  scales_[m] = quantise(x, width_, to, &sums_[m]);
  if (!(scales_[m] > 0)) std::fill_n(to, width_, int8_t(0));
}

void Int8Rows::set_row(int64_t m, const float* x) {
  quantise_row(m, x);
}

void Int8Rows::set_row(int64_t m, const uint16_t* x) {
  quantise_row(m, x);
}

namespace {

// Rows of a panel, sixteen together group by group; unsigned, with the offset that only turns the highest
// bit.
void put_panel(const int8_t* rows, int64_t depth, uint8_t* to) {
  static_assert(kOffset == 0x80 && kGroup == sizeof(uint32_t));
  for (int64_t first = 0; first < kPanel; first += kVector)
    for (int64_t g = 0; g < depth; ++g)
      for (int64_t n = first; n < first + kVector; ++n, to += kGroup) {
        uint32_t group;
        std::memcpy(&group, rows + (n * depth + g) * kGroup, kGroup);
        group ^= 0x80808080u;
        std::memcpy(to, &group, kGroup);
      }
}

}  // namespace

Int8Linear::Int8Linear(const float* weight, const float* bias, int64_t out, int64_t in)
    : out_(out), in_(in), depth_(round_up(in, kGroup) / kGroup) {
  if (out < 1 || in < 1 || in > kMostInputs)
    throw std::invalid_argument("An 8-bit layer has 1 to " + std::to_string(kMostInputs) + " inputs, not " +
                                std::to_string(in) + ", and at least one output, not " + std::to_string(out) +
                                ".");
  const int64_t panels = round_up(out, kPanel) / kPanel;
  uint8_t* const laid_out = weights_.get(size_t(panels * depth_ * kPanel * kGroup));
  scales_.assign(size_t(panels * kPanel), 0.0f);
  bias_.assign(size_t(panels * kPanel), 0.0f);
  if (bias) std::copy_n(bias, out, bias_.begin());
  const int64_t width = depth_ * kGroup;
  std::vector<int8_t> rows(size_t(kPanel * width));
  for (int64_t first = 0; first < out; first += kPanel) {
    std::fill(rows.begin(), rows.end(), int8_t(0));
    for (int64_t n = first; n < std::min(out, first + kPanel); ++n) {
      int32_t sum = 0;
      const float scale = quantise(weight + n * in, in, rows.data() + (n - first) * width, &sum);
      if (std::isnan(scale))
        throw std::invalid_argument("A weight of output " + std::to_string(n) + " is not finite.");
      scales_[size_t(n)] = scale;
    }
    put_panel(rows.data(), depth_, laid_out + first * width);
  }
}

size_t Int8Linear::bytes() const {
  return weights_.bytes() + (scales_.size() + bias_.size()) * sizeof(float);
}

namespace {

// Of a tile; so many that all tiles are of one size, about, and threads get equal shares.
int64_t tile_rows(int64_t rows, int64_t step) {
  const int64_t bands = std::max<int64_t>(1, round_up(rows, kTileRows) / kTileRows);
  return std::max(step, round_up((rows + bands - 1) / bands, step));
}

}  // namespace

bool Int8Linear::by_tiles(int64_t rows) const {
  return has_amx() && rows >= kTiledRows && depth_ % (kLine / kGroup) == 0;
}

int64_t Int8Linear::tiles(int64_t rows) const {
  const int64_t high = tile_rows(rows, by_tiles(rows) ? kTiledRows : kRows);
  return (round_up(rows, high) / high) * int64_t(scales_.size()) / kPanel;
}

template <typename T>
void Int8Linear::run_tiles(const Int8Rows& x, T* y, Int8Output how, int64_t begin, int64_t end) const {
  const bool vnni = has_avx512_vnni(), amx = by_tiles(x.rows());
  const int64_t panels = int64_t(scales_.size()) / kPanel, step = amx ? kTiledRows : kRows;
  const int64_t high = tile_rows(x.rows(), step), panel_bytes = depth_ * kPanel * kGroup;
  std::optional<TileRegisters> registers;
  if (amx) registers.emplace();
  alignas(64) int32_t sums[kTiledRows * 2 * kPanel];
  for (int64_t tile = begin, together = 1; tile < end; tile += together) {
    const int64_t panel = tile % panels, first = tile / panels * high;
    const int64_t last = std::min(x.rows(), first + high), column = panel * kPanel;
    together = amx && tile + 1 < end && panel + 1 < panels ? 2 : 1;
    const uint8_t* weights = weights_.data() + panel * panel_bytes;
    for (int64_t m = first; m < last; m += step) {
      const int64_t rows = std::min(step, last - m);
      Finish<T> finish{x,
                       m,
                       scales_.data() + column,
                       bias_.data() + column,
                       std::min(together * kPanel, out_ - column),
                       y + m * out_ + column,
                       out_,
                       how};
      if (amx) {
        // Whole tiles of rows: the last ones are computed with some before them.
        const int64_t from = std::min(m, x.rows() - kTiledRows);
        amx_block({x.values(from), x.stride(), weights, depth_}, together, sums);
        finish.sums_stride = together * kPanel;
        fast_finish(finish, rows, sums + (m - from) * finish.sums_stride);
        continue;
      }
      const Block block{x.values(m), x.stride(), weights, depth_};
      if (vnni) {
        vnni_block(block, rows, sums);
        fast_finish(finish, rows, sums);
      } else {
        plain_block(block, rows, sums);
        plain_finish(finish, rows, sums);
      }
    }
  }
}

void Int8Linear::run(const Int8Rows& x, float* y, Int8Output how, int64_t begin, int64_t end) const {
  run_tiles(x, y, how, begin, end);
}

void Int8Linear::run(const Int8Rows& x, uint16_t* y, Int8Output how, int64_t begin, int64_t end) const {
  run_tiles(x, y, how, begin, end);
}

const char* Int8Linear::instruction_set() {
  return has_amx() ? "amx" : has_avx512_vnni() ? "avx512vnni" : "plain";
}

}  // namespace da3::kernels
