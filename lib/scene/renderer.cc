// SPDX-License-Identifier: MIT
#include "scene/renderer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>
#include <thread>

#include "scene/kernel.h"
#include "scene/pool.h"

namespace da3::scene {
namespace {

constexpr int kTileWidth = 32, kTileHeight = 16;
constexpr int kMaxThreads = 256;
constexpr int kGammaSize = 1 << 14;

// Linear light 0..1 to sRGB 0..255.
const std::vector<float>& gamma_table() {
  static const std::vector<float> table = [] {
    std::vector<float> t(kGammaSize + 1);
    for (int i = 0; i <= kGammaSize; ++i) {
      const double x = double(i) / kGammaSize;
      t[size_t(i)] = float(255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * std::pow(x, 1 / 2.4) - 0.055));
    }
    return t;
  }();
  return table;
}

RayCamera ray_camera(const Camera& c) {
  const Eigen::Vector3d eye = c.centre();
  const Eigen::Vector3d x = c.rotation.row(0), y = c.rotation.row(1), z = c.rotation.row(2);
  const Eigen::Vector3d corner = z - x * (c.cx / c.fx) - y * (c.cy / c.fy);
  RayCamera out;
  for (int k = 0; k < 3; ++k) {
    out.origin[k] = float(eye[k]);
    out.corner[k] = float(corner[k]);
    out.dx[k] = float(x[k] / c.fx);
    out.dy[k] = float(y[k] / c.fy);
  }
  out.pixel = float(1 / std::sqrt(c.fx * c.fy));
  return out;
}

uint32_t scramble(uint32_t h) {
  h = (h ^ (h >> 16)) * 0x7feb352du;
  h = (h ^ (h >> 15)) * 0x846ca68bu;
  return h ^ (h >> 16);
}
// Mean 0, deviation 1, nearly normal: four uniform bytes.
float gaussian(uint32_t h) {
  const uint32_t sum = (h & 255) + (h >> 8 & 255) + (h >> 16 & 255) + (h >> 24);
  return (float(sum) - 510) * (1 / 147.8f);
}

void check_pose(const Camera& c) {
  const bool finite = c.rotation.allFinite() && c.translation.allFinite();
  if (!finite ||
      !((c.rotation * c.rotation.transpose() - Eigen::Matrix3d::Identity()).cwiseAbs().maxCoeff() < 1e-6))
    throw std::invalid_argument("The camera's rotation must be orthonormal and its translation finite.");
}

void check(const Camera& c, int width, int height, const RenderOptions& o, const RenderTarget& t) {
  if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide)
    throw std::invalid_argument("A picture of " + std::to_string(width) + "x" + std::to_string(height) +
                                " pixels cannot be rendered; each side must be between 1 and " +
                                std::to_string(kMaxSide) + ".");
  const bool usable = std::isfinite(c.fx) && std::isfinite(c.fy) && c.fx > 0 && c.fy > 0 &&
                      std::isfinite(c.cx) && std::isfinite(c.cy);
  if (!usable)
    throw std::invalid_argument("The camera's focal lengths must be above 0 and its intrinsics finite.");
  check_pose(c);
  for (const Camera& shutter : o.shutter) check_pose(shutter);
  if (!(o.exposure >= -8 && o.exposure <= 8))
    throw std::invalid_argument("The exposure is " + std::to_string(o.exposure) +
                                " stops; it must be between -8 and 8.");
  if (!(o.noise >= 0 && o.noise <= 1))
    throw std::invalid_argument("The noise is " + std::to_string(o.noise) + "; it must be between 0 and 1.");
  if (t.rgb && t.pixel_bytes != 3 && t.pixel_bytes != 4)
    throw std::invalid_argument("A pixel has 3 or 4 bytes, not " + std::to_string(t.pixel_bytes) + ".");
  if (t.rgb && t.stride < size_t(width) * size_t(t.pixel_bytes))
    throw std::invalid_argument("A stride of " + std::to_string(t.stride) + " bytes is too short for " +
                                std::to_string(width) + " pixels.");
}

}  // namespace

struct Renderer::State {
  explicit State(int threads) : pool(threads) {}

  // One picture in work.
  struct Job {
    const SceneData* scene;
    RayCamera camera;
    const Camera* camera_model;
    int width, height, columns, rows;
    const RenderOptions* options;
    const RenderTarget* target;
    float exposure;
  };

  void tile_bounds(const Job& job, int index, int* x0, int* y0, int* x1, int* y1) const {
    *x0 = index % job.columns * kTileWidth;
    *y0 = index / job.columns * kTileHeight;
    *x1 = std::min(*x0 + kTileWidth, job.width);
    *y1 = std::min(*y0 + kTileHeight, job.height);
  }

