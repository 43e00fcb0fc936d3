// SPDX-License-Identifier: MIT
//
// Which device serves which stream. Streams stay where they are (their results stay in order, and a device
// learns few sizes) and move one at a time, only when that evens out the load by a real amount.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace da3::simulator {

class Placement {
 public:
  explicit Placement(std::vector<double> device_speeds);
  // Work of a stream in seconds of a device of speed 1 for each second; returns its device.
  size_t add(uint64_t stream, double work);
  void remove(uint64_t stream);
  void set_work(uint64_t stream, double work);
  // A device is gone: its streams go to the others. False if it was the last one.
  bool lose(size_t device);
  size_t device_of(uint64_t stream) const { return streams_.at(stream).device; }
  // Work over speed.
  double load(size_t device) const { return devices_[device].work / devices_[device].speed; }
  struct Move {
    uint64_t stream;
    size_t from, to;
  };
  // The move that helps most, if it makes the fullest device better by more than 5 %; applied.
  std::optional<Move> rebalance();

 private:
  struct Device {
    double speed, work = 0;
    bool alive = true;
  };
  struct Stream {
    size_t device;
    double work;
  };
  size_t least_loaded_with(double work) const;
  std::vector<Device> devices_;
  std::map<uint64_t, Stream> streams_;
};

}  // namespace da3::simulator
