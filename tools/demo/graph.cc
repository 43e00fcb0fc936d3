// SPDX-License-Identifier: MIT
#include "graph.h"

#include <gst/app/gstappsrc.h>
#include <gst/da3/da3.h>
#include <gst/video/video.h>

#include <algorithm>

#include "source.h"

namespace da3::demo {
namespace {

// More makes a file that few players and decoders take.
constexpr int longest_side = 3840;
// Encoders of 4:2:0 video want even sides, and some have a least size.
constexpr int least_side = 16;

template <typename Body>
void add_probe(GstElement* element, const char* pad_name, GstPadProbeType type, Body body) {
  const ObjectPtr<GstPad> pad(gst_element_get_static_pad(element, pad_name));
  gst_pad_add_probe(
      pad.get(), type,
      [](GstPad* probed, GstPadProbeInfo* info, gpointer data) {
        return (*static_cast<Body*>(data))(probed, info);
      },
      new Body(std::move(body)), [](gpointer data) { delete static_cast<Body*>(data); });
}

ObjectPtr<GstElement> element_of(GstElement* bin, const char* name) {
  return ObjectPtr<GstElement>(gst_bin_get_by_name(GST_BIN(bin), name));
}

// What turns I420 into something mp4mux takes.
std::string choose_encoder() {
  // No look-ahead: it would hold dozens of frames in memory.
  static constexpr const char* known[][2] = {
      {"x264enc",
       "x264enc name=enc speed-preset=veryfast tune=zerolatency pass=qual quantizer=20 key-int-max=15"},
      {"openh264enc", "openh264enc name=enc complexity=low bitrate=8000000 gop-size=15 ! h264parse"},
      {"avenc_mpeg4", "avenc_mpeg4 name=enc bitrate=8000000"}};
  for (const auto& [factory, description] : known) {
    if (const ObjectPtr<GstElementFactory> found{gst_element_factory_find(factory)}) return description;
  }
  throw DemoError(
      "GStreamer has no encoder for depth.mp4 (x264enc, openh264enc or avenc_mpeg4); run scripts/setup.sh.");
}

int even_side(double side) {
  return std::max(least_side, (int(side + 0.5) + 1) / 2 * 2);
}

// All frames of a recording get the size of the first.
CapsPtr recording_caps(GstCaps* first, bool for_players) {
  GstVideoInfo info;
  if (!gst_video_info_from_caps(&info, first)) return nullptr;
  int width = GST_VIDEO_INFO_WIDTH(&info), height = GST_VIDEO_INFO_HEIGHT(&info);
  if (for_players) {
    const double factor = std::min(1.0, double(longest_side) / std::max(width, height));
    width = even_side(width * factor);
    height = even_side(height * factor);
  }
  return CapsPtr(gst_caps_new_simple("video/x-raw", "width", G_TYPE_INT, width, "height", G_TYPE_INT, height,
                                     "pixel-aspect-ratio", GST_TYPE_FRACTION, GST_VIDEO_INFO_PAR_N(&info),
                                     GST_VIDEO_INFO_PAR_D(&info), nullptr));
}

void send_eos_async(GstElement* element) {
  gst_element_call_async(
      element,
      [](GstElement* called, gpointer) {
        const ObjectPtr<GstPad> pad(gst_element_get_static_pad(called, "sink"));
        gst_pad_send_event(pad.get(), gst_event_new_eos());
      },
      nullptr, nullptr);
}

GstElement* make_source(Input::Kind kind, const std::vector<std::filesystem::path>& files) {
  switch (kind) {
    case Input::Kind::video:
      return make_video_source(files.front());
    case Input::Kind::images:
      return make_image_source();
    default:
      return make_rendered_source();
  }
}

// The pictures of depth.mp4: the frame, its depth and, where it is known, the true depth.
std::string pictures(bool with_truth) {
  if (!with_truth) return "da3depthviz layout=side-by-side";
  const std::string queue = "queue max-size-buffers=2 max-size-bytes=0 max-size-time=0";
  return "tee name=both compositor name=mix sink_1::xpos=" + std::to_string(2 * rendered_width) +
         " both. ! " + queue + " ! da3depthviz layout=side-by-side ! mix.sink_0 both. ! " + queue +
         " ! da3depthviz name=truth ! mix.sink_1 mix.";
}

// The frame as it would be if the truth had been predicted; it shares its memory with `frame`. Null if there
// is none.
GstBuffer* with_truth_as_prediction(GstBuffer* frame) {
  GstDa3View view;
  GstDa3Tensor depth;
  if (!gst_buffer_get_da3_view_by_role(frame, GST_DA3_ROLE_TRUTH, &view) ||
      !gst_buffer_get_da3_tensor(frame, GST_DA3_TENSOR_DEPTH "-truth", &depth)) {
    return nullptr;
  }
  GstBuffer* copy = gst_buffer_copy(frame);
  view.role = GST_DA3_ROLE_PREDICTION;
  gst_buffer_add_da3_view(copy, &view);
  gst_buffer_add_da3_tensor(copy, GST_DA3_TENSOR_DEPTH, gst_buffer_ref(depth.data), depth.n_dims, depth.dims);
  return copy;
}

}  // namespace

std::uint64_t Branch::frames() const {
  if (pose_sink == nullptr) return encoded;
  GstStructure* stats = nullptr;
  g_object_get(pose_sink, "stats", &stats, nullptr);
  guint64 count = 0;
  // A trajectory has a line for each pose, the JSON lines one for each frame.
  gst_structure_get_uint64(stats, "written", &count);
  gst_structure_free(stats);
  return count;
}

Graph::Graph(const Options& options, const Input& input) : input_(input), max_frames_(options.max_frames) {
  pipeline_.reset(GST_ELEMENT(gst_object_ref_sink(gst_pipeline_new("da3-demo"))));
  // EOS of each branch is wanted, not only the one of all.
  g_object_set(pipeline_.get(), "message-forward", TRUE, nullptr);
  const auto add = [&](GstElement* element) {
    gst_bin_add(GST_BIN(pipeline_.get()), element);
    return element;
  };
  const bool rendered = input.kind == Input::Kind::rendered;
  source_ = add(make_source(input.kind, input.files));
  infer_ = add(make_element("da3infer"));
  tee_ = add(make_element("tee"));
  g_object_set(infer_, "model", options.model.c_str(), "device", options.device.c_str(), "process-res",
               options.process_res, "views", options.views, nullptr);
  gst_util_set_object_arg(G_OBJECT(infer_), "precision", options.precision.c_str());
  const std::filesystem::path outdir(options.outdir);
  GstElement* last = infer_;
  if (rendered) {
    last = score_ = add(make_element("da3score"));
    g_object_set(score_, "location", (outdir / "scores.jsonl").c_str(), "post-messages", FALSE, nullptr);
  }
  if (!gst_element_link(source_, infer_) || (score_ && !gst_element_link(infer_, score_)) ||
      !gst_element_link(last, tee_)) {
    throw DemoError("The pipeline cannot be linked.");
  }

  add_branch("depth.mp4",
             pictures(rendered) +
                 " ! videoscale name=scale add-borders=true ! capsfilter name=fit ! "
                 // One colorimetry, whatever the pictures have: a stream in MP4 cannot change it.
                 "videoconvert ! video/x-raw,format=I420,colorimetry=bt709 ! " +
                 choose_encoder() +
                 // In fragments, so that a file that was cut off can be played; made whole at the end.
                 " ! mp4mux fragment-duration=1000 fragment-mode=first-moov-then-finalise ! "
                 "filesink name=sink async=false",
             outdir);
  add_branch("depth.mkv",
             "da3extract plane=depth ! videoscale name=scale method=nearest-neighbour add-borders=true ! "
             "capsfilter name=fit ! avenc_ffv1 name=enc ! matroskamux ! filesink name=sink async=false",
             outdir);
  add_branch("poses.jsonl", "da3posesink name=sink format=jsonl async=false", outdir);
  add_branch("poses.tum", "da3posesink name=sink format=tum async=false", outdir);

  if (rendered) show_truth(*branches_.front());

  add_probe(infer_, "sink", GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM),
            [this](GstPad* pad, GstPadProbeInfo* info) { return take(pad, info); });
  add_probe(tee_, "sink", GST_PAD_PROBE_TYPE_BUFFER,
            [this](GstPad*, GstPadProbeInfo* info) { return inferred(GST_PAD_PROBE_INFO_BUFFER(info)); });
  // The size of a recording, once it is known, is news for the elements in front of it only. Further up it
  // would make the source ask for buffers anew, and that question ends a group of views.
  add_probe(tee_, "sink", GST_PAD_PROBE_TYPE_EVENT_UPSTREAM, [](GstPad*, GstPadProbeInfo* info) {
    return GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_RECONFIGURE ? GST_PAD_PROBE_DROP
                                                                                   : GST_PAD_PROBE_OK;
  });
  const ObjectPtr<GstElement> fit = element_of(branches_.front()->bin, "fit");
  add_probe(fit.get(), "src", GST_PAD_PROBE_TYPE_BUFFER, [this](GstPad* pad, GstPadProbeInfo* info) {
    return keep_preview(pad, GST_PAD_PROBE_INFO_BUFFER(info));
  });
}

