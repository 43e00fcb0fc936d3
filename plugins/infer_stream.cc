// SPDX-License-Identifier: MIT
#include "infer_stream.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "common/guard.h"

GST_DEBUG_CATEGORY_EXTERN(gst_da3_infer_debug);
#define GST_CAT_DEFAULT gst_da3_infer_debug

namespace da3::plugin {
namespace {

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

// What is measured before the frames of a live stream count on it. On a CPU larger batches take seconds and
// hardly gain; they are learned as they come.
Da3Shape live_shape_of(const Da3ModelInfo& model, image::Size size, const InferSettings& settings) {
  Da3Shape shape{};
  shape.struct_size = sizeof(shape);
  shape.width = size.width;
  shape.height = size.height;
  shape.n_views = settings.views;
  shape.outputs = wanted_outputs(model, settings.use_ray_pose);
  shape.use_ray_pose = settings.use_ray_pose;
  shape.max_batch = g_str_has_prefix(model.device, "cpu") ? 1 : 0;
  return shape;
}

GstClockTime frame_duration(const GstVideoInfo& info) {
  if (GST_VIDEO_INFO_FPS_N(&info) <= 0) return 0;
  return gst_util_uint64_scale_int(GST_SECOND, GST_VIDEO_INFO_FPS_D(&info), GST_VIDEO_INFO_FPS_N(&info));
}

}  // namespace

InferStream::InferStream(GstElement* element, GstPad* sink_pad, GstPad* source_pad, Host host)
    : element_(element), sink_pad_(sink_pad), source_pad_(source_pad), host_(std::move(host)) {
  gst_segment_init(&segment_, GST_FORMAT_UNDEFINED);
}

void InferStream::restart() {
  next_frame_ = next_window_ = 0;
  warned_partly_unusable_ = discont_ = false;
  warned_sizes_.clear();
  segment_seqnum_ = GST_SEQNUM_INVALID;
  last_results_.reset();
  const Lock lock(sync_->mutex);
  figures_ = InferFigures{};
  latency_.clear();
  latency_parts_.reset();
  latency_unsaid_ = false;
  remarks_.clear();
  take_up({});
  qos_.clear();
  pipeline_latency_ = 0;
  stats_posted_ = now_locked().ns;
  live_frame_.reset();
  warm_up_asked_ = warming_up_ = at_door_ = false;
}

void InferStream::clear() {
  drop_items(DropReason::stopped);
  {
    const std::lock_guard group(group_mutex_);
    take_group();
  }
  input_.reset();
  last_results_.reset();
  // Passes that run are not waited for: they are full of other streams' frames, and nobody wants this one's.
  for (const auto& engine : engines()) {
    call_off(*engine);
    engine->stream_end(this);
  }
  std::vector<std::shared_ptr<Engine>> gone;
  {
    const Lock lock(sync_->mutex);
    registered_with_ = nullptr;
    gone.swap(retired_);
  }
  for (auto& engine : gone) host_.close_later(std::move(engine), this);
}

// ---- frames
// ----------------------------------------------------------------------------------------------------

GstFlowReturn InferStream::chain(GstBuffer* raw) {
  BufferPtr buffer(raw);
  try {
    const StreamSettings settings = host_.settings();
    const Rules rules = rules_for(settings);
    {
      // First of all: a list full of frames of a group that is never completed would wait for ever.
      const std::lock_guard group(group_mutex_);
      if (group_ && group_->settings() != settings.infer) close_group();
    }
    GstFlowReturn flow = admit(rules);
    if (flow == GST_FLOW_OK) check_latency();
    const std::lock_guard group(group_mutex_);
    if (flow != GST_FLOW_OK) {
      if (flow == GST_FLOW_EOS) take_group();
      return flow;
    }
    if (rules.dropping() && skip_at_the_door(buffer, &flow)) return flow;
    return take_frame(std::move(buffer), settings.infer);
  } catch (...) {
    return fail(std::current_exception());
  }
}

InferStream::Rules InferStream::rules_for(const StreamSettings& settings) {
  bool live, known;
  {
    const Lock lock(sync_->mutex);
    live = live_;
    known = live_known_;
  }
  if (!known) {
    const std::optional<bool> answer = upstream_is_live();
    live = answer.value_or(false);
    bool unsaid;
    {
      const Lock lock(sync_->mutex);
      live_ = live;
      live_known_ = answer.has_value();  // who could not say is asked again with the next frame
      unsaid = live && latency_unsaid_;
    }
    if (unsaid) post_latency();
  }
  Rules rules;
  rules.policy = effective_policy(settings.flow.drop_policy, live);
  rules.on_drop = settings.flow.on_drop;
  rules.max_latency = settings.flow.max_latency;
  rules.views = settings.infer.views;
  return rules;
}

std::optional<bool> InferStream::upstream_is_live() const {
  GstQuery* query = gst_query_new_latency();
  gboolean live = FALSE;
  const bool answered = gst_pad_peer_query(sink_pad_, query);
  if (answered) gst_query_parse_latency(query, &live, nullptr, nullptr);
  gst_query_unref(query);
  return answered ? std::optional<bool>(live) : std::nullopt;
}

// Never dropped: waits for room. Counts the frame as one that came in.
GstFlowReturn InferStream::admit(const Rules& rules) {
  Lock lock(sync_->mutex);
  rules_ = rules;
  if (!rules.dropping()) {
    sync_->changed.wait(lock, [&] {
      return flow_ != GST_FLOW_OK || end_queued_ || downstream_ended_ || frames_queued_ < bound();
    });
  }
  if (flow_ != GST_FLOW_OK) return flow_;
  if (end_queued_ || downstream_ended_) return GST_FLOW_EOS;
  ++figures_.frames_in;
  at_door_ = true;
  return GST_FLOW_OK;
}

void InferStream::describe(Item& item, GstBuffer* buffer) const {
  item.times.pts = GST_BUFFER_PTS(buffer);
  item.times.duration = GST_BUFFER_DURATION(buffer);
  if (segment_.format != GST_FORMAT_TIME || !GST_BUFFER_PTS_IS_VALID(buffer)) return;
  item.times.running = gst_segment_to_running_time(&segment_, GST_FORMAT_TIME, item.times.pts);
  item.times.stream = gst_segment_to_stream_time(&segment_, GST_FORMAT_TIME, item.times.pts);
}

// Frames that will not be inferred, before any work is spent: what downstream has given up, and, where the
// newest goes, what finds the line full.
bool InferStream::skip_at_the_door(BufferPtr& buffer, GstFlowReturn* flow) {
  if (GST_BUFFER_FLAG_IS_SET(buffer.get(), GST_BUFFER_FLAG_GAP)) return false;
  if (group_) return false;  // a group goes as a whole: its first view has decided
  Item item{};
  describe(item, buffer.get());
  Skipped skipped;
  {
    const Lock lock(sync_->mutex);
    DropReason reason = DropReason::qos;
    if (!qos_.too_late(item.times.running)) {
      const bool full = rules_.policy == DropPolicy::newest && !waiting_.empty();
      if (!full) return false;
      reason = DropReason::overrun;
    }
    *flow = flow_ != GST_FLOW_OK || downstream_ended_ ? refused_with_lock() : GST_FLOW_OK;
    if (*flow != GST_FLOW_OK) return true;
    item.identity.frame = next_frame_++;
    item.buffer = std::move(buffer);
    item.arrival = now_locked();
    ++frames_queued_;
    at_door_ = false;
    skip_item(item, reason, qos_.lateness(item.times.running), skipped);
    items_.push_back(std::move(item));
    tidy_skipped(skipped);
  }
  sync_->changed.notify_all();
  report(std::move(skipped));
  return true;
}

GstFlowReturn InferStream::take_frame(BufferPtr buffer, InferSettings settings) {
  Item item{};
  describe(item, buffer.get());
  item.identity.frame = next_frame_++;
  if (GST_BUFFER_FLAG_IS_SET(buffer.get(), GST_BUFFER_FLAG_GAP)) {
    close_hole();
    item.kind = Kind::gap;
    item.buffer = std::move(buffer);
    return append_buffer(std::move(item));
  }
  std::shared_ptr<Engine> engine;
  Stamp begin;
  {
    const Lock lock(sync_->mutex);
    engine = engine_;
    item.arrival = begin = now_locked();
  }
  if (!engine) {
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_STATE_CHANGE,
                       "A frame came before the model was loaded.");
  }
  const InferSettings asked = settings;  // what the next frame's settings are compared with
  if (settings.process_res == 0) settings.process_res = own_process_res(engine->info());
  PreparedFrame prepared = input_.prepare(buffer.get(), settings);
  check_size(prepared.geometry, asked, engine->info());
  const image::Size size = prepared.geometry.network;
  const guint64 copied = prepared.geometry.direct ? 0 : guint64(3) * size.width * size.height;
  const Stamp arrival = item.arrival;
  if (group_ && group_->size() != size) close_group();
  if (!group_) {
    const bool models_choice = asked.process_res == 0 && !prepared.geometry.direct;
    group_ =
        std::make_shared<InferGroup>(sync_, asked, size, next_window_++, models_choice ? engine : nullptr);
  }
  {
    const Lock lock(sync_->mutex);
    figures_.prepare.add(age(begin, now_locked()));
    figures_.bytes_copied += copied;
  }
  LiveFrame live{prepared.geometry.plan.input, std::nullopt, asked};
  if (prepared.geometry.direct) live.network = size;
  ask_for_warm_up(engine, live);
  item.kind = Kind::frame;
  item.buffer = std::move(buffer);
  item.group = group_;
  item.geometry = prepared.geometry;
  item.identity.window = group_->window();
  item.identity.view = group_->views();
  const GstFlowReturn flow = append_buffer(std::move(item));
  if (flow != GST_FLOW_OK) {
    if (group_->views() == 0 || flow == GST_FLOW_EOS) take_group();
    return flow;
  }
  group_->add(std::move(prepared.pixels), arrival);
  if (group_->complete()) close_group(true);
  return GST_FLOW_OK;
}

