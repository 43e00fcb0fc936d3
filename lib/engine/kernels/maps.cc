// SPDX-License-Identifier: MIT
#include "engine/kernels/maps.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "engine/kernels/avx512.h"
#include "engine/kernels/bfloat16.h"

namespace da3::kernels {
namespace {

// One row of the result.
template <typename T>
struct Row {
  const float* blended;  // between two rows of the map: [columns.from][channels]
  const ResizeAxis& columns;
  int64_t channels;
  const float* column_offsets;  // or null
  const float* row_offsets;     // of this row, [channels / 2]
  T* to;
  T* positive;  // when adding
};

template <typename T>
struct Plain {
  static void blend(const T* upper, const T* lower, float weight, int64_t count, float* to) {
    for (int64_t i = 0; i < count; ++i) {
      const float u = widen(upper[i]);
      to[i] = u + weight * (widen(lower[i]) - u);
    }
  }

  static void store(const Row<T>& row) {
    const int64_t half = row.channels / 2;
    for (size_t x = 0; x < row.columns.weight.size(); ++x) {
      const float* a = row.blended + row.columns.first[x] * row.channels;
      const float* b = row.blended + row.columns.second[x] * row.channels;
      const float w = row.columns.weight[x];
      T* to = row.to + int64_t(x) * row.channels;
      for (int64_t c = 0; c < row.channels; ++c) {
        float v = a[c] + w * (b[c] - a[c]);
        if (row.column_offsets)
          v += c < half ? row.column_offsets[int64_t(x) * half + c] : row.row_offsets[c - half];
        put(v, to + c);
      }
    }
  }

  static void add(const Row<T>& row) {
    for (size_t x = 0; x < row.columns.weight.size(); ++x) {
      const float* a = row.blended + row.columns.first[x] * row.channels;
      const float* b = row.blended + row.columns.second[x] * row.channels;
      const float w = row.columns.weight[x];
      const int64_t at = int64_t(x) * row.channels;
      for (int64_t c = 0; c < row.channels; ++c) {
        const float v = widen(row.to[at + c]) + (a[c] + w * (b[c] - a[c]));
        put(v, row.to + at + c);
        put(v < 0 ? 0.0f : v, row.positive + at + c);
      }
    }
  }

  static void products(const PixelProducts& p, const T* from, int64_t pixels, float* to) {
    for (int64_t i = 0; i < pixels; ++i, from += p.channels)
      for (int64_t k = 0; k < p.outputs; ++k) {
        const float* w = p.weights + k * p.channels;
        float sum = p.bias[k];
        for (int64_t c = 0; c < p.channels; ++c) sum += w[c] * widen(from[c]);
        to[k * p.plane + i] = sum;
      }
  }
};

#if defined(__x86_64__)

DA3_AVX512_INLINE __m512 between(__m512 a, __m512 b, __m512 weight) {
  return _mm512_fmadd_ps(weight, _mm512_sub_ps(b, a), a);
}

// `count` channels of a pixel; `offsets` may be null.
template <typename T>
DA3_AVX512_INLINE void store_channels(const float* a, const float* b, __m512 weight, const float* offsets,
                                      int64_t count, T* to) {
  for (int64_t c = 0; c < count; c += 16) {
    const __mmask16 m = lanes(count - c);
    __m512 v = between(load(a + c, m), load(b + c, m), weight);
    if (offsets) v = _mm512_add_ps(v, load(offsets + c, m));
    keep(v, m, to + c);
  }
}

template <typename T>
struct Avx512 {
  DA3_AVX512 static void blend(const T* upper, const T* lower, float weight, int64_t count, float* to) {
    const __m512 w = _mm512_set1_ps(weight);
    for (int64_t i = 0; i < count; i += 16) {
      const __mmask16 m = lanes(count - i);
      keep(between(load(upper + i, m), load(lower + i, m), w), m, to + i);
    }
  }

  DA3_AVX512 static void store(const Row<T>& row) {
    const int64_t channels = row.channels, half = channels / 2;
    const int64_t count = int64_t(row.columns.weight.size());
    const int64_t *first = row.columns.first.data(), *second = row.columns.second.data();
    const float* weights = row.columns.weight.data();
    for (int64_t x = 0; x < count; ++x) {
      const float *a = row.blended + first[x] * channels, *b = row.blended + second[x] * channels;
      const __m512 w = _mm512_set1_ps(weights[x]);
      T* to = row.to + x * channels;
      if (row.column_offsets) {
        store_channels(a, b, w, row.column_offsets + x * half, half, to);
        store_channels(a + half, b + half, w, row.row_offsets, half, to + half);
      } else {
        store_channels(a, b, w, static_cast<const float*>(nullptr), channels, to);
      }
    }
  }

