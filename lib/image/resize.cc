// SPDX-License-Identifier: MIT
#include "image/resize.h"

#include <cstdlib>
#include <cstring>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <stdexcept>
#include <string>

namespace da3::image {
namespace {

constexpr int kPixelBytes = 3;

cv::Size cv_size(Size size) {
  return {size.width, size.height};
}
Size size_of(const cv::Mat& image) {
  return {image.cols, image.rows};
}

// Cubic when a side grows, else box averaging: upstream's choice, here also for non-square pixels.
void resize_step(const cv::Mat& in, cv::Mat& out, Size size) {
  const bool grows = size.width > in.cols || size.height > in.rows;
  cv::resize(in, out, cv_size(size), 0, 0, grows ? cv::INTER_CUBIC : cv::INTER_AREA);
}

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

void run(const ConstImage& in, const ProcessPlan& plan, const MutableImage& out) {
  cv::Mat current = view_of(in);
  cv::Mat target(out.height, out.width, CV_8UC3, out.data, static_cast<size_t>(out.stride));
  if (size_of(current) != plan.boundary) {
    if (plan.boundary == plan.final) return resize_step(current, target, plan.boundary);
    cv::Mat boundary;
    resize_step(current, boundary, plan.boundary);
    current = boundary;
  }
  if (plan.crop) {
    current(cv::Rect(plan.crop_left, plan.crop_top, out.width, out.height)).copyTo(target);
  } else if (size_of(current) != plan.final) {
    resize_step(current, target, plan.final);
  } else {
    current.copyTo(target);
  }
}

}  // namespace

void resize_rgb(const ConstImage& in, const ProcessPlan& plan, const MutableImage& out, int threads) {
  require(in.data && in.width > 0 && in.height > 0, "the input is empty");
  require(std::abs(std::int64_t(in.stride)) >= std::int64_t(in.width) * kPixelBytes,
          "the input's stride is below a row");
  require(out.data && Size{out.width, out.height} == plan.final, "the output does not have the planned size");
  require(out.stride >= std::int64_t(out.width) * kPixelBytes, "the output's stride is below a row");
  if (threads != 1) return run(in, plan, out);
  // Inside a parallel region OpenCV starts no second one. The alternative, cv::setNumThreads(), would change
  // the setting of the whole process under the feet of an application that uses OpenCV itself.
  cv::parallel_for_(cv::Range(0, 2), [&](const cv::Range& range) {
    if (range.start == 0) run(in, plan, out);
  });
}

}  // namespace da3::image
