// SPDX-License-Identifier: MIT
#include "simulator/placement.h"

#include <algorithm>
#include <stdexcept>

namespace da3::simulator {

Placement::Placement(std::vector<double> device_speeds) {
  for (const double speed : device_speeds) {
    if (!(speed > 0)) throw std::invalid_argument("the speed of a device must be positive");
    devices_.push_back({speed});
  }
  if (devices_.empty()) throw std::invalid_argument("there is no device");
}

size_t Placement::least_loaded_with(double work) const {
  size_t best = devices_.size();
  double least = 0;
  for (size_t d = 0; d < devices_.size(); ++d) {
    if (!devices_[d].alive) continue;
    const double load = (devices_[d].work + work) / devices_[d].speed;
    if (best == devices_.size() || load < least) {
      best = d;
      least = load;
    }
  }
  return best;
}

size_t Placement::add(uint64_t stream, double work) {
  const size_t device = least_loaded_with(work);
  if (!streams_.emplace(stream, Stream{device, work}).second)
    throw std::invalid_argument("the stream is placed already");
  devices_[device].work += work;
  return device;
}

void Placement::remove(uint64_t stream) {
  const Stream s = streams_.at(stream);
  devices_[s.device].work -= s.work;
  streams_.erase(stream);
}

void Placement::set_work(uint64_t stream, double work) {
  Stream& s = streams_.at(stream);
  devices_[s.device].work += work - s.work;
  s.work = work;
}

bool Placement::lose(size_t device) {
  const auto alive = std::count_if(devices_.begin(), devices_.end(), [](const Device& d) { return d.alive; });
  if (!devices_[device].alive || alive < 2) return !devices_[device].alive;
  devices_[device].alive = false;
  devices_[device].work = 0;
  for (auto& [id, s] : streams_) {
    if (s.device != device) continue;
    s.device = least_loaded_with(s.work);
    devices_[s.device].work += s.work;
  }
  return true;
}

std::optional<Placement::Move> Placement::rebalance() {
  size_t fullest = devices_.size();
  for (size_t d = 0; d < devices_.size(); ++d)
    if (devices_[d].alive && (fullest == devices_.size() || load(d) > load(fullest))) fullest = d;
  const double before = load(fullest);
  std::optional<Move> best;
  double best_peak = 0.95 * before;
  for (const auto& [id, s] : streams_) {
    if (s.device != fullest) continue;
    const size_t to = least_loaded_with(s.work);
    if (to == fullest) continue;
    const double peak = std::max((devices_[fullest].work - s.work) / devices_[fullest].speed,
                                 (devices_[to].work + s.work) / devices_[to].speed);
    if (peak < best_peak) {
      best_peak = peak;
      best = Move{id, fullest, to};
    }
  }
  if (!best) return best;
  Stream& s = streams_.at(best->stream);
  devices_[fullest].work -= s.work;
  devices_[best->to].work += s.work;
  s.device = best->to;
  return best;
}

}  // namespace da3::simulator
