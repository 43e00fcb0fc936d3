// SPDX-License-Identifier: MIT
//
// da3infer behind 1, 4 and 16 cameras at half, nearly all and five times of what the engine can do, in
// virtual time.
#include <algorithm>
#include <condition_variable>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "infer_live.h"

using namespace da3::testing;

// ---- load
// ----------------------------------------------------------------------------------------------------

namespace {

// What reaches downstream of all streams.
struct Monitor {
  std::mutex mutex;
  std::condition_variable changed;
  GstClock* clock = nullptr;
  int count = 0;
  std::vector<std::vector<GstClockTime>> ages;            // by stream, in order
  std::vector<std::map<guint64, GstClockTime>> arrivals;  // by stream and frame
  void wait(int frames) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return count >= frames; });
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
    ++monitor.count;
  }
  monitor.changed.notify_all();
  gst_buffer_unref(buffer);
  return GST_FLOW_OK;
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
  std::vector<GstClockTime> ages;       // all
  std::vector<GstClockTime> halves[2];  // of the time
  std::vector<guint64> dropped;         // by camera
  GstClockTime service = 0;             // of a full batch
  int batch = 0;
};

// Cameras of 25 frames/s with jitter before one engine, in virtual time.
class Simulation {
 public:
  explicit Simulation(const Load& load) : load_(load), clock_(gst_test_clock_new()) {
    stub().reset();
    batch_ = load.batch();
    const double full = load.pass_ns();
    single_ = load.gpu ? full * 0.4 : full / batch_;
    step_ = load.gpu ? full * 0.6 / (batch_ - 1) : full / batch_;
    monitor_.clock = clock_;
    monitor_.ages.resize(load.cameras);
    monitor_.arrivals.resize(load.cameras);
    for (int i = 0; i < load.cameras; ++i) add_camera(i);
  }
  ~Simulation() {
    stub().release(-1);
    cameras_.clear();
    gst_object_unref(clock_);
  }

  Outcome run(int frames) {
    start();
    struct Arrival {
      GstClockTime at;
      int camera;
    };
    std::vector<Arrival> arrivals;
    std::mt19937 random(7);
    std::uniform_real_distribution<double> jitter(0, 0.4);
    for (int c = 0; c < load_.cameras; ++c) {
      for (int f = 1; f <= frames; ++f) {
        const double at = f + double(c) / load_.cameras + jitter(random);
        arrivals.push_back({GstClockTime(at * double(kFrameTime)), c});
      }
    }
    std::sort(arrivals.begin(), arrivals.end(),
              [](const Arrival& a, const Arrival& b) { return a.at < b.at; });
    for (const Arrival& arrival : arrivals) {
      serve_until(arrival.at);
      push(*cameras_[arrival.camera], arrival.at);
    }
    serve_until(GST_CLOCK_TIME_NONE);
    return outcome();
  }

 private:
  void add_camera(int index) {
    auto camera = std::make_unique<Camera>();
    camera->monitor = &monitor_;
    camera->index = index;
    camera->infer = std::make_unique<Infer>(
        "model=stub:block=1,queued-us=0 process-res=14 max-batch=" + std::to_string(batch_) +
            " max-latency=" + std::to_string(load_.max_latency),
        Source::live);
    GstHarness* h = camera->infer->harness;
    g_object_set_data(G_OBJECT(h->sinkpad), "camera", camera.get());
    gst_pad_set_chain_function(h->sinkpad, record_age);
    gst_element_set_clock(camera->infer->element, clock_);
    camera->infer->caps(14, 14);
    cameras_.push_back(std::move(camera));
  }

  void push(Camera& camera, GstClockTime at) {
    const int frame = camera.pushed++;
    {
      const std::lock_guard lock(monitor_.mutex);
      monitor_.arrivals[camera.index][guint64(frame)] = at;
    }
    set_time(at);
    fail_unless_equals_int(camera.infer->push(numbered_frame(14, 14, frame)), GST_FLOW_OK);
  }

  // The first frame of each passes the warm-up.
  void start() {
    for (const auto& camera : cameras_) push(*camera, 0);
    stub().wait_submitted(load_.cameras);
    stub().release(load_.cameras);
    monitor_.wait(load_.cameras);
    stub().wait_finished(load_.cameras);
    done_ = load_.cameras;
    for (auto& ages : monitor_.ages) ages.clear();
  }

  void set_time(GstClockTime time) {
    if (time > gst_clock_get_time(clock_)) gst_test_clock_set_time(GST_TEST_CLOCK(clock_), time);
  }

  void serve_until(GstClockTime until) {
    while (true) {
      const Da3StubCounters counters = stub_counters();
      const int waiting = counters.submitted - counters.finished;
      if (running_ == 0 && waiting > 0) {
        running_ = std::min(waiting, batch_);
        free_at_ = gst_clock_get_time(clock_) + GstClockTime(single_ + step_ * (running_ - 1));
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

  Outcome outcome() {
    Outcome out;
    out.batch = batch_;
    out.service = GstClockTime(single_ + step_ * (batch_ - 1));
    for (const auto& ages : monitor_.ages) {
      for (size_t i = 0; i < ages.size(); ++i) {
        out.ages.push_back(ages[i]);
        out.halves[i < ages.size() / 2 ? 0 : 1].push_back(ages[i]);
      }
    }
    for (auto* ages : {&out.ages, &out.halves[0], &out.halves[1]}) std::sort(ages->begin(), ages->end());
    for (const auto& camera : cameras_) {
      camera->infer->assert_accounts();
      out.dropped.push_back(camera->infer->stat("frames-dropped"));
    }
    return out;
  }

  const Load load_;
  GstClock* clock_;
  Monitor monitor_;
  std::vector<std::unique_ptr<Camera>> cameras_;
  int batch_ = 1, running_ = 0, done_ = 0;
  double single_ = 0, step_ = 0;
  GstClockTime free_at_ = 0;
};

GstClockTime p95(const std::vector<GstClockTime>& ages) {
  return ages[ages.size() * 95 / 100];
}

std::string describe(const Load& load, const Outcome& outcome) {
  guint64 dropped = 0;
  for (const guint64 d : outcome.dropped) dropped += d;
  return std::to_string(load.cameras) + " cameras at " + std::to_string(load.load) +
         (load.gpu ? " gpu" : " cpu") + ": p95 " + std::to_string(p95(outcome.ages) / GST_MSECOND) +
         " ms, worst " + std::to_string(outcome.ages.back() / GST_MSECOND) + " ms, " +
         std::to_string(outcome.ages.size()) + " inferred, " + std::to_string(dropped) + " dropped, a pass " +
         std::to_string(outcome.service / GST_MSECOND) + " ms";
}

}  // namespace

GST_START_TEST(half_the_load_loses_nothing) {
  for (const bool gpu : {false, true}) {
    for (const int cameras : {1, 4, 16}) {
      const Load load{cameras, 0.5, gpu};
      const Outcome outcome = Simulation(load).run(100);
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
      const Outcome outcome = Simulation(load).run(150);
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
      const Outcome outcome = Simulation(load).run(150);
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

static Suite* da3infer_load_suite() {
  Suite* suite = suite_create("da3infer-load");
  TCase* load = tcase_create("load");
  tcase_set_timeout(load, 60);
  tcase_add_test(load, half_the_load_loses_nothing);
  tcase_add_test(load, near_the_limit_ages_keep_to_the_budget);
  tcase_add_test(load, overload_stays_young_and_fair);
  suite_add_tcase(suite, load);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_load_suite(), "da3infer_load", __FILE__);
}
