// SPDX-License-Identifier: MIT
//
// Work `pipeline`: frames a second through `source ! da3infer ! fakesink` over those of the engine alone, on
// the same model in the same process, by turns; then how old frames are when they leave da3infer, live at
// four fifths of that rate; and how often the pixels of a frame are copied on the way.
#include <gst/gst.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <stdexcept>

#include "core/stats.h"
#include "core/worker.h"
#include "engine/api/engine_module.h"
#include "engine/checkpoint/synthetic.h"
#include "engine/runtime/policy.h"
#include "works/engine_worker.h"

namespace da3::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct Unref {
  void operator()(void* object) const { gst_object_unref(object); }
};
using ElementPtr = std::unique_ptr<GstElement, Unref>;

struct Setup {
  std::string model, device, precision;
  Size size;
  int64_t threads = 0;
  int frames = 20;
  int source_width = 1280, source_height = 720;
};

// When frames pass and whether their memory is the same on both sides of the element.
struct Watch {
  std::mutex lock;
  std::map<GstClockTime, std::pair<SteadyClock::time_point, const GstMemory*>> inside;
  std::vector<double> milliseconds;
  SteadyClock::time_point first, last;
  int out = 0, copied = 0;

  static GstPadProbeReturn enters(GstPad*, GstPadProbeInfo* info, gpointer data) {
    auto* watch = static_cast<Watch*>(data);
    GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(info);
    const std::lock_guard<std::mutex> guard(watch->lock);
    watch->inside[GST_BUFFER_PTS(buffer)] = {SteadyClock::now(), gst_buffer_peek_memory(buffer, 0)};
    return GST_PAD_PROBE_OK;
  }
  static GstPadProbeReturn leaves(GstPad*, GstPadProbeInfo* info, gpointer data) {
    auto* watch = static_cast<Watch*>(data);
    GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(info);
    const std::lock_guard<std::mutex> guard(watch->lock);
    const auto found = watch->inside.find(GST_BUFFER_PTS(buffer));
    watch->last = SteadyClock::now();
    if (watch->out++ == 0) watch->first = watch->last;
    if (found == watch->inside.end()) return GST_PAD_PROBE_OK;
    watch->milliseconds.push_back(
        std::chrono::duration<double, std::milli>(watch->last - found->second.first).count());
    if (gst_buffer_peek_memory(buffer, 0) != found->second.second) ++watch->copied;
    watch->inside.erase(found);
    return GST_PAD_PROBE_OK;
  }
  // Between the first and the last frame that came out.
  double rate() const {
    const double seconds = std::chrono::duration<double>(last - first).count();
    return out > 1 && seconds > 0 ? (out - 1) / seconds : 0;
  }
};

std::string description(const Setup& s, int frames, double live_rate) {
  std::string rate = "30/1";
  if (live_rate > 0) rate = std::to_string(std::max<long>(1, std::lround(live_rate * 1000))) + "/1000";
  return "videotestsrc pattern=ball num-buffers=" + std::to_string(frames) +
         (live_rate > 0 ? " is-live=true" : "") +
         " ! video/x-raw,format=I420,width=" + std::to_string(s.source_width) +
         ",height=" + std::to_string(s.source_height) + ",framerate=" + rate +
         " ! da3infer name=infer process-res=" + std::to_string(std::max(s.size.width, s.size.height)) +
         " ! fakesink sync=" + (live_rate > 0 ? "true" : "false");
}

void add_probe(GstElement* element, const char* pad_name, GstPadProbeCallback callback, Watch* watch) {
  GstPad* pad = gst_element_get_static_pad(element, pad_name);
  gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, callback, watch, nullptr);
  gst_object_unref(pad);
}

