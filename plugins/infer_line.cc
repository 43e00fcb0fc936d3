// SPDX-License-Identifier: MIT
//
// The line between the list and the engine: who is submitted when, who is skipped, and by which figures.
#include <algorithm>
#include <functional>
#include <iterator>
#include <string>

#include "infer_stream.h"

GST_DEBUG_CATEGORY_EXTERN(gst_da3_infer_debug);
#define GST_CAT_DEFAULT gst_da3_infer_debug

namespace da3::plugin {
namespace {

// After so many requests the engine is asked again how many it puts together.
constexpr guint kAskEvery = 16;
// Groups that may wait to be pushed, where batches are small.
constexpr guint kMostDone = 4;
// Most frames that only wait for their turn to go on without a result.
constexpr guint kMostSkipped = 32;

}  // namespace

// ---- engines
// ----------------------------------------------------------------------------------------------------

void InferStream::set_engine(std::shared_ptr<Engine> engine) {
  std::shared_ptr<Engine> replaced;
  std::vector<std::shared_ptr<Engine>> gone;  // closed without the lock
  {
    const Lock lock(sync_->mutex);
    replaced = std::exchange(engine_, engine);
    registered_with_ = nullptr;
    take_up({});
    if (!engine_) {
      gone.swap(retired_);
    } else {
      cap_ = std::max(1u, engine_->info().max_batch);
      // The last frames of the old model are still on their way; they keep it, but the last one to let go
      // must not be the engine's own thread.
      if (replaced) {
        retired_.push_back(replaced);
        ++figures_.model_changes;
      }
    }
  }
  if (replaced) replaced->stream_end(this);
}

std::vector<std::shared_ptr<Engine>> InferStream::take_unused() {
  std::vector<std::shared_ptr<Engine>> done_with;
  const Lock lock(sync_->mutex);
  const auto unused = [](const std::shared_ptr<Engine>& engine) { return engine.use_count() == 1; };
  const auto first = std::partition(retired_.begin(), retired_.end(), std::not_fn(unused));
  std::move(first, retired_.end(), std::back_inserter(done_with));
  retired_.erase(first, retired_.end());
  return done_with;
}

// Requests that the engine has not begun end at once. Without waiting, if the module can do that.
void InferStream::call_off(Engine& engine) {
  if (!engine.cancel_waiting(this)) engine.cancel(this);
}

std::vector<std::shared_ptr<Engine>> InferStream::engines() {
  const Lock lock(sync_->mutex);
  std::vector<std::shared_ptr<Engine>> all = retired_;
  if (engine_) all.push_back(engine_);
  return all;
}

// Nothing more comes for now: no batch waits for this stream.
void InferStream::drain_engines() {
  for (const auto& engine : engines()) engine->drain(this);
}

// ---- the clock
// ----------------------------------------------------------------------------------------------------

void InferStream::set_clock(GstClock* clock) {
  GstClock* old = nullptr;
  {
    const Lock lock(sync_->mutex);
    if (clock == clock_) return;
    old = clock_;
    clock_ = clock ? GST_CLOCK_CAST(gst_object_ref(clock)) : nullptr;
    ++clock_epoch_;
    completions_.clear();
    figures_.output.clear();
    stats_posted_ = now_locked().ns;
    if (open_since_) open_since_ = now_locked();
  }
  sync_->changed.notify_all();  // who waits for a time asks the new one
  if (old) gst_object_unref(old);
}

Stamp InferStream::now_locked() const {
  return {clock_ ? gint64(gst_clock_get_time(clock_)) : g_get_monotonic_time() * 1000, clock_epoch_};
}

gint64 InferStream::age(Stamp since, Stamp now) const {
  return since.epoch == now.epoch ? std::max<gint64>(0, now.ns - since.ns) : 0;
}

// ---- limits
// ----------------------------------------------------------------------------------------------------

guint InferStream::bound() const {
  return std::max(2u, 2 * cap_) * std::max(1u, rules_.views);
}

guint InferStream::most_in_flight() const {
  return std::max(2u, 2 * cap_);
}

guint InferStream::limit() const {
  return requests_in_flight(budget(), completions_.per_second(), share_, most_in_flight());
}

// Unfinished requests that the engine may see of this stream: it waits for one more only if that can come.
guint InferStream::max_pending() const {
  return rules_.dropping() ? std::min(limit(), most_in_flight()) : most_in_flight();
}

gint64 InferStream::budget() const {
  return age_budget(rules_.max_latency, forward_ns_);
}

InferStream::Ahead InferStream::ahead() const {
  Ahead ahead;
  const InferGroup* last = nullptr;
  for (const Item& item : items_) {
    if (!item.group || item.group.get() == last) continue;
    last = item.group.get();
    if (!last->submitted()) continue;
    if (ahead.with_engine + ahead.done == 0) ahead.oldest = item.arrival;
    ++(last->finished() ? ahead.done : ahead.with_engine);
  }
  return ahead;
}

// Whether the next group has to wait: the engine has enough of this stream, or downstream takes less than is
// done. A sink that holds frames back until their time is no reason, until they are older than that.
bool InferStream::line_blocked() const {
  if (warming_up_) return true;
  if (!rules_.dropping()) return false;
  const Ahead now = ahead();
  const guint most = limit();
  if (now.with_engine >= most || now.with_engine + now.done >= most + std::max(kMostDone, most_in_flight())) {
    return true;
  }
  const gint64 in_time = std::max(budget(), gint64(pipeline_latency_));
  return now.done > 0 && age(now.oldest, now_locked()) > in_time;
}

// ---- submitting
// ----------------------------------------------------------------------------------------------------

// By the sink pad's thread, the task and the loader's thread; one at a time, so that the order is kept.
void InferStream::pump() {
  Skipped skipped;
  bool ended = false;
  {
    const std::lock_guard one_at_a_time(pump_mutex_);
    Lock lock(sync_->mutex);
    bool submitted = false;
    while (goes_on() && engine_ && !waiting_.empty() && !line_blocked()) {
      submit_next(lock, skipped);
      submitted = true;
    }
    tidy_skipped(skipped);
    ended = submitted && end_queued_ && waiting_.empty();
  }
  // The end was told when it came; what was submitted since has made the stream one that goes on.
  if (ended) drain_engines();
  if (skipped.reports.empty()) return;
  sync_->changed.notify_all();
  report(std::move(skipped));
}

// A size that one model chose is for that model, if the new one would have chosen another.
std::shared_ptr<Engine> InferStream::engine_for(const InferGroup& group) const {
  const std::shared_ptr<Engine>& own = group.sized_by();
  return own && own_process_res(own->info()) != own_process_res(engine_->info()) ? own : engine_;
}

void InferStream::submit_next(Lock& lock, Skipped& skipped) {
  const std::shared_ptr<InferGroup> group = waiting_.front();
  if (rules_.dropping() && given_up(*group)) {
    skip_group(group, DropReason::qos, skipped);
    return;
  }
  const std::shared_ptr<Engine> engine = engine_for(*group);
  if (engine == engine_) {
    register_stream(lock, *engine, *group);
    // That gives up the lock: it may be another one's turn by now.
    const bool still = goes_on() && engine_ == engine && !waiting_.empty();
    if (!still || waiting_.front() != group) return;
  }
  const Stamp now = now_locked();
  const gint64 left = budget() - age(group->ready_at(), now);
  // By default what is too old depends on what a pass takes. Until that is known nothing expires: a workload
  // that takes longer than the least budget would never be computed, and so never be known.
  const bool known = rules_.max_latency > 0 || forward_ns_ > 0;
  const bool may_expire = rules_.dropping() && live_ && known;
  if (may_expire && left <= 0) {
    skip_group(group, DropReason::late, skipped);
    return;
  }
  waiting_.pop_front();
  group->assign(engine, now);
  ++figures_.groups;
  const bool timed = live_ && (rules_.dropping() || rules_.max_latency > 0);
  const gint64 deadline = timed ? g_get_monotonic_time() * 1000 + left : 0;
  const guint flushes = flushes_;
  lock.unlock();
  InferGroup::submit(group, this, deadline, may_expire);
  lock.lock();
  if (flushes == flushes_) return;
  // A flush came between, and its cancelling may have been too early. Nothing else has been submitted since.
  lock.unlock();
  call_off(*engine);
  lock.lock();
}

// Whether downstream said that every frame of it would come too late.
bool InferStream::given_up(const InferGroup& group) const {
  return std::none_of(items_.begin(), items_.end(), [&](const Item& item) {
    return item.group.get() == &group && !qos_.too_late(item.times.running);
  });
}

InferStream::Workload InferStream::workload_of(const Engine& engine, const InferGroup& group) {
  return {&engine, group.size(), group.views(), group.settings().use_ray_pose};
}

// Forgets what the one before it cost.
void InferStream::take_up(const Workload& workload) {
  workload_ = workload;
  until_asked_ = 0;
  completions_.clear();
  passes_.clear();
  told_ns_ = forward_ns_ = 0;
  share_ = 0;
}

void InferStream::estimate_forward() {
  forward_ns_ = std::max(told_ns_, passes_.quantile(0.1));
}

// Asks the engine what requests like this one cost. Gives up the lock in between.
void InferStream::ask_for_cost(Lock& lock, Engine& engine, const InferGroup& group) {
  Da3Shape shape{};
  shape.struct_size = sizeof(shape);
  shape.width = group.size().width;
  shape.height = group.size().height;
  shape.n_views = group.views();
  shape.outputs = wanted_outputs(engine.info(), group.settings().use_ray_pose);
  shape.use_ray_pose = group.settings().use_ray_pose;
  lock.unlock();
  const Da3ShapeStats stats = engine.shape_stats(shape);
  const guint most = std::max(1u, engine.info().max_batch);
  lock.lock();
  if (engine_.get() != &engine) return;
  // Room for batches larger than the ones so far: else the engine would never see whether they gain.
  cap_ = stats.batch_cap > 0 ? std::min(most, 2 * stats.batch_cap) : most;
  told_ns_ = stats.single_ns;
  const guint streams = stats.streams + (registered_with_ == &engine ? 0 : 1);  // this one will be
  share_ = streams > 1 ? stats.items_per_second / streams : 0;
  estimate_forward();
}

// Tells the engine what to expect of this stream; again when that changes. Gives up the lock in between: the
// engine may have been replaced afterwards, and then knows nothing of the stream.
void InferStream::register_stream(Lock& lock, Engine& engine, const InferGroup& group) {
  const Workload workload = workload_of(engine, group);
  if (workload != workload_) take_up(workload);
  if (until_asked_ == 0) {
    until_asked_ = kAskEvery;
    ask_for_cost(lock, engine, group);
    if (engine_.get() != &engine) return;
  }
  --until_asked_;
  Da3Stream description{};
  description.struct_size = sizeof(description);
  description.max_pending = max_pending();
  description.interval_ns = live_ ? gint64(frame_duration_ * group.settings().views) : 0;
  if (registered_with_ == &engine && registered_interval_ == description.interval_ns &&
      registered_most_ == description.max_pending) {
    return;
  }
  registered_with_ = &engine;
  registered_interval_ = description.interval_ns;
  registered_most_ = description.max_pending;
  lock.unlock();
  engine.stream_begin(this, description);
  lock.lock();
  if (engine_.get() == &engine) return;
  lock.unlock();
  engine.stream_end(this);
  lock.lock();
}

void InferStream::warmed_up() {
  std::shared_ptr<Engine> engine;
  {
    const Lock lock(sync_->mutex);
    warming_up_ = false;
    // Who waited for the measurement is not late for that.
    for (const auto& group : waiting_) group->begin_to_wait(now_locked());
    engine = engine_;
  }
  const std::optional<Da3Shape> shape = engine ? live_shape(engine->info()) : std::nullopt;
  const gint64 single = shape ? engine->shape_stats(*shape).single_ns : 0;
  bool moved;
  {
    const Lock lock(sync_->mutex);
    until_asked_ = 0;
    // A frame finds the network busy with another one: about two passes.
    moved = latency_.assume(2 * single);
  }
  if (moved) post_latency();
  pump();
}

// ---- skipping
// ----------------------------------------------------------------------------------------------------

void InferStream::skip_item(Item& item, DropReason reason, GstClockTimeDiff lateness, Skipped& skipped) {
  item.kind = Kind::skipped;
  if (item.group) skipped.groups.push_back(std::move(item.group));
  item.group.reset();
  skipped.reports.push_back({item.times, reason, lateness});
  figures_.skip(reason);
  if (rules_.on_drop != OnDrop::gap) return;
  skipped.buffers.push_back(std::move(item.buffer));
  --frames_queued_;
  figures_.drop(reason);
}

void InferStream::skip_group(const std::shared_ptr<InferGroup>& group, DropReason reason, Skipped& skipped) {
  const std::shared_ptr<InferGroup> keep = group;  // may be the entry that goes
  std::erase(waiting_, keep);
  const GstClockTimeDiff waited = age(keep->closed_at(), now_locked());
  for (Item& item : items_) {
    if (item.group != keep) continue;
    skip_item(item, reason, reason == DropReason::qos ? qos_.lateness(item.times.running) : waited, skipped);
  }
}

// Neighbouring gaps become one, and frames that only wait to go on without a result, or because upstream
// marked them as gaps, give way when they are many: a downstream that stands still must not make the list
// grow.
void InferStream::tidy_skipped(Skipped& skipped) {
  const guint most = bound() + kMostSkipped;
  for (Item& item : items_) {
    if (frames_queued_ <= most) break;
    const bool gap = item.kind == Kind::gap && rules_.dropping();
    if ((!gap && item.kind != Kind::skipped) || !item.buffer) continue;
    if (gap) {
      skipped.reports.push_back({item.times, DropReason::overrun, 0});
      figures_.skip(DropReason::overrun);
    }
    item.kind = Kind::skipped;
    skipped.buffers.push_back(std::move(item.buffer));
    --frames_queued_;
    figures_.drop(DropReason::overrun);
  }
  const auto is_gap = [](const Item& item) { return item.kind == Kind::skipped && !item.buffer; };
  std::deque<Item> kept;
  for (Item& item : items_) {
    if (kept.empty() || !is_gap(kept.back()) || !is_gap(item)) {
      kept.push_back(std::move(item));
      continue;
    }
    FrameTimes& first = kept.back().times;
    const FrameTimes& next = item.times;
    if (!GST_CLOCK_TIME_IS_VALID(next.pts)) continue;
    if (!GST_CLOCK_TIME_IS_VALID(first.pts) || first.pts > next.pts) {
      first = next;
      continue;
    }
    first.duration =
        GST_CLOCK_TIME_IS_VALID(next.duration) ? next.pts + next.duration - first.pts : GST_CLOCK_TIME_NONE;
  }
  items_.swap(kept);
}

void InferStream::report(Skipped skipped) {
  if (skipped.reports.empty()) return;
  guint64 processed, dropped;
  bool live;
  gdouble proportion;
  {
    const Lock lock(sync_->mutex);
    const InferFigures& f = figures_;
    dropped = f.all_dropped() + f.reused + f.passed;
    processed = f.frames_out - f.reused - f.passed - f.gaps;
    live = live_;
    proportion = qos_.proportion();
  }
  for (const Skipped::Report& r : skipped.reports) {
    GST_DEBUG_OBJECT(element_, "frame at %" GST_TIME_FORMAT " is not inferred: %s",
                     GST_TIME_ARGS(r.times.pts), drop_reason_name(r.reason));
    GstMessage* message = gst_message_new_qos(GST_OBJECT_CAST(element_), live, r.times.running,
                                              r.times.stream, r.times.pts, r.times.duration);
    gst_message_set_qos_values(message, r.lateness, proportion, 1000000);
    gst_message_set_qos_stats(message, GST_FORMAT_BUFFERS, processed, dropped);
    gst_element_post_message(element_, message);
  }
}

// ---- figures
// ----------------------------------------------------------------------------------------------------

void InferStream::mended(Da3ErrorCode code, std::string text) {
  {
    const Lock lock(sync_->mutex);
    remarks_.emplace_back(code, std::move(text));
  }
  sync_->changed.notify_all();
}

void InferStream::upstream_event(GstEvent* event) {
  const Lock lock(sync_->mutex);
  switch (GST_EVENT_TYPE(event)) {
    case GST_EVENT_QOS:
      qos_.update(event, frame_duration_);
      break;
    case GST_EVENT_LATENCY: {
      qos_.clear();  // what was late by the old latency need not be late by the new one
      GstClockTime latency = 0;
      gst_event_parse_latency(event, &latency);
      pipeline_latency_ = GST_CLOCK_TIME_IS_VALID(latency) ? latency : 0;
      break;
    }
    case GST_EVENT_RECONFIGURE:
      // The source pad has a peer again.
      if (flow_ != GST_FLOW_NOT_LINKED) break;
      flow_ = GST_FLOW_OK;
      start_task();
      break;
    default:
      break;
  }
}

guint InferStream::capacity() const {
  const Lock lock(sync_->mutex);
  return bound();
}

InferStream::LatencyParts InferStream::latency_parts(guint views, GstClockTime duration) const {
  LatencyParts parts;
  if (rules_.dropping() && rules_.max_latency > 0) parts.most = rules_.max_latency;
  parts.others = (views - 1) * duration;
  return parts;
}

GstClockTime InferStream::latency(GstClockTime duration) {
  const guint views = host_.settings().infer.views;
  const Lock lock(sync_->mutex);
  const LatencyParts parts = latency_parts(views, duration);
  // The first answer is what the pipeline begins with; later ones may go to anybody.
  if (!latency_parts_) latency_parts_ = parts;
  return parts.with(latency_.value());
}

// Behind a file nobody waits for it.
void InferStream::post_latency() {
  {
    const Lock lock(sync_->mutex);
    latency_unsaid_ = live_known_ && !live_;
    if (latency_unsaid_) return;
    ++figures_.latency_messages;
  }
  gst_element_post_message(element_, gst_message_new_latency(GST_OBJECT_CAST(element_)));
}

InferReadings InferStream::readings() const {
  InferReadings readings;
  std::shared_ptr<Engine> engine;
  {
    const Lock lock(sync_->mutex);
    readings.figures = figures_;
    readings.queued = frames_queued_ + in_hand_ + at_door_;
    for (const Item& item : items_) {
      if (item.buffer) readings.queued_bytes += gst_buffer_get_size(item.buffer.get());
    }
    readings.in_flight = ahead().with_engine;
    readings.live = live_;
    readings.latency = GstClockTime(latency_.value());
    readings.fps = figures_.output.per_second(now_locked().ns);
    engine = engine_;
  }
  if (engine && DA3_ENGINE_HAS(&engine->api(), stats)) readings.engine = engine->stats();
  return readings;
}

}  // namespace da3::plugin
