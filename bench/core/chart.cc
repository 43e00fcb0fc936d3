// SPDX-License-Identifier: MIT
#include "core/chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace da3::bench {
namespace {

constexpr int kRow = 22, kBarHeight = 15, kTop = 56, kBottom = 46, kWidth = 960, kRight = 90;
// Told apart by people who do not see all colours.
constexpr const char* kColours[] = {"#0072b2", "#e69f00", "#009e73", "#cc79a7",
                                    "#56b4e9", "#d55e00", "#7f7f7f"};

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (static_cast<unsigned char>(c) >= 0x20)
      out += c;
  }
  return out;
}

std::string at(double x, double y) {
  return "x=\"" + number_text(x) + "\" y=\"" + number_text(y) + "\"";
}

std::string text(double x, double y, const std::string& content, const std::string& more = "") {
  return "<text " + at(x, y) + more + ">" + escape(content) + "</text>\n";
}

bool usable(double value) {
  return std::isfinite(value) && value >= 0;
}

// 1, 2 or 5 times a power of ten, so that there are four to ten steps.
double step_for(double largest) {
  const double power = std::pow(10.0, std::floor(std::log10(largest)));
  for (const double factor : {0.1, 0.2, 0.5, 1.0})
    if (largest / (power * factor) <= 8) return power * factor;
  return power;
}

std::string axis_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

// What all rows agree about says nothing in a label.
Row without_common(const Row& row, const std::vector<Row>& rows) {
  Row out;
  for (const auto& [key, value] : row.items()) {
    const std::string& name = key;
    const Row& own = value;
    const bool common = std::all_of(rows.begin(), rows.end(), [&](const Row& other) {
      return other.contains("skipped") || (other.contains(name) && other.at(name) == own);
    });
    if (!common) out[key] = value;
  }
  return out;
}

std::vector<std::string> groups_of(const std::vector<Bar>& bars) {
  std::vector<std::string> out;
  for (const Bar& bar : bars)
    if (!bar.group.empty() && std::find(out.begin(), out.end(), bar.group) == out.end())
      out.push_back(bar.group);
  return out;
}

// A peer without its settings and files: one colour for "openvino" and "openvino-bf16".
std::string family_of(const std::string& peer) {
  std::string out = peer.substr(0, peer.find(' '));
  for (const std::string setting : {"-bf16", "-compile", "-autocast"})
    if (const size_t at = out.find(setting); at != std::string::npos) out.erase(at, setting.size());
  return out;
}

}  // namespace

std::string svg_chart(const Chart& chart) {
  size_t longest = 0;
  double largest = chart.reference;
  for (const Bar& bar : chart.bars) {
    longest = std::max(longest, bar.label.size());
    if (usable(bar.value)) largest = std::max(largest, bar.value);
  }
  if (largest <= 0) largest = 1;
  const double left = std::min(430.0, 16 + 6.6 * double(longest)), width = kWidth - left - kRight;
  const auto x_of = [&](double value) { return left + width * value / largest; };
  const double bottom = kTop + kRow * double(chart.bars.size());
  const std::vector<std::string> groups = groups_of(chart.bars);

  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + std::to_string(kWidth) +
                    "\" height=\"" + std::to_string(int(bottom) + kBottom) +
                    "\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n"
                    "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n" +
                    text(16, 24, chart.title, " font-size=\"16\" font-weight=\"bold\"");
  double legend = 16;
  for (size_t g = 0; g < groups.size(); ++g) {
    out += "<rect " + at(legend, 36) + " width=\"11\" height=\"11\" fill=\"" + kColours[g % 7] + "\"/>\n" +
           text(legend + 16, 46, groups[g]);
    legend += 32 + 7.2 * double(groups[g].size());
  }
  const double step = step_for(largest);
  for (int i = 0; i * step <= largest * 1.0001; ++i) {
    const std::string x = number_text(x_of(i * step));
    out += "<line x1=\"" + x + "\" x2=\"" + x + "\" y1=\"" + std::to_string(kTop) + "\" y2=\"" +
           number_text(bottom) + "\" stroke=\"#ddd\"/>\n" +
           text(x_of(i * step), bottom + 16, axis_text(i * step), " text-anchor=\"middle\" fill=\"#666\"");
  }
  out += text(left + width / 2, bottom + 34, chart.unit, " text-anchor=\"middle\" fill=\"#666\"");
  for (size_t i = 0; i < chart.bars.size(); ++i) {
    const Bar& bar = chart.bars[i];
    const double y = kTop + kRow * double(i) + 3;
    const auto group = std::find(groups.begin(), groups.end(), bar.group) - groups.begin();
    out += text(left - 8, y + 12, bar.label, " text-anchor=\"end\"");
    if (!usable(bar.value)) {
      out += text(left + 4, y + 12, "not measured", " fill=\"#999\"");
      continue;
    }
    out += "<rect " + at(left, y) + " width=\"" + number_text(std::max(1.0, x_of(bar.value) - left)) +
           "\" height=\"" + std::to_string(kBarHeight) + "\" fill=\"" +
           kColours[groups.empty() ? 0 : size_t(group) % 7] + "\"/>\n" +
           text(x_of(bar.value) + 6, y + 12, number_text(bar.value));
  }
  if (chart.reference > 0) {
    const std::string x = number_text(x_of(chart.reference));
    out += "<line x1=\"" + x + "\" x2=\"" + x + "\" y1=\"" + std::to_string(kTop - 4) + "\" y2=\"" +
           number_text(bottom) + "\" stroke=\"#c00\" stroke-dasharray=\"5 3\"/>\n" +
           text(x_of(chart.reference) - 5, kTop - 6, chart.reference_label,
                " text-anchor=\"end\" fill=\"#c00\"");
  }
  return out + "</svg>\n";
}

std::string svg_of_work(const std::string& work, const std::vector<Row>& rows) {
  static const struct {
    const char *key, *unit;
  } kMain[] = {{"images_per_s", "images/s, more is better"},
               {"gflops", "GFLOP/s, more is better"},
               {"median_ms", "median ms, less is better"},
               {"engine_share", "frames/s over those of the engine alone"}};
  for (const auto& figure : kMain) {
    Chart chart;
    chart.title = "da3-bench " + work;
    chart.unit = figure.unit;
    for (const Row& row : rows) {
      if (!row.contains(figure.key)) continue;
      const std::string group =
          row.contains("peer") ? family_of(row.value("peer", "")) : row.value("precision", "");
      const std::string label = label_of(rows.size() > 1 ? without_common(row, rows) : row);
      chart.bars.push_back({label, row[figure.key].get<double>(), group});
    }
    if (!chart.bars.empty()) return svg_chart(chart);
  }
  return {};
}

}  // namespace da3::bench
