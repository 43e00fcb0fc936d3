// SPDX-License-Identifier: MIT
//
// Against recorded outputs of the upstream network: $DA3_GOLDENS, or shared/goldens beside the checkout.
// Every case says that it was skipped where they are absent.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "geometry/pose_align.h"
#include "geometry/ray_pose.h"
#include "geometry/rigid.h"

namespace da3::geometry {
namespace {

using nlohmann::json;

std::filesystem::path golden_folder() {
  if (const char* folder = std::getenv("DA3_GOLDENS")) return folder;
  const char* root = std::getenv("DA3_SOURCE_ROOT");
  return std::filesystem::path(root != nullptr ? root : ".") / ".." / "shared" / "goldens";
}

bool have_goldens() {
  const bool found = std::filesystem::exists(golden_folder() / "manifest.json");
  if (!found) MESSAGE("skipped: no golden tensors in ", golden_folder().string());
  return found;
}

const json& manifest() {
  static const json parsed = [] {
    std::ifstream file(golden_folder() / "manifest.json");
    return json::parse(file);
  }();
  return parsed;
}

struct Tensor {
  std::vector<int64_t> shape;
  std::vector<float> f32;
  std::vector<int32_t> i32;

  double rms() const {
    double sum = 0;
    for (const float v : f32) sum += double(v) * v;
    return std::sqrt(sum / static_cast<double>(f32.size()));
  }
};

using Tensors = std::map<std::string, Tensor>;

Tensors load(const std::string& name) {
  std::ifstream file(golden_folder() / name, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + name);
  uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), sizeof length);
  std::string header(length, '\0');
  file.read(header.data(), static_cast<std::streamsize>(length));
  Tensors tensors;
  const json entries = json::parse(header);
  for (const auto& [key, entry] : entries.items()) {
    if (key == "__metadata__") continue;
    Tensor& tensor = tensors[key];
    tensor.shape = entry["shape"].get<std::vector<int64_t>>();
    const uint64_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    file.seekg(static_cast<std::streamoff>(8 + length + begin));
    const auto bytes = static_cast<std::streamsize>(end - begin);
    const std::string type = entry["dtype"];
    if (type == "F32") {
      tensor.f32.resize((end - begin) / 4);
      file.read(reinterpret_cast<char*>(tensor.f32.data()), bytes);
    } else if (type == "I32") {
      tensor.i32.resize((end - begin) / 4);
      file.read(reinterpret_cast<char*>(tensor.i32.data()), bytes);
    }
  }
  if (!file) throw std::runtime_error(name + " is truncated");
  return tensors;
}

// |mine - golden| <= tolerance * (|golden| + rms) for `count` values from `offset` on.
template <typename Values>
void check_near(const Values& mine, const Tensor& golden, size_t offset, double tolerance) {
  REQUIRE(golden.f32.size() >= offset + mine.size());
  const double rms = golden.rms();
  double worst = 0;
  for (size_t i = 0; i < static_cast<size_t>(mine.size()); ++i) {
    const double expected = golden.f32[offset + i];
    worst = std::max(worst, std::abs(mine.data()[i] - expected) / (std::abs(expected) + rms));
    CHECK(std::isfinite(mine.data()[i]));
  }
  INFO("worst relative difference ", worst);
  CHECK(worst <= tolerance);
}

double tolerance_of(const json& golden_case, const std::string& tensor) {
  return golden_case["tensors"][tensor]["tol"];
}

Matrix34 pose_at(const Tensor& tensor, size_t index) {
  const size_t stride = static_cast<size_t>(tensor.shape[tensor.shape.size() - 2] * tensor.shape.back());
  return Eigen::Map<const Eigen::Matrix<float, 3, 4, Eigen::RowMajor>>(tensor.f32.data() + index * stride)
      .cast<double>();
}

RaySampleTable samples_of(const Tensor& tensor) {
  RaySampleTable table(tensor.i32.size() / kRaySampleSize);
  for (size_t i = 0; i < tensor.i32.size(); ++i)
    table[i / kRaySampleSize][i % kRaySampleSize] = tensor.i32[i];
  return table;
}

RayView view_of(const Tensor& ray, const Tensor& confidence, size_t index) {
  RayView view;
  view.height = static_cast<int>(ray.shape[2]);
  view.width = static_cast<int>(ray.shape[3]);
  const size_t pixels = static_cast<size_t>(view.height) * view.width;
  view.ray = ray.f32.data() + index * pixels * 6;
  view.confidence = confidence.f32.data() + index * pixels;
  return view;
}

