// SPDX-License-Identifier: MIT
#include "engine/checkpoint/synthetic.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <system_error>
#include <thread>

// The bits are defined without fused multiply-add: compile with -ffp-contract=off.

namespace da3::synthetic {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;
constexpr double kStep = 0x1p-52;

inline __attribute__((always_inline)) uint64_t mix(uint64_t x) {
  uint64_t z = x + kGolden;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// 53 bits fit a signed number, whose conversion to double is exact and the cheaper one.
inline __attribute__((always_inline)) double to_unit(uint64_t hash) {
  return static_cast<double>(static_cast<int64_t>(hash >> 11)) * kStep - 1.0;
}

uint64_t stream_start(const std::string& key, uint64_t seed) {
  return fnv1a64(key) ^ (seed * kGolden);
}

inline __attribute__((always_inline)) void fill_loop(float* out, size_t count, uint64_t start, double base,
                                                     double scale) {
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(base + scale * to_unit(mix(start + i)));
}

using FillFunc = void (*)(float* out, size_t count, uint64_t start, double base, double scale);

void fill_plain(float* out, size_t count, uint64_t start, double base, double scale) {
  fill_loop(out, count, start, base, scale);
}

#if defined(__x86_64__)
// AVX-512DQ multiplies and converts eight 64-bit integers at once; nothing below it has either.
#if defined(__clang__)
#define DA3_TARGET_AVX512 __attribute__((target("avx512f,avx512dq")))
#else
#define DA3_TARGET_AVX512 __attribute__((target("avx512f,avx512dq,prefer-vector-width=512")))
#endif
DA3_TARGET_AVX512 void fill_avx512(float* out, size_t count, uint64_t start, double base, double scale) {
  fill_loop(out, count, start, base, scale);
}
#endif

FillFunc choose_fill() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return fill_avx512;
#endif
  return fill_plain;
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.ends_with(end);
}
bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

double fan_in(const std::string& key, const std::vector<int64_t>& shape) {
  // Transposed convolutions whose stride equals their kernel: an output sees one tap of every input channel.
  if (ends_with(key, "resize_layers.0.weight") || ends_with(key, "resize_layers.1.weight"))
    return static_cast<double>(shape[0]);
  double product = 1;
  for (size_t i = 1; i < shape.size(); ++i) product *= static_cast<double>(shape[i]);
  return product;
}

double gain(const std::string& key) {
  if (contains(key, ".head.scratch.output_conv2.2.")) return 0.7;
  if (contains(key, ".cam_dec.fc_fov.0.")) return 0.25;
  for (const char* part : {".output_conv2_aux.0.5.", ".output_conv2_aux.1.5.", ".output_conv2_aux.2.5.",
                           ".output_conv2_aux.3.5."})
    if (contains(key, part)) return 0.5;
  return 1.0;
}

struct Rule {
  double base;
  double scale;
};

Rule rule_of(const std::string& key, const std::vector<int64_t>& shape) {
  if (ends_with(key, ".gamma")) return {0.4, 0.2};
  if (ends_with(key, "_token") || ends_with(key, ".pos_embed")) return {0.0, 0.5};
  if (ends_with(key, ".bias")) return {0.0, 0.05};
  if (shape.size() == 1) return {1.0, 0.1};
  return {0.0, gain(key) * std::sqrt(3.0 / fan_in(key, shape))};
}

// Constants that keep untrained heads in a sensible range: field of view, quaternion, ray direction, sky.
struct Constant {
  const char* key_end;
  size_t index;
  double value;
};
constexpr Constant kConstants[] = {
    {".cam_dec.fc_fov.0.bias", 0, 1.0},
    {".cam_dec.fc_fov.0.bias", 1, 1.0},
    {".cam_dec.fc_qvec.bias", 3, 1.0},
    {".output_conv2_aux.3.5.bias", 2, 1.5},
    {".da3_metric.head.scratch.sky_output_conv2.2.bias", 0, -0.8},
};

// Runs part(begin, end) over [0, count) on up to `threads` threads; a thread that cannot be had is done
// without.
template <class Part>
void parallel(size_t count, unsigned threads, const Part& part) {
  constexpr size_t kSmallest = size_t{1} << 16;  // below this a thread costs more than it brings
  if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
  const size_t pieces = std::clamp<size_t>(count / kSmallest, 1, threads);
  std::vector<std::jthread> workers;
  workers.reserve(pieces);
  size_t begin = 0;
  for (size_t i = 0; i + 1 < pieces; ++i) {
    const size_t end = begin + count / pieces;
    try {
      workers.emplace_back([&part, begin, end] { part(begin, end); });
    } catch (const std::system_error&) {
      break;
    }
    begin = end;
  }
  part(begin, count);
}

}  // namespace

