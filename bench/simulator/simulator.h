// SPDX-License-Identifier: MIT
//
// A discrete-event simulation of cameras, devices and the scheduler of the engine (the same code,
// lib/engine/runtime/ scheduler.h) with a clock of its own. Deterministic: the same settings give the same
// numbers.
//
// A camera has its frames computed as `da3infer` behind a live source does (docs/live.md): a few requests
// with the engine, as many as fit into max_latency at its own rate or an equal share of the device's, and one
// place in front of them, in which a newer frame takes the place of an older one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace da3::simulator {

// T(b) = fixed + each * b, in milliseconds, and how far single passes scatter around it.
struct CostCurve {
  const char* name = "gpu";
  double fixed_ms = 8, each_ms = 1.2;
  double scatter = 0.03;  // standard deviation over mean
  uint32_t most = 32;     // largest batch
  double time_ms(uint32_t batch) const { return fixed_ms + each_ms * batch; }
  // Most items a second that one device can do in passes no longer than `longest_ms`.
  double capacity(double longest_ms) const;
};
CostCurve gpu_curve();  // a GPU: much fixed cost, cheap items
CostCurve cpu_curve();  // a CPU: hardly any gain from batches

struct Settings {
  CostCurve curve;
  uint32_t cameras = 16, devices = 1;
  double frame_rate = 30;  // of each camera
  double jitter_ms = 5;    // standard deviation of the arrival of a frame around its time
  double max_latency_ms = 100;
  double seconds = 20;
  double warm_up_seconds = 2;  // not counted
  uint64_t seed = 1;
  uint32_t fixed_batch = 0;  // 0: learned
};

struct Outcome {
  uint64_t offered = 0;                // frames that arrived while it counted
  uint64_t in_time = 0;                // done within max_latency of their arrival
  uint64_t late = 0;                   // done, but later
  uint64_t replaced = 0, expired = 0;  // dropped for a newer one; too late to be worth computing
  uint64_t pending = 0;                // not done at the end
  double seconds = 0;
  double age_p50_ms = 0, age_p95_ms = 0, age_max_ms = 0;  // of what was done
  double fairness = 1;                                    // most over least served camera, in time
  double mean_batch = 0;
  double busy = 0;    // part of the time that devices computed
  double load = 0;    // offered over capacity
  double oracle = 0;  // an upper bound of frames in time a second, see oracle_rate()
  double goodput() const { return seconds > 0 ? double(in_time) / seconds : 0; }
  bool accounted() const { return offered == in_time + late + replaced + expired + pending; }
};

Outcome simulate(const Settings& settings);

// Nobody can do more, whatever is known of the future and however frames are moved between devices: no more
// frames than arrive, and no more than all devices can compute without a gap at the batch size that gives
// most in passes no longer than max_latency (a longer pass brings no frame in time).
double oracle_rate(const Settings& settings, double offered_rate);

// One line of a table, and as JSON.
std::string table_head();
std::string table_row(const Settings& settings, const Outcome& outcome);
std::string json_row(const Settings& settings, const Outcome& outcome);

// Two panels against load: frames a second in time beside the oracle's, and age.
std::string svg_picture(const std::string& title, const std::vector<std::pair<Settings, Outcome>>& rows);

}  // namespace da3::simulator