// Upstream works on pairs of views: "name" holds views 0 and 1, "name#2" views 2 and 3.
std::string pair_name(const std::string& name, size_t view) {
  return view < 2 ? name : name + "#" + std::to_string(view / 2 + 1);
}

void check_ray_view(const json& golden_case, const Tensors& tensors, const std::string& prefix, size_t view,
                    double least_tolerance) {
  const auto tolerance = [&](const std::string& name) {
    return std::max(least_tolerance, tolerance_of(golden_case, name));
  };
  const RaySampleTable samples = samples_of(tensors.at("ransac.sample_index"));
  const RayPose pose =
      solve_ray_pose(view_of(tensors.at(prefix + "ray"), tensors.at(prefix + "ray_conf"), view), samples);
  REQUIRE(pose.valid);
  CHECK(pose.best == golden_case["ransac_best_index"][view].get<int>());

  const std::string scores = pair_name("ransac.scores", view), matrix = pair_name("ransac.homography", view);
  check_near(pose.scores, tensors.at(scores), view % 2 * samples.size(), tolerance(scores));
  check_near(pose.homography, tensors.at(matrix), view % 2 * 9, tolerance(matrix));
  check_near(invert(pose.camera_to_world), tensors.at("extrinsics"), view * 12, tolerance("extrinsics"));
  check_near(intrinsics_from_ray_pose(pose, golden_case["W"], golden_case["H"]), tensors.at("intrinsics"),
             view * 9, tolerance("intrinsics"));
  const std::string split = view == 0 ? "ransac.ql_input" : "ransac.ql_input#" + std::to_string(view + 1);
  if (tensors.count(split) != 0) check_near(pose.ql_input, tensors.at(split), 0, tolerance(split));
}

TEST_CASE("ray maps of made-up cameras") {
  if (!have_goldens()) return;
  int solved = 0;
  for (const json& golden_case : manifest()["ray_cases"]) {
    CAPTURE(golden_case["name"].get<std::string>());
    const Tensors tensors = load(golden_case["file"]);
    for (size_t view = 0; view < golden_case["S"].get<size_t>(); ++view, ++solved) {
      CAPTURE(view);
      check_ray_view(golden_case, tensors, "input.", view, 0);
    }
  }
  CHECK(solved >= 5);
}

TEST_CASE("ray maps of the network where they are stored whole") {
  if (!have_goldens()) return;
  int solved = 0;
  for (const json& golden_case : manifest()["cases"]) {
    if (!golden_case["tensors"].contains("ransac.sample_index")) continue;
    if (golden_case["tensors"]["head.ray"].contains("stride")) continue;
    CAPTURE(golden_case["name"].get<std::string>());
    const Tensors tensors = load(golden_case["file"]);
    for (size_t view = 0; view < golden_case["S"].get<size_t>(); ++view, ++solved) {
      CAPTURE(view);
      // Rays that are far from any camera: an inlier that changes sides moves the result.
      check_ray_view(golden_case, tensors, "head.", view, 1e-3);
    }
  }
  CHECK(solved >= 2);
}

TEST_CASE("the split of upstream's fits gives upstream's cameras") {
  if (!have_goldens()) return;
  int split = 0;
  for (const json& golden_case : manifest()["cases"]) {
    if (!golden_case["tensors"].contains("ransac.ql_input")) continue;
    CAPTURE(golden_case["name"].get<std::string>());
    const Tensors tensors = load(golden_case["file"]);
    for (size_t view = 0; view < golden_case["S"].get<size_t>(); ++view, ++split) {
      CAPTURE(view);
      const Tensor& input =
          tensors.at(view == 0 ? "ransac.ql_input" : "ransac.ql_input#" + std::to_string(view + 1));
      const Matrix3 a =
          Eigen::Map<const Eigen::Matrix<float, 3, 3, Eigen::RowMajor>>(input.f32.data()).cast<double>();
      CHECK(a.determinant() > 0);
      Matrix3 q, l;
      ql_decompose(a, &q, &l);
      l /= l(2, 2);
      const Matrix3 rotation = pose_at(tensors.at("extrinsics"), view).leftCols<3>().transpose();
      CHECK((q - rotation).cwiseAbs().maxCoeff() < 1e-4);
      RayPose pose;
      pose.focal_x = 1 / l(0, 0);
      pose.focal_y = 1 / l(1, 1);
      pose.principal_x = l(2, 0) + 1;
      pose.principal_y = l(2, 1) + 1;
      check_near(intrinsics_from_ray_pose(pose, golden_case["W"], golden_case["H"]), tensors.at("intrinsics"),
                 view * 9, tolerance_of(golden_case, "intrinsics"));
    }
  }
  CHECK(split >= 5);
}

