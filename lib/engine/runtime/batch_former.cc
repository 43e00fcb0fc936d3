// SPDX-License-Identifier: MIT
#include "engine/runtime/batch_former.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

namespace da3 {
namespace {

constexpr size_t kMostKinds = 512;  // sizes that come and go must not fill the memory
constexpr size_t kMostStreams = 4096;

Job job_of(const Item& item, uint64_t stream, uint32_t kind, uint32_t cost) {
  Job job;
  job.id = item.id;
  job.stream = stream;
  job.kind = kind;
  job.cost = cost;
  job.submitted = item.submitted;
  job.deadline = item.deadline;
  job.max_batch = item.max_batch;
  job.droppable = item.droppable;
  return job;
}

}  // namespace

Clock& Clock::real() {
  static Clock clock;
  return clock;
}

uint64_t BatchFormer::stream_id(const Client* client, const void* stream) {
  const auto [at, added] = streams_.try_emplace({client, stream}, next_stream_);
  if (added) ++next_stream_;
  return at->second;
}

BatchFormer::Learned& BatchFormer::learned(const Item& like) {
  const auto found = learned_.find(like.cost());
  if (found == learned_.end()) {
    if (learned_.size() >= kMostKinds) forget_kinds();
    Learned fresh;
    fresh.index = next_kind_++;
    return learned_.emplace(like.cost(), fresh).first->second;
  }
  return found->second;
}

const BatchFormer::Learned* BatchFormer::find_learned(const Item& like) const {
  const auto found = learned_.find(like.cost());
  return found == learned_.end() ? nullptr : &found->second;
}

// The longer unused half goes, but for what waits or runs.
void BatchFormer::forget_kinds() {
  std::set<uint32_t> busy;
  for (const auto& [id, running] : running_) busy.insert(running.job.cost);
  for (const auto& [id, item] : waiting_)
    if (const Learned* l = find_learned(item)) busy.insert(l->index);
  std::vector<uint64_t> uses;
  for (const auto& [cost, l] : learned_) uses.push_back(l.used);
  const auto middle = uses.begin() + int64_t(uses.size() / 2);
  std::nth_element(uses.begin(), middle, uses.end());
  std::erase_if(learned_, [&](const auto& entry) {
    if (entry.second.used > *middle || busy.count(entry.second.index)) return false;
    core_.forget_costs(entry.second.index);
    return true;
  });
  std::erase_if(kinds_, [&](const auto& entry) { return !learned_.count(std::get<0>(entry.first)); });
}

uint32_t BatchFormer::kind_of(const Item& item) {
  const auto [at, added] = kinds_.try_emplace(item.kind(), next_kind_);
  if (added) ++next_kind_;
  return at->second;
}

void BatchFormer::push(Item item) {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    item.id = next_id_++;
    item.submitted = clock_.now();
    Learned& l = learned(item);
    l.used = ++uses_;
    const uint32_t cost = l.index, kind = kind_of(item);
    // Streams that were never begun and are never ended.
    if (streams_.size() > kMostStreams)
      std::erase_if(streams_, [this](const auto& entry) { return !core_.knows(entry.second); });
    core_.push(job_of(item, stream_id(item.client, item.stream), kind, cost));
    waiting_.emplace(item.id, std::move(item));
    ++counters_.submitted;
  }
  changed_.notify_all();
}

Item BatchFormer::take(uint64_t id) {
  auto node = waiting_.extract(id);
  return std::move(node.mapped());
}

std::vector<Item> BatchFormer::remove(const std::function<bool(const Item&)>& predicate) {
  std::vector<Item> out;
  {
    const std::lock_guard<std::mutex> guard(lock_);
    for (const Job& job : core_.remove([&](const Job& j) { return predicate(waiting_.at(j.id)); }))
      out.push_back(take(job.id));
    counters_.cancelled += out.size();
  }
  // Who waited for this stream to fill up need not any more.
  changed_.notify_all();
  return out;
}

