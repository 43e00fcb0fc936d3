// SPDX-License-Identifier: MIT
#include "train/parameters.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <regex>

#include "engine/checkpoint/safetensors_writer.h"
#include "train/probes.h"

namespace da3::train {
namespace {

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}
bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

uint64_t hash_of(const std::string& text) {  // FNV-1a: the same with every library
  uint64_t h = 0xcbf29ce484222325ull;
  for (const char c : text) h = (h ^ uint8_t(c)) * 0x100000001b3ull;
  return h;
}

// Sine-cosine of rows and columns, so that places differ from the first step on.
void fill_positions(Tensor value) {
  const int64_t tokens = value.size(1), width = value.size(2);
  const auto side = int64_t(std::lround(std::sqrt(double(tokens - 1))));
  float* p = value.data_ptr<float>();
  std::fill_n(p, width, 0.0f);
  const int64_t quarter = width / 4;
  for (int64_t t = 0; t < side * side; ++t) {
    for (int64_t k = 0; k < width; ++k) {
      const double at = k < width / 2 ? double(t / side) : double(t % side);
      const double angle = at * std::pow(30.0, -double(k % quarter) / double(quarter));
      p[(t + 1) * width + k] = float(0.4 * (k / quarter % 2 == 0 ? std::sin(angle) : std::cos(angle)));
    }
  }
}

// A patch's lowest cosine waves, of its brightness and of two colour differences, scaled against the 1 / f
// spectrum of pictures: a first layer that loses little and whose outputs are of one size.
void fill_patch_embedding(Tensor value, scene::Rng& rng) {
  struct Wave {
    int u, v, channel;
    double frequency;
  };
  const int64_t outputs = value.size(0), side = value.size(2);
  std::vector<Wave> waves;
  for (int channel = 0; channel < 3; ++channel)
    for (int v = 0; v < side; ++v)
      for (int u = 0; u < side; ++u)
        waves.push_back({u, v, channel, std::hypot(u, v) * (channel == 0 ? 1.0 : 1.8) + 0.01 * channel});
  std::stable_sort(waves.begin(), waves.end(),
                   [](const Wave& a, const Wave& b) { return a.frequency < b.frequency; });
  static const double mix[3][3] = {{0.577, 0.577, 0.577}, {0.707, -0.707, 0}, {0.408, 0.408, -0.816}};
  float* p = value.data_ptr<float>();
  for (int64_t k = 0; k < outputs; ++k) {
    const Wave w = k < int64_t(waves.size()) ? waves[size_t(k)] : Wave{0, 0, 0, 0};
    const double size = std::min(0.35, 0.02 * (1 + 2.5 * std::hypot(w.u, w.v)) * (w.channel ? 3 : 1));
    const double norm = size * (w.u ? std::sqrt(2.0) : 1) * (w.v ? std::sqrt(2.0) : 1) / double(side);
    for (int c = 0; c < 3; ++c)
      for (int64_t y = 0; y < side; ++y)
        for (int64_t x = 0; x < side; ++x)
          *p++ = float(norm * mix[w.channel][c] * std::cos(M_PI * (double(x) + 0.5) * w.u / double(side)) *
                           std::cos(M_PI * (double(y) + 0.5) * w.v / double(side)) +
                       0.0005 * rng.normal());
  }
}

// Keys that resemble their queries: tokens attend to similar ones, near ones above all, before anything is
// learned (after Trockman and Kolter, arXiv 2305.09828, section 3).
void align_keys(Tensor qkv) {
  const int64_t width = qkv.size(1);
  const Tensor q = qkv.narrow(0, 0, width);
  qkv.narrow(0, width, width).mul_(0.7).add_(q, 0.7);
}

// Deviation of a normal distribution, or 0 for zeros.
double deviation(const std::string& key, const std::vector<int64_t>& shape) {
  double fan_in = 1;
  for (size_t i = 1; i < shape.size(); ++i) fan_in *= double(shape[i]);
  if (ends_with(key, "attn.proj.weight") || ends_with(key, "mlp.fc2.weight") ||
      ends_with(key, "mlp.w3.weight"))
    return 0;
  if (contains(key, "resConfUnit") && contains(key, "conv2.weight")) return 0;
  if (ends_with(key, ".descriptor")) return 1.0 / std::sqrt(fan_in);
  if (contains(key, "cam_dec.fc_") || contains(key, kProbePrefix)) return 0.002;
  if (contains(key, "output_conv2.2.weight") || contains(key, ".5.weight")) return 0.01;
  if (contains(key, "resize_layers.0") || contains(key, "resize_layers.1"))
    return 1.0 / std::sqrt(double(shape[0]));  // transposed: every output pixel has one input pixel
  return std::sqrt((shape.size() == 4 && shape[2] == 3 ? 2.0 : 1.0) / fan_in);
}

void fill_vector(const std::string& key, Tensor value) {
  const bool is_scale =
      ends_with(key, "gamma") || contains(key, "norm") || contains(key, "output_conv2_aux.3.2");
  value.fill_(is_scale && !ends_with(key, "bias") ? 1.0 : 0.0);
  float* p = value.data_ptr<float>();
  if (contains(key, "cam_dec.backbone.") && ends_with(key, "bias")) value.fill_(0.1);  // alive at first
  if (ends_with(key, "cam_dec.fc_qvec.bias")) p[3] = 1;
  if (ends_with(key, "cam_dec.fc_fov.0.bias")) p[0] = p[1] = 1;
  if (ends_with(key, "output_conv2_aux.3.5.bias")) p[2] = 1;  // rays look along z
}

}  // namespace

