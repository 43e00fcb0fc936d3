// SPDX-License-Identifier: MIT
#include "input.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

namespace fs = std::filesystem;

namespace da3::demo {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool has_image_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = char(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  static constexpr std::array known = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"};
  return std::any_of(known.begin(), known.end(), [&](const char* one) { return extension == one; });
}

std::string quoted(const fs::path& path) {
  return "\"" + path.string() + "\"";
}

std::vector<fs::path> images_of(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(".") && has_image_extension(name) && !it->is_directory())
      files.push_back(it->path());
  }
  if (error) throw DemoError("Cannot read the folder " + quoted(folder) + ": " + error.message() + ".");
  std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
    return natural_less(a.filename().string(), b.filename().string());
  });
  return files;
}

}  // namespace

ImageFormat image_format(const fs::path& path) {
  using namespace std::string_view_literals;
  std::ifstream file(path, std::ios::binary);
  char bytes[12] = {};
  file.read(bytes, sizeof bytes);
  const std::string_view head(bytes, std::size_t(file.gcount()));
  if (head.starts_with("\x89PNG\r\n\x1a\n"sv)) return ImageFormat::png;
  if (head.starts_with("\xff\xd8\xff"sv)) return ImageFormat::jpeg;
  if (head.starts_with("RIFF"sv) && head.ends_with("WEBP"sv)) return ImageFormat::webp;
  if (head.starts_with("BM"sv)) return ImageFormat::bmp;
  if (head.starts_with("II*\0"sv) || head.starts_with("MM\0*"sv)) return ImageFormat::tiff;
  return ImageFormat::none;
}

bool natural_less(const std::string& a, const std::string& b) {
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (!is_digit(a[i]) || !is_digit(b[j])) {
      if (a[i] != b[j]) return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
      ++i;
      ++j;
      continue;
    }
    const auto number = [](const std::string& text, std::size_t& at) {
      while (at + 1 < text.size() && text[at] == '0' && is_digit(text[at + 1])) ++at;
      const std::size_t start = at;
      while (at < text.size() && is_digit(text[at])) ++at;
      return std::string_view(text).substr(start, at - start);
    };
    const std::string_view m = number(a, i), n = number(b, j);
    if (m.size() != n.size()) return m.size() < n.size();
    if (m != n) return m < n;
  }
  if (i < a.size() || j < b.size()) return j < b.size();
  return a < b;  // equal but for leading zeros
}

Input inspect_input(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found)
    throw DemoError("The input " + quoted(path) + " does not exist.");
  if (error) throw DemoError("Cannot read the input " + quoted(path) + ": " + error.message() + ".");
  if (fs::is_directory(status)) {
    std::vector<fs::path> files = images_of(path);
    if (files.empty()) {
      throw DemoError("The folder " + quoted(path) +
                      " holds no images (png, jpg, jpeg, webp, bmp, tif, tiff).");
    }
    return {Input::Kind::images, std::move(files)};
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DemoError("Cannot open the input " + quoted(path) + ": " + std::strerror(errno) + ".");
  if (file.peek() == std::ifstream::traits_type::eof())
    throw DemoError("The input " + quoted(path) + " is empty.");
  const bool image = image_format(path) != ImageFormat::none;
  return {image ? Input::Kind::images : Input::Kind::video, {path}};
}

}  // namespace da3::demo
