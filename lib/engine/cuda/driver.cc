// SPDX-License-Identifier: MIT
#include "engine/cuda/driver.h"

#include <dlfcn.h>

#include <algorithm>
#include <memory>
#include <sstream>
#include <utility>

#include "engine/cuda/kernels_text.h"

namespace da3::cuda {
namespace {

// Functions are looked up by name; the library stays open.
class Functions {
 public:
  Functions(void* library, std::string prefix) : library_(library), prefix_(std::move(prefix)) {}

  template <typename F>
  void find(F*& function, const char* name, bool needed = true) {
    function = reinterpret_cast<F*>(dlsym(library_, (prefix_ + name).c_str()));
    if (!function && needed && missing_.empty()) missing_ = prefix_ + name;
  }
  // The first that was needed and is not there.
  const std::string& missing() const { return missing_; }

 private:
  void* library_;
  std::string prefix_, missing_;
};

template <typename Api>
struct Opened {
  Api api;
  std::string error;
};

// One that is loaded comes before any other. Then the one that lies beside LibTorch, which finds NVRTC where
// pip puts it, and that its parts: by itself NVRTC may open and then compile nothing.
void* open_nvrtc() {
  constexpr const char* kLoaded[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"};
  constexpr const char* kNames[] = {"libcaffe2_nvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12",
                                    "libnvrtc.so.11.2", "libnvrtc.so"};
  for (const char* name : kLoaded)
    if (void* const library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD)) return library;
  for (const char* name : kNames)
    if (void* const library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  return nullptr;
}

Opened<NvrtcApi> find_nvrtc() {
  Opened<NvrtcApi> out;
  void* const library = open_nvrtc();
  if (!library) {
    out.error = "CUDA's compiler for run time, libnvrtc.so, is not there";
    return out;
  }
  Functions functions(library, "nvrtc");
  NvrtcApi& api = out.api;
  functions.find(api.CreateProgram, "CreateProgram");
  functions.find(api.DestroyProgram, "DestroyProgram");
  functions.find(api.CompileProgram, "CompileProgram");
  functions.find(api.GetProgramLogSize, "GetProgramLogSize");
  functions.find(api.GetProgramLog, "GetProgramLog");
  functions.find(api.GetCUBINSize, "GetCUBINSize");
  functions.find(api.GetCUBIN, "GetCUBIN");
  functions.find(api.GetPTXSize, "GetPTXSize");
  functions.find(api.GetPTX, "GetPTX");
  functions.find(api.GetErrorString, "GetErrorString");
  functions.find(api.GetNumSupportedArchs, "GetNumSupportedArchs", /*needed=*/false);
  functions.find(api.GetSupportedArchs, "GetSupportedArchs", /*needed=*/false);
  if (!functions.missing().empty()) out.error = "libnvrtc.so has no " + functions.missing();
  return out;
}

Opened<DriverApi> find_driver() {
  Opened<DriverApi> out;
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    out.error = "CUDA's driver, libcuda.so.1, is not there";
    return out;
  }
  Functions functions(library, "cu");
  DriverApi& api = out.api;
  functions.find(api.Init, "Init");
  functions.find(api.GetErrorString, "GetErrorString");
  functions.find(api.DeviceGet, "DeviceGet");
  functions.find(api.DeviceGetAttribute, "DeviceGetAttribute");
  functions.find(api.DevicePrimaryCtxRetain, "DevicePrimaryCtxRetain");
  functions.find(api.CtxGetCurrent, "CtxGetCurrent");
  functions.find(api.CtxPushCurrent, "CtxPushCurrent_v2");
  functions.find(api.CtxPopCurrent, "CtxPopCurrent_v2");
  functions.find(api.StreamIsCapturing, "StreamIsCapturing");
  functions.find(api.ModuleLoadData, "ModuleLoadData");
  functions.find(api.ModuleGetFunction, "ModuleGetFunction");
  functions.find(api.LaunchKernel, "LaunchKernel");
  if (!functions.missing().empty()) out.error = "libcuda.so.1 has no " + functions.missing();
  return out;
}

// The first lines of a log that say something, in one.
std::string first_lines(const std::string& log) {
  constexpr size_t kLines = 4, kLength = 600;
  std::istringstream in(log);
  std::string out, line;
  for (size_t lines = 0; lines < kLines && std::getline(in, line);) {
    line.erase(std::find(line.begin(), line.end(), '\0'), line.end());
    const size_t start = line.find_first_not_of(" \t\r");
    if (start == std::string::npos) continue;
    out += (out.empty() ? "" : " | ") + line.substr(start);
    ++lines;
  }
  return out.substr(0, kLength);
}

struct Program {
  const NvrtcApi& api;
  void* handle = nullptr;
  Program(const NvrtcApi& a, const std::string& text) : api(a) {
    const int result = api.CreateProgram(&handle, text.c_str(), "da3.cu", 0, nullptr, nullptr);
    if (result != 0)
      throw CudaError(std::string("NVRTC does not take the kernels: ") + api.GetErrorString(result));
  }
  ~Program() { api.DestroyProgram(&handle); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  std::string log() const {
    size_t size = 0;
    if (api.GetProgramLogSize(handle, &size) != 0 || size == 0) return "";
    std::string out(size, '\0');
    return api.GetProgramLog(handle, out.data()) == 0 ? first_lines(out) : "";
  }
};

bool is_machine_code(const std::string& target) {
  return target.rfind("sm_", 0) == 0;
}

// The context of the device is that of the calling thread while this lives.
class Current {
 public:
  Current(const DriverApi& api, void* context) : api_(api) {
    void* now = nullptr;
    pushed_ = (api.CtxGetCurrent(&now) != 0 || now != context) && api.CtxPushCurrent(context) == 0;
  }
  ~Current() {
    void* popped = nullptr;
    if (pushed_) api_.CtxPopCurrent(&popped);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  const DriverApi& api_;
  bool pushed_ = false;
};

void check(const DriverApi& api, int result, const char* what) {
  if (result == 0) return;
  const char* text = nullptr;
  if (api.GetErrorString(result, &text) != 0 || !text) text = "an error without a name";
  throw CudaError(std::string("CUDA's driver could not ") + what + ": " + text + " (" +
                  std::to_string(result) + ")");
}

}  // namespace

const NvrtcApi& nvrtc() {
  static const Opened<NvrtcApi> opened = find_nvrtc();
  if (!opened.error.empty()) throw CudaError(opened.error);
  return opened.api;
}

const DriverApi& driver() {
  static const Opened<DriverApi> opened = find_driver();
  if (!opened.error.empty()) throw CudaError(opened.error);
  return opened.api;
}

bool is_capturing(const DriverApi& api, void* stream) {
  constexpr int kAnotherStreamIs = 906;  // CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, of the default stream
  int status = 0;
  const int result = api.StreamIsCapturing(stream, &status);
  return result == kAnotherStreamIs || (result == 0 && status != 0);
}

std::vector<std::string> Compiler::targets(int capability) const {
  std::vector<std::string> out = {"sm_" + std::to_string(capability),
                                  "compute_" + std::to_string(capability)};
  int count = 0, older = 0;
  if (!api_.GetNumSupportedArchs || !api_.GetSupportedArchs) return out;
  if (api_.GetNumSupportedArchs(&count) != 0 || count <= 0) return out;
  std::vector<int> known(static_cast<size_t>(count));
  if (api_.GetSupportedArchs(known.data()) != 0) return out;
  for (const int one : known)
    if (one < capability) older = std::max(older, one);
  const bool knows_it = std::find(known.begin(), known.end(), capability) != known.end();
  if (!knows_it) out.clear();
  if (!knows_it && older > 0) out.push_back("compute_" + std::to_string(older));
  return out;
}

const std::string& Compiler::image(const std::string& target) {
  const std::lock_guard<std::mutex> guard(lock_);
  auto found = outcomes_.find(target);
  if (found == outcomes_.end()) {
    Outcome outcome;
    try {
      outcome.image = compile(target);
    } catch (const CudaError& e) {
      outcome.error = e.what();
    }
    found = outcomes_.emplace(target, std::move(outcome)).first;
  }
  if (!found->second.error.empty()) throw CudaError(found->second.error);
  return found->second.image;
}

std::string Compiler::compile(const std::string& target) const {
  const Program program(api_, text_);
  const std::string architecture = "--gpu-architecture=" + target;
  const char* const options[] = {architecture.c_str(), "--std=c++17"};
  if (const int result = api_.CompileProgram(program.handle, int(std::size(options)), options); result != 0) {
    const std::string log = program.log();
    throw CudaError("NVRTC cannot compile the kernels for " + target + ": " +
                    (log.empty() ? api_.GetErrorString(result) : log));
  }
  const bool machine_code = is_machine_code(target);
  size_t size = 0;
  const int sized =
      machine_code ? api_.GetCUBINSize(program.handle, &size) : api_.GetPTXSize(program.handle, &size);
  std::string out(sized == 0 ? size : 0, '\0');
  if (out.empty() || (machine_code ? api_.GetCUBIN(program.handle, out.data())
                                   : api_.GetPTX(program.handle, out.data())) != 0)
    throw CudaError("NVRTC gives no code for " + target);
  return out;
}

Kernels::Kernels(const DriverApi& api, Compiler& compiler, int ordinal) : api_(api) {
  constexpr int kMajorAttribute = 75, kMinorAttribute = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...
  int device = 0, major = 0, minor = 0;
  check(api_, api_.Init(0), "start");
  check(api_, api_.DeviceGet(&device, ordinal), "find the device");
  check(api_, api_.DeviceGetAttribute(&major, kMajorAttribute, device), "describe the device");
  check(api_, api_.DeviceGetAttribute(&minor, kMinorAttribute, device), "describe the device");
  check(api_, api_.DevicePrimaryCtxRetain(&context_, device), "open the device");
  const int capability = 10 * major + minor;
  std::string why = "NVRTC is older and knows no device like this (sm_" + std::to_string(capability) + ")";
  for (const std::string& target : compiler.targets(capability)) {
    try {
      load(compiler.image(target));
      return;
    } catch (const CudaError& e) {
      why = e.what();
    }
  }
  throw CudaError(why);
}

void Kernels::load(const std::string& image) {
  const Current current(api_, context_);
  void* module = nullptr;
  check(api_, api_.ModuleLoadData(&module, image.data()), "load the kernels");
  for (size_t i = 0; i < functions_.size(); ++i)
    check(api_, api_.ModuleGetFunction(&functions_[i], module, kKernelNames[i]), "find a kernel");
}

void Kernels::start(Kernel kernel, Element element, Grid grid, const void* arguments, void* stream) const {
  const Current current(api_, context_);
  // The driver copies what it is pointed to.
  void* pointers[] = {const_cast<void*>(arguments)};
  check(api_,
        api_.LaunchKernel(functions_[index_of(kernel, element)], grid.blocks, 1, 1, grid.threads, 1, 1, 0,
                          stream, pointers, nullptr),
        "start a kernel");
}

const Kernels& kernels_on(int ordinal) {
  struct Loaded {
    std::unique_ptr<const Kernels> kernels;
    std::string error;
  };
  static std::mutex lock;
  static std::map<int, Loaded> all;
  const std::lock_guard<std::mutex> guard(lock);
  auto found = all.find(ordinal);
  if (found == all.end()) {
    Loaded one;
    try {
      static Compiler compiler(nvrtc(), kKernelsText);
      one.kernels = std::make_unique<Kernels>(driver(), compiler, ordinal);
    } catch (const CudaError& e) {
      one.error = e.what();
    }
    found = all.emplace(ordinal, std::move(one)).first;
  }
  if (!found->second.kernels) throw CudaError(found->second.error);
  return *found->second.kernels;
}

}  // namespace da3::cuda
