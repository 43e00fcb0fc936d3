// SPDX-License-Identifier: MIT
#include "image/yuv_rows.h"

#include <algorithm>
#include <cstddef>

#include "image/processor.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define DA3_AVX2 __attribute__((target("avx2")))
#define DA3_AVX2_INLINE inline __attribute__((always_inline, target("avx2")))
#endif

namespace da3::image {
namespace {

// Each of the functions below begins where a version with vectors has ended.

// Every `step`-th byte.
void split_from(int i, const uint8_t* in, int step, int count, uint8_t* out) {
  for (; i < count; ++i) out[i] = in[std::ptrdiff_t(i) * step];
}

inline uint8_t near(int near_sample, int far_sample) {
  return uint8_t((3 * near_sample + far_sample + 2) >> 2);
}

// The pixels between the samples i and i + 1, and so on.
void between_pixels_from(int i, const uint8_t* in, int width, uint8_t* out) {
  const int last = (width + 1) / 2 - 1;
  out[0] = in[0];
  for (; i < last; ++i) {
    out[2 * i + 1] = near(in[i], in[i + 1]);
    out[2 * i + 2] = near(in[i + 1], in[i]);
  }
  if (width % 2 == 0) out[width - 1] = in[last];
}

void on_pixels_from(int i, const uint8_t* in, int width, uint8_t* out) {
  const int last = (width + 1) / 2 - 1;
  for (; i < last; ++i) {
    out[2 * i] = in[i];
    out[2 * i + 1] = uint8_t((in[i] + in[i + 1] + 1) >> 1);
  }
  out[2 * last] = in[last];
  if (width % 2 == 0) out[width - 1] = in[last];
}

void between_rows_from(int i, const uint8_t* near_row, const uint8_t* far_row, int width, uint8_t* out) {
  for (; i < width; ++i) out[i] = near(near_row[i], far_row[i]);
}

#if defined(__x86_64__)

constexpr int kBytes = 32;  // of a register

DA3_AVX2_INLINE __m256i load(const uint8_t* in) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
}
DA3_AVX2_INLINE void store(__m256i bytes, uint8_t* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
}

// Words of a sample each -> the samples.
DA3_AVX2_INLINE __m256i packed(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi16(low, high), 0xD8);
}
DA3_AVX2_INLINE __m256i even_bytes(const uint8_t* in) {
  const __m256i mask = _mm256_set1_epi16(0xFF);
  return packed(_mm256_and_si256(load(in), mask), _mm256_and_si256(load(in + kBytes), mask));
}

DA3_AVX2 int split_avx2(const uint8_t* in, int step, int count, uint8_t* out) {
  int i = 0;
  // Behind the last sample nothing is read.
  if (step == 2) {
    for (; i + kBytes < count; i += kBytes) store(even_bytes(in + 2 * i), out + i);
  } else if (step == 4) {
    const __m256i mask = _mm256_set1_epi16(0xFF);
    for (; i + kBytes < count; i += kBytes) {
      const uint8_t* at = in + 4 * i;
      store(
          packed(_mm256_and_si256(even_bytes(at), mask), _mm256_and_si256(even_bytes(at + 2 * kBytes), mask)),
          out + i);
    }
  }
  return i;
}

// (a + b) / 2, rounded down.
DA3_AVX2_INLINE __m256i middle(__m256i a, __m256i b) {
  const __m256i odd = _mm256_and_si256(_mm256_xor_si256(a, b), _mm256_set1_epi8(1));
  return _mm256_sub_epi8(_mm256_avg_epu8(a, b), odd);
}

// (3a + b + 2) / 4: the mean of a and `middle`, rounded up.
DA3_AVX2_INLINE __m256i near(__m256i near_sample, __m256i middle_of_both) {
  return _mm256_avg_epu8(near_sample, middle_of_both);
}

DA3_AVX2_INLINE void store_by_turns(__m256i first, __m256i second, uint8_t* out) {
  const __m256i low = _mm256_unpacklo_epi8(first, second), high = _mm256_unpackhi_epi8(first, second);
  store(_mm256_permute2x128_si256(low, high, 0x20), out);
  store(_mm256_permute2x128_si256(low, high, 0x31), out + kBytes);
}

DA3_AVX2 int between_pixels_avx2(const uint8_t* in, int width, uint8_t* out) {
  const int last = (width + 1) / 2 - 1;
  int i = 0;
  for (; i + kBytes <= last; i += kBytes) {
    const __m256i a = load(in + i), b = load(in + i + 1), both = middle(a, b);
    store_by_turns(near(a, both), near(b, both), out + 2 * i + 1);
  }
  return i;
}

