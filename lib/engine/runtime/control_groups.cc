// SPDX-License-Identifier: MIT
#include "engine/runtime/control_groups.h"

#include <fstream>

namespace da3 {

std::vector<ControlGroup> control_groups(const std::string& controller, const std::string& root) {
  std::vector<ControlGroup> out;
  std::ifstream groups(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {
    // "0::/path" in version 2, "4:memory:/path" in version 1.
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    const bool first_version = !controllers.empty();
    if (first_version && ("," + controllers + ",").find("," + controller + ",") == std::string::npos)
      continue;
    const std::string base = root + "/sys/fs/cgroup" + (first_version ? "/" + controller : "");
    for (;;) {
      out.push_back({base + group, first_version ? 1 : 2});
      const size_t slash = group.rfind('/');
      if (group.empty() || slash == std::string::npos) break;
      group.resize(slash);
    }
  }
  return out;
}

}  // namespace da3
