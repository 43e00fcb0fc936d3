// SPDX-License-Identifier: MIT
//
// The parts beside the network: weight formula, checkpoint keys, ray pose solver, pose normalisation.
#include <cmath>
#include <cstring>
#include <fstream>

#include "engine/checkpoint/synthetic.h"
#include "engine/network/network.h"
#include "geometry/ray_pose.h"
#include "geometry/rigid.h"
#include "golden.h"

namespace da3::parity {
namespace {

std::string bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  char text[16];
  std::snprintf(text, sizeof text, "%08x", bits);
  return text;
}

void check_weight(const json& w, uint64_t seed, Report* report) {
  const auto shape = w.at("shape").get<std::vector<int64_t>>();
  int64_t count = 1;
  for (int64_t s : shape) count *= s;
  std::vector<float> values(static_cast<size_t>(count));
  synthetic::fill_weight(values.data(), w.at("key"), shape, seed);
  bool ok = true;
  size_t i = 0;
  for (const auto& bits : w.at("first_bits")) ok &= bits_of(values[i++]) == bits.get<std::string>();
  ok &= bits_of(values.back()) == w.at("last_bits").get<std::string>();
  double sum = 0;
  for (float v : values) sum += v;
  const double expected = w.at("sum");
  ok &= std::abs(sum - expected) <= 1e-6 * (std::abs(expected) + 1);
  report->check("weight_check", w.at("key").get<std::string>(), ok, "bits of first and last values, sum");
}

geometry::Matrix34 pose_at(const float* p) {
  geometry::Matrix34 m;
  for (int i = 0; i < 12; ++i) m(i / 4, i % 4) = p[i];
  return m;
}

}  // namespace

void run_weight_checks(const json& manifest, const Settings& settings, Report* report) {
  if (matches(settings, "weight_check"))
    for (const auto& w : list_of(manifest, "weight_check"))
      check_weight(w, manifest.value("weight_seed", uint64_t(0)), report);
  const json models = manifest.value("models", json::object());
  for (const auto& [model, expected] : models.items()) {
    const std::string name = "keys_" + model;
    if (!matches(settings, name)) continue;
    const auto keys = network_keys(builtin_config(model));
    int64_t parameters = 0;
    for (const auto& k : keys) {
      int64_t n = 1;
      for (int64_t s : k.shape) n *= s;
      parameters += n;
    }
    const bool ok = int64_t(keys.size()) == expected.at("tensors").get<int64_t>() &&
                    parameters == expected.at("parameters").get<int64_t>();
    report->check(name, "tensors and parameters", ok,
                  std::to_string(keys.size()) + " tensors, " + std::to_string(parameters) + " parameters");
  }
}

void run_ray_cases(const json& manifest, const Settings& settings, Report* report) {
  for (const auto& c : list_of(manifest, "ray_cases")) {
    const std::string name = c.at("name");
    if (!matches(settings, name)) continue;
    try {
      const GoldenFile file(settings.directory + "/" + c.at("file").get<std::string>(), c.at("tensors"));
      const at::Tensor ray = file.raw("input.ray").contiguous(),
                       confidence = file.raw("input.ray_conf").contiguous();
      const at::Tensor table = file.raw("ransac.sample_index").to(at::kInt).contiguous();
      geometry::RaySampleTable samples(static_cast<size_t>(table.size(0)));
      for (int64_t i = 0; i < table.size(0); ++i)
        for (int64_t j = 0; j < 8; ++j) samples[size_t(i)][size_t(j)] = table.data_ptr<int>()[i * 8 + j];
      const int64_t views = c.at("S"), h = c.at("ray_h"), w = c.at("ray_w");
      std::vector<geometry::RayPose> poses;
      std::vector<at::Tensor> extrinsics, intrinsics;
      auto matrix = [](const double* data, int64_t rows, int64_t columns) {
        return at::tensor(at::ArrayRef<double>(data, size_t(rows * columns)), at::TensorOptions(at::kDouble));
      };
      for (int64_t v = 0; v < views; ++v) {
        geometry::RayView view;
        view.ray = ray.data_ptr<float>() + v * h * w * 6;
        view.confidence = confidence.data_ptr<float>() + v * h * w;
        view.height = int(h);
        view.width = int(w);
        const auto pose = geometry::solve_ray_pose(view, samples);
        const auto w2c = geometry::invert(pose.camera_to_world);
        const auto k = geometry::intrinsics_from_ray_pose(pose, c.at("W"), c.at("H"));
        poses.push_back(pose);
        extrinsics.push_back(matrix(w2c.data(), 3, 4));
        intrinsics.push_back(matrix(k.data(), 3, 3));
      }
      auto rows = ransac_results(poses);
      rows["extrinsics"] = at::stack(extrinsics);
      rows["intrinsics"] = at::stack(intrinsics);
      for (const auto& [tensor, mine] : rows) {
        if (!file.has(tensor)) continue;
        const Golden golden = file.get(tensor);
        report->compare(name, golden, mine, {golden.tolerance});
      }
    } catch (const std::exception& e) {
      report->check(name, "run", false, e.what());
    }
  }
}

void run_normalisation_cases(const json& manifest, const Settings& settings, Report* report) {
  for (const auto& c : list_of(manifest, "normalize_extrinsics")) {
    const int64_t views = c.at("S");
    const std::string name = "normalize_extrinsics_s" + std::to_string(views);
    if (!matches(settings, name)) continue;
    try {
      const GoldenFile file(settings.directory + "/normalize_extrinsics.safetensors", json::object());
      const at::Tensor in = file.raw(c.at("in")).contiguous();
      std::vector<geometry::Matrix34> poses;
      for (int64_t v = 0; v < views; ++v) poses.push_back(pose_at(in.data_ptr<float>() + v * 16));
      at::Tensor mine = at::zeros({views, 4, 4}, at::TensorOptions(at::kFloat));
      const auto normalised = geometry::normalise_extrinsics(poses);
      for (int64_t v = 0; v < views; ++v) {
        for (int i = 0; i < 12; ++i)
          mine.data_ptr<float>()[v * 16 + i] = float(normalised[size_t(v)].data()[i]);
        mine.data_ptr<float>()[v * 16 + 15] = 1;
      }
      Golden golden;
      golden.name = c.at("out");
      golden.values = file.raw(golden.name).flatten();
      golden.shape = {golden.values.numel()};
      golden.rms = golden.values.pow(2).mean().sqrt().item<double>();
      report->compare(name, golden, mine, {1e-5});
    } catch (const std::exception& e) {
      report->check(name, "run", false, e.what());
    }
  }
}

}  // namespace da3::parity
