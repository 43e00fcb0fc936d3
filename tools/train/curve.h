// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace da3::train {

struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;  // step, value; sorted by step
};

// Writes an SVG picture: one panel a curve, common steps, logarithmic values where all are above 0. Throws
// std::runtime_error when the file cannot be written.
void write_curves(const std::string& path, const std::string& title, const std::vector<Curve>& curves);

}  // namespace da3::train
