// SPDX-License-Identifier: MIT
//
// da3infer behind 1, 4 and 16 cameras at half, nearly all and five times of what the engine can do, in
// virtual time: before an engine that takes what comes, whatever its deadlines, and before the queue and the
// worker of the real one.
#include <algorithm>
#include <condition_variable>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "infer_live.h"

using namespace da3::testing;

// ---- load
// ----------------------------------------------------------------------------------------------------

namespace {

// What reaches downstream of all streams, and what does not.
struct Monitor {
  std::mutex mutex;
  std::condition_variable changed;
  GstClock* clock = nullptr;
  int count = 0;
  std::vector<std::vector<GstClockTime>> ages;            // by stream, in order
  std::vector<std::map<guint64, GstClockTime>> arrivals;  // by stream and frame
  std::vector<std::set<guint64>> gone;                    // by stream: frames that came out or were dropped
  void wait(int frames) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return count >= frames; });
  }
  void wait_gone(size_t camera, guint64 frame) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return gone[camera].count(frame) > 0; });
  }
  void forget_ages() {
    const std::lock_guard lock(mutex);
    for (auto& stream : ages) stream.clear();
  }
};

struct Camera {
  Monitor* monitor;
  int index;
  std::unique_ptr<Infer> infer;
  int pushed = 0;
};

GstFlowReturn record_age(GstPad* pad, GstObject*, GstBuffer* buffer) {
  auto* camera = static_cast<Camera*>(g_object_get_data(G_OBJECT(pad), "camera"));
  Monitor& monitor = *camera->monitor;
  const GstClockTime now = gst_clock_get_time(monitor.clock);
  {
    const std::lock_guard lock(monitor.mutex);
    const auto arrival = monitor.arrivals[camera->index].at(GST_BUFFER_OFFSET(buffer));
    monitor.ages[camera->index].push_back(now - arrival);
    monitor.gone[camera->index].insert(GST_BUFFER_OFFSET(buffer));
    ++monitor.count;
  }
  monitor.changed.notify_all();
  gst_buffer_unref(buffer);
  return GST_FLOW_OK;
}

// Every frame that is dropped has a QoS message.
GstBusSyncReply record_drop(GstBus*, GstMessage* message, gpointer user) {
  if (GST_MESSAGE_TYPE(message) != GST_MESSAGE_QOS) return GST_BUS_PASS;
  auto* camera = static_cast<Camera*>(user);
  guint64 timestamp = 0;
  gst_message_parse_qos(message, nullptr, nullptr, nullptr, &timestamp, nullptr);
  {
    const std::lock_guard lock(camera->monitor->mutex);
    camera->monitor->gone[camera->index].insert(timestamp / kFrameTime);
  }
  camera->monitor->changed.notify_all();
  gst_message_unref(message);
  return GST_BUS_DROP;
}

struct Load {
  int cameras;
  double load;  // of capacity
  bool gpu;     // four items cost little more than one; else four times as much
  GstClockTime max_latency = 0;
  // Of a full batch: what makes this load of cameras with kFrameTime between frames.
  double pass_ns() const { return load * double(kFrameTime) * batch() / cameras; }
  int batch() const { return gpu ? 4 : 1; }
};

struct Outcome {
  std::vector<GstClockTime> ages;        // all
  std::vector<GstClockTime> halves[2];   // of the time
  std::vector<guint64> dropped, served;  // by camera
  GstClockTime service = 0;              // of a full batch
  int batch = 0;
};