uint64_t fnv1a64(const std::string& text) {
  uint64_t h = 0xCBF29CE484222325ull;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return h;
}

uint64_t splitmix64(uint64_t x) {
  return mix(x);
}

double unit(const std::string& key, uint64_t index, uint64_t seed) {
  return to_unit(mix(stream_start(key, seed) + index));
}

void fill_weight(float* out, const std::string& key, const std::vector<int64_t>& shape, uint64_t seed,
                 const std::vector<ValueFactor>& factors, unsigned threads) {
  size_t count = 1;
  for (const int64_t side : shape) count *= side > 0 ? static_cast<size_t>(side) : 0;
  if (count == 0) return;

  static const FillFunc fill = choose_fill();
  const Rule rule = rule_of(key, shape);
  const uint64_t start = stream_start(key, seed);
  parallel(count, threads, [&](size_t begin, size_t end) {
    fill(out + begin, end - begin, start + begin, rule.base, rule.scale);
  });
  for (const Constant& constant : kConstants) {
    if (constant.index >= count || !ends_with(key, constant.key_end)) continue;
    out[constant.index] =
        static_cast<float>((rule.base + constant.value) + rule.scale * to_unit(mix(start + constant.index)));
  }
  for (const ValueFactor& factor : factors) {
    if (!contains(key, factor.part)) continue;
    for (size_t i = 0; i < count; ++i)
      out[i] = static_cast<float>(static_cast<double>(out[i]) * factor.factor);
  }
}

void fill_input(float* out, const std::string& name, int64_t b, int64_t s, int64_t h, int64_t w,
                uint64_t seed) {
  if (b <= 0 || s <= 0 || h <= 0 || w <= 0) return;
  constexpr double kTwoPi = 6.283185307179586;
  const uint64_t waves = stream_start("input/" + name + "/wave", seed);
  const uint64_t noise = stream_start("input/" + name, seed);
  std::vector<double> xs(static_cast<size_t>(w)), across(static_cast<size_t>(w));
  for (int64_t x = 0; x < w; ++x) xs[x] = (static_cast<double>(x) + 0.5) / static_cast<double>(w);

  for (int64_t plane = 0; plane < b * s * 3; ++plane) {
    double p[8];
    for (uint64_t k = 0; k < 8; ++k) p[k] = to_unit(mix(waves + static_cast<uint64_t>(plane) * 8 + k));
    for (int64_t x = 0; x < w; ++x) across[x] = 0.7 * std::sin(kTwoPi * ((1.0 + p[0]) * xs[x] + p[4]));
    for (int64_t y = 0; y < h; ++y) {
      const double Y = (static_cast<double>(y) + 0.5) / static_cast<double>(h);
      const double down = 0.7 * std::sin(kTwoPi * ((1.0 + p[1]) * Y + p[5]));
      const uint64_t row = static_cast<uint64_t>((plane * h + y) * w);
      for (int64_t x = 0; x < w; ++x) {
        const double oblique = 0.5 * std::sin(kTwoPi * (2.0 * p[2] * xs[x] + 2.0 * p[3] * Y + p[6]));
        const double grain = 0.1 * to_unit(mix(noise + row + static_cast<uint64_t>(x)));
        out[row + static_cast<uint64_t>(x)] =
            static_cast<float>(across[x] + down + oblique + 0.4 * p[7] + grain);
      }
    }
  }
}

void fill_rgb(uint8_t* out, int width, int height, int index) {
  if (width <= 0 || height <= 0) return;
  const auto triangle = [](int64_t t) {
    const int64_t r = ((t % 512) + 512) % 512;
    return r < 256 ? r : 511 - r;
  };
  const uint64_t start =
      fnv1a64("rgb/" + std::to_string(width) + "x" + std::to_string(height) + "/" + std::to_string(index));
  uint64_t at = 0;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const int64_t block = ((x / 24 + y / 24) % 2 == 1) ? 64 : 0;
      for (int64_t c = 0; c < 3; ++c, ++at) {
        const int64_t wave = (triangle(3 * x + 2 * y + 85 * c + 37 * int64_t{index}) +
                              triangle(x * y / 16 + 7 * x * (c + 1))) /
                             2;
        const int64_t noise = static_cast<int64_t>(mix(start + at) >> 59);
        out[at] = static_cast<uint8_t>(std::min<int64_t>(255, wave * 5 / 8 + block + noise));
      }
    }
  }
}

}  // namespace da3::synthetic
