// SPDX-License-Identifier: MIT
//
// The source side of da3infer: a task that takes items in order, waits for the result of each and pushes.
#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "common/guard.h"
#include "infer_reuse.h"
#include "infer_stream.h"

GST_DEBUG_CATEGORY_EXTERN(gst_da3_infer_debug);
#define GST_CAT_DEFAULT gst_da3_infer_debug

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
#endif

namespace da3::plugin {
namespace {

// A task gets its thread from a pool of GLib, behind a lock that the thread sanitiser does not see.
void announce([[maybe_unused]] void* stream) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(stream);
#endif
}
void take_notice([[maybe_unused]] void* stream) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(stream);
#endif
}

bool starts_segment(GstEvent* event) {
  return GST_EVENT_TYPE(event) == GST_EVENT_STREAM_START || GST_EVENT_TYPE(event) == GST_EVENT_SEGMENT;
}

// Of the task, for a time: not less, so that a clock that stands still does not keep it busy, nor more, so
// that one that runs ahead is seen.
constexpr gint64 kLeastWait = 10 * gint64(GST_MSECOND);
constexpr gint64 kLongestWait = gint64(GST_SECOND);

// Frames stay in here for a while: a pool that downstream limits to what it needs itself would run dry.
void make_room_in_pools(GstQuery* query, guint held) {
  for (guint i = 0; i < gst_query_get_n_allocation_pools(query); ++i) {
    GstBufferPool* pool = nullptr;
    guint size = 0, min = 0, max = 0;
    gst_query_parse_nth_allocation_pool(query, i, &pool, &size, &min, &max);
    if (max != 0) gst_query_set_nth_allocation_pool(query, i, pool, size, min, max + held);
    if (pool) gst_object_unref(pool);
  }
}

}  // namespace

gboolean InferStream::start_task() {
  announce(this);
  return gst_pad_start_task(source_pad_, task_entry, this, nullptr);
}

gboolean InferStream::activate_source(bool active) {
  if (active) {
    open_for_buffers();
    return start_task();
  }
  {
    const Lock lock(sync_->mutex);
    flow_ = GST_FLOW_FLUSHING;
  }
  sync_->changed.notify_all();
  return gst_pad_stop_task(source_pad_);
}

void InferStream::task_entry(gpointer self) {
  take_notice(self);
  auto* stream = static_cast<InferStream*>(self);
  try {
    stream->run_once();
  } catch (...) {
    stream->give_up(std::current_exception(), GST_FLOW_ERROR);
  }
}

bool InferStream::head_ready() const {
  if (items_.empty()) return false;
  const Item& head = items_.front();
  return head.kind != Kind::frame || head.group->finished();
}

// What is left of a group that is open for too long: its first frame is older than the views take to come and
// a frame may wait. Only of a live stream whose frame rate is known.
std::optional<gint64> InferStream::group_time_left(Stamp now) const {
  if (!live_ || !open_since_ || frame_duration_ == 0) return std::nullopt;
  return gint64(open_views_ * frame_duration_) + budget() - age(*open_since_, now);
}

void InferStream::close_overdue_group() {
  const std::unique_lock group(group_mutex_, std::try_to_lock);
  if (!group) return;  // the sink pad's thread is at it
  {
    const Lock lock(sync_->mutex);
    const std::optional<gint64> left = group_time_left(now_locked());
    if (!left || *left > 0) return;
  }
  close_group(true);
}

// Until there is something to do, or it is time for statistics or the end of a group. By a clock that does
// not go as fast as time it may be too early: then it is called again.
void InferStream::wait_for_work(Lock& lock, GstClockTime stats_interval) {
  while (flow_ == GST_FLOW_OK && !head_ready() && remarks_.empty()) {
    const Stamp now = now_locked();
    std::optional<gint64> left = group_time_left(now);
    if (stats_interval > 0) {
      const gint64 stats = stats_posted_ + gint64(stats_interval) - now.ns;
      left = std::min(stats, left.value_or(stats));
    }
    if (!left) {
      sync_->changed.wait(lock);
      continue;
    }
    const auto time = std::chrono::nanoseconds(std::clamp(*left, kLeastWait, kLongestWait));
    if (sync_->changed.wait_for(lock, time) == std::cv_status::timeout) return;
  }
}

