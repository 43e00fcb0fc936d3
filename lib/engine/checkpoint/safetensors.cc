// SPDX-License-Identifier: MIT
#include "engine/checkpoint/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

static_assert(std::endian::native == std::endian::little, "tensors are used as they lie in the file");

namespace da3 {
namespace {

using nlohmann::json;

struct DTypeInfo {
  DType dtype;
  const char* name;
  size_t bytes;
};
constexpr DTypeInfo kDTypes[] = {
    {DType::f32, "F32", 4},      {DType::f16, "F16", 2},         {DType::bf16, "BF16", 2},
    {DType::f64, "F64", 8},      {DType::i64, "I64", 8},         {DType::i32, "I32", 4},
    {DType::i16, "I16", 2},      {DType::i8, "I8", 1},           {DType::u8, "U8", 1},
    {DType::boolean, "BOOL", 1}, {DType::f8_e4m3, "F8_E4M3", 1}, {DType::f8_e5m2, "F8_E5M2", 1},
};

const DTypeInfo& info_of(DType dtype) {
  for (const DTypeInfo& info : kDTypes)
    if (info.dtype == dtype) return info;
  return kDTypes[0];
}

[[noreturn]] void wrong(const std::string& path, const std::string& what, const std::string& detail = {}) {
  throw EngineError(DA3_ERROR_WRONG_TYPE, path + " " + what, detail);
}

[[noreturn]] void cannot_open(const std::string& path, int error) {
  const std::string reason = std::strerror(error);
  if (error == ENOENT || error == ENOTDIR)
    throw EngineError(DA3_ERROR_NOT_FOUND, path + " does not exist; check the path of the model", reason);
  if (error == EACCES || error == EPERM)
    throw EngineError(DA3_ERROR_OPEN_READ,
                      path + " may not be read by this user (" + reason + "); change its permissions",
                      reason);
  throw EngineError(DA3_ERROR_OPEN_READ, path + " cannot be read: " + reason, reason);
}

std::string bytes_text(uint64_t n) {
  return std::to_string(n) + (n == 1 ? " byte" : " bytes");
}

std::string quoted(const std::string& name) {
  constexpr size_t kLongest = 120;
  return name.size() > kLongest ? "\"" + name.substr(0, kLongest) + "...\"" : "\"" + name + "\"";
}

}  // namespace

size_t size_of(DType dtype) {
  return info_of(dtype).bytes;
}
const char* name_of(DType dtype) {
  return info_of(dtype).name;
}

namespace safetensors {

MappedFile::MappedFile(const std::string& path) {
  struct stat status;
  // Before open(): opening a FIFO would wait for a writer.
  if (stat(path.c_str(), &status) != 0) cannot_open(path, errno);
  if (S_ISDIR(status.st_mode)) wrong(path, "is a folder where a file of weights is expected");
  if (!S_ISREG(status.st_mode))
    wrong(path, "is no regular file (a device, pipe or socket), so it cannot be mapped");
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) cannot_open(path, errno);
  if (fstat(fd, &status) != 0) status.st_size = 0;
  if (status.st_size <= 0) {
    ::close(fd);
    wrong(path, "is empty (0 bytes): a download that failed? Fetch it again");
  }
  size_ = static_cast<size_t>(status.st_size);
  data_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);  // the mapping keeps the file
  if (data_ != MAP_FAILED) return;
  data_ = nullptr;
  throw EngineError(DA3_ERROR_OPEN_READ, path + " (" + bytes_text(size_) +
                                             ") cannot be mapped into memory: " + std::strerror(error));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

void MappedFile::forget_pages() const {
  madvise(data_, size_, MADV_DONTNEED);  // private and never written: nothing is lost
}

void MappedFile::read_ahead(bool on) const {
  madvise(data_, size_, on ? MADV_NORMAL : MADV_RANDOM);
}

namespace {

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kLongestHeader = 100'000'000;  // the format's own limit

// --- what a file that is no safetensors looks like
// -----------------------------------------------------------

struct Magic {
  std::string_view start;
  const char* what;
};
constexpr const char* kPickle =
    "is a PyTorch pickle (.pth, .pt, .bin), which is not read because it can run code; take the model's "
    "*.safetensors file, or convert the state dict with safetensors.torch.save_file()";
constexpr Magic kMagics[] = {
    {"GGUF", "is a GGUF file (llama.cpp and its kin); take the model's *.safetensors file"},
    {"\x89HDF\r\n", "is an HDF5 file; take the model's *.safetensors file"},
    {"\x93NUMPY", "is a NumPy array; take the model's *.safetensors file"},
    {"\x1f\x8b", "is gzip-compressed; unpack it first"},
    {"\x28\xb5\x2f\xfd", "is Zstandard-compressed; unpack it first"},
    {"\xfd"
     "7zXZ",
     "is xz-compressed; unpack it first"},
    {"\x7f"
     "ELF",
     "is a program or library, no weights"},
};

bool is_web_page(std::string_view file) {
  std::string start(file.substr(0, 1024));
  std::transform(start.begin(), start.end(), start.begin(),
                 [](unsigned char c) { return c < 128 ? static_cast<char>(std::tolower(c)) : '?'; });
  const size_t at = start.find_first_not_of(" \t\r\n?");
  if (at == std::string::npos) return false;
  const std::string_view text = std::string_view(start).substr(at);
  return text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml") ||
         text.starts_with("<head") || (text.starts_with("<!--") && text.find("<html") != text.npos);
}

// The first line of a short text ("Entry not found", an access notice), or nothing for binary data.
std::optional<std::string> first_line(std::string_view file) {
  const std::string_view start = file.substr(0, 512);
  const auto is_text = [](unsigned char c) { return c >= 32 || c == '\n' || c == '\r' || c == '\t'; };
  if (start.empty() || !std::all_of(start.begin(), start.end(), is_text)) return std::nullopt;
  std::string line(start.substr(0, std::min(start.find_first_of("\r\n"), size_t{100})));
  // The message goes where UTF-8 is expected; cutting may have split a character.
  for (char& c : line)
    if (static_cast<unsigned char>(c) >= 127) c = '?';
  return line;
}

// Says what `file` is when it is known to be something else than `wanted`; returns otherwise.
void refuse_other_kinds(std::string_view file, const std::string& path, const std::string& wanted) {
  if (file.starts_with("version https://git-lfs")) {
    std::string size;
    if (const size_t at = file.find("\nsize "); at != file.npos)
      size =
          " (" + std::string(file.substr(at + 6, file.find('\n', at + 6) - at - 6).substr(0, 20)) + " bytes)";
    wrong(path, "is a Git LFS pointer of " + bytes_text(file.size()) + ", not " + wanted + size +
                    "; run \"git lfs pull\" in its folder, or fetch the model with \"hf download\"");
  }
  if (is_web_page(file))
    wrong(path, "is a web page (HTML), not " + wanted +
                    "; a browser's \"view\" link was saved: fetch the file by its "
                    "\"download\" link or with \"hf download\"");
  const bool zip = file.starts_with("PK\x03\x04") || file.starts_with("PK\x05\x06");
  if (zip && file.substr(0, 1024).find(".npy") != file.npos)
    wrong(path, "is a NumPy archive (.npz); take the model's *.safetensors file");
  const bool pickle = file.size() > 2 && file[0] == '\x80' && file[1] >= 2 && file[1] <= 5;
  if (zip || pickle) wrong(path, kPickle);
  for (const Magic& magic : kMagics)
    if (file.starts_with(magic.start)) wrong(path, magic.what);
  if (const auto line = first_line(file)) {
    const char* hint = line->starts_with("{") ? "JSON text" : "text";
    wrong(path, std::string("is ") + hint + ", not " + wanted + "; it begins with: " + *line);
  }
}

void refuse_non_json(std::string_view text, const std::string& path, const std::string& wanted) {
  const size_t at = text.find_first_not_of(" \t\r\n");
  if (at == text.npos) wrong(path, "is blank, not " + wanted + "; fetch it again");
  if (text[at] != '{') refuse_other_kinds(text, path, wanted);
}

// --- header
// --------------------------------------------------------------------------------------------------

// Where the JSON lies; throws when the file cannot be safetensors.
std::string_view header_text(std::string_view file, const std::string& path) {
  uint64_t length = 0;
  if (file.size() > kLengthBytes) std::memcpy(&length, file.data(), kLengthBytes);
  const bool braces = file.size() > kLengthBytes && file[kLengthBytes] == '{' && length >= 2;
  if (braces && length <= std::min<uint64_t>(file.size() - kLengthBytes, kLongestHeader))
    return file.substr(kLengthBytes, length);

  refuse_other_kinds(file, path, "weights");
  if (file.size() <= kLengthBytes)
    wrong(path, "has only " + bytes_text(file.size()) +
                    ", too few for a safetensors file: truncated? Fetch it again");
  if (braces && length <= kLongestHeader)
    wrong(path, "is truncated: its header alone is " + bytes_text(length) + " long, the file has " +
                    bytes_text(file.size()) + " (header length over file size); fetch it again");
  wrong(path, "is no safetensors file: the header length in its first 8 bytes is " + std::to_string(length) +
                  (length > file.size() - kLengthBytes ? ", more than the file's " + bytes_text(file.size())
                                                       : ", and no JSON header follows"));
}

// Parses JSON; refuses what nlohmann would let pass: a key that occurs twice in an object, and deep nesting.
json parse_json(std::string_view text, const std::string& path, const std::string& part, int deepest) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > deepest) wrong(path, "has a " + part + " that is nested too deeply");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      const std::string key = value.get<std::string>();
      if (!keys.back().insert(key).second)
        wrong(path, "names " + quoted(key) + " twice in its " + part +
                        "; it is damaged or was not written properly");
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), watch);
  } catch (const json::exception& e) {
    wrong(path, "has a damaged " + part + ": it is not JSON; fetch the file again", e.what());
  }
}

