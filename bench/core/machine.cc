// SPDX-License-Identifier: MIT
#include "core/machine.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

namespace da3::bench {
namespace {

// The value of "key : value" in a file of such lines.
std::string value_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0) continue;
    if (line.find_first_not_of(" \t", key.size()) != colon) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

std::string vector_extensions(const std::string& flags) {
  static const std::set<std::string> kTelling = {
      "avx2",     "fma",      "avx512f",  "avx512_bf16", "avx512_vnni", "avx512_fp16", "avx_vnni",
      "amx_tile", "amx_bf16", "amx_int8", "asimd",       "bf16",        "i8mm",        "sve"};
  std::istringstream words(flags);
  std::string word, out;
  while (words >> word)
    if (kTelling.count(word)) out += (out.empty() ? "" : " ") + word;
  return out;
}

// First line that a program prints, or "".
std::string output_of(const char* command) {
  std::FILE* pipe = popen(command, "r");
  if (!pipe) return {};
  char text[256] = "";
  const bool got = std::fgets(text, sizeof text, pipe) != nullptr;
  const bool ended_well = pclose(pipe) == 0;
  std::string line = got && ended_well ? text : "";
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  return line;
}

}  // namespace

Row describe_machine(const std::string& root) {
  Row out;
  const std::string cpuinfo = root + "/proc/cpuinfo";
  std::string processor = value_of(cpuinfo, "model name");
  if (processor.empty()) processor = value_of(cpuinfo, "CPU part");
  if (!processor.empty()) out["processor"] = processor;
  std::string flags = value_of(cpuinfo, "flags");
  if (flags.empty()) flags = value_of(cpuinfo, "Features");
  out["cpu_flags"] = vector_extensions(flags);
  out["cores"] = std::thread::hardware_concurrency();
  const std::string memory = value_of(root + "/proc/meminfo", "MemTotal");
  if (!memory.empty()) out["memory_mb"] = std::atol(memory.c_str()) / 1024;
  std::ifstream load(root + "/proc/loadavg");
  double one_minute = 0;
  if (load >> one_minute) out["load_before"] = one_minute;
  utsname system{};
  if (uname(&system) == 0)
    out["system"] = std::string(system.sysname) + " " + system.release + " " + system.machine;
  const std::string gpu = output_of(
      "command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader "
      "2>/dev/null");
  out["gpu"] = gpu.empty() ? "none" : gpu;
#ifdef DA3_BENCH_SOURCE
  const std::string commit =
      output_of("git -C '" DA3_BENCH_SOURCE "' describe --always --dirty --abbrev=12 2>/dev/null");
  out["commit"] = commit.empty() ? "unknown" : commit;
#endif
  out["compiler"] = __VERSION__;
#ifdef __OPTIMIZE__
  out["optimised_build"] = true;
#else
  out["optimised_build"] = false;
#endif
  return out;
}

void prefer_own_models() {
#ifdef DA3_BENCH_SOURCE
  if (std::ifstream(DA3_BENCH_SOURCE "/models/da3-demo/config.json"))
    setenv("DA3_MODEL_PATH", DA3_BENCH_SOURCE "/models", 0);
#endif
}

bool reset_peak_memory() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5";
  file.close();
  return bool(file);
}

double available_memory_mb(const std::string& root) {
  return std::atof(value_of(root + "/proc/meminfo", "MemAvailable").c_str()) / 1024;
}

double peak_memory_mb() {
  return std::atof(value_of("/proc/self/status", "VmHWM").c_str()) / 1024;
}

}  // namespace da3::bench
