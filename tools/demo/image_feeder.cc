// SPDX-License-Identifier: MIT
#include "image_feeder.h"

#include <gst/app/gstappsink.h>

#include "input.h"

namespace da3::demo {
namespace {

// Far beyond any image; a decoder that hangs must not hang the program.
constexpr GstClockTime decode_limit = 60 * GST_SECOND;

class Pipeline {
 public:
  Pipeline(const std::filesystem::path& file, ImageFormat format) {
    // decodebin's decoders of these two want the whole file in one piece, and nothing in front of them puts
    // it together.
    const bool whole = format == ImageFormat::bmp || format == ImageFormat::tiff;
    const std::string description = std::string("filesrc name=file ! ") +
                                    (whole ? "gdkpixbufdec" : "decodebin") +
                                    // videoconvert is for formats that videoflip does not turn.
                                    " ! videoconvert ! videoflip video-direction=auto ! "
                                    "appsink name=out sync=false enable-last-sample=false max-buffers=1";
    GError* error = nullptr;
    pipeline_.reset(gst_parse_launch(description.c_str(), &error));
    const ErrorPtr owned(error);
    if (error != nullptr)
      throw DemoError(std::string("An element to decode images is missing: ") + error->message);
    gst_object_ref_sink(pipeline_.get());
    const ObjectPtr<GstElement> source(gst_bin_get_by_name(GST_BIN(pipeline_.get()), "file"));
    g_object_set(source.get(), "location", file.c_str(), nullptr);
  }
  ~Pipeline() {
    if (pipeline_) gst_element_set_state(pipeline_.get(), GST_STATE_NULL);
  }

  // NULL when there is none; the reason is then in `message`.
  SamplePtr first_frame(MessagePtr& message) {
    const ObjectPtr<GstBus> bus(gst_element_get_bus(pipeline_.get()));
    gst_element_set_state(pipeline_.get(), GST_STATE_PAUSED);
    message.reset(gst_bus_timed_pop_filtered(
        bus.get(), decode_limit,
        GstMessageType(GST_MESSAGE_ERROR | GST_MESSAGE_EOS | GST_MESSAGE_ASYNC_DONE)));
    if (!message || GST_MESSAGE_TYPE(message.get()) == GST_MESSAGE_ERROR) return nullptr;
    const ObjectPtr<GstElement> sink(gst_bin_get_by_name(GST_BIN(pipeline_.get()), "out"));
    return SamplePtr(gst_app_sink_try_pull_preroll(GST_APP_SINK(sink.get()), 0));
  }

 private:
  ObjectPtr<GstElement> pipeline_;
};

// The image as frame number `number` of a stream of one frame a second.
SamplePtr as_frame(const SamplePtr& image, guint64 number) {
  const CapsPtr caps(gst_caps_copy(gst_sample_get_caps(image.get())));
  gst_caps_set_simple(caps.get(), "framerate", GST_TYPE_FRACTION, 1, 1, nullptr);
  // Shares the pixels.
  GstBuffer* buffer = gst_buffer_copy(gst_sample_get_buffer(image.get()));
  GST_BUFFER_PTS(buffer) = number * GST_SECOND;
  GST_BUFFER_DTS(buffer) = GST_CLOCK_TIME_NONE;
  GST_BUFFER_DURATION(buffer) = GST_SECOND;
  GST_BUFFER_OFFSET(buffer) = number;
  SamplePtr frame(gst_sample_new(buffer, caps.get(), nullptr, nullptr));
  gst_buffer_unref(buffer);
  return frame;
}

}  // namespace

SamplePtr decode_image(const std::filesystem::path& file) {
  const ImageFormat format = image_format(file);
  if (format == ImageFormat::none) {
    throw DemoError("Cannot decode the image \"" + file.string() +
                    "\": it is missing or not a png, jpeg, webp, bmp or tiff file.");
  }
  Pipeline pipeline(file, format);
  MessagePtr message;
  if (SamplePtr sample = pipeline.first_frame(message)) return sample;
  std::string reason = "it holds no picture", detail;
  if (!message) {
    reason = "its decoder does not answer";
  } else if (GST_MESSAGE_TYPE(message.get()) == GST_MESSAGE_ERROR) {
    GError* error = nullptr;
    gchar* debug = nullptr;
    gst_message_parse_error(message.get(), &error, &debug);
    const ErrorPtr owned_error(error);
    const TextPtr owned_debug(debug);
    reason = error->message;
    while (!reason.empty() && reason.back() == '.') reason.pop_back();
    detail = debug ? debug : "";
  }
  throw DemoError("Cannot decode the image \"" + file.string() + "\": " + reason + ".", detail);
}

ImageFeeder::ImageFeeder(GstAppSrc* source, std::vector<std::filesystem::path> files)
    : source_(GST_APP_SRC(gst_object_ref(source))), files_(std::move(files)), thread_([this] { run(); }) {}

ImageFeeder::~ImageFeeder() {
  stop_ = true;
  thread_.join();
}

void ImageFeeder::run() noexcept {
  try {
    guint64 number = 0;
    for (const auto& file : files_) {
      if (stop_) return;
      const SamplePtr frame = as_frame(decode_image(file), number++);
      if (gst_app_src_push_sample(source_.get(), frame.get()) != GST_FLOW_OK) return;
      ++fed_;
    }
    gst_app_src_end_of_stream(source_.get());
  } catch (const DemoError& e) {
    gst_element_message_full(GST_ELEMENT(source_.get()), GST_MESSAGE_ERROR, GST_STREAM_ERROR,
                             GST_STREAM_ERROR_DECODE, g_strdup(e.what()), g_strdup(e.detail().c_str()),
                             __FILE__, GST_FUNCTION, __LINE__);
  } catch (const std::exception& e) {
    gst_element_message_full(GST_ELEMENT(source_.get()), GST_MESSAGE_ERROR, GST_CORE_ERROR,
                             GST_CORE_ERROR_FAILED, g_strdup(e.what()), nullptr, __FILE__, GST_FUNCTION,
                             __LINE__);
  }
}

}  // namespace da3::demo
