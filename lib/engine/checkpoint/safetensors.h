// SPDX-License-Identifier: MIT
//
// Inside of the checkpoint room: a mapped file and the header of the safetensors format. Not for other rooms.
//
//   8 bytes   length n of the header, little-endian
//   n bytes   JSON: name -> {"dtype", "shape", "data_offsets": [begin, end)}, "__metadata__": string ->
//   string the rest  tensor data, row-major, little-endian, without gaps; offsets count from here
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/checkpoint/checkpoint.h"

namespace da3::safetensors {

// A regular file mapped MAP_PRIVATE and PROT_READ. Never empty.
class MappedFile {
 public:
  // Throws EngineError: NOT_FOUND, OPEN_READ, WRONG_TYPE (no regular file, empty).
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }
  // Whether pages around a touched one will be wanted too (the default) or not.
  void read_ahead(bool on) const;
  // Takes the pages out of this process's memory; the next touch brings them back from the page cache.
  void forget_pages() const;

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

struct Header {
  std::map<std::string, TensorView> tensors;  // data points into the bytes that were parsed
  std::map<std::string, std::string> metadata;
};

// Checks everything that the header says against the file. Throws EngineError(WRONG_TYPE); `path` is for the
// message.
Header parse(std::string_view file, const std::string& path);

// *.safetensors.index.json: tensor name -> name of the shard, a file in the same folder.
std::map<std::string, std::string> parse_index(std::string_view text, const std::string& path);

// Throws EngineError(WRONG_TYPE) when `text` is no JSON; `path` is for the message.
void require_json(std::string_view text, const std::string& path);

}  // namespace da3::safetensors
