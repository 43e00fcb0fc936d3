// SPDX-License-Identifier: MIT
//
// What the stub engine has once, and helpers of all its files.
#include "stub_core.h"

#include <cstddef>
#include <cstring>

namespace da3::stub {

Global& global() {
  static Global* instance = new Global;  // worker threads may outlive main()
  return *instance;
}

da3::testing::StubTime& test_time() {
  static auto* time = new da3::testing::StubTime;
  return *time;
}

int set_error(Da3Error* error, Da3ErrorCode code, const std::string& message, const char* detail) {
  if (error) {
    error->code = code;
    error->message = strdup(message.c_str());
    error->detail = detail ? strdup(detail) : nullptr;
  }
  return code;
}

// Callers of an older engine.h have no such field.
bool asks_to_stop(const Da3EngineConfig& config) {
  constexpr size_t kSize = offsetof(Da3EngineConfig, cancelled) + sizeof config.cancelled;
  return config.struct_size >= kSize && config.cancelled && config.cancelled(config.user) != 0;
}

}  // namespace da3::stub
