// SPDX-License-Identifier: MIT
#include "core/accuracy.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace da3::bench {
namespace {

constexpr double kWrong = 1e9;

[[noreturn]] void fail(const std::string& what, const std::string& path) {
  throw std::runtime_error("cannot " + what + " '" + path + "'" +
                           (errno ? ": " + std::string(std::strerror(errno)) : std::string()));
}

// Angle of the rotation between two rotation matrices in rows of [R|t], from their difference: exact for
// small angles.
double angle_between(const float* a, const float* b) {
  double squares = 0;
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c) squares += std::pow(double(a[r * 4 + c]) - double(b[r * 4 + c]), 2);
  // |Ra - Rb| = 2 sqrt(2) sin(angle / 2)
  const double sine = std::sqrt(squares / 8);
  return std::isfinite(sine) ? 2 * std::asin(std::min(1.0, sine)) * 180 / M_PI : 180;
}

}  // namespace

void PassResult::write(const std::string& path) const {
  errno = 0;
  std::ofstream file(path, std::ios::binary);
  const uint64_t counts[3] = {depth.size(), extrinsics.size(), intrinsics.size()};
  file.write(reinterpret_cast<const char*>(counts), sizeof counts);
  for (const auto* part : {&depth, &extrinsics, &intrinsics})
    file.write(reinterpret_cast<const char*>(part->data()), std::streamsize(part->size() * sizeof(float)));
  file.close();
  if (!file) fail("write", path);
}

PassResult PassResult::read(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = uint64_t(std::max<std::streamoff>(0, file.tellg()));
  file.seekg(0);
  uint64_t counts[3] = {};
  file.read(reinterpret_cast<char*>(counts), sizeof counts);
  if (!file) fail("read", path);
  const uint64_t most = size / sizeof(float);
  if (counts[0] > most || counts[1] > most || counts[2] > most ||
      sizeof counts + (counts[0] + counts[1] + counts[2]) * sizeof(float) != size)
    throw std::runtime_error("'" + path + "' is no result of a pass");
  PassResult out;
  out.depth.resize(counts[0]);
  out.extrinsics.resize(counts[1]);
  out.intrinsics.resize(counts[2]);
  for (auto* part : {&out.depth, &out.extrinsics, &out.intrinsics})
    file.read(reinterpret_cast<char*>(part->data()), std::streamsize(part->size() * sizeof(float)));
  if (!file) fail("read", path);
  return out;
}

Row compare_results(const PassResult& candidate, const PassResult& reference) {
  if (candidate.depth.size() != reference.depth.size() || reference.depth.empty())
    throw std::invalid_argument("results of " + std::to_string(candidate.depth.size()) + " and " +
                                std::to_string(reference.depth.size()) + " pixels cannot be compared");
  std::vector<float> errors;
  errors.reserve(reference.depth.size());
  for (size_t i = 0; i < reference.depth.size(); ++i) {
    const double truth = reference.depth[i];
    const double error = std::fabs(double(candidate.depth[i]) - truth) / std::max(std::fabs(truth), 1e-30);
    errors.push_back(float(std::isfinite(error) ? std::min(error, kWrong) : kWrong));
  }
  // Nearest ranks: the arrays are long.
  const auto rank = [&errors](double q) {
    const auto at = errors.begin() + std::ptrdiff_t(q * double(errors.size() - 1));
    std::nth_element(errors.begin(), at, errors.end());
    return double(*at);
  };
  Row out;
  out["depth_rel_err_median"] = rank(0.5);
  out["depth_rel_err_p99"] = rank(0.99);
  if (!reference.extrinsics.empty() && candidate.extrinsics.size() == reference.extrinsics.size()) {
    double largest = 0;
    for (size_t i = 0; i + 12 <= reference.extrinsics.size(); i += 12)
      largest =
          std::max(largest, angle_between(candidate.extrinsics.data() + i, reference.extrinsics.data() + i));
    out["pose_angle_deg"] = largest;
  }
  return out;
}

}  // namespace da3::bench
