// SPDX-License-Identifier: MIT
#include "train/sample.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "scene/path.h"
#include "scene/rng.h"
#include "scene/views.h"

namespace da3::train {
namespace {

using scene::Family;
using scene::PathKind;
using scene::Rng;

constexpr std::array<Family, 7> kTrainingFamilies = {Family::room,    Family::corridor, Family::street,
                                                     Family::terrain, Family::objects,  Family::warehouse,
                                                     Family::forest};
constexpr uint64_t kHeldOutSeed = 5000;
constexpr uint64_t kHeldOutFamilySeed = 9000;

// Frames of one path at even times, far enough apart for the views to differ.
std::vector<scene::Camera> path_views(const scene::Scene& scene, Rng& rng, const SetDescription& d) {
  constexpr PathKind kKinds[] = {PathKind::forward, PathKind::orbit, PathKind::handheld,
                                 PathKind::loop,    PathKind::drive, PathKind::walk};
  const PathKind kind = kKinds[rng.index(6)];
  const scene::CameraPath path = scene::CameraPath::make(scene, kind, rng.next());
  const double begin = rng.uniform(0, 20), step = rng.uniform(0.1, 0.6);
  scene::Camera lens;
  scene::set_intrinsics(lens, rng.uniform(d.fov_low, d.fov_high), d.width, d.height);
  std::vector<scene::Camera> views;
  for (int i = 0; i < d.views; ++i) {
    scene::Camera camera = path.pose(begin + step * i);
    camera.fx = lens.fx;
    camera.fy = lens.fy;
    camera.cx = lens.cx;
    camera.cy = lens.cy;
    views.push_back(camera);
  }
  return views;
}

void shuffle(std::vector<scene::Camera>& views, Rng& rng) {
  for (size_t i = views.size(); i > 1; --i) std::swap(views[i - 1], views[size_t(rng.index(int(i)))]);
}

// Another camera's taste: white balance, saturation, contrast, sometimes black and white.
void recolour(ViewSet& set, Rng& rng) {
  const double grey = rng.chance(0.05) ? 1 : rng.uniform(-0.3, 0.3);  // 1: no colour left
  const double contrast = rng.uniform(0.85, 1.15), lift = rng.uniform(-12, 12);
  double gain[3];
  for (double& g : gain) g = rng.uniform(0.9, 1.1);
  float table[3][256];
  for (int c = 0; c < 3; ++c)
    for (int v = 0; v < 256; ++v) table[c][v] = float(((v - 128) * contrast + 128 + lift) * gain[c]);
  const float keep = float(1 - grey), mix = float(grey);
  for (size_t i = 0; i < set.rgb.size(); i += 3) {
    float p[3];
    for (int c = 0; c < 3; ++c) p[c] = table[c][set.rgb[i + size_t(c)]];
    const float light = 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2];
    for (int c = 0; c < 3; ++c)
      set.rgb[i + size_t(c)] = uint8_t(std::clamp(keep * p[c] + mix * light + 0.5f, 0.0f, 255.0f));
  }
}

SetDescription describe(Family family, uint64_t scene_seed, uint64_t view_seed, int views, int width,
                        int height) {
  SetDescription d;
  d.family = family;
  d.scene_seed = scene_seed;
  d.view_seed = view_seed;
  d.views = views;
  d.path_share = views == 1 ? 0.5 : 0.25;
  d.width = width;
  d.height = height;
  return d;
}

}  // namespace

ViewSet make_view_set(const SetDescription& d, scene::Renderer& renderer) {
  return make_view_set(d, scene::Scene::make(d.family, d.scene_seed), renderer);
}

ViewSet make_view_set(const SetDescription& d, const scene::Scene& scene, scene::Renderer& renderer) {
  Rng rng(d.view_seed * 0x2545F4914F6CDD1Dull + d.scene_seed);
  std::vector<scene::Camera> views;
  if (rng.chance(d.path_share)) {
    views = path_views(scene, rng, d);
  } else {
    scene::ViewRange range;
    range.width = d.width;
    range.height = d.height;
    range.fov_low = d.fov_low;
    range.fov_high = d.fov_high;
    views = scene::random_views(scene, rng, d.views, range);
  }
  shuffle(views, rng);

  scene::RenderOptions options;
  if (d.augment) {
    options.exposure = rng.uniform(-0.4, 0.4);
    options.noise = rng.chance(0.3) ? rng.uniform(0, 0.25) : 0;
    options.noise_seed = rng.next();
  }
  ViewSet set;
  set.description = d;
  const size_t pixels = size_t(d.width) * size_t(d.height);
  set.rgb.resize(views.size() * pixels * 3);
  set.depth.resize(views.size() * pixels);
  for (size_t i = 0; i < views.size(); ++i) {
    scene::RenderTarget target;
    target.rgb = set.rgb.data() + i * pixels * 3;
    target.stride = size_t(d.width) * 3;
    target.depth = set.depth.data() + i * pixels;
    options.frame = i;
    renderer.render(scene, views[i], d.width, d.height, options, target);
    geometry::Matrix34 pose;
    pose << views[i].rotation, views[i].translation;
    geometry::Matrix3 k;
    k << views[i].fx, 0, views[i].cx, 0, views[i].fy, views[i].cy, 0, 0, 1;
    set.extrinsics.push_back(pose);
    set.intrinsics.push_back(k);
  }
  if (d.augment) recolour(set, rng);
  return set;
}

SetDescription training_set(uint64_t run_seed, uint64_t index, int views, int width, int height) {
  const int pictures_per_scene = width <= 84 ? 8 : width <= 126 ? 4 : 2;
  const uint64_t neighbours = uint64_t(std::max(1, pictures_per_scene / views));
  Rng rng(run_seed * 0x9E3779B97F4A7C15ull + index / neighbours);
  const Family family = kTrainingFamilies[size_t(rng.index(int(kTrainingFamilies.size())))];
  const uint64_t scene_seed = kFirstTrainingSeed + rng.next() % (uint64_t(1) << 40);
  SetDescription d =
      describe(family, scene_seed, rng.next() + 0xD1342543DE82EF95ull * index, views, width, height);
  d.augment = true;
  return d;
}

SetDescription held_out_set(uint64_t index, int views, int width, int height) {
  const Family family = kTrainingFamilies[index % kTrainingFamilies.size()];
  return describe(family, kHeldOutSeed + index, index, views, width, height);
}

SetDescription held_out_family_set(uint64_t index, int views, int width, int height) {
  return describe(kHeldOutFamily, kHeldOutFamilySeed + index, index, views, width, height);
}

}  // namespace da3::train
