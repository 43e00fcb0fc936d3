// SPDX-License-Identifier: MIT
#include "simulator/simulator.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <unordered_map>
#include <utility>

#include "engine/runtime/scheduler.h"
#include "simulator/placement.h"

namespace da3::simulator {
namespace {

constexpr double kMillisecond = 1e6;  // ns
constexpr int64_t kMicrosecond = 1000;

// Gaussian noise from uniform numbers: std::normal_distribution differs between libraries.
class Noise {
 public:
  explicit Noise(uint64_t seed) : engine_(seed) {}
  double uniform() { return double(engine_() >> 11) * 0x1.0p-53; }
  double gaussian() {
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum - 6;
  }

 private:
  std::mt19937_64 engine_;
};

struct Event {
  enum Kind { arrival, end, wake } kind;
  int64_t time;
  uint32_t who;     // camera, or device
  uint64_t number;  // of events; and of the wake that is meant
  bool operator>(const Event& other) const {
    return time != other.time ? time > other.time : number > other.number;
  }
};

// Ends a second over the last 32, as da3infer counts them (plugins/infer_policy.h).
class Rate {
 public:
  void add(int64_t now) {
    // Results of a batch are delivered one after the other.
    ends_.push_back(ends_.empty() ? now : std::max(now, ends_.back() + kMicrosecond));
    if (ends_.size() > 32) ends_.pop_front();
  }
  double per_second() const {  // 0: not known
    if (ends_.size() < 2 || ends_.back() <= ends_.front()) return 0;
    return double(ends_.size() - 1) * 1e9 / double(ends_.back() - ends_.front());
  }

 private:
  std::deque<int64_t> ends_;
};

struct Camera {
  double phase = 0;
  uint64_t frames = 0;
  int64_t last = 0;
  uint64_t in_time = 0;
  uint32_t device = 0;
  std::optional<int64_t> place;  // arrival of the frame in front of the engine
  uint32_t with_engine = 0, registered = 0;
  Rate rate;
};

struct Device {
  explicit Device(uint32_t most) : scheduler(most) {}
  Scheduler scheduler;
  std::vector<Job> running;
  int64_t started = 0;
  uint64_t wake = 0;
};

class Simulation {
 public:
  explicit Simulation(const Settings& settings)
      : s_(settings), noise_(settings.seed), period_(1e9 / settings.frame_rate) {}
  Outcome run();

 private:
  bool counts(int64_t arrived) const { return arrived >= begin_ && arrived < end_; }
  void schedule(Event::Kind kind, int64_t time, uint32_t who, uint64_t number = 0) {
    events_.push({kind, time, who, number ? number : ++numbers_});
  }
  void next_frame(uint32_t camera);
  void arrive(uint32_t camera, int64_t now);
  uint32_t most_with_engine(const Camera& camera);
  void submit(uint32_t camera, int64_t now);
  void ask(uint32_t device, int64_t now);
  void end(uint32_t device, int64_t now);
  Outcome summary();

