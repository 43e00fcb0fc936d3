// SPDX-License-Identifier: MIT
#include "engine/runtime/scheduler.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace da3 {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
// A stream that fell this many items behind the most served one is served before deadlines are looked at.
constexpr double kLag = 3;
// What a stream that paused can catch up.
constexpr double kCredit = 8;
// A job without a deadline is taken for one that is due after this and four passes.
constexpr int64_t kPatience = 300 * kMillisecond;
// How long an overload is remembered.
constexpr int64_t kMemory = 500 * kMillisecond;
// How long a live stream without new jobs is taken for live.
constexpr int64_t kLive = 2'000 * kMillisecond;
// A deadline so many times as far off as another stream can wait leaves that one room.
constexpr int64_t kMuchLonger = 2;
// Waiting has to make an item cheaper by this much.
constexpr double kWorthWaiting = 0.95;
// Nothing is predicted that far.
constexpr int64_t kLongestWait = 200 * kMillisecond;
// What is known of a cost is old after this and so many passes: longer ago, and what waits would end without
// work by it, one job is tried all the same.
constexpr int64_t kOld = 1'000 * kMillisecond;
constexpr int64_t kOldPasses = 4;
// A try that changes nothing doubles that, up to this factor: others have to wait for its pass.
constexpr int64_t kMostPatience = 4;
constexpr double kMuchFaster = 0.8;
constexpr size_t kStrangers = 1024;  // streams that never registered are remembered up to this number

void average(double* mean, double value, double weight) {
  *mean += weight * (value - *mean);
}

}  // namespace

size_t Scheduler::streams() const {
  return size_t(
      std::count_if(streams_.begin(), streams_.end(), [](const auto& s) { return s.second.registered; }));
}

size_t Scheduler::active_streams() const {
  return size_t(std::count_if(streams_.begin(), streams_.end(),
                              [](const auto& s) { return s.second.registered && !s.second.drained; }));
}

void Scheduler::stream_begin(uint64_t stream, const StreamTraits& traits) {
  Stream& s = streams_[stream];
  s.registered = true;
  s.drained = false;
  s.traits = traits;
  if (traits.interval > 0) s.interval = double(traits.interval);
}

void Scheduler::stream_end(uint64_t stream) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  found->second.registered = false;
  found->second.drained = true;  // what runs of it is its last
  if (found->second.unfinished == 0) streams_.erase(found);
}

void Scheduler::drain(uint64_t stream) {
  const auto found = streams_.find(stream);
  if (found != streams_.end()) found->second.drained = true;
}

void Scheduler::drain_all() {
  for (auto& [id, s] : streams_) s.drained = true;
}

// Streams that never said that they end: the longest silent half goes.
void Scheduler::forget_idle() {
  std::vector<std::pair<int64_t, uint64_t>> idle;
  for (const auto& [id, s] : streams_)
    if (!s.registered && s.unfinished == 0) idle.emplace_back(s.last_push, id);
  if (idle.size() < kStrangers) return;
  std::sort(idle.begin(), idle.end());
  for (size_t i = 0; i < idle.size() / 2; ++i) streams_.erase(idle[i].second);
}

void Scheduler::push(const Job& job) {
  if (streams_.size() >= kStrangers && !streams_.count(job.stream)) forget_idle();
  Stream& s = streams_[job.stream];
  const int64_t now = job.submitted;
  if (s.last_push != kNever && s.traits.interval == 0 && now > s.last_push) {
    const double gap = double(now - s.last_push);
    s.interval = s.interval > 0 ? s.interval + 0.2 * (std::min(gap, 4 * s.interval) - s.interval) : gap;
  }
  if (s.was_full && s.last_finish != kNever && now >= s.last_finish) {
    const double think = double(now - s.last_finish);
    if (s.think < 0) {
      s.think = think;
      s.think_spread = think / 2;
    } else {
      average(&s.think_spread, std::abs(think - s.think), 0.2);
      average(&s.think, think, 0.2);
    }
  }
  if (s.last_push == kNever) s.served = virtual_time_;
  if (s.unfinished == 0) s.served = std::max(s.served, virtual_time_ - kCredit);
  // Once for each end of a pass: what follows it at once says nothing about the next time.
  s.last_finish = kNever;
  s.last_push = now;
  s.last_kind = job.kind;
  s.last_cost = job.cost;
  s.drained = false;
  ++s.unfinished;
  s.was_full = s.traits.max_pending > 0 && s.unfinished >= s.traits.max_pending;
  if (job.deadline != kNever) {
    costs(job.cost).saw_deadline();
    const int64_t slack = job.deadline - now;
    s.slack = s.slack == kNever ? slack : std::min(slack, s.slack + (slack - s.slack) / 8);
    s.room = s.room == kNever ? slack : std::max(slack, s.room + (slack - s.room) / 8);
  } else {
    s.slack = s.room = kNever;
  }
  s.waiting.push_back(job);
  ++waiting_;
}