// Elements in front that choose a size do not know the model. One that is meant for another size than the
// usual gives worse depth at that, without any other sign.
void InferStream::check_size(const FrameGeometry& geometry, const InferSettings& asked,
                             const Da3ModelInfo& model) {
  const int own = own_process_res(model);
  if (own == kUsualProcessRes || asked.process_res > 0 || !geometry.has_upstream) return;
  const auto [shorter, longer] = std::minmax(geometry.frame.width, geometry.frame.height);
  const bool small = (3 * longer < 2 * own), large = (2 * longer > 3 * own);
  // da3jpegdec's pictures are resized in here: only what it left out is missing.
  const GstDa3View& view = geometry.upstream;
  const bool reduced = !geometry.direct && view.image_width == geometry.frame.width &&
                       view.source_w > view.image_width && view.source_width > view.image_width;
  if (!(geometry.direct ? small || large : reduced && small)) return;
  // By a lower_bound method it is the shorter side that process-res sets.
  if (geometry.direct && std::abs(shorter - own) <= DA3_PATCH_SIZE / 2) return;
  if (!warned_sizes_.insert({longer, own}).second) return;
  const std::string size = std::to_string(geometry.frame.width) + "x" + std::to_string(geometry.frame.height);
  const std::string element = geometry.direct ? "da3preprocess" : "da3jpegdec";
  mended(DA3_ERROR_SETTINGS, "Frames come from " + element + " at " + size + ", but the model " + model.name +
                                 " is meant for a longer side of " + std::to_string(own) +
                                 "; depth will be worse. Set " + element +
                                 " process-res=" + std::to_string(own) + ".");
}

