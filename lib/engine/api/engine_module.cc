// SPDX-License-Identifier: MIT
#include "engine/api/engine_module.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <system_error>
#include <vector>

#ifndef DA3_ENGINE_INSTALL_DIR
#define DA3_ENGINE_INSTALL_DIR "/usr/local/lib/gst-da3"
#endif

namespace da3 {
namespace {

namespace fs = std::filesystem;

#ifdef __APPLE__
constexpr const char* kFile = "libda3engine.dylib";
#else
constexpr const char* kFile = "libda3engine.so";
#endif
constexpr const char* kPathVariable = "DA3_ENGINE_PATH";
constexpr const char* kRemedy = "run scripts/setup.sh, which gets LibTorch, and build again, or ";

// What came of one place.
struct Attempt {
  std::string path;
  enum { absent, failed, no_entry, other_abi } result;
  std::string reason;
};

// Files that may be this code's object: as the loader names it and with links resolved.
std::vector<fs::path> own_files() {
  std::vector<fs::path> files;
  std::error_code error;
  const auto add = [&](const fs::path& path) {
    if (path.empty() || std::find(files.begin(), files.end(), path) != files.end()) return;
    files.push_back(path);
  };
  Dl_info info;
  fs::path named;
  if (dladdr(reinterpret_cast<const void*>(&own_files), &info) != 0 && info.dli_fname != nullptr)
    named = info.dli_fname;
  // A program is named as it was called, possibly without a folder.
  if (!named.has_parent_path()) named = fs::read_symlink("/proc/self/exe", error);
  if (named.empty()) return files;
  add(fs::absolute(named, error).lexically_normal());
  const fs::path real = fs::canonical(named, error);
  if (!error) add(real);
  return files;
}

// Where the module may be, best first.
std::vector<fs::path> places() {
  constexpr int kParents = 2;
  std::vector<fs::path> result;
  const auto add = [&](const fs::path& folder) {
    const fs::path path = (folder / kFile).lexically_normal();
    if (std::find(result.begin(), result.end(), path) == result.end()) result.push_back(path);
  };
  for (const fs::path& file : own_files()) {
    const fs::path own = file.parent_path();
    add(own);
    // An installation that was moved as a whole: lib/gstreamer-1.0 and lib/gst-da3 side by side.
    add(own.parent_path() / "gst-da3");
    // A build folder: plugins/ or tests/engine/ and lib/engine below the same folder.
    fs::path parent = own;
    for (int i = 0; i < kParents && parent.has_relative_path(); ++i) {
      parent = parent.parent_path();
      add(parent / "lib" / "engine");
    }
  }
  add(DA3_ENGINE_INSTALL_DIR);
  return result;
}

// Takes the loader's last message.
std::string loader_message() {
  const char* text = dlerror();
  return text != nullptr ? text : "unknown reason";
}

// LibTorch's OpenMP threads spin for milliseconds at every barrier. Beside decoders, encoders and other
// programs that costs a multiple of the work itself (seven times as long was measured beside one), so they
// get some ten microseconds before they sleep. The OpenMP runtime reads this once, when it is loaded; a
// setting of the user stays.
void bound_spinning() {
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) setenv("GOMP_SPINCOUNT", "1000", /*overwrite=*/0);
}

const Da3EngineApi* load(const std::string& path, std::vector<Attempt>* attempts) {
  dlerror();
  bound_spinning();
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    std::string reason = loader_message();
    if (reason.starts_with(path + ": ")) reason.erase(0, path.size() + 2);
    attempts->push_back({path, Attempt::failed, reason});
    return nullptr;
  }
  const auto entry = reinterpret_cast<Da3EngineGetApiFunc>(dlsym(handle, DA3_ENGINE_ENTRY));
  if (entry == nullptr) {
    attempts->push_back({path, Attempt::no_entry, "it has no function " DA3_ENGINE_ENTRY});
    dlclose(handle);
    return nullptr;
  }
  const Da3EngineApi* api = entry(DA3_ENGINE_ABI);
  if (api != nullptr && api->abi == DA3_ENGINE_ABI && api->struct_size >= DA3_ENGINE_API_SIZE_1) return api;
  // Not unloaded: LibTorch came with it.
  attempts->push_back({path, Attempt::other_abi,
                       "it does not speak interface version " + std::to_string(DA3_ENGINE_ABI) +
                           (api != nullptr ? " but " + std::to_string(api->abi) : "")});
  return nullptr;
}

