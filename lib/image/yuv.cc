// SPDX-License-Identifier: MIT
#include "image/yuv.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <opencv2/core.hpp>
#include <stdexcept>
#include <vector>

namespace da3::image {
namespace {

constexpr int kBandRows = 16;

// value = sum of code * factor + constant, in levels of 0..255; the rounding half is in the constant.
struct Levels {
  float y, r_v, g_u, g_v, b_u;
  float r, g, b;
};

Levels levels_of(const YuvCoding& c) {
  const double kg = 1 - c.kr - c.kb;
  const double y = 255 / c.scale[0], u = 255 / c.scale[1], v = 255 / c.scale[2];
  const double r_v = 2 * (1 - c.kr) * v, b_u = 2 * (1 - c.kb) * u;
  const double g_u = -2 * (1 - c.kb) * c.kb / kg * u, g_v = -2 * (1 - c.kr) * c.kr / kg * v;
  const double base = 0.5 - c.offset[0] * y;
  return {float(y),
          float(r_v),
          float(g_u),
          float(g_v),
          float(b_u),
          float(base - c.offset[2] * r_v),
          float(base - c.offset[1] * g_u - c.offset[2] * g_v),
          float(base - c.offset[1] * b_u)};
}

inline uint8_t clipped(float value) {
  return static_cast<uint8_t>(static_cast<int>(std::min(std::max(value, 0.0f), 255.0f)));
}

template <typename Code>
void convert_row(const Code* __restrict y, const Code* __restrict u, const Code* __restrict v, int width,
                 const Levels l, uint8_t* __restrict r, uint8_t* __restrict g, uint8_t* __restrict b) {
  for (int x = 0; x < width; ++x) {
    const float luma = float(y[x]) * l.y;
    const float cb = float(u[x]), cr = float(v[x]);
    r[x] = clipped(luma + cr * l.r_v + l.r);
    g[x] = clipped(luma + cb * l.g_u + cr * l.g_v + l.g);
    b[x] = clipped(luma + cb * l.b_u + l.b);
  }
}

template <typename Code>
void convert(const ConstYuv& in, const Levels& levels, const MutableImage& out) {
  const size_t plane = size_t(kBandRows) * in.width;
  std::vector<uint8_t> band(3 * plane);
  const auto row = [&](int c, int y) {
    return reinterpret_cast<const Code*>(in.data[c] + std::ptrdiff_t(y) * in.stride[c]);
  };
  for (int top = 0; top < in.height; top += kBandRows) {
    const int rows = std::min(kBandRows, in.height - top);
    for (int i = 0; i < rows; ++i) {
      uint8_t* r = band.data() + size_t(i) * in.width;
      convert_row(row(0, top + i), row(1, top + i), row(2, top + i), in.width, levels, r, r + plane,
                  r + 2 * plane);
    }
    const cv::Mat planes[3] = {{rows, in.width, CV_8UC1, band.data()},
                               {rows, in.width, CV_8UC1, band.data() + plane},
                               {rows, in.width, CV_8UC1, band.data() + 2 * plane}};
    cv::Mat target(rows, in.width, CV_8UC3, out.data + std::ptrdiff_t(top) * out.stride, size_t(out.stride));
    cv::merge(planes, 3, target);
  }
}

void require(bool ok, const char* what) {
  if (!ok) throw std::invalid_argument(std::string("Colour conversion: ") + what + ".");
}

void check(const ConstYuv& in, const YuvCoding& coding, const MutableImage& out) {
  require(in.width > 0 && in.height > 0, "the picture is empty");
  require(in.bits >= 8 && in.bits <= 16, "the planes must have 8 to 16 bits");
  const std::int64_t row = std::int64_t(in.width) * (in.bits > 8 ? 2 : 1);
  for (int c = 0; c < 3; ++c) {
    require(in.data[c] && std::abs(std::int64_t(in.stride[c])) >= row,
            "a plane is missing or its stride below a row");
    require(coding.scale[c] > 0, "a scale is not positive");
  }
  require(coding.kr > 0 && coding.kb > 0 && coding.kr + coding.kb < 1,
          "the luma coefficients make no colour");
  require(out.data && out.width == in.width && out.height == in.height, "the output has another size");
  require(out.stride >= std::int64_t(out.width) * 3, "the output's stride is below a row");
}

}  // namespace

void yuv_to_rgb(const ConstYuv& in, const YuvCoding& coding, const MutableImage& out) {
  check(in, coding, out);
  const Levels levels = levels_of(coding);
  if (in.bits == 8) {
    convert<uint8_t>(in, levels, out);
  } else {
    convert<uint16_t>(in, levels, out);
  }
}

}  // namespace da3::image
