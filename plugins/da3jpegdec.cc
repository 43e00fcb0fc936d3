// SPDX-License-Identifier: MIT
/**
 * SECTION:element-da3jpegdec
 * @title: da3jpegdec
 *
 * Decodes JPEG pictures, those that are far larger than the network needs at a half, a quarter or an eighth
 * of their size: the smallest that is not below the size to which `process-res` and `process-res-method`
 * resize them. For large pictures that takes about two thirds of the time; depth differs by little from that
 * of the picture decoded at full size, but not by nothing. The smaller picture is the frame from then on,
 * which intrinsics and output-size=source refer to; it carries a view meta with the size of the whole one.
 *
 * With process-res=0 it always decodes at full size. Colours are those of the JPEG standard (BT.601, full
 * range).
 *
 * A picture that is damaged or breaks off is left out with a warning, and so is, where each buffer is one
 * file (multifilesrc), a file that is empty or no JPEG at all; the pictures after it keep their times. More
 * than `max-errors` in a row (here 10 unless set), or a stream of which nothing can be decoded, is an error.
 * What a file has besides its picture is no frame: a thumbnail, further pictures that an MPF segment names (a
 * phone's gain map, a stereo camera's other eye), other data behind it (the film of a motion photo).
 *
 * Two fields in one buffer (some old capture cards) are refused.
 *
 * ## Example
 * |[
 * gst-launch-1.0 multifilesrc location=%05d.jpg caps=image/jpeg,framerate=30/1 ! da3jpegdec process-res=196
 * ! queue ! da3infer views=4 ! da3posesink format=tum location=poses.tum
 * ]|
 */
#include "da3jpegdec.h"

#include <gst/video/gstvideometa.h>
#include <gst/video/video.h>

#include <memory>
#include <optional>
#include <string>

#include "common/enums.h"
#include "common/frame_output.h"
#include "common/frame_resizer.h"
#include "common/guard.h"
#include "common/mapped_frame.h"
#include "elements.h"
#include "gst/da3/da3.h"
#include "image/jpeg.h"
#include "image/process_size.h"
#include "jpeg_stream.h"
#include "preprocess_view.h"

GST_DEBUG_CATEGORY_STATIC(da3jpegdec_debug);
#define GST_CAT_DEFAULT da3jpegdec_debug

namespace image = da3::image;
using da3::plugin::CapsPtr;
using da3::plugin::ElementError;
using da3::plugin::FrameOutput;
using da3::plugin::guard;
using da3::plugin::JpegStream;
using da3::plugin::MappedFrame;
using da3::plugin::post_warning;

namespace {

constexpr guint kMaxProcessRes = 8192;
constexpr int kMaxSide = 32767;  // GStreamer's caps, and OpenCV
constexpr gint kDamagedInARow = 10;

enum Property { PROP_0, PROP_PROCESS_RES, PROP_PROCESS_RES_METHOD };

struct Settings {
  guint process_res = 504;
  image::ProcessResMethod method = image::ProcessResMethod::upper_bound_resize;
};

struct CodecStateUnref {
  void operator()(GstVideoCodecState* state) const { gst_video_codec_state_unref(state); }
};
using CodecState = std::unique_ptr<GstVideoCodecState, CodecStateUnref>;

struct State {
  Settings settings;  // under the object lock

  // Streaming thread alone.
  image::JpegDecoder decoder;
  JpegStream stream;
  CodecState input, output;            // no input: a file without caps
  std::optional<gsize> not_a_picture;  // the frame at hand is a buffer of so many bytes that holds none
  bool parsed = false;                 // by the caps
  gint64 decoded = 0, damaged = 0, pictures = 0;
  gint in_a_row = 0;  // damaged
  // Since the start or a flush: a picture has come out, and how many were left out before it.
  bool shown = false;
  guint64 left_out_first = 0;
  gsize garbage = 0;    // bytes that belong to no picture
  bool failed = false;  // it has said so
  // Of the picture at hand: as it was, and as it is decoded.
  GstVideoInfo whole;
  image::ProcessPlan plan;
};

// A frame's bytes, mapped as long as this object lives.
class MappedInput {
 public:
  explicit MappedInput(GstBuffer* buffer) : buffer_(buffer) {
    if (!gst_buffer_map(buffer, &map_, GST_MAP_READ))
      throw ElementError(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_READ, "A buffer's memory cannot be read.");
  }
  ~MappedInput() { gst_buffer_unmap(buffer_, &map_); }
  MappedInput(const MappedInput&) = delete;
  MappedInput& operator=(const MappedInput&) = delete;
  const guint8* data() const { return map_.data; }
  gsize size() const { return map_.size; }

