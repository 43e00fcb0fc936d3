// SPDX-License-Identifier: MIT
//
// Recorded upstream outputs: the folder $DA3_GOLDENS, or shared/goldens in or beside the checkout. They are
// no part of the repository: tests pass over what is not there.
#pragma once

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace da3::test {

inline std::optional<std::string> golden_path(const std::string& name) {
  std::vector<std::string> folders;
  if (const char* given = std::getenv("DA3_GOLDENS")) folders.push_back(given);
  if (const char* root = std::getenv("DA3_SOURCE_ROOT"))
    for (const char* place : {"/shared/goldens", "/../shared/goldens"})
      folders.push_back(std::string(root) + place);
  for (const std::string& folder : folders)
    if (const std::string path = folder + "/" + name; std::ifstream(path)) return path;
  return std::nullopt;
}

inline std::optional<nlohmann::json> golden_json(const std::string& name) {
  const auto path = golden_path(name);
  if (!path) return std::nullopt;
  return nlohmann::json::parse(std::ifstream(*path));
}

}  // namespace da3::test
