// SPDX-License-Identifier: MIT
//
// da3-bench: how long one forward pass of a synthetic model takes on this machine.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/network/network.h"
#include "engine/runtime/device.h"

namespace {

constexpr char kUsage[] =
    "usage: da3-bench [--model NAME] [--size WxH] [--batch N] [--views N] [--runs N] [--device D]\n"
    "                 [--precision fp32|fp16|bf16] [--threads N] [--ray]\n"
    "\n"
    "Runs a model with synthetic weights (default da3-small, 504x280, 1 item of 1 view, 10 runs after 2 that "
    "do not\n"
    "count) and prints the time of a forward pass and the peak memory of the process. --ray computes the ray "
    "map too.\n";

struct Arguments {
  std::string model = "da3-small", device = "auto", precision = "auto";
  int64_t width = 504, height = 280, batch = 1, views = 1;
  int runs = 10;
  unsigned threads = 0;
  bool ray = false, help = false;
};

int64_t whole_number(const std::string& option, const std::string& text) {
  size_t used = 0;
  int64_t value = 0;
  try {
    value = std::stoll(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used == 0 || used != text.size() || value < 1 || value > 100000)
    throw std::invalid_argument(option + " needs a whole number from 1 to 100000, not '" + text + "'");
  return value;
}

Arguments parse(int argc, char** argv) {
  Arguments a;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--help" || option == "-h") {
      a.help = true;
      continue;
    }
    if (option == "--ray") {
      a.ray = true;
      continue;
    }
    if (i + 1 >= argc) throw std::invalid_argument(option + " is unknown or needs a value");
    const std::string value = argv[++i];
    if (option == "--model")
      a.model = value;
    else if (option == "--device")
      a.device = value;
    else if (option == "--precision")
      a.precision = value;
    else if (option == "--batch")
      a.batch = whole_number(option, value);
    else if (option == "--views")
      a.views = whole_number(option, value);
    else if (option == "--runs")
      a.runs = int(whole_number(option, value));
    else if (option == "--threads")
      a.threads = unsigned(whole_number(option, value));
    else if (option == "--size") {
      const size_t x = value.find('x');
      if (x == std::string::npos) throw std::invalid_argument("--size needs WxH, not '" + value + "'");
      a.width = whole_number(option, value.substr(0, x));
      a.height = whole_number(option, value.substr(x + 1));
    } else {
      throw std::invalid_argument("unknown option '" + option + "'");
    }
  }
  if (a.width % DA3_PATCH_SIZE || a.height % DA3_PATCH_SIZE)
    throw std::invalid_argument("both sides of --size must be multiples of 14");
  return a;
}

Da3Precision precision_of(const std::string& name) {
  for (const Da3Precision p :
       {DA3_PRECISION_AUTO, DA3_PRECISION_FP32, DA3_PRECISION_FP16, DA3_PRECISION_BF16})
    if (name == da3::name_of(p)) return p;
  throw std::invalid_argument("unknown precision '" + name + "' (auto, fp32, fp16, bf16)");
}

double quantile(const std::vector<double>& sorted, double q) {
  const double position = q * double(sorted.size() - 1);
  const size_t low = size_t(position);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (position - double(low)) * (sorted[high] - sorted[low]);
}

void run(const Arguments& a) {
  using Clock = std::chrono::steady_clock;
  da3::set_threads(a.threads);
  const at::Device device = da3::select_device(a.device);
  const Da3Precision precision = da3::select_precision(precision_of(a.precision), device);
  const c10::InferenceMode inference;
  da3::SyntheticWeights weights(0);
  const auto network =
      da3::make_network(da3::builtin_config(a.model), weights, {device, da3::scalar_type_of(precision)});
  at::Tensor images = at::empty({a.batch, a.views, 3, a.height, a.width}, at::TensorOptions(at::kFloat));
  da3::synthetic::fill_input(images.data_ptr<float>(), "bench", a.batch, a.views, a.height, a.width, 0);
  images = images.to(device);
  da3::NetworkOptions options;
  options.want_ray = a.ray;

  constexpr int kWarmUp = 2;
  std::vector<double> milliseconds;
  for (int i = 0; i < kWarmUp + a.runs; ++i) {
    const auto start = Clock::now();
    // The copy waits for the device.
    const at::Tensor depth = network->forward(images, options, {}).depth.to(at::kCPU);
    const double elapsed = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    if (i >= kWarmUp) milliseconds.push_back(elapsed);
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const double median = quantile(milliseconds, 0.5);
  std::printf("%s\n", da3::describe_runtime().c_str());
  std::printf(
      "%s %ldx%ld batch %ld views %ld %s %s: median %.1f ms, p5 %.1f, p95 %.1f, %.2f images/s, peak memory "
      "%ld MiB\n",
      a.model.c_str(), long(a.width), long(a.height), long(a.batch), long(a.views), da3::name_of(precision),
      device.str().c_str(), median, quantile(milliseconds, 0.05), quantile(milliseconds, 0.95),
      1000.0 * double(a.batch * a.views) / median, usage.ru_maxrss / 1024);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments = parse(argc, argv);
    if (arguments.help) {
      std::fputs(kUsage, stdout);
      return 0;
    }
    run(arguments);
    return 0;
  } catch (const std::invalid_argument& e) {
    std::fprintf(stderr, "da3-bench: %s\n%s", e.what(), kUsage);
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "da3-bench: %s\n", e.what());
    return 1;
  }
}
