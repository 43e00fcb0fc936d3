// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "simulator/simulator.h"

namespace da3::simulator {
namespace {

template <typename... Values>
std::string text(const char* format, Values... values) {
  char buffer[512];
  std::snprintf(buffer, sizeof buffer, format, values...);
  return buffer;
}

// One panel: a frame, axes with a logarithmic x, lines.
struct Panel {
  double left, top, width, height;
  double x_min, x_max, y_max;

  double x(double value) const { return left + width * std::log(value / x_min) / std::log(x_max / x_min); }
  double y(double value) const { return top + height * (1 - std::min(value, y_max) / y_max); }

  std::string line(const std::vector<std::pair<double, double>>& points, const char* style) const {
    std::string out = "<polyline fill='none' " + std::string(style) + " points='";
    for (const auto& [px, py] : points) out += text("%.1f,%.1f ", x(px), y(py));
    out += "'/>\n";
    return out;
  }
  std::string label(double px, double py, const char* anchor, const std::string& words) const {
    return text("<text x='%.1f' y='%.1f' text-anchor='%s'>", px, py, anchor) + words + "</text>\n";
  }
  std::string axes(const std::string& title) const {
    std::string out = text("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='none' stroke='#999'/>\n",
                           left, top, width, height);
    for (int i = 0; i <= 4; ++i) {
      const double value = y_max * i / 4;
      out += text("<line x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f' stroke='#ddd'/>\n", left, left + width,
                  y(value), y(value));
      out += label(left - 6, y(value) + 4, "end", text("%.0f", value));
    }
    for (const double value : {0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0})
      if (value >= x_min && value <= x_max)
        out += label(x(value), top + height + 16, "middle", text("%g", value));
    if (x_min < 1 && x_max > 1)
      out += text("<line x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f' stroke='#bbb' stroke-dasharray='2 3'/>\n",
                  x(1), x(1), top, top + height);
    out += label(left + width / 2, top - 10, "middle", title);
    out += label(left + width / 2, top + height + 34, "middle", "load (1 = everything the devices can do)");
    return out;
  }
};

std::string escaped(const std::string& words) {
  std::string out;
  for (const char c : words) out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : std::string(1, c);
  return out;
}

double nice_above(double value) {
  const double power = std::pow(10, std::floor(std::log10(std::max(value, 1e-9))));
  for (const double step : {1.0, 2.0, 2.4, 4.0, 6.0, 8.0, 10.0})
    if (value <= step * power) return step * power;
  return 10 * power;
}

constexpr char kOurs[] = "stroke='#0868ac' stroke-width='2.5'";
constexpr char kOracle[] = "stroke='#555' stroke-width='1.5' stroke-dasharray='6 4'";
constexpr char kLimit[] = "stroke='#c51b1b' stroke-width='1.5' stroke-dasharray='6 4'";

}  // namespace

std::string table_head() {
  return "curve  cameras devices    fps   load   in time/s   oracle/s  of it   p50 ms   p95 ms   max ms  "
         "batch "
         " busy  "
         "fairness  replaced  expired  late\n";
}

std::string table_row(const Settings& s, const Outcome& o) {
  return text(
      "%-5s %8u %7u %6.1f %6.2f %11.1f %10.1f %5.1f%% %8.1f %8.1f %8.1f %6.1f %4.0f%% %9.3f %9llu %8llu "
      "%5llu\n",
      s.curve.name, s.cameras, s.devices, s.frame_rate, o.load, o.goodput(), o.oracle,
      100 * o.goodput() / o.oracle, o.age_p50_ms, o.age_p95_ms, o.age_max_ms, o.mean_batch, 100 * o.busy,
      o.fairness, static_cast<unsigned long long>(o.replaced), static_cast<unsigned long long>(o.expired),
      static_cast<unsigned long long>(o.late));
}

std::string json_row(const Settings& s, const Outcome& o) {
  return text(
             "{\"curve\": \"%s\", \"cameras\": %u, \"devices\": %u, \"frame_rate\": %g, \"jitter_ms\": %g, "
             "\"max_latency_ms\": %g, \"fixed_batch\": %u, ",
             s.curve.name, s.cameras, s.devices, s.frame_rate, s.jitter_ms, s.max_latency_ms, s.fixed_batch) +
         text(
             "\"load\": %.4f, \"in_time_per_s\": %.3f, \"oracle_per_s\": %.3f, \"age_p50_ms\": %.3f, "
             "\"age_p95_ms\": %.3f, \"age_max_ms\": %.3f, \"mean_batch\": %.3f, ",
             o.load, o.goodput(), o.oracle, o.age_p50_ms, o.age_p95_ms, o.age_max_ms, o.mean_batch) +
         text(
             "\"busy\": %.4f, \"fairness\": %.4f, \"offered\": %llu, \"in_time\": %llu, \"late\": %llu, "
             "\"replaced\": %llu, \"expired\": %llu, \"pending\": %llu}",
             o.busy, o.fairness, static_cast<unsigned long long>(o.offered),
             static_cast<unsigned long long>(o.in_time), static_cast<unsigned long long>(o.late),
             static_cast<unsigned long long>(o.replaced), static_cast<unsigned long long>(o.expired),
             static_cast<unsigned long long>(o.pending));
}

std::string svg_picture(const std::string& title, const std::vector<std::pair<Settings, Outcome>>& given) {
  auto rows = given;
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second.load < b.second.load; });
  double most_rate = 1, most_age = 1;
  std::vector<std::pair<double, double>> ours, oracle, age, limit;
  for (const auto& [s, o] : rows) {
    // Of one device: rows with different numbers of devices share a scale.
    ours.emplace_back(o.load, o.goodput() / s.devices);
    oracle.emplace_back(o.load, o.oracle / s.devices);
    age.emplace_back(o.load, o.age_p95_ms);
    limit.emplace_back(o.load, s.max_latency_ms);
    most_rate = std::max(most_rate, o.oracle / s.devices);
    most_age = std::max({most_age, o.age_p95_ms, s.max_latency_ms});
  }
  const double x_min = rows.empty() ? 0.1 : rows.front().second.load * 0.95;
  const double x_max = rows.empty() ? 10 : std::max(rows.back().second.load * 1.05, x_min * 1.1);
  const Panel rate{70, 60, 340, 220, x_min, x_max, nice_above(1.02 * most_rate)};
  const Panel ages{490, 60, 340, 220, x_min, x_max, nice_above(1.02 * most_age)};
  std::string out =
      "<svg xmlns='http://www.w3.org/2000/svg' width='860' height='350' font-family='sans-serif' "
      "font-size='12'>\n"
      "<rect width='860' height='350' fill='white'/>\n";
  out += rate.label(430, 24, "middle", escaped(title));
  out += rate.axes("frames in time a second, of one device") + ages.axes("age at the end, p95, ms");
  out += rate.line(oracle, kOracle) + rate.line(ours, kOurs);
  out += ages.line(limit, kLimit) + ages.line(age, kOurs);
  out +=
      text("<line x1='80' x2='104' y1='336' y2='336' %s/>", kOurs) + rate.label(110, 340, "start", "gst-da3");
  out += text("<line x1='180' x2='204' y1='336' y2='336' %s/>", kOracle) +
         rate.label(210, 340, "start", "bound: nobody can do more");
  out += text("<line x1='500' x2='524' y1='336' y2='336' %s/>", kLimit) +
         rate.label(530, 340, "start", "max-latency");
  return out + "</svg>\n";
}

}  // namespace da3::simulator
