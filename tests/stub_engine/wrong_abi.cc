// SPDX-License-Identifier: MIT
//
// Exports the entry point and speaks no ABI: what an engine of another release looks like.
#define DA3_ENGINE_BUILD
#include "engine/api/engine.h"

extern "C" const Da3EngineApi* da3_engine_get_api(uint32_t) {
  return nullptr;
}
