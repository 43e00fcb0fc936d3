// SPDX-License-Identifier: MIT
#include "image/resize.h"

#include <cstdlib>
#include <cstring>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "image/area_resize.h"

namespace da3::image {
namespace {

constexpr int kPixelBytes = 3;

void require(bool ok, const char* what) {
  if (!ok) throw std::invalid_argument(std::string("Resize of a picture: ") + what + ".");
}

// cv::Mat has no negative steps.
cv::Mat view_of(const ConstImage& in) {
  if (in.stride > 0) {
    return {in.height, in.width, CV_8UC3, const_cast<uint8_t*>(in.data), static_cast<size_t>(in.stride)};
  }
  cv::Mat copy(in.height, in.width, CV_8UC3);
  for (int y = 0; y < in.height; ++y) {
    std::memcpy(copy.ptr(y), in.data + std::ptrdiff_t(y) * in.stride, size_t(in.width) * kPixelBytes);
  }
  return copy;
}

// Inside a parallel region OpenCV starts no second one. The alternative, cv::setNumThreads(), would change
// the setting of the whole process under the feet of an application that uses OpenCV itself.
void resize_by_opencv(const cv::Mat& in, cv::Mat& out, cv::InterpolationFlags interpolation, int threads) {
  const auto resize = [&] { cv::resize(in, out, out.size(), 0, 0, interpolation); };
  if (threads != 1) return resize();
  cv::parallel_for_(cv::Range(0, 2), [&](const cv::Range& range) {
    if (range.start == 0) resize();
  });
}

// Cubic when a side grows, else box averaging: upstream's choice, here also for non-square pixels.
void resize_step(const ConstImage& in, const MutableImage& out, int threads) {
  const bool grows = out.width > in.width || out.height > in.height;
  if (!grows && resize_area(in, out, threads)) return;
  cv::Mat target(out.height, out.width, CV_8UC3, out.data, static_cast<size_t>(out.stride));
  resize_by_opencv(view_of(in), target, grows ? cv::INTER_CUBIC : cv::INTER_AREA, threads);
}

void copy(const ConstImage& in, const MutableImage& out, int left = 0, int top = 0) {
  for (int y = 0; y < out.height; ++y) {
    const uint8_t* row = in.data + std::ptrdiff_t(top + y) * in.stride + std::ptrdiff_t(left) * kPixelBytes;
    std::memcpy(out.data + std::ptrdiff_t(y) * out.stride, row, size_t(out.width) * kPixelBytes);
  }
}

// `in` has the boundary's size.
void finish(const ConstImage& in, const ProcessPlan& plan, const MutableImage& out, int threads) {
  if (plan.crop) return copy(in, out, plan.crop_left, plan.crop_top);
  if (plan.boundary == plan.final) return copy(in, out);
  resize_step(in, out, threads);
}

void run(const ConstImage& in, const ProcessPlan& plan, const MutableImage& out, int threads) {
  const Size size = plan.boundary;
  if (Size{in.width, in.height} == size) return finish(in, plan, out, threads);
  if (size == plan.final) return resize_step(in, out, threads);
  const int stride = size.width * kPixelBytes;
  std::vector<uint8_t> boundary(size_t(stride) * size.height);
  resize_step(in, {boundary.data(), size.width, size.height, stride}, threads);
  finish({boundary.data(), size.width, size.height, stride}, plan, out, threads);
}

}  // namespace

void resize_rgb(const ConstImage& in, const ProcessPlan& plan, const MutableImage& out, int threads) {
  require(in.data && in.width > 0 && in.height > 0, "the input is empty");
  require(std::abs(std::int64_t(in.stride)) >= std::int64_t(in.width) * kPixelBytes,
          "the input's stride is below a row");
  require(out.data && Size{out.width, out.height} == plan.final, "the output does not have the planned size");
  require(out.stride >= std::int64_t(out.width) * kPixelBytes, "the output's stride is below a row");
  run(in, plan, out, threads);
}

}  // namespace da3::image
