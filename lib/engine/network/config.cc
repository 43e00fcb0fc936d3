// SPDX-License-Identifier: MIT
#include "engine/network/config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/api/engine_error.h"

namespace da3 {
namespace {

using nlohmann::json;

struct BackbonePreset {
  const char* name;
  int64_t width;
  int depth, heads;
  int64_t ffn_hidden;
  bool swiglu;
};

constexpr BackbonePreset kBackbones[] = {
    {"vits", 384, 12, 6, 1536, false},
    {"vitb", 768, 12, 12, 3072, false},
    {"vitl", 1024, 24, 16, 4096, false},
    {"vitg", 1536, 40, 24, 4096, true},
};

const BackbonePreset* backbone_preset(const std::string& name) {
  for (const auto& preset : kBackbones)
    if (name == preset.name) return &preset;
  return nullptr;
}

BackboneConfig make_backbone(const std::string& preset_name, std::array<int, 4> out_layers, int alt_start) {
  const BackbonePreset& p = *backbone_preset(preset_name);
  BackboneConfig c;
  c.width = p.width;
  c.depth = p.depth;
  c.heads = p.heads;
  c.ffn_hidden = p.ffn_hidden;
  c.swiglu = p.swiglu;
  c.out_layers = out_layers;
  c.alt_start = alt_start;
  c.cat_token = alt_start >= 0;
  return c;
}

ModelConfig make_any_view(const std::string& name, const std::string& preset, std::array<int, 4> out_layers,
                          int alt_start, int64_t features, std::array<int64_t, 4> out_channels) {
  ModelConfig c;
  c.name = name;
  c.backbone = make_backbone(preset, out_layers, alt_start);
  c.head = {true, features, out_channels};
  c.cameras = true;
  return c;
}

ModelConfig make_mono(const std::string& name, bool focal_normalised) {
  ModelConfig c;
  c.name = name;
  c.backbone = make_backbone("vitl", {4, 11, 17, 23}, -1);
  c.head = {false, 256, {256, 512, 1024, 1024}};
  c.focal_normalised = focal_normalised;
  return c;
}

ModelConfig make_giant() {
  ModelConfig c = make_any_view("da3-giant", "vitg", {19, 27, 33, 39}, 13, 256, {256, 512, 1024, 1024});
  c.gaussians = GaussianConfig{{true, 256, {256, 512, 1024, 1024}}};
  return c;
}

[[noreturn]] void bad_config(const std::string& what) {
  std::string names;
  for (const auto& n : builtin_config_names()) names += (names.empty() ? "" : ", ") + n;
  throw EngineError(DA3_ERROR_WRONG_TYPE,
                    "The model's config.json " + what +
                        ". Use the config.json that was published with the weights; built-in "
                        "configurations are: " +
                        names + ".");
}

int64_t number(const json& node, const char* key) {
  if (!node.contains(key) || !node[key].is_number_integer())
    bad_config(std::string("has no whole number for '") + key + "'");
  const int64_t value = node[key].get<int64_t>();
  if (value < -1 || value > (1 << 20))
    bad_config(std::string("has the impossible value ") + std::to_string(value) + " for '" + key + "'");
  return value;
}

int64_t positive(const json& node, const char* key) {
  const int64_t value = number(node, key);
  if (value < 1)
    bad_config(std::string("has the impossible value ") + std::to_string(value) + " for '" + key + "'");
  return value;
}

template <typename T>
std::array<T, 4> four(const json& node, const char* key) {
  if (!node.contains(key) || !node[key].is_array() || node[key].size() != 4)
    bad_config(std::string("needs four numbers for '") + key + "'");
  std::array<T, 4> out{};
  for (size_t i = 0; i < 4; ++i) {
    if (!node[key][i].is_number_integer())
      bad_config(std::string("needs four whole numbers for '") + key + "'");
    out[i] = node[key][i].get<T>();
    if (out[i] < 0) bad_config(std::string("has a negative number in '") + key + "'");
  }
  return out;
}

BackboneConfig parse_backbone(const json& net) {
  BackboneConfig c;
  if (net.contains("embed_dim")) {
    c.width = positive(net, "embed_dim");
    c.depth = int(positive(net, "depth"));
    c.heads = int(positive(net, "num_heads"));
    const std::string ffn = net.value("ffn_layer", "mlp");
    if (ffn != "mlp" && ffn != "swiglu") bad_config("has the unknown ffn_layer '" + ffn + "' (mlp, swiglu)");
    c.swiglu = ffn == "swiglu";
    c.ffn_hidden = net.contains("ffn_hidden") ? positive(net, "ffn_hidden") : 4 * c.width;
  } else {
    const std::string name = net.value("name", "");
    const BackbonePreset* preset = backbone_preset(name);
    if (!preset) bad_config("names the unknown backbone '" + name + "' (vits, vitb, vitl, vitg)");
    c = make_backbone(name, {}, -1);
  }
  c.out_layers = four<int>(net, "out_layers");
  c.alt_start = int(net.contains("alt_start") ? number(net, "alt_start") : -1);
  for (const char* same : {"qknorm_start", "rope_start"})
    if (net.contains(same) && number(net, same) != c.alt_start)
      bad_config(std::string("has different values for 'alt_start' and '") + same + "'");
  c.cat_token = net.value("cat_token", c.alt_start >= 0);
  if (net.contains("pos_grid")) c.pos_grid = int(positive(net, "pos_grid"));
  if (c.width % c.heads != 0) bad_config("has an embed_dim that num_heads does not divide");
  if (c.alt_start >= 0 && (c.width / c.heads) % 4 != 0)
    bad_config("has a head width that is no multiple of 4");
  if (c.alt_start == 0 || c.alt_start >= c.depth) bad_config("has an alt_start outside its blocks");
  for (size_t i = 0; i < 4; ++i)
    if (c.out_layers[i] >= c.depth || (i > 0 && c.out_layers[i] <= c.out_layers[i - 1]))
      bad_config("has out_layers that do not rise or lie beyond the last block");
  return c;
}

HeadConfig parse_head(const json& head, bool dual) {
  HeadConfig c;
  c.dual = dual;
  c.features = positive(head, "features");
  c.out_channels = four<int64_t>(head, "out_channels");
  if (c.features % 8 != 0) bad_config("has head features that are no multiple of 8");
  for (int64_t o : c.out_channels)
    if (o < 4 || o % 4 != 0) bad_config("has out_channels that are no multiples of 4");
  return c;
}

ModelConfig parse_single(const json& tree, const std::string& name) {
  ModelConfig c;
  c.name = name;
  c.backbone = parse_backbone(tree.at("net"));
  c.cameras = tree.contains("cam_dec") && !tree["cam_dec"].is_null();
  std::string head_class;
  if (tree["head"].contains("__object__")) head_class = tree["head"]["__object__"].value("name", "");
  if (!head_class.empty() && head_class != "DualDPT" && head_class != "DPT")
    bad_config("names the unknown head '" + head_class + "' (DualDPT, DPT)");
  const bool dual = head_class.empty() ? c.cameras : head_class == "DualDPT";
  if (c.cameras && !dual) bad_config("has cameras (cam_dec) beside a DPT head, which only goes with DualDPT");
  if (c.cameras && c.backbone.width % 16 != 0)
    bad_config("has cameras and an embed_dim that is no multiple of their 16 attention heads");
  c.head = parse_head(tree["head"], dual);
  c.focal_normalised = name.find("metric") != std::string::npos;
  if (tree.contains("gs_head") && !tree["gs_head"].is_null()) {
    if (!c.cameras) bad_config("has Gaussians (gs_head) but no cameras (cam_dec), which they need");
    GaussianConfig g;
    g.head = parse_head(tree["gs_head"], true);
    if (tree.contains("gs_adapter")) {
      const json& a = tree["gs_adapter"];
      g.sh_degree = a.value("sh_degree", 2);
      g.scale_min = a.value("gaussian_scale_min", 1e-5);
      g.scale_max = a.value("gaussian_scale_max", 30.0);
      if (g.sh_degree != 2) bad_config("has a Gaussian adapter of SH degree other than 2");
    }
    c.gaussians = g;
  }
  return c;
}

bool complete(const json& tree) {
  return tree.is_object() && tree.contains("net") && tree.contains("head");
}

}  // namespace

const std::vector<std::string>& builtin_config_names() {
  static const std::vector<std::string> names = {"da3-small",
                                                 "da3-base",
                                                 "da3-large",
                                                 "da3-giant",
                                                 "da3mono-large",
                                                 "da3metric-large",
                                                 "da3nested-giant-large"};
  return names;
}

ModelConfig builtin_config(const std::string& name) {
  if (name == "da3-small") return make_any_view(name, "vits", {5, 7, 9, 11}, 4, 64, {48, 96, 192, 384});
  if (name == "da3-base") return make_any_view(name, "vitb", {5, 7, 9, 11}, 4, 128, {96, 192, 384, 768});
  if (name == "da3-large")
    return make_any_view(name, "vitl", {11, 15, 19, 23}, 8, 256, {256, 512, 1024, 1024});
  if (name == "da3-giant") return make_giant();
  if (name == "da3mono-large") return make_mono(name, false);
  if (name == "da3metric-large") return make_mono(name, true);
  if (name == "da3nested-giant-large") {
    ModelConfig c = make_giant();
    c.name = name;
    c.metric = std::make_shared<ModelConfig>(make_mono("da3metric-large", true));
    return c;
  }
  std::string names;
  for (const auto& n : builtin_config_names()) names += (names.empty() ? "" : ", ") + n;
  throw EngineError(DA3_ERROR_SETTINGS,
                    "There is no configuration '" + name + "'. Known are: " + names + ".");
}

namespace {

ModelConfig described(const json& root) {
  const std::string name = root.value("model_name", "");
  const json tree = root.value("config", json::object());
  const auto& names = builtin_config_names();
  if (complete(tree)) return parse_single(tree, name.empty() ? "custom" : name);
  if (tree.contains("anyview") && tree.contains("metric") && complete(tree["anyview"]) &&
      complete(tree["metric"])) {
    ModelConfig c = parse_single(tree["anyview"], name.empty() ? "custom-nested" : name);
    ModelConfig metric = parse_single(tree["metric"], "da3metric-large");
    if (!c.cameras || metric.head.dual)
      bad_config("must have cameras under 'anyview' and a DPT head under 'metric'");
    c.focal_normalised = false;
    c.metric = std::make_shared<ModelConfig>(std::move(metric));
    return c;
  }
  if (std::find(names.begin(), names.end(), name) != names.end()) return builtin_config(name);
  if (name.empty()) bad_config("has neither a 'model_name' nor a complete 'config'");
  bad_config("names the unknown model '" + name + "' and does not describe it under 'config'");
}

}  // namespace

ModelConfig config_from_json(const std::string& text) {
  json root;
  try {
    root = json::parse(text);
  } catch (const json::exception& e) {
    bad_config(std::string("is not valid JSON (") + e.what() + ")");
  }
  if (!root.is_object()) bad_config("is not a JSON object");
  try {
    ModelConfig c = described(root);
    if (root.contains("process_res")) {
      c.process_res = int(positive(root, "process_res"));
      if (c.process_res % DA3_PATCH_SIZE != 0 || c.process_res > 8190)
        bad_config("has a process_res that is no multiple of 14 up to 8190");
    }
    return c;
  } catch (const json::exception& e) {
    bad_config(std::string("has a value of the wrong type (") + e.what() + ")");
  }
}

ModelConfig detect_config(const Checkpoint& checkpoint) {
  const auto names = published_keys(checkpoint.tensors());
  auto find = [&](const std::string& key) -> const TensorView* {
    const auto it = names.find(key);
    return it == names.end() ? nullptr : &checkpoint.tensors().at(it->second);
  };
  const bool nested = find("model.da3.backbone.pretrained.cls_token") != nullptr;
  const std::string prefix = nested ? "model.da3." : "model.";
  const TensorView* cls = find(prefix + "backbone.pretrained.cls_token");
  if (!cls || cls->shape.size() != 3)
    throw EngineError(DA3_ERROR_WRONG_TYPE,
                      "'" + checkpoint.source() +
                          "' is a safetensors file but holds no Depth Anything 3 network (no tensor '" +
                          prefix +
                          "backbone.pretrained.cls_token'). Give the model.safetensors of a DA3 repository.");
  if (nested) return builtin_config("da3nested-giant-large");
  const bool cameras = find(prefix + "cam_dec.fc_t.weight") != nullptr;
  switch (cls->shape[2]) {
    case 384:
      return builtin_config("da3-small");
    case 768:
      return builtin_config("da3-base");
    case 1024:
      return builtin_config(cameras ? "da3-large" : "da3mono-large");
    case 1536:
      return builtin_config("da3-giant");
    default:
      throw EngineError(DA3_ERROR_WRONG_TYPE,
                        "'" + checkpoint.source() + "' has a backbone of width " +
                            std::to_string(cls->shape[2]) +
                            ", which no built-in configuration has. Put its config.json beside "
                            "it.");
  }
}

ModelConfig config_of(const Checkpoint& checkpoint) {
  if (checkpoint.config_json()) return config_from_json(*checkpoint.config_json());
  return detect_config(checkpoint);
}

}  // namespace da3
