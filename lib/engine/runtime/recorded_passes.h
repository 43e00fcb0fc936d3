// SPDX-License-Identifier: MIT
//
// Passes that a device was handed before and does again by one command (CUDA graphs): what a pass of a small
// model or of a single picture costs the host is gone. One recording for each shape of a batch. A recording
// is used once it has given what the pass itself gives for several batches; where it cannot be made or
// differs, passes go on as without. What a device needs for it comes from outside, so this is tested without
// one.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/network/network.h"

namespace da3 {

// Work that was recorded, with the memory that it was recorded with.
class Recording {
 public:
  virtual ~Recording() = default;
  // Hands it to the device again: it reads and writes the same tensors.
  virtual void replay() = 0;
};

// Records what `body` hands to the device. Throws when it does what cannot be recorded.
using Recorder = std::function<std::unique_ptr<Recording>(const std::function<void()>& body)>;

// For one thread.
class RecordedPasses {
 public:
  // What a recording is made for: the shape of the input and everything else that decides what is computed.
  using Key = std::vector<int64_t>;
  using Compute = std::function<NetworkOutput(const Tensor& input)>;

  // `record` may be empty: nothing is recorded. At most `most` recordings are kept.
  explicit RecordedPasses(Recorder record, size_t most = 16);
  ~RecordedPasses();

  // What compute(input) gives, in tensors of their own. Of no key (empty) nothing is recorded. To make and to
  // compare a recording takes several passes: only where there is time for it.
  NetworkOutput run(const Key& key, const Tensor& input, const Compute& compute, bool have_time = true);
  // Whether the next run of this key neither records nor compares, nor is among the first.
  bool settled(const Key& key) const;
  // Gives their memory back; they are made anew. False: there were none.
  bool clear();
  size_t size() const;
  // The last run was a recording,
  bool replayed() const { return replayed_; }
  // or made one, or compared one.
  bool proving() const { return proving_; }
  // Why a recording is not used, of the first; once. Empty: nothing to tell.
  std::string take_remark() { return std::exchange(remark_, {}); }

 private:
  struct Pass {
    int seen = 0;
    bool refused = false;
    Tensor input;
    NetworkOutput output;
    std::unique_ptr<Recording> recording;
    uint64_t used = 0;
  };
  Pass& find(const Key& key);
  NetworkOutput replay(Pass& pass, const Tensor& input);
  bool record(Pass& pass, const Tensor& input, const Compute& compute);
  bool proves(Pass& pass, const Tensor& input, const Compute& compute);
  void drop_oldest(bool recorded);
  void refuse(Pass& pass, const std::string& why);

  Recorder record_;
  const size_t most_;
  std::map<Key, Pass> passes_;
  uint64_t uses_ = 0, caches_ = 0;
  bool replayed_ = false, proving_ = false, told_ = false;
  bool gave_up_ = false;  // nothing more is recorded; what there is goes on
  std::string remark_;
};

}  // namespace da3