TEST_CASE("pose encodings of all cases decode to upstream's cameras") {
  if (!have_goldens()) return;
  int decoded = 0;
  for (const json& golden_case : manifest()["cases"]) {
    if (!golden_case["tensors"].contains("pose_enc")) continue;
    CAPTURE(golden_case["name"].get<std::string>());
    const Tensors tensors = load(golden_case["file"]);
    const Tensor& encodings = tensors.at("pose_enc");
    for (size_t view = 0; view < encodings.f32.size() / 9; ++view, ++decoded) {
      CAPTURE(view);
      const PoseEncoding encoding =
          Eigen::Map<const Eigen::Matrix<float, 9, 1>>(encodings.f32.data() + view * 9).cast<double>();
      const PinholeCamera camera = decode_pose(encoding, golden_case["W"], golden_case["H"]);
      check_near(invert(camera.camera_to_world), tensors.at("extrinsics"), view * 12, 1e-5);
      check_near(camera.intrinsics, tensors.at("intrinsics"), view * 9, 1e-5);
    }
  }
  CHECK(decoded >= 40);
}

TEST_CASE("given cameras encode to what upstream's camera encoder takes") {
  if (!have_goldens()) return;
  int encoded = 0;
  for (const json& golden_case : manifest()["cases"]) {
    if (!golden_case["tensors"].contains("cam_enc.pose_encoding")) continue;
    CAPTURE(golden_case["name"].get<std::string>());
    const Tensors tensors = load(golden_case["file"]);
    for (size_t view = 0; view < golden_case["S"].get<size_t>(); ++view, ++encoded) {
      CAPTURE(view);
      const Tensor& intrinsics = tensors.at("input.intrinsics");
      PinholeCamera camera;
      camera.camera_to_world = invert(pose_at(tensors.at("input.extrinsics"), view));
      camera.intrinsics =
          Eigen::Map<const Eigen::Matrix<float, 3, 3, Eigen::RowMajor>>(intrinsics.f32.data() + view * 9)
              .cast<double>();
      check_near(encode_pose(camera, golden_case["W"], golden_case["H"]), tensors.at("cam_enc.pose_encoding"),
                 view * 9, 1e-5);
    }
  }
  CHECK(encoded >= 7);
}

TEST_CASE("pose normalisation") {
  if (!have_goldens()) return;
  const Tensors tensors = load("normalize_extrinsics.safetensors");
  for (const json& sample : manifest()["normalize_extrinsics"]) {
    const Tensor &in = tensors.at(sample["in"]), &out = tensors.at(sample["out"]);
    const size_t views = sample["S"];
    CAPTURE(views);
    std::vector<Matrix34> poses;
    for (size_t i = 0; i < views; ++i) poses.push_back(pose_at(in, i));
    const auto normalised = normalise_extrinsics(poses);
    REQUIRE(normalised.size() == views);
    for (size_t i = 0; i < views; ++i) check_near(normalised[i], out, i * 16, 1e-5);
  }
}

TEST_CASE("the scale between predicted and given cameras") {
  if (!have_goldens()) return;
  int aligned = 0;
  for (const json& golden_case : manifest()["cases"]) {
    if (!golden_case["tensors"].contains("gs.pose_scale")) continue;
    CAPTURE(golden_case["name"].get<std::string>());
    const Tensors tensors = load(golden_case["file"]);
    std::vector<Matrix34> predicted, given;
    for (size_t i = 0; i < golden_case["S"].get<size_t>(); ++i) {
      predicted.push_back(pose_at(tensors.at("extrinsics"), i));
      given.push_back(pose_at(tensors.at("input.extrinsics"), i));
    }
    const double expected = tensors.at("gs.pose_scale").f32.at(0);
    CHECK(align_trajectories(predicted, given).scale == doctest::Approx(expected).epsilon(1e-4));
    ++aligned;
  }
  CHECK(aligned >= 1);
}

}  // namespace
}  // namespace da3::geometry
