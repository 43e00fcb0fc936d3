// SPDX-License-Identifier: MIT
#include "engine/network/weights.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <set>
#include <sstream>

#include "engine/api/engine_error.h"

namespace da3 {
namespace {

std::string text_of(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

std::optional<at::ScalarType> scalar_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return at::kFloat;
    case DType::f16:
      return at::kHalf;
    case DType::bf16:
      return at::kBFloat16;
    case DType::f64:
      return at::kDouble;
    default:
      return std::nullopt;
  }
}

// A list with at most `limit` names written out.
void list(std::ostream& out, const char* title, const std::vector<std::string>& names, size_t limit) {
  if (names.empty()) return;
  out << title << " (" << names.size() << "):";
  for (size_t i = 0; i < std::min(limit, names.size()); ++i) out << "\n  " << names[i];
  if (names.size() > limit) out << "\n  ... and " << names.size() - limit << " more";
  out << "\n";
}

// The memory behind scratch(), of the thread that it was made on, as long as it lives.
class ScratchMemory {
 public:
  ScratchMemory() : before_(current_) { current_ = this; }
  ~ScratchMemory() { current_ = before_; }
  ScratchMemory(const ScratchMemory&) = delete;
  ScratchMemory& operator=(const ScratchMemory&) = delete;

  static ScratchMemory* current() { return current_; }
  Tensor take(at::IntArrayRef sizes, at::ScalarType type) {
    Tensor& memory = memory_[type == at::kFloat ? 0 : 1];
    const int64_t count = c10::multiply_integers(sizes);
    if (!memory.defined() || memory.numel() < count) {
      memory.reset();  // never both
      memory = at::empty({count}, at::TensorOptions(type));
    }
    return memory.narrow(0, 0, count).view(sizes);
  }

 private:
  static thread_local ScratchMemory* current_;
  ScratchMemory* const before_;
  std::array<Tensor, 2> memory_;  // float32, bfloat16
};
thread_local ScratchMemory* ScratchMemory::current_ = nullptr;

}  // namespace

CheckpointWeights::CheckpointWeights(std::shared_ptr<const Checkpoint> checkpoint)
    : checkpoint_(std::move(checkpoint)) {
  for (const auto& [published, stored] : published_keys(checkpoint_->tensors()))
    published_[published] = &checkpoint_->tensors().at(stored);
}

const TensorView* CheckpointWeights::find(const std::string& key) const {
  const auto direct = published_.find(key);
  if (direct != published_.end()) return direct->second;
  for (const auto& candidate : shared_norm_candidates(key, checkpoint_->metadata())) {
    const auto shared = published_.find(candidate);
    if (shared != published_.end()) return shared->second;
  }
  return nullptr;
}

void CheckpointWeights::check(const std::vector<KeyShape>& expected) const {
  std::vector<std::string> missing, misshapen, extra, untyped;
  std::set<std::string> known;
  for (const auto& [key, shape] : expected) {
    known.insert(key);
    for (const auto& c : shared_norm_candidates(key, checkpoint_->metadata())) known.insert(c);
    const TensorView* view = find(key);
    if (!view)
      missing.push_back(key + " " + text_of(shape));
    else if (view->shape != shape)
      misshapen.push_back(key + ": is " + text_of(view->shape) + ", must be " + text_of(shape));
    else if (!scalar_type(view->dtype))
      untyped.push_back(key + ": " + name_of(view->dtype));
  }
  for (const auto& [key, view] : published_)
    if (!known.count(key)) extra.push_back(key + " " + text_of(view->shape));
  if (missing.empty() && misshapen.empty() && extra.empty() && untyped.empty()) return;

  std::ostringstream message, detail;
  message << "The weights in '" << checkpoint_->source()
          << "' do not fit the configuration: " << missing.size() << " keys missing, " << extra.size()
          << " extra, " << misshapen.size() << " of another shape";
  if (!untyped.empty()) message << ", " << untyped.size() << " of a type that is no float";
  const auto& first = !missing.empty()     ? missing
                      : !misshapen.empty() ? misshapen
                      : !extra.empty()     ? extra
                                           : untyped;
  message << " (first: " << first.front() << "). Use the config.json and the weights of the same repository.";
  list(detail, "missing", missing, 2000);
  list(detail, "extra", extra, 2000);
  list(detail, "other shape", misshapen, 2000);
  list(detail, "other type", untyped, 2000);
  throw EngineError(DA3_ERROR_WRONG_TYPE, message.str(), detail.str());
}

Tensor CheckpointWeights::take(const std::string& key, const std::vector<int64_t>& shape) {
  const TensorView* view = find(key);
  if (!view || view->shape != shape)
    throw EngineError(DA3_ERROR_WRONG_TYPE, "The weights lack '" + key + "' " + text_of(shape) + ".");
  const auto type = scalar_type(view->dtype);
  if (!type) throw EngineError(DA3_ERROR_WRONG_TYPE, "The weight '" + key + "' is no floating-point tensor.");
  const auto elements = at::elementSize(*type);
  // from_blob never writes: inference treats weights as constants.
  void* data = const_cast<void*>(view->data);
  if (reinterpret_cast<uintptr_t>(data) % elements != 0) {  // legal in the format, unusable as a view
    Tensor copy = at::empty(shape, at::TensorOptions(*type));
    std::copy_n(static_cast<const char*>(view->data), view->bytes, static_cast<char*>(copy.data_ptr()));
    return copy.to(at::kFloat);
  }
  return at::from_blob(data, shape, at::TensorOptions(*type)).to(at::kFloat);
}

Tensor SyntheticWeights::take(const std::string& key, const std::vector<int64_t>& shape) {
  Tensor out = at::empty(shape, at::TensorOptions(at::kFloat));
  synthetic::fill_weight(out.data_ptr<float>(), key, shape, seed_, factors_, threads_);
  return out;
}

void build_each(const WeightSource& source, int64_t count, const std::function<void(int64_t)>& build) {
  const bool inference = c10::InferenceMode::is_enabled();
  std::atomic<int64_t> next{0};
  // Each takes the next part, whatever the others take: parts differ, and so do cores.
  const auto work = [&] {
    ScratchMemory memory;
    try {
      for (int64_t part = next++; part < count; part = next++) build(part);
    } catch (...) {
      next = count;
      throw;
    }
  };
  const int64_t threads = source.concurrent() ? std::min<int64_t>(at::get_num_threads(), count) : 1;
  if (threads < 2 || at::in_parallel_region()) return work();
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    std::optional<c10::InferenceMode> mode;  // LibTorch's other threads do not know of it
    if (inference) mode.emplace();
    work();
  });
}

Tensor scratch(at::IntArrayRef sizes, at::ScalarType type) {
  ScratchMemory* const memory = ScratchMemory::current();
  return memory && (type == at::kFloat || type == at::kBFloat16) ? memory->take(sizes, type)
                                                                 : at::empty(sizes, at::TensorOptions(type));
}

}  // namespace da3