// Plays to the end; throws what the bus says went wrong.
void play(const Setup& s, int frames, double live_rate, Watch* watch) {
  GError* error = nullptr;
  ElementPtr pipeline(gst_parse_launch(description(s, frames, live_rate).c_str(), &error));
  if (error) {
    const std::string text = error->message;
    g_error_free(error);
    throw std::runtime_error(text);
  }
  ElementPtr infer(gst_bin_get_by_name(GST_BIN(pipeline.get()), "infer"));
  gst_util_set_object_arg(G_OBJECT(infer.get()), "model", s.model.c_str());
  gst_util_set_object_arg(G_OBJECT(infer.get()), "device", s.device.c_str());
  gst_util_set_object_arg(G_OBJECT(infer.get()), "precision", s.precision.c_str());
  if (s.threads > 0)
    gst_util_set_object_arg(G_OBJECT(infer.get()), "threads", std::to_string(s.threads).c_str());
  add_probe(infer.get(), "sink", Watch::enters, watch);
  add_probe(infer.get(), "src", Watch::leaves, watch);
  std::unique_ptr<GstBus, Unref> bus(gst_element_get_bus(pipeline.get()));
  gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);
  GstMessage* message = gst_bus_timed_pop_filtered(bus.get(), 900 * GST_SECOND,
                                                   GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  std::string failure = message ? "" : "the pipeline did not end";
  if (message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
    gst_message_parse_error(message, &error, nullptr);
    failure = error->message;
    g_error_free(error);
  }
  if (message) gst_message_unref(message);
  gst_element_set_state(pipeline.get(), GST_STATE_NULL);
  if (!failure.empty()) throw std::runtime_error(failure);
}

// The engine alone: as many requests in flight as an element keeps, results dropped.
class Alone {
 public:
  explicit Alone(const Setup& s) : setup_(s) {
    Da3EngineConfig config{};
    config.struct_size = sizeof config;
    config.model = s.model.c_str();
    config.device = s.device.c_str();
    config.threads = uint32_t(s.threads);
    config.precision = precision_of(s.precision);
    engine_ = EngineModule::instance().open(config);
    api_ = &engine_->api();
    const auto& size = s.size;
    pixels_.resize(size_t(size.width * size.height * 3));
    synthetic::fill_rgb(pixels_.data(), int(size.width), int(size.height), 0);
    view_ = {pixels_.data(), int32_t(size.width * 3)};
  }

  // In force.
  const char* precision() const { return name_of(engine_->info().precision); }

  // Frames a second between the first and the last result.
  double run(int frames) {
    constexpr int kInFlight = 8;
    done_ = 0;
    failure_.clear();
    for (int sent = 0; sent < frames; ++sent) {
      std::unique_lock<std::mutex> guard(lock_);
      changed_.wait(guard, [&] { return sent - done_ < kInFlight; });
      guard.unlock();
      submit();
    }
    std::unique_lock<std::mutex> guard(lock_);
    changed_.wait(guard, [&] { return done_ == frames; });
    if (!failure_.empty()) throw std::runtime_error(failure_);
    return (frames - 1) / std::chrono::duration<double>(last_ - first_).count();
  }

 private:
  void submit() {
    Da3Request request{};
    request.struct_size = sizeof request;
    request.stream = this;
    request.views = &view_;
    request.n_views = 1;
    request.width = int32_t(setup_.size.width);
    request.height = int32_t(setup_.size.height);
    request.outputs = engine_->info().outputs &
                      uint32_t(DA3_OUTPUT_DEPTH | DA3_OUTPUT_CONFIDENCE | DA3_OUTPUT_POSE | DA3_OUTPUT_SKY);
    request.ref_view_strategy = DA3_REF_VIEW_SADDLE_BALANCED;
    request.user = this;
    request.done = [](void* user, Da3Result* result, const Da3Error* error) {
      auto* self = static_cast<Alone*>(user);
      if (result) self->api_->result_unref(result);
      const std::lock_guard<std::mutex> guard(self->lock_);
      if (error) self->failure_ = error->message;
      self->last_ = SteadyClock::now();
      if (self->done_++ == 0) self->first_ = self->last_;
      self->changed_.notify_one();
    };
    engine_->submit(request);
  }

  const Setup setup_;
  std::unique_ptr<Engine> engine_;
  const Da3EngineApi* api_ = nullptr;
  std::vector<uint8_t> pixels_;
  Da3View view_{};
  std::mutex lock_;
  std::condition_variable changed_;
  int done_ = 0;
  std::string failure_;
  SteadyClock::time_point first_, last_;
};