  void cast(const Job& job, int index);
  void blur(const Job& job, int index);
  void soften(const Job& job, int index);
  void develop(const Job& job, int index);
  bool is_edge(const Job& job, int x, int y) const;

  Pool pool;
  const Kernel& kernel = best_kernel();
  std::vector<float> red, green, blue, depth;
  std::vector<float> sub_red, sub_green, sub_blue;  // of one shutter pose
  std::vector<int32_t> surface;
};

void Renderer::State::cast(const Job& job, int index) {
  int x0, y0, x1, y1;
  tile_bounds(job, index, &x0, &y0, &x1, &y1);
  const Planes planes{job.width,   job.height,   red.data(),    green.data(),
                      blue.data(), depth.data(), surface.data()};
  kernel.tile(*job.scene, job.camera, planes, x0, y0, x1, y1, 0, 0);
  const RenderTarget& t = *job.target;
  for (int y = y0; y < y1; ++y) {
    const size_t row = size_t(y) * size_t(job.width);
    for (int x = x0; x < x1; ++x) {
      if (t.depth) t.depth[row + size_t(x)] = depth[row + size_t(x)];
      if (t.sky) t.sky[row + size_t(x)] = surface[row + size_t(x)] < 0 ? 1.f : 0.f;
    }
  }
}

void Renderer::State::blur(const Job& job, int index) {
  int x0, y0, x1, y1;
  tile_bounds(job, index, &x0, &y0, &x1, &y1);
  const Planes planes{job.width,       job.height, sub_red.data(), sub_green.data(),
                      sub_blue.data(), nullptr,    nullptr};
  const int count = int(job.options->shutter.size());
  const float share = 1 / float(count);
  for (int i = 0; i < count; ++i) {
    Camera camera = *job.camera_model;
    camera.rotation = job.options->shutter[size_t(i)].rotation;
    camera.translation = job.options->shutter[size_t(i)].translation;
    // Offsets of a low-discrepancy sequence also smooth the edges.
    const double a = std::fmod(0.5 + i * 0.7548776662466927, 1.0) - 0.5;
    const double b = std::fmod(0.5 + i * 0.5698402909980532, 1.0) - 0.5;
    kernel.tile(*job.scene, ray_camera(camera), planes, x0, y0, x1, y1, float(a), float(b));
    for (int y = y0; y < y1; ++y) {
      for (int x = x0; x < x1; ++x) {
        const size_t at = size_t(y) * size_t(job.width) + size_t(x);
        red[at] = (i ? red[at] : 0) + share * sub_red[at];
        green[at] = (i ? green[at] : 0) + share * sub_green[at];
        blue[at] = (i ? blue[at] : 0) + share * sub_blue[at];
      }
    }
  }
}

bool Renderer::State::is_edge(const Job& job, int x, int y) const {
  const int w = job.width;
  const size_t at = size_t(y) * size_t(w) + size_t(x);
  const auto differs = [&](size_t other) {
    if (surface[at] != surface[other]) return true;
    // Hills before hills are one surface.
    const float a = depth[at], b = depth[other];
    return std::abs(a - b) > 0.12f * std::min(a, b);
  };
  return (x > 0 && differs(at - 1)) || (x + 1 < w && differs(at + 1)) || (y > 0 && differs(at - size_t(w))) ||
         (y + 1 < job.height && differs(at + size_t(w)));
}

void Renderer::State::soften(const Job& job, int index) {
  constexpr int kExtra = 3;
  constexpr float kOffset[kExtra][2] = {{0.30f, -0.22f}, {-0.34f, -0.12f}, {0.06f, 0.36f}};
  constexpr int kMost = kTileWidth * kTileHeight;
  int x0, y0, x1, y1;
  tile_bounds(job, index, &x0, &y0, &x1, &y1);
  std::array<uint32_t, kMost> pixel;
  std::array<float, kMost * kExtra> px{}, py{};
  int count = 0;
  for (int y = y0; y < y1; ++y) {
    for (int x = x0; x < x1; ++x) {
      if (!is_edge(job, x, y)) continue;
      for (int k = 0; k < kExtra; ++k) {
        px[size_t(count * kExtra + k)] = float(x) + 0.5f + kOffset[k][0];
        py[size_t(count * kExtra + k)] = float(y) + 0.5f + kOffset[k][1];
      }
      pixel[size_t(count++)] = uint32_t(y) * uint32_t(job.width) + uint32_t(x);
    }
  }
  std::array<float, kMost * kExtra> r{}, g{}, b{};
  kernel.samples(*job.scene, job.camera, count * kExtra, px.data(), py.data(), r.data(), g.data(), b.data());
  // Very bright samples (the sun) would leave a dotted edge when averaged as they are.
  const auto cap = [](float v) { return std::min(v, 4.f); };
  for (int i = 0; i < count; ++i) {
    const size_t at = pixel[size_t(i)], from = size_t(i) * kExtra;
    red[at] = 0.25f * (cap(red[at]) + cap(r[from]) + cap(r[from + 1]) + cap(r[from + 2]));
    green[at] = 0.25f * (cap(green[at]) + cap(g[from]) + cap(g[from + 1]) + cap(g[from + 2]));
    blue[at] = 0.25f * (cap(blue[at]) + cap(b[from]) + cap(b[from + 1]) + cap(b[from + 2]));
  }
}

