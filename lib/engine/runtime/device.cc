// SPDX-License-Identifier: MIT
#include "engine/runtime/device.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#include <torch/version.h>

#include <cstdlib>
#include <mutex>
#include <sstream>

#include "engine/api/engine_error.h"
#include "engine/kernels/int8_linear.h"
#include "engine/network/attention.h"
#include "engine/runtime/processors.h"

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

// 10 * major + minor compute capability, asked of the driver itself: that needs no CUDA headers and no link
// to the CUDA runtime. 0 when it cannot be had.
int cuda_capability(at::Device device) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) return 0;
  constexpr int kMajorAttribute = 75, kMinorAttribute = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto get = reinterpret_cast<int (*)(int*, int)>(dlsym(driver, "cuDeviceGet"));
  const auto attribute = reinterpret_cast<int (*)(int*, int, int)>(dlsym(driver, "cuDeviceGetAttribute"));
  int handle = 0, major = 0, minor = 0;
  const bool ok = init && get && attribute && init(0) == 0 &&
                  get(&handle, device.has_index() ? device.index() : 0) == 0 &&
                  attribute(&major, kMajorAttribute, handle) == 0 &&
                  attribute(&minor, kMinorAttribute, handle) == 0;
  return ok ? 10 * major + minor : 0;
}

// Products of bf16 in hardware; without them they are emulated and slow.
bool cpu_has_bf16() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool amx = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & (1u << 22)) != 0;
  return __builtin_cpu_supports("avx512bf16") || amx;
#elif defined(__aarch64__) && defined(__linux__)
  return (getauxval(AT_HWCAP2) & (1ul << 14)) != 0;  // HWCAP2_BF16
#else
  return false;
#endif
}

std::mutex threads_lock;
unsigned threads_in_force = 0;  // 0: not decided

bool says_threads(const char* variable) {
  const char* const value = std::getenv(variable);
  return value && *value;
}

// LibTorch asks libraries that do not know every processor (Debian's build takes one thread where it is newer
// than they are), and none of them knows of quotas. With the lock.
void set_usual_threads() {
  if (threads_in_force != 0) return;
  // Those that place threads pin this one: its mask says nothing of the others.
  for (const char* variable : {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES",
                               "GOMP_CPU_AFFINITY", "KMP_AFFINITY"})
    if (says_threads(variable)) return;
  static unsigned seen = 0;  // files are read for a new number only
  const auto now = unsigned(at::get_num_threads());
  if (now == seen) return;
  const unsigned cores = usable_cores();
  if (now == 1 || now > cores) at::set_num_threads(int(cores));
  seen = unsigned(at::get_num_threads());
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

DeviceTraits traits_of(at::Device device) {
  DeviceTraits out;
  out.name = device.str();
  for (const Da3Attention kind : {DA3_ATTENTION_PLAIN, DA3_ATTENTION_FUSED, DA3_ATTENTION_FLASH,
                                  DA3_ATTENTION_EFFICIENT, DA3_ATTENTION_CUDNN})
    if (has_attention(kind, device)) out.attention.push_back(kind);
  if (device.is_cuda()) {
    out.kind = DeviceKind::cuda;
    out.capability = cuda_capability(device);
    out.native_fp16 = out.capability >= 70;
    out.native_bf16 = out.capability >= 80;
    out.native_fp8 = out.capability >= 89;
  } else if (device.type() == at::DeviceType::MPS) {
    out.kind = DeviceKind::mps;
    out.native_fp16 = true;
  } else {
    out.native_bf16 = cpu_has_bf16();
    out.native_int8 = kernels::Int8Linear::instruction_set() != std::string("plain");
  }
  return out;
}

Da3Precision select_precision(Da3Precision wanted, at::Device device) {
  const DeviceTraits traits = traits_of(device);
  check_precision(wanted, traits);
  return wanted == DA3_PRECISION_AUTO ? make_policy(DA3_PERFORMANCE_MINIMAL, traits).quick_precision : wanted;
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

void set_exact_arithmetic() {
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setBenchmarkCuDNN(false);
  at::globalContext().setDeterministicCuDNN(true);
}

bool set_threads(unsigned threads) {
  const std::lock_guard<std::mutex> guard(threads_lock);
  if (threads == 0) set_usual_threads();
  if (threads == 0 || threads == threads_in_force) return true;
  if (threads_in_force != 0) return false;
  at::set_num_threads(int(threads));
  threads_in_force = threads;
  return true;
}

void threads_are_used() {
  const std::lock_guard<std::mutex> guard(threads_lock);
  if (threads_in_force == 0) threads_in_force = unsigned(at::get_num_threads());
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