Tensor TrainableWeights::take(const std::string& key, const std::vector<int64_t>& shape) {
  Tensor value = at::zeros(shape, at::TensorOptions(at::kFloat));
  const bool is_token = ends_with(key, "_token");
  if (ends_with(key, "pos_embed")) {
    fill_positions(value);
  } else if (ends_with(key, "patch_embed.proj.weight")) {
    scene::Rng rng(seed_ ^ hash_of(key));
    fill_patch_embedding(value, rng);
  } else if (shape.size() < 2) {
    fill_vector(key, value);
  } else if (const double d = is_token ? 0.3 : deviation(key, shape); d > 0) {
    scene::Rng rng(seed_ ^ hash_of(key));
    float* p = value.data_ptr<float>();
    for (int64_t i = 0; i < value.numel(); ++i) p[i] = float(d * rng.normal());
  }
  if (ends_with(key, "attn.qkv.weight")) align_keys(value);
  parameters_.push_back({key, value.to(device_).set_requires_grad(true)});
  return parameters_.back().value;
}

void TrainableWeights::declare(const std::string& key, const std::vector<int64_t>& shape) {
  unused_.push_back({key, shape});
}

SharedWeights::SharedWeights(std::vector<Parameter>& values) : values_(values), leaves_(values.size()) {
  for (size_t i = 0; i < values.size(); ++i) index_[values[i].key] = i;
}

Tensor SharedWeights::take(const std::string& key, const std::vector<int64_t>&) {
  const size_t i = index_.at(key);
  leaves_[i] = values_[i].value.detach().set_requires_grad(true);
  return leaves_[i];
}

void write_tensors(const std::string& path, const std::map<std::string, Tensor>& tensors,
                   const std::map<std::string, std::string>& metadata) {
  std::map<std::string, Tensor> held;
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    const Tensor t = held.emplace(name, tensor.detach().to(at::kCPU).contiguous()).first->second;
    TensorView view;
    view.dtype = t.scalar_type() == at::kHalf ? DType::f16 : DType::f32;
    view.shape = t.sizes().vec();
    view.data = t.data_ptr();
    view.bytes = size_t(t.numel()) * size_of(view.dtype);
    views[name] = view;
  }
  write_safetensors(path, views, metadata);
}

void write_checkpoint(const std::string& path, const TrainableWeights& weights) {
  static const std::regex shared_norm("output_conv2_aux\\.([0-9])\\.2\\.(weight|bias)$");
  std::map<std::string, Tensor> tensors;
  for (const Parameter& p : const_cast<TrainableWeights&>(weights).parameters()) {
    if (p.key.rfind(kProbePrefix, 0) == 0) continue;
    const std::string key = std::regex_replace(p.key, shared_norm, "output_conv2_aux.0.2.$2");
    tensors[key] = p.value.detach().to(at::kHalf);
  }
  for (const KeyShape& u : weights.unused())
    if (!std::regex_search(u.key, shared_norm))
      tensors[u.key] = at::zeros(u.shape, at::TensorOptions(at::kHalf));
  write_tensors(path, tensors, {{"format", "pt"}});
}

}  // namespace da3::train