std::vector<Item> BatchFormer::abandon(const Client* client, const void* stream) {
  std::vector<Item> out;
  {
    const std::lock_guard<std::mutex> guard(lock_);
    const auto meant = [&](const auto& item) { return item.client == client && item.stream == stream; };
    for (const Job& job : core_.remove([&](const Job& j) { return meant(waiting_.at(j.id)); }))
      out.push_back(take(job.id));
    counters_.cancelled += out.size();
    for (auto& [id, running] : running_) running.abandoned |= meant(running);
  }
  changed_.notify_all();
  return out;
}

void BatchFormer::stream_begin(const Client* client, const void* stream, const StreamTraits& traits) {
  const std::lock_guard<std::mutex> guard(lock_);
  core_.stream_begin(stream_id(client, stream), traits);
}

void BatchFormer::stream_end(const Client* client, const void* stream) {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    const auto found = streams_.find({client, stream});
    if (found == streams_.end()) return;
    core_.stream_end(found->second);
    streams_.erase(found);
  }
  changed_.notify_all();
}

void BatchFormer::end_streams(const Client* client) {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    std::erase_if(streams_, [&](const auto& entry) {
      if (entry.first.first != client) return false;
      core_.stream_end(entry.second);
      return true;
    });
  }
  changed_.notify_all();
}

void BatchFormer::drain(const Client* client, const void* stream) {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    const auto found = streams_.find({client, stream});
    if (found == streams_.end()) return;
    core_.drain(found->second);
  }
  changed_.notify_all();
}

bool BatchFormer::add_task(std::function<void()> task) {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    if (stopped_) return false;
    tasks_.push_back(std::move(task));
  }
  changed_.notify_all();
  return true;
}

void BatchFormer::stop() {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    stopped_ = true;
  }
  changed_.notify_all();
}

// With the lock.
void BatchFormer::hand_out(const Decision& decision, Work* work) {
  for (const Job& job : decision.expired) work->expired.push_back(take(job.id));
  counters_.expired += work->expired.size();
  for (const Job& job : decision.batch) {
    work->batch.push_back(take(job.id));
    const Item& item = work->batch.back();
    running_.emplace(job.id, Running{job, item.client, item.stream});
  }
  work->probe = decision.probe;
  if (!work->batch.empty()) task_was_last_ = false;
}

BatchFormer::Work BatchFormer::ahead() {
  const std::lock_guard<std::mutex> guard(lock_);
  Work work;
  if (!tasks_.empty() || waiting_.empty()) return work;
  if (memory_source_) core_.set_memory_budget(memory_source_());
  hand_out(core_.ahead(clock_.now()), &work);
  return work;
}

BatchFormer::Work BatchFormer::next() {
  std::unique_lock<std::mutex> guard(lock_);
  for (;;) {
    Work work;
    // For tasks too: they measure passes, within it.
    if (memory_source_ && (!waiting_.empty() || !tasks_.empty())) core_.set_memory_budget(memory_source_());
    if (!tasks_.empty() && (!task_was_last_ || waiting_.empty())) {
      work.task = std::move(tasks_.front());
      tasks_.pop_front();
      task_was_last_ = true;
      return work;
    }
    if (stopped_) core_.drain_all();
    const Decision decision = core_.decide(clock_.now());
    hand_out(decision, &work);
    if (!work.batch.empty() || !work.expired.empty()) return work;
    task_was_last_ = false;
    if (!tasks_.empty()) continue;
    if (stopped_ && waiting_.empty()) {
      work.stopped = true;
      return work;
    }
    if (decision.action == Decision::wait)
      clock_.wait_until(changed_, guard, decision.wake);
    else
      changed_.wait(guard);
  }
}

std::vector<Item> BatchFormer::take_abandoned(std::vector<Item>* items) {
  std::vector<Item> out, rest;
  std::vector<Job> jobs;
  const std::lock_guard<std::mutex> guard(lock_);
  for (Item& item : *items) {
    const bool gone = running_.at(item.id).abandoned;
    if (gone) jobs.push_back(running_.extract(item.id).mapped().job);
    (gone ? out : rest).push_back(std::move(item));
  }
  *items = std::move(rest);
  core_.finished(jobs, 0, clock_.now());
  counters_.cancelled += out.size();
  return out;
}