Graph::~Graph() {
  shut_down();
}

void Graph::add_branch(const std::string& file, const std::string& description,
                       const std::filesystem::path& outdir) {
  auto branch = std::make_unique<Branch>();
  branch->file = file;
  GError* error = nullptr;
  const std::string text = "queue max-size-buffers=4 max-size-bytes=0 max-size-time=0 ! " + description;
  branch->bin = gst_parse_bin_from_description(text.c_str(), TRUE, &error);
  const ErrorPtr owned(error);
  if (error != nullptr) {
    if (branch->bin != nullptr) gst_object_unref(gst_object_ref_sink(branch->bin));
    throw DemoError("GStreamer lacks something for " + file + ": " + error->message +
                    "; run scripts/setup.sh.");
  }
  gst_object_set_name(GST_OBJECT(branch->bin), file.c_str());
  const ObjectPtr<GstElement> sink = element_of(branch->bin, "sink");
  g_object_set(sink.get(), "location", (outdir / file).c_str(), nullptr);
  gst_bin_add(GST_BIN(pipeline_.get()), branch->bin);
  if (!gst_element_link(tee_, branch->bin)) throw DemoError("The pipeline of " + file + " cannot be linked.");
  if (file.starts_with("poses.")) {
    branch->pose_sink = sink.get();
  } else {
    watch_recording(*branch, file.ends_with(".mp4"));
  }
  branches_.push_back(std::move(branch));
}