void InferStream::close_unused() {
  for (auto& engine : take_unused()) host_.close_later(std::move(engine), this);
}

void InferStream::run_once() {
  std::vector<std::pair<Da3ErrorCode, std::string>> remarks;
  std::optional<Item> item;
  close_unused();  // before it waits: that may be for long
  const GstClockTime stats_interval = host_.settings().flow.stats_interval;
  {
    Lock lock(sync_->mutex);
    wait_for_work(lock, stats_interval);
    remarks.swap(remarks_);
    if (flow_ != GST_FLOW_OK) {
      gst_pad_pause_task(source_pad_);
    } else if (head_ready()) {
      item = std::move(items_.front());
      items_.pop_front();
      in_hand_ = item->buffer != nullptr;
      if (in_hand_) --frames_queued_;
      query_running_ = item->kind == Kind::query;
    }
  }
  for (const auto& [code, text] : remarks) {
    const auto [domain, number] =
        code == DA3_ERROR_NO_MEMORY
            ? std::pair<GQuark, gint>(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT)
        : code == DA3_ERROR_SETTINGS
            ? std::pair<GQuark, gint>(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS)
            : std::pair<GQuark, gint>(GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED);
    post_warning(element_, domain, number, text);
  }
  if (!item) {
    close_overdue_group();
    maybe_post_stats();
    return;
  }
  sync_->changed.notify_all();
  pump();
  handle(std::move(*item));
}

void InferStream::handle(Item item) {
  switch (item.kind) {
    case Kind::frame:
      push_frame(std::move(item));
      break;
    case Kind::gap: {
      BufferPtr buffer = std::move(item.buffer);
      push_buffer(std::move(buffer), item, Pushed::gap);
      break;
    }
    case Kind::skipped:
      push_skipped(std::move(item));
      break;
    case Kind::event:
      // Depth of another scene or size is none to go on with.
      if (starts_segment(item.event.get()) || GST_EVENT_TYPE(item.event.get()) == GST_EVENT_CAPS) {
        last_results_.reset();
      }
      if (GST_EVENT_TYPE(item.event.get()) == GST_EVENT_SEGMENT) {
        segment_seqnum_ = gst_event_get_seqnum(item.event.get());
      }
      gst_pad_push_event(source_pad_, item.event.release());
      break;
    case Kind::query:
      answer(item.query);
      break;
    case Kind::failure:
      give_up(item.failure, item.flow);
      break;
  }
}

void InferStream::push_frame(Item item) {
  if (item.group->expired()) {
    push_expired(std::move(item));
    return;
  }
  const std::shared_ptr<InferResult> result = item.group->result();
  BufferPtr buffer = writable(std::move(item.buffer));
  const Attached attached =
      attach_results(buffer.get(), item.geometry, item.identity, item.group->engine()->info(), result);
  copied_ += attached.copied;
  if (attached.usable < 1 && !warned_partly_unusable_) {
    warned_partly_unusable_ = true;
    post_warning(element_, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED,
                 "Some depth values are not finite or not above 0 (first in frame " +
                     std::to_string(item.identity.frame) + "); they count as invalid.");
  }
  bool keep;
  {
    const Lock lock(sync_->mutex);
    keep = rules_.on_drop == OnDrop::reuse;
  }
  last_results_.reset();
  if (keep) {
    last_results_.reset(gst_buffer_new());
    copy_results(buffer.get(), last_results_.get());
    last_engine_ = item.group->engine();
  }
  if (item.identity.view == 0) learn(*item.group, result->data());
  item.group.reset();
  close_unused();  // downstream may hold the last frame of a model for as long as it is paused
  push_buffer(std::move(buffer), item, Pushed::inferred);
}

