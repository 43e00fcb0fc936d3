// SPDX-License-Identifier: MIT
//
// Eight floats at a time with the compiler's vector types. kernel.cc is compiled once for each instruction
// set, with DA3_SCENE_ISA naming the namespace; without contraction all give the same bits. Nothing here is a
// template of the standard library: a copy compiled for a newer processor must not be picked by the linker
// for an older one.
#pragma once

#include <stdint.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define DA3_INLINE static inline __attribute__((always_inline))

namespace da3::scene::DA3_SCENE_ISA {

constexpr int kLanes = 8;
typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));
typedef uint32_t vu __attribute__((vector_size(32)));

struct v3 {
  vf x, y, z;
};

DA3_INLINE vf splat(float x) {
  return vf{x, x, x, x, x, x, x, x};
}
DA3_INLINE vi splat_i(int32_t x) {
  return vi{x, x, x, x, x, x, x, x};
}
DA3_INLINE vu splat_u(uint32_t x) {
  return vu{x, x, x, x, x, x, x, x};
}
DA3_INLINE v3 splat3(const float* p) {
  return {splat(p[0]), splat(p[1]), splat(p[2])};
}

// A bit for each lane of a mask.
DA3_INLINE unsigned bits(vi mask) {
#if defined(__AVX__)
  return unsigned(_mm256_movemask_ps((__m256)mask));
#elif defined(__SSE2__)
  const auto lo = __builtin_shufflevector(mask, mask, 0, 1, 2, 3);
  const auto hi = __builtin_shufflevector(mask, mask, 4, 5, 6, 7);
  return unsigned(_mm_movemask_ps((__m128)lo)) | unsigned(_mm_movemask_ps((__m128)hi)) << 4;
#else
  unsigned result = 0;
  for (int i = 0; i < kLanes; ++i) result |= (mask[i] < 0 ? 1u : 0u) << i;
  return result;
#endif
}
DA3_INLINE bool any(vi mask) {
  return bits(mask) != 0;
}

DA3_INLINE vf vsqrt(vf x) {
#if defined(__AVX__)
  return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
  const __m128 lo = _mm_sqrt_ps((__m128)__builtin_shufflevector(x, x, 0, 1, 2, 3));
  const __m128 hi = _mm_sqrt_ps((__m128)__builtin_shufflevector(x, x, 4, 5, 6, 7));
  return __builtin_shufflevector(lo, hi, 0, 1, 2, 3, 4, 5, 6, 7);
#else
  vf out = x;
  for (int i = 0; i < kLanes; ++i) out[i] = __builtin_sqrtf(x[i]);
  return out;
#endif
}

DA3_INLINE vf vmin(vf a, vf b) {
  return a < b ? a : b;
}
DA3_INLINE vf vmax(vf a, vf b) {
  return a > b ? a : b;
}
DA3_INLINE vf vabs(vf a) {
  return (vf)((vi)a & splat_i(0x7fffffff));
}
DA3_INLINE vf clamp01(vf a) {
  return vmin(vmax(a, splat(0)), splat(1));
}
DA3_INLINE vf mix(vf a, vf b, vf t) {
  return a + (b - a) * t;
}
DA3_INLINE vi to_int(vf a) {
  return __builtin_convertvector(a, vi);
}
DA3_INLINE vf to_float(vi a) {
  return __builtin_convertvector(a, vf);
}
// |a| < 2^31.
DA3_INLINE vf vfloor(vf a) {
  const vf t = to_float(to_int(a));
  return t > a ? t - splat(1) : t;
}
DA3_INLINE vf fract(vf a) {
  return a - vfloor(a);
}
DA3_INLINE vf smooth(vf t) {
  return t * t * (splat(3) - splat(2) * t);
}
DA3_INLINE vf ramp(float lo, float hi, vf x) {
  return smooth(clamp01((x - splat(lo)) * splat(1 / (hi - lo))));
}

DA3_INLINE v3 operator+(v3 a, v3 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}
DA3_INLINE v3 operator-(v3 a, v3 b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}
DA3_INLINE v3 operator*(v3 a, vf s) {
  return {a.x * s, a.y * s, a.z * s};
}
DA3_INLINE v3 times(v3 a, v3 b) {
  return {a.x * b.x, a.y * b.y, a.z * b.z};
}
DA3_INLINE vf dot(v3 a, v3 b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}
DA3_INLINE v3 normalised(v3 a) {
  const vf length = vsqrt(dot(a, a));
  const vf s = splat(1) / vmax(length, splat(1e-20f));
  return a * s;
}
DA3_INLINE v3 mix3(v3 a, v3 b, vf t) {
  return {mix(a.x, b.x, t), mix(a.y, b.y, t), mix(a.z, b.z, t)};
}
DA3_INLINE v3 select(vi m, v3 a, v3 b) {
  return {m ? a.x : b.x, m ? a.y : b.y, m ? a.z : b.z};
}

// --- hashes and noise
// ----------------------------------------------------------------------------------------

