// SPDX-License-Identifier: MIT
//
// The inside of da3infer: one ordered, bounded list of frames, events and queries between the sink pad's
// thread, which fills it, and the source pad's task, which empties it in order. Flush, end of stream, flow
// returns, back-pressure and serialised queries behave as in GStreamer's own queue.
//
// The seam to the scheduler is narrow: a group of `views` frames is submitted the moment it is complete (or
// cannot become complete), and what is put through the network together, and when, is the engine's business.
#pragma once

#include <gst/gst.h>

#include <deque>
#include <functional>
#include <memory>

#include "infer_group.h"
#include "infer_results.h"

namespace da3::plugin {

class InferStream {
 public:
  struct Statistics {
    guint64 frames_in = 0, frames_out = 0, frames_dropped = 0, groups = 0;
    guint queued = 0;
    guint64 last_batch = 0;
    gint64 last_inference_ns = 0, last_queued_ns = 0;
  };

  // `settings` is asked by any thread, without this object's lock held.
  InferStream(GstElement* element, GstPad* source_pad, std::function<InferSettings()> settings);

  // Between READY and PAUSED, while no pad is active. The engine must outlive the activity of the pads.
  void set_engine(Engine* engine);
  // Puts the counters to 0. Same moment.
  void restart();
  // After the pads are inactive: drops everything and cancels what the engine still has of this stream.
  void clear();

  // Pad functions. What goes wrong with a frame ends on the bus behind the frames before it.
  GstFlowReturn chain(GstBuffer* buffer);
  gboolean sink_event(GstEvent* event);
  gboolean serialised_query(GstQuery* query);
  void activate_sink(GstPad* sink_pad, bool active);
  gboolean activate_source(bool active);
  // The source pad has a peer again.
  void relinked();

  Statistics statistics() const;
  // What this element adds to the latency of a live stream, learned; 0 until known. `duration`: of one frame,
  // 0 if unknown.
  GstClockTime latency(GstClockTime duration) const;
  // Most frames that wait in here.
  guint capacity() const { return bound(settings_().views); }

 private:
  struct EventUnref {
    void operator()(GstEvent* event) const { gst_event_unref(event); }
  };
  enum class Kind { frame, gap, event, query, failure };
  struct Item {
    Kind kind;
    BufferPtr buffer;                   // frame, gap
    std::shared_ptr<InferGroup> group;  // frame
    FrameGeometry geometry;
    FrameIdentity identity;
    std::unique_ptr<GstEvent, EventUnref> event;
    GstQuery* query = nullptr;   // borrowed from the thread that waits for the answer
    std::exception_ptr failure;  // what the sink side could not do; its turn is after the frames before it
    GstFlowReturn flow = GST_FLOW_OK;  // what upstream is told then
  };
  using Lock = std::unique_lock<std::mutex>;

  // Sink pad's thread.
  GstFlowReturn wait_for_room(guint frames);
  GstFlowReturn take_frame(BufferPtr buffer, const InferSettings& settings);
  GstFlowReturn append_buffer(Item item);
  GstFlowReturn fail(std::exception_ptr error);
  void close_group();
  void prepare_for(GstEvent* event);
  gboolean flush_start(GstEvent* event);
  gboolean flush_stop(GstEvent* event);
  gboolean append_event(GstEvent* event);
  void refuse_end();
  void drop_items(bool keep_sticky);
  void open_for_buffers();

  // Source pad's task.
  static void task_entry(gpointer self);
  void run_once();
  bool head_ready() const;
  void handle(Item item);
  void push_frame(Item item);
  void push_buffer(BufferPtr buffer);
  void answer(GstQuery* query);
  void learn(const Da3ResultData& data);
  std::deque<Item> skip_to_next_segment();
  void downstream_said(GstFlowReturn flow);
  void give_up(std::exception_ptr error, GstFlowReturn flow);
  guint bound(guint views) const;

  GstElement* const element_;
  GstPad* const source_pad_;
  const std::function<InferSettings()> settings_;
  Engine* engine_ = nullptr;

  const std::shared_ptr<StreamSync> sync_ = std::make_shared<StreamSync>();
  // Under sync_->mutex.
  std::deque<Item> items_;
  guint frames_queued_ = 0;
  GstFlowReturn flow_ = GST_FLOW_FLUSHING;
  bool end_queued_ = false;        // EOS has been accepted: no buffer follows
  bool downstream_ended_ = false;  // downstream wants no more buffers before the next segment
  bool error_posted_ = false;
  bool query_running_ = false, query_answered_ = false;
  gboolean query_result_ = FALSE;
  Statistics statistics_;
  gint64 service_ns_ = 0;  // time of one forward pass that latency() counts with

  // Sink pad's thread only.
  FrameInput input_;
  std::shared_ptr<InferGroup> group_;
  gint64 next_frame_ = 0, next_window_ = 0;

  // Source pad's task only.
  guint forwards_seen_ = 0;
  gint64 slowest_recent_ns_ = 0;
  bool warned_partly_unusable_ = false;
};

}  // namespace da3::plugin
