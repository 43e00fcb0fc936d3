// SPDX-License-Identifier: MIT
#include "infer_stream.h"

#include <algorithm>
#include <string>

#include "common/guard.h"

GST_DEBUG_CATEGORY_EXTERN(gst_da3_infer_debug);
#define GST_CAT_DEFAULT gst_da3_infer_debug

namespace da3::plugin {
namespace {

// The first forward passes build plans and fill caches; they say nothing about the next ones.
constexpr guint kWarmUpForwards = 2;
constexpr guint kLatencyWindow = 32;

// The macros of the same meaning mix enumerations, which C++20 deprecates.
bool is_serialised(GstEvent* event) {
  return unsigned(GST_EVENT_TYPE(event)) & unsigned(GST_EVENT_TYPE_SERIALIZED);
}
bool is_sticky(GstEvent* event) {
  return unsigned(GST_EVENT_TYPE(event)) & unsigned(GST_EVENT_TYPE_STICKY);
}

bool starts_segment(GstEvent* event) {
  return GST_EVENT_TYPE(event) == GST_EVENT_STREAM_START || GST_EVENT_TYPE(event) == GST_EVENT_SEGMENT;
}

// What upstream is told about an error of the sink side.
GstFlowReturn flow_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const ElementError& e) {
    const bool negotiation = e.domain() == GST_CORE_ERROR && e.code() == GST_CORE_ERROR_NEGOTIATION;
    const bool format = e.domain() == GST_STREAM_ERROR && e.code() == GST_STREAM_ERROR_FORMAT;
    return negotiation || format ? GST_FLOW_NOT_NEGOTIATED : GST_FLOW_ERROR;
  } catch (...) {
    return GST_FLOW_ERROR;
  }
}

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

InferStream::InferStream(GstElement* element, GstPad* source_pad, std::function<InferSettings()> settings)
    : element_(element), source_pad_(source_pad), settings_(std::move(settings)) {}

void InferStream::set_engine(Engine* engine) {
  engine_ = engine;
}

void InferStream::restart() {
  next_frame_ = next_window_ = 0;
  forwards_seen_ = 0;
  slowest_recent_ns_ = 0;
  warned_partly_unusable_ = false;
  const Lock lock(sync_->mutex);
  statistics_ = Statistics{};
  service_ns_ = 0;
}

void InferStream::clear() {
  drop_items(false);
  group_.reset();
  input_.reset();
  if (engine_) engine_->cancel(this);
}

guint InferStream::bound(guint views) const {
  const guint batch = engine_ ? engine_->info().max_batch : 1;
  return std::max(2u, 2 * batch) * views;
}

// ---- sink side
// ----------------------------------------------------------------------------------------------------

GstFlowReturn InferStream::chain(GstBuffer* raw) {
  BufferPtr buffer(raw);
  try {
    const InferSettings settings = settings_();
    // First of all: a list full of frames of a group that is never completed would wait for ever.
    if (group_ && group_->settings() != settings) close_group();
    const GstFlowReturn flow = wait_for_room(bound(settings.views));
    if (flow != GST_FLOW_OK) {
      if (flow == GST_FLOW_EOS) group_.reset();
      return flow;
    }
    return take_frame(std::move(buffer), settings);
  } catch (...) {
    return fail(std::current_exception());
  }
}

GstFlowReturn InferStream::wait_for_room(guint frames) {
  Lock lock(sync_->mutex);
  sync_->changed.wait(lock, [&] {
    return flow_ != GST_FLOW_OK || end_queued_ || downstream_ended_ || frames_queued_ < frames;
  });
  if (flow_ != GST_FLOW_OK) return flow_;
  if (end_queued_ || downstream_ended_) return GST_FLOW_EOS;
  ++statistics_.frames_in;
  return GST_FLOW_OK;
}

GstFlowReturn InferStream::take_frame(BufferPtr buffer, const InferSettings& settings) {
  Item item{};
  item.identity.frame = next_frame_++;
  if (GST_BUFFER_FLAG_IS_SET(buffer.get(), GST_BUFFER_FLAG_GAP)) {
    item.kind = Kind::gap;
    item.buffer = std::move(buffer);
    return append_buffer(std::move(item));
  }
  if (!engine_) {
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_STATE_CHANGE,
                       "A frame came before the model was loaded.");
  }
  PreparedFrame prepared = input_.prepare(buffer.get(), settings);
  if (group_ && group_->size() != prepared.geometry.network) close_group();
  if (!group_) {
    group_ = std::make_shared<InferGroup>(sync_, settings, prepared.geometry.network, next_window_++);
  }
  item.kind = Kind::frame;
  item.buffer = std::move(buffer);
  item.group = group_;
  item.geometry = prepared.geometry;
  item.identity.window = group_->window();
  item.identity.view = group_->views();
  const GstFlowReturn flow = append_buffer(std::move(item));
  if (flow != GST_FLOW_OK) {
    if (group_->views() == 0 || flow == GST_FLOW_EOS) group_.reset();
    return flow;
  }
  group_->add(std::move(prepared.pixels));
  if (group_->complete()) close_group();
  return GST_FLOW_OK;
}

