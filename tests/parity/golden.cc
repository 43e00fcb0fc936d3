// SPDX-License-Identifier: MIT
#include "golden.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

namespace da3::parity {
namespace {

at::Tensor to_tensor(const TensorView& view) {
  void* data = const_cast<void*>(view.data);
  auto read = [&](at::ScalarType type) {
    return at::from_blob(data, view.shape, at::TensorOptions(type)).clone();
  };
  switch (view.dtype) {
    case DType::f32:
      return read(at::kFloat);
    case DType::f64:
      return read(at::kDouble).to(at::kFloat);
    case DType::i32:
      return read(at::kInt).to(at::kLong);
    case DType::i64:
      return read(at::kLong);
    case DType::u8:
      return read(at::kByte);
    default:
      throw std::runtime_error(std::string("a golden tensor has the type ") + name_of(view.dtype));
  }
}

at::Tensor matrix_of(const geometry::Matrix3& m) {
  return at::tensor(at::ArrayRef<double>(m.data(), 9), at::TensorOptions(at::kDouble)).to(at::kFloat);
}

}  // namespace

std::map<std::string, at::Tensor> ransac_results(const std::vector<geometry::RayPose>& poses) {
  std::map<std::string, at::Tensor> results;
  auto numbered = [](const std::string& name, size_t call) {
    return call == 0 ? name : name + "#" + std::to_string(call + 1);
  };
  for (size_t v = 0; v < poses.size(); ++v) {
    results[numbered("ransac.ql_input", v)] = matrix_of(poses[v].ql_input);
    if (v % 2 != 0) continue;
    std::vector<at::Tensor> scores, homographies;
    for (size_t w = v; w < std::min(v + 2, poses.size()); ++w) {
      scores.push_back(at::tensor(at::ArrayRef<double>(poses[w].scores), at::TensorOptions(at::kDouble)));
      homographies.push_back(matrix_of(poses[w].homography));
    }
    results[numbered("ransac.scores", v / 2)] = at::stack(scores);
    results[numbered("ransac.homography", v / 2)] = at::stack(homographies);
  }
  return results;
}

const json& list_of(const json& manifest, const char* key) {
  static const json none = json::array();
  return manifest.contains(key) ? manifest.at(key) : none;
}

GoldenFile::GoldenFile(const std::string& path, const json& tensors)
    : file_(Checkpoint::open(path)), tensors_(tensors) {}

bool GoldenFile::has(const std::string& name) const {
  return tensors_.contains(name) && file_->tensors().count(name) != 0;
}

at::Tensor GoldenFile::raw(const std::string& name) const {
  const auto found = file_->tensors().find(name);
  if (found == file_->tensors().end())
    throw std::runtime_error("'" + file_->source() + "' has no tensor '" + name + "'");
  return to_tensor(found->second);
}

Golden GoldenFile::get(const std::string& name) const {
  const json& d = tensors_.at(name);
  Golden g;
  g.name = name;
  g.shape = d.at("shape").get<std::vector<int64_t>>();
  g.stride = d.value("stride", int64_t(1));
  g.rms = d.value("rms", 0.0);
  g.tolerance = d.value("tol", 1e-5);
  g.values = raw(name).flatten();
  int64_t count = 1;
  for (int64_t s : g.shape) count *= s;
  if ((count + g.stride - 1) / g.stride != g.values.numel())
    throw std::runtime_error("'" + name + "' has " + std::to_string(g.values.numel()) + " values, expected " +
                             std::to_string((count + g.stride - 1) / g.stride));
  return g;
}

void Report::row(const std::string& case_name, const std::string& what, const std::string& figures, bool ok) {
  (ok ? passed_ : failed_)++;
  if (!ok || !quiet_)
    std::printf("%-34s %-28s %s %s\n", case_name.c_str(), what.c_str(), figures.c_str(),
                ok ? "pass" : "FAIL");
  std::fflush(stdout);
}

void Report::check(const std::string& case_name, const std::string& what, bool ok, const std::string& note) {
  char text[256];
  std::snprintf(text, sizeof text, "%-46s", note.c_str());
  row(case_name, what, text, ok);
}

void Report::skip(const std::string& case_name, const std::string& why) {
  ++skipped_;
  std::printf("%-34s %-28s %-46s skipped\n", case_name.c_str(), "", why.c_str());
}

void Report::compare(const std::string& case_name, const Golden& golden, const at::Tensor& mine,
                     const Rule& rule) {
  int64_t count = 1;
  for (int64_t s : golden.shape) count *= s;
  if (!mine.defined() || mine.numel() != count)
    return check(case_name, golden.name, false,
                 !mine.defined()
                     ? "missing here"
                     : std::to_string(mine.numel()) + " values, expected " + std::to_string(count));
  const at::Tensor flat = mine.detach().to(at::kCPU, at::kFloat).contiguous().flatten();
  const float* m = flat.data_ptr<float>();
  const at::Tensor stored = golden.values.to(at::kFloat).contiguous();
  const float* g = stored.data_ptr<float>();
  double max_abs = 0, max_rel = 0, square = 0;
  int64_t outliers = 0;
  const int64_t n = stored.numel();
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = i * golden.stride;
    double error = std::abs(double(m[at]) - g[i]);
    if (rule.quaternion_sign && std::abs(m[at | 3]) < 1e-4)
      error = std::min(error, std::abs(double(m[at]) + g[i]));
    if (!std::isfinite(error)) error = INFINITY;
    const double relative = error == 0 ? 0 : error / (std::abs(double(g[i])) + golden.rms);
    max_abs = std::max(max_abs, error);
    max_rel = std::max(max_rel, relative);
    square += error * error;
    if (!(relative <= rule.tolerance)) ++outliers;
  }
  char text[256];
  bool ok;
  if (rule.rms_tolerance > 0) {
    const double rms_error = std::sqrt(square / double(n)) / std::max(golden.rms, 1e-30);
    ok = rms_error <= rule.rms_tolerance;
    std::snprintf(text, sizeof text, "max abs %9.2e  rms rel %9.2e  tol %8.1e", max_abs, rms_error,
                  rule.rms_tolerance);
  } else {
    ok = outliers <= rule.allowed_outliers;
    std::snprintf(text, sizeof text, "max abs %9.2e  max rel %9.2e  tol %8.1e", max_abs, max_rel,
                  rule.tolerance);
  }
  row(case_name, golden.name, text, ok);
}

bool matches(const Settings& settings, const std::string& case_name) {
  return fnmatch(settings.glob.c_str(), case_name.c_str(), 0) == 0;
}

}  // namespace da3::parity