// Once a live stream knows what its frames look like; nothing is submitted until it is measured.
void InferStream::ask_for_warm_up(const std::shared_ptr<Engine>& engine, const LiveFrame& frame) {
  {
    const Lock lock(sync_->mutex);
    if (live_) live_frame_ = frame;
    if (!live_ || !rules_.dropping() || warm_up_asked_) return;
    warm_up_asked_ = warming_up_ = true;
  }
  const std::optional<Da3Shape> shape = live_shape(engine->info());
  if (shape && host_.warm_up(engine, *shape)) return;
  warmed_up();
}

std::optional<Da3Shape> InferStream::live_shape(const Da3ModelInfo& model) const {
  std::optional<LiveFrame> frame;
  {
    const Lock lock(sync_->mutex);
    frame = live_frame_;
  }
  if (!frame) return std::nullopt;
  const InferSettings& settings = frame->settings;
  try {
    const int res = settings.process_res > 0 ? settings.process_res : own_process_res(model);
    const image::Size size =
        frame->network ? *frame->network
                       : image::plan_process_size(frame->displayed, res, settings.process_res_method).final;
    return live_shape_of(model, size, settings);
  } catch (const std::invalid_argument&) {
    return std::nullopt;  // such frames are an error when they come
  }
}

GstFlowReturn InferStream::append_buffer(Item item) {
  Skipped skipped;
  {
    const Lock lock(sync_->mutex);
    if (flow_ != GST_FLOW_OK || downstream_ended_) return refused_with_lock();
    const bool gap = item.kind == Kind::gap;
    if (item.group && item.identity.view == 0) {
      open_since_ = item.arrival;
      open_views_ = item.group->settings().views;
    }
    items_.push_back(std::move(item));
    ++frames_queued_;
    at_door_ = false;
    if (gap) tidy_skipped(skipped);  // nothing else bounds them
  }
  sync_->changed.notify_all();
  report(std::move(skipped));
  return GST_FLOW_OK;
}

