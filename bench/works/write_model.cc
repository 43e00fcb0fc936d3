// SPDX-License-Identifier: MIT
#include "works/write_model.h"

#include <deque>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <vector>

#include "core/report.h"
#include "engine/checkpoint/safetensors_writer.h"
#include "engine/checkpoint/synthetic.h"
#include "engine/network/network.h"

namespace da3::bench {
namespace {

constexpr char kSharedNorm[] = "output_conv2_aux.";

}  // namespace

void write_model(const std::string& name, const std::string& folder, uint64_t seed) {
  const ModelConfig config = builtin_config(name);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw std::runtime_error("cannot make the folder '" + folder + "': " + error.message());
  std::deque<std::vector<float>> values;  // addresses stay
  std::map<std::string, TensorView> tensors;
  for (const auto& [key, shape] : network_keys(config)) {
    // The ray branch's norm is one module with four names. It is stored once, under the first, as published
    // files have it; its values are those of the last, which is the one that the network asks for.
    std::string name_in_file = key;
    if (!shared_norm_candidates(key, {}).empty()) {
      const size_t level = key.find(kSharedNorm) + sizeof kSharedNorm - 1;
      if (key[level] != '3') continue;
      name_in_file[level] = '0';
    }
    size_t count = 1;
    for (const int64_t side : shape) count *= size_t(side);
    auto& value = values.emplace_back(count);
    synthetic::fill_weight(value.data(), key, shape, seed);
    tensors[name_in_file] = {DType::f32, shape, value.data(), count * sizeof(float)};
  }
  write_safetensors(folder + "/model.safetensors", tensors, {{"format", "pt"}});
  write_file(folder + "/config.json", nlohmann::ordered_json{{"model_name", name}}.dump(1) + "\n");
}

}  // namespace da3::bench
