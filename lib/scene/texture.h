// SPDX-License-Identifier: MIT
//
// Procedural surfaces, eight points at a time. Part of kernel.cc; see simd.h. Lengths are metres. Every
// detail fades to its mean where a pixel covers too much of it, so distant surfaces do not flicker.
#pragma once

#include "scene/scene_data.h"
#include "scene/simd.h"

namespace da3::scene::DA3_SCENE_ISA {

// Where on a surface, and how large a pixel is there.
struct Spot {
  vf u, v;     // along the surface, v upwards
  v3 p;        // in the frame of the object
  vf up;       // y of the world normal
  vf height;   // y of the world
  vf trodden;  // of the height field
  vf width;    // of a pixel
};

struct Paint {
  v3 colour;
  vf glow;  // share of own light
};

DA3_INLINE v3 rgb(const float* c) {
  return splat3(c);
}

// Coverage of lines of width `line` at the multiples of `period`.
DA3_INLINE vf lines(vf x, float period, float line, vf width) {
  const vf f = fract(x * splat(1 / period)) * splat(period);
  const vf d = vmin(f, splat(period) - f);
  const vf w = width + splat(1e-6f);
  const vf sharp = clamp01((splat(0.5f * line) - d) / w + splat(0.5f)) * vmin(splat(1), splat(line) / w);
  const vf far = clamp01(w * splat(2 / period) - splat(0.6f));
  return mix(sharp, splat(line / period), far);
}
// 1 inside lo..hi, soft over a pixel.
DA3_INLINE vf band(vf x, vf lo, vf hi, vf width) {
  const vf w = splat(1) / (width + splat(1e-6f));
  return clamp01((x - lo) * w + splat(0.5f)) * clamp01((hi - x) * w + splat(0.5f));
}
DA3_INLINE v3 dirty(v3 c, const Spot& s, float period, float amount, uint32_t seed) {
  const vf n = fractal2(s.u, s.v, period, 6, s.width, seed);
  return c * (splat(1) + n * splat(amount));
}

DA3_INLINE v3 paint_noise(const Material& m, const Spot& s, uint32_t seed) {
  const vf n = fractal3(s.p, m.scale, 6, s.width, seed);
  const vf fine = fractal3(s.p, m.scale * 0.05f, 3, s.width, seed + 40);
  return mix3(rgb(m.a), rgb(m.b), clamp01(splat(0.5f) + n * splat(1.6f * m.amount))) *
         (splat(1) + fine * splat(0.9f * m.amount));
}

DA3_INLINE v3 paint_brick(const Material& m, const Spot& s, uint32_t seed) {
  const float h = m.scale, w = m.scale * 3.1f, gap = m.scale * 0.14f;
  const vf row = vfloor(s.v * splat(1 / h));
  const vf x = s.u + row * splat(0.5f * w);
  const vf column = vfloor(x * splat(1 / w));
  const vu cell = hash2(to_int(column), to_int(row), seed);
  const vf keep = visible(s.width, w);
  const vf tone = mix(splat(0.5f), unit(cell), keep);
  v3 c = mix3(rgb(m.a), rgb(m.b), tone);
  c = c * (splat(1) + (mix(splat(0.5f), again(cell, 1), keep) - splat(0.5f)) * splat(0.5f));
  const vf joint = vmax(lines(s.v, h, gap, s.width), lines(x, w, gap, s.width));
  c = mix3(c, rgb(m.c), joint);
  return dirty(c, s, 1.7f, 0.7f * m.amount, seed + 7);
}

DA3_INLINE v3 paint_tiles(const Material& m, const Spot& s, uint32_t seed) {
  const vf k = splat(1 / m.scale);
  const vf i = vfloor(s.u * k), j = vfloor(s.v * k);
  const vu cell = hash2(to_int(i), to_int(j), seed);
  const vf keep = visible(s.width, m.scale * 2);
  const vf parity = to_float((to_int(i) + to_int(j)) & splat_i(1));
  v3 c = mix3(rgb(m.a), rgb(m.b), mix(splat(0.5f), parity, keep));
  c = c * (splat(1) + (mix(splat(0.5f), unit(cell), keep) - splat(0.5f)) * splat(0.5f * m.amount));
  // Veins that differ from tile to tile.
  const vf shift = unit(cell) * splat(50);
  const vf vein = vabs(fractal2(s.u + shift, s.v - shift, m.scale * 0.9f, 5, s.width, seed + 3));
  c = c * (splat(1) - splat(0.8f * m.amount) * (splat(0.25f) - vmin(vein, splat(0.25f))) * splat(2));
  const float gap = m.scale * 0.03f;
  c = mix3(c, rgb(m.c), vmax(lines(s.u, m.scale, gap, s.width), lines(s.v, m.scale, gap, s.width)));
  return dirty(c, s, 2.3f, 0.4f * m.amount, seed + 11);
}

DA3_INLINE v3 paint_planks(const Material& m, const Spot& s, uint32_t seed) {
  const float w = m.scale, length = m.scale * 11;
  const vf row = vfloor(s.v * splat(1 / w));
  const vf x = s.u + unit(hash2(to_int(row), splat_i(5), seed)) * splat(length);
  const vf piece = vfloor(x * splat(1 / length));
  const vu cell = hash2(to_int(piece), to_int(row), seed);
  const vf keep = visible(s.width, w * 2);
  const vf tone = mix(splat(0.5f), unit(cell), keep);
  const vf shift = again(cell, 2) * splat(37);
  // Grain: noise stretched along the plank, with rings from its height.
  const vf bend = fractal2(s.u * splat(0.25f) + shift, s.v + shift, w * 0.8f, 3, s.width, seed + 2);
  const vf ring = vabs(fract(s.v * splat(6 / w) + bend * splat(5) + shift) - splat(0.5f)) * splat(2);
  const vf fine = fractal2(s.u * splat(0.07f) + shift, s.v, w * 0.12f, 3, s.width, seed + 9);
  const vf grain = mix(splat(0.5f), ring, visible(s.width, w * 0.2f)) * splat(0.6f) + splat(0.2f) +
                   fine * splat(0.6f) + bend * splat(0.3f);
  v3 c = mix3(rgb(m.a), rgb(m.b), clamp01(tone * splat(0.6f) + grain * splat(0.6f * m.amount)));
  const vf joint = vmax(lines(s.v, w, w * 0.03f, s.width), lines(x, length, w * 0.03f, s.width));
  return mix3(c, rgb(m.c), joint);
}

// Overlapping leaves: the nearest of jittered points in the cells around decides tone and edge.
DA3_INLINE vf leaf_layer(vf x, vf y, uint32_t seed, vf* tone) {
  const vf fx = vfloor(x), fy = vfloor(y);
  vf best = splat(9), colour = splat(0);
  for (int j = -1; j <= 1; ++j) {
    for (int i = -1; i <= 1; ++i) {
      const vf cx = fx + splat(float(i)), cy = fy + splat(float(j));
      const vu h = hash2(to_int(cx), to_int(cy), seed);
      const vf dx = cx + unit(h) - x, dy = cy + again(h, 1) - y;
      const vf slant = again(h, 2) - splat(0.5f);
      const vf d = (dx + dy * slant) * (dx + dy * slant) * splat(1.6f) + dy * dy;
      const vi nearer = d < best;
      best = nearer ? d : best;
      colour = nearer ? again(h, 3) : colour;
    }
  }
  *tone = colour;
  return best;
}

DA3_INLINE v3 paint_foliage(const Material& m, const Spot& s, uint32_t seed) {
  const vf clump = fractal3(s.p, m.scale * 6, 4, s.width, seed);
  const vf keep = visible(s.width, m.scale * 1.5f);
  vf tone = splat(0.45f), edge = splat(0.3f);
  if (any(keep > splat(0))) {
    vf leaf;
    const vf k = splat(1 / m.scale);
    const vf d = leaf_layer(s.u * k, s.v * k, seed + 5, &leaf);
    tone = mix(tone, leaf, keep);
    edge = mix(edge, vmin(d, splat(1)), keep);
  }
  const v3 c = mix3(rgb(m.a), rgb(m.b), clamp01(tone + clump * splat(0.8f)));
  return c *
         (clamp01(splat(1.15f) - edge * splat(1.3f) * splat(m.amount) + clump * splat(0.9f)) + splat(0.12f));
}

DA3_INLINE v3 paint_text(const Material& m, const Spot& s, uint32_t seed) {
  const float row_height = m.scale, glyph = m.scale * 0.55f;
  const vf row = vfloor(s.v * splat(1 / row_height));
  const vf y = fract(s.v * splat(1 / row_height));
  const vu line = hash2(to_int(row), splat_i(77), seed);
  const vf column = vfloor(s.u * splat(1 / glyph));
  const vf x = fract(s.u * splat(1 / glyph));
  const vu cell = hash2(to_int(column), to_int(row), seed);
  const vf w = s.width * splat(1 / glyph);
  // Three strokes and a bar, each there or not: marks of letters that nobody can read.
  const vf on = splat(1), off = splat(0);
  const vf left = band(x, splat(0.12f), splat(0.3f), w) * (again(cell, 1) > splat(0.35f) ? on : off);
  const vf right = band(x, splat(0.62f), splat(0.8f), w) * (again(cell, 2) > splat(0.5f) ? on : off);
  const vf bar_y = splat(0.25f) + again(cell, 3) * splat(0.4f);
  const vf bar = band(x, splat(0.12f), splat(0.8f), w) * band(y, bar_y, bar_y + splat(0.13f), w);
  const vf top = band(x, splat(0.12f), splat(0.8f), w) * band(y, splat(0.7f), splat(0.83f), w) *
                 (again(cell, 4) > splat(0.5f) ? on : off);
  vf ink = vmax(vmax(left, right) * band(y, splat(0.2f), splat(0.83f), w), vmax(bar, top));
  ink = (unit(cell) > splat(0.84f)) ? off : ink;  // space
  const vi blank = unit(line) < splat(0.12f);     // paragraph
  const vi heading = again(line, 1) > splat(0.85f);
  ink = mix(splat(0.32f), ink, visible(s.width, glyph * 1.2f));
  ink = blank ? off : ink;
  v3 c = mix3(rgb(m.a), select(heading, rgb(m.c), rgb(m.b)), ink);
  return dirty(c, s, 0.8f, 0.3f * m.amount, seed + 5);
}

DA3_INLINE v3 paint_facade(const Material& m, const Spot& s, uint32_t seed) {
  const float floor_height = m.scale, bay = m.scale * (0.62f + 0.5f * float(seed % 7) / 7);
  const vf row = vfloor(s.v * splat(1 / floor_height)), column = vfloor(s.u * splat(1 / bay));
  const vf y = fract(s.v * splat(1 / floor_height)) * splat(floor_height);
  const vf x = fract(s.u * splat(1 / bay)) * splat(bay);
  const vu cell = hash2(to_int(column), to_int(row), seed);
  const vf lo_x = splat(0.24f * bay), hi_x = splat(0.76f * bay);
  const vf lo_y = splat(0.28f * floor_height), hi_y = splat(0.82f * floor_height);
  const vf f = splat(0.07f);
  const vf frame = band(x, lo_x - f, hi_x + f, s.width) * band(y, lo_y - f, hi_y + f, s.width);
  vf glass = band(x, lo_x, hi_x, s.width) * band(y, lo_y, hi_y, s.width);
  glass *= splat(1) - lines(x - splat(0.5f * bay), bay, 0.06f, s.width);
  const vf ledge = band(y, lo_y - splat(0.22f), lo_y - f, s.width) *
                   band(x, lo_x - splat(0.15f), hi_x + splat(0.15f), s.width);
  const vf belt = lines(s.v, floor_height, 0.12f, s.width);
  v3 wall = rgb(m.a);
  if (seed & 1) {
    Material brick = m;
    brick.scale = 0.085f;
    for (int i = 0; i < 3; ++i) brick.b[i] = m.a[i] * 0.7f, brick.c[i] = 0.55f * m.a[i] + 0.25f;
    wall = paint_brick(brick, s, seed);
  } else {
    const vf n = fractal2(s.u, s.v, 3, 7, s.width, seed);
    wall = wall * (splat(1) + n * splat(0.55f));
    // Streaks of rain below the ledges.
    const vf streak = fractal2(s.u, s.v * splat(0.08f), 0.4f, 3, s.width, seed + 21);
    wall = wall * (splat(1) - vmax(streak, splat(0)) * splat(0.5f));
  }
  wall = mix3(wall, wall * splat(0.6f), belt);
  wall = mix3(wall, rgb(m.c) * splat(0.7f), ledge);
  wall = mix3(wall, rgb(m.c), frame);
  // Glass mirrors a pale sky at the top, shows curtains or dark rooms below.
  const vf depth_tone = again(cell, 1);
  const vf sheen = clamp01((y - lo_y) * splat(0.9f / floor_height) + unit(cell) * splat(0.5f) - splat(0.15f));
  v3 pane =
      mix3(v3{splat(0.03f), splat(0.04f), splat(0.05f)}, v3{splat(0.35f), splat(0.45f), splat(0.55f)}, sheen);
  const vf curtain = fract(s.u * splat(9)) * splat(0.25f) + splat(0.45f);
  const vi drawn = (depth_tone > splat(0.62f)) & (y > lo_y + (hi_y - lo_y) * again(cell, 2));
  pane = select(drawn, v3{curtain, curtain * splat(0.95f), curtain * splat(0.85f)}, pane);
  return mix3(wall, pane, glass);
}

DA3_INLINE v3 paint_asphalt(const Material& m, const Spot& s, uint32_t seed) {
  const vf coarse = fractal2(s.u, s.v, m.scale * 4, 4, s.width, seed);
  const vf grit = fractal2(s.u, s.v, 0.05f, 3, s.width, seed + 9);
  v3 c = mix3(rgb(m.a), rgb(m.b), clamp01(splat(0.5f) + coarse)) * (splat(1) + grit * splat(0.9f * m.amount));
  const vf crack = vabs(fractal2(s.u + coarse, s.v, m.scale * 1.3f, 4, s.width, seed + 17));
  const vf open = clamp01(splat(1) - crack * splat(40)) * clamp01(coarse * splat(3)) * visible(s.width, 0.2f);
  c = c * (splat(1) - open * splat(0.65f));
  // Patches of another age.
  const vf px = vfloor(s.u * splat(0.21f)), py = vfloor(s.v * splat(0.27f));
  const vf patch = unit(hash2(to_int(px), to_int(py), seed + 3)) < splat(0.16f) ? splat(0.72f) : splat(1);
  return c * patch;
}

DA3_INLINE v3 paint_grass(const Material& m, const Spot& s, uint32_t seed) {
  const vf patch = fractal2(s.u, s.v, m.scale * 5, 5, s.width, seed);
  const vf blades = fractal2(s.u, s.v, 0.13f, 3, s.width * splat(0.7f), seed + 13);
  const vf dry = fractal2(s.u, s.v, m.scale * 1.6f, 3, s.width, seed + 23);
  v3 c = mix3(rgb(m.a), rgb(m.b), clamp01(splat(0.5f) + patch * splat(1.3f)));
  c = mix3(c, rgb(m.c), clamp01(dry * splat(2) - splat(0.1f)) * splat(0.7f));
  return c * vmax(splat(1) + blades * splat(2.6f * m.amount), splat(0.35f));
}

DA3_INLINE v3 paint_bark(const Material& m, const Spot& s, uint32_t seed) {
  const vf wave = fractal2(s.u, s.v * splat(0.3f), m.scale, 3, s.width, seed);
  const vf ridge =
      vabs(fractal2(s.u + wave * splat(0.06f), s.v * splat(0.16f), m.scale * 0.45f, 4, s.width, seed + 5));
  const vf moss = fractal3(s.p, 0.9f, 4, s.width, seed + 30);
  v3 c = mix3(rgb(m.b), rgb(m.a), clamp01(ridge * splat(3.2f)));
  c = c * (splat(0.85f) + wave * splat(0.7f * m.amount));
  return mix3(c, rgb(m.c), clamp01(moss * splat(2.2f) - splat(0.15f)));
}

DA3_INLINE v3 paint_corrugated(const Material& m, const Spot& s, uint32_t seed) {
  const vf keep = visible(s.width, m.scale);
  const vf f = fract(s.u * splat(1 / m.scale));
  const vf wave = vabs(f - splat(0.5f)) * splat(2);
  const vf sheet = vfloor(s.u * splat(0.9f));
  const vf tone = unit(hash2(to_int(sheet), splat_i(3), seed));
  v3 c = rgb(m.a) *
         (splat(0.72f) + mix(splat(0.5f), smooth(wave), keep) * splat(0.5f * m.amount) + tone * splat(0.14f));
  const vf rust = fractal2(s.u, s.v * splat(0.35f), 1.4f, 5, s.width, seed + 2);
  c = mix3(c, rgb(m.b), clamp01(rust * splat(3) - splat(0.5f)));
  const vf seam = vmax(lines(s.v, 2.4f, 0.03f, s.width), lines(s.u, 1 / 0.9f, 0.012f, s.width));
  return mix3(c, rgb(m.c), seam * splat(0.8f));
}

DA3_INLINE v3 paint_picture(const Material& m, const Spot& s, uint32_t seed) {
  const vf k = splat(1 / m.scale);
  const vf x = s.u * k, y = s.v * k;
  const vf wx = fractal2(x, y, 0.9f, 3, s.width * k, seed),
           wy = fractal2(x, y, 0.9f, 3, s.width * k, seed + 31);
  vf tone;
  const vf d =
      leaf_layer((x + wx * splat(0.5f)) * splat(3.2f), (y + wy * splat(0.5f)) * splat(3.2f), seed + 3, &tone);
  v3 c = mix3(rgb(m.a), rgb(m.b), clamp01(tone * splat(2)));
  c = mix3(c, rgb(m.c), clamp01(tone * splat(2.4f) - splat(1.1f)));
  const vf stroke = fractal2(x + wx, (y - wx) * splat(0.2f), 0.12f, 4, s.width * k, seed + 8);
  return c * (splat(1.1f) + stroke * splat(0.8f) - vmin(d, splat(0.6f)) * splat(0.7f));
}

DA3_INLINE v3 paint_books(const Material& m, const Spot& s, uint32_t seed) {
  const float w = m.scale;
  // Books of unequal width: the borders of a regular row, moved.
  const vf i = vfloor(s.u * splat(1 / w));
  const vf border = unit(hash2(to_int(i), splat_i(9), seed)) * splat(0.7f);
  const vf f = fract(s.u * splat(1 / w));
  const vi after = f > border;
  const vi index = to_int(i) + (after ? splat_i(1) : splat_i(0));
  const vu book = hash2(index, splat_i(1), seed);
  const v3 one = mix3(rgb(m.a), rgb(m.b), unit(book));
  const vf h = again(book, 1);
  const v3 hue = {clamp01(vabs(h * splat(6) - splat(3)) - splat(1)),
                  clamp01(splat(2) - vabs(h * splat(6) - splat(2))),
                  clamp01(splat(2) - vabs(h * splat(6) - splat(4)))};
  v3 c = mix3(one, hue * splat(0.5f) + v3{splat(0.05f), splat(0.05f), splat(0.05f)}, splat(0.55f));
  c = c * (splat(0.5f) + again(book, 2));
  const vf title = band(s.v, splat(0.05f) + again(book, 3) * splat(0.08f),
                        splat(0.16f) + again(book, 3) * splat(0.08f), s.width);
  const vf letter =
      unit(hash2(to_int(vfloor(s.v * splat(90))), index, seed)) > splat(0.45f) ? splat(1) : splat(0);
  c = mix3(c, rgb(m.c), title * mix(splat(0.5f), letter, visible(s.width, 0.02f)) * splat(0.8f));
  const vf edge = vabs(f - border);
  const vf gap = clamp01(splat(1) - edge * splat(w) / (s.width + splat(0.002f)));
  const vf bent = vmin(edge * splat(4), splat(1));
  return c * (splat(1) - gap * splat(0.7f)) * (splat(0.7f) + bent * splat(0.3f));
}

DA3_INLINE v3 paint_terrain(const Material& m, const Spot& s, uint32_t seed) {
  const vf n = fractal2(s.p.x, s.p.z, m.scale * 8, 6, s.width, seed);
  const vf fine = fractal2(s.p.x, s.p.z, 0.6f, 5, s.width, seed + 12);
  const vf blades = fractal2(s.p.x, s.p.z, 0.11f, 3, s.width * splat(0.7f), seed + 22);
  const vf tufts = fractal2(s.p.z, s.p.x, 0.33f, 3, s.width, seed + 32);
  // a: grass, b: rock, c: bare soil.
  v3 grass =
      rgb(m.a) * vmax(splat(1) + n * splat(0.7f) + blades * splat(1.5f) + tufts * splat(0.6f), splat(0.3f));
  grass = mix3(grass, v3{grass.y * splat(1.05f), grass.y * splat(0.9f), grass.z * splat(0.7f)},
               clamp01(fine * splat(1.5f) + n));
  const vf strata = fractal2(s.p.x * splat(0.1f) + s.p.z * splat(0.07f), s.p.y, 1.1f, 5, s.width, seed + 2);
  const v3 rock = rgb(m.b) * vmax(splat(1) + strata * splat(0.9f) + fine * splat(0.6f), splat(0.3f));
  const vf stones = ramp(0.2f, 0.4f, fractal2(s.p.x, s.p.z, 0.16f, 2, s.width, seed + 42));
  const v3 soil = rgb(m.c) * vmax(splat(1) + fine * splat(0.9f) + blades * splat(1.1f) + stones * splat(0.6f),
                                  splat(0.35f));
  const vf bare = clamp01((n + fine * splat(0.5f)) * splat(3) - splat(0.35f));
  v3 c = mix3(grass, soil, vmax(bare * splat(0.7f), s.trodden * clamp01(splat(0.9f) + fine)));
  return mix3(c, rock, clamp01((splat(0.86f) - s.up + fine * splat(0.08f)) * splat(9)));
}

DA3_INLINE v3 paint_carton(const Material& m, const Spot& s, uint32_t seed) {
  const vf n = fractal2(s.u * splat(0.3f), s.v, 0.3f, 5, s.width, seed);
  v3 c = mix3(rgb(m.a), rgb(m.b), clamp01(splat(0.4f) + n * splat(m.amount)));
  const vf tape = band(s.u, splat(-0.03f), splat(0.03f), s.width);
  c = mix3(c, c * splat(0.75f) + v3{splat(0.1f), splat(0.08f), splat(0.04f)}, tape * splat(0.8f));
  // A printed label off the middle.
  const float x0 = 0.05f + 0.04f * float(seed % 3), y0 = -0.1f + 0.03f * float(seed % 5);
  const vf label =
      band(s.u, splat(x0), splat(x0 + 0.16f), s.width) * band(s.v, splat(y0), splat(y0 + 0.12f), s.width);
  Material print;
  print.scale = 0.022f;
  for (int i = 0; i < 3; ++i) print.a[i] = 0.8f, print.b[i] = 0.06f, print.c[i] = m.c[i];
  return mix3(c, paint_text(print, s, seed), label);
}

DA3_INLINE v3 paint_weave(const Material& m, const Spot& s, uint32_t seed) {
  const vf k = splat(1 / m.scale);
  const vf across = unit(hash2(to_int(vfloor(s.u * k)), splat_i(1), seed));
  const vf along = unit(hash2(to_int(vfloor(s.v * k * splat((seed & 2) ? 1.0f : 0.13f))), splat_i(2), seed));
  const vf keep = visible(s.width, m.scale * 1.5f);
  v3 c = mix3(rgb(m.a), rgb(m.b), mix(splat(0.5f), clamp01(across * splat(2) - splat(0.5f)), keep));
  c = mix3(c, rgb(m.c), mix(splat(0.2f), (along > splat(0.72f)) ? splat(0.75f) : splat(0), keep));
  const vf thread = fractal2(s.u, s.v, 0.012f, 2, s.width, seed + 4);
  const vf fold = fractal2(s.u, s.v, 0.5f, 4, s.width, seed + 6);
  return c * (splat(1) + thread * splat(0.8f) + fold * splat(0.5f * m.amount));
}

DA3_INLINE v3 paint_rock(const Material& m, const Spot& s, uint32_t seed) {
  const vf n = fractal3(s.p, m.scale, 7, s.width, seed);
  const v3 layer = {s.p.x * splat(0.2f), s.p.y * splat(1.4f) + n * splat(0.3f), s.p.z * splat(0.2f)};
  const vf strata = fractal3(layer, m.scale * 0.5f, 3, s.width, seed + 20);
  const vf crack = vabs(fractal3(s.p, m.scale * 0.8f, 4, s.width, seed + 50));
  v3 c = mix3(rgb(m.a), rgb(m.b), clamp01(splat(0.5f) + n * splat(1.5f) + strata * splat(0.6f)));
  c = mix3(c, rgb(m.c), clamp01(n * splat(2) - splat(0.4f)) * ramp(0.1f, 0.7f, s.up));
  return c * (clamp01(crack * splat(14)) * splat(0.45f * m.amount) + splat(1 - 0.45f * m.amount));
}

// `seed` belongs to the object, so that two objects of one material differ.
static inline Paint paint(const Material& m, const Spot& spot, uint32_t object_seed) {
  const uint32_t seed = m.seed + object_seed * 31u;
  Paint out{{splat(0), splat(0), splat(0)}, splat(0)};
  switch (m.pattern) {
    case Pattern::brick:
      out.colour = paint_brick(m, spot, seed);
      break;
    case Pattern::tiles:
      out.colour = paint_tiles(m, spot, seed);
      break;
    case Pattern::planks:
      out.colour = paint_planks(m, spot, seed);
      break;
    case Pattern::foliage:
      out.colour = paint_foliage(m, spot, seed);
      break;
    case Pattern::text:
      out.colour = paint_text(m, spot, seed);
      break;
    case Pattern::facade:
      out.colour = paint_facade(m, spot, seed);
      break;
    case Pattern::asphalt:
      out.colour = paint_asphalt(m, spot, seed);
      break;
    case Pattern::grass:
      out.colour = paint_grass(m, spot, seed);
      break;
    case Pattern::bark:
      out.colour = paint_bark(m, spot, seed);
      break;
    case Pattern::corrugated:
      out.colour = paint_corrugated(m, spot, seed);
      break;
    case Pattern::picture:
      out.colour = paint_picture(m, spot, seed);
      break;
    case Pattern::books:
      out.colour = paint_books(m, spot, seed);
      break;
    case Pattern::terrain:
      out.colour = paint_terrain(m, spot, seed);
      break;
    case Pattern::carton:
      out.colour = paint_carton(m, spot, seed);
      break;
    case Pattern::weave:
      out.colour = paint_weave(m, spot, seed);
      break;
    case Pattern::rock:
      out.colour = paint_rock(m, spot, seed);
      break;
    case Pattern::lamp:
      out.colour = rgb(m.a);
      out.glow = splat(1);
      break;
    default:
      out.colour = paint_noise(m, spot, seed);
      break;
  }
  const v3 zero = {splat(0), splat(0), splat(0)};
  out.colour = {vmax(out.colour.x, zero.x), vmax(out.colour.y, zero.y), vmax(out.colour.z, zero.z)};
  return out;
}

}  // namespace da3::scene::DA3_SCENE_ISA
