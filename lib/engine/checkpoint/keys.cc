// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "engine/checkpoint/checkpoint.h"

namespace da3 {
namespace {

using Rename = std::pair<std::string_view, std::string_view>;

// Upstream's renames in upstream's order (utils/model_loading.py). No official key contains a left side.
constexpr Rename kRenames[] = {
    {"module.", "model."},
    {".net.", ".backbone."},
    {".camera_token_extra", ".camera_token"},
    {"all_heads.camera_cond_head", "cam_enc"},
    {"all_heads.camera_head", "cam_dec"},
    {".more_mlps.", ".backbone."},
    {".fc_rot.", ".fc_qvec."},
    {"all_heads.head", "head"},
    {"output_conv2_additional.sky_mask", "sky_output_conv2"},
    {"_ray.", "_aux."},
    {"gaussian_param_head.", "gs_head."},
};

// First parts of keys that lack the "model." in front; the last three are the training checkpoints'.
constexpr std::string_view kUnprefixed[] = {
    "backbone.", "head.",       "cam_enc.", "cam_dec.",   "gs_head.",
    "da3.",      "da3_metric.", "net.",     "all_heads.", "gaussian_param_head."};

constexpr std::string_view kPrefix = "model.";

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// The parts of ...head.scratch.output_conv2_aux.{level}.2.{weight,bias}.
struct SharedNorm {
  std::string_view before;  // up to and with "output_conv2_aux."
  std::string_view after;   // ".2.weight" or ".2.bias"
};

bool split_shared_norm(std::string_view key, SharedNorm* parts) {
  constexpr std::string_view kModule = "head.scratch.output_conv2_aux.";
  const size_t at = key.find(kModule);
  if (at == std::string_view::npos || (at > 0 && key[at - 1] != '.')) return false;
  const size_t level = at + kModule.size();
  if (level >= key.size() || key[level] < '0' || key[level] > '3') return false;
  parts->before = key.substr(0, level);
  parts->after = key.substr(level + 1);
  return parts->after == ".2.weight" || parts->after == ".2.bias";
}

bool is_extra_camera_token(const std::string& key) {
  return key.ends_with(".camera_token_extra");
}

}  // namespace

std::string published_key(const std::string& key) {
  std::string name = key;
  for (const std::string_view start : kUnprefixed) {
    if (!name.starts_with(start)) continue;
    name.insert(0, kPrefix);
    break;
  }
  for (const auto& [from, to] : kRenames) replace_all(name, from, to);
  // A wrapper around the whole model (module.model.) leaves the prefix twice.
  while (name.starts_with("model.model.")) name.erase(0, kPrefix.size());
  return name;
}

std::map<std::string, std::string> published_keys(const std::map<std::string, TensorView>& tensors) {
  std::map<std::string, std::string> stored_of;
  for (const auto& entry : tensors) {
    const std::string& stored = entry.first;
    const auto [it, added] = stored_of.emplace(published_key(stored), stored);
    if (added) continue;
    // Training checkpoints hold an unused camera_token beside the camera_token_extra that took its place.
    const bool now = is_extra_camera_token(stored), before = is_extra_camera_token(it->second);
    if (now == before)
      throw EngineError(DA3_ERROR_WRONG_TYPE, "The checkpoint holds the tensor " + it->first +
                                                  " twice, under the names " + it->second + " and " + stored +
                                                  "; save it again with one of them");
    if (now) it->second = stored;
  }
  return stored_of;
}

std::vector<std::string> shared_norm_candidates(const std::string& key,
                                                const std::map<std::string, std::string>& metadata) {
  SharedNorm parts;
  if (!split_shared_norm(key, &parts)) return {};
  std::vector<std::string> names{key};
  const auto add = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  // An alias to anything but the same parameter of another level is a mistake, and would load silently.
  const auto add_alias = [&](const std::string& name) {
    const std::string published = published_key(name);
    SharedNorm other;
    if (!split_shared_norm(published, &other) || other.after != parts.after) return;
    add(name);
    add(published);
  };
  if (const auto it = metadata.find(key); it != metadata.end()) add_alias(it->second);
  const std::string published = published_key(key);
  for (const auto& [alias, stored] : metadata)
    if (published_key(alias) == published) add_alias(stored);
  for (char level = '0'; level <= '3'; ++level)
    add(std::string(parts.before) + level + std::string(parts.after));
  return names;
}

}  // namespace da3
