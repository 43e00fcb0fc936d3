// SPDX-License-Identifier: MIT
#include "source.h"

#include <cstring>
#include <string>

namespace da3::demo {
namespace {

// Streams of sound and text come out of decodebin as they are, and nobody takes them.
gboolean continue_decoding(GstElement*, GstPad*, GstCaps* caps, gpointer) {
  const gchar* name = gst_structure_get_name(gst_caps_get_structure(caps, 0));
  return !g_str_has_prefix(name, "audio/") && !g_str_has_prefix(name, "text/") &&
         !g_str_has_prefix(name, "subpicture/");
}

void link_first_video(GstElement*, GstPad* pad, gpointer converter) {
  const CapsPtr caps(gst_pad_query_caps(pad, nullptr));
  if (gst_caps_is_empty(caps.get()) || gst_caps_is_any(caps.get())) return;
  if (!g_str_has_prefix(gst_structure_get_name(gst_caps_get_structure(caps.get(), 0)), "video/x-raw")) return;
  const ObjectPtr<GstPad> sink(gst_element_get_static_pad(GST_ELEMENT(converter), "sink"));
  if (!gst_pad_is_linked(sink.get())) gst_pad_link(pad, sink.get());
}

void check_for_video(GstElement* decoder, gpointer converter) {
  const ObjectPtr<GstPad> sink(gst_element_get_static_pad(GST_ELEMENT(converter), "sink"));
  if (gst_pad_is_linked(sink.get())) return;
  gst_element_message_full(decoder, GST_MESSAGE_ERROR, GST_STREAM_ERROR, GST_STREAM_ERROR_WRONG_TYPE,
                           g_strdup(no_video_message), nullptr, __FILE__, GST_FUNCTION, __LINE__);
}

}  // namespace

bool is_idle(GstElement* video_source) {
  bool running = false;
  const auto look = [](GstElement*, GstPad* pad, gpointer found) -> gboolean {
    if (gst_pad_get_task_state(pad) == GST_TASK_STARTED) *static_cast<bool*>(found) = true;
    return TRUE;
  };
  GstIterator* elements = gst_bin_iterate_recurse(GST_BIN(video_source));
  GValue item = G_VALUE_INIT;
  for (GstIteratorResult result; (result = gst_iterator_next(elements, &item)) != GST_ITERATOR_DONE;) {
    // Elements come and go: whatever changes is not idle.
    if (result != GST_ITERATOR_OK) {
      running = true;
      break;
    }
    gst_element_foreach_pad(GST_ELEMENT(g_value_get_object(&item)), look, &running);
    g_value_reset(&item);
  }
  g_value_unset(&item);
  gst_iterator_free(elements);
  return !running;
}

GstElement* make_element(const char* factory) {
  GstElement* element = gst_element_factory_make(factory, nullptr);
  if (element == nullptr) {
    throw DemoError(std::string("GStreamer does not have the element ") + factory +
                    "; run scripts/setup.sh.");
  }
  return element;
}

GstElement* make_video_source(const std::filesystem::path& file) {
  GstElement* bin = gst_bin_new("source");
  try {
    const auto add = [&](const char* factory) {
      GstElement* element = make_element(factory);
      gst_bin_add(GST_BIN(bin), element);
      return element;
    };
    GstElement* reader = add("filesrc");
    GstElement* decoder = add("decodebin");
    // Does nothing unless the decoder gives a format that videoflip does not turn.
    GstElement* converter = add("videoconvert");
    GstElement* upright = add("videoflip");
    g_object_set(reader, "location", file.c_str(), nullptr);
    gst_util_set_object_arg(G_OBJECT(upright), "video-direction", "auto");
    gst_element_link(reader, decoder);
    gst_element_link(converter, upright);
    g_signal_connect(decoder, "autoplug-continue", G_CALLBACK(continue_decoding), nullptr);
    g_signal_connect(decoder, "pad-added", G_CALLBACK(link_first_video), converter);
    g_signal_connect(decoder, "no-more-pads", G_CALLBACK(check_for_video), converter);
    const ObjectPtr<GstPad> pad(gst_element_get_static_pad(upright, "src"));
    gst_element_add_pad(bin, gst_ghost_pad_new("src", pad.get()));
  } catch (...) {
    gst_object_unref(gst_object_ref_sink(bin));
    throw;
  }
  return bin;
}

GstElement* make_rendered_source() {
  // Seeds this small are kept out of training. At twice the pace and 8 frames a second steps are some 12 cm.
  const std::string description =
      "da3testsrc scene=room path=walk seed=11 speed=2 ! capsfilter caps=video/x-raw,framerate=8/1,width=" +
      std::to_string(rendered_width) + ",height=" + std::to_string(rendered_height);
  GError* error = nullptr;
  GstElement* bin = gst_parse_bin_from_description(description.c_str(), TRUE, &error);
  const ErrorPtr owned(error);
  if (error != nullptr) {
    if (bin != nullptr) gst_object_unref(gst_object_ref_sink(bin));
    throw DemoError(std::string("Nothing can be rendered: ") + error->message + ".");
  }
  gst_object_set_name(GST_OBJECT(bin), "source");
  return bin;
}

GstElement* make_image_source() {
  GstElement* source = make_element("appsrc");
  g_object_set(source, "format", GST_FORMAT_TIME, "block", TRUE, "max-buffers", guint64(2), "max-bytes",
               guint64(0), nullptr);
  return source;
}

}  // namespace da3::demo
