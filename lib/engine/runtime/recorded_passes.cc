// SPDX-License-Identifier: MIT
#include "engine/runtime/recorded_passes.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "engine/network/shape_caches.h"

namespace da3 {
namespace {

// Passes of a shape before it is recorded: they fill caches and workspaces, and rare shapes are not worth it.
constexpr int kWarm = 2;
constexpr size_t kMostKeys = 256;
// Between two runs of the same products in another order; wrong memory differs by as much as the values.
constexpr double kLargestDifference = 0.01;

std::vector<Tensor*> tensors_of(NetworkOutput& out) {
  std::vector<Tensor*> all = {&out.depth,          &out.confidence,    &out.sky,          &out.ray,
                              &out.ray_confidence, &out.pose_encoding, &out.metric_depth, &out.metric_sky};
  std::erase_if(all, [](const Tensor* t) { return !t->defined(); });
  return all;
}

// The output of a recording is overwritten when it is done again.
NetworkOutput copy_of(const NetworkOutput& output) {
  NetworkOutput out = output;
  for (Tensor* t : tensors_of(out)) *t = t->clone();
  return out;
}

bool same(const Tensor& a, const Tensor& b) {
  if (a.sizes() != b.sizes()) return false;
  // Values that are no numbers in both do not tell; in one of them they do.
  if (!a.isfinite().equal(b.isfinite())) return false;
  const Tensor x = a.to(at::kFloat).nan_to_num(0, 0, 0), y = b.to(at::kFloat).nan_to_num(0, 0, 0);
  const double difference = (x - y).abs().sum(at::kDouble).item<double>();
  return difference <= kLargestDifference * y.abs().sum(at::kDouble).item<double>();
}

bool same(NetworkOutput& a, NetworkOutput& b) {
  const std::vector<Tensor*> x = tensors_of(a), y = tensors_of(b);
  if (x.size() != y.size()) return false;
  for (size_t i = 0; i < x.size(); ++i)
    if (!same(*x[i], *y[i])) return false;
  return true;
}

// Another picture of the same kind: a recording that does not read its input gives the same for both.
Tensor another(const Tensor& input) {
  return input.scalar_type() == at::kByte ? input.bitwise_not() : input.neg();
}

bool is_out_of_memory(const std::string& text) {
  return text.find("out of memory") != std::string::npos;
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

}  // namespace

RecordedPasses::RecordedPasses(Recorder record, size_t most) : record_(std::move(record)), most_(most) {}

RecordedPasses::~RecordedPasses() = default;

bool RecordedPasses::clear() {
  const bool any = size() > 0;
  passes_.clear();
  return any;
}

size_t RecordedPasses::size() const {
  return size_t(std::count_if(passes_.begin(), passes_.end(),
                              [](const auto& entry) { return entry.second.recording != nullptr; }));
}

void RecordedPasses::drop_oldest(bool recorded) {
  auto oldest = passes_.end();
  for (auto it = passes_.begin(); it != passes_.end(); ++it)
    if ((!recorded || it->second.recording) &&
        (oldest == passes_.end() || it->second.used < oldest->second.used))
      oldest = it;
  if (oldest != passes_.end()) passes_.erase(oldest);
}

RecordedPasses::Pass& RecordedPasses::find(const Key& key) {
  if (!passes_.count(key) && passes_.size() >= kMostKeys) drop_oldest(false);
  Pass& pass = passes_[key];
  pass.used = ++uses_;
  return pass;
}

void RecordedPasses::refuse(Pass& pass, const std::string& why) {
  const uint64_t used = pass.used;
  pass = {};
  pass.refused = true;
  pass.used = used;
  if (!std::exchange(told_, true)) remark_ = why;
}

NetworkOutput RecordedPasses::replay(Pass& pass, const Tensor& input) {
  pass.input.copy_(input);
  pass.recording->replay();
  return copy_of(pass.output);
}

// False: it cannot be used.
bool RecordedPasses::record(Pass& pass, const Tensor& input, const Compute& compute) {
  if (size() >= most_) drop_oldest(true);
  try {
    pass.input = input.clone();
    pass.recording = record_([&] { pass.output = compute(pass.input); });
  } catch (const std::exception& e) {
    refuse(pass, "a pass cannot be recorded: " + first_line(e.what()));
    // What is short for this one may do for smaller ones; anything else goes wrong again.
    gave_up_ = !is_out_of_memory(e.what());
    return false;
  }
  bool proven = false;
  try {
    proven = proves(pass, another(input), compute) && proves(pass, input, compute);
  } catch (...) {
    pass = {};
    throw;
  }
  if (!proven) refuse(pass, "a recorded pass differs from the pass itself");
  return proven;
}

bool RecordedPasses::proves(Pass& pass, const Tensor& input, const Compute& compute) {
  NetworkOutput found = replay(pass, input), expected = compute(input);
  return same(found, expected);
}

bool RecordedPasses::settled(const Key& key) const {
  if (!record_) return true;
  if (key.empty()) return false;
  const auto found = passes_.find(key);
  if (found == passes_.end()) return false;
  const Pass& pass = found->second;
  return pass.recording || pass.refused || (gave_up_ && pass.seen >= kWarm);
}

NetworkOutput RecordedPasses::run(const Key& key, const Tensor& input, const Compute& compute,
                                  bool have_time) {
  replayed_ = proving_ = false;
  if (!record_ || key.empty()) return compute(input);
  // Recordings read embeddings and tables that networks keep.
  if (std::exchange(caches_, dropped_shape_caches()) != dropped_shape_caches()) passes_.clear();
  Pass& pass = find(key);
  if (!pass.recording) {
    const bool warm = pass.seen >= kWarm;
    if (!warm) ++pass.seen;
    if (!warm || pass.refused || gave_up_ || !have_time) return compute(input);
    proving_ = true;
    if (!record(pass, input, compute)) return compute(input);
  }
  replayed_ = !proving_;
  return replay(pass, input);
}

}  // namespace da3
