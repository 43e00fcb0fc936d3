// SPDX-License-Identifier: MIT
//
// The inside of da3infer: one ordered, bounded list of frames, events and queries between the sink pad's
// thread, which fills it, and the source pad's task, which empties it in order. Flush, end of stream, flow
// returns, back-pressure and serialised queries behave as in GStreamer's own queue.
//
// A group of `views` frames joins the line of those that wait for the engine the moment it is complete (or
// cannot become complete). Where frames are never dropped the line is empty: everything is submitted at once,
// and upstream waits when the list is full. Where they are, only a few requests are with the engine and the
// line has one place: a newer group takes the place of an older one. What is put through the network
// together, and when, is the engine's business.
//
// infer_stream.cc is the sink side, infer_source.cc the source side, infer_line.cc the line in between.
#pragma once

#include <gst/gst.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "infer_figures.h"
#include "infer_group.h"
#include "infer_results.h"

namespace da3::plugin {

struct StreamSettings {
  InferSettings infer;
  FlowSettings flow;
};

class InferStream {
 public:
  struct Host {
    // Asked by any thread, without this object's lock held.
    std::function<StreamSettings()> settings;
    // A live stream has its first frame: measure before frames count on it, then call warmed_up(). False: not
    // now.
    std::function<bool(std::shared_ptr<Engine>, const Da3Shape&)> warm_up;
    // Closes an engine on another thread, once requests of `stream` have left it. Returns at once.
    std::function<void(std::shared_ptr<Engine>, const void* stream)> close_later;
  };

  InferStream(GstElement* element, GstPad* sink_pad, GstPad* source_pad, Host host);

  // At any time; groups that are with the engine before this one finish there. Null: none, while no pad is
  // active.
  void set_engine(std::shared_ptr<Engine> engine);
  // Null: the system's monotonic time.
  void set_clock(GstClock* clock);
  // Between READY and PAUSED, while no pad is active: puts the counters to 0.
  void restart();
  // After the pads are inactive: drops everything and cancels what engines still have of this stream.
  void clear();

  // Pad functions. What goes wrong with a frame ends on the bus behind the frames before it.
  GstFlowReturn chain(GstBuffer* buffer);
  gboolean sink_event(GstEvent* event);
  gboolean serialised_query(GstQuery* query);
  void activate_sink(bool active);
  gboolean activate_source(bool active);
  // Looks at an upstream event; does not take it.
  void upstream_event(GstEvent* event);

  // From the engine's worker thread: posted soon, by a thread of the stream.
  void mended(Da3ErrorCode code, std::string text);
  void warmed_up();
  // What frames look like to this model, once there has been one in a live stream.
  std::optional<Da3Shape> live_shape(const Da3ModelInfo& model) const;
  // Models that were replaced and of which no frame is left, to be closed by the caller.
  std::vector<std::shared_ptr<Engine>> take_unused();

  InferReadings readings() const;
  // What this element adds to the latency of a live stream, learned; 0 until known. `duration`: of one frame,
  // 0 if unknown.
  GstClockTime latency(GstClockTime duration);
  // Most frames that wait in here.
  guint capacity() const;

 private:
  struct EventUnref {
    void operator()(GstEvent* event) const { gst_event_unref(event); }
  };
  using EventPtr = std::unique_ptr<GstEvent, EventUnref>;
  enum class Kind { frame, gap, skipped, event, query, failure };
  struct FrameTimes {
    GstClockTime running = GST_CLOCK_TIME_NONE, stream = GST_CLOCK_TIME_NONE;
    GstClockTime pts = GST_CLOCK_TIME_NONE, duration = GST_CLOCK_TIME_NONE;
  };
  struct Item {
    Kind kind;
    BufferPtr buffer;                   // frame, gap; skipped, if it goes on without a result of its own
    std::shared_ptr<InferGroup> group;  // frame
    FrameGeometry geometry;
    FrameIdentity identity;
    FrameTimes times;
    Stamp arrival;
    EventPtr event;
    GstQuery* query = nullptr;   // borrowed from the thread that waits for the answer
    std::exception_ptr failure;  // what the sink side could not do; its turn is after the frames before it
    GstFlowReturn flow = GST_FLOW_OK;  // what upstream is told then
  };
  using Lock = std::unique_lock<std::mutex>;
  // Frames that were skipped, to be reported, and what they held, to be released, without the lock.
  struct Skipped {
    struct Report {
      FrameTimes times;
      DropReason reason;
      GstClockTimeDiff lateness;
    };
    std::vector<Report> reports;
    std::vector<BufferPtr> buffers;
    std::vector<std::shared_ptr<InferGroup>> groups;
  };
  // A frame of a live stream, as far as its size for a network depends on it.
  struct LiveFrame {
    image::Size displayed;               // before the resize
    std::optional<image::Size> network;  // it has the network's size already
    InferSettings settings;
  };
  // What requests cost depends on: what is learned of one workload says nothing about another.
  struct Workload {
    const void* engine = nullptr;
    image::Size size;
    guint views = 0;
    bool use_ray_pose = false;
    bool operator==(const Workload&) const = default;
  };
  // How frames are treated at the moment, from settings and liveness.
  struct Rules {
    DropPolicy policy = DropPolicy::never;
    OnDrop on_drop = OnDrop::gap;
    GstClockTime max_latency = 0;
    guint views = 1;
    bool dropping() const { return policy != DropPolicy::never; }
  };
  // What the answer to a LATENCY query depends on besides what is learned.
  struct LatencyParts {
    GstClockTime most = GST_CLOCK_TIME_NONE;  // of what is learned
    GstClockTime others = 0;                  // the first of a group waits for them
    GstClockTime with(gint64 learned) const { return std::min(GstClockTime(learned), most) + others; }
  };

