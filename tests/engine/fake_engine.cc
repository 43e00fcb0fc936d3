// SPDX-License-Identifier: MIT
//
// Modules for module_test: an engine that refuses in every way it is asked to, and libraries that are none.
//   FAKE_ENGINE_ABI=n   speaks that interface version only
//   FAKE_NO_ENTRY       has no entry function
//   FAKE_UNDEFINED      needs a function that does not exist
#define DA3_ENGINE_BUILD
#include <cstdlib>
#include <cstring>

#include "engine/api/engine.h"

#ifndef FAKE_ENGINE_ABI
#define FAKE_ENGINE_ABI DA3_ENGINE_ABI
#endif

#ifdef FAKE_UNDEFINED
extern "C" void da3_function_that_does_not_exist(void);
extern "C" __attribute__((visibility("default"))) void use_it() {
  da3_function_that_does_not_exist();
}
#endif

#ifndef FAKE_NO_ENTRY
namespace {

int errors_alive = 0;  // error texts that were not given back
int engines_alive = 0;

void fill(Da3Error* error, Da3ErrorCode code, const char* message, const char* detail) {
  error->code = code;
  error->message = message != nullptr ? strdup(message) : nullptr;
  error->detail = detail != nullptr ? strdup(detail) : nullptr;
  ++errors_alive;
}

void error_clear(Da3Error* error) {
  free(error->message);
  free(error->detail);
  *error = Da3Error{};
  --errors_alive;
}

// Says how many error texts and engines are alive: one digit each.
const char* runtime() {
  static char text[3];
  text[0] = static_cast<char>('0' + errors_alive);
  text[1] = static_cast<char>('0' + engines_alive);
  return text;
}

Da3Engine* open(const Da3EngineConfig* config, Da3Error* error) {
  if (std::strcmp(config->model, "missing") == 0) {
    fill(error, DA3_ERROR_NOT_FOUND, "no such model", "searched here");
    return nullptr;
  }
  if (std::strcmp(config->model, "silent") == 0) {
    fill(error, DA3_OK, nullptr, nullptr);
    return nullptr;
  }
  ++engines_alive;
  return reinterpret_cast<Da3Engine*>(&engines_alive);
}

void close(Da3Engine*) {
  --engines_alive;
}

const Da3ModelInfo* info(const Da3Engine*) {
  static Da3ModelInfo model{};
  model.name = "fake";
  return &model;
}

int submit(Da3Engine*, const Da3Request* request, Da3Error* error) {
  if (request->n_views == 1) return DA3_OK;
  if (request->n_views == 0) {
    fill(error, DA3_ERROR_SETTINGS, "a request needs views", nullptr);
    return DA3_ERROR_SETTINGS;
  }
  fill(error, DA3_OK, nullptr, "only the return value says it");
  return DA3_ERROR_NO_MEMORY;
}

void cancel(Da3Engine*, const void*) {}
const Da3ResultData* result_data(const Da3Result*) {
  return nullptr;
}
Da3Result* result_ref(Da3Result* result) {
  return result;
}
void result_unref(Da3Result*) {}

}  // namespace

extern "C" const Da3EngineApi* da3_engine_get_api(uint32_t abi) {
  static const Da3EngineApi api = {
      FAKE_ENGINE_ABI, sizeof(Da3EngineApi), runtime,    open,         close,      info, submit,
      cancel,          result_data,          result_ref, result_unref, error_clear};
  return abi == FAKE_ENGINE_ABI ? &api : nullptr;
}
#endif
