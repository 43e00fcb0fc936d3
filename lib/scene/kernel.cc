// SPDX-License-Identifier: MIT
//
// Rays in packets of eight through a bounding volume hierarchy, then surface, light and haze. Compiled once
// for each instruction set (DA3_SCENE_ISA), see simd.h.
#include "scene/kernel.h"

#include "scene/texture.h"

namespace da3::scene::DA3_SCENE_ISA {
namespace {

constexpr float kFar = 1e30f;
constexpr int kStack = 64;

struct Ray {
  v3 o, d, inverse;
};

DA3_INLINE vf safe_inverse(vf d) {
  const vi tiny = vabs(d) < splat(1e-12f);
  return splat(1) / (tiny ? splat(1e-12f) : d);
}
DA3_INLINE Ray make_ray(v3 o, v3 d) {
  return {o, d, {safe_inverse(d.x), safe_inverse(d.y), safe_inverse(d.z)}};
}

DA3_INLINE v3 to_local(const float* m, v3 p, float w) {
  return {splat(m[0]) * p.x + splat(m[1]) * p.y + splat(m[2]) * p.z + splat(m[3] * w),
          splat(m[4]) * p.x + splat(m[5]) * p.y + splat(m[6]) * p.z + splat(m[7] * w),
          splat(m[8]) * p.x + splat(m[9]) * p.y + splat(m[10]) * p.z + splat(m[11] * w)};
}

// --- first crossing of each shape from outside: t, or kFar
// ---------------------------------------------------

DA3_INLINE vf hit_box(v3 o, v3 d) {
  const vf ix = safe_inverse(d.x), iy = safe_inverse(d.y), iz = safe_inverse(d.z);
  const vf one = splat(1);
  const vf mx = -o.x * ix, my = -o.y * iy, mz = -o.z * iz;
  const vf ax = vabs(ix) * one, ay = vabs(iy), az = vabs(iz);
  const vf enter = vmax(vmax(mx - ax, my - ay), mz - az);
  const vf leave = vmin(vmin(mx + ax, my + ay), mz + az);
  return (enter <= leave) ? enter : splat(kFar);
}

DA3_INLINE vf hit_ellipsoid(v3 o, v3 d) {
  const vf a = dot(d, d);
  const vf k = -dot(o, d) / a;
  const v3 p = o + d * k;
  const vf rest = splat(1) - dot(p, p);
  return (rest >= splat(0)) ? k - vsqrt(vmax(rest, splat(0)) / a) : splat(kFar);
}

DA3_INLINE vf hit_cylinder(v3 o, v3 d) {
  const vf a = vmax(d.x * d.x + d.z * d.z, splat(1e-20f));
  const vf k = -(o.x * d.x + o.z * d.z) / a;
  const vf px = o.x + d.x * k, pz = o.z + d.z * k;
  const vf rest = splat(1) - px * px - pz * pz;
  const vf reach = vsqrt(vmax(rest, splat(0)) / a);
  const vf iy = safe_inverse(d.y);
  const vf my = -o.y * iy, ay = vabs(iy);
  const vf enter = vmax(k - reach, my - ay), leave = vmin(k + reach, my + ay);
  return ((rest >= splat(0)) & (enter <= leave)) ? enter : splat(kFar);
}

DA3_INLINE vf hit_cone(v3 o, v3 d) {
  const vf q = (splat(1) - o.y) * splat(0.5f), dq = d.y * splat(-0.5f);
  const vf a = d.x * d.x + d.z * d.z - dq * dq;
  const vf b = o.x * d.x + o.z * d.z - q * dq;
  const vf c = o.x * o.x + o.z * o.z - q * q;
  const vf rest = b * b - a * c;
  const vf root = vsqrt(vmax(rest, splat(0)));
  const vf ia = safe_inverse(a);
  const vf t1 = (-b - root) * ia, t2 = (-b + root) * ia;
  const vf y1 = o.y + d.y * t1, y2 = o.y + d.y * t2;
  const vf one = splat(1), far = splat(kFar);
  const vi real = rest >= splat(0);
  vf best = (real & (vabs(y1) <= one) & (t1 > splat(0))) ? t1 : far;
  best = (real & (vabs(y2) <= one) & (t2 > splat(0)) & (t2 < best)) ? t2 : best;
  const vf tb = (splat(-1) - o.y) * safe_inverse(d.y);
  const vf bx = o.x + d.x * tb, bz = o.z + d.z * tb;
  return ((bx * bx + bz * bz <= one) & (tb > splat(0)) & (tb < best)) ? tb : best;
}

// A cell of the height field: two triangles that meet on the diagonal from (1, 0) to (0, 1).
DA3_INLINE vf hit_cell(const float* m, const Ray& r) {
  const vf k = splat(m[2]);
  const vf u = (r.o.x - splat(m[0])) * k, w = (r.o.z - splat(m[1])) * k;
  const vf du = r.d.x * k, dw = r.d.z * k;
  const float h00 = m[3], h10 = m[4], h01 = m[5], h11 = m[6];
  // A little overlap, or rays would slip through where cells meet.
  const vf lo = splat(-2e-4f), hi = splat(1 + 2e-4f);
  const vf ta = -(r.o.y - (splat(h00) + u * splat(h10 - h00) + w * splat(h01 - h00))) *
                safe_inverse(r.d.y - (du * splat(h10 - h00) + dw * splat(h01 - h00)));
  const vf ua = u + du * ta, wa = w + dw * ta;
  const vi in_a = (ua >= lo) & (wa >= lo) & (ua + wa <= hi) & (ta > splat(0));
  const vf one = splat(1);
  const vf tb = -(r.o.y - (splat(h11) + (one - u) * splat(h01 - h11) + (one - w) * splat(h10 - h11))) *
                safe_inverse(r.d.y - (-du * splat(h01 - h11) - dw * splat(h10 - h11)));
  const vf ub = u + du * tb, wb = w + dw * tb;
  const vi in_b = (ub <= hi) & (wb <= hi) & (ub + wb >= splat(1 - 2e-4f)) & (tb > splat(0));
  const vf a = in_a ? ta : splat(kFar), b = in_b ? tb : splat(kFar);
  return vmin(a, b);
}

DA3_INLINE vf hit_primitive(const Primitive& p, const Ray& r) {
  if (p.shape == Shape::cell) return hit_cell(p.inverse, r);
  const v3 o = to_local(p.inverse, r.o, 1), d = to_local(p.inverse, r.d, 0);
  switch (p.shape) {
    case Shape::box:
      return hit_box(o, d);
    case Shape::ellipsoid:
      return hit_ellipsoid(o, d);
    case Shape::cylinder:
      return hit_cylinder(o, d);
    default:
      return hit_cone(o, d);
  }
}

// --- traversal
// -----------------------------------------------------------------------------------------------

// Nearest crossing with 0 < t < best of the active lanes: updates best and index. With `any_hit`, whether
// there is one at all: index is only meant to be compared with -1.
template <bool any_hit>
static inline void traverse(const SceneData& s, const Ray& r, vi active, vf& best, vi& index) {
  uint32_t stack[kStack];
  int top = 0;
  if (s.node_count == 0) return;
  stack[top++] = 0;
  const unsigned alive = bits(active);
  if (!alive) return;
  // Lanes that are off never get anything.
  vf limit = active ? best : splat(-1);
  const int lead = __builtin_ctz(alive);
  const bool negative[3] = {r.d.x[lead] < 0, r.d.y[lead] < 0, r.d.z[lead] < 0};
  while (top > 0) {
    uint32_t at = stack[--top];
    for (;;) {
      const Node& node = s.nodes[at];
      const vf ax = (splat(node.lo[0]) - r.o.x) * r.inverse.x, bx = (splat(node.hi[0]) - r.o.x) * r.inverse.x;
      const vf ay = (splat(node.lo[1]) - r.o.y) * r.inverse.y, by = (splat(node.hi[1]) - r.o.y) * r.inverse.y;
      const vf az = (splat(node.lo[2]) - r.o.z) * r.inverse.z, bz = (splat(node.hi[2]) - r.o.z) * r.inverse.z;
      const vf enter = vmax(vmax(vmin(ax, bx), vmin(ay, by)), vmax(vmin(az, bz), splat(0)));
      const vf leave = vmin(vmin(vmax(ax, bx), vmax(ay, by)), vmin(vmax(az, bz), limit));
      if (!any(enter <= leave)) break;
      if (node.count == 0) {
        const bool swap = negative[node.axis];
        stack[top++] = swap ? at + 1 : node.first;
        at = swap ? node.first : at + 1;
        continue;
      }
      for (uint32_t i = 0; i < node.count; ++i) {
        const uint32_t p = s.order[node.first + i];
        const vf t = hit_primitive(s.primitives[p], r);
        const vi hit = (t > splat(0)) & (t < limit);
        if (any_hit) {
          index = hit ? splat_i(int32_t(p)) : index;
          limit = hit ? splat(-1) : limit;
        } else {
          limit = hit ? t : limit;
          index = hit ? splat_i(int32_t(p)) : index;
        }
      }
      if (any_hit && !any(limit >= splat(0))) return;
      break;
    }
  }
  if (!any_hit) best = active ? limit : best;
}

// --- surface
// -------------------------------------------------------------------------------------------------

struct Surface {
  v3 point, normal;
  v3 colour;
  vf glow;
  vi face;  // of the primitive, 0..5
};

DA3_INLINE vf arc(vf y, vf x) {  // atan2 to 1e-3, enough to wrap a texture
  const vf ax = vabs(x), ay = vabs(y);
  const vf a = vmin(ax, ay) / vmax(vmax(ax, ay), splat(1e-20f));
  const vf q = a * a;
  vf r = ((splat(-0.0464964749f) * q + splat(0.15931422f)) * q - splat(0.327622764f)) * q * a + a;
  r = (ay > ax) ? splat(1.57079637f) - r : r;
  r = (x < splat(0)) ? splat(3.14159274f) - r : r;
  return (y < splat(0)) ? -r : r;
}

static inline void field_surface(const SceneData& s, v3 p, v3* normal, vf* trodden) {
  const HeightField& f = s.field;
  vf slope_x = splat(0), slope_z = splat(0), path = splat(0);
  for (int i = 0; i < kLanes; ++i) {
    float gx = (p.x[i] - f.x0) / f.cell, gz = (p.z[i] - f.z0) / f.cell;
    const float last = float(f.side) - 1.001f;
    gx = gx > 0 ? (gx < last ? gx : last) : 0;  // the first of the two also catches NaN of an idle lane
    gz = gz > 0 ? (gz < last ? gz : last) : 0;
    const int ix = int(gx), iz = int(gz);
    const float tx = gx - float(ix), tz = gz - float(iz);
    const int at = iz * f.side + ix;
    const float w[4] = {(1 - tx) * (1 - tz), tx * (1 - tz), (1 - tx) * tz, tx * tz};
    const int step[4] = {at, at + 1, at + f.side, at + f.side + 1};
    float sx = 0, sz = 0, sp = 0;
    for (int k = 0; k < 4; ++k) {
      sx += w[k] * f.slope_x[step[k]];
      sz += w[k] * f.slope_z[step[k]];
      sp += w[k] * f.trodden[step[k]];
    }
    slope_x[i] = sx;
    slope_z[i] = sz;
    path[i] = sp;
  }
  *normal = normalised({-slope_x, splat(1), -slope_z});
  *trodden = path;
}

// Coordinates along a face of a box, and its outward normal, in local units.
DA3_INLINE void box_face(v3 q, const float* half, v3* normal, vf* u, vf* v, vi* face) {
  const vf ax = vabs(q.x), ay = vabs(q.y), az = vabs(q.z);
  // Points lie on the box up to rounding, so the largest coordinate names the face.
  const vi is_x = (ax >= ay) & (ax >= az), is_y = ~is_x & (ay >= az);
  const vf one = splat(1), zero = splat(0);
  const vf sx = (q.x < zero) ? -one : one, sy = (q.y < zero) ? -one : one, sz = (q.z < zero) ? -one : one;
  *normal = {is_x ? sx : zero, is_y ? sy : zero, (is_x | is_y) ? zero : sz};
  const vf mx = q.x * splat(half[0]), my = q.y * splat(half[1]), mz = q.z * splat(half[2]);
  *u = is_x ? -mz * sx : (is_y ? mx : mx * sz);
  *v = is_y ? mz : my;
  *face = is_x ? ((q.x < zero) ? splat_i(1) : splat_i(0))
               : (is_y ? ((q.y < zero) ? splat_i(3) : splat_i(2)) : ((q.z < zero) ? splat_i(5) : splat_i(4)));
}

DA3_INLINE void round_face(const Primitive& p, v3 q, v3* normal, vf* u, vf* v, vi* face) {
  const vf angle = arc(q.z, q.x);
  const vf zero = splat(0), one = splat(1);
  const float radius = 0.5f * (p.half[0] + p.half[2]);
  *face = splat_i(0);
  if (p.shape == Shape::ellipsoid) {
    *normal = q;
    *u = angle * splat(radius);
    *v = q.y * splat(p.half[1] * 1.3f);
    return;
  }
  const bool cone = p.shape == Shape::cone;
  const vf ring = vsqrt(q.x * q.x + q.z * q.z);
  // On a cap where that lies closer than the side.
  const vf off_side = cone ? vabs(ring - (one - q.y) * splat(0.5f)) : vabs(ring - one);
  const vf off_cap = cone ? vabs(q.y + one) : vabs(vabs(q.y) - one);
  const vi cap = off_cap < off_side;
  const vf sy = (q.y < zero) ? -one : one;
  const v3 side = {q.x, cone ? ring * splat(0.5f) : zero, q.z};
  *normal = select(cap, {zero, sy, zero}, side);
  *u = cap ? q.x * splat(p.half[0]) : angle * splat(radius);
  *v = cap ? q.z * splat(p.half[2]) : q.y * splat(p.half[1]);
  *face = cap ? ((q.y < zero) ? splat_i(3) : splat_i(2)) : splat_i(0);
}

static inline void paint_faces(const SceneData& s, const Primitive& p, const Spot& spot, vi mask, vi face,
                               Surface* out) {
  const vi top = face == splat_i(2), bottom = face == splat_i(3);
  const int32_t ids[3] = {p.side, p.top, p.bottom};
  const vi masks[3] = {mask & ~top & ~bottom, mask & top, mask & bottom};
  for (int i = 0; i < 3; ++i) {
    if (!any(masks[i])) continue;
    const Paint c = paint(s.materials[ids[i]], spot, p.seed);
    out->colour = select(masks[i], c.colour, out->colour);
    out->glow = masks[i] ? c.glow : out->glow;
  }
}

static inline Surface surface_at(const SceneData& s, const Ray& r, vf t, vi index, float pixel) {
  Surface out;
  out.point = r.o + r.d * t;
  out.normal = {splat(0), splat(1), splat(0)};
  out.colour = {splat(0), splat(0), splat(0)};
  out.glow = splat(0);
  out.face = splat_i(0);
  const vf distance = t * vsqrt(dot(r.d, r.d));
  const v3 view = normalised(r.d);
  vi todo = index >= splat_i(0);
  const vi field = index >= splat_i(s.first_cell);
  while (const unsigned left = bits(todo)) {
    const int32_t id = index[__builtin_ctz(left)];
    const Primitive& p = s.primitives[id];
    const bool cell = p.shape == Shape::cell;
    const vi mask = todo & (cell ? field : index == splat_i(id));
    todo &= ~mask;
    Spot spot;
    v3 normal;
    vi face = splat_i(0);
    spot.trodden = splat(0);
    if (cell) {
      field_surface(s, out.point, &normal, &spot.trodden);
      spot.p = out.point;
      spot.u = out.point.x;
      spot.v = out.point.z;
    } else {
      const v3 q = to_local(p.inverse, out.point, 1);
      v3 n;
      if (p.shape == Shape::box) {
        box_face(q, p.half, &n, &spot.u, &spot.v, &face);
      } else {
        round_face(p, q, &n, &spot.u, &spot.v, &face);
      }
      const float* m = p.inverse;
      normal = normalised({splat(m[0]) * n.x + splat(m[4]) * n.y + splat(m[8]) * n.z,
                           splat(m[1]) * n.x + splat(m[5]) * n.y + splat(m[9]) * n.z,
                           splat(m[2]) * n.x + splat(m[6]) * n.y + splat(m[10]) * n.z});
      spot.p = {q.x * splat(p.half[0]), q.y * splat(p.half[1]), q.z * splat(p.half[2])};
    }
    const vf slant = vmax(vabs(dot(normal, view)), splat(0.06f));
    spot.width = distance * splat(pixel) / vsqrt(slant);
    spot.up = normal.y;
    spot.height = out.point.y;
    paint_faces(s, p, spot, mask, face, &out);
    out.normal = select(mask, normal, out.normal);
    out.face = mask ? face : out.face;
  }
  return out;
}

// --- light
// ---------------------------------------------------------------------------------------------------

static inline v3 sky_colour(const Light& l, v3 d) {
  const v3 dir = normalised(d);
  const vf up = vmax(dir.y, splat(0));
  const vf blend = clamp01(up * splat(2.4f));
  v3 c = mix3(rgb(l.horizon), rgb(l.zenith), smooth(blend) * splat(0.5f) + blend * splat(0.5f));
  const vf to_sun = dot(dir, splat3(l.sun_direction));
  if (l.cloud > 0 && any(dir.y > splat(0.01f))) {
    const vf k = splat(1) / (vmax(dir.y, splat(0.02f)) + splat(0.12f));
    const vf x = dir.x * k, z = dir.z * k;
    const vf n = fractal2(x, z, 1.3f, 6, splat(0.004f) * k, l.cloud_seed) + splat(l.cloud - 0.5f);
    const vf cover = ramp(0, 0.45f, n) * ramp(0.01f, 0.16f, dir.y);
    const vf shade = splat(1.05f) - clamp01(n) * splat(0.55f);
    const v3 white = {splat(0.95f) * shade, splat(0.96f) * shade, splat(1.0f) * shade};
    c = mix3(c, white, cover * splat(0.9f));
  }
  const vf near = vmax(to_sun, splat(0));
  vf glow = near * near;
  glow = glow * glow;
  glow = glow * glow;
  vf disc = glow * glow;
  disc = disc * disc;
  disc = disc * disc;
  disc = disc * disc;
  disc = disc * disc;
  disc = disc * disc;
  disc = disc * disc;
  disc = disc * disc;
  const v3 sun = splat3(l.sun);
  c = c + sun * (glow * splat(0.05f) + disc * splat(1.6f));
  // Below the horizon: the haze of far ground.
  const vf below = clamp01(-dir.y * splat(8));
  return mix3(c, rgb(l.horizon) * splat(0.55f), below);
}

static inline v3 lit(const SceneData& s, const Surface& f, vi active, vf distance) {
  const Light& l = s.light;
  const vf up = f.normal.y * splat(0.5f) + splat(0.5f);
  v3 light = mix3(splat3(l.ambient_down), splat3(l.ambient_up), up);
  const vf lift = splat(1e-3f) + distance * splat(4e-5f);
  const v3 start = f.point + f.normal * lift;
  if (l.sun[0] + l.sun[1] + l.sun[2] > 0) {
    const v3 to_sun = splat3(l.sun_direction);
    const vf cosine = dot(f.normal, to_sun);
    const vi facing = active & (cosine > splat(0));
    if (any(facing)) {
      vf best = splat(kFar);
      vi blocked = splat_i(-1);
      traverse<true>(s, make_ray(start, to_sun), facing, best, blocked);
      const vi lit_lanes = facing & (blocked < splat_i(0));
      light = light + splat3(l.sun) * (lit_lanes ? cosine : splat(0));
    }
  }
  for (int i = 0; i < l.points; ++i) {
    const PointLight& p = l.point[i];
    const v3 to = splat3(p.position) - start;
    const vf d2 = dot(to, to);
    const vi near = active & (d2 < splat(p.range * p.range));
    if (!any(near)) continue;
    const vf d = vsqrt(vmax(d2, splat(1e-6f)));
    const vf cosine = dot(f.normal, to) / d;
    const vi facing = near & (cosine > splat(0));
    if (!any(facing)) continue;
    vf best = splat(0.97f);  // the lamp itself does not count
    vi blocked = splat_i(-1);
    traverse<true>(s, make_ray(start, to), facing, best, blocked);
    const vf fade = clamp01(splat(1) - d2 * splat(1 / (p.range * p.range)));
    const vf strength = cosine * fade * fade / (d2 * splat(0.35f) + splat(0.6f));
    light = light + splat3(p.colour) * ((facing & (blocked < splat_i(0))) ? strength : splat(0));
  }
  const v3 shaded = times(f.colour, light);
  return mix3(shaded, f.colour, f.glow);
}

struct Shot {
  v3 colour;
  vf depth;
  vi surface;
};

static inline Shot shoot(const SceneData& s, v3 origin, v3 direction, vi active, float pixel) {
  const Ray r = make_ray(origin, direction);
  vf t = splat(kFar);
  vi index = splat_i(-1);
  traverse<false>(s, r, active, t, index);
  const vi hit = index >= splat_i(0);
  Shot out;
  out.depth = hit ? t : splat(0);
  out.colour = {splat(0), splat(0), splat(0)};
  out.surface = splat_i(-1);
  const vi open = active & ~hit;
  if (any(hit)) {
    const vf at = hit ? t : splat(1);
    const Surface f = surface_at(s, r, at, index, pixel);
    const vf distance = at * vsqrt(dot(direction, direction));
    v3 c = lit(s, f, hit, distance);
    if (s.light.haze > 0) {
      const vf x = distance * splat(s.light.haze);
      const vf clear = splat(1) / (splat(1) + x + x * x * splat(0.5f) + x * x * x * splat(0.16f));
      c = mix3(rgb(s.light.horizon), c, clear);
    }
    out.colour = c;
    const vi cell = index >= splat_i(s.first_cell);
    out.surface = hit ? (cell ? splat_i(s.first_cell * 8) : index * splat_i(8) + f.face) : splat_i(-1);
  }
  if (any(open)) out.colour = select(open, sky_colour(s.light, direction), out.colour);
  return out;
}

DA3_INLINE v3 pixel_ray(const RayCamera& c, vf x, vf y) {
  return splat3(c.corner) + splat3(c.dx) * x + splat3(c.dy) * y;
}

void tile(const SceneData& s, const RayCamera& c, const Planes& out, int x0, int y0, int x1, int y1,
          float offset_x, float offset_y) {
  const v3 origin = splat3(c.origin);
  const vf lane_x = {0, 1, 2, 3, 0, 1, 2, 3}, lane_y = {0, 0, 0, 0, 1, 1, 1, 1};
  for (int y = y0; y < y1; y += 2) {
    for (int x = x0; x < x1; x += 4) {
      const vf px = lane_x + splat(float(x)), py = lane_y + splat(float(y));
      const vi active = (px < splat(float(x1))) & (py < splat(float(y1)));
      const v3 d = pixel_ray(c, px + splat(0.5f + offset_x), py + splat(0.5f + offset_y));
      const Shot shot = shoot(s, origin, d, active, c.pixel);
      const unsigned on = bits(active);
      for (int i = 0; i < kLanes; ++i) {
        if (!(on >> i & 1)) continue;
        const int64_t at = int64_t(y + i / 4) * out.width + x + i % 4;
        out.red[at] = shot.colour.x[i];
        out.green[at] = shot.colour.y[i];
        out.blue[at] = shot.colour.z[i];
        if (out.depth) out.depth[at] = shot.depth[i];
        if (out.surface) out.surface[at] = shot.surface[i];
      }
    }
  }
}

void samples(const SceneData& s, const RayCamera& c, int count, const float* x, const float* y, float* red,
             float* green, float* blue) {
  const v3 origin = splat3(c.origin);
  for (int begin = 0; begin < count; begin += kLanes) {
    vf px = splat(x[begin]), py = splat(y[begin]);
    vi active = splat_i(0);
    const int n = count - begin < kLanes ? count - begin : kLanes;
    for (int i = 0; i < n; ++i) {
      px[i] = x[begin + i];
      py[i] = y[begin + i];
      active[i] = -1;
    }
    const Shot shot = shoot(s, origin, pixel_ray(c, px, py), active, c.pixel);
    for (int i = 0; i < n; ++i) {
      red[begin + i] += shot.colour.x[i];
      green[begin + i] += shot.colour.y[i];
      blue[begin + i] += shot.colour.z[i];
    }
  }
}

void rays(const SceneData& s, int count, const float* origin, const float* direction, float* t) {
  for (int begin = 0; begin < count; begin += kLanes) {
    const int n = count - begin < kLanes ? count - begin : kLanes;
    v3 o = splat3(origin + 3 * begin), d = splat3(direction + 3 * begin);
    vi active = splat_i(0);
    for (int i = 0; i < n; ++i) {
      const float* po = origin + 3 * (begin + i);
      const float* pd = direction + 3 * (begin + i);
      o.x[i] = po[0], o.y[i] = po[1], o.z[i] = po[2];
      d.x[i] = pd[0], d.y[i] = pd[1], d.z[i] = pd[2];
      active[i] = -1;
    }
    vf best = splat(kFar);
    vi index = splat_i(-1);
    traverse<false>(s, make_ray(o, d), active, best, index);
    for (int i = 0; i < n; ++i) t[begin + i] = index[i] >= 0 ? best[i] : 0;
  }
}

}  // namespace

extern const Kernel kernel = {tile, samples, rays, DA3_SCENE_ISA_NAME};

}  // namespace da3::scene::DA3_SCENE_ISA