GstFlowReturn InferStream::append_buffer(Item item) {
  {
    const Lock lock(sync_->mutex);
    if (flow_ != GST_FLOW_OK) return flow_;
    if (downstream_ended_) return GST_FLOW_EOS;
    items_.push_back(std::move(item));
    ++frames_queued_;
  }
  sync_->changed.notify_all();
  return GST_FLOW_OK;
}

// The frames before the error are inferred and pushed first; then the source side posts it.
GstFlowReturn InferStream::fail(std::exception_ptr error) {
  close_group();
  Lock lock(sync_->mutex);
  if (flow_ != GST_FLOW_OK) return flow_;
  Item item{};
  item.kind = Kind::failure;
  item.failure = error;
  item.flow = flow_of(error);
  items_.push_back(std::move(item));
  sync_->changed.notify_all();
  sync_->changed.wait(lock, [&] { return flow_ != GST_FLOW_OK; });
  return flow_;
}

void InferStream::close_group() {
  const std::shared_ptr<InferGroup> group = std::move(group_);
  group_.reset();
  if (!group || group->views() == 0) return;
  {
    const Lock lock(sync_->mutex);
    if (flow_ == GST_FLOW_FLUSHING || downstream_ended_) return;  // its frames are gone or will go
    ++statistics_.groups;
  }
  InferGroup::submit(group, *engine_, this);
}

gboolean InferStream::sink_event(GstEvent* event) {
  switch (GST_EVENT_TYPE(event)) {
    case GST_EVENT_FLUSH_START:
      return flush_start(event);
    case GST_EVENT_FLUSH_STOP:
      return flush_stop(event);
    default:
      break;
  }
  if (!is_serialised(event)) return gst_pad_push_event(source_pad_, event);
  std::unique_ptr<GstEvent, EventUnref> owned(event);
  prepare_for(event);
  return append_event(owned.release());
}

// Frames of two segments, streams or sizes are no views of one scene.
void InferStream::prepare_for(GstEvent* event) {
  switch (GST_EVENT_TYPE(event)) {
    case GST_EVENT_CAPS: {
      GstCaps* caps = nullptr;
      gst_event_parse_caps(event, &caps);
      GstVideoInfo info;
      const bool same = input_.has_caps() && gst_video_info_from_caps(&info, caps) &&
                        gst_video_info_is_equal(&info, &input_.info());
      if (same) break;
      close_group();
      input_.set_caps(caps);
      break;
    }
    case GST_EVENT_STREAM_START:
      close_group();
      next_frame_ = next_window_ = 0;
      break;
    case GST_EVENT_SEGMENT:
    case GST_EVENT_SEGMENT_DONE:
    case GST_EVENT_STREAM_GROUP_DONE:
    case GST_EVENT_EOS:
      close_group();
      break;
    default:
      break;
  }
}

gboolean InferStream::append_event(GstEvent* event) {
  std::unique_ptr<GstEvent, EventUnref> owned(event);
  const bool end = GST_EVENT_TYPE(event) == GST_EVENT_EOS;
  Lock lock(sync_->mutex);
  if (flow_ != GST_FLOW_OK) {
    // A sticky event that cannot go on is no problem: the next buffer meets the same flow return. EOS is the
    // last word, though: after it nobody would notice.
    if (end) {
      lock.unlock();
      refuse_end();
      return FALSE;
    }
    if (!is_sticky(event)) return FALSE;
  }
  if (starts_segment(event)) {
    end_queued_ = downstream_ended_ = false;
  } else if (end_queued_) {
    return FALSE;
  }
  if (end) end_queued_ = true;
  Item item{};
  item.kind = Kind::event;
  item.event = std::move(owned);
  items_.push_back(std::move(item));
  lock.unlock();
  sync_->changed.notify_all();
  return TRUE;
}