 private:
  GstBuffer* buffer_;
  GstMapInfo map_;
};

std::string text_of(image::Size size) {
  return std::to_string(size.width) + "x" + std::to_string(size.height);
}

}  // namespace

struct _GstDa3JpegDec {
  GstVideoDecoder parent;
  State* state;
};

G_DEFINE_FINAL_TYPE(GstDa3JpegDec, gst_da3_jpeg_dec, GST_TYPE_VIDEO_DECODER)
GST_ELEMENT_REGISTER_DEFINE(da3jpegdec, "da3jpegdec", GST_RANK_NONE, GST_TYPE_DA3_JPEG_DEC)

namespace {

GstDa3JpegDec* cast(gpointer object) {
  return GST_DA3_JPEG_DEC(object);
}

Settings settings_of(GstDa3JpegDec* self) {
  GST_OBJECT_LOCK(self);
  const Settings settings = self->state->settings;
  GST_OBJECT_UNLOCK(self);
  return settings;
}

// Of a picture of size `full`, as if it came as raw video.
GstVideoInfo info_of(const State& s, image::Size full) {
  GstVideoInfo info;
  gst_video_info_set_format(&info, GST_VIDEO_FORMAT_RGB, guint(full.width), guint(full.height));
  if (s.input && GST_VIDEO_INFO_PAR_N(&s.input->info) > 0 && GST_VIDEO_INFO_PAR_D(&s.input->info) > 0) {
    GST_VIDEO_INFO_PAR_N(&info) = GST_VIDEO_INFO_PAR_N(&s.input->info);
    GST_VIDEO_INFO_PAR_D(&info) = GST_VIDEO_INFO_PAR_D(&s.input->info);
  }
  return info;
}

// The size that is enough for what `settings` make of such a picture.
image::Size enough(const GstVideoInfo& whole, const Settings& settings) {
  const image::Size full = {GST_VIDEO_INFO_WIDTH(&whole), GST_VIDEO_INFO_HEIGHT(&whole)};
  if (settings.process_res == 0) return full;
  try {
    return da3::plugin::plan_frame(whole, int(settings.process_res), settings.method).boundary;
  } catch (const ElementError&) {
    return full;  // too long and thin for the network; who needs it for that will say so
  }
}

// Makes `size` the size of the stream's pictures. Returns FLUSHING while shutting down.
GstFlowReturn set_output(GstDa3JpegDec* self, image::Size size) {
  State& s = *self->state;
  GstVideoDecoder* decoder = GST_VIDEO_DECODER(self);
  if (s.output && GST_VIDEO_INFO_WIDTH(&s.output->info) == size.width &&
      GST_VIDEO_INFO_HEIGHT(&s.output->info) == size.height)
    return GST_FLOW_OK;
  s.output.reset(gst_video_decoder_set_output_state(decoder, GST_VIDEO_FORMAT_RGB, guint(size.width),
                                                    guint(size.height), s.input.get()));
  // What the input's caps say about Y'CbCr and fields is not true of these.
  GstVideoInfo& info = s.output->info;
  gst_video_colorimetry_from_string(&info.colorimetry, GST_VIDEO_COLORIMETRY_SRGB);
  info.chroma_site = GST_VIDEO_CHROMA_SITE_UNKNOWN;
  info.interlace_mode = GST_VIDEO_INTERLACE_MODE_PROGRESSIVE;
  // Asked first: a refused CAPS event only shows when the picture is pushed, without a reason.
  GstPad* src = GST_VIDEO_DECODER_SRC_PAD(decoder);
  const CapsPtr caps(gst_video_info_to_caps(&info));
  if (gst_pad_peer_query_accept_caps(src, caps.get()) && gst_video_decoder_negotiate(decoder))
    return GST_FLOW_OK;
  s.output.reset();
  if (FrameOutput::shutting_down(src)) return GST_FLOW_FLUSHING;
  throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, FrameOutput::refusal(src, caps.get()));
}

