// SPDX-License-Identifier: MIT
//
// What the ray caster reads: plain arrays. Private to this room. Metres, y up.
#pragma once

#include <cstdint>

namespace da3::scene {

// What a surface looks like; texture.h paints them.
enum class Pattern : int32_t {
  noise,       // plaster, concrete, soil
  brick,       // bricks (a, b) with mortar (c)
  tiles,       // tiles (a, every other one b) with grout (c)
  planks,      // wood
  foliage,     // leaves
  text,        // lines of glyph-like marks
  facade,      // windows in a wall
  asphalt,     // speckled, with cracks
  grass,       // blades and patches
  bark,        // trunks
  corrugated,  // sheet metal
  picture,     // abstract painting
  books,       // spines
  terrain,     // by slope and height
  carton,      // cardboard with tape and a label
  weave,       // fabric with stripes both ways
  rock,        // layered stone
  lamp,        // gives light of its own
  count
};

struct Material {
  Pattern pattern = Pattern::noise;
  float a[3] = {0.5f, 0.5f, 0.5f};  // colours, linear, 0..1
  float b[3] = {0.4f, 0.4f, 0.4f};
  float c[3] = {0.3f, 0.3f, 0.3f};
  float scale = 1;     // length of the pattern [m]
  float amount = 0.5;  // contrast, 0..1
  uint32_t seed = 0;
};

enum class Shape : int32_t { box, ellipsoid, cylinder, cone, cell };

// The unit shape (box and cylinder -1..1 on each axis, sphere of radius 1, cone with its apex at y = 1) in
// the space local = inverse * (world, 1). Cells of the height field keep x0, z0, 1 / size and the heights at
// (0, 0), (1, 0), (0, 1), (1, 1) in the first seven numbers of `inverse`.
struct Primitive {
  float inverse[12];  // 3 rows of 4
  float half[3];      // metres of one local unit
  Shape shape;
  int32_t side, top, bottom;  // materials
  uint32_t seed;
};

struct Node {
  float lo[3];
  uint32_t first;  // leaf: first entry of `order`; inner: the second child (the first one follows its parent)
  float hi[3];
  uint16_t count;  // 0: inner node
  uint16_t axis;
};

struct PointLight {
  float position[3];
  float colour[3];
  float range;  // no light beyond [m]
};

struct HeightField {
  int side = 0;  // vertices along x and z
  float x0 = 0, z0 = 0, cell = 1;
  const float* height = nullptr;   // [side][side], row = z
  const float* slope_x = nullptr;  // dh/dx, dh/dz at the vertices
  const float* slope_z = nullptr;
  const float* trodden = nullptr;  // 0..1: how much of a path there is
};

struct Light {
  float sun_direction[3] = {0, 1, 0};  // towards the sun, unit
  float sun[3] = {0, 0, 0};            // colour; all zero: no sun
  float ambient_up[3] = {0.5f, 0.5f, 0.5f};
  float ambient_down[3] = {0.3f, 0.3f, 0.3f};
  float zenith[3] = {0.2f, 0.4f, 0.8f};
  float horizon[3] = {0.7f, 0.8f, 0.9f};
  float cloud = 0.4f;  // share of the sky
  float haze = 0;      // 1 / metres
  uint32_t cloud_seed = 1;
  int points = 0;
  const PointLight* point = nullptr;
};

struct SceneData {
  const Primitive* primitives = nullptr;
  const Material* materials = nullptr;
  const uint32_t* order = nullptr;
  const Node* nodes = nullptr;
  uint32_t node_count = 0;
  int32_t first_cell = 0;  // primitives from here on are cells of the height field
  HeightField field;
  Light light;
};

// World to pixel: the ray through pixel position (u, v) is origin + t * (corner + u * dx + v * dy), and t is
// z-depth.
struct RayCamera {
  float origin[3], corner[3], dx[3], dy[3];
  float pixel = 0;  // width of a pixel at z = 1
};

}  // namespace da3::scene
