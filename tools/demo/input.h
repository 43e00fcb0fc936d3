// SPDX-License-Identifier: MIT
//
// What the user wants to be processed: a video, an image, or the images of a folder.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace da3::demo {

// An error that ends the program: what() is one sentence for the user, detail() more for the curious.
class DemoError : public std::runtime_error {
 public:
  explicit DemoError(const std::string& message, std::string detail = {})
      : std::runtime_error(message), detail_(std::move(detail)) {}
  const std::string& detail() const { return detail_; }

 private:
  std::string detail_;
};

struct Input {
  enum class Kind { video, images, rendered } kind = Kind::video;
  std::vector<std::filesystem::path> files;  // one for a video, none when rendered, else at least one
};

// Files are told apart by their content, the images of a folder by their extension. Throws DemoError.
Input inspect_input(const std::filesystem::path& path);

enum class ImageFormat { none, png, jpeg, webp, bmp, tiff };
// By content; none if it is no image or cannot be read.
ImageFormat image_format(const std::filesystem::path& file);

// "frame2" before "frame10"; otherwise byte by byte.
bool natural_less(const std::string& a, const std::string& b);

}  // namespace da3::demo