// The frame shows the whole picture in fewer pixels. What is known of the whole one follows.
void attach_views(const State& s, GstBuffer* in, GstBuffer* out) {
  const image::Size full = s.plan.input;
  GstDa3View view;
  bool any = false;
  for (GstDa3Role role : {GST_DA3_ROLE_PREDICTION, GST_DA3_ROLE_TRUTH}) {
    if (!in || !gst_buffer_get_da3_view_by_role(in, role, &view)) continue;
    const gboolean processed = view.processed && s.plan.final == full;
    da3::plugin::map_view(view, s.plan, full);
    view.processed = processed;
    any |= gst_buffer_add_da3_view(out, &view) != FALSE;
  }
  if (any) return;
  gst_da3_view_init(&view);
  view.frame = s.pictures;
  da3::plugin::map_view(view, s.plan, full);
  view.processed = FALSE;  // its sides are no multiples of 14 as a rule
  gst_buffer_add_da3_view(out, &view);
}

// Some capture cards send both fields of a frame as one picture after the other, each of half the height.
void refuse_fields(const State& s, image::Size full) {
  if (!s.input) return;
  const GstVideoInfo& caps = s.input->info;
  // Of an odd number of rows one field has one more. A picture of one row is none of two of its own.
  if (GST_VIDEO_INFO_WIDTH(&caps) != full.width || GST_VIDEO_INFO_HEIGHT(&caps) <= full.height ||
      GST_VIDEO_INFO_HEIGHT(&caps) < 2 * full.height - 1)
    return;
  throw image::JpegError("It has half the height of the caps (" + std::to_string(full.height) + " of " +
                         std::to_string(GST_VIDEO_INFO_HEIGHT(&caps)) +
                         " rows): two fields in a buffer are not supported; use jpegdec.");
}

// Throws JpegError if the picture cannot be used. On OK the frame has an output buffer.
GstFlowReturn decode(GstDa3JpegDec* self, GstVideoCodecFrame* frame) {
  State& s = *self->state;
  if (s.not_a_picture)
    throw image::JpegError(*s.not_a_picture > 0 ? "There is no JPEG picture in its " +
                                                      std::to_string(*s.not_a_picture) + " bytes."
                                                : "It is empty.");
  const MappedInput input(frame->input_buffer);
  const image::Size full = s.decoder.open(input.data(), input.size());
  refuse_fields(s, full);
  s.whole = info_of(s, full);
  const image::Size size = s.decoder.scale_to(enough(s.whole, settings_of(self)));
  if (size.width > kMaxSide || size.height > kMaxSide)
    throw image::JpegError("A JPEG picture of " + text_of(full) + " pixels is too large.");
  s.plan = image::ProcessPlan{full, size, size};
  const GstFlowReturn negotiated = set_output(self, size);
  if (negotiated != GST_FLOW_OK) return negotiated;
  const GstFlowReturn allocated = gst_video_decoder_allocate_output_frame(GST_VIDEO_DECODER(self), frame);
  if (allocated == GST_FLOW_ERROR)
    throw ElementError(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT,
                       "No memory for a picture of " + text_of(size) + " pixels.");
  if (allocated != GST_FLOW_OK) return allocated;
  {
    MappedFrame output(frame->output_buffer, s.output->info, GST_MAP_WRITE);
    s.decoder.decode(static_cast<uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(output.get(), 0)),
                     size_t(GST_VIDEO_FRAME_PLANE_STRIDE(output.get(), 0)));
  }
  attach_views(s, frame->input_buffer, frame->output_buffer);
  return GST_FLOW_OK;
}