// Shares the pixels; only the list of metas is new if somebody else holds this buffer. Memory that must not
// be shared is copied.
BufferPtr InferStream::writable(BufferPtr buffer) {
  if (gst_buffer_is_writable(buffer.get())) return buffer;
  BufferPtr copy(gst_buffer_copy(buffer.get()));
  for (guint i = 0; i < gst_buffer_n_memory(buffer.get()); ++i) {
    GstMemory* memory = gst_buffer_peek_memory(buffer.get(), i);
    if (GST_MEMORY_FLAG_IS_SET(memory, GST_MEMORY_FLAG_NO_SHARE)) copied_ += memory->size;
  }
  return copy;
}

// The engine saw that it would come too late, and spent no work on it.
void InferStream::push_expired(Item item) {
  Skipped skipped;
  {
    const Lock lock(sync_->mutex);
    ++frames_queued_;  // as skip_item() expects; it is in hand instead
    skip_item(item, DropReason::late, age(item.arrival, now_locked()), skipped);
    in_hand_ = item.buffer != nullptr;
    if (in_hand_) --frames_queued_;
    until_asked_ = 0;  // passes may take longer than they did
  }
  report(std::move(skipped));
  push_skipped(std::move(item));
}

void InferStream::push_skipped(Item item) {
  if (!item.buffer) {
    push_gap_event(item.times);
    return;
  }
  bool same_model;
  {
    const Lock lock(sync_->mutex);
    same_model = !last_engine_.owner_before(engine_) && !engine_.owner_before(last_engine_);
  }
  if (!same_model) last_results_.reset();  // another model, another scale of depth
  BufferPtr buffer = writable(std::move(item.buffer));
  const bool reused = last_results_ && reuse_results(last_results_.get(), buffer.get(), item.identity.frame);
  push_buffer(std::move(buffer), item, reused ? Pushed::reused : Pushed::passed);
}

void InferStream::push_gap_event(const FrameTimes& times) {
  discont_ = true;
  maybe_post_stats();
  if (!GST_CLOCK_TIME_IS_VALID(times.pts)) return;
  gst_pad_push_event(source_pad_, of_segment(gst_event_new_gap(times.pts, times.duration)));
}

// What is said in the middle of a segment belongs to the seek or the source that began it.
GstEvent* InferStream::of_segment(GstEvent* event) const {
  if (segment_seqnum_ != GST_SEQNUM_INVALID) gst_event_set_seqnum(event, segment_seqnum_);
  return event;
}

void InferStream::push_end() {
  gst_pad_push_event(source_pad_, of_segment(gst_event_new_eos()));
}

void InferStream::push_buffer(BufferPtr buffer, const Item& item, Pushed what) {
  if (discont_) {
    buffer = writable(std::move(buffer));
    GST_BUFFER_FLAG_SET(buffer.get(), GST_BUFFER_FLAG_DISCONT);
    discont_ = false;
  }
  {
    const Lock lock(sync_->mutex);
    const Stamp now = now_locked();
    in_hand_ = false;
    figures_.push(what);
    figures_.bytes_copied += std::exchange(copied_, 0);
    figures_.output.add(now.ns);
    if (item.kind == Kind::frame) figures_.total.add(age(item.arrival, now));
  }
  maybe_post_stats();
  const GstFlowReturn flow = gst_pad_push(source_pad_, buffer.release());
  if (flow != GST_FLOW_OK) downstream_said(flow, what);
}