DA3_INLINE vu scramble(vu h) {
  h ^= h >> 15;
  h *= splat_u(0x2c1b3c6du);
  h ^= h >> 13;
  return h;
}
DA3_INLINE vf unit(vu h) {
  return to_float((vi)(h >> 8)) * splat(1.0f / 16777216);
}
DA3_INLINE vu hash2(vi x, vi y, uint32_t seed) {
  return scramble((vu)x * splat_u(0x8da6b343u) ^ (vu)y * splat_u(0xd8163841u) ^ splat_u(seed * 0x9e3779b9u));
}
DA3_INLINE vu hash3(vi x, vi y, vi z, uint32_t seed) {
  return scramble((vu)x * splat_u(0x8da6b343u) ^ (vu)y * splat_u(0xd8163841u) ^ (vu)z * splat_u(0xcb1ab31fu) ^
                  splat_u(seed * 0x9e3779b9u));
}
// Another number of the same cell.
DA3_INLINE vf again(vu h, uint32_t which) {
  return unit(scramble(h * splat_u(0x297a2d39u) + splat_u(which * 0x68e31da4u)));
}

// Smooth value noise, -1..1.
DA3_INLINE vf noise2(vf x, vf y, uint32_t seed) {
  const vf fx = vfloor(x), fy = vfloor(y);
  const vi ix = to_int(fx), iy = to_int(fy);
  const vf tx = smooth(x - fx), ty = smooth(y - fy);
  const vu ax = (vu)ix * splat_u(0x8da6b343u), bx = ax + splat_u(0x8da6b343u);
  const vu s = splat_u(seed * 0x9e3779b9u);
  const vu ay = ((vu)iy * splat_u(0xd8163841u)) ^ s,
           by = ((vu)iy * splat_u(0xd8163841u) + splat_u(0xd8163841u)) ^ s;
  const vf a = mix(unit(scramble(ax ^ ay)), unit(scramble(bx ^ ay)), tx);
  const vf b = mix(unit(scramble(ax ^ by)), unit(scramble(bx ^ by)), tx);
  return mix(a, b, ty) * splat(2) - splat(1);
}
DA3_INLINE vf noise3(v3 p, uint32_t seed) {
  const vf fx = vfloor(p.x), fy = vfloor(p.y), fz = vfloor(p.z);
  const vf tx = smooth(p.x - fx), ty = smooth(p.y - fy), tz = smooth(p.z - fz);
  const vu ax = (vu)to_int(fx) * splat_u(0x8da6b343u), bx = ax + splat_u(0x8da6b343u);
  const vu ay = (vu)to_int(fy) * splat_u(0xd8163841u), by = ay + splat_u(0xd8163841u);
  const vu s = splat_u(seed * 0x9e3779b9u);
  const vu z0 = (vu)to_int(fz) * splat_u(0xcb1ab31fu), az = z0 ^ s, bz = (z0 + splat_u(0xcb1ab31fu)) ^ s;
  const vf a = mix(mix(unit(scramble(ax ^ ay ^ az)), unit(scramble(bx ^ ay ^ az)), tx),
                   mix(unit(scramble(ax ^ by ^ az)), unit(scramble(bx ^ by ^ az)), tx), ty);
  const vf b = mix(mix(unit(scramble(ax ^ ay ^ bz)), unit(scramble(bx ^ ay ^ bz)), tx),
                   mix(unit(scramble(ax ^ by ^ bz)), unit(scramble(bx ^ by ^ bz)), tx), ty);
  return mix(a, b, tz) * splat(2) - splat(1);
}

// How much of a wave of length `period` is left when a pixel covers `width` of it.
DA3_INLINE vf visible(vf width, float period) {
  return clamp01(splat(1.5f) - width * splat(2.2f / period));
}

// Sum of octaves, the first of wavelength `period` [m]; octaves too fine for the pixel fade out.
static inline vf fractal2(vf x, vf y, float period, int octaves, vf width, uint32_t seed) {
  vf sum = splat(0);
  float amplitude = 0.5f;
  for (int i = 0; i < octaves; ++i) {
    const vf keep = visible(width, period);
    if (!any(keep > splat(0))) break;
    const vf k = splat(1 / period);
    sum += noise2(x * k, y * k, seed + uint32_t(i)) * keep * splat(amplitude);
    // Turned from octave to octave, or the lattices would show.
    const vf turned = x * splat(0.8f) - y * splat(0.6f);
    y = x * splat(0.6f) + y * splat(0.8f);
    x = turned;
    amplitude *= 0.58f;
    period *= 0.47f;
  }
  return sum;
}
static inline vf fractal3(v3 p, float period, int octaves, vf width, uint32_t seed) {
  vf sum = splat(0);
  float amplitude = 0.5f;
  for (int i = 0; i < octaves; ++i) {
    const vf keep = visible(width, period);
    if (!any(keep > splat(0))) break;
    sum += noise3(p * splat(1 / period), seed + uint32_t(i)) * keep * splat(amplitude);
    p = {p.x * splat(0.8f) - p.z * splat(0.6f), p.y, p.x * splat(0.6f) + p.z * splat(0.8f)};
    amplitude *= 0.58f;
    period *= 0.47f;
  }
  return sum;
}

}  // namespace da3::scene::DA3_SCENE_ISA
