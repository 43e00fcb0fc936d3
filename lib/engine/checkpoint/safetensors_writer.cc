// SPDX-License-Identifier: MIT
#include "engine/checkpoint/safetensors_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <vector>

namespace da3 {
namespace {

// The names of the format.
const char* format_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f16:
      return "F16";
    case DType::bf16:
      return "BF16";
    case DType::f64:
      return "F64";
    case DType::i64:
      return "I64";
    case DType::i32:
      return "I32";
    case DType::i16:
      return "I16";
    case DType::i8:
      return "I8";
    case DType::u8:
      return "U8";
    case DType::boolean:
      return "BOOL";
    case DType::f8_e4m3:
      return "F8_E4M3";
    case DType::f8_e5m2:
      return "F8_E5M2";
  }
  throw std::invalid_argument("A tensor has a type that safetensors cannot hold.");
}

struct Closer {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

[[noreturn]] void fail(const std::string& path) {
  const std::string reason = std::strerror(errno);
  throw std::runtime_error("'" + path + "' cannot be written: " + reason + ".");
}

}  // namespace

void write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<std::pair<std::string, TensorView>> order(tensors.begin(), tensors.end());
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return size_of(a.second.dtype) > size_of(b.second.dtype);
  });
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t offset = 0;
  for (const auto& [name, view] : order) {
    size_t bytes = size_of(view.dtype);
    for (const int64_t n : view.shape) bytes *= size_t(n);
    if (bytes != view.bytes || (bytes > 0 && !view.data))
      throw std::invalid_argument("The data of tensor '" + name + "' do not fit its shape.");
    header[name] = {{"dtype", format_name(view.dtype)},
                    {"shape", view.shape},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data begin on a multiple of 8

  const std::string part = path + ".part";
  {
    const std::unique_ptr<std::FILE, Closer> file(std::fopen(part.c_str(), "wb"));
    if (!file) fail(part);
    unsigned char length[8];
    for (int i = 0; i < 8; ++i) length[i] = uint8_t(uint64_t(text.size()) >> (8 * i));
    bool good = std::fwrite(length, 1, 8, file.get()) == 8 &&
                std::fwrite(text.data(), 1, text.size(), file.get()) == text.size();
    for (const auto& [name, view] : order)
      good = good && std::fwrite(view.data, 1, view.bytes, file.get()) == view.bytes;
    good = good && std::fflush(file.get()) == 0 && fsync(fileno(file.get())) == 0;
    if (!good) {
      const int reason = errno;
      std::remove(part.c_str());
      errno = reason;
      fail(part);
    }
  }
  if (std::rename(part.c_str(), path.c_str()) != 0) fail(path);
}

}  // namespace da3
