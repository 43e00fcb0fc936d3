// SPDX-License-Identifier: MIT
//
// How a network gets its parameters. A network asks for each parameter by its checkpoint key and shape while
// it is built; who answers decides what happens: list the keys, map a checkpoint, or compute synthetic
// values.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/synthetic.h"

namespace da3 {

using at::Tensor;

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // float32 on the CPU, or an undefined tensor when only names are of interest.
  virtual Tensor take(const std::string& key, const std::vector<int64_t>& shape) = 0;
  // A parameter that belongs to the checkpoint and is never computed with.
  virtual void declare(const std::string& key, const std::vector<int64_t>& shape) = 0;
  // A source with the same answers that may be asked later, from any thread, one at a time; null when
  // everything must be asked at once.
  virtual std::shared_ptr<WeightSource> keep() const { return nullptr; }
  // Whether several threads may ask at the same time.
  virtual bool concurrent() const { return false; }
};

struct KeyShape {
  std::string key;
  std::vector<int64_t> shape;
};

// Lists what a network needs.
class KeyList : public WeightSource {
 public:
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override {
    keys.push_back({key, shape});
    return {};
  }
  void declare(const std::string& key, const std::vector<int64_t>& shape) override {
    keys.push_back({key, shape});
  }
  std::vector<KeyShape> keys;
};

// float32 tensors are views into the mapped file (the caller keeps the checkpoint alive as long as the
// network); other dtypes are converted.
class CheckpointWeights : public WeightSource {
 public:
  explicit CheckpointWeights(std::shared_ptr<const Checkpoint> checkpoint);
  // Compares with all keys a network needs. Throws one EngineError(WRONG_TYPE) that lists missing, extra and
  // misshapen keys.
  void check(const std::vector<KeyShape>& expected) const;
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override;
  void declare(const std::string&, const std::vector<int64_t>&) override {}
  std::shared_ptr<WeightSource> keep() const override { return std::make_shared<CheckpointWeights>(*this); }
  bool concurrent() const override { return true; }

 private:
  const TensorView* find(const std::string& key) const;
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::map<std::string, const TensorView*> published_;  // by published key
};

class SyntheticWeights : public WeightSource {
 public:
  explicit SyntheticWeights(uint64_t seed, std::vector<synthetic::ValueFactor> factors = {},
                            unsigned threads = 0)
      : seed_(seed), factors_(std::move(factors)), threads_(threads) {}
  Tensor take(const std::string& key, const std::vector<int64_t>& shape) override;
  void declare(const std::string&, const std::vector<int64_t>&) override {}
  std::shared_ptr<WeightSource> keep() const override { return std::make_shared<SyntheticWeights>(*this); }

 private:
  uint64_t seed_;
  std::vector<synthetic::ValueFactor> factors_;
  unsigned threads_;
};

// Where parameters of one part of the network live.
struct Placement {
  at::Device device = at::kCPU;
  at::ScalarType compute = at::kFloat;  // of linear layers, convolutions and attention in the backbone
  bool int8 = false;    // linear layers of the backbone in 8 bits (CPU), the rest in `compute`
  bool fp8 = false;     // the same in 8-bit floats (fp8_layer.h); `compute` is bfloat16 or float16
  bool prepack = true;  // lay weights out for the CPU's kernels: faster, and a second copy of the weights
  Da3Attention attention = DA3_ATTENTION_AUTO;
};

// A source plus the key prefix of a module.
class Scope {
 public:
  Scope(WeightSource& source, std::string prefix, Placement placement)
      : source_(&source), prefix_(std::move(prefix)), placement_(placement) {}
  Scope operator/(const std::string& name) const { return Scope(*source_, prefix_ + name + ".", placement_); }
  Scope operator/(int index) const { return *this / std::to_string(index); }
  // The same part computed in float32 (cameras). The back end of attention was chosen for the type of the
  // backbone: some take half precision only.
  Scope in_float() const {
    Placement p = placement_;
    p.compute = at::kFloat;
    p.int8 = p.fp8 = false;
    if (p.attention != DA3_ATTENTION_PLAIN) p.attention = DA3_ATTENTION_AUTO;
    return Scope(*source_, prefix_, p);
  }

  // The same part without 8-bit layers.
  Scope without_8_bits() const {
    Placement p = placement_;
    p.int8 = p.fp8 = false;
    return Scope(*source_, prefix_, p);
  }
  // The same part with convolutions (heads).
  Scope for_head() const { return without_8_bits(); }

  // The same part out of another source.
  Scope out_of(WeightSource& source) const { return Scope(source, prefix_, placement_); }
  WeightSource& source() const { return *source_; }

  // On the part's device; float32.
  Tensor take(const std::string& name, const std::vector<int64_t>& shape) const {
    return place(source_->take(prefix_ + name, shape), at::kFloat);
  }
  // On the part's device; in its compute type.
  Tensor take_compute(const std::string& name, const std::vector<int64_t>& shape) const {
    return place(source_->take(prefix_ + name, shape), placement_.compute);
  }
  void declare(const std::string& name, const std::vector<int64_t>& shape) const {
    source_->declare(prefix_ + name, shape);
  }
  const Placement& placement() const { return placement_; }

 private:
  Tensor place(Tensor t, at::ScalarType dtype) const {
    return t.defined() ? t.to(placement_.device, dtype) : t;
  }
  WeightSource* source_;
  std::string prefix_;
  Placement placement_;
};

// Calls build(0) to build(count - 1), which make parts of a network out of `source`: each once, in this
// order, or several at a time on LibTorch's threads where the source allows it. LibTorch computes within a
// part on its thread alone then. What a part throws is thrown here, once those that have begun are done; no
// other one begins.
void build_each(const WeightSource& source, int64_t count, const std::function<void(int64_t part)>& build);

// A tensor of float32 or bfloat16 on the CPU for values on their way into a layout. Within build_each() it
// lies in memory that the next one of its type on this thread takes again: the system clears what it hands
// out anew, which costs as much as the layout. Else in memory of its own.
Tensor scratch(at::IntArrayRef sizes, at::ScalarType type);

}  // namespace da3