std::vector<Job> Scheduler::remove(const std::function<bool(const Job&)>& predicate) {
  std::vector<Job> out;
  for (auto it = streams_.begin(); it != streams_.end();) {
    Stream& s = it->second;
    const size_t before = out.size();
    std::deque<Job> kept;
    for (Job& job : s.waiting) (predicate(job) ? static_cast<void>(out.push_back(job)) : kept.push_back(job));
    s.waiting = std::move(kept);
    s.unfinished -= uint32_t(out.size() - before);
    waiting_ -= out.size() - before;
    const bool gone = out.size() > before && !s.registered && s.unfinished == 0;
    it = gone ? streams_.erase(it) : std::next(it);
  }
  return out;
}

size_t Scheduler::waiting(uint64_t stream) const {
  const auto found = streams_.find(stream);
  return found == streams_.end() ? 0 : found->second.waiting.size();
}

void Scheduler::finished(const std::vector<Job>& batch, int64_t time, int64_t now) {
  if (!batch.empty()) observe(batch.front().cost, uint32_t(batch.size()), time, now);
  for (const Job& job : batch) {
    const auto found = streams_.find(job.stream);
    if (found == streams_.end()) continue;
    --found->second.unfinished;
    found->second.last_finish = now;
  }
}

void Scheduler::observe(uint32_t cost, uint32_t batch, int64_t time, int64_t now) {
  Learned& l = learned(cost);
  const int64_t believed = l.model.time(1);
  const bool tried = std::exchange(l.trying, false);
  if (time > 0) l.model.observe(batch, time);
  // A single one that was much faster than believed: the next one may be tried at once, until it is believed.
  const bool faster = batch == 1 && time > 0 && double(time) < kMuchFaster * double(believed);
  l.patience = tried && !faster ? std::min(2 * l.patience, kMostPatience) : 1;
  if (!faster) l.looked = now;
}

bool Scheduler::hopeless(const Job& job, int64_t now) {
  // A job without a deadline is never due: no sum with it, which would overflow.
  return job.droppable && job.deadline != kNever && now + costs(job.cost).time(1) > job.deadline;
}

bool Scheduler::worth_a_try(const Job& job, int64_t now) {
  if (now >= job.deadline) return false;
  Learned& l = learned(job.cost);
  if (l.looked == kNever) l.looked = now;
  return now - l.looked > l.patience * std::max(kOld, kOldPasses * l.model.time(1));
}

// Ends the jobs at the front of a stream that are hopeless and not to be tried.
void Scheduler::expire_front(Stream& s, int64_t now, std::vector<Job>* out) {
  while (!s.waiting.empty()) {
    const Job& job = s.waiting.front();
    if (!hopeless(job, now) || worth_a_try(job, now)) return;
    out->push_back(job);
    s.waiting.pop_front();
    --s.unfinished;
    --waiting_;
    pressed_until_ = now + kMemory;
  }
}

// Only the first job of a stream can expire: requests of a stream end in order. Of those that are worth a try
// one of each cost stays, of the stream that was served least.
void Scheduler::expire(int64_t now, std::vector<Job>* out) {
  probes_.clear();
  std::vector<Stream*> tries;
  for (auto& [id, s] : streams_) {
    expire_front(s, now, out);
    if (!s.waiting.empty() && hopeless(s.waiting.front(), now)) tries.push_back(&s);
  }
  std::stable_sort(tries.begin(), tries.end(),
                   [](const Stream* a, const Stream* b) { return a->served < b->served; });
  std::set<uint32_t> tried;
  for (Stream* s : tries) {
    const Job& job = s->waiting.front();
    if (tried.insert(job.cost).second) probes_.insert(job.id);
  }
}

