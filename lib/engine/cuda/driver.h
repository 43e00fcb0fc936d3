// SPDX-License-Identifier: MIT
//
// Kernels of our own on a CUDA device: NVRTC compiles their text when they are first needed, the driver loads
// and starts them. Both libraries are opened at run time; building needs neither of them, nor CUDA's headers.
// No LibTorch.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/cuda/kernels.h"

namespace da3::cuda {

// What cannot be done and why, in one line.
class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The functions of NVRTC that are used, by its own names; they return 0 for success.
struct NvrtcApi {
  int (*CreateProgram)(void** program, const char* text, const char* name, int headers,
                       const char* const* header_texts, const char* const* header_names) = nullptr;
  int (*DestroyProgram)(void** program) = nullptr;
  int (*CompileProgram)(void* program, int count, const char* const* options) = nullptr;
  int (*GetProgramLogSize)(void* program, size_t* size) = nullptr;
  int (*GetProgramLog)(void* program, char* log) = nullptr;
  int (*GetCUBINSize)(void* program, size_t* size) = nullptr;
  int (*GetCUBIN)(void* program, char* image) = nullptr;
  int (*GetPTXSize)(void* program, size_t* size) = nullptr;
  int (*GetPTX)(void* program, char* text) = nullptr;
  int (*GetNumSupportedArchs)(int* count) = nullptr;
  int (*GetSupportedArchs)(int* archs) = nullptr;
  const char* (*GetErrorString)(int result) = nullptr;
};

// The same of the driver. CUdevice is an int, other handles are pointers.
struct DriverApi {
  int (*Init)(unsigned flags) = nullptr;
  int (*GetErrorString)(int result, const char** text) = nullptr;
  int (*DeviceGet)(int* device, int ordinal) = nullptr;
  int (*DeviceGetAttribute)(int* value, int attribute, int device) = nullptr;
  int (*DevicePrimaryCtxRetain)(void** context, int device) = nullptr;
  int (*CtxGetCurrent)(void** context) = nullptr;
  int (*CtxPushCurrent)(void* context) = nullptr;
  int (*CtxPopCurrent)(void** context) = nullptr;
  int (*StreamIsCapturing)(void* stream, int* status) = nullptr;
  int (*ModuleLoadData)(void** module, const void* image) = nullptr;
  int (*ModuleGetFunction)(void** function, void* module, const char* name) = nullptr;
  int (*LaunchKernel)(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                      unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream,
                      void** arguments, void** extra) = nullptr;
};

// Opened once in a process, and never closed. Throw CudaError, the same each time, when a library or a
// function of it is missing. Thread-safe.
const NvrtcApi& nvrtc();
const DriverApi& driver();

// Whether what is put into the stream now is recorded for a graph, not run. False where the driver cannot
// tell: what comes next meets the same error.
bool is_capturing(const DriverApi& api, void* stream);

// Compiles one text for any number of targets, each of them once. Thread-safe.
class Compiler {
 public:
  // `api` stays with its owner.
  Compiler(const NvrtcApi& api, std::string text) : api_(api), text_(std::move(text)) {}

  // What to compile for a compute capability (10 * major + minor), best first: its own machine code,
  // "sm_90", and code that the driver translates, "compute_90", also for an older capability when NVRTC
  // is older than the device.
  std::vector<std::string> targets(int capability) const;

  // Throws CudaError, the same each time, with the first lines of NVRTC's log.
  const std::string& image(const std::string& target);

 private:
  struct Outcome {
    std::string image, error;
  };
  std::string compile(const std::string& target) const;

  const NvrtcApi& api_;
  const std::string text_;
  std::mutex lock_;
  std::map<std::string, Outcome> outcomes_;
};

// The kernels, loaded on one device. They stay loaded until the process ends, as LibTorch's context does:
// the driver may be gone before the last objects are.
class Kernels {
 public:
  // `ordinal`: of the device, as the CUDA runtime counts. `api` stays with its owner. Throws CudaError.
  Kernels(const DriverApi& api, Compiler& compiler, int ordinal);

  // Puts a kernel into `stream` (CUstream) of the device. `arguments`: its AddNormArguments or
  // NormRopeArguments, copied. Errors of the kernel itself show when the stream is waited for. Thread-safe.
  // Throws CudaError.
  void start(Kernel kernel, Element element, Grid grid, const void* arguments, void* stream) const;

 private:
  void load(const std::string& image);

  const DriverApi& api_;
  void* context_ = nullptr;
  std::array<void*, kKernelNames.size()> functions_{};
};

// The kernels of kernels.cu.inc on a device, made by the first call. Throws CudaError, the same each time.
// Thread-safe.
const Kernels& kernels_on(int ordinal);

}  // namespace da3::cuda
