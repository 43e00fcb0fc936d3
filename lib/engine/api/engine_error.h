// SPDX-License-Identifier: MIT
//
// A Da3Error (engine.h) as a C++ exception, used on either side of the module border, never across it.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "engine/api/engine.h"

namespace da3 {

class EngineError : public std::runtime_error {
 public:
  // `message` is a sentence for the user: what, which value, what to do; `detail` is for the developer.
  EngineError(Da3ErrorCode code, const std::string& message, std::string detail = {})
      : std::runtime_error(message), code_(code), detail_(std::move(detail)) {}
  Da3ErrorCode code() const { return code_; }
  const std::string& detail() const { return detail_; }

 private:
  Da3ErrorCode code_;
  std::string detail_;
};

}  // namespace da3
