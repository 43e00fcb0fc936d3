// SPDX-License-Identifier: MIT
#include "report.h"

#include <fcntl.h>
#include <gst/video/video.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace da3::demo {
namespace {

constexpr const char* preview_name = "preview.png";
constexpr const char* summary_name = "summary.json";
constexpr const char* names[] = {"depth.mp4",    "depth.mkv",  "poses.jsonl", "poses.tum",
                                 "scores.jsonl", preview_name, summary_name};
// Also has no frame when a model computes no poses.
constexpr const char* trajectory_name = "poses.tum";

// The most memory this process has held [MB = 10^6 bytes]; not getrusage(), which counts what ran before
// exec(), too.
double peak_rss_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::round(std::stod(line.substr(6)) * 1024 / 1e5) / 10;
  }
  return 0;
}

void write_file(const fs::path& path, const void* bytes, std::size_t size) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(static_cast<const char*>(bytes), std::streamsize(size));
  file.close();
  if (file) return;
  const std::string reason = std::strerror(errno);
  std::error_code error;
  std::filesystem::remove(path, error);
  throw DemoError("Cannot write \"" + path.string() + "\": " + reason + ".");
}

void write_preview(const fs::path& path, GstSample* frame) {
  const CapsPtr caps(gst_caps_new_empty_simple("image/png"));
  GError* error = nullptr;
  const SamplePtr png(gst_video_convert_sample(frame, caps.get(), 30 * GST_SECOND, &error));
  const ErrorPtr owned(error);
  if (!png)
    throw DemoError(std::string("Cannot make ") + preview_name + ": " +
                    (error ? error->message : "no reason given"));
  GstBuffer* buffer = gst_sample_get_buffer(png.get());
  GstMapInfo map;
  if (!gst_buffer_map(buffer, &map, GST_MAP_READ))
    throw DemoError(std::string("Cannot read ") + preview_name + ".");
  const std::string bytes(reinterpret_cast<const char*>(map.data), map.size);
  gst_buffer_unmap(buffer, &map);
  write_file(path, bytes.data(), bytes.size());
}

std::uint64_t frames_out(const Outcome& outcome) {
  std::uint64_t least = outcome.frames_in;
  for (const auto& [file, frames] : outcome.frames) {
    if (file != trajectory_name) least = std::min(least, frames);
  }
  return least;
}

void find_lost_frames(Outcome& outcome) {
  if (outcome.error) return;
  if (outcome.frames_in == 0) {
    outcome.error.emplace(outcome.interrupted ? "Interrupted before the first frame."
                                              : "The input has no frames.");
    return;
  }
  for (const auto& [file, frames] : outcome.frames) {
    if (file == trajectory_name || frames == outcome.frames_in) continue;
    outcome.error.emplace(file + " has " + std::to_string(frames) + " of " +
                          std::to_string(outcome.frames_in) + " frames.");
    return;
  }
}

void add_scores(ordered_json& summary, const Scores& scores) {
  const auto add = [&](const char* name, std::optional<double> value) {
    if (!value) {
      summary[name] = nullptr;
      return;
    }
    summary[name] = std::round(*value * 1e6) / 1e6;
  };
  add("abs_rel", scores.abs_rel);
  add("delta1", scores.delta1);
  add("rotation_error_deg", scores.rotation_error_deg);
  add("translation_direction_error_deg", scores.translation_direction_error_deg);
  add("auc30", scores.auc30);
  add("fov_error", scores.fov_error);
  add("ate", scores.ate);
  add("ate_relative", scores.ate_relative);
}

ordered_json summary_of(const Options& options, const Outcome& outcome,
                        const std::vector<std::string>& files) {
  const std::uint64_t out = frames_out(outcome);
  ordered_json summary;
  summary["input"] = options.render ? ordered_json() : ordered_json(options.input);
  summary["frames_in"] = outcome.frames_in;
  summary["frames_out"] = out;
  summary["fps"] = outcome.seconds > 0 ? std::round(double(out) / outcome.seconds * 1000) / 1000 : 0.0;
  summary["seconds"] = std::round(outcome.seconds * 1000) / 1000;
  summary["peak_rss_mb"] = peak_rss_mb();
  summary["model"] = outcome.model ? outcome.model->model : options.model;
  summary["model_source"] = options.model;
  summary["device"] = outcome.model ? outcome.model->device : options.device;
  summary["precision"] = outcome.model ? outcome.model->precision : options.precision;
  summary["process_res"] = options.process_res;
  summary["views"] = options.views;
  summary["files"] = files;
  summary["frames"] = outcome.frames;
  if (outcome.scores) add_scores(summary, *outcome.scores);
  if (!outcome.warnings.empty()) summary["warnings"] = outcome.warnings;
  if (outcome.interrupted) summary["interrupted"] = true;
  if (outcome.error) summary["error"] = outcome.error->what();
  return summary;
}

}  // namespace

void prepare_folder(const Options& options, const Input& input) {
  const fs::path outdir(options.outdir);
  std::error_code error;
  if (fs::exists(outdir, error) && !fs::is_directory(outdir, error)) {
    throw DemoError("OUTDIR \"" + options.outdir + "\" is not a folder.");
  }
  for (const fs::path& file : input.files) {
    for (const char* name : names) {
      if (fs::equivalent(file, outdir / name, error)) {
        throw DemoError("The input \"" + file.string() + "\" would be overwritten; choose another OUTDIR.");
      }
    }
  }
  if (!fs::create_directories(outdir, error) && error) {
    throw DemoError("Cannot create the folder \"" + options.outdir + "\": " + error.message() + ".");
  }
  for (const char* name : names) {
    fs::remove(outdir / name, error);
    if (error)
      throw DemoError("Cannot replace \"" + (outdir / name).string() + "\": " + error.message() + ".");
  }
}

Reserve::Reserve(const fs::path& folder) {
  constexpr off_t size = 1 << 20;
  std::string name = (folder / ".da3-demo-XXXXXX").string();
  fd_ = mkostemp(name.data(), O_CLOEXEC);
  if (fd_ < 0) return;
  unlink(name.c_str());
  if (posix_fallocate(fd_, 0, size) != 0) release();
}

void Reserve::release() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

std::vector<std::string> write_report(const Options& options, Outcome& outcome) {
  const fs::path outdir(options.outdir);
  find_lost_frames(outcome);
  try {
    if (outcome.preview) write_preview(outdir / preview_name, outcome.preview.get());
  } catch (const DemoError& e) {
    if (!outcome.error) outcome.error.emplace(e);
  }
  std::vector<std::string> files;
  for (const char* name : names) {
    std::error_code error;
    const fs::path path = outdir / name;
    // A trajectory may be empty for want of poses; one for want of frames goes with the others.
    const auto counted = outcome.frames.find(name == std::string(trajectory_name) ? "poses.jsonl" : name);
    const bool no_frames = counted != outcome.frames.end() && counted->second == 0;
    const bool nothing = no_frames || (fs::is_regular_file(path, error) && fs::file_size(path, error) == 0);
    if (nothing) fs::remove(path, error);
    if (name == std::string(summary_name) || fs::exists(path, error)) files.push_back(name);
  }
  std::string text =
      summary_of(options, outcome, files).dump(2, ' ', false, ordered_json::error_handler_t::replace);
  text.push_back('\n');
  try {
    write_file(outdir / summary_name, text.data(), text.size());
  } catch (const DemoError& e) {
    if (!outcome.error) outcome.error.emplace(e);
    files.pop_back();
  }
  return files;
}

}  // namespace da3::demo
