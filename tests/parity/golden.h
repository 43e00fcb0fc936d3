// SPDX-License-Identifier: MIT
//
// A folder of recorded results (manifest.json and safetensors files), and comparison with it.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "geometry/ray_pose.h"

namespace da3::parity {

using nlohmann::json;

// One stored tensor, whole or every `stride`-th element, with what the manifest says of it.
struct Golden {
  std::string name;
  std::vector<int64_t> shape;
  int64_t stride = 1;
  double rms = 0;
  double tolerance = 1e-5;
  at::Tensor values;  // 1-D: float32, or int64 for tables of indices
};

class GoldenFile {
 public:
  // `tensors`: name -> description, from the manifest.
  GoldenFile(const std::string& path, const json& tensors);
  bool has(const std::string& name) const;
  // Throws std::runtime_error when the manifest and the file disagree.
  Golden get(const std::string& name) const;
  // A tensor of the file that the manifest does not describe.
  at::Tensor raw(const std::string& name) const;
  const json& description() const { return tensors_; }

 private:
  std::shared_ptr<Checkpoint> file_;
  json tensors_;
};

struct Settings {
  std::string directory;
  std::string glob = "*";
  std::string device = "cpu";
  at::ScalarType compute = at::kFloat;
  bool quiet = false;  // print failing rows only
  bool half() const { return compute != at::kFloat; }
};

// How a row is judged.
struct Rule {
  double tolerance = 1e-5;       // of |golden| + rms
  double rms_tolerance = 0;      // > 0: judge the rms of the difference over the rms instead
  int64_t allowed_outliers = 0;  // elements that may exceed the tolerance
  bool quaternion_sign = false;  // each group of four may be negated where its last component is near 0
};

// Prints one row per comparison and counts.
class Report {
 public:
  explicit Report(bool quiet) : quiet_(quiet) {}
  void compare(const std::string& case_name, const Golden& golden, const at::Tensor& mine, const Rule& rule);
  void check(const std::string& case_name, const std::string& what, bool ok, const std::string& note);
  void skip(const std::string& case_name, const std::string& why);
  int passed() const { return passed_; }
  int failed() const { return failed_; }
  int skipped() const { return skipped_; }

 private:
  void row(const std::string& case_name, const std::string& what, const std::string& figures, bool ok);
  bool quiet_;
  int passed_ = 0, failed_ = 0, skipped_ = 0;
};

// The list under `key`, empty if there is none; refers into the manifest.
const json& list_of(const json& manifest, const char* key);

// What the solver found, under the names of the recorded tensors: scores and hypotheses per pair of views
// (upstream solves two at a time), the refit per view; "#2" and so on from the second on.
std::map<std::string, at::Tensor> ransac_results(const std::vector<geometry::RayPose>& poses);

bool matches(const Settings& settings, const std::string& case_name);

// The parts of a golden folder; each runs the cases whose name matches.
void run_network_cases(const json& manifest, const Settings& settings, Report* report);
void run_weight_checks(const json& manifest, const Settings& settings, Report* report);
void run_ray_cases(const json& manifest, const Settings& settings, Report* report);
void run_normalisation_cases(const json& manifest, const Settings& settings, Report* report);
void run_preprocess_cases(const json& manifest, const Settings& settings, Report* report);

}  // namespace da3::parity
