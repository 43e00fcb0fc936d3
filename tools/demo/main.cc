// SPDX-License-Identifier: MIT
//
// da3-demo: depth and camera poses of a video, an image or a folder of images. See usage_text() in
// options.cc.
#include <gst/gst.h>

#include <cstdio>
#include <filesystem>
#include <system_error>

#include "input.h"
#include "options.h"
#include "report.h"
#include "session.h"

namespace {

using da3::demo::DemoError;
using da3::demo::Options;
using da3::demo::Outcome;

enum ExitStatus { exit_well = 0, exit_error = 1, exit_usage = 2, exit_interrupted = 130 };

// A program that runs from its build folder finds the plugin beside it.
void find_plugin() {
  const auto have = [] {
    GstElementFactory* factory = gst_element_factory_find("da3infer");
    if (factory != nullptr) gst_object_unref(factory);
    return factory != nullptr;
  };
  if (have()) return;
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto folder = program.parent_path().parent_path() / "plugins";
  if (!error && std::filesystem::is_directory(folder, error))
    gst_registry_scan_path(gst_registry_get(), folder.c_str());
  if (!have()) {
    throw DemoError(
        "GStreamer does not find the da3 plugin; put its folder into GST_PLUGIN_PATH or run "
        "scripts/demo.sh.");
  }
}

void print_error(const DemoError& error, bool verbose) {
  std::fprintf(stderr, "da3-demo: error: %s\n", error.what());
  if (verbose && !error.detail().empty()) std::fprintf(stderr, "%s\n", error.detail().c_str());
}

void print_files(const Options& options, const Outcome& outcome, const std::vector<std::string>& files) {
  std::printf("Wrote to %s:\n", options.outdir.c_str());
  for (const std::string& name : files) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(std::filesystem::path(options.outdir) / name, error);
    const auto frames = outcome.frames.find(name);
    const std::string count =
        frames == outcome.frames.end()
            ? ""
            : std::to_string(frames->second) + (name.starts_with("poses.tum") ? " poses, " : " frames, ");
    std::printf("  %-13s %s%.1f kB\n", name.c_str(), count.c_str(), error ? 0.0 : double(bytes) / 1000);
  }
}

void print_scores(const da3::demo::Scores& scores) {
  const auto line = [](const char* label, std::optional<double> value, double factor, const char* unit) {
    if (value) std::printf("  %-32s %.*f%s\n", label, factor * *value < 1 ? 3 : 2, factor * *value, unit);
  };
  std::printf("Compared with the truth:\n");
  line("depth: AbsRel", scores.abs_rel, 1, "");
  line("depth: within 25 % (delta1)", scores.delta1, 100, " %");
  line("rotation", scores.rotation_error_deg, 1, " degrees");
  line("direction of translation", scores.translation_direction_error_deg, 1, " degrees");
  line("poses: AUC up to 30 degrees", scores.auc30, 1, "");
  line("field of view", scores.fov_error, 100, " %");
  line("trajectory of a group", scores.ate, 1, " m");
  line("trajectory, of its length", scores.ate_relative, 100, " %");
}

int run(const Options& options) {
  const da3::demo::Input input = options.render ? da3::demo::Input{da3::demo::Input::Kind::rendered, {}}
                                                : da3::demo::inspect_input(options.input);
  find_plugin();
  da3::demo::prepare_folder(options, input);
  if (!options.model_given) {
    std::fprintf(stderr,
                 "da3-demo: no --model was given: %s is the small one that ships, trained on rendered scenes "
                 "only. --model "
                 "depth-anything/DA3-SMALL and larger ones are better.\n",
                 options.model.c_str());
  }
  da3::demo::Reserve reserve(options.outdir);
  Outcome outcome = da3::demo::run_session(options, input, [&] { reserve.release(); });
  reserve.release();
  const std::vector<std::string> files = da3::demo::write_report(options, outcome);
  print_files(options, outcome, files);
  if (outcome.scores && outcome.frames_in > 0) print_scores(*outcome.scores);
  if (outcome.error) {
    std::fflush(stdout);
    print_error(*outcome.error, options.verbose);
  }
  return outcome.interrupted ? exit_interrupted : outcome.error ? exit_error : exit_well;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  try {
    options = da3::demo::parse_options(argc, argv);
  } catch (const da3::demo::UsageError& e) {
    std::fprintf(stderr, "da3-demo: %s. See da3-demo --help.\n", e.what());
    return exit_usage;
  }
  if (options.help) {
    std::fputs(da3::demo::usage_text(), stdout);
    return exit_well;
  }
  try {
    gst_init(nullptr, nullptr);
    return run(options);
  } catch (const DemoError& e) {
    print_error(e, options.verbose);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "da3-demo: internal error: %s\n", e.what());
  }
  return exit_error;
}