void InferStream::refuse_end() {
  GstFlowReturn flow;
  {
    const Lock lock(sync_->mutex);
    flow = flow_;
    if (error_posted_ || (flow != GST_FLOW_NOT_LINKED && flow >= GST_FLOW_EOS)) return;
    error_posted_ = true;
  }
  GST_ELEMENT_FLOW_ERROR(element_, flow);
}

gboolean InferStream::flush_start(GstEvent* event) {
  const gboolean forwarded = gst_pad_push_event(source_pad_, event);
  {
    const Lock lock(sync_->mutex);
    flow_ = GST_FLOW_FLUSHING;
  }
  sync_->changed.notify_all();
  if (engine_) engine_->cancel(this);
  gst_pad_pause_task(source_pad_);
  return forwarded;
}

gboolean InferStream::flush_stop(GstEvent* event) {
  const gboolean forwarded = gst_pad_push_event(source_pad_, event);
  drop_items(true);
  group_.reset();
  if (GST_PAD_MODE(source_pad_) == GST_PAD_MODE_PUSH) {
    open_for_buffers();
    gst_pad_start_task(source_pad_, task_entry, this, nullptr);
  }
  return forwarded;
}

void InferStream::drop_items(bool keep_sticky) {
  std::deque<Item> dropped;
  {
    const Lock lock(sync_->mutex);
    dropped.swap(items_);
    statistics_.frames_dropped += frames_queued_;
    frames_queued_ = 0;
  }
  if (!keep_sticky) return;
  // Caps, tags and the like hold beyond the flush, pushed or not.
  for (const Item& item : dropped) {
    GstEvent* event = item.event.get();
    if (event && is_sticky(event) && GST_EVENT_TYPE(event) != GST_EVENT_SEGMENT &&
        GST_EVENT_TYPE(event) != GST_EVENT_EOS) {
      gst_pad_store_sticky_event(source_pad_, event);
    }
  }
}

void InferStream::open_for_buffers() {
  const Lock lock(sync_->mutex);
  flow_ = GST_FLOW_OK;
  end_queued_ = downstream_ended_ = error_posted_ = false;
}

gboolean InferStream::serialised_query(GstQuery* query) {
  // Its answer comes after the frames before it, and those must not wait for more frames.
  close_group();
  Lock lock(sync_->mutex);
  if (flow_ != GST_FLOW_OK) return FALSE;
  query_answered_ = false;
  Item item{};
  item.kind = Kind::query;
  item.query = query;
  items_.push_back(std::move(item));
  sync_->changed.notify_all();
  sync_->changed.wait(lock, [&] { return query_answered_ || (flow_ != GST_FLOW_OK && !query_running_); });
  if (query_answered_) return query_result_;
  std::erase_if(items_, [query](const Item& queued) { return queued.query == query; });
  return FALSE;
}

void InferStream::activate_sink(GstPad* sink_pad, bool active) {
  if (active) {
    open_for_buffers();
    return;
  }
  {
    const Lock lock(sync_->mutex);
    flow_ = GST_FLOW_FLUSHING;
  }
  sync_->changed.notify_all();
  GST_PAD_STREAM_LOCK(sink_pad);
  drop_items(false);
  group_.reset();
  GST_PAD_STREAM_UNLOCK(sink_pad);
}

// ---- source side
// --------------------------------------------------------------------------------------------------

gboolean InferStream::activate_source(bool active) {
  if (active) {
    open_for_buffers();
    return gst_pad_start_task(source_pad_, task_entry, this, nullptr);
  }
  {
    const Lock lock(sync_->mutex);
    flow_ = GST_FLOW_FLUSHING;
  }
  sync_->changed.notify_all();
  return gst_pad_stop_task(source_pad_);
}

void InferStream::relinked() {
  const Lock lock(sync_->mutex);
  if (flow_ != GST_FLOW_NOT_LINKED) return;
  flow_ = GST_FLOW_OK;
  gst_pad_start_task(source_pad_, task_entry, this, nullptr);
}