  DA3_AVX512 static void add(const Row<T>& row) {
    const int64_t channels = row.channels, count = int64_t(row.columns.weight.size());
    const int64_t *first = row.columns.first.data(), *second = row.columns.second.data();
    const float* weights = row.columns.weight.data();
    const __m512 zero = _mm512_setzero_ps();
    for (int64_t x = 0; x < count; ++x) {
      const float *a = row.blended + first[x] * channels, *b = row.blended + second[x] * channels;
      const __m512 w = _mm512_set1_ps(weights[x]);
      T *sum = row.to + x * channels, *positive = row.positive + x * channels;
      for (int64_t c = 0; c < channels; c += 16) {
        const __mmask16 m = lanes(channels - c);
        const __m512 v = _mm512_add_ps(load(sum + c, m), between(load(a + c, m), load(b + c, m), w));
        keep(v, m, sum + c);
        keep(_mm512_max_ps(zero, v), m, positive + c);  // in this order NaN stays NaN
      }
    }
  }

  DA3_AVX512 static void products(const PixelProducts& p, const T* from, int64_t pixels, float* to) {
    for (int64_t i = 0; i < pixels; ++i, from += p.channels)
      for (int64_t k = 0; k < p.outputs; ++k) {
        const float* w = p.weights + k * p.channels;
        __m512 sum = _mm512_setzero_ps();
        for (int64_t c = 0; c < p.channels; c += 16) {
          const __mmask16 m = lanes(p.channels - c);
          sum = _mm512_fmadd_ps(load(w + c, m), load(from + c, m), sum);
        }
        to[k * p.plane + i] = p.bias[k] + _mm512_reduce_add_ps(sum);
      }
  }
};

#else

template <typename T>
using Avx512 = Plain<T>;

#endif

// Calls finish(y, row) with each row blended from two of the map; `finish` fills in where it goes.
template <typename T, typename Finish>
void for_rows(const Resize<T>& r, int64_t begin, int64_t end, Finish&& finish) {
  const int64_t width = r.columns.from * r.channels, half = r.channels / 2;
  std::vector<float> blended(static_cast<size_t>(width));
  const auto blend = has_avx512() ? Avx512<T>::blend : Plain<T>::blend;
  for (int64_t y = begin; y < end; ++y) {
    const size_t i = size_t(y);
    blend(r.map + r.rows.first[i] * width, r.map + r.rows.second[i] * width, r.rows.weight[i], width,
          blended.data());
    finish(y, Row<T>{blended.data(), r.columns, r.channels, r.column_offsets,
                     r.row_offsets ? r.row_offsets + y * half : nullptr, nullptr, nullptr});
  }
}

}  // namespace

ResizeAxis::ResizeAxis(int64_t from_size, int64_t to) : from(from_size) {
  if (from < 1 || to < 1)
    throw std::invalid_argument("A resize needs sizes of at least one, not " + std::to_string(from) + " to " +
                                std::to_string(to) + ".");
  const float scale = to > 1 ? float(from - 1) / float(to - 1) : 0.0f;
  for (int64_t i = 0; i < to; ++i) {
    const float position = scale * float(i);
    const int64_t index = std::min(int64_t(position), from - 1);
    first.push_back(index);
    second.push_back(std::min(index + 1, from - 1));
    weight.push_back(std::clamp(position - float(index), 0.0f, 1.0f));
  }
}

template <typename T>
void resize_rows(const Resize<T>& r, int64_t begin, int64_t end, T* to) {
  const auto store = has_avx512() ? Avx512<T>::store : Plain<T>::store;
  const int64_t row_values = int64_t(r.columns.weight.size()) * r.channels;
  for_rows(r, begin, end, [&](int64_t y, Row<T> row) {
    row.to = to + (y - begin) * row_values;
    store(row);
  });
}

template <typename T>
void resize_add_rows(const Resize<T>& r, int64_t begin, int64_t end, T* sum, T* positive) {
  const auto add = has_avx512() ? Avx512<T>::add : Plain<T>::add;
  const int64_t row_values = int64_t(r.columns.weight.size()) * r.channels;
  for_rows(r, begin, end, [&](int64_t y, Row<T> row) {
    row.to = sum + y * row_values;
    row.positive = positive + y * row_values;
    add(row);
  });
}

template <typename T>
void PixelProducts::run(const T* from, int64_t pixels, float* to) const {
  (has_avx512() ? Avx512<T>::products : Plain<T>::products)(*this, from, pixels, to);
}

template void resize_rows(const Resize<float>&, int64_t, int64_t, float*);
template void resize_rows(const Resize<Bfloat16>&, int64_t, int64_t, Bfloat16*);
template void resize_add_rows(const Resize<float>&, int64_t, int64_t, float*, float*);
template void resize_add_rows(const Resize<Bfloat16>&, int64_t, int64_t, Bfloat16*, Bfloat16*);
template void PixelProducts::run(const float*, int64_t, float*) const;
template void PixelProducts::run(const Bfloat16*, int64_t, float*) const;

}  // namespace da3::kernels
