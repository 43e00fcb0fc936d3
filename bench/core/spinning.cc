// SPDX-License-Identifier: MIT
#include "core/spinning.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace da3::bench {
namespace {

constexpr char kVariable[] = "GOMP_SPINCOUNT", kPolicy[] = "OMP_WAIT_POLICY";
constexpr char kProduct[] = "1000";             // as in engine_module.cc
constexpr char kOurs[] = "DA3_BENCH_SPINNING";  // the setting is not the user's

}  // namespace

void bound_spinning(char** arguments) {
  if (std::getenv(kVariable) || std::getenv(kPolicy)) return;
  setenv(kVariable, kProduct, 1);
  setenv(kOurs, "bounded", 1);
  std::fflush(stdout);
  execv("/proc/self/exe", arguments);
  forget_bound();
}

void forget_bound() {
  if (!std::getenv(kOurs)) return;
  unsetenv(kVariable);
  unsetenv(kOurs);
}

std::string describe_spinning() {
  std::string out;
  for (const char* name : {kVariable, kPolicy})
    if (const char* value = std::getenv(name))
      out += (out.empty() ? "" : ", ") + std::string(name) + "=" + value;
  if (out.empty()) return "OpenMP's default";
  return out + (std::getenv(kOurs) ? ", as in the product" : ", from the environment");
}

}  // namespace da3::bench
