// SPDX-License-Identifier: MIT
#include "infer_model.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/guard.h"
#include "engine/api/engine_error.h"

GST_DEBUG_CATEGORY_EXTERN(gst_da3_infer_debug);
#define GST_CAT_DEFAULT gst_da3_infer_debug

namespace da3::plugin {
namespace {

constexpr char kLoad[] = "load";
constexpr char kWarmUp[] = "warm-up";

std::string percent(double fraction) {
  return std::to_string(int(100 * std::clamp(fraction, 0.0, 1.0))) + " %";
}

}  // namespace

// A model that is open, and what the engine may call until it is closed.
struct ModelLoader::Opened {
  ModelLoader* loader;
  GstElement* element;
  bool can_be_called_off = false;  // not while a state change waits for it
  std::function<void(Da3ErrorCode, std::string)> mended;
  std::vector<std::string> notices;
  int tenths = -1;  // of the progress said last
  Da3ProgressStage stage = DA3_PROGRESS_LOADING;
  std::unique_ptr<Engine> engine;  // last: closed before the rest goes
};

ModelLoader::ModelLoader(GstElement* element, Host host) : element_(element), host_(std::move(host)) {}

ModelLoader::~ModelLoader() {
  stop();
}

void ModelLoader::progress(GstProgressType type, const char* code, const std::string& text) {
  gst_element_post_message(element_,
                           gst_message_new_progress(GST_OBJECT_CAST(element_), type, code, text.c_str()));
}

// On the thread that loads or measures. Every tenth is enough.
void ModelLoader::on_progress(void* user, Da3ProgressStage stage, double fraction) {
  try {
    auto* opened = static_cast<Opened*>(user);
    if (stage != opened->stage) opened->tenths = -1;
    opened->stage = stage;
    const int tenths = int(10 * fraction);
    if (tenths <= opened->tenths || tenths >= 10) return;  // the end has a message of its own
    opened->tenths = tenths;
    const bool loading = stage == DA3_PROGRESS_LOADING;
    gst_element_post_message(
        opened->element,
        gst_message_new_progress(GST_OBJECT_CAST(opened->element), GST_PROGRESS_TYPE_CONTINUE,
                                 loading ? kLoad : kWarmUp, percent(fraction).c_str()));
  } catch (...) {
  }
}

// On the thread that loads or measures.
int32_t ModelLoader::is_cancelled(void* user) {
  const auto* opened = static_cast<const Opened*>(user);
  return opened->can_be_called_off && opened->loader->called_off_;
}

std::shared_ptr<Engine> ModelLoader::load(const ModelSettings& settings) {
  return open(settings, false);
}

std::shared_ptr<Engine> ModelLoader::open(const ModelSettings& settings, bool in_background) {
  auto opened = std::make_shared<Opened>();
  opened->loader = this;
  opened->can_be_called_off = in_background;
  opened->element = element_;
  opened->mended = host_.mended;
  Da3EngineConfig config{};
  config.struct_size = sizeof(config);
  config.model = settings.model.c_str();
  config.device = settings.device.empty() ? "auto" : settings.device.c_str();
  config.precision = settings.precision;
  config.performance_mode = settings.performance_mode;
  config.attention = settings.attention;
  config.threads = settings.threads;
  config.max_batch = settings.max_batch;
  config.memory_fraction = float(settings.memory_fraction);
  config.cache_ttl_ms = int32_t(std::min<GstClockTime>(settings.cache_ttl / GST_MSECOND, INT32_MAX));
  config.cache_memory_limit = settings.cache_memory_limit;
  config.user = opened.get();
  config.progress = on_progress;
  config.cancelled = is_cancelled;
  config.notice = [](void* user, const char* text) {
    try {
      static_cast<Opened*>(user)->notices.emplace_back(text ? text : "");
    } catch (...) {
    }
  };
  config.warning = [](void* user, Da3ErrorCode code, const char* text) {
    try {
      static_cast<Opened*>(user)->mended(code, text ? text : "");
    } catch (...) {
    }
  };
  progress(GST_PROGRESS_TYPE_START, kLoad, "Loading " + settings.model);
  try {
    opened->engine = EngineModule::instance().open(config);
  } catch (const EngineError& e) {
    if (e.code() == DA3_ERROR_CANCELLED) {
      progress(GST_PROGRESS_TYPE_CANCELED, kLoad, settings.model + " is not wanted any more");
    } else {
      progress(GST_PROGRESS_TYPE_ERROR, kLoad, "Could not load " + settings.model);
    }
    throw;
  } catch (...) {
    progress(GST_PROGRESS_TYPE_ERROR, kLoad, "Could not load " + settings.model);
    throw;
  }
  opened->can_be_called_off = true;  // from now on it is measured, which always can
  progress(GST_PROGRESS_TYPE_COMPLETE, kLoad, "Loaded " + settings.model);
  for (const std::string& notice : opened->notices) {
    if (!notices_posted_.insert(notice).second) continue;
    post_warning(element_, GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_SETTINGS, notice);
  }
  Engine* engine = opened->engine.get();
  return {std::move(opened), engine};
}

void ModelLoader::start() {
  const std::lock_guard lock(mutex_);
  accepting_ = true;
}

void ModelLoader::stop() {
  std::thread thread;
  std::deque<Job> forgotten;
  std::shared_ptr<Engine> measuring;
  {
    const std::lock_guard lock(mutex_);
    accepting_ = false;
    called_off_ = true;
    forgotten.swap(jobs_);
    thread = std::move(thread_);
    measuring = measuring_;
  }
  changed_.notify_all();
  if (measuring) measuring->warm_up_stop();
  if (thread.joinable()) thread.join();
}

void ModelLoader::request(const ModelSettings& settings) {
  std::shared_ptr<Engine> measuring;
  {
    const std::lock_guard lock(mutex_);
    if (!accepting_) return;
    std::erase_if(jobs_, [](const Job& waiting) { return waiting.settings.has_value(); });
    if (loading_) {
      called_off_ = true;
      measuring = measuring_;
    }
    Job job;
    job.settings = settings;
    add(std::move(job));
  }
  if (measuring) measuring->warm_up_stop();
}

// Not behind a load, which takes long and ends with a measurement of its own: frames would wait for it.
bool ModelLoader::warm_up(std::shared_ptr<Engine> engine, const Da3Shape& shape, std::function<void()> done) {
  const std::lock_guard lock(mutex_);
  if (!accepting_ || load_is_due()) return false;
  Job job;
  job.engine = std::move(engine);
  job.shape = shape;
  job.done = std::move(done);
  add(std::move(job));
  return true;
}

// With the lock held.
void ModelLoader::add(Job job) {
  jobs_.push_back(std::move(job));
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  changed_.notify_all();
}

void ModelLoader::work() {
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !accepting_ || !jobs_.empty(); });
      if (!accepting_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
      loading_ = job.settings.has_value();
      called_off_ = false;
    }
    guard(element_, 0, [&] {
      run(std::move(job));
      return 0;
    });
    const std::lock_guard lock(mutex_);
    loading_ = false;
  }
}

