// SPDX-License-Identifier: MIT
//
// Four da3infer on two engines for as long as one likes: frames, flushing seeks from another thread, changes
// of size and settings, other models, serialised queries, streams that end, leave and join. Checked all
// along: frames come out in order with the depth of their own pixels, every frame is accounted for, nothing
// is an error, and memory stays where it is.
//
//   infer_soak [--buffers=N] [--seed=N] [--streams=N]       exit status 0: all is well
//
// The engines are the stub ($DA3_STUB_ENGINE): half of the streams, of live ones and of others, wait in its
// own queue, and half in the queue of the real engine.
#include <dlfcn.h>
#include <gst/da3/da3.h>
#include <gst/video/video.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../stub_engine/stub_engine.h"

namespace {

constexpr GstClockTime kFrameTime = 40 * GST_MSECOND;

struct Options {
  long buffers = 4000;
  unsigned seed = 1;
  int streams = 4;
};

[[noreturn]] void broken(const std::string& what) {
  std::fprintf(stderr, "infer_soak: %s\n", what.c_str());
  std::fflush(nullptr);
  std::_Exit(1);
}

void check(bool good, const std::string& what) {
  if (!good) broken(what);
}

float depth_of(int number) {
  const int r = number % 251, g = (3 * number) % 241, b = (7 * number) % 239;
  return 1.0f + 9.0f * float(r + g + b) / 765.0f;
}

GstBuffer* frame(int width, int height, int number) {
  GstVideoInfo info;
  gst_video_info_set_format(&info, GST_VIDEO_FORMAT_RGB, width, height);
  GstBuffer* buffer = gst_buffer_new_allocate(nullptr, info.size, nullptr);
  GstMapInfo map;
  gst_buffer_map(buffer, &map, GST_MAP_WRITE);
  for (int y = 0; y < height; ++y) {
    guint8* row = map.data + gsize(y) * GST_VIDEO_INFO_PLANE_STRIDE(&info, 0);
    for (int x = 0; x < width; ++x) {
      row[3 * x] = guint8(number % 251);
      row[3 * x + 1] = guint8((3 * number) % 241);
      row[3 * x + 2] = guint8((7 * number) % 239);
    }
  }
  gst_buffer_unmap(buffer, &map);
  GST_BUFFER_OFFSET(buffer) = guint64(number);
  GST_BUFFER_DURATION(buffer) = kFrameTime;
  return buffer;
}

guint64 number_in(const GstStructure* s, const char* field) {
  guint64 value = 0;
  check(gst_structure_get_uint64(s, field, &value), std::string("no statistic ") + field);
  return value;
}

// ---- one stream
// ----------------------------------------------------------------------------------------------------

class Stream {
 public:
  Stream(int index, const Options& options) : index_(index), random_(options.seed * 1000 + unsigned(index)) {
    element_ = gst_element_factory_make("da3infer", nullptr);
    check(element_ != nullptr, "no element da3infer; is GST_PLUGIN_PATH set?");
    gst_object_ref_sink(element_);
    g_object_set(element_, "model", model("a").c_str(), "process-res", 28, nullptr);
    bus_ = gst_bus_new();
    gst_bus_set_sync_handler(bus_, on_message, this, nullptr);
    gst_element_set_bus(element_, bus_);
    upstream_ = make_pad("up", GST_PAD_SRC);
    gst_pad_set_query_function(upstream_, answer_latency);
    gst_pad_set_event_function(upstream_, answer_seek);
    downstream_ = make_pad("down", GST_PAD_SINK);
    gst_pad_set_chain_function(downstream_, take);
    gst_pad_set_query_function(downstream_, take_any_caps);
    link(upstream_, "sink", true);
    link(downstream_, "src", false);
    join();
  }
  // Stops for good; the totals are complete then.
  void finish() {
    leave();
    finished_ = true;
  }
  ~Stream() {
    if (!finished_) leave();
    gst_bus_set_sync_handler(bus_, nullptr, nullptr, nullptr);
    gst_element_set_bus(element_, nullptr);
    gst_object_unref(bus_);
    gst_object_unref(upstream_);
    gst_object_unref(downstream_);
    gst_object_unref(element_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // One step of the thread that pushes; true if it was a frame.
  bool step() {
    std::unique_lock lock(mutex_);
    sought_.wait(lock, [this] { return !flushed_; });
    const int dice = pick(0, 999);
    if (dice < 2) {
      // The rules of pads: no flush ends that has not begun in the same life.
      const std::unique_lock life(life_mutex_, std::try_to_lock);
      if (!life) return false;
      leave();
      join();
    } else if (dice < 6) {
      end_and_begin();
    } else if (dice < 30) {
      width_ = pick(30, 56), height_ = pick(30, 56);
      send_caps();
    } else if (dice < 60) {
      change_settings();
    } else if (dice < 75) {
      ask();
    } else if (dice < 80) {
      needs_segment_ = true;  // without a flush, as between two files
    } else if (dice < 85) {
      gst_pad_push_event(downstream_, gst_event_new_qos(GST_QOS_TYPE_UNDERFLOW, 1.5,
                                                        GstClockTimeDiff(pick(0, 90)) * GST_MSECOND,
                                                        GstClockTime(pick(0, 5)) * GST_SECOND));
    } else {
      return push();
    }
    return false;
  }

  // A flushing seek, from any other thread: through the element to the pad above it, which flushes.
  void seek() {
    const std::lock_guard life(life_mutex_);
    balance();  // while the other thread pushes
    const int before = seeks_;
    gst_pad_push_event(downstream_, gst_event_new_seek(1, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
                                                       GST_SEEK_TYPE_SET, 0, GST_SEEK_TYPE_NONE, 0));
    check(seeks_ == before + 1, "the seek did not come through");
  }

  guint64 total_in() const { return total_in_; }
  guint64 total_out() const { return total_out_; }
  guint64 total_dropped() const { return total_dropped_; }
  int seeks() const { return seeks_; }
  int joins() const { return joins_; }
  int model_changes() const { return int(model_changes_); }

 private:
  static gboolean answer_seek(GstPad* pad, GstObject* parent, GstEvent* event) {
    if (GST_EVENT_TYPE(event) != GST_EVENT_SEEK) return gst_pad_event_default(pad, parent, event);
    gst_event_unref(event);
    static_cast<Stream*>(gst_pad_get_element_private(pad))->flush();
    return TRUE;
  }

  void flush() {
    seeking_ = true;
    gst_pad_push_event(upstream_, gst_event_new_flush_start());
    const std::lock_guard lock(mutex_);  // the pusher has noticed
    gst_pad_push_event(upstream_, gst_event_new_flush_stop(TRUE));
    seeking_ = flushed_ = false;
    sought_.notify_all();
    needs_segment_ = true;
    new_order();
    ++seeks_;
  }

  // Not live, and its drop-policy stays as it is: it loses nothing but by flushes and ends.
  bool keeps_all() const { return index_ == 0; }

  int pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  std::string model(const std::string& id) const {
    return std::string("stub:") + (index_ / 2 % 2 == 1 ? "queue=former," : "") +
           (index_ % 4 == 2 ? "beside=1," : "") + "id=" + id;
  }

  GstPad* make_pad(const char* name, GstPadDirection direction) {
    GstPad* pad = gst_pad_new(name, direction);
    gst_object_ref_sink(pad);
    gst_pad_set_element_private(pad, this);
    return pad;
  }

  void link(GstPad* own, const char* name, bool source) {
    GstPad* pad = gst_element_get_static_pad(element_, name);
    const GstPadLinkReturn linked = source ? gst_pad_link(own, pad) : gst_pad_link(pad, own);
    check(linked == GST_PAD_LINK_OK, "the pads cannot be linked");
    gst_object_unref(pad);
  }

  void join() {
    gst_pad_set_active(downstream_, TRUE);
    check(gst_element_set_state(element_, GST_STATE_PLAYING) != GST_STATE_CHANGE_FAILURE, "no start");
    gst_pad_set_active(upstream_, TRUE);
    received_ = 0;
    pushed_ = 0;
    new_order();
    begin();
    ++joins_;
  }

  void begin() {
    gst_pad_push_event(upstream_, gst_event_new_stream_start(("s" + std::to_string(++serial_)).c_str()));
    send_caps();
    needs_segment_ = true;
  }

  void leave() {
    check(gst_element_set_state(element_, GST_STATE_NULL) == GST_STATE_CHANGE_SUCCESS, "no stop");
    gst_pad_set_active(upstream_, FALSE);
    gst_pad_set_active(downstream_, FALSE);
    account();
  }

  // At any moment every frame is out, dropped or inside.
  void balance() {
    GstStructure* stats = nullptr;
    g_object_get(element_, "stats", &stats, nullptr);
    const guint64 in = number_in(stats, "frames-in"), out = number_in(stats, "frames-out");
    const guint64 dropped = number_in(stats, "frames-dropped");
    guint inside = 0;
    check(gst_structure_get_uint(stats, "queue-level", &inside), "no statistic queue-level");
    gst_structure_free(stats);
    check(in == out + dropped + inside, std::to_string(in) + " in, but " + std::to_string(out) + " out, " +
                                            std::to_string(dropped) + " dropped and " +
                                            std::to_string(inside) + " inside");
  }

  // Every frame of this life of the element.
  void account() {
    GstStructure* stats = nullptr;
    g_object_get(element_, "stats", &stats, nullptr);
    const guint64 in = number_in(stats, "frames-in"), out = number_in(stats, "frames-out");
    const guint64 dropped = number_in(stats, "frames-dropped");
    guint inside = 1;
    gst_structure_get_uint(stats, "queue-level", &inside);
    const std::string text = std::to_string(in) + " in, " + std::to_string(out) + " out, " +
                             std::to_string(dropped) + " dropped, " + std::to_string(inside) + " inside, " +
                             std::to_string(received_) + " received, " + std::to_string(pushed_) + " pushed";
    check(in == out + dropped && inside == 0, "frames are lost: " + text);
    check(out == received_, "frames that were pushed did not arrive: " + text);
    check(in >= pushed_, "frames that were taken are not counted: " + text);
    if (keeps_all()) {
      const GValue* drops = gst_structure_get_value(stats, "drops");
      check(drops && GST_VALUE_HOLDS_STRUCTURE(drops), "no statistic drops");
      for (const char* reason : {"overrun", "late", "qos"})
        check(number_in(gst_value_get_structure(drops), reason) == 0,
              std::string("dropped for ") + reason + " where nothing may be: " + text);
    }
    total_in_ += in;
    total_out_ += out;
    total_dropped_ += dropped;
    model_changes_ += number_in(stats, "model-changes");
    gst_structure_free(stats);
  }

  void send_caps() {
    GstCaps* caps = gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, "RGB", "width", G_TYPE_INT,
                                        width_, "height", G_TYPE_INT, height_, "framerate", GST_TYPE_FRACTION,
                                        25, 1, "pixel-aspect-ratio", GST_TYPE_FRACTION, 1, 1, nullptr);
    gst_pad_push_event(upstream_, gst_event_new_caps(caps));
    gst_caps_unref(caps);
  }

  void end_and_begin() {
    gst_pad_push_event(upstream_, gst_event_new_eos());
    begin();
  }

  // True if the frame was taken.
  bool push() {
    if (needs_segment_) {
      GstSegment segment;
      gst_segment_init(&segment, GST_FORMAT_TIME);
      gst_pad_push_event(upstream_, gst_event_new_segment(&segment));
      needs_segment_ = false;
      position_ = 0;
    }
    GstBuffer* buffer = frame(width_, height_, next_);
    GST_BUFFER_PTS(buffer) = kFrameTime * position_++;
    if (pick(0, 49) == 0) GST_BUFFER_FLAG_SET(buffer, GST_BUFFER_FLAG_GAP);
    ++next_;
    const GstFlowReturn flow = gst_pad_push(upstream_, buffer);
    // Caps that meet a flush on their way are refused by the pads themselves.
    const bool flushed = flow == GST_FLOW_FLUSHING || (seeking_ && flow == GST_FLOW_NOT_NEGOTIATED);
    check(flow == GST_FLOW_OK || flushed, std::string("flow: ") + gst_flow_get_name(flow));
    flushed_ = seeking_ && flow != GST_FLOW_OK;
    if (flow == GST_FLOW_OK) ++pushed_;
    return flow == GST_FLOW_OK;
  }

  void change_settings() {
    switch (pick(0, 5)) {
      case 0:
        if (!keeps_all()) g_object_set(element_, "drop-policy", pick(0, 3), nullptr);
        break;
      case 1:
        g_object_set(element_, "on-drop", pick(0, 2), nullptr);
        break;
      case 2:
        g_object_set(element_, "views", guint(pick(1, 3)), nullptr);
        break;
      case 3:
        g_object_set(element_, "process-res", 14 * pick(2, 4), nullptr);
        break;
      case 4:
        g_object_set(element_, "max-latency", guint64(pick(0, 3)) * 20 * GST_MSECOND, nullptr);
        break;
      default:
        g_object_set(element_, "model", model(pick(0, 1) ? "a" : "b,delay-ms=1").c_str(), nullptr);
    }
  }

  void ask() {
    GstQuery* query = pick(0, 1) ? gst_query_new_drain() : gst_query_new_allocation(nullptr, FALSE);
    gst_pad_peer_query(upstream_, query);
    gst_query_unref(query);
    query = gst_query_new_latency();
    gst_pad_peer_query(downstream_, query);
    gst_query_unref(query);
    balance();
  }

  // Frames after a seek have nothing to do with those before it.
  void new_order() {
    const std::lock_guard lock(take_mutex_);
    last_taken_ = -1;
  }

  static GstFlowReturn take(GstPad* pad, GstObject*, GstBuffer* buffer) {
    static_cast<Stream*>(gst_pad_get_element_private(pad))->take_frame(buffer);
    gst_buffer_unref(buffer);
    return GST_FLOW_OK;
  }

  void take_frame(GstBuffer* buffer) {
    const auto number = gint64(GST_BUFFER_OFFSET(buffer));
    {
      const std::lock_guard lock(take_mutex_);
      check(number > last_taken_,
            "frame " + std::to_string(number) + " after " + std::to_string(last_taken_));
      last_taken_ = number;
      ++received_;
    }
    GstDa3Tensor tensor;
    if (!gst_buffer_get_da3_tensor(buffer, GST_DA3_TENSOR_DEPTH, &tensor)) return;
    GstDa3View view;
    check(gst_buffer_get_da3_view(buffer, &view), "depth without a view");
    float value = 0;
    gst_buffer_extract(tensor.data, 0, &value, sizeof(value));
    if (view.stale) return;
    check(std::fabs(value - depth_of(int(number))) < 1e-4f,
          "frame " + std::to_string(number) + " has the depth of another one");
  }

  static gboolean answer_latency(GstPad* pad, GstObject* parent, GstQuery* query) {
    auto* self = static_cast<Stream*>(gst_pad_get_element_private(pad));
    if (GST_QUERY_TYPE(query) != GST_QUERY_LATENCY) return gst_pad_query_default(pad, parent, query);
    gst_query_set_latency(query, self->index_ % 2 == 1, 0, GST_CLOCK_TIME_NONE);
    return TRUE;
  }

  // A pad without a template would take its first caps only.
  static gboolean take_any_caps(GstPad* pad, GstObject* parent, GstQuery* query) {
    if (GST_QUERY_TYPE(query) == GST_QUERY_ACCEPT_CAPS) {
      gst_query_set_accept_caps_result(query, TRUE);
      return TRUE;
    }
    if (GST_QUERY_TYPE(query) != GST_QUERY_CAPS) return gst_pad_query_default(pad, parent, query);
    GstCaps* caps = gst_caps_new_any();
    gst_query_set_caps_result(query, caps);
    gst_caps_unref(caps);
    return TRUE;
  }

  // That max-latency is less than a pass takes here is no fault: the soak sets it so.
  static bool is_of_slowness(const GError* error) {
    return g_error_matches(error, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED) &&
           std::string(error->message).find("max-latency") != std::string::npos;
  }

  static GstBusSyncReply on_message(GstBus*, GstMessage* message, gpointer) {
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR || GST_MESSAGE_TYPE(message) == GST_MESSAGE_WARNING) {
      GError* error = nullptr;
      GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR ? gst_message_parse_error(message, &error, nullptr)
                                                     : gst_message_parse_warning(message, &error, nullptr);
      if (!is_of_slowness(error)) broken(std::string("on the bus: ") + error->message);
      g_error_free(error);
    }
    gst_message_unref(message);
    return GST_BUS_DROP;
  }

