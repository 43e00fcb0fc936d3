// SPDX-License-Identifier: MIT
//
// Frames that go to the engine as one request: views of one scene that attend to each other, or a single
// frame.
//
// Life: add() by the streaming thread, submit() once, finished() turns true on the engine's thread (or at
// once if the engine refuses), then result() by the thread that pushes.
#pragma once

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/api/engine_module.h"
#include "infer_input.h"

namespace da3::plugin {

// The one lock of a stream. Groups hold a share: an engine may finish a request after its stream has gone.
struct StreamSync {
  std::mutex mutex;
  std::condition_variable changed;
};

// A moment on the clock of the pipeline; `epoch` changes with the clock.
struct Stamp {
  gint64 ns = 0;
  guint epoch = 0;
};

// Shared planes of one request; releases them when the last tensor, on whatever frame, is gone.
class InferResult {
 public:
  InferResult(const Da3EngineApi& api, Da3Result* handle) : api_(&api), handle_(handle) {}
  ~InferResult() { api_->result_unref(handle_); }
  InferResult(const InferResult&) = delete;
  InferResult& operator=(const InferResult&) = delete;
  const Da3ResultData& data() const { return *api_->result_data(handle_); }

 private:
  const Da3EngineApi* api_;
  Da3Result* handle_;
};

class InferGroup {
 public:
  // `sized_by`: the model that chose `size`; null if it does not depend on the model.
  InferGroup(std::shared_ptr<StreamSync> sync, const InferSettings& settings, image::Size size, gint64 window,
             std::shared_ptr<Engine> sized_by)
      : sync_(std::move(sync)),
        settings_(settings),
        size_(size),
        window_(window),
        sized_by_(std::move(sized_by)) {}

  const InferSettings& settings() const { return settings_; }
  image::Size size() const { return size_; }
  // Until assign().
  const std::shared_ptr<Engine>& sized_by() const { return sized_by_; }
  // Returns the frame's position in the group. `arrival`: when it came, before anything was done with it.
  guint add(Pixels pixels, Stamp arrival);
  bool complete() const { return views_ >= settings_.views; }

  // With the lock held, before submit(): who infers it, and from when on it waits for that.
  void assign(std::shared_ptr<Engine> engine, Stamp now) {
    engine_ = std::move(engine);
    sized_by_.reset();
    submitted_at_ = now;
  }
  bool submitted() const { return engine_ != nullptr; }
  void closed(Stamp now);
  Stamp closed_at() const { return closed_at_; }
  // Its age counts from here: when its last view came, or when it was clear that no more would.
  Stamp ready_at() const { return ready_at_; }
  // The time so far does not count: it waited for something else than its turn.
  void begin_to_wait(Stamp now) { closed_at_ = ready_at_ = now; }
  Stamp submitted_at() const { return submitted_at_; }

  // Hands `self` to its engine; a refusal becomes the group's error. Call without the lock. deadline_ns: on
  // the monotonic clock, 0 = none; what cannot meet it is computed late, or, with `may_expire`, not at all.
  static void submit(const std::shared_ptr<InferGroup>& self, const void* stream, gint64 deadline_ns,
                     bool may_expire) noexcept;
  // After submit(). The engine outlives its groups: the stream keeps those that it has replaced.
  const std::shared_ptr<Engine>& engine() const { return engine_; }

  // With the lock held.
  bool finished() const { return finished_; }
  // After finished(). The engine has not spent work on it, because its deadline could not be met.
  bool expired() const { return expired_; }
  // After finished(). Throws what went wrong: EngineError, or ElementError for results that make no sense.
  const std::shared_ptr<InferResult>& result();

  guint views() const { return views_; }
  gint64 window() const { return window_; }

 private:
  static void on_done(void* user, Da3Result* result, const Da3Error* error) noexcept;
  static void finish(std::shared_ptr<InferGroup> self, std::shared_ptr<InferResult> result,
                     std::exception_ptr error, bool expired = false) noexcept;
  void check() const;

  const std::shared_ptr<StreamSync> sync_;
  const InferSettings settings_;
  const image::Size size_;
  const gint64 window_;
  std::shared_ptr<Engine> sized_by_;
  std::vector<Pixels> pixels_;
  guint views_ = 0;
  uint32_t outputs_ = 0;
  std::shared_ptr<Engine> engine_;
  Stamp closed_at_, ready_at_, submitted_at_;
  bool finished_ = false, expired_ = false;
  bool checked_ = false;
  std::shared_ptr<InferResult> result_;
  std::exception_ptr error_;
};

// The DA3_OUTPUT_* bits that a stream asks for: what the model has and somebody may read, no more.
uint32_t wanted_outputs(const Da3ModelInfo& model, bool use_ray_pose);

// What models are meant for that do not say it.
inline constexpr int kUsualProcessRes = 504;
// The side length that the model is meant for.
int own_process_res(const Da3ModelInfo& model);

}  // namespace da3::plugin