// What may run next: of every stream the first jobs up to a change of kind.
std::vector<Scheduler::Candidate> Scheduler::candidates(int64_t now) {
  std::vector<Candidate> out;
  for (auto& [id, s] : streams_) {
    if (s.waiting.empty()) continue;
    double tag = s.served;
    const uint32_t kind = s.waiting.front().kind;
    int64_t due_before = std::numeric_limits<int64_t>::min();
    for (const Job& job : s.waiting) {
      if (job.kind != kind) break;
      // Ends as expired, or is tried, as soon as it is the first.
      const bool probe = probes_.count(job.id) > 0;
      if (!probe && hopeless(job, now)) break;
      const int64_t own =
          job.deadline != kNever ? job.deadline : job.submitted + kPatience + 4 * costs(job.cost).time(1);
      // The order of a stream stands, whatever its deadlines say.
      due_before = std::max(due_before, own);
      out.push_back({&job, &s, tag, due_before, probe});
      tag += 1;
      if (probe) break;  // alone, and before the rest of its stream
    }
  }
  return out;
}

uint32_t Scheduler::cap_of(const Job& job) {
  CostModel& cost = costs(job.cost);
  return job.max_batch > 0 ? cost.memory_cap(memory_budget_, job.max_batch) : cost.cap(memory_budget_);
}

// Whether every deadline can be met if the jobs are served in this order: a first batch as choose_in_time()
// would make it, the others at the best speed known.
bool Scheduler::feasible(std::vector<Candidate> order, int64_t now) {
  std::erase_if(order, [](const Candidate& c) { return c.probe; });  // too late by all that is known
  if (order.empty()) return true;
  const uint32_t kind = order.front().job->kind;
  std::vector<Candidate> first;
  std::copy_if(order.begin(), order.end(), std::back_inserter(first),
               [kind](const Candidate& c) { return c.job->kind == kind; });
  choose_in_time(first, now, most_together(first));
  size_t left = first.size();
  double end = double(now) + double(costs(first.front().job->cost).time(uint32_t(left)));
  for (const Candidate& c : order) {
    if (left > 0 && c.job->kind == kind) {
      --left;
      continue;
    }
    CostModel& cost = costs(c.job->cost);
    const uint32_t cap = c.job->max_batch > 0 ? cap_of(*c.job) : cost.known_cap(memory_budget_);
    end += double(cost.time(cap)) / double(cap);
    if (c.job->deadline == kNever) continue;
    const bool late = now + cost.time(1) > c.job->deadline;  // and not droppable: nothing helps it
    if (!late && end > double(c.job->deadline)) return false;
  }
  return true;
}

bool Scheduler::arrange(std::vector<Candidate>& all, int64_t now) {
  const auto by_deadline = [](const Candidate& a, const Candidate& b) {
    if (a.due != b.due) return a.due < b.due;
    if (a.tag != b.tag) return a.tag < b.tag;
    return a.job->id < b.job->id;
  };
  const auto by_share = [](const Candidate& a, const Candidate& b) {
    if (a.tag != b.tag) return a.tag < b.tag;
    if (a.due != b.due) return a.due < b.due;
    return a.job->id < b.job->id;
  };
  double least = std::numeric_limits<double>::max(), most = -least;
  for (const Candidate& c : all) {
    least = std::min(least, c.stream->served);
    most = std::max(most, c.stream->served);
  }
  if (most - least > kLag) {
    std::sort(all.begin(), all.end(), by_share);
    if (feasible(all, now)) return true;
  }
  std::sort(all.begin(), all.end(), by_deadline);
  if (feasible(all, now)) return true;
  pressed_until_ = now + kMemory;
  std::sort(all.begin(), all.end(), by_share);
  return false;
}

// The longest start of the list that no member forbids; at least one.
uint32_t Scheduler::most_together(const std::vector<Candidate>& members) {
  uint32_t cap = std::numeric_limits<uint32_t>::max(), size = 0;
  for (const Candidate& c : members) {
    cap = std::min(cap, std::max(1u, cap_of(*c.job)));
    if (size >= cap) break;
    ++size;
  }
  return size;
}

// As many as the first deadlines allow.
void Scheduler::choose_in_time(std::vector<Candidate>& members, int64_t now, uint32_t cap) {
  CostModel& cost = costs(members.front().job->cost);
  int64_t earliest = kNever;
  uint32_t size = 0;
  while (size < cap && size < members.size()) {
    const Job& job = *members[size].job;
    const bool late = job.deadline != kNever && now + cost.time_upper(1) > job.deadline;
    if (!late) earliest = std::min(earliest, job.deadline);
    if (size > 0 && earliest != kNever && now + cost.time_upper(size + 1) > earliest) break;
    ++size;
  }
  members.resize(size);
}

