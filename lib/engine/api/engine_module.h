// SPDX-License-Identifier: MIT
//
// Finds and loads the engine module (libda3engine.so) and wraps engine.h for C++. No LibTorch, no GStreamer.
#pragma once

#include <memory>
#include <string>

#include "engine/api/engine.h"
#include "engine/api/engine_error.h"

namespace da3 {

class Engine;

// The loaded module. Looked for in this order: $DA3_ENGINE_PATH (a file), beside the object that contains
// this code (and ../lib/engine beside it, for an uninstalled build), the installed library folder, the
// loader's path. Loaded once per process and never unloaded (LibTorch keeps threads).
class EngineModule {
 public:
  // Throws EngineError(DA3_ERROR_LIBRARY) naming the paths tried, the loader's message and the remedy.
  static const EngineModule& instance();

  const Da3EngineApi& api() const { return *api_; }
  const std::string& path() const { return path_; }

  // Throws EngineError.
  std::unique_ptr<Engine> open(const Da3EngineConfig& config) const;

 private:
  EngineModule();
  const Da3EngineApi* api_ = nullptr;
  std::string path_;
};

// One reference to a loaded model; closing is blocking (see engine.h).
class Engine {
 public:
  Engine(const Da3EngineApi& api, Da3Engine* handle) : api_(api), handle_(handle) {}
  ~Engine() { api_.close(handle_); }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Da3ModelInfo& info() const { return *api_.info(handle_); }
  const Da3EngineApi& api() const { return api_; }
  // Throws EngineError.
  void submit(const Da3Request& request);
  void cancel(const void* stream) { api_.cancel(handle_, stream); }
  // Without waiting for what runs. False: the module cannot do that, nothing happened.
  bool cancel_waiting(const void* stream) {
    if (!DA3_ENGINE_HAS(&api_, cancel_waiting)) return false;
    api_.cancel_waiting(handle_, stream);
    return true;
  }

  // What modules may lack: without it nothing happens, and statistics stay zero.
  void stream_begin(const void* stream, const Da3Stream& description) {
    if (DA3_ENGINE_HAS(&api_, stream_begin)) api_.stream_begin(handle_, stream, &description);
  }
  void stream_end(const void* stream) {
    if (DA3_ENGINE_HAS(&api_, stream_end)) api_.stream_end(handle_, stream);
  }
  void drain(const void* stream) {
    if (DA3_ENGINE_HAS(&api_, drain)) api_.drain(handle_, stream);
  }
  Da3EngineStats stats() const;
  Da3ShapeStats shape_stats(const Da3Shape& shape) const;
  // Throws EngineError. True if it was measured.
  bool warm_up(const Da3Shape& shape);
  void warm_up_stop() {
    if (DA3_ENGINE_HAS(&api_, warm_up_stop)) api_.warm_up_stop(handle_);
  }

 private:
  const Da3EngineApi& api_;
  Da3Engine* handle_;
};

}  // namespace da3
