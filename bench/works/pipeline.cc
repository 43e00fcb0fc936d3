// SPDX-License-Identifier: MIT
//
// Work `pipeline`: frames a second through `source ! da3infer ! fakesink` over those of the engine alone, on
// the same model in the same process, by turns: with a test picture that is drawn for each frame, with one
// that lies in memory, and with scenes of da3testsrc, which cost most; how much of the cores making and
// resizing a frame takes, and so how much the engine can get; then how old frames are when they leave
// da3infer, live at four fifths of that rate; and how much of a frame is copied on the way.
#include <ATen/Parallel.h>
#include <gst/gst.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>

#include "core/machine.h"
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

// The percentile that one frame of a hundred decides needs some hundreds.
constexpr int kLiveFrames = 300, kLiveWarmUp = 30, kLiveTrialSeconds = 20;
constexpr double kMostLiveSeconds = 300;
// A quick model plays for some seconds, or the start of a pipeline would weigh as much as frames.
constexpr double kSeconds = 2;
constexpr int kFirstFrames = 8, kMostFrames = 400;

struct Setup {
  std::string model, device, precision;
  Size size;
  int64_t threads = 0;
  int frames = 20, scenes = 20;
  bool long_enough = true;  // more frames, if they are gone in a moment
  int live_frames = kLiveFrames;
  Size source = {1280, 720}, scene = {640, 360};  // of videotestsrc and da3testsrc
};

// What frames go through.
enum class Through { nothing, resize, infer };

// Where they come from: drawn one by one, the same picture again and again, rendered.
enum class From { drawing, memory, scenes };

// One way to play.
struct Playing {
  From from = From::drawing;
  Through through = Through::infer;
  int frames = 0;
  double live_rate = 0;  // 0: as fast as it goes
};

// When frames pass and whether their memory is the same on both sides of the element.
struct Watch {
  std::mutex lock;
  std::map<GstClockTime, std::pair<SteadyClock::time_point, const GstMemory*>> inside;
  std::vector<double> milliseconds;
  SteadyClock::time_point entered, first, last;
  double first_cpu = 0, last_cpu = 0;  // seconds of the process, of all its threads
  int in = 0, out = 0, copied = 0;
  guint64 frame_bytes = 0, bytes_copied = 0;  // of one frame that enters; of all, as the element says

  static GstPadProbeReturn enters(GstPad*, GstPadProbeInfo* info, gpointer data) {
    auto* watch = static_cast<Watch*>(data);
    GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(info);
    const std::lock_guard<std::mutex> guard(watch->lock);
    watch->frame_bytes = gst_buffer_get_size(buffer);
    if (watch->in++ == 0) watch->entered = SteadyClock::now();
    watch->inside[GST_BUFFER_PTS(buffer)] = {SteadyClock::now(), gst_buffer_peek_memory(buffer, 0)};
    return GST_PAD_PROBE_OK;
  }
  static GstPadProbeReturn leaves(GstPad*, GstPadProbeInfo* info, gpointer data) {
    auto* watch = static_cast<Watch*>(data);
    GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(info);
    const std::lock_guard<std::mutex> guard(watch->lock);
    const auto found = watch->inside.find(GST_BUFFER_PTS(buffer));
    watch->last = SteadyClock::now();
    watch->last_cpu = cpu_seconds();
    if (watch->out++ == 0) {
      watch->first = watch->last;
      watch->first_cpu = watch->last_cpu;
    }
    if (found == watch->inside.end()) return GST_PAD_PROBE_OK;
    watch->milliseconds.push_back(
        std::chrono::duration<double, std::milli>(watch->last - found->second.first).count());
    if (gst_buffer_peek_memory(buffer, 0) != found->second.second) ++watch->copied;
    watch->inside.erase(found);
    return GST_PAD_PROBE_OK;
  }
  static double cpu_seconds() {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
  }
  // Between the first and the last frame that came out.
  double cpu_milliseconds() const { return out > 1 ? 1000 * (last_cpu - first_cpu) / (out - 1) : 0; }
  // Frames a second, from the first that comes out to the last.
  double rate() const { return out > 1 ? rate(out - 1, first) : 0; }
  // From when the first one enters: frames of a batch leave together, so from the first that comes out to the
  // last there may be a pass less.
  double rate_through() const { return in > 0 && out > 0 ? rate(out, entered) : 0; }

 private:
  double rate(int frames, SteadyClock::time_point since) const {
    const double seconds = std::chrono::duration<double>(last - since).count();
    return seconds > 0 ? frames / seconds : 0;
  }
};

