// SPDX-License-Identifier: MIT
//
// da3-simulate: the tables and pictures of docs/batching.md. The engine's own scheduler, simulated cameras
// and devices.
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "simulator/simulator.h"

namespace {

using namespace da3::simulator;
using Rows = std::vector<std::pair<Settings, Outcome>>;

constexpr char kUsage[] =
    "usage: da3-simulate [--quick] [--json FILE] [--svg FILE]\n"
    "\n"
    "Simulates live cameras that share devices under the scheduler of the engine, with a clock of its own, "
    "and\n"
    "compares with a bound that knows the future. --json writes all rows; --svg a picture of 1000 cameras on "
    "1 to 64\n"
    "devices; --quick simulates a shorter time.\n";

Outcome show(const Settings& settings, Rows* rows) {
  const Outcome outcome = simulate(settings);
  std::fputs(table_row(settings, outcome).c_str(), stdout);
  std::fflush(stdout);
  rows->emplace_back(settings, outcome);
  return outcome;
}

// A few cameras on one device, at parts and multiples of what it can do.
void few_cameras(bool quick, Rows* rows) {
  std::printf("Live cameras on one device\n%s", table_head().c_str());
  for (const CostCurve& curve : {gpu_curve(), cpu_curve()})
    for (const uint32_t cameras : {1u, 4u, 16u})
      for (const double load : {0.5, 0.9, 5.0}) {
        Settings s;
        s.curve = curve;
        s.cameras = cameras;
        s.max_latency_ms = curve.fixed_ms > curve.each_ms ? 100 : 1000;
        s.frame_rate = load * curve.capacity(s.max_latency_ms) / cameras;
        s.jitter_ms = 0.1 * 1000 / s.frame_rate;
        s.seconds = quick ? 20 : 120;
        s.warm_up_seconds = s.seconds / 4;
        show(s, rows);
      }
}

void many_cameras(bool quick, Rows* rows) {
  std::printf("\n1000 cameras, streams stay on their device\n%s", table_head().c_str());
  for (const uint32_t devices : {1u, 2u, 4u, 8u, 16u, 24u, 32u, 40u, 44u, 48u, 56u, 64u}) {
    Settings s;
    s.cameras = 1000;
    s.devices = devices;
    s.max_latency_ms = 200;
    s.jitter_ms = 5;
    s.seconds = quick ? 4 : 30;
    s.warm_up_seconds = quick ? 2 : 5;
    show(s, rows);
  }
}

void write(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
}

int run(int argc, char** argv) {
  bool quick = false;
  std::string json, svg;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--help" || option == "-h") {
      std::fputs(kUsage, stdout);
      return 0;
    }
    if (option == "--quick") {
      quick = true;
    } else if ((option == "--json" || option == "--svg") && i + 1 < argc) {
      (option == "--json" ? json : svg) = argv[++i];
    } else {
      std::fprintf(stderr, "da3-simulate: '%s' is unknown or needs a value\n%s", option.c_str(), kUsage);
      return 2;
    }
  }
  Rows few, many;
  few_cameras(quick, &few);
  many_cameras(quick, &many);
  if (!json.empty()) {
    std::string all;
    for (const Rows* rows : {&few, &many})
      for (const auto& [settings, outcome] : *rows)
        all += (all.empty() ? "[\n " : ",\n ") + json_row(settings, outcome);
    write(json, all + "\n]\n");
  }
  if (!svg.empty()) write(svg, svg_picture("1000 cameras on 1 to 64 devices", many));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "da3-simulate: %s\n", e.what());
    return 1;
  }
}