void Graph::show_truth(Branch& branch) {
  const ObjectPtr<GstElement> truth = element_of(branch.bin, "truth");
  add_probe(truth.get(), "sink", GST_PAD_PROBE_TYPE_BUFFER, [](GstPad*, GstPadProbeInfo* info) {
    if (GstBuffer* shown = with_truth_as_prediction(GST_PAD_PROBE_INFO_BUFFER(info))) {
      gst_buffer_unref(GST_PAD_PROBE_INFO_BUFFER(info));
      GST_PAD_PROBE_INFO_DATA(info) = shown;
    }
    return GST_PAD_PROBE_OK;
  });
}

void Graph::watch_recording(Branch& branch, bool for_players) {
  const ObjectPtr<GstElement> scale = element_of(branch.bin, "scale"),
                              encoder = element_of(branch.bin, "enc");
  GstElement* fit = element_of(branch.bin, "fit").get();  // lives as long as the bin
  add_probe(scale.get(), "sink", GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM,
            [&branch, fit, for_players](GstPad*, GstPadProbeInfo* info) {
              GstEvent* event = GST_PAD_PROBE_INFO_EVENT(info);
              const std::lock_guard lock(branch.mutex);
              if (GST_EVENT_TYPE(event) != GST_EVENT_CAPS || branch.fitted) return GST_PAD_PROBE_OK;
              GstCaps* caps = nullptr;
              gst_event_parse_caps(event, &caps);
              if (const CapsPtr fixed = recording_caps(caps, for_players)) {
                g_object_set(fit, "caps", fixed.get(), nullptr);
                branch.fitted = true;
              }
              return GST_PAD_PROBE_OK;
            });
  add_probe(encoder.get(), "src", GST_PAD_PROBE_TYPE_BUFFER, [&branch](GstPad*, GstPadProbeInfo*) {
    ++branch.encoded;
    return GST_PAD_PROBE_OK;
  });
}