std::map<std::string, std::string> string_map(const json& object, const std::string& path,
                                              const std::string& part) {
  if (!object.is_object()) wrong(path, "has a " + part + " that is no JSON object");
  std::map<std::string, std::string> result;
  for (const auto& [key, value] : object.items()) {
    if (!value.is_string()) wrong(path, "has a " + part + " with a value that is no text, at " + quoted(key));
    result.emplace(key, value.get<std::string>());
  }
  return result;
}

// A whole number >= 0 that fits int64.
std::optional<uint64_t> whole(const json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (!value.is_number_unsigned() && value.get<int64_t>() < 0) return std::nullopt;
  const uint64_t n = value.get<uint64_t>();
  if (n > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return n;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

struct Span {
  uint64_t begin, end;
  const std::string* name;
};

// One entry of the header, without regard to the file: dtype, shape and offsets must agree.
TensorView parse_entry(const std::string& name, const json& entry, const std::string& path, Span* span) {
  const auto bad = [&](const std::string& what) {
    wrong(path, "is damaged: tensor " + quoted(name) + " " + what);
  };
  if (!entry.is_object()) bad("has no description");
  const auto dtype = entry.find("dtype"), shape = entry.find("shape"), offsets = entry.find("data_offsets");
  if (dtype == entry.end() || !dtype->is_string()) bad("has no dtype");
  if (shape == entry.end() || !shape->is_array()) bad("has no shape");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2)
    bad("has no data_offsets [begin, end]");

  TensorView view;
  const std::string dtype_name = dtype->get<std::string>();
  const auto known = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                  [&](const DTypeInfo& info) { return dtype_name == info.name; });
  if (known == std::end(kDTypes))
    wrong(path, "holds tensor " + quoted(name) + " of dtype " + quoted(dtype_name) +
                    ", which is not supported; save the model as F32, F16 or BF16");
  view.dtype = known->dtype;
  uint64_t bytes = known->bytes;
  bool overflow = false;
  for (const json& side : *shape) {
    const auto n = whole(side);
    if (!n) bad("has a shape with something else than whole numbers >= 0");
    view.shape.push_back(static_cast<int64_t>(*n));
    overflow |= __builtin_mul_overflow(bytes, *n, &bytes);
  }
  const auto begin = whole((*offsets)[0]), end = whole((*offsets)[1]);
  if (!begin || !end || *begin > *end) bad("has offsets that are no range of bytes");
  if (overflow || bytes != *end - *begin)
    bad("of dtype " + dtype_name + " and shape " + shape_text(view.shape) + " needs " +
        (overflow ? std::string("more bytes than there can be") : bytes_text(bytes)) + ", its offsets give " +
        bytes_text(*end - *begin));
  view.bytes = static_cast<size_t>(bytes);
  *span = {*begin, *end, &name};
  return view;
}

