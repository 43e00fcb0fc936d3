// SPDX-License-Identifier: MIT
#include "viz_legend.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <opencv2/imgproc.hpp>

namespace da3::plugin {
namespace {

constexpr int kSupersample = 4;
constexpr size_t kMaxSprites = 256;
constexpr double kPanelOpacity = 0.68;
constexpr int kMinWidth = 128, kMinHeight = 96;  // of a picture that can bear a legend

// Leading digits from round to less round. From the sixth row on they only fill wide gaps.
constexpr size_t kRoundRows = 5;
const std::vector<std::vector<int>>& roundness() {
  static const std::vector<std::vector<int>> rows = [] {
    std::vector<std::vector<int>> r = {{100}, {500}, {200}, {300, 700}, {150, 400, 600, 800}};
    std::vector<int> two, three;
    for (int i = 10; i < 100; ++i) two.push_back(i * 10);
    for (int i = 100; i < 1000; ++i) three.push_back(i);
    r.push_back(two);
    r.push_back(three);
    return r;
  }();
  return rows;
}

std::string number_text(double value, int digits) {
  char text[32];
  if (value >= 1e5 || value < 1e-4) {
    snprintf(text, sizeof text, "%.*e", digits - 1, value);
  } else {
    const int before = int(std::floor(std::log10(value) + 1e-9)) + 1;
    snprintf(text, sizeof text, "%.*f", std::max(0, digits - before), value);
    // Round numbers read better without their zeros.
    if (std::string s = text; s.find('.') != std::string::npos) {
      s.erase(s.find_last_not_of('0') + 1);
      if (s.back() == '.') s.pop_back();
      return s;
    }
  }
  return text;
}

// Where a depth lies on the bar, 0 = near.
double place_of(const ColorScale& scale, double depth) {
  const bool inverse = scale.mode == VizMode::disparity;
  const double t = ((inverse ? 1 / depth : depth) - scale.range.lo) / (scale.range.hi - scale.range.lo);
  return inverse ? 1 - t : t;
}

double depth_at(const ColorScale& scale, double place) {
  const bool inverse = scale.mode == VizMode::disparity;
  const double t = inverse ? 1 - place : place;
  const double value = scale.range.lo + t * (scale.range.hi - scale.range.lo);
  return inverse ? 1 / value : value;
}

void blend(const Canvas& canvas, int x0, int y0, const cv::Mat& coverage, image::Rgb color, double opacity) {
  const int alpha = int(opacity * 256);
  const int from_x = std::max(0, -x0), to_x = std::min(coverage.cols, canvas.width - x0);
  for (int y = std::max(0, -y0); y < std::min(coverage.rows, canvas.height - y0); ++y) {
    const uint8_t* mask = coverage.ptr(y);
    for (int x = from_x; x < to_x; ++x) {
      if (!mask[x]) continue;
      const int a = mask[x] * alpha / 255;
      uint8_t* p = canvas.at(x0 + x, y0 + y);
      p[canvas.r] = uint8_t(p[canvas.r] + (((color.r - p[canvas.r]) * a) >> 8));
      p[canvas.g] = uint8_t(p[canvas.g] + (((color.g - p[canvas.g]) * a) >> 8));
      p[canvas.b] = uint8_t(p[canvas.b] + (((color.b - p[canvas.b]) * a) >> 8));
    }
  }
}

struct Layout {
  int cap = 0;  // height of a digit
  int pad = 0;  // inside the panel and around it
  int bar_width = 0, bar_height = 0;
  int notch = 0;  // tick mark
};

Layout layout_for(const Canvas& canvas) {
  Layout l;
  const double reference = std::min(double(canvas.height), canvas.width * 0.75);
  l.cap = std::clamp(int(std::lround(reference * 0.021 + 5.0)), 7, 48);
  l.pad = std::max(5, int(std::lround(l.cap * 0.9)));
  l.bar_width = std::max(6, int(std::lround(l.cap * 1.0)));
  l.bar_height = int(std::min(canvas.height * 0.58, canvas.width * 0.75));
  l.notch = std::max(2, int(std::lround(l.cap * 0.35)));
  return l;
}

}  // namespace

std::vector<LegendTick> legend_ticks(const ColorScale& scale, double unit, double spacing) {
  std::vector<LegendTick> ticks;
  const double near = depth_at(scale, 0), far = depth_at(scale, 1);
  const auto add = [&](double value, int digits, double distance) {
    const double place = place_of(scale, value / unit);
    if (!(place >= 0 && place <= 1)) return;
    for (const auto& tick : ticks)
      if (std::abs(tick.place - place) < distance) return;
    ticks.push_back({place, number_text(value, digits)});
  };
  // In the numbers shown, with room for the six decades that are looked at.
  const double first = near * unit;
  if (!(first > 1e-300) || !(first < 1e300)) return ticks;
  // The far end of a range in disparity may lie at or behind infinity.
  const double last = far > 0 && far * unit < first * 1e6 ? far * unit : first * 1e6;
  const int low = int(std::floor(std::log10(first))) - 2, high = int(std::ceil(std::log10(last)));
  for (size_t row = 0; row < roundness().size(); ++row) {
    // Three digits only where nothing shorter tells the range.
    if (row + 1 == roundness().size() && ticks.size() > 2) break;
    for (int decade = low; decade <= high; ++decade)
      for (int digits : roundness()[row])
        add(digits * std::pow(10.0, decade), 3, row < kRoundRows ? spacing : 1.8 * spacing);
  }
  if (ticks.size() < 2) {
    ticks.clear();
    const double middle = depth_at(scale, 0.5) * unit;
    if (middle > 0 && std::isfinite(middle)) ticks.push_back({0.5, number_text(middle, 4)});
  }
  std::sort(ticks.begin(), ticks.end(), [](const auto& a, const auto& b) { return a.place < b.place; });
  return ticks;
}

const cv::Mat& Legend::text(const std::string& text, int cap_height) {
  const std::string key = std::to_string(cap_height) + '\n' + text;
  if (const auto found = sprites_.find(key); found != sprites_.end()) return found->second;
  // Drawn large and averaged down: even strokes at any size.
  const int cap = cap_height * kSupersample;
  const int thickness = std::max(1, int(std::lround(cap * 0.135)));
  const int face = cv::FONT_HERSHEY_SIMPLEX;
  const double scale = cv::getFontScaleFromHeight(face, cap - thickness, thickness);
  int below = 0;
  const cv::Size size = cv::getTextSize(text, face, scale, thickness, &below);
  const int descent = cap / 3, border = thickness;
  const auto whole = [](int v) { return (v + kSupersample - 1) / kSupersample * kSupersample; };
  cv::Mat large = cv::Mat::zeros(cap + descent, whole(size.width + 2 * border), CV_8UC1);
  large = cv::Mat::zeros(whole(large.rows), large.cols, CV_8UC1);
  cv::putText(large, text, {border, cap - thickness / 2}, face, scale, cv::Scalar(255), thickness,
              cv::LINE_AA);
  cv::Mat sprite;
  cv::resize(large, sprite, large.size() / kSupersample, 0, 0, cv::INTER_AREA);
  if (sprites_.size() >= kMaxSprites) sprites_.clear();
  return sprites_[key] = sprite;
}

const cv::Mat& Legend::rounded(int width, int height, int radius) {
  std::string key = std::to_string(width);
  key += 'x';
  key += std::to_string(height);
  key += 'r';
  key += std::to_string(radius);
  if (const auto found = sprites_.find(key); found != sprites_.end()) return found->second;
  const int w = width * kSupersample, h = height * kSupersample;
  const int r = std::min({radius * kSupersample, (w - 1) / 2, (h - 1) / 2});
  cv::Mat large = cv::Mat::zeros(h, w, CV_8UC1);
  const cv::Scalar on(255);
  cv::rectangle(large, {r, 0}, {w - 1 - r, h - 1}, on, cv::FILLED);
  cv::rectangle(large, {0, r}, {w - 1, h - 1 - r}, on, cv::FILLED);
  for (const cv::Point c :
       {cv::Point(r, r), cv::Point(w - 1 - r, r), cv::Point(r, h - 1 - r), cv::Point(w - 1 - r, h - 1 - r)})
    cv::circle(large, c, r, on, cv::FILLED);
  cv::Mat sprite;
  cv::resize(large, sprite, {width, height}, 0, 0, cv::INTER_AREA);
  if (sprites_.size() >= kMaxSprites) sprites_.clear();
  return sprites_[key] = sprite;
}

bool Legend::draw(const Canvas& canvas, const ColorScale& scale, image::Colormap map, bool metric,
                  double unit_scale) {
  if (canvas.width < kMinWidth || canvas.height < kMinHeight || !scale.range.known) return false;
  const Layout l = layout_for(canvas);
  const double unit = metric && unit_scale > 0 ? unit_scale : 1;
  const auto ticks = legend_ticks(scale, unit, l.cap * 2.4 / l.bar_height);
  if (ticks.empty()) return false;

  // Four digits' room always: the panel must not change its width while the numbers move.
  int label_width = text("8.88", l.cap).cols;
  for (const auto& tick : ticks) label_width = std::max(label_width, text(tick.text, l.cap).cols);
  const int inner = l.bar_width + l.notch * 2 + label_width;
  std::string title = metric ? "metres" : "relative";
  const int title_cap = std::max(6, int(std::lround(l.cap * 0.85)));
  if (text(title, title_cap).cols > std::max(inner, canvas.width / 6)) title = metric ? "m" : "rel.";
  const cv::Mat title_sprite = text(title, title_cap).clone();

  const int title_height = title_cap + l.pad;
  const int width = std::max(inner, title_sprite.cols) + 2 * l.pad;
  const int height = l.bar_height + title_height + 2 * l.pad + l.cap / 2;
  if (width > canvas.width / 2 || height + l.pad > canvas.height) return false;
  const int x = canvas.width - width - l.pad, y = (canvas.height - height) / 2;
  const int bar_x = x + l.pad, bar_y = y + l.pad + title_height;

  blend(canvas, x, y, rounded(width, height, l.pad), {14, 15, 20}, kPanelOpacity);
  blend(canvas, bar_x, y + l.pad, title_sprite, {214, 218, 226}, 1);
  const auto& table = image::color_table(map);
  // A light rim: the dark end of a map stands out from the panel.
  const int radius = std::max(1, l.bar_width / 4);
  blend(canvas, bar_x - 1, bar_y - 1, rounded(l.bar_width + 2, l.bar_height + 2, radius + 1), {255, 255, 255},
        0.45);
  const cv::Mat bar = rounded(l.bar_width, l.bar_height, radius).clone();
  for (int row = 0; row < l.bar_height; ++row) {
    const double place = 1 - (row + 0.5) / l.bar_height;
    const double along = (scale.mode == VizMode::disparity) == scale.reverse ? place : 1 - place;
    blend(canvas, bar_x, bar_y + row, bar.row(row), table[std::min(int(along * 256), 255)], 1);
  }
  const cv::Mat notch(std::max(1, l.cap / 9), l.notch, CV_8UC1, cv::Scalar(255));
  for (const auto& tick : ticks) {
    const int at = bar_y + int(std::lround((1 - tick.place) * (l.bar_height - 1)));
    blend(canvas, bar_x + l.bar_width + 1, at - notch.rows / 2, notch, {255, 255, 255}, 0.85);
    blend(canvas, bar_x + l.bar_width + 2 * l.notch, at - l.cap / 2, text(tick.text, l.cap), {255, 255, 255},
          1);
  }
  return true;
}

}  // namespace da3::plugin