// Where in the picture something is follows its size; views are attach_views()'.
gboolean transform_meta(GstVideoDecoder* decoder, GstVideoCodecFrame* frame, GstMeta* meta) {
  const State& s = *cast(decoder)->state;
  const GstMetaInfo* info = meta->info;
  if (g_strcmp0(g_type_name(info->type), GST_DA3_VIEW_META_NAME) == 0) return FALSE;
  const bool of_size =
      gst_meta_api_type_has_tag(info->api, g_quark_from_string(GST_META_TAG_VIDEO_SIZE_STR)) ||
      gst_meta_api_type_has_tag(info->api, g_quark_from_string(GST_META_TAG_VIDEO_ORIENTATION_STR));
  if (!of_size)
    return GST_VIDEO_DECODER_CLASS(gst_da3_jpeg_dec_parent_class)->transform_meta(decoder, frame, meta);
  if (!info->transform_func || !frame->output_buffer || !s.output) return FALSE;
  GstVideoInfo whole = s.whole, reduced = s.output->info;
  GstVideoMetaTransform scale = {&whole, &reduced};
  info->transform_func(frame->output_buffer, meta, frame->input_buffer,
                       gst_video_meta_transform_scale_get_quark(), &scale);
  return FALSE;
}

// The base class counts on from the picture before, where pictures have no times; before the first one there
// is none, and those that are left out would not count.
void time_first(GstVideoDecoder* decoder, const State& s, GstVideoCodecFrame* frame) {
  const bool timed = GST_CLOCK_TIME_IS_VALID(frame->pts) || GST_CLOCK_TIME_IS_VALID(frame->dts);
  if (s.shown || s.left_out_first == 0 || timed || !s.input || GST_VIDEO_INFO_FPS_N(&s.input->info) <= 0)
    return;
  frame->pts =
      decoder->input_segment.start +
      gst_util_uint64_scale(s.left_out_first, guint64(GST_VIDEO_INFO_FPS_D(&s.input->info)) * GST_SECOND,
                            guint64(GST_VIDEO_INFO_FPS_N(&s.input->info)));
}

// A picture that is left out: a warning for each, an error when too many come together (max-errors).
GstFlowReturn leave_out(GstDa3JpegDec* self, GstVideoCodecFrame* frame, const image::JpegError& error) {
  State& s = *self->state;
  GstVideoDecoder* decoder = GST_VIDEO_DECODER(self);
  ++s.damaged;
  ++s.in_a_row;
  const std::string number = std::to_string(s.pictures);
  post_warning(GST_ELEMENT_CAST(self), GST_STREAM_ERROR, GST_STREAM_ERROR_DECODE,
               "Picture " + number + " is left out. " + error.what());
  if (!s.shown) ++s.left_out_first;
  gst_video_decoder_drop_frame(decoder, frame);
  // Marks the next one as discontinuous. The base class would count as well, but it logs the text of the
  // error each time.
  GstFlowReturn flow = GST_FLOW_OK;
  GST_VIDEO_DECODER_ERROR(self, 0, STREAM, DECODE, (nullptr), (nullptr), flow);
  const gint most = gst_video_decoder_get_max_errors(decoder);
  if (most < 0 || s.in_a_row <= most) return flow;
  s.failed = true;
  throw ElementError(GST_STREAM_ERROR, GST_STREAM_ERROR_DECODE,
                     "More JPEG pictures in a row cannot be decoded than max-errors allows (" +
                         std::to_string(most) + "); the last is picture " + number + ". " + error.what());
}

GstFlowReturn handle_frame(GstVideoDecoder* decoder, GstVideoCodecFrame* frame) {
  GstDa3JpegDec* self = cast(decoder);
  State& s = *self->state;
  try {
    const GstFlowReturn flow = decode(self, frame);
    ++s.pictures;
    if (flow != GST_FLOW_OK) {
      gst_video_decoder_release_frame(decoder, frame);
      return flow;
    }
    ++s.decoded;
    s.in_a_row = 0;
    time_first(decoder, s, frame);
    s.shown = true;
    GST_VIDEO_CODEC_FRAME_SET_SYNC_POINT(frame);
    return gst_video_decoder_finish_frame(decoder, frame);
  } catch (const image::JpegError& error) {
    return guard(self, GST_FLOW_ERROR, [&] {
      const GstFlowReturn flow = leave_out(self, frame, error);
      ++s.pictures;
      return flow;
    });
  } catch (...) {
    s.failed = true;
    da3::plugin::post_error(GST_ELEMENT_CAST(self), std::current_exception());
    gst_video_decoder_release_frame(decoder, frame);
    return GST_FLOW_ERROR;
  }
}

