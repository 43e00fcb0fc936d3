// SPDX-License-Identifier: MIT
//
// For each row of the source OpenCV adds up the pixels that a cell of the target covers, each times its share
// of the cell, from left to right in single precision; then the rows of a cell likewise. OpenCV's
// releases for x86-64 do so without fused multiplication and addition (4.6 and 5.0 were compared; the test
// compares with the one at hand). Here the same numbers are added in
// the same order, but
//
//   - in registers, a pixel at a time: its three channels and a lane to spare, which the next cell
//   overwrites,
//   - four rows at once, straight from their bytes,
//   - once for the row between two cells, not once for each of them.
//
// Where both sides shrink by whole factors OpenCV adds integers: here shares of one, whose sums are exact.
// All cells of an axis have the same number of taps; those that a cell lacks have a share of zero, and adding
// zero changes nothing. meson.build forbids the compiler to fuse what is kept apart here.
#include "image/area_resize.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <opencv2/core.hpp>
#include <vector>

#include "image/processor.h"

#define DA3_AVX2 __attribute__((target("avx2")))
#define DA3_AVX2_INLINE inline __attribute__((always_inline, target("avx2")))

namespace da3::image {
namespace {

constexpr int kChannels = 3;
constexpr int kRows = 4;        // of the source, at once
constexpr int kLoad = 16;       // bytes
constexpr int kTapsOfLoad = 5;  // whole pixels in them
constexpr int kBlock = 32;      // values rounded and stored at once

// As OpenCV computes it; source / target may differ in the last place.
double scale_of(int source, int target) {
  return 1.0 / (double(target) / source);
}

bool is_whole(double scale) {
  return std::abs(scale - std::nearbyint(scale)) < DBL_EPSILON;
}

// Both sides shrink by whole factors: OpenCV adds integers and divides once.
bool whole_factors(const ConstImage& in, const MutableImage& out) {
  return is_whole(scale_of(in.width, out.width)) && is_whole(scale_of(in.height, out.height));
}

// Their product, for sums of bytes that are exact in single precision.
constexpr std::int64_t kMostArea = (1 << 24) / 255;

// Less is not worth another thread.
constexpr int kRowsOfThread = 16;

// The pixels of the source that one cell of the target covers, and their shares of it. What covers less than
// a thousandth of a pixel is left out, as OpenCV does.
struct Cell {
  int first = 0, count = 0;
  bool has_head = false, has_tail = false;
  float head = 0, middle = 0, tail = 0;

  Cell(int index, double scale, int source) {
    const double begin = index * scale, end = begin + scale;
    const double width = std::min(scale, source - begin);
    const int last = std::min(int(std::floor(end)), source - 1);
    const int whole = std::min(int(std::ceil(begin)), last);
    has_head = whole - begin > 1e-3;
    has_tail = end - last > 1e-3;
    head = float((whole - begin) / width);
    middle = float(1.0 / width);
    tail = float(std::min({end - last, 1.0, width}) / width);
    first = whole - has_head;
    count = last - first + has_tail;
  }
  float share(int tap) const {
    if (tap == 0 && has_head) return head;
    return tap == count - 1 && has_tail ? tail : middle;
  }
};

struct Axis {
  int cells = 0;
  int taps = 0;  // the most of any cell
  std::vector<int> first, count;
  std::vector<float> shares;  // [cell][tap]

  Axis(int source, int target, bool sum_only) : cells(target) {
    const double scale = scale_of(source, target);
    std::vector<Cell> all;
    all.reserve(size_t(target));
    for (int i = 0; i < target; ++i) {
      all.emplace_back(i, scale, source);
      taps = std::max(taps, all.back().count);
    }
    shares.resize(size_t(target) * taps, 0.0f);
    for (const Cell& cell : all) {
      float* out = shares.data() + first.size() * taps;
      for (int tap = 0; tap < cell.count; ++tap) out[tap] = sum_only ? 1.0f : cell.share(tap);
      first.push_back(cell.first);
      count.push_back(cell.count);
    }
  }
  int end(int cell) const { return first[cell] + count[cell]; }
  const float* shares_of(int cell) const { return shares.data() + size_t(cell) * taps; }
};

struct Job {
  ConstImage in;
  MutableImage out;
  bool whole;
  Axis x, y;
  float factor = 1;  // of a cell's sum
  int inner = 0;     // cells of a row before those that would be loaded from behind its end