// Cameras of 25 frames/s with jitter before one engine, in virtual time.
class Simulation {
 public:
  Outcome run(int frames) {
    start();
    struct Arrival {
      GstClockTime at;
      int camera;
    };
    std::vector<Arrival> arrivals;
    std::mt19937 random(7);
    std::uniform_real_distribution<double> jitter(0, 0.4);
    const GstClockTime begin = gst_clock_get_time(clock_);
    for (int c = 0; c < load_.cameras; ++c) {
      for (int f = 1; f <= frames; ++f) {
        const double at = f + double(c) / load_.cameras + jitter(random);
        arrivals.push_back({begin + GstClockTime(at * double(kFrameTime)), c});
      }
    }
    std::sort(arrivals.begin(), arrivals.end(),
              [](const Arrival& a, const Arrival& b) { return a.at < b.at; });
    for (const Arrival& arrival : arrivals) {
      serve_until(arrival.at);
      push(*cameras_[size_t(arrival.camera)], arrival.at);
    }
    serve_until(GST_CLOCK_TIME_NONE);
    return outcome();
  }

 protected:
  // `model`: without its beginning. `max_batch`: of the element.
  Simulation(const Load& load, const std::string& model, int max_batch)
      : load_(load), clock_(gst_test_clock_new()), batch_(load.batch()) {
    stub().reset();
    const double full = load.pass_ns();
    single_ = load.gpu ? full * 0.4 : full / batch_;
    step_ = load.gpu ? full * 0.6 / (batch_ - 1) : full / batch_;
    monitor_.clock = clock_;
    monitor_.ages.resize(size_t(load.cameras));
    monitor_.arrivals.resize(size_t(load.cameras));
    monitor_.gone.resize(size_t(load.cameras));
    model_ = "model=stub:" + model + " process-res=14 max-batch=" + std::to_string(max_batch) +
             " max-latency=" + std::to_string(load.max_latency);
  }
  ~Simulation() {
    cameras_.clear();
    gst_object_unref(clock_);
  }
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;

  // The first frame of each has passed, and with it the warm-up.
  virtual void start() = 0;
  virtual void serve_until(GstClockTime until) = 0;
  // A pass of so many items.
  GstClockTime pass_time(int items) const { return GstClockTime(single_ + step_ * (items - 1)); }
  virtual void set_time(GstClockTime time) {
    if (time > gst_clock_get_time(clock_)) gst_test_clock_set_time(GST_TEST_CLOCK(clock_), time);
  }

  Camera& add_camera() {
    auto camera = std::make_unique<Camera>();
    camera->monitor = &monitor_;
    camera->index = int(cameras_.size());
    camera->infer = std::make_unique<Infer>(model_, Source::live);
    GstHarness* h = camera->infer->harness;
    g_object_set_data(G_OBJECT(h->sinkpad), "camera", camera.get());
    gst_pad_set_chain_function(h->sinkpad, record_age);
    GstBus* bus = gst_element_get_bus(camera->infer->element);
    gst_bus_set_sync_handler(bus, record_drop, camera.get(), nullptr);
    gst_object_unref(bus);
    gst_element_set_clock(camera->infer->element, clock_);
    camera->infer->caps(14, 14);
    cameras_.push_back(std::move(camera));
    return *cameras_.back();
  }

  // The colour says whose frame it is and which.
  void push(Camera& camera, GstClockTime at) {
    const int frame = camera.pushed++;
    {
      const std::lock_guard lock(monitor_.mutex);
      monitor_.arrivals[size_t(camera.index)][guint64(frame)] = at;
    }
    set_time(at);
    const Rgb colour{uint8_t(camera.index), uint8_t(frame % 256), uint8_t(frame / 256)};
    fail_unless_equals_int(camera.infer->push(solid_frame(14, 14, colour, frame)), GST_FLOW_OK);
  }

  const Load load_;
  GstClock* clock_;
  Monitor monitor_;
  std::string model_;
  std::vector<std::unique_ptr<Camera>> cameras_;
  const int batch_;

 private:
  Outcome outcome() {
    Outcome out;
    out.batch = batch_;
    out.service = pass_time(batch_);
    for (const auto& ages : monitor_.ages) {
      out.served.push_back(ages.size());
      for (size_t i = 0; i < ages.size(); ++i) {
        out.ages.push_back(ages[i]);
        out.halves[i < ages.size() / 2 ? 0 : 1].push_back(ages[i]);
      }
    }
    for (auto* ages : {&out.ages, &out.halves[0], &out.halves[1]}) std::sort(ages->begin(), ages->end());
    for (const auto& camera : cameras_) {
      camera->infer->assert_accounts();
      fail_unless_equals_uint64(camera->infer->stat("queue-level"), 0);
      out.dropped.push_back(camera->infer->stat("frames-dropped"));
    }
    return out;
  }

