// SPDX-License-Identifier: MIT
//
// da3-parity: every case of a folder of recorded upstream results, one row per tensor.
#include <c10/core/InferenceMode.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "engine/runtime/device.h"
#include "golden.h"

namespace {

constexpr char kUsage[] =
    "usage: da3-parity DIR [--case GLOB] [--device cpu|cuda|cuda:N|mps] [--precision fp32|fp16|bf16] "
    "[--quiet]\n"
    "\n"
    "Runs the cases of DIR/manifest.json whose name matches GLOB (default: all) on synthetic weights and "
    "compares every\n"
    "recorded tensor. A row passes when |mine - recorded| <= tolerance * (|recorded| + rms) everywhere; in "
    "half\n"
    "precision when the rms of the difference is below 3 % of the rms. Exit status 0 when every row "
    "passes.\n";

struct Arguments {
  da3::parity::Settings settings;
  bool help = false;
};

Arguments parse(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    auto value = [&]() -> std::string {
      if (i + 1 >= argc) throw std::invalid_argument(a + " needs a value");
      return argv[++i];
    };
    if (a == "--help" || a == "-h") {
      out.help = true;
    } else if (a == "--case") {
      out.settings.glob = value();
    } else if (a == "--device") {
      out.settings.device = value();
    } else if (a == "--precision") {
      const std::string p = value();
      if (p == "fp16")
        out.settings.compute = at::kHalf;
      else if (p == "bf16")
        out.settings.compute = at::kBFloat16;
      else if (p != "fp32")
        throw std::invalid_argument("unknown precision '" + p + "' (fp32, fp16, bf16)");
    } else if (a == "--quiet") {
      out.settings.quiet = true;
    } else if (!a.empty() && a[0] == '-') {
      throw std::invalid_argument("unknown option '" + a + "'");
    } else if (out.settings.directory.empty()) {
      out.settings.directory = a;
    } else {
      throw std::invalid_argument("more than one folder given");
    }
  }
  if (!out.help && out.settings.directory.empty()) throw std::invalid_argument("no folder given");
  return out;
}

int run(const da3::parity::Settings& settings) {
  using namespace da3::parity;
  std::ifstream stream(settings.directory + "/manifest.json");
  if (!stream) throw std::runtime_error("cannot read " + settings.directory + "/manifest.json");
  const json manifest = json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object())
    throw std::runtime_error(settings.directory + "/manifest.json is no list of cases (not a JSON object)");
  da3::select_device(settings.device);  // throws when it does not exist
  da3::set_exact_arithmetic();
  const c10::InferenceMode inference;
  Report report(settings.quiet);
  run_weight_checks(manifest, settings, &report);
  run_normalisation_cases(manifest, settings, &report);
  run_ray_cases(manifest, settings, &report);
  run_preprocess_cases(manifest, settings, &report);
  run_network_cases(manifest, settings, &report);
  if (report.passed() + report.failed() + report.skipped() == 0)
    throw std::runtime_error("no case matches '" + settings.glob + "'");
  if (report.skipped() > 0)
    std::printf("%d passed, %d failed, %d skipped\n", report.passed(), report.failed(), report.skipped());
  else
    std::printf("%d passed, %d failed\n", report.passed(), report.failed());
  return report.failed() == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments = parse(argc, argv);
    if (arguments.help) {
      std::fputs(kUsage, stdout);
      return 0;
    }
    return run(arguments.settings);
  } catch (const std::invalid_argument& e) {
    std::fprintf(stderr, "da3-parity: %s\n%s", e.what(), kUsage);
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "da3-parity: %s\n", e.what());
    return 2;
  }
}