// A frame that was counted meets a stream that has stopped in the meantime.
GstFlowReturn InferStream::refused_with_lock() {
  const GstFlowReturn flow = flow_ != GST_FLOW_OK ? flow_ : GST_FLOW_EOS;
  at_door_ = false;
  figures_.drop(flow == GST_FLOW_FLUSHING ? DropReason::flush
                : flow == GST_FLOW_EOS    ? DropReason::refused
                                          : DropReason::error);
  return flow;
}

// The frames before the error are inferred and pushed first; then the source side posts it.
GstFlowReturn InferStream::fail(std::exception_ptr error) {
  {
    const std::lock_guard group(group_mutex_);
    close_group();
  }
  Lock lock(sync_->mutex);
  if (at_door_) figures_.drop(DropReason::error);
  at_door_ = false;
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

std::shared_ptr<InferGroup> InferStream::take_group() {
  const Lock lock(sync_->mutex);
  open_since_.reset();
  return std::exchange(group_, nullptr);
}

void InferStream::close_group(bool newer_wins) {
  const std::shared_ptr<InferGroup> group = take_group();
  if (!group || group->views() == 0) return;
  Skipped skipped;
  {
    const Lock lock(sync_->mutex);
    if (!goes_on() || downstream_ended_) return;  // its frames are gone or will go
    group->closed(now_locked());
    waiting_.push_back(group);
    // One place in the line; with `newest` the frame would not have been let in. What ends a segment drops
    // nothing.
    while (newer_wins && rules_.policy == DropPolicy::oldest && waiting_.size() > 1 && line_blocked()) {
      skip_group(waiting_.front(), DropReason::overrun, skipped);
    }
    tidy_skipped(skipped);
  }
  report(std::move(skipped));
  pump();
}

// Upstream has nothing to show for a while, and what is behind waits for the frames before: of a live stream
// the group goes as it is.
void InferStream::close_hole() {
  {
    const Lock lock(sync_->mutex);
    if (!live_) return;
  }
  close_group(true);
}

// The settings and caps that the answer to a LATENCY query depends on may change from frame to frame.
void InferStream::check_latency() {
  {
    const Lock lock(sync_->mutex);
    const LatencyParts now = latency_parts(rules_.views, frame_duration_);
    const LatencyParts before = latency_parts_.value_or(now);
    latency_parts_ = now;
    if (before.with(latency_.value()) == now.with(latency_.value())) return;
  }
  post_latency();
}

// ---- events and queries
// ----------------------------------------------------------------------------------------------------

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
  EventPtr owned(event);
  prepare_for(event);
  return append_event(owned.release());
}

