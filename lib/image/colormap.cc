// SPDX-License-Identifier: MIT
#include "image/colormap.h"

#include <algorithm>
#include <opencv2/imgproc.hpp>
#include <stdexcept>

namespace da3::image {
namespace {

// ColorBrewer "Spectral" with eleven classes.
constexpr int kSpectral[11][3] = {{158, 1, 66},    {213, 62, 79},   {244, 109, 67},  {253, 174, 97},
                                  {254, 224, 139}, {255, 255, 191}, {230, 245, 152}, {171, 221, 164},
                                  {102, 194, 165}, {50, 136, 189},  {94, 79, 162}};

ColorTable make_spectral() {
  ColorTable table;
  for (int i = 0; i < 256; ++i) {
    // The position between two colours is (10 i mod 255) / 255: whole numbers until the last step keep
    // entries that are exact in theory exact under truncation.
    const int left = std::min(i * 10 / 255, 9);
    const int rest = i * 10 - left * 255;
    uint8_t rgb[3];
    for (int c = 0; c < 3; ++c)
      rgb[c] = uint8_t((kSpectral[left][c] * (255 - rest) + kSpectral[left + 1][c] * rest) / 255);
    table[i] = {rgb[0], rgb[1], rgb[2]};
  }
  return table;
}

ColorTable make_gray() {
  ColorTable table;
  for (int i = 0; i < 256; ++i) table[i] = {uint8_t(i), uint8_t(i), uint8_t(i)};
  return table;
}

ColorTable make_opencv(int id) {
  cv::Mat ramp(1, 256, CV_8UC1);
  for (int i = 0; i < 256; ++i) ramp.at<uint8_t>(0, i) = uint8_t(i);
  cv::Mat bgr;
  cv::applyColorMap(ramp, bgr, id);
  ColorTable table;
  for (int i = 0; i < 256; ++i) {
    const auto& p = bgr.at<cv::Vec3b>(0, i);
    table[i] = {p[2], p[1], p[0]};
  }
  return table;
}

}  // namespace

const ColorTable& color_table(Colormap map) {
  switch (map) {
    case Colormap::spectral: {
      static const ColorTable table = make_spectral();
      return table;
    }
    case Colormap::turbo: {
      static const ColorTable table = make_opencv(cv::COLORMAP_TURBO);
      return table;
    }
    case Colormap::inferno: {
      static const ColorTable table = make_opencv(cv::COLORMAP_INFERNO);
      return table;
    }
    case Colormap::viridis: {
      static const ColorTable table = make_opencv(cv::COLORMAP_VIRIDIS);
      return table;
    }
    case Colormap::gray: {
      static const ColorTable table = make_gray();
      return table;
    }
  }
  throw std::invalid_argument("There is no colour map number " + std::to_string(int(map)) + ".");
}

bool warm_end_is_last(Colormap map) {
  return map != Colormap::spectral;
}

}  // namespace da3::image