  // Sink pad's thread.
  Rules rules_for(const StreamSettings& settings);
  GstFlowReturn admit(const Rules& rules);
  GstFlowReturn take_frame(BufferPtr buffer, InferSettings settings);
  GstFlowReturn append_buffer(Item item);
  GstFlowReturn refused_with_lock();
  GstFlowReturn fail(std::exception_ptr error);
  void describe(Item& item, GstBuffer* buffer) const;
  bool skip_at_the_door(BufferPtr& buffer, GstFlowReturn* flow);
  void check_latency();
  void check_size(const FrameGeometry& geometry, const InferSettings& asked, const Da3ModelInfo& model);
  // With group_mutex_ held.
  std::shared_ptr<InferGroup> take_group();
  void close_group(bool newer_wins = false);
  void close_hole();
  void prepare_for(GstEvent* event);
  gboolean flush_start(GstEvent* event);
  gboolean flush_stop(GstEvent* event);
  gboolean append_event(GstEvent* event);
  void refuse_end();
  void drain_engines();
  void drop_items(DropReason reason);
  void open_for_buffers();
  std::optional<bool> upstream_is_live() const;
  void ask_for_warm_up(const std::shared_ptr<Engine>& engine, const LiveFrame& frame);

  // The line (infer_line.cc). With the lock held unless said.
  void pump();  // without
  void submit_next(Lock& lock, Skipped& skipped);
  bool goes_on() const { return flow_ >= GST_FLOW_NOT_LINKED; }
  std::shared_ptr<Engine> engine_for(const InferGroup& group) const;
  void call_off(Engine& engine);  // without
  void register_stream(Lock& lock, Engine& engine, const InferGroup& group);
  void ask_for_cost(Lock& lock, Engine& engine, const InferGroup& group);
  static Workload workload_of(const Engine& engine, const InferGroup& group);
  void take_up(const Workload& workload);
  void estimate_forward();
  bool given_up(const InferGroup& group) const;
  bool line_blocked() const;
  struct Ahead {
    guint with_engine = 0, done = 0;  // groups that are submitted, and that wait to be pushed
    Stamp oldest;                     // arrival of the first frame of them
  };
  Ahead ahead() const;
  guint most_in_flight() const;
  guint limit() const;
  guint max_pending() const;
  guint bound() const;
  LatencyParts latency_parts(guint views, GstClockTime duration) const;
  gint64 budget() const;
  gint64 age(Stamp since, Stamp now) const;
  Stamp now_locked() const;
  void skip_item(Item& item, DropReason reason, GstClockTimeDiff lateness, Skipped& skipped);
  void skip_group(const std::shared_ptr<InferGroup>& group, DropReason reason, Skipped& skipped);
  void tidy_skipped(Skipped& skipped);
  void report(Skipped skipped);  // without
  std::vector<std::shared_ptr<Engine>> engines();

