// SPDX-License-Identifier: MIT
#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "scene/rng.h"

namespace da3::train {
namespace {

constexpr int64_t kWarmUp = 100;
// The heads are half of the work and learn in so many of the steps: before the last phase, and in it.
constexpr double kMapShare = 0.35, kLastMapShare = 0.5;
// Constant until this part of all steps, then down to zero as 1 - sqrt: fast at first, since noise at the
// full rate hides what was learned, then slowly.
constexpr double kDecayFrom = 0.1;

int draw(scene::Rng& rng, const std::vector<double>& shares) {
  double at = rng.uniform();
  for (size_t i = 0; i < shares.size(); ++i) {
    at -= shares[i];
    if (at < 0) return int(i);
  }
  return 0;
}

int multiple_of_patch(double pixels) {
  return std::max(1, int(std::lround(pixels / 14))) * 14;
}

}  // namespace

int64_t Schedule::steps() const {
  int64_t sum = 0;
  for (const Phase& p : phases) sum += p.steps;
  return sum;
}

StepPlan Schedule::plan(int64_t step) const {
  int64_t begin = 0;
  size_t phase = 0;
  while (phase + 1 < phases.size() && step >= begin + phases[phase].steps) begin += phases[phase++].steps;
  const Phase& p = phases[phase];

  const int64_t data = distinct > 0 ? step % distinct : step;
  scene::Rng rng(seed * 0xA0761D6478BD642Full + uint64_t(data));
  StepPlan out;
  constexpr int kViews[] = {1, 2, 3, 4, 5, 6};
  out.views = kViews[draw(rng, {0.30, 0.22, 0.10, 0.26, 0.04, 0.08})];
  if (views > 0) out.views = views;
  out.sets = std::max(2, p.images / out.views / 2 * 2);  // even: two parts of one size
  // 4:3, 16:9, square, upright
  const int shape = draw(rng, {0.55, 0.30, 0.10, 0.05});
  const double side = p.long_side;
  out.width = multiple_of_patch(shape == 2 || shape == 3 ? side * 7 / 9 : side);
  out.height = multiple_of_patch(shape == 0 || shape == 2 ? side * 7 / 9 : shape == 1 ? side * 5 / 9 : side);
  const bool last_phase = phase + 1 == phases.size();
  out.maps = rng.chance(last_phase ? kLastMapShare : kMapShare);
  out.ray = rng.chance(0.5) && out.maps;
  out.known_cameras = out.views > 1 && rng.chance(0.1);

  const double total = double(steps()), at = double(step);
  double rate = std::min(1.0, (at + 1) / double(kWarmUp));
  const double down = (at / total - kDecayFrom) / (1 - kDecayFrom);
  if (down > 0) rate = std::min(rate, 1 - std::sqrt(down));
  out.learning_rate = learning_rate * rate;
  return out;
}

std::vector<SetDescription> Schedule::sets(int64_t step) const {
  const StepPlan p = plan(step);
  const int64_t data = distinct > 0 ? step % distinct : step;
  std::vector<SetDescription> out;
  for (int i = 0; i < p.sets; ++i)
    out.push_back(training_set(seed, uint64_t(data) * 4096 + uint64_t(i), p.views, p.width, p.height));
  return out;
}

std::string describe(const Schedule& s) {
  std::ostringstream out;
  out << "--phases ";
  for (size_t i = 0; i < s.phases.size(); ++i)
    out << (i > 0 ? "," : "") << s.phases[i].steps << "x" << s.phases[i].images << "@"
        << s.phases[i].long_side;
  out << " --rate " << s.learning_rate << " --seed " << s.seed;
  if (s.views > 0) out << " --views " << s.views;
  if (s.distinct > 0) out << " --distinct " << s.distinct;
  return out.str();
}

std::vector<Phase> parse_phases(const std::string& text) {
  static const std::regex form("([0-9]{1,9})x([0-9]{1,5})@([0-9]{1,5})");
  std::vector<Phase> out;
  std::stringstream parts(text);
  std::string part;
  while (std::getline(parts, part, ',')) {
    std::smatch m;
    if (!std::regex_match(part, m, form))
      throw std::invalid_argument("'" + part +
                                  "' is no phase: write STEPSxIMAGES@SIDE, for example 3000x12@252.");
    const Phase p{std::stoll(m[1]), std::stoi(m[2]), std::stoi(m[3])};
    if (p.steps < 1 || p.images < 1 || p.images > 4096 || p.long_side % 14 != 0 || p.long_side < 56 ||
        p.long_side > 1008)
      throw std::invalid_argument(
          "The phase '" + part +
          "' needs at least one step, 1 to 4096 images and a side that is a multiple of 14 "
          "between 56 and 1008.");
    out.push_back(p);
  }
  if (out.empty()) throw std::invalid_argument("A run has at least one phase (STEPSxIMAGES@SIDE).");
  return out;
}

}  // namespace da3::train