  Job(const ConstImage& source, const MutableImage& target)
      : in(source),
        out(target),
        whole(whole_factors(in, out)),
        x(in.width, out.width, whole),
        y(in.height, out.height, whole) {
    if (whole) factor = 1.0f / float(x.taps * y.taps);
    while (inner < x.cells && kChannels * x.first[inner] + loaded() <= kChannels * in.width) ++inner;
  }
  // Bytes from a cell's first pixel on.
  int loaded() const { return (x.taps - 1) / kTapsOfLoad * kTapsOfLoad * kChannels + kLoad; }
  const uint8_t* source(int row) const { return in.data + std::ptrdiff_t(row) * in.stride; }
  int values() const { return kChannels * out.width; }
};

// Of one thread.
class Scratch {
 public:
  explicit Scratch(const Job& job)
      : slots_(job.y.taps + kRows - 1),
        stride_(job.values() + kBlock),
        sums_(size_t(slots_) * stride_),
        ends_(job.inner < job.x.cells ? kChannels * (job.in.width - job.x.first[job.inner]) + job.loaded()
                                      : 0),
        rows(size_t(job.y.taps)) {
    for (auto& end : ends) end.resize(size_t(ends_));
  }
  // Of a row of the source: added up to cells. The last `slots_` rows are there.
  float* sums(int row) { return sums_.data() + size_t(row % slots_) * stride_; }

 private:
  int slots_, stride_;
  std::vector<float> sums_;
  int ends_;

 public:
  std::array<std::vector<uint8_t>, kRows> ends;  // of rows of the source, with bytes to spare behind
  std::vector<const float*> rows;                // of one cell
};

using Sources = std::array<const uint8_t*, kRows>;
using Sums = std::array<float*, kRows>;

// Pixel `tap` of 16 bytes as four 32-bit numbers, for two rows at once.
struct Masks {
  alignas(32) uint8_t bytes[kTapsOfLoad][2 * kLoad];
  constexpr Masks() : bytes() {
    for (int tap = 0; tap < kTapsOfLoad; ++tap) {
      for (int i = 0; i < 2 * kLoad; ++i) {
        const int lane = i % kLoad / 4;
        const bool used = i % 4 == 0 && lane < kChannels;
        bytes[tap][i] = uint8_t(used ? kChannels * tap + lane : 0x80);
      }
    }
  }
};
constexpr Masks kMasks;

DA3_AVX2_INLINE __m256i load(const uint8_t* low, const uint8_t* high) {
  const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(first),
                                 _mm_loadu_si128(reinterpret_cast<const __m128i*>(high)), 1);
}

DA3_AVX2_INLINE __m256 add_tap(__m256 sum, __m256i bytes, __m256i mask, __m256 share) {
  const __m256 value = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(bytes, mask));
  return _mm256_add_ps(sum, _mm256_mul_ps(value, share));
}

DA3_AVX2_INLINE void store(__m256 sum, float* low, float* high) {
  _mm_storeu_ps(low, _mm256_castps256_ps128(sum));
  _mm_storeu_ps(high, _mm256_extractf128_ps(sum, 1));
}

// The cells [begin, end) of four rows, which begin with the first pixel of the cell `begin`.
template <int kTaps>  // 0: any number
DA3_AVX2_INLINE void add_pixels(const Axis& x, int begin, int end, const Sources& in, const Sums& out) {
  const int taps = kTaps ? kTaps : x.taps;
  for (int cell = begin; cell < end; ++cell) {
    const float* shares = x.shares_of(cell);
    int at = kChannels * (x.first[cell] - x.first[begin]);
    __m256 upper = _mm256_setzero_ps(), lower = upper;
    for (int from = 0; from < taps; from += kTapsOfLoad, at += kTapsOfLoad * kChannels) {
      const __m256i upper_bytes = load(in[0] + at, in[1] + at), lower_bytes = load(in[2] + at, in[3] + at);
      const int count = std::min(taps - from, kTapsOfLoad);
#pragma GCC unroll 5
      for (int tap = 0; tap < count; ++tap) {
        const __m256i mask = _mm256_load_si256(reinterpret_cast<const __m256i*>(kMasks.bytes[tap]));
        const __m256 share = _mm256_broadcast_ss(shares + from + tap);
        upper = add_tap(upper, upper_bytes, mask, share);
        lower = add_tap(lower, lower_bytes, mask, share);
      }
    }
    store(upper, out[0] + kChannels * cell, out[1] + kChannels * cell);
    store(lower, out[2] + kChannels * cell, out[3] + kChannels * cell);
  }
}

