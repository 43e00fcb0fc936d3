// SPDX-License-Identifier: MIT
//
// Networks small enough to run hundreds of times, of every kind, and checkpoint files of them.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/checkpoint/synthetic.h"
#include "engine/network/network.h"
#include "temp_files.h"

namespace da3::test {

using at::Tensor;
using nlohmann::json;

inline json tiny_backbone(int alt_start) {
  json net = {{"embed_dim", 64},  {"depth", 8},   {"num_heads", 4}, {"out_layers", {1, 3, 5, 7}},
              {"ffn_hidden", 96}, {"pos_grid", 6}};
  if (alt_start >= 0) {
    net["alt_start"] = net["qknorm_start"] = net["rope_start"] = alt_start;
    net["cat_token"] = true;
  }
  return net;
}

inline json tiny_head(const char* kind) {
  return {{"__object__", {{"name", kind}}}, {"features", 16}, {"out_channels", {16, 16, 32, 32}}};
}

// Depth, confidence, ray and cameras; with `gaussians` those too.
inline json tiny_any_view(bool gaussians = false) {
  json tree = {{"net", tiny_backbone(2)}, {"head", tiny_head("DualDPT")}};
  tree["cam_dec"] = tree["cam_enc"] = json::object();
  if (gaussians) {
    tree["gs_head"] = tiny_head("GSDPT");
    tree["gs_adapter"] = {{"sh_degree", 2}};
  }
  return {{"model_name", "tiny"}, {"config", tree}};
}

// Depth and sky.
inline json tiny_mono() {
  return {{"model_name", "tiny-mono"}, {"config", {{"net", tiny_backbone(-1)}, {"head", tiny_head("DPT")}}}};
}

inline json tiny_nested() {
  return {{"model_name", "tiny-nested"},
          {"config", {{"anyview", tiny_any_view()["config"]}, {"metric", tiny_mono()["config"]}}}};
}

inline ModelConfig tiny_config(const json& description) {
  return config_from_json(description.dump());
}

inline std::unique_ptr<Network> make_tiny(const json& description, uint64_t seed = 0,
                                          std::vector<synthetic::ValueFactor> factors = {}) {
  SyntheticWeights weights(seed, std::move(factors), 1);
  return make_network(tiny_config(description), weights, {});
}

// Normalised network input; `name` selects the picture.
inline Tensor make_image(const std::string& name, int64_t batch, int64_t views, int64_t height = 42,
                         int64_t width = 56) {
  Tensor image = at::empty({batch, views, 3, height, width}, at::TensorOptions(at::kFloat));
  synthetic::fill_input(image.data_ptr<float>(), name, batch, views, height, width, 0);
  return image;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.defined() && b.defined() && at::equal(a, b);
}

// Greatest |a - b| / (|b| + rms of b); infinite when one is missing, shaped otherwise or not finite.
inline double distance(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined() || a.sizes() != b.sizes()) return INFINITY;
  const Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  const double rms = y.pow(2).mean().sqrt().item<double>();
  const double worst = ((x - y).abs() / (y.abs() + std::max(rms, 1e-30))).max().item<double>();
  return std::isfinite(worst) ? worst : INFINITY;
}

// Rms of a - b over the rms of b.
inline double rms_distance(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return std::sqrt((x - y).pow(2).sum().item<double>() / y.pow(2).sum().item<double>());
}

// A row of cameras that look ahead, world to camera [B, S, 3, 4] and pixels [B, S, 3, 3].
inline std::pair<Tensor, Tensor> make_cameras(int64_t batch, int64_t views, int64_t height = 42,
                                              int64_t width = 56) {
  Tensor e = at::zeros({batch, views, 3, 4}, at::TensorOptions(at::kFloat));
  Tensor k = at::zeros({batch, views, 3, 3}, at::TensorOptions(at::kFloat));
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t s = 0; s < views; ++s) {
      const double turn = 0.1 * double(s) + 0.05 * double(b);
      e[b][s][0][0] = e[b][s][2][2] = std::cos(turn);
      e[b][s][0][2] = std::sin(turn);
      e[b][s][2][0] = -std::sin(turn);
      e[b][s][1][1] = 1;
      e[b][s][0][3] = 0.7 * double(s);
      e[b][s][1][3] = 0.2 * double(s * s);
      e[b][s][2][3] = 0.1 * double(b + s);
      k[b][s][0][0] = (0.9 + 0.3 * double(b) + 0.1 * double(s)) * double(width);
      k[b][s][1][1] = (1.2 + 0.2 * double(b)) * double(height);
      k[b][s][0][2] = double(width) / 2;
      k[b][s][1][2] = double(height) / 2;
      k[b][s][2][2] = 1;
    }
  return {e, k};
}

// A tensor as a file stores it.
struct Stored {
  std::string dtype = "F32";
  std::vector<int64_t> shape;
  std::string bytes;
};
using StoredTensors = std::map<std::string, Stored>;

inline Stored store(const Tensor& value) {
  const Tensor t = value.contiguous();
  const char* dtype = t.scalar_type() == at::kHalf       ? "F16"
                      : t.scalar_type() == at::kBFloat16 ? "BF16"
                      : t.scalar_type() == at::kDouble   ? "F64"
                      : t.scalar_type() == at::kInt      ? "I32"
                                                         : "F32";
  return {dtype, t.sizes().vec(),
          std::string(static_cast<const char*>(t.data_ptr()), size_t(t.numel()) * t.element_size())};
}

// Every parameter of `config`, with the values that SyntheticWeights gives it.
inline StoredTensors synthetic_tensors(const ModelConfig& config, at::ScalarType type = at::kFloat,
                                       uint64_t seed = 0) {
  StoredTensors out;
  SyntheticWeights weights(seed, {}, 1);
  for (const auto& [key, shape] : network_keys(config)) out[key] = store(weights.take(key, shape).to(type));
  return out;
}

// `misalign`: the first tensor starts at an odd byte of the file.
inline std::string file_of(const StoredTensors& tensors, const json& metadata = {}, bool misalign = false) {
  json header = json::object();
  std::string data;
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (const auto& [name, t] : tensors) {
    header[name] = {{"dtype", t.dtype},
                    {"shape", t.shape},
                    {"data_offsets", {data.size(), data.size() + t.bytes.size()}}};
    data += t.bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8 + (misalign ? 1 : 0), ' ');
  return with_header(text, data);
}

// model.safetensors and config.json in a folder; returns the folder.
inline std::string write_model(const TempDir& temp, const std::string& folder, const json& description,
                               const StoredTensors& tensors, const json& metadata = {}) {
  temp.write(folder + "/model.safetensors", file_of(tensors, metadata));
  temp.write(folder + "/config.json", description.dump());
  return temp / folder;
}

inline std::string write_model(const TempDir& temp, const std::string& folder, const json& description) {
  return write_model(temp, folder, description, synthetic_tensors(tiny_config(description)));
}

// What an expression throws as EngineError, or a code of DA3_OK.
struct Refusal {
  Da3ErrorCode code = DA3_OK;
  std::string message, detail;
  bool says(const std::string& text) const { return message.find(text) != std::string::npos; }
};

template <typename Body>
Refusal refusal_of(Body&& body) {
  try {
    body();
  } catch (const EngineError& e) {
    return {e.code(), e.what(), e.detail()};
  }
  return {};
}

}  // namespace da3::test
