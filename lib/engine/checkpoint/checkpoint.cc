// SPDX-License-Identifier: MIT
#include "engine/checkpoint/checkpoint.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <utility>

#include "engine/checkpoint/locate.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/checkpoint/synthetic.h"

namespace da3 {

// Tells whether a file is still the one that was read.
struct Checkpoint::Stamp {
  explicit Stamp(std::string file) : path(std::move(file)) {
    struct stat s {};
    if (::stat(path.c_str(), &s) != 0) return;
    device = uint64_t(s.st_dev);
    inode = uint64_t(s.st_ino);
    size = int64_t(s.st_size);
#if defined(__APPLE__)
    changed = int64_t(s.st_mtimespec.tv_sec) * 1'000'000'000 + s.st_mtimespec.tv_nsec;
#else
    changed = int64_t(s.st_mtim.tv_sec) * 1'000'000'000 + s.st_mtim.tv_nsec;
#endif
  }
  bool is_current() const {
    return size >= 0 && *this == Stamp(path);
  }
  bool operator==(const Stamp&) const = default;

  std::string path;
  uint64_t device = 0, inode = 0;
  int64_t size = -1, changed = 0;
};

struct Checkpoint::Mapping {
  explicit Mapping(const std::string& path) : file(path) {}
  safetensors::MappedFile file;
};

// Builds a Checkpoint from what locate() found.
class CheckpointReader {
 public:
  static std::shared_ptr<Checkpoint> read(const Location& location) {
    std::shared_ptr<Checkpoint> checkpoint(new Checkpoint);
    CheckpointReader reader(*checkpoint);
    checkpoint->source_ = location.source;
    checkpoint->licence_ = location.licence;
    if (location.weights.ends_with(".index.json")) {
      reader.read_shards(location.weights);
    } else {
      reader.read_file(location.weights);
    }
    if (!location.config.empty()) reader.read_config(location.config);
    return checkpoint;
  }