DA3_AVX2 int on_pixels_avx2(const uint8_t* in, int width, uint8_t* out) {
  const int last = (width + 1) / 2 - 1;
  int i = 0;
  for (; i + kBytes <= last; i += kBytes) {
    const __m256i a = load(in + i);
    store_by_turns(a, _mm256_avg_epu8(a, load(in + i + 1)), out + 2 * i);
  }
  return i;
}

DA3_AVX2 int between_rows_avx2(const uint8_t* near_row, const uint8_t* far_row, int width, uint8_t* out) {
  int i = 0;
  for (; i + kBytes <= width; i += kBytes) {
    const __m256i a = load(near_row + i);
    store(near(a, middle(a, load(far_row + i))), out + i);
  }
  return i;
}

#else

int split_avx2(const uint8_t*, int, int, uint8_t*) {
  return 0;
}
int between_pixels_avx2(const uint8_t*, int, uint8_t*) {
  return 0;
}
int on_pixels_avx2(const uint8_t*, int, uint8_t*) {
  return 0;
}
int between_rows_avx2(const uint8_t*, const uint8_t*, int, uint8_t*) {
  return 0;
}

#endif

void split(const uint8_t* in, int step, int count, uint8_t* out) {
  split_from(has_avx2() ? split_avx2(in, step, count, out) : 0, in, step, count, out);
}

void widen(const uint8_t* in, int width, bool cosited, uint8_t* out) {
  if (cosited) return on_pixels_from(has_avx2() ? on_pixels_avx2(in, width, out) : 0, in, width, out);
  between_pixels_from(has_avx2() ? between_pixels_avx2(in, width, out) : 0, in, width, out);
}

void mix(const uint8_t* near_row, const uint8_t* far_row, int width, uint8_t* out) {
  const int done = has_avx2() ? between_rows_avx2(near_row, far_row, width, out) : 0;
  between_rows_from(done, near_row, far_row, width, out);
}

}  // namespace

YuvRows::YuvRows(const ConstYuv& in) : in_(in) {
  const auto width = size_t(in.width);
  if (in.step[0] != 1) luma_.resize(width);
  if (in.half_width) split_.resize((width + 1) / 2);
  for (int plane : {1, 2}) {
    Chroma& own = chroma_[plane - 1];
    if (in.half_width || in.step[plane] != 1)
      for (auto& row : own.rows) row.resize(width);
    if (in.half_height) own.between.resize(width);
  }
}

const uint8_t* YuvRows::samples(int plane, int row, int count, std::vector<uint8_t>& split_row) const {
  const uint8_t* from = in_.data[plane] + std::ptrdiff_t(row) * in_.stride[plane];
  if (in_.step[plane] == 1) return from;
  split(from, in_.step[plane], count, split_row.data());
  return split_row.data();
}

// A row of the chroma plane at full width.
const uint8_t* YuvRows::chroma(int plane, int row) {
  Chroma& own = chroma_[plane - 1];
  std::vector<uint8_t>& wide = own.rows[row % 2];
  if (!in_.half_width) {
    if (in_.step[plane] == 1) return samples(plane, row, in_.width, wide);
    if (own.numbers[row % 2] != row) samples(plane, row, in_.width, wide);
  } else if (own.numbers[row % 2] != row) {
    widen(samples(plane, row, (in_.width + 1) / 2, split_), in_.width, in_.cosited, wide.data());
  }
  own.numbers[row % 2] = row;
  return wide.data();
}

const uint8_t* YuvRows::chroma_between(int plane, int y) {
  if (!in_.half_height) return chroma(plane, y);
  const int rows = (in_.height + 1) / 2;
  const int nearest = y / 2, other = y % 2 ? nearest + 1 : nearest - 1;
  if (other < 0 || other >= rows) return chroma(plane, nearest);
  std::vector<uint8_t>& out = chroma_[plane - 1].between;
  const uint8_t *near_row = chroma(plane, nearest), *far_row = chroma(plane, other);
  mix(near_row, far_row, in_.width, out.data());
  return out.data();
}

YuvRow<uint8_t> YuvRows::at(int y) {
  return {samples(0, y, in_.width, luma_), chroma_between(1, y), chroma_between(2, y)};
}

}  // namespace da3::image