  double single_ = 0, step_ = 0;
};

// Before an engine that takes what comes, in the order in which it comes, as many as there are.
class FirstComeSimulation : public Simulation {
 public:
  explicit FirstComeSimulation(const Load& load) : Simulation(load, "block=1,queued-us=0", load.batch()) {}
  ~FirstComeSimulation() { stub().release(-1); }

 private:
  void start() override {
    for (int i = 0; i < load_.cameras; ++i) push(add_camera(), 0);
    stub().wait_submitted(load_.cameras);
    stub().release(load_.cameras);
    monitor_.wait(load_.cameras);
    stub().wait_finished(load_.cameras);
    done_ = load_.cameras;
    monitor_.forget_ages();
  }

  void serve_until(GstClockTime until) override {
    while (true) {
      const Da3StubCounters counters = stub_counters();
      const int waiting = counters.submitted - counters.finished;
      if (running_ == 0 && waiting > 0) {
        running_ = std::min(waiting, batch_);
        free_at_ = gst_clock_get_time(clock_) + pass_time(running_);
      }
      if (running_ == 0 || free_at_ > until) return;
      set_time(free_at_);
      stub().release(running_);
      done_ += running_;
      monitor_.wait(done_);
      stub().wait_finished(done_);
      running_ = 0;
    }
  }

  int running_ = 0, done_ = 0;
  GstClockTime free_at_ = 0;
};

// Before the real queue and worker, which learn what passes take and serve by deadlines and in turns.
class RealQueueSimulation : public Simulation {
 public:
  explicit RealQueueSimulation(const Load& load) : Simulation(load, model(load), 0) {}
  ~RealQueueSimulation() { stub().set_time(-1); }

 private:
  static std::string model(const Load& load) {
    // CPUs take as long for each of several items: that it does not pay is for the engine to find out.
    const double full = load.pass_ns() / 1000;
    const double item = load.gpu ? full * 0.6 / (load.batch() - 1) : full;
    const double base = load.gpu ? full * 0.4 - item : 0;
    return "queue=former,test-time=1,batch=4,base-us=" + std::to_string(int(base)) +
           ",item-us=" + std::to_string(int(item));
  }

  void set_time(GstClockTime time) override {
    Simulation::set_time(time);
    stub().set_time(gint64(gst_clock_get_time(clock_)));
  }

  // One after the other: each measures before its first frame.
  void start() override {
    for (int i = 0; i < load_.cameras; ++i) {
      Camera& camera = add_camera();
      push(camera, gst_clock_get_time(clock_));
      while (!is_gone(camera)) step(GST_CLOCK_TIME_NONE, false);
    }
    serve_until(gst_clock_get_time(clock_));
    monitor_.forget_ages();
  }
  bool is_gone(const Camera& camera) {
    const std::lock_guard lock(monitor_.mutex);
    return !monitor_.gone[size_t(camera.index)].empty();
  }

  void serve_until(GstClockTime until) override {
    while (step(until, true)) continue;
  }

  // What the engine is at comes to its end, if that is no later than `until`. False: it is later, or there is
  // nothing.
  bool step(GstClockTime until, bool idle_counts) {
    Da3StubState state;
    stub().look(idle_counts, &state);
    switch (state.at) {
      case DA3_STUB_ENDED:
        // The element has done what follows from it, too: it submits before it pushes or drops.
        monitor_.wait_gone(state.rgb[0], state.rgb[1] + 256u * state.rgb[2]);
        stub().proceed();
        return true;
      case DA3_STUB_RUNS:
      case DA3_STUB_WAITS:
        if (GstClockTime(state.until) > until) return false;
        set_time(GstClockTime(state.until));
        return true;
      default:
        return false;
    }
  }
};

