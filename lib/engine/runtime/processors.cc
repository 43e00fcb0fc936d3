// SPDX-License-Identifier: MIT
#include "engine/runtime/processors.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "engine/runtime/control_groups.h"

namespace da3 {
namespace {

constexpr unsigned kMostProcessors = 1 << 16;

// "0-3,8": the numbers in it.
std::vector<unsigned> numbers_of(const std::string& list) {
  std::vector<unsigned> out;
  std::istringstream parts(list);
  std::string part;
  while (std::getline(parts, part, ',')) {
    std::istringstream words(part);
    unsigned first = 0, last = 0;
    char dash = 0;
    if (!(words >> first)) continue;
    if (!(words >> dash >> last) || dash != '-') last = first;
    for (unsigned n = first; n <= last && n < kMostProcessors; ++n) out.push_back(n);
  }
  return out;
}

std::vector<unsigned> allowed_by(const std::string& status_path) {
  std::ifstream status(status_path);
  std::string line;
  const std::string name = "Cpus_allowed_list:";
  while (std::getline(status, line))
    if (line.rfind(name, 0) == 0) return numbers_of(line.substr(name.size()));
  return {};
}

// Of all threads: one may be pinned to a processor without the others being.
std::vector<unsigned> allowed(const std::string& root) {
  std::vector<unsigned> out = allowed_by(root + "/proc/self/status");
  std::error_code none;
  for (const auto& task : std::filesystem::directory_iterator(root + "/proc/self/task", none))
    for (const unsigned processor : allowed_by(task.path() / "status")) out.push_back(processor);
  return out;
}

// The processors that share its core, as the system writes them.
std::string core_of(unsigned processor, const std::string& root) {
  std::ifstream file(root + "/sys/devices/system/cpu/cpu" + std::to_string(processor) +
                     "/topology/thread_siblings_list");
  std::string siblings;
  return std::getline(file, siblings) ? siblings : std::to_string(processor);
}

// Cores' worth of CPU time; nothing without a limit.
std::optional<double> quota_of(const ControlGroup& group) {
  double quota = -1, period = 0;
  if (group.version == 2) {
    // "max 100000" has no number at the beginning.
    std::ifstream file(group.folder + "/cpu.max");
    if (!(file >> quota >> period)) return {};
  } else {
    std::ifstream quota_file(group.folder + "/cpu.cfs_quota_us"),
        period_file(group.folder + "/cpu.cfs_period_us");
    if (!(quota_file >> quota) || !(period_file >> period)) return {};
  }
  if (quota <= 0 || period <= 0) return {};
  return quota / period;
}

}  // namespace

unsigned usable_cores(const std::string& root) {
  std::set<std::string> cores;
  for (const unsigned processor : allowed(root)) cores.insert(core_of(processor, root));
  double usable = cores.empty() ? double(std::thread::hardware_concurrency()) : double(cores.size());
  for (const ControlGroup& group : control_groups("cpu", root))
    if (const auto quota = quota_of(group)) usable = std::min(usable, std::ceil(*quota));
  return unsigned(std::max(1.0, usable));
}

}  // namespace da3
