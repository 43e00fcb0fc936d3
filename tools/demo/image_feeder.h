// SPDX-License-Identifier: MIT
//
// Decodes images one after the other and pushes them into an appsrc, one frame a second of stream time. Sizes
// and formats may change from image to image.
#pragma once

#include <gst/app/gstappsrc.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <thread>
#include <vector>

#include "gst_ptr.h"

namespace da3::demo {

class ImageFeeder {
 public:
  // Starts at once; errors are posted on the bus as errors of `source`.
  ImageFeeder(GstAppSrc* source, std::vector<std::filesystem::path> files);
  // The appsrc must be in NULL or READY by now, which ends a push that waits.
  ~ImageFeeder();
  ImageFeeder(const ImageFeeder&) = delete;
  ImageFeeder& operator=(const ImageFeeder&) = delete;
  // Images handed on so far. Any thread.
  std::uint64_t fed() const { return fed_; }

 private:
  void run() noexcept;

  ObjectPtr<GstAppSrc> source_;
  std::vector<std::filesystem::path> files_;
  std::atomic<std::uint64_t> fed_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

// One image, upright as its metadata say. Throws DemoError naming the file.
SamplePtr decode_image(const std::filesystem::path& file);

}  // namespace da3::demo