  const int index_;
  GstElement* element_ = nullptr;
  GstBus* bus_ = nullptr;
  GstPad *upstream_ = nullptr, *downstream_ = nullptr;

  std::atomic<bool> seeking_{false};
  std::mutex life_mutex_;  // taken before the next one, or tried
  std::mutex mutex_;       // of the pusher
  std::condition_variable sought_;
  bool flushed_ = false;  // the pusher waits for the end of the flush
  std::mt19937 random_;
  int width_ = 28, height_ = 28, next_ = 0, serial_ = 0;
  guint64 position_ = 0;
  bool needs_segment_ = true;
  guint64 pushed_ = 0;
  int seeks_ = 0, joins_ = 0;
  bool finished_ = false;
  guint64 total_in_ = 0, total_out_ = 0, total_dropped_ = 0, model_changes_ = 0;

  std::mutex take_mutex_;
  gint64 last_taken_ = -1;
  guint64 received_ = 0;
};

// ---- memory
// ----------------------------------------------------------------------------------------------------

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  long size = 0, resident = 0;
  statm >> size >> resident;
  return double(resident) * double(sysconf(_SC_PAGESIZE)) / (1024 * 1024);
}

// MiB for each 10,000 buffers, by least squares; the beginning, when caches fill, does not count.
double slope(const std::vector<std::pair<double, double>>& samples) {
  double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
  for (size_t i = samples.size() / 4; i < samples.size(); ++i) {
    const auto [x, y] = samples[i];
    n += 1, sx += x, sy += y, sxx += x * x, sxy += x * y;
  }
  const double spread = n * sxx - sx * sx;
  return spread > 0 ? 10000 * (n * sxy - sx * sy) / spread : 0;
}

