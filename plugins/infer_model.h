// SPDX-License-Identifier: MIT
//
// Opens models for da3infer: at once for a state change, or on a thread of its own while frames flow. Says on
// the bus how far it is (GST_MESSAGE_PROGRESS) and what the engine remarks.
#pragma once

#include <gst/gst.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "engine/api/engine_module.h"

namespace da3::plugin {

// What an engine is opened with.
struct ModelSettings {
  std::string model = "da3-demo";  // the checkpoint that ships
  std::string device = "auto";
  Da3Precision precision = DA3_PRECISION_AUTO;
  Da3PerformanceMode performance_mode = DA3_PERFORMANCE_BALANCED;
  Da3Attention attention = DA3_ATTENTION_AUTO;
  guint threads = 0;
  guint max_batch = 0;
  double memory_fraction = 0.85;
  GstClockTime cache_ttl = 0;
  guint64 cache_memory_limit = 0;
  bool operator==(const ModelSettings&) const = default;
};

class ModelLoader {
 public:
  // Called on the loader's thread without locks.
  struct Host {
    // Before a model that was loaded while playing is handed out. Throws what makes it unusable here.
    std::function<void(Engine&)> check;
    // What frames look like to this model, for measuring it before it takes over; nothing while not known.
    std::function<std::optional<Da3Shape>(const Da3ModelInfo&)> shape;
    std::function<void(std::shared_ptr<Engine>, const ModelSettings&)> adopt;
    std::function<void(const ModelSettings&, std::exception_ptr)> reject;
    // From the engine's worker thread: something went wrong and was mended. Returns soon.
    std::function<void(Da3ErrorCode, std::string)> mended;
  };

  ModelLoader(GstElement* element, Host host);
  ~ModelLoader();
  ModelLoader(const ModelLoader&) = delete;
  ModelLoader& operator=(const ModelLoader&) = delete;

  // Opens the model now. Throws EngineError. Call from state changes or the loader's thread.
  std::shared_ptr<Engine> load(const ModelSettings& settings);

  // Between start() and stop(): loads in the background, then adopt() or reject(). A later request replaces
  // earlier ones, finished or not.
  void start();
  void request(const ModelSettings& settings);
  // Measures an engine that is in use in the background; `done` is called on the loader's thread afterwards,
  // unless stop() comes first. False: not between start() and stop(), or another model is about to take over.
  bool warm_up(std::shared_ptr<Engine> engine, const Da3Shape& shape, std::function<void()> done);
  // Calls off what runs and waits until that has noticed; what waits is forgotten.
  void stop();
  // A model is being loaded, or waits for it.
  bool loading() const;

 private:
  struct Job {
    std::optional<ModelSettings> settings;  // to load; else to warm up:
    std::shared_ptr<Engine> engine;
    Da3Shape shape{};
    std::function<void()> done;
  };
  struct Opened;

  std::shared_ptr<Engine> open(const ModelSettings& settings, bool in_background);
  void add(Job job);
  bool load_is_due() const;
  void work();
  void run(Job job);
  void load_and_hand_out(const ModelSettings& settings);
  bool superseded() const;
  void measure(std::shared_ptr<Engine> engine, const Da3Shape& shape);
  void progress(GstProgressType type, const char* code, const std::string& text);
  static void on_progress(void* user, Da3ProgressStage stage, double fraction);
  static int32_t is_cancelled(void* user);

  GstElement* const element_;
  const Host host_;
  std::set<std::string> notices_posted_;  // by load()

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  std::thread thread_;
  bool accepting_ = false, loading_ = false;
  std::shared_ptr<Engine> measuring_;
  std::atomic<bool> called_off_{false};  // nobody wants any more what the thread does at the moment
};

// Closes engines on a thread of its own: that waits for the pass that runs, and frees a whole model. The
// destructor waits for what is left.
class EngineCloser {
 public:
  EngineCloser() = default;
  ~EngineCloser() { wait(); }
  EngineCloser(const EngineCloser&) = delete;
  EngineCloser& operator=(const EngineCloser&) = delete;

  // Returns at once. `stream`: the only one whose requests may still be with this reference.
  void close(std::shared_ptr<Engine> engine, const void* stream);
  // Until all of them are closed.
  void wait();

 private:
  struct Job {
    std::shared_ptr<Engine> engine;
    const void* stream = nullptr;
  };
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  std::thread thread_;
  bool working_ = false;
};

}  // namespace da3::plugin