// Streaming thread of the source: counts the frames and ends the stream after the last one that is wanted.
GstPadProbeReturn Graph::take(GstPad* pad, GstPadProbeInfo* info) {
  if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM) {
    GstEvent* event = GST_PAD_PROBE_INFO_EVENT(info);
    GstCaps* caps = nullptr;
    GstVideoInfo video;
    if (GST_EVENT_TYPE(event) == GST_EVENT_CAPS) {
      gst_event_parse_caps(event, &caps);
      if (gst_video_info_from_caps(&video, caps) && video.fps_d > 0)
        frame_rate_ = double(video.fps_n) / video.fps_d;
    }
    return GST_PAD_PROBE_OK;
  }
  if (!stopped_ && (!max_frames_ || taken_ < *max_frames_)) {
    if (taken_++ == 0) first_frame_us_ = g_get_monotonic_time();
    return GST_PAD_PROBE_OK;
  }
  gst_buffer_unref(GST_PAD_PROBE_INFO_BUFFER(info));
  GST_PAD_PROBE_INFO_DATA(info) = nullptr;
  GST_PAD_PROBE_INFO_FLOW_RETURN(info) = GST_FLOW_EOS;
  gst_pad_send_event(pad, gst_event_new_eos());
  return GST_PAD_PROBE_HANDLED;
}

GstPadProbeReturn Graph::inferred(GstBuffer* buffer) {
  if (++inferred_ > 1) return GST_PAD_PROBE_OK;
  GstDa3View view;
  if (!gst_buffer_get_da3_view(buffer, &view)) return GST_PAD_PROBE_OK;
  const std::lock_guard lock(mutex_);
  model_info_ = ModelInfo{view.model, view.device, view.precision};
  return GST_PAD_PROBE_OK;
}

// The middle is not known beforehand for every input, and the input may end early: frames 0, 1, 2, 4, 8, ...
// stand in until the target comes.
GstPadProbeReturn Graph::keep_preview(GstPad* pad, GstBuffer* buffer) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t index = preview_seen_++, target = preview_target_;
  const bool power = (index & (index - 1)) == 0;
  if (index != 0 && index != target && !(power && index < target)) return GST_PAD_PROBE_OK;
  const CapsPtr caps(gst_pad_get_current_caps(pad));
  preview_.reset(gst_sample_new(buffer, caps.get(), nullptr, nullptr));
  return GST_PAD_PROBE_OK;
}

bool Graph::play() {
  if (gst_element_set_state(pipeline_.get(), GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE) return false;
  if (input_.kind == Input::Kind::images) {
    feeder_ = std::make_unique<ImageFeeder>(GST_APP_SRC(source_), input_.files);
  }
  return true;
}

void Graph::send_eos_to_inference() {
  send_eos_async(infer_);
}
void Graph::send_eos_to(Branch& branch) {
  send_eos_async(branch.bin);
}

void Graph::shut_down() {
  stop_taking();
  gst_element_set_state(pipeline_.get(), GST_STATE_NULL);
  feeder_.reset();
}

SamplePtr Graph::take_preview() {
  const std::lock_guard lock(mutex_);
  return std::move(preview_);
}

double Graph::seconds() const {
  const gint64 start = first_frame_us_;
  return start == 0 ? 0 : double(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
}

std::optional<Scores> Graph::scores() const {
  if (score_ == nullptr) return std::nullopt;
  GstStructure* summary = nullptr;
  g_object_get(score_, "summary", &summary, nullptr);
  const auto field = [summary](const char* name) -> std::optional<double> {
    gdouble value;
    if (!gst_structure_get_double(summary, name, &value)) return std::nullopt;
    return value;
  };
  const Scores scores{field("abs_rel"),
                      field("delta1"),
                      field("rotation_error_deg"),
                      field("translation_direction_error_deg"),
                      field("auc30"),
                      field("fov_error"),
                      field("ate"),
                      field("ate_relative")};
  gst_structure_free(summary);
  return scores;
}

std::optional<ModelInfo> Graph::model_info() const {
  const std::lock_guard lock(mutex_);
  return model_info_;
}

}  // namespace da3::demo