// Not everything can be served: the size at which most is served in time for its time.
void Scheduler::choose_overloaded(std::vector<Candidate>& members, int64_t now, uint32_t cap,
                                  std::vector<Job>* expired) {
  CostModel& cost = costs(members.front().job->cost);
  const auto in_time = [&](const Candidate& c, uint32_t size) {
    const int64_t d = c.job->deadline;
    // What cannot be dropped and is late anyway has to be computed some time.
    return d == kNever || now + cost.time_upper(size) <= d || (!c.job->droppable && now + cost.time(1) > d);
  };
  uint32_t best = 1;
  double best_rate = 0;
  for (uint32_t size = 1; size <= cap; ++size) {
    uint32_t usable = 0;
    for (const Candidate& c : members)
      if (in_time(c, size) && ++usable == size) break;
    if (usable < size) continue;
    const double rate = double(size) / double(std::max<int64_t>(1, cost.time(size)));
    // Of equals the larger one: a size that was never measured is taken for no better than in proportion.
    if (rate >= best_rate) {
      best_rate = rate;
      best = size;
    }
  }
  // Jobs of a stream stay in order. What would be too late after this batch, and only stands in the way of
  // later ones that are not, ends here.
  std::vector<Candidate> chosen;
  std::map<const Stream*, std::vector<Job>> skipped;
  for (const Candidate& c : members) {
    if (chosen.size() == best) break;
    const auto before = skipped.find(c.stream);
    const bool blocked = before != skipped.end() && std::any_of(before->second.begin(), before->second.end(),
                                                                [](const Job& j) { return !j.droppable; });
    if (blocked || !in_time(c, best)) {
      skipped[c.stream].push_back(*c.job);
      continue;
    }
    chosen.push_back(c);
    if (before == skipped.end()) continue;
    expired->insert(expired->end(), before->second.begin(), before->second.end());
    skipped.erase(before);
  }
  if (chosen.empty()) chosen.push_back(members.front());
  members = std::move(chosen);
}

Scheduler::Tightest Scheduler::tightest(int64_t now) const {
  Tightest out;
  for (const auto& [id, s] : streams_) {
    if (s.slack == kNever || s.drained || s.last_push == kNever || now - s.last_push > kLive) continue;
    const auto cost = costs_.find(s.last_cost);
    const int64_t wait = s.slack - (cost == costs_.end() ? 0 : cost->second.model.time_upper(1));
    if (wait >= 0 && wait < out.wait) out = {wait, s.room};
  }
  return out;
}

// A batch without deadlines, or with far ones, must not be so long that a live stream cannot be served in
// time after it. Among streams that have about equally long their own deadlines see to that.
uint32_t Scheduler::limit_blocking(const std::vector<Candidate>& members, int64_t now, uint32_t size) {
  const Tightest live = tightest(now);
  if (live.wait == kNever) return size;
  for (uint32_t i = 0; i < size; ++i) {
    const int64_t deadline = members[i].job->deadline;
    if (deadline != kNever && deadline - now < kMuchLonger * live.room) return size;
  }
  CostModel& cost = costs(members.front().job->cost);
  while (size > 1 && cost.time_upper(size) > live.wait) --size;
  return size;
}

// Waits for what a registered stream is about to bring if that makes the items cheaper. Streams that bring
// the next item only when they have got one back (closed loop) are worth it at any time; for others, whose
// items come anyway, only while not everything can be served.
int64_t Scheduler::worth_waiting(const std::vector<Candidate>& members, int64_t now, uint32_t cap) {
  const auto size = uint32_t(members.size());
  if (size >= cap) return 0;
  const Job& first = *members.front().job;
  CostModel& cost = costs(first.cost);
  if (cost.measured() == 0) return 0;
  int64_t earliest_deadline = kNever;
  for (const Candidate& c : members) earliest_deadline = std::min(earliest_deadline, c.job->deadline);
  std::vector<int64_t> coming;
  for (const auto& [id, s] : streams_) {
    if (!s.registered || s.drained || s.last_push == kNever || s.last_kind != first.kind) continue;
    if (s.traits.max_pending > 0 && s.unfinished >= s.traits.max_pending) continue;
    if (!s.waiting.empty() && s.waiting.front().kind != first.kind) continue;
    double when;
    if (s.closed_loop()) {
      if (s.last_finish == kNever) continue;
      when = double(s.last_finish) + s.think + 2 * s.think_spread;
    } else if (pressed_until_ > now && s.interval > 0) {
      when = double(s.last_push) + 1.1 * s.interval;
    } else {
      continue;
    }
    // Overdue: whatever keeps it, it is not about to come.
    if (when > double(now)) coming.push_back(int64_t(when));
  }
  std::sort(coming.begin(), coming.end());
  const double now_each = double(cost.time(size)) / size;
  for (size_t i = 0; i < coming.size() && size + i < cap; ++i) {
    const auto larger = size + uint32_t(i) + 1;
    const int64_t until = coming[i];
    if (until - now > kLongestWait) break;
    if (earliest_deadline != kNever && until + cost.time_upper(larger) > earliest_deadline) break;
    const double then_each = double(until - now + cost.time(larger)) / larger;
    // The first one is waited for; the next decision sees whether the others still pay.
    if (then_each < kWorthWaiting * now_each) return coming.front();
  }
  return 0;
}