// Tensors must fill the data from its first to its last byte, without overlap.
void check_layout(std::vector<Span> spans, uint64_t data_begin, uint64_t file_size, const std::string& path) {
  const uint64_t data_size = file_size - data_begin;
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  const Span* previous = nullptr;
  uint64_t end = 0;
  for (const Span& span : spans) {
    if (span.begin < end)
      wrong(path,
            "is damaged: tensors " + quoted(*previous->name) + " and " + quoted(*span.name) + " overlap");
    if (span.begin > end && span.end > data_size)
      wrong(path, "is damaged: tensor " + quoted(*span.name) + " lies outside the file (bytes " +
                      std::to_string(span.begin) + " to " + std::to_string(span.end) + " of " +
                      bytes_text(data_size) + " of data)");
    if (span.begin > end)
      wrong(path, "is damaged: " + bytes_text(span.begin - end) + " before tensor " + quoted(*span.name) +
                      " belong to no tensor");
    end = span.end;
    previous = &span;
  }
  if (end > data_size)
    wrong(path, "is truncated: its header describes a file of " + bytes_text(data_begin + end) + ", it has " +
                    bytes_text(file_size) + " (" + bytes_text(end - data_size) +
                    " are missing); fetch it again");
  if (end < data_size)
    wrong(path, "is damaged: it has " + bytes_text(file_size) + ", its header describes a file of " +
                    bytes_text(data_begin + end) + "; fetch it again");
}

}  // namespace