void InferStream::task_entry(gpointer self) {
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

void InferStream::run_once() {
  Lock lock(sync_->mutex);
  sync_->changed.wait(lock, [this] { return flow_ != GST_FLOW_OK || head_ready(); });
  if (flow_ != GST_FLOW_OK) {
    gst_pad_pause_task(source_pad_);
    return;
  }
  Item item = std::move(items_.front());
  items_.pop_front();
  if (item.buffer) --frames_queued_;
  query_running_ = item.kind == Kind::query;
  lock.unlock();
  sync_->changed.notify_all();
  handle(std::move(item));
}

void InferStream::handle(Item item) {
  switch (item.kind) {
    case Kind::frame:
      push_frame(std::move(item));
      break;
    case Kind::gap:
      push_buffer(std::move(item.buffer));
      break;
    case Kind::event:
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
  const std::shared_ptr<InferResult> result = item.group->result();
  item.group.reset();
  // Shares the pixels; only the list of metas is new if somebody else holds this buffer.
  BufferPtr buffer(gst_buffer_make_writable(item.buffer.release()));
  const double usable = attach_results(buffer.get(), item.geometry, item.identity, engine_->info(), result);
  if (usable < 1 && !warned_partly_unusable_) {
    warned_partly_unusable_ = true;
    post_warning(element_, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED,
                 "Some depth values are not finite or not above 0 (first in frame " +
                     std::to_string(item.identity.frame) + "); they count as invalid.");
  }
  if (item.identity.view == 0) learn(result->data());
  push_buffer(std::move(buffer));
}

void InferStream::push_buffer(BufferPtr buffer) {
  {
    const Lock lock(sync_->mutex);
    ++statistics_.frames_out;
  }
  const GstFlowReturn flow = gst_pad_push(source_pad_, buffer.release());
  if (flow != GST_FLOW_OK) downstream_said(flow);
}

void InferStream::downstream_said(GstFlowReturn flow) {
  GST_DEBUG_OBJECT(element_, "downstream returned %s", gst_flow_get_name(flow));
  bool alone = false;
  std::deque<Item> dropped;  // goes without the lock
  {
    const Lock lock(sync_->mutex);
    if (flow == GST_FLOW_EOS) {
      dropped = skip_to_next_segment();
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
  gst_pad_push_event(source_pad_, gst_event_new_eos());
}

// Downstream wants no more of this segment: buffers go, events stay. With the lock held; returns what went.
std::deque<InferStream::Item> InferStream::skip_to_next_segment() {
  std::deque<Item> kept, dropped;
  bool skipping = true;
  for (Item& item : items_) {
    GstEvent* event = item.event.get();
    if (event && (starts_segment(event) || GST_EVENT_TYPE(event) == GST_EVENT_EOS)) skipping = false;
    (skipping && item.buffer ? dropped : kept).push_back(std::move(item));
  }
  items_.swap(kept);
  downstream_ended_ = skipping;
  frames_queued_ -= guint(dropped.size());
  statistics_.frames_dropped += dropped.size();
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
  {
    const Lock lock(sync_->mutex);
    if (flow_ == GST_FLOW_OK) flow_ = flow;
    error_posted_ = true;
  }
  sync_->changed.notify_all();
  // Lets a muxer or writer finish what it has.
  gst_pad_push_event(source_pad_, gst_event_new_eos());
}

// ---- figures
// ------------------------------------------------------------------------------------------------------

void InferStream::learn(const Da3ResultData& data) {
  slowest_recent_ns_ = std::max(slowest_recent_ns_, data.inference_ns);
  const bool warming_up = forwards_seen_ < kWarmUpForwards;
  if (warming_up) slowest_recent_ns_ = 0;
  ++forwards_seen_;
  bool changed = false;
  {
    const Lock lock(sync_->mutex);
    statistics_.last_batch = data.batch;
    statistics_.last_inference_ns = data.inference_ns;
    statistics_.last_queued_ns = data.queued_ns;
    const bool rise = slowest_recent_ns_ > service_ns_ + service_ns_ / 10;
    const bool window_over = forwards_seen_ % kLatencyWindow == 0;
    const bool fall = window_over && slowest_recent_ns_ < service_ns_ - 3 * service_ns_ / 10;
    changed = !warming_up && (rise || fall);
    if (changed) service_ns_ = slowest_recent_ns_;
    if (window_over) slowest_recent_ns_ = 0;
  }
  if (changed) gst_element_post_message(element_, gst_message_new_latency(GST_OBJECT_CAST(element_)));
}

GstClockTime InferStream::latency(GstClockTime duration) const {
  gint64 service;
  {
    const Lock lock(sync_->mutex);
    service = service_ns_;
  }
  // A frame may find the network busy, and the first of a group waits for the others.
  return 2 * GstClockTime(service) + (settings_().views - 1) * duration;
}

InferStream::Statistics InferStream::statistics() const {
  const Lock lock(sync_->mutex);
  Statistics copy = statistics_;
  copy.queued = frames_queued_;
  return copy;
}

}  // namespace da3::plugin