 private:
  explicit CheckpointReader(Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  void read_file(const std::string& path) {
    checkpoint_.stamps_.emplace_back(path);
    auto mapping = std::make_shared<Checkpoint::Mapping>(path);
    safetensors::Header header = safetensors::parse(mapping->file.bytes(), path);
    for (auto& [name, view] : header.tensors) {
      const auto [it, added] = file_of_.emplace(name, path);
      if (!added)
        throw EngineError(DA3_ERROR_WRONG_TYPE, "The tensor " + name + " is stored twice, in " + it->second +
                                                    " and in " + path + "; fetch the model again");
      checkpoint_.tensors_.emplace(name, std::move(view));
    }
    checkpoint_.metadata_.merge(header.metadata);
    checkpoint_.mappings_.push_back(std::move(mapping));
  }

  void read_shards(const std::string& index) {
    std::map<std::string, std::string> shard_of;
    checkpoint_.stamps_.emplace_back(index);
    {
      const safetensors::MappedFile file(index);
      shard_of = safetensors::parse_index(file.bytes(), index);
    }
    const std::filesystem::path folder = std::filesystem::path(index).parent_path();
    std::map<std::string, std::string> shards;  // name -> path, in the order of names
    for (const auto& entry : shard_of) shards.emplace(entry.second, (folder / entry.second).string());
    require_shards(shards, index);
    for (const auto& shard : shards) read_file(shard.second);
    for (const auto& [tensor, shard] : shard_of) {
      const auto it = file_of_.find(tensor);
      if (it == file_of_.end() || it->second != shards.at(shard))
        throw EngineError(DA3_ERROR_WRONG_TYPE,
                          index + " says that tensor " + tensor + " is in " + shard + ", but it is " +
                              (it == file_of_.end() ? "in no shard" : "in " + it->second) +
                              "; index and shards belong to different models: fetch them again");
    }
  }

  // All that is missing in one message.
  static void require_shards(const std::map<std::string, std::string>& shards, const std::string& index) {
    std::string missing;
    size_t count = 0;
    for (const auto& [name, path] : shards) {
      std::error_code error;
      if (std::filesystem::exists(path, error)) continue;
      if (++count <= 5) missing += (count > 1 ? ", " : "") + name;
    }
    if (count > 5) missing += " and " + std::to_string(count - 5) + " more";
    if (count > 0)
      throw EngineError(DA3_ERROR_WRONG_TYPE, index + " lists " + std::to_string(shards.size()) +
                                                  " shards, " + std::to_string(count) +
                                                  " of them missing in its folder: " + missing +
                                                  "; fetch the rest of the model");
  }

  void read_config(const std::string& path) {
    checkpoint_.stamps_.emplace_back(path);
    const safetensors::MappedFile file(path);
    safetensors::require_json(file.bytes(), path);
    checkpoint_.config_json_ = std::string(file.bytes());
  }

  Checkpoint& checkpoint_;
  std::map<std::string, std::string> file_of_;  // tensor -> path
};

std::shared_ptr<Checkpoint> Checkpoint::open(const std::string& model) {
  static std::mutex lock;
  static std::map<std::string, std::weak_ptr<Checkpoint>> open_ones;
  const Location location = locate(model);
  const std::string key =
      location.weights + "\n" + location.config + "\n" + location.source + "\n" + location.licence;
  {
    const std::lock_guard<std::mutex> guard(lock);
    const auto found = open_ones.find(key);
    const auto checkpoint = found == open_ones.end() ? nullptr : found->second.lock();
    if (checkpoint && std::all_of(checkpoint->stamps_.begin(), checkpoint->stamps_.end(),
                                  [](const Stamp& stamp) { return stamp.is_current(); }))
      return checkpoint;
  }
  auto checkpoint = CheckpointReader::read(location);
  const std::lock_guard<std::mutex> guard(lock);
  std::erase_if(open_ones, [](const auto& entry) { return entry.second.expired(); });
  open_ones[key] = checkpoint;
  return checkpoint;
}

Checkpoint::Checkpoint() = default;
Checkpoint::~Checkpoint() = default;

namespace {

// Order matters, lengths go in front of variable parts: different contents cannot give the same sequence.
class Hasher {
 public:
  void add(uint64_t value) { state_ = synthetic::splitmix64(state_ ^ value); }
  void add(std::string_view bytes) {
    add(bytes.size());
    for (size_t at = 0; at < bytes.size(); at += 8) {
      uint64_t word = 0;
      bytes.copy(reinterpret_cast<char*>(&word), std::min<size_t>(8, bytes.size() - at), at);
      add(word);
    }
  }
  std::string text() const {
    std::array<char, 17> digits{};
    std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(state_));
    return digits.data();
  }

 private:
  uint64_t state_ = 0x64613363686b7074ull;
};

}  // namespace

void Checkpoint::forget_pages() const {
  for (const auto& mapping : mappings_) mapping->file.forget_pages();
}

const std::string& Checkpoint::hash() const {
  std::call_once(hashed_, [this] { hash_ = compute_hash(); });
  return hash_;
}

std::string Checkpoint::compute_hash() const {
  constexpr size_t kSample = 256;  // bytes from the begin, the middle and the end of a tensor
  for (const auto& mapping : mappings_) mapping->file.read_ahead(false);
  Hasher hasher;
  hasher.add(tensors_.size());
  for (const auto& [name, view] : tensors_) {
    hasher.add(name);
    hasher.add(std::string_view(name_of(view.dtype)));
    hasher.add(view.shape.size());
    for (const int64_t side : view.shape) hasher.add(static_cast<uint64_t>(side));
    const std::string_view bytes(static_cast<const char*>(view.data), view.bytes);
    if (bytes.size() <= 3 * kSample) {
      hasher.add(bytes);
      continue;
    }
    hasher.add(bytes.substr(0, kSample));
    hasher.add(bytes.substr(bytes.size() / 2 - kSample / 2, kSample));
    hasher.add(bytes.substr(bytes.size() - kSample));
  }
  for (const auto& mapping : mappings_) mapping->file.read_ahead(true);
  return hasher.text();
}

}  // namespace da3