[[noreturn]] void give_up(const std::vector<Attempt>& attempts, bool from_environment) {
  std::string detail = "Tried:", looked;
  const Attempt* worst = nullptr;
  for (const Attempt& attempt : attempts) {
    detail += "\n  " + attempt.path + ": " + attempt.reason;
    looked += (looked.empty() ? "" : ", ") + attempt.path;
    if (attempt.result != Attempt::absent && (worst == nullptr || attempt.result > worst->result))
      worst = &attempt;
  }
  const auto failure = [&](const std::string& message) {
    return EngineError(DA3_ERROR_LIBRARY, message, detail);
  };
  const std::string variable = kPathVariable;
  const std::string origin = from_environment ? " (from " + variable + ")" : "";
  const std::string correct = (from_environment ? "correct or unset " : "set ") + variable;
  if (worst == nullptr && from_environment)
    throw failure("The inference engine " + looked + origin + " does not exist; " + correct);
  if (worst == nullptr)
    throw failure("The inference engine is not installed (looked for " + looked + "); " + kRemedy + correct);
  if (worst->result == Attempt::other_abi)
    throw failure("The inference engine " + worst->path + origin + " is of another version: " +
                  worst->reason + "; build or install plugin and engine together");
  if (worst->result == Attempt::no_entry)
    throw failure(worst->path + origin + " is a library but not the inference engine: " + worst->reason +
                  "; " + kRemedy + correct);
  throw failure("The inference engine " + worst->path + origin + " cannot be loaded (" + worst->reason +
                "); " + kRemedy + correct);
}

// Turns a Da3Error into an exception and gives its texts back, whatever happens.
[[noreturn]] void throw_error(const Da3EngineApi& api, Da3Error* error, int code) {
  struct Clear {
    const Da3EngineApi& api;
    Da3Error* error;
    ~Clear() { api.error_clear(error); }
  } clear{api, error};
  const Da3ErrorCode known = error->code != DA3_OK ? error->code
                             : code != DA3_OK      ? static_cast<Da3ErrorCode>(code)
                                                   : DA3_ERROR_FAILED;
  throw EngineError(
      known, error->message != nullptr ? error->message : "The inference engine failed without a message",
      error->detail != nullptr ? error->detail : "");
}

}  // namespace

EngineModule::EngineModule() {
  std::vector<Attempt> attempts;
  const char* chosen = std::getenv(kPathVariable);
  if (chosen != nullptr && *chosen != '\0') {
    // Whoever names a module wants this one: no other is taken in its place.
    std::error_code error;
    const fs::path path = fs::is_directory(chosen, error) ? fs::path(chosen) / kFile : fs::path(chosen);
    path_ = fs::absolute(path, error).lexically_normal().string();
    if (fs::exists(path_, error)) {
      api_ = load(path_, &attempts);
    } else {
      attempts.push_back({path_, Attempt::absent, "not there"});
    }
    if (api_ == nullptr) give_up(attempts, true);
    return;
  }
  for (const fs::path& path : places()) {
    path_ = path.string();
    std::error_code error;
    if (fs::exists(path, error)) {
      if ((api_ = load(path_, &attempts)) != nullptr) return;
    } else {
      attempts.push_back({path_, Attempt::absent, "not there"});
    }
  }
  path_ = kFile;
  if ((api_ = load(path_, &attempts)) != nullptr) return;
  // On its own path the loader only says that it found none, unless something is there that cannot be loaded.
  Attempt& last = attempts.back();
  if (last.result == Attempt::failed && last.reason.starts_with("cannot open shared object file"))
    last = {"the loader's path", Attempt::absent, last.reason};
  give_up(attempts, false);
}

const EngineModule& EngineModule::instance() {
  static std::mutex mutex;
  static const EngineModule* loaded = nullptr;  // never deleted; a failure is not kept, so that one may retry
  const std::lock_guard lock(mutex);
  if (loaded == nullptr) loaded = new EngineModule();
  return *loaded;
}

std::unique_ptr<Engine> EngineModule::open(const Da3EngineConfig& config) const {
  Da3Error error{};
  Da3Engine* handle = api_->open(&config, &error);
  if (handle == nullptr) throw_error(*api_, &error, DA3_OK);
  return std::make_unique<Engine>(*api_, handle);
}

void Engine::submit(const Da3Request& request) {
  Da3Error error{};
  if (const int code = api_.submit(handle_, &request, &error); code != DA3_OK)
    throw_error(api_, &error, code);
}

Da3EngineStats Engine::stats() const {
  Da3EngineStats out{};
  out.struct_size = sizeof out;
  if (DA3_ENGINE_HAS(&api_, stats)) api_.stats(handle_, &out);
  return out;
}

Da3ShapeStats Engine::shape_stats(const Da3Shape& shape) const {
  Da3ShapeStats out{};
  out.struct_size = sizeof out;
  out.batch_cap = 1;
  if (DA3_ENGINE_HAS(&api_, shape_stats)) api_.shape_stats(handle_, &shape, &out);
  return out;
}

bool Engine::warm_up(const Da3Shape& shape) {
  if (!DA3_ENGINE_HAS(&api_, warm_up)) return false;
  Da3Error error{};
  if (const int code = api_.warm_up(handle_, &shape, &error); code != DA3_OK) throw_error(api_, &error, code);
  return true;
}

}  // namespace da3
