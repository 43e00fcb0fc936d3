// SPDX-License-Identifier: MIT
#include "engine/runtime/lanes.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <thread>

namespace da3 {
namespace {

c10::Stream fresh_lane(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
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
    : device(where), upload(fresh_lane(where)), compute(fresh_lane(where)), download(fresh_lane(where)) {
  Mark loaded(device);
  loaded.set(c10::impl::VirtualGuardImpl(device.type()).getDefaultStream(device));
  for (const c10::Stream& lane : {upload, compute, download}) loaded.hold(lane);
}

void Mark::wait() const {
  wait_for(event_);
}

}  // namespace da3