bool Scheduler::waits(const std::vector<Candidate>& members, int64_t now, Decision* decision) {
  const int64_t until = worth_waiting(members, now, cap_of(*members.front().job));
  if (until <= now) return false;
  decision->action = Decision::wait;
  decision->wake = until;
  return true;
}

void Scheduler::take_out(const Job& job) {
  std::erase_if(streams_[job.stream].waiting, [&](const Job& w) { return w.id == job.id; });
  --waiting_;
}

// `batch` runs, `passed_over` ends without work.
void Scheduler::hand_out(const std::vector<Candidate>& batch, const std::vector<Job>& passed_over,
                         Decision* decision) {
  decision->action = Decision::run;
  for (const Candidate& c : batch) {
    decision->batch.push_back(*c.job);
    virtual_time_ = std::max(virtual_time_, c.stream->served);
  }
  for (const Job& job : passed_over) {
    take_out(job);
    --streams_[job.stream].unfinished;
    decision->expired.push_back(job);
  }
  for (const Job& job : decision->batch) {
    take_out(job);
    streams_[job.stream].served += 1;
  }
}

Decision Scheduler::decide(int64_t now) {
  Decision decision;
  expire(now, &decision.expired);
  if (waiting_ == 0) return decision;
  std::vector<Candidate> all = candidates(now);
  // After an overload everything is made up for at full speed first: batches cut short for the sake of jobs
  // that are nearly late would keep it up.
  const bool in_time = arrange(all, now) && pressed_until_ <= now;
  const uint32_t kind = all.front().job->kind;
  if (all.front().probe) {
    all.resize(1);
    decision.probe = true;
    learned(all.front().job->cost).trying = true;
    hand_out(all, {}, &decision);
    return decision;
  }
  std::erase_if(all, [kind](const Candidate& c) { return c.job->kind != kind || c.probe; });
  // Everything of this kind that waits is in: one more item could make the batch larger.
  bool open = true;
  const auto keep = [&](uint32_t size) { open &= size >= all.size(); };
  uint32_t cap = most_together(all);
  keep(cap);
  std::vector<Job> passed_over;
  if (in_time) {
    cap = limit_blocking(all, now, cap);
    keep(cap);
    const size_t before = all.size();
    choose_in_time(all, now, cap);
    open &= all.size() == before;
  } else {
    const size_t before = all.size();
    choose_overloaded(all, now, cap, &passed_over);
    open &= all.size() == before;
  }
  if (open && waits(all, now, &decision)) return decision;
  hand_out(all, passed_over, &decision);
  return decision;
}

// Something waits that has a deadline, or is about to come.
bool Scheduler::anything_is_due(int64_t now) const {
  if (tightest(now).wait != kNever) return true;
  return std::any_of(streams_.begin(), streams_.end(), [](const auto& entry) {
    const std::deque<Job>& jobs = entry.second.waiting;
    return std::any_of(jobs.begin(), jobs.end(), [](const Job& j) { return j.deadline != kNever; });
  });
}

Decision Scheduler::ahead(int64_t now) {
  Decision decision;
  if (waiting_ == 0 || anything_is_due(now)) return decision;
  std::vector<Candidate> all = candidates(now);
  arrange(all, now);
  const uint32_t kind = all.front().job->kind;
  std::erase_if(all, [kind](const Candidate& c) { return c.job->kind != kind; });
  const uint32_t size = most_together(all);
  const bool full = size < all.size() || size >= cap_of(*all.front().job);
  if (!full) return decision;
  all.resize(size);
  hand_out(all, {}, &decision);
  return decision;
}

}  // namespace da3