DA3_AVX2 void add_pixels_of(const Axis& x, int begin, int end, const Sources& in, const Sums& out) {
  switch (x.taps) {
    case 1:
      return add_pixels<1>(x, begin, end, in, out);
    case 2:
      return add_pixels<2>(x, begin, end, in, out);
    case 3:
      return add_pixels<3>(x, begin, end, in, out);
    case 4:
      return add_pixels<4>(x, begin, end, in, out);
    case 5:
      return add_pixels<5>(x, begin, end, in, out);
    default:
      return add_pixels<0>(x, begin, end, in, out);
  }
}

// Four rows of the source from y on; the last one before `end` again and again where there are fewer.
void add_columns(const Job& job, int y, int end, Scratch& scratch) {
  Sources in, ends;
  Sums out;
  const int inner = job.inner;
  for (int r = 0; r < kRows; ++r) {
    const int row = std::min(y + r, end - 1);
    in[r] = job.source(row);
    out[r] = scratch.sums(row);
  }
  add_pixels_of(job.x, 0, inner, in, out);
  if (inner == job.x.cells) return;
  const int skipped = kChannels * job.x.first[inner];
  for (int r = 0; r < kRows; ++r) {
    std::memcpy(scratch.ends[r].data(), in[r] + skipped, size_t(kChannels * job.in.width - skipped));
    ends[r] = scratch.ends[r].data();
  }
  add_pixels_of(job.x, inner, job.x.cells, ends, out);
}

// kBlock values, rounded ties to even.
DA3_AVX2_INLINE __m256i add_rows_at(const float* const* rows, const float* shares, int count, int x,
                                    float factor) {
  __m256 sum[4];
  const __m256 share = _mm256_broadcast_ss(shares);
  for (int i = 0; i < 4; ++i) sum[i] = _mm256_mul_ps(_mm256_loadu_ps(rows[0] + x + 8 * i), share);
  for (int k = 1; k < count; ++k) {
    const __m256 next = _mm256_broadcast_ss(shares + k);
    for (int i = 0; i < 4; ++i) {
      sum[i] = _mm256_add_ps(sum[i], _mm256_mul_ps(_mm256_loadu_ps(rows[k] + x + 8 * i), next));
    }
  }
  for (__m256& value : sum) value = _mm256_mul_ps(value, _mm256_set1_ps(factor));
  const __m256i low = _mm256_packs_epi32(_mm256_cvtps_epi32(sum[0]), _mm256_cvtps_epi32(sum[1]));
  const __m256i high = _mm256_packs_epi32(_mm256_cvtps_epi32(sum[2]), _mm256_cvtps_epi32(sum[3]));
  // Both packings work on halves of the register.
  return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

DA3_AVX2 void add_rows(const float* const* rows, const float* shares, int count, int values, float factor,
                       uint8_t* out) {
  int x = 0;
  for (; x + kBlock <= values; x += kBlock) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + x), add_rows_at(rows, shares, count, x, factor));
  }
  if (x == values) return;
  std::array<uint8_t, kBlock> rest;
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(rest.data()), add_rows_at(rows, shares, count, x, factor));
  std::memcpy(out + x, rest.data(), size_t(values - x));
}

// The rows [begin, end) of the target.
void shrink(const Job& job, int begin, int end) {
  Scratch scratch(job);
  const int last = job.y.end(end - 1);
  int done = job.y.first[begin];  // the rows of the source before this one are added up
  for (int cell = begin; cell < end; ++cell) {
    const int first = job.y.first[cell], count = job.y.count[cell];
    for (; done < first + count; done = std::min(done + kRows, last)) add_columns(job, done, last, scratch);
    for (int i = 0; i < count; ++i) scratch.rows[i] = scratch.sums(first + i);
    add_rows(scratch.rows.data(), job.y.shares_of(cell), count, job.values(), job.factor,
             job.out.data + std::ptrdiff_t(cell) * job.out.stride);
  }
}

}  // namespace

bool resize_area(const ConstImage& in, const MutableImage& out, int threads) {
  if (!has_avx2() || out.width > in.width || out.height > in.height) return false;
  if (whole_factors(in, out)) {
    const std::int64_t x = in.width / out.width, y = in.height / out.height;
    if ((x == 2 && y == 2) || x * y > kMostArea) return false;
  }
  const Job job(in, out);
  if (threads == 1) {
    shrink(job, 0, out.height);
  } else {
    const int bands = std::clamp(out.height / kRowsOfThread, 1, std::max(1, cv::getNumThreads()));
    const auto body = [&](const cv::Range& band) { shrink(job, band.start, band.end); };
    cv::parallel_for_(cv::Range(0, out.height), body, bands);
  }
  return true;
}

}  // namespace da3::image

#else

namespace da3::image {

bool resize_area(const ConstImage&, const MutableImage&, int) {
  return false;
}

}  // namespace da3::image

#endif