std::string description(const Setup& s, const Playing& p) {
  const bool live = p.live_rate > 0;
  std::string rate = "30/1";
  if (live) rate = std::to_string(std::max<long>(1, std::lround(p.live_rate * 1000))) + "/1000";
  const bool scenes = p.from == From::scenes, memory = p.from == From::memory;
  const Size& size = scenes ? s.scene : s.source;
  const std::string count = " num-buffers=" + std::to_string(p.frames);
  std::string out = scenes ? "da3testsrc" : "videotestsrc pattern=ball";
  out += (memory ? " num-buffers=1" : count) + (live ? " is-live=true" : "") +
         " ! video/x-raw,format=" + (scenes ? "RGB" : "I420") + ",width=" + std::to_string(size.width) +
         ",height=" + std::to_string(size.height) + ",framerate=" + rate;
  if (memory) out += " ! imagefreeze" + count;
  const std::string resolution = " process-res=" + std::to_string(std::max(s.size.width, s.size.height));
  if (p.through == Through::resize) out += " ! da3preprocess" + resolution;
  if (p.through == Through::infer) out += " ! da3infer name=infer" + resolution;
  return out + " ! fakesink name=sink sync=" + (live ? "true" : "false");
}

void add_probe(GstElement* element, const char* pad_name, GstPadProbeCallback callback, Watch* watch) {
  GstPad* pad = gst_element_get_static_pad(element, pad_name);
  gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, callback, watch, nullptr);
  gst_object_unref(pad);
}

void set_up(GstElement* infer, const Setup& s) {
  gst_util_set_object_arg(G_OBJECT(infer), "model", s.model.c_str());
  gst_util_set_object_arg(G_OBJECT(infer), "device", s.device.c_str());
  gst_util_set_object_arg(G_OBJECT(infer), "precision", s.precision.c_str());
  if (s.threads > 0) gst_util_set_object_arg(G_OBJECT(infer), "threads", std::to_string(s.threads).c_str());
}

guint64 bytes_copied(GstElement* infer) {
  GstStructure* stats = nullptr;
  g_object_get(infer, "stats", &stats, nullptr);
  guint64 bytes = 0;
  const bool known = stats && gst_structure_get_uint64(stats, "bytes-copied", &bytes);
  if (stats) gst_structure_free(stats);
  if (!known) throw std::runtime_error("the statistics of da3infer have no bytes-copied");
  return bytes;
}