constexpr bool under_sanitiser() {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  return true;
#else
  return false;
#endif
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&](const char* name) {
      const std::string prefix = std::string("--") + name + "=";
      return argument.rfind(prefix, 0) == 0 ? std::atol(argument.c_str() + prefix.size()) : -1;
    };
    if (const long n = value("buffers"); n > 0) {
      options.buffers = n;
    } else if (const long seed = value("seed"); seed >= 0) {
      options.seed = unsigned(seed);
    } else if (const long streams = value("streams"); streams > 0) {
      options.streams = int(streams);
    } else {
      broken("'" + argument + "' is none of --buffers=N --seed=N --streams=N");
    }
  }
  return options;
}

using Samples = std::vector<std::pair<double, double>>;

// Every stream has a thread that pushes; one more seeks; this one watches the memory.
Samples run(std::vector<std::unique_ptr<Stream>>& streams, const Options& options) {
  std::mutex mutex;
  std::condition_variable changed;
  long pushed = 0;
  bool done = false;
  std::vector<std::thread> threads;
  for (auto& stream : streams) {
    threads.emplace_back([&, s = stream.get()] {
      while (true) {
        const bool frame = s->step();
        const std::lock_guard lock(mutex);
        if (frame) ++pushed;
        changed.notify_all();
        if (pushed >= options.buffers) return;
      }
    });
  }
  std::thread seeker([&] {
    std::mt19937 random(options.seed);
    for (long next = 0;; next += 100) {
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return done || pushed >= next; });
        if (done) return;
      }
      streams[random() % streams.size()]->seek();
    }
  });
  Samples samples;
  for (long next = 0; next < options.buffers; next += std::max(100L, options.buffers / 200)) {
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return pushed >= next; });
    }
    samples.emplace_back(double(next), resident_mib());
  }
  for (std::thread& thread : threads) thread.join();
  {
    const std::lock_guard lock(mutex);
    done = true;
  }
  changed.notify_all();
  seeker.join();
  return samples;
}

