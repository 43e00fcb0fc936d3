// SPDX-License-Identifier: MIT
//
// The line between the list and the engine: who is submitted when, who is skipped, and by which figures.
#include <algorithm>
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
    submitted_ = 0;
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

std::vector<std::shared_ptr<Engine>> InferStream::engines() {
  const Lock lock(sync_->mutex);
  std::vector<std::shared_ptr<Engine>> all = retired_;
  if (engine_) all.push_back(engine_);
  return all;
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
  }
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
  return requests_in_flight(budget(), completions_.per_second(), most_in_flight());
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
  const std::lock_guard one_at_a_time(pump_mutex_);
  Skipped skipped;
  {
    Lock lock(sync_->mutex);
    while (flow_ != GST_FLOW_FLUSHING && engine_ && !waiting_.empty() && !line_blocked()) {
      submit_next(lock, skipped);
    }
    tidy_skipped(skipped);
  }
  if (skipped.reports.empty()) return;
  sync_->changed.notify_all();
  report(std::move(skipped));
}

void InferStream::submit_next(Lock& lock, Skipped& skipped) {
  const std::shared_ptr<InferGroup> group = waiting_.front();
  const Stamp now = now_locked();
  const gint64 waited = age(group->closed_at(), now);
  const gint64 left = budget() - waited;
  const bool may_expire = rules_.dropping() && live_;
  if (may_expire && left <= 0) {
    skip_group(group, DropReason::late, skipped);
    return;
  }
  waiting_.pop_front();
  group->assign(engine_, now);
  ++figures_.groups;
  const bool timed = live_ && (rules_.dropping() || rules_.max_latency > 0);
  const gint64 deadline = timed ? g_get_monotonic_time() * 1000 + left : 0;
  register_stream(lock, *group);
  lock.unlock();
  InferGroup::submit(group, this, deadline, may_expire);
  lock.lock();
}

// Tells the engine what to expect of this stream; again when that changes. Gives up the lock in between.
void InferStream::register_stream(Lock& lock, const InferGroup& group) {
  Engine& engine = group.engine();
  const bool ask = submitted_++ % kAskEvery == 0;
  if (ask) {
    Da3Shape shape{};
    shape.struct_size = sizeof(shape);
    shape.width = group.size().width;
    shape.height = group.size().height;
    shape.n_views = group.views();
    shape.outputs = wanted_outputs(engine.info(), group.settings().use_ray_pose);
    shape.use_ray_pose = group.settings().use_ray_pose;
    lock.unlock();
    const guint learned = engine.shape_stats(shape).batch_cap;
    const guint most = std::max(1u, engine.info().max_batch);
    lock.lock();
    // Room for batches larger than the ones so far: else the engine would never see whether they gain.
    cap_ = learned > 0 ? std::min(most, 2 * learned) : most;
  }
  Da3Stream description{};
  description.struct_size = sizeof(description);
  description.max_pending = most_in_flight();
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
}

void InferStream::warmed_up() {
  std::shared_ptr<Engine> engine;
  std::optional<Da3Shape> shape;
  {
    const Lock lock(sync_->mutex);
    warming_up_ = false;
    // Who waited for the measurement is not late for that.
    for (const auto& group : waiting_) group->closed(now_locked());
    engine = engine_;
    shape = shape_;
  }
  // A frame finds the network busy with another one: about two passes.
  const gint64 single = engine && shape ? engine->shape_stats(*shape).single_ns : 0;
  bool moved;
  {
    const Lock lock(sync_->mutex);
    if (single > 0) forward_ns_ = single;
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
  if (rules_.on_drop != OnDrop::gap) return;
  skipped.buffers.push_back(std::move(item.buffer));
  --frames_queued_;
  figures_.drop(reason);
}

void InferStream::skip_group(const std::shared_ptr<InferGroup>& group, DropReason reason, Skipped& skipped) {
  const std::shared_ptr<InferGroup> keep = group;  // may be the entry that goes
  std::erase(waiting_, keep);
  const GstClockTimeDiff lateness = age(keep->closed_at(), now_locked());
  for (Item& item : items_) {
    if (item.group == keep) skip_item(item, reason, lateness, skipped);
  }
}

// Neighbouring gaps become one, and frames that only wait to go on without a result give way when they are
// many: a downstream that stands still must not make the list grow.
void InferStream::tidy_skipped(Skipped& skipped) {
  const guint most = bound() + kMostSkipped;
  for (Item& item : items_) {
    if (frames_queued_ <= most) break;
    if (item.kind != Kind::skipped || !item.buffer) continue;
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
    processed = f.frames_out - f.reused - f.passed;
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

std::optional<Da3Shape> InferStream::live_shape() const {
  const Lock lock(sync_->mutex);
  return shape_;
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

GstClockTime InferStream::latency(GstClockTime duration) const {
  const guint views = host_.settings().infer.views;
  const Lock lock(sync_->mutex);
  auto learned = GstClockTime(latency_.value());
  if (rules_.dropping() && rules_.max_latency > 0) learned = std::min(learned, rules_.max_latency);
  return learned + (views - 1) * duration;  // the first of a group waits for the others
}

void InferStream::post_latency() {
  {
    const Lock lock(sync_->mutex);
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
    readings.queued = frames_queued_ + (in_hand_ ? 1 : 0);
    for (const Item& item : items_) {
      if (item.buffer) readings.queued_bytes += gst_buffer_get_size(item.buffer.get());
    }
    readings.in_flight = ahead().with_engine;
    readings.live = live_;
    readings.latency = GstClockTime(latency_.value());
    engine = engine_;
  }
  if (engine && DA3_ENGINE_HAS(&engine->api(), stats)) readings.engine = engine->stats();
  return readings;
}

}  // namespace da3::plugin