void ModelLoader::run(Job job) {
  if (job.settings) {
    load_and_hand_out(*job.settings);
    return;
  }
  measure(job.engine, job.shape);
  job.engine.reset();
  job.done();
}

bool ModelLoader::loading() const {
  const std::lock_guard lock(mutex_);
  return load_is_due();
}

// With the lock held.
bool ModelLoader::load_is_due() const {
  return loading_ ||
         std::any_of(jobs_.begin(), jobs_.end(), [](const Job& job) { return job.settings.has_value(); });
}

// Somebody wants another model by now, or none any more.
bool ModelLoader::superseded() const {
  const std::lock_guard lock(mutex_);
  return !accepting_ ||
         std::any_of(jobs_.begin(), jobs_.end(), [](const Job& j) { return j.settings.has_value(); });
}

void ModelLoader::load_and_hand_out(const ModelSettings& settings) {
  try {
    std::shared_ptr<Engine> engine = open(settings, true);
    host_.check(*engine);
    const auto shape = host_.shape(engine->info());
    if (shape && !superseded()) measure(engine, *shape);
    if (superseded()) {
      GST_INFO_OBJECT(element_, "%s is not wanted any more", settings.model.c_str());
      return;
    }
    host_.adopt(std::move(engine), settings);
  } catch (...) {
    if (!superseded()) host_.reject(settings, std::current_exception());
  }
}

// What goes wrong here goes wrong again, and is reported, with the first frame.
void ModelLoader::measure(std::shared_ptr<Engine> engine, const Da3Shape& shape) {
  {
    const std::lock_guard lock(mutex_);
    if (!accepting_) return;
    measuring_ = engine;
  }
  progress(GST_PROGRESS_TYPE_START, kWarmUp,
           "Measuring " + std::to_string(shape.width) + "x" + std::to_string(shape.height));
  GstProgressType end = GST_PROGRESS_TYPE_COMPLETE;
  std::string text = "Measured";
  try {
    engine->warm_up(shape);
  } catch (const EngineError& e) {
    end = e.code() == DA3_ERROR_CANCELLED ? GST_PROGRESS_TYPE_CANCELED : GST_PROGRESS_TYPE_ERROR;
    text = e.what();
  } catch (const std::exception& e) {
    end = GST_PROGRESS_TYPE_ERROR;
    text = e.what();
  }
  {
    const std::lock_guard lock(mutex_);
    measuring_.reset();
  }
  progress(end, kWarmUp, text);
}

void EngineCloser::close(std::shared_ptr<Engine> engine, const void* stream) {
  const std::lock_guard lock(mutex_);
  jobs_.push_back({std::move(engine), stream});
  if (working_) return;
  if (thread_.joinable()) thread_.join();  // it has left
  thread_ = std::thread([this] { work(); });
  working_ = true;
}

void EngineCloser::wait() {
  std::thread thread;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !working_; });
    thread = std::move(thread_);
  }
  if (thread.joinable()) thread.join();
}

void EngineCloser::work() {
  while (true) {
    Job job;
    {
      const std::lock_guard lock(mutex_);
      if (jobs_.empty()) {
        working_ = false;
        changed_.notify_all();
        return;
      }
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    // Groups that run hold a share: the last one to let go must not be the engine's own thread.
    job.engine->cancel(job.stream);
  }
}

}  // namespace da3::plugin