// Plays to the end; throws what the bus says went wrong.
void play(const Setup& s, const Playing& p, Watch* watch) {
  GError* error = nullptr;
  ElementPtr pipeline(gst_parse_launch(description(s, p).c_str(), &error));
  if (error) {
    const std::string text = error->message;
    g_error_free(error);
    throw std::runtime_error(text);
  }
  ElementPtr infer(p.through == Through::infer ? gst_bin_get_by_name(GST_BIN(pipeline.get()), "infer")
                                               : nullptr);
  const ElementPtr sink(gst_bin_get_by_name(GST_BIN(pipeline.get()), "sink"));
  if (infer) {
    set_up(infer.get(), s);
    add_probe(infer.get(), "sink", Watch::enters, watch);
  }
  add_probe(infer ? infer.get() : sink.get(), infer ? "src" : "sink", Watch::leaves, watch);
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
  if (infer && failure.empty()) watch->bytes_copied = bytes_copied(infer.get());
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
  const char* attention() const { return name_of(engine_->info().attention); }
  bool on_cpu() const { return std::string(engine_->info().device) == "cpu"; }

  // Frames a second, from the first request to the last result.
  double run(int frames) {
    constexpr int kInFlight = 8;
    done_ = 0;
    failure_.clear();
    const auto started = SteadyClock::now();
    for (int sent = 0; sent < frames; ++sent) {
      std::unique_lock<std::mutex> guard(lock_);
      changed_.wait(guard, [&] { return sent - done_ < kInFlight; });
      guard.unlock();
      submit();
    }
    std::unique_lock<std::mutex> guard(lock_);
    changed_.wait(guard, [&] { return done_ == frames; });
    if (!failure_.empty()) throw std::runtime_error(failure_);
    return frames / std::chrono::duration<double>(last_ - started).count();
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
      ++self->done_;
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
  SteadyClock::time_point last_;
};

// Milliseconds a frame of one way to play.
Turn turn_of(const Setup& s, From from, Through through, Watch* last) {
  return {[=, &s] {
    Watch watch;
    play(s, {from, through, from == From::scenes ? s.scenes : s.frames, 0}, &watch);
    const double rate = through == Through::infer ? watch.rate_through() : watch.rate();
    if (rate <= 0) throw std::runtime_error("no frames came through");
    const double milliseconds = 1000 / rate;
    if (last) {
      last->out = watch.out;
      last->copied = watch.copied;
      last->frame_bytes = watch.frame_bytes;
      last->bytes_copied = watch.bytes_copied;
    }
    return milliseconds;
  }};
}

Row row_of(const char* name, const Turn& turn) {
  Row row = {{"case", name}};
  add_times(turn, &row);
  if (row.contains("median_ms")) row["images_per_s"] = 1000 / row["median_ms"].get<double>();
  return row;
}

void add_copies(const Watch& watch, Row* row) {
  if (!row->contains("median_ms") || watch.out == 0 || watch.frame_bytes == 0) return;
  const double bytes = double(watch.bytes_copied) / watch.out;
  (*row)["copies_per_frame"] = bytes / double(watch.frame_bytes);
  (*row)["bytes_copied_per_frame"] = bytes;
  (*row)["frame_copied"] = double(watch.copied) / watch.out;
}

// On the CPU: passes take all cores, and what prepares frames takes some of their time.
void add_possible_share(const Turn& preparing, const Row& engine, Row* whole) {
  if (!engine.contains("median_ms") || preparing.milliseconds.empty()) return;
  const double core = median(preparing.milliseconds), pass = engine["median_ms"].get<double>();
  (*whole)["preparing_core_ms"] = core;
  (*whole)["engine_share_possible"] = pass / (pass + core / double(at::get_num_threads()));
}

// How old frames are. A live source begins before everything is ready: the first ones are left out.
Row live_row(const Setup& s, double rate) {
  const int warm_up = std::min(kLiveWarmUp, s.live_frames);
  // Some may be lost.
  int frames = warm_up + s.live_frames + s.live_frames / 10;
  frames = std::min(frames, std::max(2 * warm_up, int(rate * kMostLiveSeconds)));
  std::optional<Watch> watch;
  std::vector<double> ages;
  // A few frames of a quick model are gone in a moment in which the machine does something else.
  int lost = 0;
  const auto started = SteadyClock::now();
  while (ages.empty() && SteadyClock::now() - started < std::chrono::seconds(kLiveTrialSeconds)) {
    watch.emplace();
    play(s, {From::drawing, Through::infer, frames, rate}, &*watch);
    lost += frames - watch->out;
    ages = watch->milliseconds;
    ages.erase(ages.begin(), ages.begin() + std::min<std::ptrdiff_t>(warm_up, std::ssize(ages)));
  }
  if (ages.empty()) throw std::runtime_error("no frame came through in time");
  Row row = {{"median_ms", median(ages)}, {"p5_ms", quantile(ages, 0.05)}, {"p95_ms", quantile(ages, 0.95)}};
  // Of fewer it would be about the oldest one.
  if (std::ssize(ages) >= kLiveFrames || s.live_frames < kLiveFrames) row["p99_ms"] = quantile(ages, 0.99);
  row["runs"] = ages.size();
  row["images_per_s"] = watch->rate();
  row["frames_lost"] = lost;
  return row;
}

constexpr char kAlone[] = "engine alone", kScenesAlone[] = "da3testsrc alone",
               kLive[] = "pipeline, live at 80 %";

// Milliseconds of a core that making and resizing a frame takes.
Turn turn_of_preparing(const Setup& s, From from) {
  return {[&s, from] {
    Watch watch;
    play(s, {from, Through::resize, s.frames, 0}, &watch);
    return watch.cpu_milliseconds();
  }};
}

Row measure(Setup s, const RunPlan& plan) {
  gst_init(nullptr, nullptr);
  Alone alone(s);  // keeps the model loaded
  if (s.long_enough) {
    alone.run(kFirstFrames);  // the first pass of a shape takes longer
    s.frames = std::clamp(int(kSeconds * alone.run(kFirstFrames)), s.frames, kMostFrames);
  }
  Watch last;
  std::vector<Turn> turns = {{[&] { return 1000 / alone.run(s.frames); }},
                             turn_of(s, From::drawing, Through::infer, &last),
                             turn_of(s, From::memory, Through::infer, nullptr),
                             turn_of(s, From::scenes, Through::infer, nullptr),
                             turn_of(s, From::scenes, Through::nothing, nullptr),
                             turn_of_preparing(s, From::drawing),
                             turn_of_preparing(s, From::memory)};
  run_in_turn(turns, plan);
  Row engine = row_of(kAlone, turns[0]), whole = row_of("pipeline", turns[1]),
      from_memory = row_of("pipeline, frames in memory", turns[2]),
      with_scenes = row_of("da3testsrc ! da3infer", turns[3]), scenes = row_of(kScenesAlone, turns[4]);
  if (alone.on_cpu()) {
    add_possible_share(turns[5], engine, &whole);
    add_possible_share(turns[6], engine, &from_memory);
  }
  for (Row* row : {&whole, &from_memory, &with_scenes})
    if (row->contains("median_ms") && engine.contains("median_ms"))
      (*row)["engine_share"] = engine["median_ms"].get<double>() / row->at("median_ms").get<double>();
  add_copies(last, &whole);

  Row live = {{"case", kLive}};
  try {
    if (!whole.contains("median_ms")) throw std::runtime_error("its rate is not known");
    live.update(live_row(s, 0.8 * 1000 / whole["median_ms"].get<double>()));
  } catch (const std::exception& e) {
    live["skipped"] = e.what();
  }
  for (Row* row : {&engine, &whole, &from_memory, &live, &with_scenes}) {
    (*row)["precision"] = alone.precision();
    (*row)["attention"] = alone.attention();
    (*row)["views"] = 1;
    (*row)["threads"] = at::get_num_threads();
    (*row)["peak_rss_mb"] = peak_memory_mb();  // of all cases together, they share the process
  }
  return {{"rows", Row::array({engine, whole, from_memory, live, scenes, with_scenes})}};
}

// Plugins of the build that this program belongs to, unless the user has others.
void prefer_own_plugins() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto plugins = program.parent_path().parent_path() / "plugins";
  if (!error && std::filesystem::exists(plugins / "libgstda3.so"))
    setenv("GST_PLUGIN_PATH", plugins.c_str(), 0);
}

