// SPDX-License-Identifier: MIT
//
// A library that contains the module search, like the plugin: module_test copies it to where it looks from.
#include <cstdio>

#include "engine/api/engine_module.h"

// Writes the path of the loaded engine, or the message and detail of the error. Returns the error code.
extern "C" __attribute__((visibility("default"))) int da3_probe(char* text, size_t size) {
  try {
    std::snprintf(text, size, "%s", da3::EngineModule::instance().path().c_str());
    return DA3_OK;
  } catch (const da3::EngineError& error) {
    std::snprintf(text, size, "%s\n%s", error.what(), error.detail().c_str());
    return error.code();
  }
}