void InferStream::downstream_said(GstFlowReturn flow, Pushed what) {
  GST_DEBUG_OBJECT(element_, "downstream returned %s", gst_flow_get_name(flow));
  bool alone = false;
  std::deque<Item> dropped;  // goes without the lock
  {
    const Lock lock(sync_->mutex);
    figures_.take_back(what);
    figures_.drop(flow == GST_FLOW_FLUSHING                             ? DropReason::flush
                  : flow == GST_FLOW_EOS || flow == GST_FLOW_NOT_LINKED ? DropReason::refused
                                                                        : DropReason::error);
    if (flow == GST_FLOW_EOS) {
      dropped = take_buffers(false);
      figures_.drop(DropReason::refused,
                    guint(std::count_if(dropped.begin(), dropped.end(),
                                        [](const Item& item) { return item.buffer != nullptr; })));
    } else if (flow_ == GST_FLOW_OK) {
      flow_ = flow;
      // Upstream has said its last word and would never hear of it.
      alone = end_queued_ && (flow == GST_FLOW_NOT_LINKED || flow < GST_FLOW_EOS);
      error_posted_ |= alone;
    }
  }
  sync_->changed.notify_all();
  if (!alone) return;
  GST_ELEMENT_FLOW_ERROR(element_, flow);
  push_end();
}

// Takes frames out of the list and leaves events: up to the next segment, after which downstream may want
// frames again, or all. With the lock held; the caller counts them.
std::deque<InferStream::Item> InferStream::take_buffers(bool all) {
  std::deque<Item> kept, dropped;
  bool skipping = true;
  for (Item& item : items_) {
    GstEvent* event = item.event.get();
    if (!all && event && (starts_segment(event) || GST_EVENT_TYPE(event) == GST_EVENT_EOS)) skipping = false;
    const bool frame = item.kind == Kind::frame || item.kind == Kind::gap || item.kind == Kind::skipped;
    (skipping && frame ? dropped : kept).push_back(std::move(item));
  }
  items_.swap(kept);
  if (!all) downstream_ended_ = skipping;
  for (const Item& item : dropped) {
    if (item.buffer) --frames_queued_;
    std::erase(waiting_, item.group);
  }
  return dropped;
}

void InferStream::answer(GstQuery* query) {
  const gboolean result = gst_pad_peer_query(source_pad_, query);
  if (result && GST_QUERY_TYPE(query) == GST_QUERY_ALLOCATION) make_room_in_pools(query, capacity() + 1);
  {
    const Lock lock(sync_->mutex);
    query_running_ = false;
    query_answered_ = true;
    query_result_ = result;
  }
  sync_->changed.notify_all();
}

void InferStream::give_up(std::exception_ptr error, GstFlowReturn flow) {
  post_error(element_, error);
  std::deque<Item> dropped;  // goes without the lock
  {
    const Lock lock(sync_->mutex);
    if (flow_ == GST_FLOW_OK) flow_ = flow;
    error_posted_ = true;
    const guint before = frames_queued_;
    dropped = take_buffers(true);
    figures_.drop(DropReason::error, before - frames_queued_ + (in_hand_ ? 1 : 0));
    in_hand_ = false;
  }
  sync_->changed.notify_all();
  // Lets a muxer or writer finish what it has.
  push_end();
}

// ---- figures
// ----------------------------------------------------------------------------------------------------

void InferStream::learn(const InferGroup& group, const Da3ResultData& data) {
  bool moved;
  {
    const Lock lock(sync_->mutex);
    const Stamp now = now_locked();
    figures_.learn(data);
    figures_.wait.add(age(group.closed_at(), group.submitted_at()));
    if (workload_of(*group.engine(), group) == workload_) {
      completions_.add(now.ns);
      passes_.add(data.inference_ns);
      estimate_forward();
    }
    // Without a live source frames wait because there are many, not because anybody is in a hurry.
    const gint64 waited = live_ ? age(group.ready_at(), group.submitted_at()) + data.queued_ns : 0;
    moved = latency_.add(waited + data.inference_ns);
  }
  if (moved) post_latency();
}

void InferStream::maybe_post_stats() {
  const GstClockTime interval = host_.settings().flow.stats_interval;
  if (interval == 0) return;
  {
    const Lock lock(sync_->mutex);
    const gint64 now = now_locked().ns;
    if (now - stats_posted_ < gint64(std::min<GstClockTime>(interval, G_MAXINT64))) return;
    stats_posted_ = now;
  }
  gst_element_post_message(element_,
                           gst_message_new_element(GST_OBJECT_CAST(element_), stats_structure(readings())));
}

}  // namespace da3::plugin
