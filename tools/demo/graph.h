// SPDX-License-Identifier: MIT
//
// The pipeline of da3-demo:
//
//   source ! da3infer [! da3score] ! tee -> depth.mp4, depth.mkv, poses.jsonl, poses.tum   (one bin each,
//   named like its file)
//
// Sinks do not wait for each other (async=false): encoders hold frames back, and a tee with a sink that waits
// for its first frame would stand still.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "gst_ptr.h"
#include "image_feeder.h"
#include "input.h"
#include "options.h"

namespace da3::demo {

// Application message that says that the stream ended before its first frame.
inline constexpr const char* no_frames_message = "da3-demo-no-frames";

// One output file. Element pointers belong to the pipeline.
struct Branch {
  std::string file;
  GstElement* bin = nullptr;
  GstElement* pose_sink = nullptr;         // of poses.*, else nullptr
  std::atomic<std::uint64_t> encoded = 0;  // frames that left the encoder, of depth.*
  std::mutex mutex;                        // of `fitted`
  bool fitted = false;                     // the first frame has set the size of the recording

  // Frames with a place in the file.
  std::uint64_t frames() const;
};

// What da3score says of a rendered clip; empty: has no value.
struct Scores {
  std::optional<double> abs_rel, delta1, rotation_error_deg, translation_direction_error_deg, auc30,
      fov_error, ate, ate_relative;
};

// What the frames say about the network, once one has come.
struct ModelInfo {
  std::string model, device, precision;
};

class Graph {
 public:
  // Builds; nothing runs yet. Throws DemoError.
  Graph(const Options& options, const Input& input);
  // Stops everything.
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  GstElement* pipeline() const { return pipeline_.get(); }
  GstElement* source() const { return source_; }
  const std::vector<std::unique_ptr<Branch>>& branches() const { return branches_; }

  // Starts. FALSE: an error is on the bus.
  bool play();
  // The frame that comes next from the source, if any, is the end of the stream. From any thread.
  void stop_taking() { stopped_ = true; }
  // Ends the stream at da3infer or at one branch, on another thread because it may have to wait for its turn.
  void send_eos_to_inference();
  void send_eos_to(Branch& branch);
  void shut_down();

  // Which frame would make a good preview; later calls refine the guess.
  void set_preview_target(std::uint64_t frame) { preview_target_ = frame; }
  SamplePtr take_preview();

  std::uint64_t frames_in() const { return taken_; }
  // Images that were read, whether or not they have come in yet; 0 of a video.
  std::uint64_t frames_fed() const { return feeder_ ? feeder_->fed() : 0; }
  std::uint64_t frames_inferred() const { return inferred_; }
  // Since the first frame was read; 0 before.
  double seconds() const;
  std::optional<ModelInfo> model_info() const;
  // Of the frames so far; empty unless the clip is rendered.
  std::optional<Scores> scores() const;
  // Frames a second as the source says, 0 if it does not.
  double frame_rate() const { return frame_rate_; }

 private:
  void add_branch(const std::string& file, const std::string& description,
                  const std::filesystem::path& outdir);
  void show_truth(Branch& branch);
  void watch_recording(Branch& branch, bool for_players);
  GstPadProbeReturn take(GstPad* pad, GstPadProbeInfo* info);
  GstPadProbeReturn inferred(GstBuffer* buffer);
  GstPadProbeReturn keep_preview(GstPad* pad, GstBuffer* buffer);

  ObjectPtr<GstElement> pipeline_;
  GstElement* source_ = nullptr;
  GstElement* infer_ = nullptr;
  GstElement* score_ = nullptr;  // unless the clip is rendered
  GstElement* tee_ = nullptr;
  std::vector<std::unique_ptr<Branch>> branches_;
  const Input input_;
  const std::optional<std::uint64_t> max_frames_;
  std::unique_ptr<ImageFeeder> feeder_;

  std::atomic<bool> stopped_ = false;
  std::atomic<std::uint64_t> taken_ = 0, inferred_ = 0, preview_target_ = 0;
  std::atomic<double> frame_rate_ = 0;
  std::atomic<gint64> first_frame_us_ = 0;
  mutable std::mutex mutex_;  // the fields below
  std::optional<ModelInfo> model_info_;
  SamplePtr preview_;
  std::uint64_t preview_seen_ = 0;
};

}  // namespace da3::demo