std::vector<bool> BatchFormer::finished(const std::vector<Item>& items, int64_t started, int64_t time,
                                        uint64_t bytes, bool failed, const std::vector<bool>& bad,
                                        bool typical) {
  const std::lock_guard<std::mutex> guard(lock_);
  Learned& l = learned(items.front());
  std::vector<Job> jobs;
  std::vector<bool> cancelled;
  for (size_t i = 0; i < items.size(); ++i) {
    const Running running = running_.extract(items[i].id).mapped();
    jobs.push_back(running.job);
    cancelled.push_back(running.abandoned);
    if (cancelled.back())
      ++counters_.cancelled;
    else if (failed || (!bad.empty() && bad[i]))
      ++counters_.failed;
    else
      ++counters_.completed;
  }
  core_.finished(jobs, failed || !typical ? 0 : time, started + time);
  ++counters_.batches;
  ++counters_.histogram[std::min<size_t>(items.size(), DA3_BATCH_BUCKETS) - 1];
  if (failed) return cancelled;
  core_.costs(l.index).observe_memory(uint32_t(items.size()), bytes);
  counters_.service.add(time);
  l.service.add(time);
  for (const Item& item : items) {
    counters_.queue_wait.add(started - item.submitted);
    l.queue_wait.add(started - item.submitted);
  }
  return cancelled;
}

bool BatchFormer::out_of_memory(const std::vector<Item>& items) {
  const std::lock_guard<std::mutex> guard(lock_);
  ++counters_.memory_retries;
  return core_.out_of_memory(learned(items.front()).index, uint32_t(items.size()));
}

void BatchFormer::measured(const Item& like, uint32_t batch, int64_t time, uint64_t bytes) {
  const std::lock_guard<std::mutex> guard(lock_);
  Learned& l = learned(like);
  l.used = ++uses_;
  l.service.add(time);
  core_.observe(l.index, batch, time, clock_.now());
  core_.costs(l.index).observe_memory(batch, bytes);
}

FormerCounters BatchFormer::counters() const {
  const std::lock_guard<std::mutex> guard(lock_);
  FormerCounters out = counters_;
  out.waiting = uint32_t(waiting_.size());
  out.running = uint32_t(running_.size());
  out.streams = uint32_t(core_.streams());
  return out;
}

void BatchFormer::shape_stats(const Item& like, Da3ShapeStats* out) const {
  Da3ShapeStats s{};
  s.batch_cap = like.max_batch > 0 ? like.max_batch : 1;
  RecentValues<256> service, queue_wait;
  {
    const std::lock_guard<std::mutex> guard(lock_);
    s.streams = uint32_t(core_.active_streams());
    if (const Learned* l = find_learned(like)) {
      CostModel& cost = core_.costs(l->index);
      const uint64_t budget = core_.memory_budget();
      s.batch_cap = like.max_batch > 0 ? cost.memory_cap(budget, like.max_batch) : cost.known_cap(budget);
      s.measured = cost.measured();
      s.single_ns = cost.time(1);
      s.cap_ns = cost.time(s.batch_cap);
      s.items_per_second = s.cap_ns > 0 ? 1e9 * s.batch_cap / double(s.cap_ns) : 0;
      s.memory_single = cost.memory(1);
      s.memory_cap = cost.memory(s.batch_cap);
      service = l->service;
      queue_wait = l->queue_wait;
    }
  }
  s.service = service.quantiles();
  s.queue_wait = queue_wait.quantiles();
  s.struct_size = out->struct_size;
  std::memcpy(out, &s, std::min<size_t>(out->struct_size, sizeof s));
}

uint32_t BatchFormer::cap(const Item& like, bool explore) {
  const std::lock_guard<std::mutex> guard(lock_);
  CostModel& cost = core_.costs(learned(like).index);
  return explore ? cost.cap(core_.memory_budget()) : cost.known_cap(core_.memory_budget());
}

uint32_t BatchFormer::to_measure(const Item& like) {
  const std::lock_guard<std::mutex> guard(lock_);
  CostModel& cost = core_.costs(learned(like).index);
  const uint32_t size = cost.to_measure(core_.memory_budget());
  // No pass that nobody asked for holds up a live stream for longer than it can wait.
  return size > 1 && cost.time(size) > core_.tightest(clock_.now()).wait ? 0 : size;
}

}  // namespace da3