GstFlowReturn parse(GstVideoDecoder* decoder, GstVideoCodecFrame*, GstAdapter* adapter, gboolean at_eos) {
  State& s = *cast(decoder)->state;
  for (;;) {
    const JpegStream::Step step = s.stream.next(adapter, at_eos);
    switch (step.what) {
      case JpegStream::What::need_data:
        return GST_VIDEO_DECODER_FLOW_NEED_DATA;
      case JpegStream::What::garbage:
        gst_adapter_flush(adapter, step.size);
        s.garbage += step.size;
        break;
      case JpegStream::What::picture:
        gst_video_decoder_add_to_frame(decoder, int(step.size));
        return gst_video_decoder_have_frame(decoder);
      case JpegStream::What::no_picture: {
        gst_adapter_flush(adapter, step.size);
        s.not_a_picture = step.bytes;
        const GstFlowReturn flow = gst_video_decoder_have_frame(decoder);
        s.not_a_picture.reset();
        return flow;
      }
    }
  }
}

gboolean set_format(GstVideoDecoder* decoder, GstVideoCodecState* input) {
  State& s = *cast(decoder)->state;
  s.input.reset(gst_video_codec_state_ref(input));
  s.output.reset();  // frame rate and pixel aspect ratio come from the input
  gboolean parsed = FALSE;
  gst_structure_get_boolean(gst_caps_get_structure(input->caps, 0), "parsed", &parsed);
  s.parsed = parsed;
  return TRUE;
}

// Whoever knows times sends one picture in each buffer; a file that is read in blocks is searched for them.
gboolean sink_event(GstVideoDecoder* decoder, GstEvent* event) {
  const bool segment = GST_EVENT_TYPE(event) == GST_EVENT_SEGMENT;
  if (segment) {
    const GstSegment* given = nullptr;
    gst_event_parse_segment(event, &given);
    gst_video_decoder_set_packetized(decoder,
                                     cast(decoder)->state->parsed || given->format == GST_FORMAT_TIME);
  }
  return GST_VIDEO_DECODER_CLASS(gst_da3_jpeg_dec_parent_class)->sink_event(decoder, event);
}

// Sizes behind it are no sizes of what comes in.
GstCaps* getcaps(GstVideoDecoder* decoder, GstCaps* filter) {
  const CapsPtr all(gst_pad_get_pad_template_caps(GST_VIDEO_DECODER_SINK_PAD(decoder)));
  return filter ? gst_caps_intersect_full(filter, all.get(), GST_CAPS_INTERSECT_FIRST)
                : gst_caps_ref(all.get());
}

// One picture in, one out: nothing is kept back.
GstFlowReturn drain(GstVideoDecoder*) {
  return GST_FLOW_OK;
}

// The end of the stream: one that gave nothing at all does not end in silence.
GstFlowReturn finish(GstVideoDecoder* decoder) {
  return guard(decoder, GST_FLOW_ERROR, [&] {
    State& s = *cast(decoder)->state;
    if (s.failed) return GST_FLOW_ERROR;
    if (s.decoded > 0 || (s.damaged == 0 && s.garbage == 0 && !s.stream.only_empty())) return GST_FLOW_OK;
    throw ElementError(
        GST_STREAM_ERROR, GST_STREAM_ERROR_DECODE,
        s.damaged > 0
            ? "None of the " + std::to_string(s.damaged) + " JPEG pictures of this stream could be decoded."
            : "There is no JPEG picture in the " + std::to_string(s.garbage) + " bytes of this stream.");
  });
}

gboolean flush(GstVideoDecoder* decoder) {
  State& s = *cast(decoder)->state;
  s.stream.reset();
  s.shown = false;
  s.left_out_first = 0;
  return TRUE;
}

void forget(State& s) {
  s.stream.reset();
  s.input.reset();
  s.output.reset();
  s.decoded = s.damaged = s.pictures = 0;
  s.garbage = 0;
  s.in_a_row = 0;
  s.shown = false;
  s.left_out_first = 0;
  s.not_a_picture.reset();
  s.parsed = s.failed = false;
}

gboolean start(GstVideoDecoder* decoder) {
  forget(*cast(decoder)->state);
  return TRUE;
}

gboolean stop(GstVideoDecoder* decoder) {
  forget(*cast(decoder)->state);
  return TRUE;
}