// Frames of two segments, streams or sizes are no views of one scene.
void InferStream::prepare_for(GstEvent* event) {
  const std::lock_guard group(group_mutex_);
  switch (GST_EVENT_TYPE(event)) {
    case GST_EVENT_CAPS: {
      GstCaps* caps = nullptr;
      gst_event_parse_caps(event, &caps);
      GstVideoInfo info;
      const bool valid = gst_video_info_from_caps(&info, caps);
      if (valid && input_.has_caps() && gst_video_info_is_equal(&info, &input_.info())) break;
      close_group();
      input_.set_caps(caps);
      const Lock lock(sync_->mutex);
      frame_duration_ = valid ? frame_duration(info) : 0;
      break;
    }
    case GST_EVENT_STREAM_START: {
      warned_sizes_.clear();
      close_group();
      next_frame_ = next_window_ = 0;
      const Lock lock(sync_->mutex);
      live_known_ = false;
      break;
    }
    case GST_EVENT_SEGMENT: {
      close_group();
      gst_event_copy_segment(event, &segment_);
      const Lock lock(sync_->mutex);
      qos_.clear();
      break;
    }
    case GST_EVENT_GAP:
      close_hole();
      break;
    case GST_EVENT_SEGMENT_DONE:
    case GST_EVENT_STREAM_GROUP_DONE:
      close_group();
      drain_engines();
      break;
    case GST_EVENT_EOS:
      close_group();  // the engines hear of it when it is in the list
      break;
    default:
      break;
  }
}

gboolean InferStream::append_event(GstEvent* event) {
  EventPtr owned(event);
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
  // What is submitted after this is followed by another one, see pump().
  if (end) drain_engines();
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
    ++flushes_;
  }
  sync_->changed.notify_all();
  // Passes that run are not waited for: a seek has to be quick, and their frames are gone all the same.
  for (const auto& engine : engines()) call_off(*engine);
  gst_pad_pause_task(source_pad_);
  return forwarded;
}

gboolean InferStream::flush_stop(GstEvent* event) {
  const gboolean forwarded = gst_pad_push_event(source_pad_, event);
  drop_items(DropReason::flush);
  {
    const std::lock_guard group(group_mutex_);
    take_group();
  }
  last_results_.reset();  // the task is paused
  gst_segment_init(&segment_, GST_FORMAT_UNDEFINED);
  if (GST_PAD_MODE(source_pad_) == GST_PAD_MODE_PUSH) {
    open_for_buffers();
    start_task();
  }
  return forwarded;
}

void InferStream::drop_items(DropReason reason) {
  std::deque<Item> dropped;
  std::deque<std::shared_ptr<InferGroup>> waiting;
  {
    const Lock lock(sync_->mutex);
    dropped.swap(items_);
    waiting.swap(waiting_);
    figures_.drop(reason, frames_queued_);
    frames_queued_ = 0;
    qos_.clear();
  }
  if (reason != DropReason::flush) return;
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
  {
    // Its answer comes after the frames before it, and those must not wait for more frames.
    const std::lock_guard group(group_mutex_);
    close_group();
  }
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

void InferStream::activate_sink(bool active) {
  if (active) {
    open_for_buffers();
    const Lock lock(sync_->mutex);
    live_known_ = false;
    return;
  }
  {
    const Lock lock(sync_->mutex);
    flow_ = GST_FLOW_FLUSHING;
  }
  sync_->changed.notify_all();
  GST_PAD_STREAM_LOCK(sink_pad_);
  drop_items(DropReason::stopped);
  {
    const std::lock_guard group(group_mutex_);
    take_group();
  }
  gst_segment_init(&segment_, GST_FORMAT_UNDEFINED);
  GST_PAD_STREAM_UNLOCK(sink_pad_);
}

}  // namespace da3::plugin