Da3StubCounters engine_counters() {
  void* module = dlopen(g_getenv("DA3_STUB_ENGINE"), RTLD_NOW | RTLD_LOCAL);
  check(module != nullptr, "the stub engine cannot be loaded");
  auto* get = reinterpret_cast<const Da3StubControl* (*)()>(dlsym(module, DA3_STUB_ENTRY));
  Da3StubCounters counters;
  get()->counters(&counters);
  return counters;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  const gchar* engine = g_getenv("DA3_STUB_ENGINE");
  check(engine != nullptr, "set DA3_STUB_ENGINE to the stub engine");
  g_setenv("DA3_ENGINE_PATH", engine, TRUE);
  gst_init(nullptr, nullptr);
  Samples samples;
  guint64 in = 0, out = 0, dropped = 0;
  int seeks = 0, joins = 0, models = 0;
  {
    std::vector<std::unique_ptr<Stream>> streams;
    for (int i = 0; i < options.streams; ++i) streams.push_back(std::make_unique<Stream>(i, options));
    samples = run(streams, options);
    for (auto& stream : streams) stream->finish();
    for (auto& stream : streams) {
      in += stream->total_in(), out += stream->total_out(), dropped += stream->total_dropped();
      seeks += stream->seeks(), joins += stream->joins(), models += stream->model_changes();
    }
  }
  const Da3StubCounters counters = engine_counters();
  check(counters.results_alive == 0, std::to_string(counters.results_alive) + " results are not released");
  check(counters.engines_alive == 0, "engines are left open");
  check(counters.finished == counters.submitted, "requests are lost");
  const double rise = slope(samples);
  std::printf(
      "%" G_GUINT64_FORMAT " in = %" G_GUINT64_FORMAT " out + %" G_GUINT64_FORMAT
      " dropped; %d seeks, %d joins, %d changes of model; %d requests in %d batches; memory %.1f MiB, "
      "%+.3f MiB for 10,000 buffers\n",
      in, out, dropped, seeks, joins, models, counters.submitted, counters.batches,
      samples.empty() ? 0 : samples.back().second, rise);
  if (options.buffers >= 50000 && !under_sanitiser()) check(rise < 1, "memory grows");
  return 0;
}
