// SPDX-License-Identifier: MIT
//
// How kernels for CUDA are compiled, loaded and started, with a driver and a compiler that only note what
// they are asked; and with NVRTC itself where it is installed (that takes no GPU).
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/cuda/driver.h"
#include "engine/cuda/kernels_text.h"

using namespace da3::cuda;

namespace {

// What the two pretend, and what they saw. Test cases run one after the other.
struct Pretended {
  std::vector<int> known = {75, 80, 90};
  int capability = 90;
  int compiled = 0, loaded = 0, launched = 0, depth = 0, programs = 0;
  int compile_result = 0, launch_result = 0, capture_result = 0, capturing = 0, device_result = 0;
  std::string log, target, image, not_loaded, no_function, function;
  void* current = nullptr;  // context of the thread
  Grid grid;
  const void* arguments = nullptr;
  void* stream = nullptr;
};
Pretended seen;
int context_of_device = 0;  // its address is the context

NvrtcApi compiler_api() {
  NvrtcApi api;
  api.CreateProgram = [](void** program, const char*, const char*, int, const char* const*,
                         const char* const*) {
    ++seen.programs;
    *program = &seen;
    return 0;
  };
  api.DestroyProgram = [](void**) { return --seen.programs, 0; };
  api.CompileProgram = [](void*, int count, const char* const* options) {
    ++seen.compiled;
    for (int i = 0; i < count; ++i)
      if (const char* value = std::strstr(options[i], "architecture=")) seen.target = value + 13;
    return seen.compile_result;
  };
  api.GetProgramLogSize = [](void*, size_t* size) { return *size = seen.log.size() + 1, 0; };
  api.GetProgramLog = [](void*, char* to) {
    return std::memcpy(to, seen.log.c_str(), seen.log.size() + 1), 0;
  };
  api.GetCUBINSize = api.GetPTXSize = [](void*, size_t* size) { return *size = seen.target.size() + 1, 0; };
  api.GetCUBIN = api.GetPTX = [](void*, char* to) { return std::strcpy(to, seen.target.c_str()), 0; };
  api.GetNumSupportedArchs = [](int* count) { return *count = int(seen.known.size()), 0; };
  api.GetSupportedArchs = [](int* to) { return std::copy(seen.known.begin(), seen.known.end(), to), 0; };
  api.GetErrorString = [](int) { return "NVRTC_ERROR_OF_THE_TEST"; };
  return api;
}

DriverApi driver_api() {
  DriverApi api;
  api.Init = [](unsigned) { return 0; };
  api.GetErrorString = [](int result, const char** text) {
    *text = "words of the driver";
    return result == 999 ? 1 : 0;
  };
  api.DeviceGet = [](int* device, int ordinal) { return *device = ordinal, seen.device_result; };
  api.DeviceGetAttribute = [](int* value, int attribute, int) {
    return *value = attribute == 75 ? seen.capability / 10 : seen.capability % 10, 0;
  };
  api.DevicePrimaryCtxRetain = [](void** context, int) { return *context = &context_of_device, 0; };
  api.CtxGetCurrent = [](void** context) { return *context = seen.current, 0; };
  api.CtxPushCurrent = [](void* context) { return seen.current = context, ++seen.depth, 0; };
  api.CtxPopCurrent = [](void** context) {
    *context = std::exchange(seen.current, nullptr);
    return --seen.depth, 0;
  };
  api.StreamIsCapturing = [](void*, int* status) { return *status = seen.capturing, seen.capture_result; };
  api.ModuleLoadData = [](void** module, const void* image) {
    seen.image = static_cast<const char*>(image);
    *module = &seen;
    if (seen.current != &context_of_device) return 201;
    return ++seen.loaded, !seen.not_loaded.empty() && seen.image.find(seen.not_loaded) == 0 ? 209 : 0;
  };
  api.ModuleGetFunction = [](void** function, void*, const char* name) {
    *function = const_cast<char*>(name);
    return seen.no_function == name ? 500 : 0;
  };
  api.LaunchKernel = [](void* function, unsigned grid, unsigned, unsigned, unsigned block, unsigned, unsigned,
                        unsigned, void* stream, void** arguments, void**) {
    ++seen.launched;
    seen.function = static_cast<const char*>(function);
    seen.grid = {grid, block};
    seen.stream = stream;
    seen.arguments = arguments[0];
    return seen.current == &context_of_device ? seen.launch_result : 201;
  };
  return api;
}

const NvrtcApi kCompilerApi = compiler_api();
const DriverApi kDriverApi = driver_api();

// What a call throws, or empty.
template <typename Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const CudaError& e) {
    return e.what();
  }
  return "";
}