Row measure(const Setup& s, const RunPlan& plan) {
  gst_init(nullptr, nullptr);
  Alone alone(s);  // keeps the model loaded
  std::vector<double> alone_rates, pipeline_rates, shares;
  int frames = 0, copied = 0;
  std::vector<Turn> turns(2);
  turns[0].once = [&] {
    const double rate = alone.run(s.frames);
    alone_rates.push_back(rate);
    return 1000 / rate;
  };
  turns[1].once = [&] {
    Watch watch;
    play(s, s.frames, 0, &watch);
    frames += watch.out;
    copied += watch.copied;
    const double rate = watch.rate();
    pipeline_rates.push_back(rate);
    return 1000 / rate;
  };
  run_in_turn(turns, plan);
  for (const Turn& turn : turns)
    if (!turn.failure.empty()) throw std::runtime_error(turn.failure);
  const double engine_ms = median(turns[0].milliseconds), pipeline_ms = median(turns[1].milliseconds);

  Row rows = Row::array();
  Row engine = {{"case", "engine alone"}};
  add_times(turns[0], &engine);
  engine["images_per_s"] = 1000 / engine_ms;
  Row whole = {{"case", "pipeline"}};
  add_times(turns[1], &whole);
  whole["images_per_s"] = 1000 / pipeline_ms;
  whole["engine_share"] = engine_ms / pipeline_ms;
  whole["copies_per_frame"] = frames > 0 ? double(copied) / frames : 0.0;

  // A live source begins before everything is ready: the first third is left out.
  const int live_frames = std::max(45, 2 * s.frames);
  Watch watch;
  play(s, live_frames, 0.8 * 1000 / pipeline_ms, &watch);
  std::vector<double> ages = watch.milliseconds;
  ages.erase(ages.begin(), ages.begin() + std::min<std::ptrdiff_t>(live_frames / 3, std::ssize(ages)));
  Row live = {{"case", "pipeline, live at 80 %"}};
  if (ages.empty()) {
    live["skipped"] = "no frame came through in time";
  } else {
    live["median_ms"] = median(ages);
    live["p5_ms"] = quantile(ages, 0.05);
    live["p95_ms"] = quantile(ages, 0.95);
    live["p99_ms"] = quantile(ages, 0.99);
    live["runs"] = ages.size();
    live["images_per_s"] = watch.rate();
    live["frames_lost"] = live_frames - watch.out;
  }
  rows.push_back(engine);
  rows.push_back(whole);
  rows.push_back(live);
  for (Row& row : rows) row["precision"] = alone.precision();
  return {{"rows", rows}};
}

// Plugins of the build that this program belongs to, unless the user has others.
void prefer_own_plugins() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto plugins = program.parent_path().parent_path() / "plugins";
  if (!error && std::filesystem::exists(plugins / "libgstda3.so"))
    setenv("GST_PLUGIN_PATH", plugins.c_str(), 0);
}

void run(Context& context) {
  prefer_own_plugins();
  const Options& o = context.options;
  std::vector<std::string> models = o.models, precisions = o.precisions;
  if (models.empty()) models = {"synthetic:da3-small"};
  if (precisions.empty()) precisions = {"auto"};
  for (const std::string& model : models)
    for (const std::string& precision : precisions) {
      Setup s;
      s.model = model;
      s.device = o.device;
      s.precision = precision;
      s.threads = o.threads.empty() ? 0 : o.threads.front();
      s.frames = o.quick ? 6 : 40;
      // The frames of the source become this: sixteen to nine, or what is asked for.
      s.size = o.quick ? Size{140, 84} : Size{504, 280};
      if (!o.sizes.empty()) s.size = o.sizes.front();
      if (!o.sizes.empty() || o.quick) {
        s.source_width = int(s.size.width * 2);
        s.source_height = int(s.size.height * 2);
      }
      Row answer;
      try {
        answer = in_child([&] { return measure(s, context.plan(5, 300)); }, 3600);
      } catch (const std::exception& e) {
        answer = {{"rows", Row::array({Row{{"case", "pipeline"}, {"skipped", e.what()}}})}};
      }
      for (const Row& found : answer["rows"]) {
        Row row = {{"work", "pipeline"}, {"model", model}, {"size", s.size.text()}, {"precision", precision}};
        for (const auto& [key, value] : found.items()) row[key] = value;
        context.add(row);
      }
    }
}

DA3_BENCH_WORK(80, "pipeline", "the GStreamer pipeline against the engine alone; latency; copies", run);

}  // namespace
}  // namespace da3::bench
