// SPDX-License-Identifier: MIT
#include "common/frame_output.h"

#include <algorithm>

#include "common/guard.h"

namespace da3::plugin {
namespace {

// GST_EVENT_IS_SERIALIZED() and its like mix enumerations, which C++20 deprecates.
bool has_flag(GstEventType type, GstEventTypeFlags flag) {
  return (gst_event_type_get_flags(type) & flag) != 0;
}

}  // namespace

GType output_size_get_type() {
  static gsize type = 0;
  static const GEnumValue values[] = {
      {int(OutputSize::model), "The size of the depth map, as the network sees the picture", "model"},
      {int(OutputSize::source), "The size of the incoming picture", "source"},
      {0, nullptr, nullptr}};
  if (g_once_init_enter(&type)) g_once_init_leave(&type, g_enum_register_static("GstDa3OutputSize", values));
  return type;
}

gboolean FrameOutput::forward(EventPtr event) {
  const GstEventType type = GST_EVENT_TYPE(event.get());
  if (type == GST_EVENT_FLUSH_STOP)
    std::erase_if(kept_, [](const EventPtr& e) {
      return GST_EVENT_TYPE(e.get()) == GST_EVENT_SEGMENT ||
             !has_flag(GST_EVENT_TYPE(e.get()), GST_EVENT_TYPE_STICKY);
    });
  if (!caps_ && has_flag(type, GST_EVENT_TYPE_SERIALIZED)) {
    // A gap has no meaning for a stream whose caps are not known.
    if (type == GST_EVENT_GAP) return TRUE;
    if (type == GST_EVENT_EOS) {
      send_kept();
    } else if (type != GST_EVENT_STREAM_START && type != GST_EVENT_FLUSH_STOP) {
      kept_.push_back(std::move(event));
      return TRUE;
    }
  }
  return gst_pad_push_event(src_, event.release());
}

void FrameOutput::send_kept() {
  auto events = std::move(kept_);
  kept_.clear();
  for (auto& event : events) gst_pad_push_event(src_, event.release());
}

bool FrameOutput::shutting_down(GstPad* src) {
  if (GST_PAD_IS_FLUSHING(src)) return true;
  GstPad* peer = gst_pad_get_peer(src);
  const bool flushing = peer && GST_PAD_IS_FLUSHING(peer);
  if (peer) gst_object_unref(peer);
  return flushing;
}

std::string FrameOutput::refusal(GstPad* src, const GstCaps* caps) {
  const auto text = [](const GstCaps* c) {
    gchar* string = gst_caps_to_string(c);
    std::string result = string;
    g_free(string);
    return result.size() > 400 ? result.substr(0, 400) + " ..." : result;
  };
  CapsPtr wanted(gst_pad_peer_query_caps(src, nullptr));
  return "The next element does not accept " + text(caps) + "; it takes " + text(wanted.get()) + ".";
}

CapsPtr FrameOutput::input_caps(GstPad* src, GstStaticPadTemplate* templ, bool same_size, GstCaps* filter) {
  const CapsPtr all(gst_static_pad_template_get_caps(templ));
  const CapsPtr possible(gst_pad_get_pad_template_caps(src));
  const CapsPtr wanted(gst_pad_peer_query_caps(src, possible.get()));
  CapsPtr result(gst_caps_new_empty());
  for (guint i = 0; i < gst_caps_get_size(wanted.get()); ++i) {
    const GstStructure* from = gst_caps_get_structure(wanted.get(), i);
    CapsPtr one(gst_caps_copy_nth(all.get(), 0));
    for (const char* field : {"framerate", "width", "height"}) {
      const GValue* value = gst_structure_get_value(from, field);
      if (value && (same_size || g_str_equal(field, "framerate")))
        gst_structure_set_value(gst_caps_get_structure(one.get(), 0), field, value);
    }
    result.reset(gst_caps_merge(result.release(), one.release()));
  }
  if (!filter) return result;
  result.reset(gst_caps_intersect_full(filter, result.get(), GST_CAPS_INTERSECT_FIRST));
  if (gst_caps_is_empty(result.get()))
    result.reset(gst_caps_intersect_full(filter, all.get(), GST_CAPS_INTERSECT_FIRST));
  return result;
}

GstFlowReturn FrameOutput::set_caps(CapsPtr caps, gsize frame_size) {
  if (caps_ && gst_caps_is_equal(caps_.get(), caps.get())) return GST_FLOW_OK;
  const bool accepted = gst_pad_peer_query_accept_caps(src_, caps.get()) &&
                        gst_pad_push_event(src_, gst_event_new_caps(caps.get()));
  if (!accepted) {
    if (shutting_down(src_)) return GST_FLOW_FLUSHING;
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, refusal(src_, caps.get()));
  }
  GstBufferPool* pool = gst_buffer_pool_new();
  GstStructure* config = gst_buffer_pool_get_config(pool);
  gst_buffer_pool_config_set_params(config, caps.get(), guint(frame_size), 0, 0);
  if (!gst_buffer_pool_set_config(pool, config) || !gst_buffer_pool_set_active(pool, TRUE)) {
    gst_object_unref(pool);
    throw ElementError(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT,
                       "No memory for frames of " + std::to_string(frame_size) + " bytes.");
  }
  if (pool_) {
    gst_buffer_pool_set_active(pool_, FALSE);
    gst_object_unref(pool_);
  }
  pool_ = pool;
  caps_ = std::move(caps);
  send_kept();
  return GST_FLOW_OK;
}

BufferPtr FrameOutput::new_frame() {
  GstBuffer* buffer = nullptr;
  if (!pool_ || gst_buffer_pool_acquire_buffer(pool_, &buffer, nullptr) != GST_FLOW_OK) return nullptr;
  return BufferPtr(buffer);
}

void FrameOutput::reset() {
  kept_.clear();
  caps_.reset();
  if (!pool_) return;
  gst_buffer_pool_set_active(pool_, FALSE);
  gst_object_unref(pool_);
  pool_ = nullptr;
}

}  // namespace da3::plugin