Header parse(std::string_view file, const std::string& path) {
  const std::string_view text = header_text(file, path);
  const json object = parse_json(text, path, "header", 4);
  if (!object.is_object()) wrong(path, "has a damaged header: it is no JSON object");

  Header header;
  std::vector<Span> spans;
  const uint64_t data_begin = kLengthBytes + text.size();
  for (const auto& [name, entry] : object.items()) {
    if (name == "__metadata__") {
      header.metadata = string_map(entry, path, "__metadata__");
      continue;
    }
    const auto it = header.tensors.emplace(name, TensorView()).first;
    Span span;
    it->second = parse_entry(it->first, entry, path, &span);
    spans.push_back(span);
  }
  if (spans.empty()) wrong(path, "holds no tensors");
  check_layout(spans, data_begin, file.size(), path);
  for (const Span& span : spans) header.tensors.at(*span.name).data = file.data() + data_begin + span.begin;
  return header;
}

std::map<std::string, std::string> parse_index(std::string_view text, const std::string& path) {
  refuse_non_json(text, path, "an index of shards");
  const json object = parse_json(text, path, "index", 64);
  const auto map = object.is_object() ? object.find("weight_map") : object.end();
  if (map == object.end()) wrong(path, "is no index of shards: it has no \"weight_map\"");
  auto result = string_map(*map, path, "weight_map");
  if (result.empty()) wrong(path, "is an index of shards that lists no tensors");
  for (const auto& [name, shard] : result)
    if (shard.empty() || shard == "." || shard == ".." ||
        shard.find_first_of(std::string_view("/\\\0", 3)) != shard.npos)
      wrong(path, "names " + quoted(shard) + " as shard of tensor " + quoted(name) +
                      "; a shard must be a file in the same folder");
  return result;
}

void require_json(std::string_view text, const std::string& path) {
  refuse_non_json(text, path, "a configuration");
  parse_json(text, path, "content", 64);
}

}  // namespace safetensors
}  // namespace da3