void set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  GST_OBJECT_LOCK(object);
  Settings& settings = cast(object)->state->settings;
  switch (id) {
    case PROP_PROCESS_RES:
      settings.process_res = g_value_get_uint(value);
      break;
    case PROP_PROCESS_RES_METHOD:
      settings.method = static_cast<image::ProcessResMethod>(g_value_get_enum(value));
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
      break;
  }
  GST_OBJECT_UNLOCK(object);
}

void get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  const Settings settings = settings_of(cast(object));
  switch (id) {
    case PROP_PROCESS_RES:
      g_value_set_uint(value, settings.process_res);
      break;
    case PROP_PROCESS_RES_METHOD:
      g_value_set_enum(value, int(settings.method));
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
      break;
  }
}

void finalize(GObject* object) {
  delete cast(object)->state;
  G_OBJECT_CLASS(gst_da3_jpeg_dec_parent_class)->finalize(object);
}

void install_properties(GObjectClass* klass) {
  constexpr auto flags =
      static_cast<GParamFlags>(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING);
  g_object_class_install_property(
      klass, PROP_PROCESS_RES,
      g_param_spec_uint("process-res", "Process resolution",
                        "As in da3preprocess and da3infer: pictures are decoded at a half, a quarter or an "
                        "eighth of their size where that is not below what it asks for (0 = always at full "
                        "size)",
                        0, kMaxProcessRes, Settings().process_res, flags));
  g_object_class_install_property(
      klass, PROP_PROCESS_RES_METHOD,
      g_param_spec_enum("process-res-method", "Process resolution method",
                        "As in da3preprocess and da3infer: which side process-res bounds",
                        GST_TYPE_DA3_PROCESS_RES_METHOD, int(Settings().method), flags));
}

}  // namespace

static void gst_da3_jpeg_dec_init(GstDa3JpegDec* self) {
  self->state = new State();
  GstVideoDecoder* decoder = GST_VIDEO_DECODER(self);
  gst_video_decoder_set_needs_format(decoder, FALSE);  // a file without caps says all that is needed
  gst_video_decoder_set_use_default_pad_acceptcaps(decoder, TRUE);
  gst_video_decoder_set_max_errors(decoder, kDamagedInARow);
  GST_PAD_SET_ACCEPT_TEMPLATE(GST_VIDEO_DECODER_SINK_PAD(decoder));
}

static void gst_da3_jpeg_dec_class_init(GstDa3JpegDecClass* klass) {
  GST_DEBUG_CATEGORY_INIT(da3jpegdec_debug, "da3jpegdec", 0, "JPEG decoder for Depth Anything 3");
  auto* object = G_OBJECT_CLASS(klass);
  object->set_property = set_property;
  object->get_property = get_property;
  object->finalize = finalize;
  install_properties(object);

  auto* element = GST_ELEMENT_CLASS(klass);
  gst_element_class_set_static_metadata(element, "JPEG decoder for Depth Anything 3", "Codec/Decoder/Image",
                                        "Decodes JPEG at a reduced size where the network needs no more",
                                        "gst-da3");
  GstCaps* sink = gst_caps_from_string("image/jpeg");
  GstCaps* src = gst_caps_from_string(GST_VIDEO_CAPS_MAKE("RGB"));
  gst_element_class_add_pad_template(element,
                                     gst_pad_template_new("sink", GST_PAD_SINK, GST_PAD_ALWAYS, sink));
  gst_element_class_add_pad_template(element, gst_pad_template_new("src", GST_PAD_SRC, GST_PAD_ALWAYS, src));
  gst_caps_unref(sink);
  gst_caps_unref(src);
  gst_type_mark_as_plugin_api(GST_TYPE_DA3_PROCESS_RES_METHOD, static_cast<GstPluginAPIFlags>(0));

  auto* decoder = GST_VIDEO_DECODER_CLASS(klass);
  decoder->start = start;
  decoder->stop = stop;
  decoder->flush = flush;
  decoder->finish = finish;
  decoder->drain = drain;
  decoder->sink_event = sink_event;
  decoder->getcaps = getcaps;
  decoder->transform_meta = transform_meta;
  decoder->set_format = set_format;
  decoder->parse = parse;
  decoder->handle_frame = handle_frame;
}