  const Settings s_;
  Noise noise_;
  const double period_;
  int64_t begin_ = 0, end_ = 0, latency_ = 0;
  uint64_t numbers_ = 0, ids_ = 0, batches_ = 0, items_ = 0;
  std::vector<Camera> cameras_;
  std::vector<std::unique_ptr<Device>> devices_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::unordered_map<uint64_t, int64_t> arrivals_;  // of jobs that the engine has
  std::vector<int64_t> ages_;
  int64_t busy_ = 0;
  Outcome out_;
};

void Simulation::next_frame(uint32_t camera) {
  Camera& c = cameras_[camera];
  const double time =
      c.phase + double(c.frames++) * period_ + noise_.gaussian() * s_.jitter_ms * kMillisecond;
  // A camera delivers in order.
  c.last = std::max(c.last + 1, int64_t(time));
  if (c.last < end_) schedule(Event::arrival, c.last, camera);
}

void Simulation::arrive(uint32_t camera, int64_t now) {
  next_frame(camera);
  Camera& c = cameras_[camera];
  if (counts(now)) ++out_.offered;
  if (c.place && counts(*c.place)) ++out_.replaced;
  c.place = now;
  submit(camera, now);
  if (devices_[c.device]->running.empty()) ask(c.device, now);
}

// As requests_in_flight() of plugins/infer_policy.h; at most what fills two batches of the size that may be
// tried next.
uint32_t Simulation::most_with_engine(const Camera& camera) {
  Scheduler& scheduler = devices_[camera.device]->scheduler;
  CostModel& cost = scheduler.costs(1);
  const uint32_t cap = s_.fixed_batch ? s_.fixed_batch : std::min(cost.limit(), 2 * cost.known_cap());
  const uint32_t known = s_.fixed_batch ? s_.fixed_batch : cost.known_cap();
  const double all = cost.time(known) > 0 ? 1e9 * known / double(cost.time(known)) : 0;
  const size_t streams = scheduler.active_streams();
  const double own = camera.rate.per_second(), share = streams > 1 ? all / double(streams) : 0;
  const double seconds = double(latency_) / 1e9;
  const double within = share > 0 ? std::ceil(std::max(own, share) * seconds) : std::floor(own * seconds) - 1;
  return uint32_t(std::clamp(within, 2.0, std::max(2.0, 2.0 * cap)));
}

// The frame in front of the engine, if there is one and the engine has not enough of this camera.
void Simulation::submit(uint32_t camera, int64_t now) {
  Camera& c = cameras_[camera];
  const uint32_t most = most_with_engine(c);
  if (!c.place || c.with_engine >= most) return;
  const int64_t arrived = *c.place;
  c.place.reset();
  if (now - arrived >= latency_) {
    if (counts(arrived)) ++out_.expired;
    return;
  }
  Scheduler& scheduler = devices_[c.device]->scheduler;
  if (std::exchange(c.registered, most) != most) scheduler.stream_begin(camera, {most, int64_t(period_)});
  Job job;
  job.id = ++ids_;
  job.stream = camera;
  job.kind = job.cost = 1;
  job.submitted = now;
  job.deadline = arrived + latency_;
  job.max_batch = s_.fixed_batch;
  job.droppable = true;
  scheduler.push(job);
  arrivals_[job.id] = arrived;
  ++c.with_engine;
}

// What is through makes room for the next frame before the engine decides again.
void Simulation::ask(uint32_t device, int64_t now) {
  Device& d = *devices_[device];
  Decision decision;
  do {
    decision = d.scheduler.decide(now);
    for (const Job& job : decision.expired) {
      if (counts(arrivals_.at(job.id))) ++out_.expired;
      arrivals_.erase(job.id);
      --cameras_[job.stream].with_engine;
    }
    for (const Job& job : decision.expired) submit(uint32_t(job.stream), now);
  } while (decision.action != Decision::run && !decision.expired.empty());
  d.wake = 0;
  if (decision.action == Decision::wait) {
    d.wake = ++numbers_;
    schedule(Event::wake, decision.wake, device, d.wake);
  }
  if (decision.action != Decision::run) return;
  const auto batch = uint32_t(decision.batch.size());
  const double factor = std::clamp(1 + s_.curve.scatter * noise_.gaussian(), 0.5, 2.0);
  d.started = now;
  d.running = std::move(decision.batch);
  schedule(Event::end, now + int64_t(s_.curve.time_ms(batch) * factor * kMillisecond), device);
}

void Simulation::end(uint32_t device, int64_t now) {
  Device& d = *devices_[device];
  d.scheduler.finished(d.running, now - d.started, now);
  if (d.started >= begin_ && now < end_) {
    busy_ += now - d.started;
    ++batches_;
    items_ += d.running.size();
  }
  for (const Job& job : d.running) {
    Camera& c = cameras_[job.stream];
    --c.with_engine;
    c.rate.add(now);
    const int64_t arrived = arrivals_.at(job.id);
    arrivals_.erase(job.id);
    if (!counts(arrived)) continue;
    ages_.push_back(now - arrived);
    if (now - arrived > latency_) {
      ++out_.late;
    } else {
      ++out_.in_time;
      ++c.in_time;
    }
  }
  for (const Job& job : d.running) submit(uint32_t(job.stream), now);
  d.running.clear();
  ask(device, now);
}

Outcome Simulation::summary() {
  for (const auto& [id, arrived] : arrivals_)
    if (counts(arrived)) ++out_.pending;
  for (const Camera& c : cameras_)
    if (c.place && counts(*c.place)) ++out_.pending;
  out_.seconds = s_.seconds;
  if (!ages_.empty()) {
    out_.age_max_ms = double(*std::max_element(ages_.begin(), ages_.end())) / kMillisecond;
    out_.age_p50_ms = double(quantile(ages_, 0.5)) / kMillisecond;
    out_.age_p95_ms = double(quantile(ages_, 0.95)) / kMillisecond;
  }
  const auto [least, most] =
      std::minmax_element(cameras_.begin(), cameras_.end(),
                          [](const Camera& a, const Camera& b) { return a.in_time < b.in_time; });
  out_.fairness = double(most->in_time) / double(std::max<uint64_t>(1, least->in_time));
  out_.mean_batch = batches_ ? double(items_) / double(batches_) : 0;
  out_.busy = double(busy_) / (s_.seconds * 1e9 * s_.devices);
  const double offered_rate = double(out_.offered) / s_.seconds;
  out_.load = offered_rate / (s_.curve.capacity(s_.max_latency_ms) * s_.devices);
  out_.oracle = oracle_rate(s_, offered_rate);
  return out_;
}

Outcome Simulation::run() {
  begin_ = int64_t(s_.warm_up_seconds * 1e9);
  end_ = begin_ + int64_t(s_.seconds * 1e9);
  latency_ = int64_t(s_.max_latency_ms * kMillisecond);
  for (uint32_t d = 0; d < s_.devices; ++d) devices_.push_back(std::make_unique<Device>(s_.curve.most));
  Placement placement(std::vector<double>(s_.devices, 1.0));
  const double work = s_.frame_rate / s_.curve.capacity(s_.max_latency_ms);
  cameras_.resize(s_.cameras);
  for (uint32_t c = 0; c < s_.cameras; ++c) {
    cameras_[c].phase = noise_.uniform() * period_;
    cameras_[c].device = uint32_t(placement.add(c, work));
    next_frame(c);
  }
  while (!events_.empty()) {
    const Event event = events_.top();
    events_.pop();
    if (event.kind == Event::arrival)
      arrive(event.who, event.time);
    else if (event.kind == Event::end)
      end(event.who, event.time);
    else if (devices_[event.who]->wake == event.number && devices_[event.who]->running.empty())
      ask(event.who, event.time);
  }
  return summary();
}

}  // namespace

CostCurve gpu_curve() {
  return {};
}

CostCurve cpu_curve() {
  return {"cpu", 4, 80, 0.05, 8};
}

double CostCurve::capacity(double longest_ms) const {
  double best = 0;
  for (uint32_t b = 1; b <= most; ++b)
    if (time_ms(b) <= longest_ms) best = std::max(best, 1000.0 * b / time_ms(b));
  return best;
}

double oracle_rate(const Settings& settings, double offered_rate) {
  // What arrives in the time that counts can be computed until max_latency after it.
  const double time = (settings.seconds + settings.max_latency_ms / 1000) / settings.seconds;
  return std::min(offered_rate, time * settings.devices * settings.curve.capacity(settings.max_latency_ms));
}

Outcome simulate(const Settings& settings) {
  return Simulation(settings).run();
}

}  // namespace da3::simulator