bool has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("cuda: compiler") {
  TEST_CASE("a text is compiled once for each target") {
    seen = {};
    Compiler compiler(kCompilerApi, "text");
    const std::string first = compiler.image("sm_90");
    CHECK(compiler.image("sm_90") == first);
    CHECK(compiler.image("compute_90") != first);
    CHECK(seen.compiled == 2);
    CHECK(seen.programs == 0);
  }

  TEST_CASE("an error is told in the words of the log, and is remembered") {
    seen = {};
    seen.compile_result = 6;
    seen.log = "\n  da3.cu(3): error: identifier \"gone\" is undefined\n\n1 error detected.\n";
    Compiler compiler(kCompilerApi, "text");
    const std::string first = error_of([&] { compiler.image("sm_90"); });
    CHECK(has(first, "for sm_90: da3.cu(3): error: identifier \"gone\" is undefined | 1 error"));
    CHECK(first.find('\n') == std::string::npos);
    CHECK(error_of([&] { compiler.image("sm_90"); }) == first);
    CHECK(seen.compiled == 1);
    CHECK(seen.programs == 0);
  }

  TEST_CASE("a long log is cut, and without a log the result has a name") {
    seen = {};
    seen.compile_result = 5;
    Compiler silent(kCompilerApi, "text");
    CHECK(has(error_of([&] { silent.image("sm_1"); }), "NVRTC_ERROR_OF_THE_TEST"));
    seen.log = std::string(10000, 'x');
    Compiler loud(kCompilerApi, "text");
    CHECK(error_of([&] { loud.image("sm_1"); }).size() < 1000);
  }

  TEST_CASE("a device that is newer than NVRTC gets the code of the newest it knows below") {
    seen = {};
    const Compiler compiler(kCompilerApi, "text");
    CHECK(compiler.targets(90) == std::vector<std::string>{"sm_90", "compute_90"});
    CHECK(compiler.targets(86) == std::vector<std::string>{"compute_80"});
    CHECK(compiler.targets(121) == std::vector<std::string>{"compute_90"});
    CHECK(compiler.targets(50).empty());
  }

  TEST_CASE("an NVRTC that does not tell what it knows is tried") {
    NvrtcApi old = compiler_api();
    old.GetSupportedArchs = nullptr;
    CHECK(Compiler(old, "text").targets(50) == std::vector<std::string>{"sm_50", "compute_50"});
  }

  TEST_CASE("NVRTC itself: the kernels compile for every kind of device it knows") {
    if (!error_of([] { nvrtc(); }).empty()) return;  // not installed
    Compiler compiler(nvrtc(), kKernelsText);
    int count = 0;
    REQUIRE(nvrtc().GetNumSupportedArchs(&count) == 0);
    std::vector<int> known(size_t(count), 0);
    REQUIRE(nvrtc().GetSupportedArchs(known.data()) == 0);
    for (const int one : {known.front(), known.back()})
      for (const std::string& target : compiler.targets(one)) {
        CAPTURE(target);
        const std::string& image = compiler.image(target);
        for (const char* name : kKernelNames) CHECK(has(image, name));
      }
  }

  TEST_CASE("NVRTC itself: a text with a mistake, and a device that nobody knows") {
    if (!error_of([] { nvrtc(); }).empty()) return;
    Compiler wrong(nvrtc(), "__global__ void f(int* p) { *p = not_there; }");
    const std::string error = error_of([&] { wrong.image("compute_80"); });
    CHECK(has(error, "da3.cu(1): error"));
    CHECK(has(error, "not_there"));
    CHECK(!error_of([&] { wrong.image("sm_1"); }).empty());
  }
}