GstClockTime p95(const std::vector<GstClockTime>& ages) {
  return ages[ages.size() * 95 / 100];
}

std::string spread(const std::vector<guint64>& counts) {
  const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
  return std::to_string(*least) + " to " + std::to_string(*most);
}

std::string describe(const Load& load, const Outcome& outcome) {
  guint64 dropped = 0;
  for (const guint64 d : outcome.dropped) dropped += d;
  return std::to_string(load.cameras) + " cameras at " + std::to_string(load.load) +
         (load.gpu ? " gpu" : " cpu") + ": p95 " + std::to_string(p95(outcome.ages) / GST_MSECOND) +
         " ms, worst " + std::to_string(outcome.ages.back() / GST_MSECOND) + " ms, " +
         std::to_string(outcome.ages.size()) + " inferred, " + std::to_string(dropped) + " dropped, a pass " +
         std::to_string(outcome.service / GST_MSECOND) + " ms, served " + spread(outcome.served) +
         " a camera, dropped " + spread(outcome.dropped);
}

double unfairness(const std::vector<guint64>& counts) {
  const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
  return *least > 0 ? double(*most) / double(*least) : HUGE_VAL;
}

guint64 sum(const std::vector<guint64>& counts) {
  return std::accumulate(counts.begin(), counts.end(), guint64(0));
}

}  // namespace

// ---- an engine that takes what comes
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(half_the_load_loses_nothing) {
  for (const bool gpu : {false, true}) {
    for (const int cameras : {1, 4, 16}) {
      const Load load{cameras, 0.5, gpu};
      const Outcome outcome = FirstComeSimulation(load).run(100);
      GST_INFO("%s", describe(load, outcome).c_str());
      for (const guint64 dropped : outcome.dropped) fail_unless_equals_uint64(dropped, 0);
      fail_unless(p95(outcome.ages) <= 100 * GST_MSECOND, "%s", describe(load, outcome).c_str());
    }
  }
}
GST_END_TEST

GST_START_TEST(near_the_limit_ages_keep_to_the_budget) {
  for (const bool gpu : {false, true}) {
    for (const int cameras : {1, 4, 16}) {
      Load load{cameras, 0.9, gpu};
      // A frame may find a pass that has just begun, and then waits for its own.
      load.max_latency = GstClockTime(std::max(2.5 * load.pass_ns(), 150.0 * GST_MSECOND));
      const Outcome outcome = FirstComeSimulation(load).run(150);
      const std::string text = describe(load, outcome);
      GST_INFO("%s", text.c_str());
      fail_unless(p95(outcome.ages) <= load.max_latency, "%s", text.c_str());
      guint64 dropped = 0;
      for (const guint64 d : outcome.dropped) dropped += d;
      fail_unless(dropped * 50 <= guint64(150 * cameras), "more than 2 %% lost: %s", text.c_str());
    }
  }
}
GST_END_TEST

GST_START_TEST(overload_stays_young_and_fair) {
  for (const bool gpu : {false, true}) {
    for (const int cameras : {1, 4, 16}) {
      Load load{cameras, 5, gpu};
      load.max_latency = GstClockTime(std::max(2.5 * load.pass_ns(), 200.0 * GST_MSECOND));
      const Outcome outcome = FirstComeSimulation(load).run(150);
      const std::string text = describe(load, outcome);
      GST_INFO("%s", text.c_str());
      const auto [least, most] = std::minmax_element(outcome.dropped.begin(), outcome.dropped.end());
      fail_unless(*least > 0 && double(*most) <= 1.2 * double(*least), "%s", text.c_str());
      // One runs, one waits in the engine, one in the line: of each camera.
      const GstClockTime round =
          outcome.service * GstClockTime((cameras + outcome.batch - 1) / outcome.batch);
      fail_unless(outcome.ages.back() <= 3 * round + outcome.service, "%s", text.c_str());
      const GstClockTime before = p95(outcome.halves[0]), after = p95(outcome.halves[1]);
      fail_unless(after <= std::max(before + kFrameTime, load.max_latency), "ages grow: %s", text.c_str());
      // The engine is never idle: a fifth of the frames is inferred.
      fail_unless(outcome.ages.size() * 5 >= size_t(150 * cameras), "%s", text.c_str());
    }
  }
}
GST_END_TEST

