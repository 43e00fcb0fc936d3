// SPDX-License-Identifier: MIT
//
// A checkpoint: named tensors plus the configuration that belongs to them. No LibTorch.
//
// What may be given as "model":
//   a file           *.safetensors (config.json beside it is read when there), or *.safetensors.index.json
//   a folder         with model.safetensors, or model.safetensors.index.json and its shards; config.json
//   a repository id  owner/name[@revision]: looked up in the local Hugging Face cache ($HF_HUB_CACHE,
//   $HF_HOME/hub,
//                    $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub), newest refs/main snapshot;
//                    never fetched from the network
//   da3-demo         the checkpoint that ships, as does ""; looked for in the folders of $DA3_MODEL_PATH,
//   then
//                    where gst-da3 is installed
//   synthetic:NAME[?seed=N]  any built-in configuration, filled by a formula (synthetic.h)
// A path that exists wins over a repository id; ./da3-demo is a path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/api/engine_error.h"

namespace da3 {

enum class DType { f32, f16, bf16, f64, i64, i32, i16, i8, u8, boolean, f8_e4m3, f8_e5m2 };
size_t size_of(DType dtype);
const char* name_of(DType dtype);

// A tensor in a memory-mapped file: row-major, little-endian, read-only, valid as long as its Checkpoint.
struct TensorView {
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  size_t bytes = 0;
};

// All tensors of one safetensors file or of all shards of an index. Opening maps the files (MAP_PRIVATE,
// PROT_READ) and reads only their headers; the weights stay in the page cache.
class Checkpoint {
 public:
  // Throws EngineError: NOT_FOUND, OPEN_READ, or WRONG_TYPE for what is no safetensors (HTML page, git LFS
  // pointer, pickle, header longer than the file, offsets outside the file or not matching dtype and shape,
  // overlapping or duplicate tensors, shard missing). The message names file, what is wrong and what to do.
  // While somebody holds the checkpoint and its files are as they were, the same one is given out.
  // Thread-safe.
  static std::shared_ptr<Checkpoint> open(const std::string& model);

  ~Checkpoint();
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  // __metadata__ of the file(s), merged.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // The text of config.json, if there is one.
  const std::optional<std::string>& config_json() const { return config_json_; }
  // The file or folder that was opened.
  const std::string& source() const { return source_; }
  // SPDX id if the source is one of the official repositories (by id, folder name or cache path), else "".
  const std::string& licence() const { return licence_; }
  // 16 hexadecimal digits over names, dtypes, shapes and sampled content of all tensors.
  // Computed once. Thread-safe.
  const std::string& hash() const;
  // For when weights have been copied elsewhere: their pages need not count as memory of this process any
  // more. Views stay valid. Thread-safe.
  void forget_pages() const;

 private:
  struct Mapping;
  struct Stamp;
  Checkpoint();
  std::string compute_hash() const;
  std::vector<Stamp> stamps_;  // of all files that were read
  mutable std::once_flag hashed_;
  mutable std::string hash_;
  std::vector<std::shared_ptr<Mapping>> mappings_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
  std::optional<std::string> config_json_;
  std::string source_;
  std::string licence_;

  friend class CheckpointReader;
};

// Renames keys of upstream's training checkpoints to the published ones (utils/model_loading.py), and adds
// the "model." prefix where it is missing. Returns the published name; official names come back unchanged.
std::string published_key(const std::string& key);

// published_key() for all tensors of a checkpoint: published name -> stored name. Training checkpoints hold
// an unused camera token beside the one that took its place ("camera_token_extra"): the latter wins, as
// upstream. Throws EngineError(WRONG_TYPE) when two other tensors claim the same name.
std::map<std::string, std::string> published_keys(const std::map<std::string, TensorView>& tensors);

// The shared LayerNorm of the ray branch: DualDPT's output_conv2_aux.{0..3}.2.{weight,bias} are one module,
// stored once (in official files under level 0). Returns the names under which the pair for `key` may be
// stored, `key` first; empty when `key` is not one of them. Honours `metadata` (alias -> stored name).
std::vector<std::string> shared_norm_candidates(const std::string& key,
                                                const std::map<std::string, std::string>& metadata);

}  // namespace da3