// Frames of the source become the network's size: sixteen to nine, or what is asked for.
Setup setup_of(const Options& o, const std::string& model, const std::string& precision) {
  Setup s;
  s.model = model;
  s.device = o.device;
  s.precision = precision;
  s.threads = first_or(o.threads, int64_t(0));
  s.frames = s.scenes = o.quick ? 20 : 40;
  s.long_enough = !o.quick;
  s.live_frames = o.quick ? 30 : kLiveFrames;
  s.size = first_or(o.sizes, o.quick                  ? Size{140, 84}
                             : model == kTrainedModel ? Size{196, 112}
                                                      : Size{504, 280});
  if (!o.sizes.empty() || o.quick) s.source = s.scene = {s.size.width * 2, s.size.height * 2};
  return s;
}

// Work of the engine beside that of `model` and `compare`; a source alone and ages of frames are no work of
// its.
void add_engine_rates(Context& context, const Setup& s, double gflop, Row* row) {
  const std::string name = row->value("case", "");
  if (gflop <= 0 || name == kScenesAlone || name == kLive) return;
  EngineSetup setup;
  setup.device = s.device;
  setup.threads = s.threads;
  add_rates(context, setup, {{"gflop", gflop}}, row);
}

void measure_model(Context& context, const std::string& model, const std::string& precision) {
  const Setup s = setup_of(context.options, model, precision);
  Row answer;
  try {
    answer = in_child([&] { return measure(s, context.plan(5, 300)); }, 3600);
  } catch (const std::exception& e) {
    answer = {{"rows", Row::array({Row{{"case", "pipeline"}, {"skipped", e.what()}}})}};
  }
  EngineSetup one;
  one.model = model;
  one.size = s.size;
  const double gflop = gflop_of(one);
  for (const Row& found : answer["rows"]) {
    Row row = {{"work", "pipeline"}, {"model", model}, {"size", s.size.text()}, {"precision", precision}};
    for (const auto& [key, value] : found.items()) row[key] = value;
    if (row["case"] == kScenesAlone)
      for (const char* key : {"model", "size", "precision"}) row.erase(key);
    add_engine_rates(context, s, gflop, &row);
    context.add(row);
  }
}

void run(Context& context) {
  prefer_own_plugins();
  const Options& o = context.options;
  std::vector<std::string> models = o.models, precisions = o.precisions;
  if (models.empty()) models = {"synthetic:da3-small", kTrainedModel};
  if (precisions.empty()) precisions = {"auto"};
  for (const std::string& model : models)
    for (const std::string& precision : precisions) measure_model(context, model, precision);
}

DA3_BENCH_WORK(80, "pipeline", "the GStreamer pipeline against the engine alone; latency; copies", run,
               "--model --size=1 --precision --threads=1");

}  // namespace
}  // namespace da3::bench
