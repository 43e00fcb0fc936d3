// SPDX-License-Identifier: MIT
#include "engine/runtime/memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "engine/runtime/control_groups.h"

namespace da3 {
namespace {

// The number after `name` in a file of lines "name number", in the unit of the file.
std::optional<uint64_t> field(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string key;
    uint64_t value = 0;
    if (words >> key >> value && key == name) return value;
  }
  return {};
}

// A file of one number; nothing for "max" and for what is not there.
std::optional<uint64_t> number(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return {};
}

std::optional<uint64_t> least(std::optional<uint64_t> a, std::optional<uint64_t> b) {
  if (!a) return b;
  return b ? std::min(*a, *b) : a;
}

// What one control group leaves: its limit less what is used and cannot be given back.
std::optional<uint64_t> left_in(const std::string& folder, const char* limit_name, const char* usage_name,
                                const char* cache_name) {
  const auto limit = number(folder + "/" + limit_name);
  const auto usage = number(folder + "/" + usage_name);
  // Version 1 says "no limit" with a number near the largest one.
  if (!limit || !usage || *limit > (uint64_t(1) << 60)) return {};
  const uint64_t cache = field(folder + "/memory.stat", cache_name).value_or(0);
  const uint64_t used = *usage - std::min(*usage, cache);
  return *limit - std::min(*limit, used);
}

std::optional<uint64_t> left_by_groups(const std::string& root) {
  std::optional<uint64_t> left;
  for (const auto& [folder, version] : control_groups("memory", root))
    left = least(left, version == 2 ? left_in(folder, "memory.max", "memory.current", "inactive_file")
                                    : left_in(folder, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                              "total_inactive_file"));
  return left;
}

}  // namespace

std::optional<uint64_t> free_main_memory(const std::string& root) {
  std::optional<uint64_t> available = field(root + "/proc/meminfo", "MemAvailable:");
  if (available) *available *= 1024;
  return least(available, left_by_groups(root));
}

uint64_t resident_memory(const std::string& root) {
  std::ifstream file(root + "/proc/self/statm");
  uint64_t size = 0, resident = 0;
  if (!(file >> size >> resident)) return 0;
  return resident * uint64_t(sysconf(_SC_PAGESIZE));
}

std::string bytes_text(uint64_t bytes) {
  char text[32];
  const double mib = double(bytes) / (1 << 20);
  if (mib >= 1024)
    std::snprintf(text, sizeof text, "%.1f GiB", mib / 1024);
  else
    std::snprintf(text, sizeof text, "%.0f MiB", std::max(1.0, mib));
  return text;
}

std::optional<uint64_t> bytes_asked(const std::string& message) {
  constexpr char kWords[] = "ried to allocate ";
  const size_t at = message.find(kWords);
  if (at == std::string::npos) return {};
  const char* digits = message.c_str() + at + sizeof kWords - 1;
  char* end = nullptr;
  const double value = std::strtod(digits, &end);
  if (end == digits || value < 0) return {};
  std::istringstream rest(end);
  std::string unit;
  rest >> unit;
  const double factor = unit.rfind("GiB", 0) == 0   ? 1u << 30
                        : unit.rfind("MiB", 0) == 0 ? 1u << 20
                        : unit.rfind("KiB", 0) == 0 ? 1u << 10
                                                    : 1;
  return uint64_t(value * factor);
}

}  // namespace da3