TEST_SUITE("cuda: driver") {
  TEST_CASE("kernels are loaded once a device, from one compilation") {
    seen = {};
    Compiler compiler(kCompilerApi, "text");
    const Kernels one(kDriverApi, compiler, 0), two(kDriverApi, compiler, 1);
    CHECK(seen.compiled == 1);
    CHECK(seen.loaded == 2);
    CHECK(seen.image == "sm_90");
    CHECK(seen.depth == 0);
  }

  TEST_CASE("a kernel is started in its stream with its arguments, in the context of the device") {
    seen = {};
    Compiler compiler(kCompilerApi, "text");
    const Kernels kernels(kDriverApi, compiler, 0);
    int stream = 0;
    const NormRopeArguments arguments{};
    for (void* current : {static_cast<void*>(nullptr), static_cast<void*>(&context_of_device)}) {
      seen.current = current;
      kernels.start(Kernel::norm_rope, Element::bfloat16, {12, 256}, &arguments, &stream);
      CHECK(seen.function == "da3_norm_rope_bfloat16");
      CHECK((seen.grid.blocks == 12 && seen.grid.threads == 256));
      CHECK(seen.arguments == &arguments);
      CHECK(seen.stream == &stream);
      CHECK(seen.depth == 0);
      CHECK(seen.current == current);
    }
    CHECK(seen.launched == 2);
  }

  TEST_CASE("machine code that the driver refuses: it translates by itself") {
    seen = {};
    seen.not_loaded = "sm_";
    Compiler compiler(kCompilerApi, "text");
    const Kernels kernels(kDriverApi, compiler, 0);
    CHECK(seen.image == "compute_90");
    CHECK(seen.compiled == 2);
  }

  TEST_CASE("what the driver says is told when nothing can be loaded") {
    seen = {};
    seen.not_loaded = seen.no_function = "";
    Compiler compiler(kCompilerApi, "text");
    const auto load = [&] { Kernels(kDriverApi, compiler, 0); };
    seen.no_function = "da3_add_norm_float16";
    CHECK(has(error_of(load), "find a kernel: words of the driver (500)"));
    seen.not_loaded = "sm_";
    seen.no_function = "";
    seen.known = {90};
    CHECK(error_of(load).empty());
    seen.device_result = 101;
    CHECK(has(error_of(load), "find the device: words of the driver (101)"));
    CHECK(seen.depth == 0);
  }

  TEST_CASE("a device that NVRTC does not know at all") {
    seen = {};
    seen.capability = 35;
    Compiler compiler(kCompilerApi, "text");
    CHECK(has(error_of([&] { Kernels(kDriverApi, compiler, 0); }), "sm_35"));
    CHECK(seen.compiled == 0);
  }

  TEST_CASE("a kernel that cannot be started is an error, with a name or without") {
    seen = {};
    Compiler compiler(kCompilerApi, "text");
    const Kernels kernels(kDriverApi, compiler, 0);
    const AddNormArguments arguments{};
    const auto start = [&] {
      kernels.start(Kernel::add_norm, Element::float32, {1, 32}, &arguments, nullptr);
    };
    seen.launch_result = 701;
    CHECK(has(error_of(start), "start a kernel: words of the driver (701)"));
    seen.launch_result = 999;
    CHECK(has(error_of(start), "without a name (999)"));
    CHECK(seen.depth == 0);
    seen.launch_result = 0;
    CHECK(error_of(start).empty());
  }

  TEST_CASE("a stream is recorded, or another one is, or the driver cannot tell") {
    seen = {};
    CHECK_FALSE(is_capturing(kDriverApi, nullptr));
    seen.capturing = 1;
    CHECK(is_capturing(kDriverApi, nullptr));
    seen.capture_result = 201;
    CHECK_FALSE(is_capturing(kDriverApi, nullptr));
    seen.capture_result = 906;
    CHECK(is_capturing(kDriverApi, nullptr));
  }

  TEST_CASE("without a driver the answer is the same each time") {
    const std::string first = error_of([] { driver(); });
    CHECK(error_of([] { driver(); }) == first);
    if (first.empty()) return;  // there is one
    CHECK(has(first, "libcuda.so.1"));
    CHECK(error_of([] { kernels_on(0); }) != "");
    CHECK(error_of([] { kernels_on(0); }) == error_of([] { kernels_on(0); }));
  }
}