// Exposure, tone curve, noise, sRGB.
void Renderer::State::develop(const Job& job, int index) {
  int x0, y0, x1, y1;
  tile_bounds(job, index, &x0, &y0, &x1, &y1);
  const RenderTarget& t = *job.target;
  const float* gamma = gamma_table().data();
  const float sigma = float(job.options->noise) * 16;
  const uint64_t seed =
      job.options->noise_seed * 0x9E3779B97F4A7C15ull + job.options->frame * 0xD1B54A32D192ED03ull;
  const uint32_t key = scramble(uint32_t(seed) ^ scramble(uint32_t(seed >> 32)));
  const float* planes[3] = {red.data(), green.data(), blue.data()};
  for (int y = y0; y < y1; ++y) {
    uint8_t* out = t.rgb + size_t(y) * t.stride + size_t(x0) * size_t(t.pixel_bytes);
    for (int x = x0; x < x1; ++x, out += t.pixel_bytes) {
      const uint32_t at = uint32_t(y) * uint32_t(job.width) + uint32_t(x);
      for (int k = 0; k < 3; ++k) {
        const float light = planes[k][at] * job.exposure;
        // An S-curve: deep shadows, highlights that roll off.
        const float tone = light * (light * 0.93f + 0.02f) / (light * (light * 0.88f + 0.4f) + 0.1f);
        float value = gamma[int(std::min(tone, 1.f) * kGammaSize)];
        if (sigma > 0)
          value += gaussian(scramble(key ^ (at * 3 + uint32_t(k)))) * sigma * (1 - value * (0.6f / 255));
        out[k] = uint8_t(std::clamp(value + 0.5f, 0.f, 255.f));
      }
      if (t.pixel_bytes == 4) out[3] = 255;
    }
  }
}

Renderer::Renderer(int threads) {
  if (threads < 0 || threads > kMaxThreads)
    throw std::invalid_argument("The number of threads is " + std::to_string(threads) +
                                "; it must be between 0 and " + std::to_string(kMaxThreads) + ".");
  const int cores = std::max(1, int(std::thread::hardware_concurrency()));
  state_ = std::make_unique<State>(threads ? threads : std::min(cores, kMaxThreads));
}

Renderer::~Renderer() = default;

int Renderer::threads() const {
  return state_->pool.threads();
}
const char* Renderer::instruction_set() {
  return best_kernel().name;
}

void Renderer::render(const Scene& scene, const Camera& camera, int width, int height,
                      const RenderOptions& options, const RenderTarget& target) {
  check(camera, width, height, options, target);
  State& s = *state_;
  const size_t count = size_t(width) * size_t(height);
  for (auto* plane : {&s.red, &s.green, &s.blue, &s.depth}) plane->resize(count);
  s.surface.resize(count);
  State::Job job{&scene.data(),
                 ray_camera(camera),
                 &camera,
                 width,
                 height,
                 (width + kTileWidth - 1) / kTileWidth,
                 (height + kTileHeight - 1) / kTileHeight,
                 &options,
                 &target,
                 float(scene.whereabouts().exposure * 1.5 * std::exp2(options.exposure))};
  const int tiles = job.columns * job.rows;
  s.pool.run(tiles, [&](int i) { s.cast(job, i); });
  if (!target.rgb) return;
  if (!options.shutter.empty()) {
    for (auto* plane : {&s.sub_red, &s.sub_green, &s.sub_blue}) plane->resize(count);
    s.pool.run(tiles, [&](int i) {
      s.blur(job, i);
      s.develop(job, i);
    });
    return;
  }
  s.pool.run(tiles, [&](int i) {
    if (options.antialias) s.soften(job, i);
    s.develop(job, i);
  });
}

}  // namespace da3::scene
