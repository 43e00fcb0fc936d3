// SPDX-License-Identifier: MIT
//
// The source side of an element that makes one new frame of each frame and knows its caps only when the first
// one is there: events that must follow the caps are kept until then. Used from the streaming thread.
#pragma once

#include <gst/gst.h>

#include <memory>
#include <string>
#include <vector>

namespace da3::plugin {

// Values of the property output-size. Nicks: model, source.
enum class OutputSize { model, source };
GType output_size_get_type();

struct EventUnref {
  void operator()(GstEvent* event) const { gst_event_unref(event); }
};
struct BufferUnref {
  void operator()(GstBuffer* buffer) const { gst_buffer_unref(buffer); }
};
struct CapsUnref {
  void operator()(GstCaps* caps) const { gst_caps_unref(caps); }
};
using EventPtr = std::unique_ptr<GstEvent, EventUnref>;
using BufferPtr = std::unique_ptr<GstBuffer, BufferUnref>;
using CapsPtr = std::unique_ptr<GstCaps, CapsUnref>;

class FrameOutput {
 public:
  explicit FrameOutput(GstPad* src) : src_(src) {}
  ~FrameOutput() { reset(); }
  FrameOutput(const FrameOutput&) = delete;
  FrameOutput& operator=(const FrameOutput&) = delete;

  // An event of the sink pad other than CAPS. Sends or keeps it.
  gboolean forward(EventPtr event);

  // Makes `caps` (fixed) the caps of the stream, with frames of `frame_size` bytes, and sends what was kept.
  // Does nothing if they are the caps already. Returns FLUSHING when downstream is shutting down. Throws
  // ElementError (CORE/NEGOTIATION) naming both sides' caps if downstream refuses.
  GstFlowReturn set_caps(CapsPtr caps, gsize frame_size);
  bool has_caps() const { return caps_ != nullptr; }
  const GstCaps* caps() const { return caps_.get(); }

  // A writable frame of frame_size bytes; empty while flushing.
  BufferPtr new_frame();
  GstFlowReturn push(BufferPtr frame) { return gst_pad_push(src_, frame.release()); }

  // The sentence for caps that downstream refuses.
  static std::string refusal(GstPad* src, const GstCaps* caps);
  // TRUE if this pad or its peer is being shut down: a refusal then means nothing.
  static bool shutting_down(GstPad* src);

  // The answer to a CAPS query of the sink pad: `templ` at the frame rate and, with `same_size`, the size
  // that downstream wants. Where nothing of that can be sent by the asking side (`filter`, may be null), it
  // is told to send what it has: the first frame is then refused with both sides named, where a source alone
  // would stop with "not-negotiated".
  static CapsPtr input_caps(GstPad* src, GstStaticPadTemplate* templ, bool same_size, GstCaps* filter);

  // Back to the state before the first caps.
  void reset();

 private:
  void send_kept();
  GstPad* src_;  // borrowed from the element
  CapsPtr caps_;
  GstBufferPool* pool_ = nullptr;
  std::vector<EventPtr> kept_;
};

}  // namespace da3::plugin
