// SPDX-License-Identifier: MIT
#include "engine/runtime/lanes.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <thread>

namespace da3 {
namespace {

// LibTorch has two times 32 streams and hands them out in turn. What is recorded must not share one with
// somebody's copies: passes have those of high priority.
c10::Stream fresh_lane(at::Device device, bool high_priority) {
  return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, high_priority);
}

template <typename Event>
void wait_for(const Event& event) {
  if constexpr (requires { event.synchronize(); }) {
    event.synchronize();
  } else {
    // LibTorch 1 cannot wait for an event, only ask.
    while (!event.query()) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

}  // namespace

Lanes::Lanes(at::Device where)
    : device(where),
      upload(fresh_lane(where, false)),
      compute(fresh_lane(where, true)),
      download(fresh_lane(where, false)) {
  Mark loaded(device);
  loaded.set(c10::impl::VirtualGuardImpl(device.type()).getDefaultStream(device));
  for (const c10::Stream& lane : {upload, compute, download}) loaded.hold(lane);
}

void Mark::wait() const {
  wait_for(event_);
}

}  // namespace da3