  // Source pad's task.
  gboolean start_task();
  static void task_entry(gpointer self);
  void run_once();
  bool head_ready() const;
  void wait_for_work(Lock& lock, GstClockTime stats_interval);
  std::optional<gint64> group_time_left(Stamp now) const;
  void close_overdue_group();
  void close_unused();
  void handle(Item item);
  void push_frame(Item item);
  void push_skipped(Item item);
  void push_expired(Item item);
  void push_gap_event(const FrameTimes& times);
  void push_end();
  GstEvent* of_segment(GstEvent* event) const;
  void push_buffer(BufferPtr buffer, const Item& item, Pushed what);
  BufferPtr writable(BufferPtr buffer);
  void answer(GstQuery* query);
  void learn(const InferGroup& group, const Da3ResultData& data);
  std::deque<Item> take_buffers(bool all);
  void downstream_said(GstFlowReturn flow, Pushed what);
  void give_up(std::exception_ptr error, GstFlowReturn flow);
  void maybe_post_stats();
  void post_latency();

  GstElement* const element_;
  GstPad* const sink_pad_;
  GstPad* const source_pad_;
  const Host host_;

  // In the order in which they are taken: of the group that is open, of who submits, and of the rest.
  std::mutex group_mutex_;
  std::mutex pump_mutex_;
  const std::shared_ptr<StreamSync> sync_ = std::make_shared<StreamSync>();
  // Under sync_->mutex.
  std::shared_ptr<Engine> engine_;
  std::vector<std::shared_ptr<Engine>> retired_;  // replaced; groups of theirs may still be on their way
  GstClock* clock_ = nullptr;                     // owned
  guint clock_epoch_ = 0;
  std::deque<Item> items_;
  std::deque<std::shared_ptr<InferGroup>> waiting_;  // complete and not submitted
  guint frames_queued_ = 0;                          // items that are frames and still to be accounted for
  bool in_hand_ = false;                             // one more of them is with the task
  bool at_door_ = false;                             // and one with the sink pad's thread
  Rules rules_;
  bool live_ = false, live_known_ = false;
  bool latency_unsaid_ = false;  // it moved, and the pipeline had no use for it
  bool warming_up_ = false;
  std::optional<LiveFrame> live_frame_;  // the latest
  bool warm_up_asked_ = false;
  guint cap_ = 1;  // items that the engine puts together at most, as far as it knows
  const void* registered_with_ = nullptr;
  gint64 registered_interval_ = 0;
  guint registered_most_ = 0;
  guint flushes_ = 0;
  // While a group is open: arrival of its first frame, and how many it waits for.
  std::optional<Stamp> open_since_;
  guint open_views_ = 0;
  GstFlowReturn flow_ = GST_FLOW_FLUSHING;
  bool end_queued_ = false;        // EOS has been accepted: no buffer follows
  bool downstream_ended_ = false;  // downstream wants no more buffers before the next segment
  bool error_posted_ = false;
  bool query_running_ = false, query_answered_ = false;
  gboolean query_result_ = FALSE;
  InferFigures figures_;
  LatencyEstimate latency_;
  std::optional<LatencyParts> latency_parts_;  // as upstream and downstream know them
  Rate completions_;
  // Of the latest workload. Times of a pass: by the results, by the engine, and what follows: 0 = not known.
  Workload workload_;
  Samples passes_;
  gint64 told_ns_ = 0, forward_ns_ = 0;
  double share_ = 0;       // requests a second: an equal share of what the engine can do; 0: no other stream
  guint until_asked_ = 0;  // requests until the engine is asked again
  QosGate qos_;
  GstClockTime frame_duration_ = 0;    // by the caps
  GstClockTime pipeline_latency_ = 0;  // by the latest LATENCY event: so long a sink may hold a frame back
  gint64 stats_posted_ = 0;
  std::vector<std::pair<Da3ErrorCode, std::string>> remarks_;  // to be posted

  // Under group_mutex_. The task takes it, and only if it is free, when a group has been open for too long.
  std::shared_ptr<InferGroup> group_;

  // Sink pad's thread only.
  FrameInput input_;
  GstSegment segment_;
  gint64 next_frame_ = 0, next_window_ = 0;
  // Longer side and the model's own one, of frames whose size upstream has chosen badly: it has been said.
  std::set<std::pair<int, int>> warned_sizes_;

  // Source pad's task only.
  bool discont_ = false;
  bool warned_partly_unusable_ = false;
  guint32 segment_seqnum_ = GST_SEQNUM_INVALID;
  BufferPtr last_results_;             // an empty buffer that carries the metas of the last frame inferred
  std::weak_ptr<Engine> last_engine_;  // that inferred it
  guint64 copied_ = 0;                 // bytes, not yet in figures_
};

}  // namespace da3::plugin