// ---- the real engine's queue and worker
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(the_real_queue_loses_nothing_at_half_the_load) {
  for (const bool gpu : {false, true}) {
    for (const int cameras : {1, 4, 16}) {
      Load load{cameras, 0.5, gpu};
      load.max_latency = GstClockTime(std::max(2.5 * load.pass_ns(), 100.0 * GST_MSECOND));
      const Outcome outcome = RealQueueSimulation(load).run(100);
      const std::string text = describe(load, outcome);
      GST_INFO("%s", text.c_str());
      fail_unless_equals_uint64(sum(outcome.dropped), 0);
      fail_unless_equals_uint64(sum(outcome.served), 100 * guint64(cameras));
      fail_unless(p95(outcome.ages) <= load.max_latency, "%s", text.c_str());
    }
  }
}
GST_END_TEST

GST_START_TEST(the_real_queue_keeps_ages_to_the_budget_near_the_limit) {
  for (const bool gpu : {false, true}) {
    for (const int cameras : {1, 4, 16}) {
      Load load{cameras, 0.9, gpu};
      load.max_latency = GstClockTime(std::max(2.5 * load.pass_ns(), 150.0 * GST_MSECOND));
      const Outcome outcome = RealQueueSimulation(load).run(150);
      const std::string text = describe(load, outcome);
      GST_INFO("%s", text.c_str());
      fail_unless(p95(outcome.ages) <= load.max_latency, "%s", text.c_str());
      fail_unless(sum(outcome.dropped) * 50 <= guint64(150 * cameras), "more than 2 %% lost: %s",
                  text.c_str());
    }
  }
}
GST_END_TEST

GST_START_TEST(the_real_queue_keeps_overload_young_and_fair) {
  for (const bool gpu : {false, true}) {
    for (const int cameras : {1, 4, 16}) {
      Load load{cameras, 5, gpu};
      load.max_latency = GstClockTime(std::max(2.5 * load.pass_ns(), 200.0 * GST_MSECOND));
      const Outcome outcome = RealQueueSimulation(load).run(300);
      const std::string text = describe(load, outcome);
      GST_INFO("%s", text.c_str());
      // All of them, from the first to the last.
      fail_unless(outcome.ages.back() <= load.max_latency + outcome.service, "%s", text.c_str());
      fail_unless(unfairness(outcome.served) <= 1.2, "%s", text.c_str());
      fail_unless(unfairness(outcome.dropped) <= 1.2, "%s", text.c_str());
      // What can be served is: a fifth, but for the frames in and after the last pass.
      fail_unless(double(sum(outcome.served)) >= 0.18 * 300 * cameras, "%s", text.c_str());
    }
  }
}
GST_END_TEST

static Suite* da3infer_load_suite() {
  Suite* suite = suite_create("da3infer-load");
  TCase* load = tcase_create("load");
  tcase_set_timeout(load, 60);
  tcase_add_test(load, half_the_load_loses_nothing);
  tcase_add_test(load, near_the_limit_ages_keep_to_the_budget);
  tcase_add_test(load, overload_stays_young_and_fair);
  tcase_add_test(load, the_real_queue_loses_nothing_at_half_the_load);
  tcase_add_test(load, the_real_queue_keeps_ages_to_the_budget_near_the_limit);
  tcase_add_test(load, the_real_queue_keeps_overload_young_and_fair);
  suite_add_tcase(suite, load);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_load_suite(), "da3infer_load", __FILE__);
}
