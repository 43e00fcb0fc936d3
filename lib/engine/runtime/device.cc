// SPDX-License-Identifier: MIT
#include "engine/runtime/device.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <torch/version.h>

#include <mutex>
#include <sstream>

#include "engine/api/engine_error.h"

namespace da3 {
namespace {

bool has_mps() {
#if TORCH_VERSION_MAJOR >= 2
  return at::hasMPS();
#else
  return false;
#endif
}

size_t cuda_devices() {
  return at::hasCUDA() ? at::detail::getCUDAHooks().getNumGPUs() : 0;
}

// Major compute capability, asked of the driver itself: that needs no CUDA headers and no link to the CUDA
// runtime. 0 when it cannot be had.
int cuda_capability(at::Device device) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) return 0;
  constexpr int kMajorAttribute = 75;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto get = reinterpret_cast<int (*)(int*, int)>(dlsym(driver, "cuDeviceGet"));
  const auto attribute = reinterpret_cast<int (*)(int*, int, int)>(dlsym(driver, "cuDeviceGetAttribute"));
  int handle = 0, major = 0;
  const bool ok = init && get && attribute && init(0) == 0 &&
                  get(&handle, device.has_index() ? device.index() : 0) == 0 &&
                  attribute(&major, kMajorAttribute, handle) == 0;
  return ok ? major : 0;
}

at::Device parse(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  if (name == "cuda") return at::Device(at::kCUDA, 0);
  if (name == "mps") return at::Device(at::DeviceType::MPS, 0);
  if (name.rfind("cuda:", 0) == 0 && name.size() > 5 && name.size() < 9 &&
      name.find_first_not_of("0123456789", 5) == std::string::npos)
    return at::Device(at::kCUDA, at::DeviceIndex(std::stoi(name.substr(5))));
  throw EngineError(DA3_ERROR_SETTINGS,
                    "There is no device '" + name + "'. Give auto, cpu, cuda, cuda:N (N = 0, 1, ..) or mps.");
}

}  // namespace

at::Device select_device(const std::string& name) {
  if (name.empty() || name == "auto") {
    if (cuda_devices() > 0) return at::Device(at::kCUDA, 0);
    if (has_mps()) return at::Device(at::DeviceType::MPS, 0);
    return at::kCPU;
  }
  const at::Device device = parse(name);
  if (device.is_cuda()) {
    if (!at::hasCUDA())
      throw EngineError(DA3_ERROR_DEVICE,
                        "The device '" + name + "' was asked for, but this LibTorch (" + TORCH_VERSION +
                            ") is a CPU build. Use device=cpu or device=auto, or build against a CUDA "
                            "LibTorch.");
    if (size_t(device.index()) >= cuda_devices())
      throw EngineError(DA3_ERROR_DEVICE,
                        "The device '" + name + "' was asked for, but this machine has " +
                            std::to_string(cuda_devices()) +
                            " usable CUDA device(s). Use device=auto, or check the driver and "
                            "CUDA_VISIBLE_DEVICES.");
  }
  if (device.type() == at::DeviceType::MPS && !has_mps())
    throw EngineError(DA3_ERROR_DEVICE, "The device 'mps' was asked for, but this LibTorch (" +
                                            std::string(TORCH_VERSION) +
                                            ") has no Metal support. Use device=cpu or device=auto.");
  return device;
}

Da3Precision select_precision(Da3Precision wanted, at::Device device) {
  const int capability = device.is_cuda() ? cuda_capability(device) : 0;
  if (wanted == DA3_PRECISION_AUTO) {
    if (!device.is_cuda()) return DA3_PRECISION_FP32;
    return capability >= 8 ? DA3_PRECISION_BF16 : capability >= 7 ? DA3_PRECISION_FP16 : DA3_PRECISION_FP32;
  }
  if (wanted == DA3_PRECISION_FP16 && device.is_cpu())
    throw EngineError(DA3_ERROR_UNSUPPORTED,
                      "precision=fp16 is not supported on the CPU. Use precision=bf16, fp32 or auto.");
  if (wanted == DA3_PRECISION_INT8 && !device.is_cpu())
    throw EngineError(DA3_ERROR_UNSUPPORTED,
                      "precision=int8 is for the CPU only. Use precision=bf16, fp16 or auto on this device.");
  if (wanted == DA3_PRECISION_BF16 && device.type() == at::DeviceType::MPS)
    throw EngineError(DA3_ERROR_UNSUPPORTED,
                      "precision=bf16 is not supported on MPS. Use precision=fp16, fp32 or auto.");
  if (wanted == DA3_PRECISION_BF16 && device.is_cuda() && capability > 0 && capability < 8)
    throw EngineError(
        DA3_ERROR_UNSUPPORTED,
        "precision=bf16 needs a GPU of compute capability 8.0 or newer; on this one it would be "
        "emulated. Use precision=fp16, fp32 or auto.");
  return wanted;
}

at::ScalarType scalar_type_of(Da3Precision precision) {
  switch (precision) {
    case DA3_PRECISION_FP16:
      return at::kHalf;
    case DA3_PRECISION_BF16:
      return at::kBFloat16;
    default:
      return at::kFloat;
  }
}

const char* name_of(Da3Precision precision) {
  switch (precision) {
    case DA3_PRECISION_FP16:
      return "fp16";
    case DA3_PRECISION_BF16:
      return "bf16";
    case DA3_PRECISION_FP32:
      return "fp32";
    case DA3_PRECISION_INT8:
      return "int8";
    default:
      return "auto";
  }
}

void set_exact_arithmetic() {
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setBenchmarkCuDNN(false);
  at::globalContext().setDeterministicCuDNN(true);
}

bool set_threads(unsigned threads) {
  static std::mutex lock;
  static unsigned in_force = 0;
  const std::lock_guard<std::mutex> guard(lock);
  if (threads == 0 || threads == in_force) return true;
  if (in_force != 0) return false;
  at::set_num_threads(int(threads));
  in_force = threads;
  return true;
}

std::string describe_runtime() {
  std::ostringstream out;
  out << "LibTorch " << TORCH_VERSION << ", " << at::get_num_threads() << " CPU threads";
#if TORCH_VERSION_MAJOR >= 2
  out << ", CPU capability " << at::get_cpu_capability();
#endif
  if (at::hasCUDA()) out << ", " << cuda_devices() << " CUDA device(s)";
  if (has_mps()) out << ", MPS";
  return out.str();
}

}  // namespace da3
