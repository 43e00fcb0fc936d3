// SPDX-License-Identifier: MIT
#include "train/curve.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <stdexcept>

namespace da3::train {
namespace {

constexpr double kWidth = 760, kPanel = 170, kLeft = 64, kRight = 20, kTop = 44, kGap = 34;
// More points than pixels say nothing.
constexpr size_t kMostPoints = 700;

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", v);
  return text;
}

// Means of neighbours.
std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points) {
  const size_t group = points.size() / kMostPoints + 1;
  std::vector<std::pair<double, double>> out;
  for (size_t i = 0; i < points.size(); i += group) {
    const size_t end = std::min(points.size(), i + group);
    double x = 0, y = 0;
    for (size_t k = i; k < end; ++k) {
      x += points[k].first;
      y += points[k].second;
    }
    out.emplace_back(x / double(end - i), y / double(end - i));
  }
  return out;
}

void draw_panel(std::ostream& out, const Curve& curve, double top, double last_step) {
  const auto points = thinned(curve.points);
  if (points.empty()) return;
  double lo = points[0].second, hi = lo;
  for (const auto& p : points) {
    lo = std::min(lo, p.second);
    hi = std::max(hi, p.second);
  }
  const bool logarithmic = lo > 0;
  const auto scaled = [&](double v) { return logarithmic ? std::log(v) : v; };
  const double bottom = scaled(lo), range = std::max(scaled(hi) - bottom, 1e-9);
  const double inner = kWidth - kLeft - kRight;
  const auto x = [&](double step) { return kLeft + inner * step / std::max(last_step, 1.0); };
  const auto y = [&](double v) { return top + kPanel - kPanel * (scaled(v) - bottom) / range; };
  out << "<rect x='" << kLeft << "' y='" << top << "' width='" << inner << "' height='" << kPanel
      << "' fill='none' stroke='#bbb'/>\n<text x='" << kLeft + 6 << "' y='" << top + 16 << "'>" << curve.name
      << ", last " << number(curve.points.back().second) << "</text>\n";
  for (const double v : {lo, hi})
    out << "<text x='" << kLeft - 6 << "' y='" << y(v) + 4 << "' text-anchor='end' class='s'>" << number(v)
        << "</text>\n";
  out << "<polyline fill='none' stroke='#1f6fb4' stroke-width='1.4' points='";
  for (const auto& p : points) out << number(x(p.first)) << ',' << number(y(p.second)) << ' ';
  out << "'/>\n";
}

}  // namespace

void write_curves(const std::string& path, const std::string& title, const std::vector<Curve>& curves) {
  double last = 1;
  for (const Curve& c : curves)
    if (!c.points.empty()) last = std::max(last, c.points.back().first);
  const double height = kTop + double(curves.size()) * (kPanel + kGap);
  std::ofstream out(path);
  out << "<svg xmlns='http://www.w3.org/2000/svg' width='" << kWidth << "' height='" << height
      << "' font-family='sans-serif' font-size='12'>\n<style>.s{font-size:10px;fill:#555}</style>\n"
      << "<rect width='100%' height='100%' fill='white'/>\n<text x='" << kLeft << "' y='22' font-size='15'>"
      << title << "</text>\n";
  double top = kTop;
  for (const Curve& c : curves) {
    draw_panel(out, c, top, last);
    top += kPanel + kGap;
  }
  out << "<text x='" << kWidth - kRight << "' y='" << height - 12
      << "' text-anchor='end' class='s'>steps, 0 to " << number(last) << "</text>\n</svg>\n";
  if (!out.flush()) throw std::runtime_error("'" + path + "' cannot be written.");
}

}  // namespace da3::train
