// SPDX-License-Identifier: MIT
//
// Three queues of a GPU that work beside each other: pictures go up, passes are computed, results come down.
// LibTorch's device-independent streams, so it compiles against a CPU build as well.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

namespace da3 {

struct Lanes {
  // What was handed to the device's default queue before (weights) is done before anything in these.
  explicit Lanes(at::Device device);
  at::Device device;
  c10::Stream upload, compute, download;
};

// A place in a lane.
class Mark {
 public:
  explicit Mark(at::Device device) : event_(device.type()) {}
  // Behind everything that is in `lane` now.
  void set(const c10::Stream& lane) { event_.record(lane); }
  // What is put into `lane` from now on waits for it.
  void hold(const c10::Stream& lane) const { event_.block(lane); }
  // The calling thread waits until it is reached.
  void wait() const;

 private:
  c10::Event event_;
};

}  // namespace da3
