// SPDX-License-Identifier: MIT
//
// da3extract as an element: caps and tags, times, metas and events, properties, recording.
#include <clocale>
#include <cstdlib>
#include <filesystem>

#include "extract_samples.h"

using namespace da3::testing;

namespace {

std::string comment_of(GstEvent* event) {
  GstTagList* tags = nullptr;
  gst_event_parse_tag(event, &tags);
  gchar* text = nullptr;
  if (!gst_tag_list_get_string(tags, GST_TAG_COMMENT, &text)) return {};
  std::string result = text;
  g_free(text);
  return result;
}

// All comments that came out since the last call.
std::vector<std::string> comments_out(GstHarness* h) {
  std::vector<std::string> comments;
  while (GstEvent* event = gst_harness_try_pull_event(h)) {
    if (GST_EVENT_TYPE(event) == GST_EVENT_TAG) comments.push_back(comment_of(event));
    gst_event_unref(event);
  }
  return comments;
}

void assert_caps_lacks(GstHarness* h, const char* part) {
  const std::string caps = sink_caps_text(h);
  fail_unless(caps.find(part) == std::string::npos, "%s is in %s", part, caps.c_str());
}

}  // namespace

// --- caps and tags
// --------------------------------------------------------------------------------------------------

GST_START_TEST(test_caps_of_depth) {
  Bench bench("da3extract");
  bench.caps("video/x-raw,format=NV12,width=64,height=48,framerate=25/1,pixel-aspect-ratio=4/3");
  GstDa3View view = example_view(64, 48, GST_DA3_DEPTH_KIND_METRIC);
  extract(bench, depth_frame(bench, FloatMap(28, 14, 1), 0, &view));
  GstCaps* caps = gst_pad_get_current_caps(bench.h->sinkpad);
  GstCaps* want = gst_caps_from_string(
      "video/x-raw,format=GRAY16_LE,width=28,height=14,framerate=25/1,pixel-aspect-ratio=1/1,"
      "depth-encoding=linear,depth-unit=metre,depth-scale=(double)0.001,depth-offset=(double)0,depth-invalid="
      "0");
  fail_unless(gst_caps_is_subset(caps, want), "%s", sink_caps_text(bench.h).c_str());
  gst_caps_unref(want);
  gst_caps_unref(caps);
}
GST_END_TEST;

GST_START_TEST(test_caps_of_the_other_planes) {
  const struct {
    const char *launch, *id, *has, *lacks;
  } cases[] = {
      {"da3extract", GST_DA3_TENSOR_DEPTH, "depth-unit=(string)relative", "da3-kind"},
      {"da3extract plane=disparity", GST_DA3_TENSOR_DEPTH, "depth-encoding=(string)inverse", "linear"},
      {"da3extract plane=disparity", GST_DA3_TENSOR_DEPTH, "depth-scale=(double)0.0001", "da3-kind"},
      {"da3extract plane=confidence", GST_DA3_TENSOR_CONFIDENCE, "da3-kind=(string)confidence", "depth-"},
      {"da3extract plane=confidence", GST_DA3_TENSOR_CONFIDENCE, "value-scale=(double)0.001", "depth-"},
      {"da3extract plane=sky", GST_DA3_TENSOR_SKY, "format=(string)GRAY8", "-scale"},
      {"da3extract plane=sky", GST_DA3_TENSOR_SKY, "da3-kind=(string)sky", "depth-"},
      {"da3extract depth-scale=0.5 depth-offset=2", GST_DA3_TENSOR_DEPTH, "depth-scale=(double)0.5", "0.001"},
      {"da3extract depth-scale=0.5 depth-offset=2", GST_DA3_TENSOR_DEPTH, "depth-offset=(double)2",
       "inverse"}};
  for (const auto& c : cases) {
    Bench bench(c.launch);
    bench.caps(kRgb64);
    extract(bench, frame(bench, c.id, FloatMap(28, 14, 1)));
    assert_caps_has(bench.h, c.has);
    assert_caps_lacks(bench.h, c.lacks);
  }
}
GST_END_TEST;

GST_START_TEST(test_source_size_keeps_size_and_aspect) {
  Bench bench("da3extract output-size=source");
  bench.caps("video/x-raw,format=NV12,width=64,height=48,framerate=25/1,pixel-aspect-ratio=4/3");
  extract(bench, depth_frame(bench, FloatMap(28, 14, 1)));
  fail_unless_equals_int(sink_caps_int(bench.h, "width"), 64);
  assert_caps_has(bench.h, "pixel-aspect-ratio=(fraction)4/3");
}
GST_END_TEST;

GST_START_TEST(test_sizes_offered_upstream) {
  const struct {
    const char *launch, *filter, *want;
  } cases[] = {{"da3extract output-size=source", "video/x-raw,width=[1,640],height=48", "width=(int)100"},
               // The size of the map is the model's: any picture will do.
               {"da3extract", "video/x-raw,width=[1,640],height=48", "width=(int)[ 1, 640 ]"},
               // Nobody can give that: refused with a sentence at the first frame.
               {"da3extract output-size=source", "video/x-raw,width=64,height=48", "width=(int)64"}};
  for (const auto& c : cases) {
    Bench bench(c.launch);
    gst_harness_set_sink_caps_str(bench.h, "video/x-raw,width=100");
    GstCaps* filter = gst_caps_from_string(c.filter);
    GstCaps* offered = gst_pad_peer_query_caps(bench.h->srcpad, filter);
    gchar* text = gst_caps_to_string(offered);
    fail_unless(std::string(text).find(c.want) != std::string::npos, "%s: %s", c.launch, text);
    g_free(text);
    gst_caps_unref(offered);
    gst_caps_unref(filter);
  }
}
GST_END_TEST;

GST_START_TEST(test_source_size_refused_downstream) {
  Bench bench("da3extract output-size=source");
  gst_harness_set_sink_caps_str(bench.h, "video/x-raw,width=100");
  bench.caps(kRgb64);
  fail_unless(gst_harness_push(bench.h, depth_frame(bench, FloatMap(28, 14, 1))) == GST_FLOW_ERROR);
  assert_error(bench, GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, "it takes video/x-raw, width=(int)100");
}
GST_END_TEST;

GST_START_TEST(test_caps_stay_the_same_whatever_the_depth) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  for (int i = 0; i < 20; ++i) {
    GstDa3View view = example_view(64, 48);
    view.depth.max = i + 1;
    extract(bench,
            depth_frame(bench, noisy_map(28, 14, 0.1f, 1 + float(i) * 3, i), i * GST_SECOND / 30, &view));
  }
  int caps_events = 0;
  for (GstEventType type : events_out(bench.h)) caps_events += type == GST_EVENT_CAPS;
  fail_unless_equals_int(caps_events, 1);
}
GST_END_TEST;

GST_START_TEST(test_change_of_size_kind_and_plane) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  extract(bench, depth_frame(bench, FloatMap(28, 14, 1)));
  extract(bench, depth_frame(bench, FloatMap(42, 28, 1)));
  fail_unless_equals_int(sink_caps_int(bench.h, "width"), 42);
  GstDa3View metric = example_view(64, 48, GST_DA3_DEPTH_KIND_METRIC);
  extract(bench, depth_frame(bench, FloatMap(42, 28, 1), 0, &metric));
  assert_caps_has(bench.h, "depth-unit=(string)metre");
  comments_out(bench.h);
  GstElement* element = bench.element("da3extract");
  gst_util_set_object_arg(G_OBJECT(element), "plane", "sky");
  extract(bench, frame(bench, GST_DA3_TENSOR_SKY, FloatMap(14, 14, 1)));
  assert_caps_has(bench.h, "format=(string)GRAY8");
  fail_unless(comments_out(bench.h) == std::vector<std::string>{"da3-kind=sky"});
  gst_object_unref(element);
}
GST_END_TEST;

GST_START_TEST(test_comment_tag_once_after_caps) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  GstDa3View view = example_view(64, 48, GST_DA3_DEPTH_KIND_METRIC);
  for (int i = 0; i < 3; ++i) extract(bench, depth_frame(bench, FloatMap(28, 14, 1), 0, &view));
  std::vector<GstEventType> order;
  std::string comment;
  while (GstEvent* event = gst_harness_try_pull_event(bench.h)) {
    order.push_back(GST_EVENT_TYPE(event));
    if (GST_EVENT_TYPE(event) == GST_EVENT_TAG) comment = comment_of(event);
    gst_event_unref(event);
  }
  fail_unless(order == std::vector<GstEventType>(
                           {GST_EVENT_STREAM_START, GST_EVENT_CAPS, GST_EVENT_SEGMENT, GST_EVENT_TAG}));
  fail_unless_equals_string(
      comment.c_str(),
      "depth-encoding=linear,depth-unit=metre,depth-scale=0.001,depth-offset=0,depth-invalid=0");
}
GST_END_TEST;

GST_START_TEST(test_comment_tag_joins_tags_of_upstream) {
  const auto tags = [](const char* title) {
    return gst_event_new_tag(gst_tag_list_new(GST_TAG_TITLE, title, GST_TAG_COMMENT, "by hand", nullptr));
  };
  Bench bench("da3extract");
  bench.caps(kRgb64);
  gst_harness_push_event(bench.h, tags("first"));
  extract(bench, depth_frame(bench, FloatMap(28, 14, 1)));
  gst_harness_push_event(bench.h, tags("second"));
  std::vector<std::string> titles;
  while (GstEvent* event = gst_harness_try_pull_event(bench.h)) {
    if (GST_EVENT_TYPE(event) == GST_EVENT_TAG) {
      GstTagList* list = nullptr;
      gst_event_parse_tag(event, &list);
      gchar* title = nullptr;
      if (gst_tag_list_get_string(list, GST_TAG_TITLE, &title)) titles.push_back(title);
      g_free(title);
      const std::string comment = comment_of(event);
      fail_unless(comment.starts_with("depth-encoding=linear"), "%s", comment.c_str());
      gchar* theirs = nullptr;
      fail_unless(gst_tag_list_get_string_index(list, GST_TAG_COMMENT, 1, &theirs));
      fail_unless_equals_string(theirs, "by hand");
      g_free(theirs);
    }
    gst_event_unref(event);
  }
  fail_unless(titles == std::vector<std::string>({"first", "second"}));
}
GST_END_TEST;

GST_START_TEST(test_tags_of_the_whole_file_pass_unchanged) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  extract(bench, depth_frame(bench, FloatMap(28, 14, 1)));
  comments_out(bench.h);
  GstTagList* list = gst_tag_list_new(GST_TAG_COMMENT, "of the file", nullptr);
  gst_tag_list_set_scope(list, GST_TAG_SCOPE_GLOBAL);
  gst_harness_push_event(bench.h, gst_event_new_tag(list));
  fail_unless(comments_out(bench.h) == std::vector<std::string>{"of the file"});
}
GST_END_TEST;

GST_START_TEST(test_numbers_in_the_comment_do_not_depend_on_the_locale) {
  if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8")) return;
  Bench bench("da3extract plane=disparity");
  bench.caps(kRgb64);
  extract(bench, depth_frame(bench, FloatMap(28, 14, 1)));
  const auto comments = comments_out(bench.h);
  setlocale(LC_NUMERIC, "C");
  fail_unless(comments.at(0).find("depth-scale=0.0001,") != std::string::npos, "%s", comments.at(0).c_str());
}
GST_END_TEST;

// --- stream
// ---------------------------------------------------------------------------------------------------------

GST_START_TEST(test_times_and_flags_are_kept) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  GstBuffer* in = depth_frame(bench, FloatMap(28, 14, 1), 7 * GST_SECOND);
  GST_BUFFER_DURATION(in) = 33;
  GST_BUFFER_OFFSET(in) = 5;
  GST_BUFFER_OFFSET_END(in) = 6;
  GST_BUFFER_FLAG_SET(in, GST_BUFFER_FLAG_DISCONT | GST_BUFFER_FLAG_CORRUPTED);
  GST_BUFFER_FLAG_SET(in, GST_VIDEO_BUFFER_FLAG_INTERLACED | GST_VIDEO_BUFFER_FLAG_TFF);
  GstBuffer* out = gst_harness_push_and_pull(bench.h, in);
  fail_unless_equals_uint64(GST_BUFFER_PTS(out), 7 * GST_SECOND);
  fail_unless_equals_uint64(GST_BUFFER_DURATION(out), 33);
  fail_unless_equals_uint64(GST_BUFFER_OFFSET(out), 5);
  fail_unless_equals_uint64(GST_BUFFER_OFFSET_END(out), 6);
  fail_unless(GST_BUFFER_FLAG_IS_SET(out, GST_BUFFER_FLAG_DISCONT));
  fail_unless(GST_BUFFER_FLAG_IS_SET(out, GST_BUFFER_FLAG_CORRUPTED));
  fail_if(GST_BUFFER_FLAG_IS_SET(out, GST_VIDEO_BUFFER_FLAG_INTERLACED), "a map has no fields");
  gst_buffer_unref(out);
}
GST_END_TEST;

GST_START_TEST(test_view_belongs_to_the_output) {
  GstDa3View view = example_view(64, 48);
  view.has_intrinsics = TRUE;
  view.fx = view.fy = 60;
  view.cx = 32;
  view.cy = 24;
  view.depth_x = 8;
  view.depth_w = 48;
  view.translation[2] = 4;
  const auto view_out = [&](const char* launch) {
    Bench bench(launch);
    bench.caps(kRgb64);
    GstBuffer* out = gst_harness_push_and_pull(bench.h, depth_frame(bench, FloatMap(24, 16, 1), 0, &view));
    GstDa3View got;
    fail_unless(gst_buffer_get_da3_view(out, &got));
    gst_buffer_unref(out);
    return got;
  };
  const GstDa3View source = view_out("da3extract output-size=source");
  fail_unless(source.fx == 60 && source.cx == 32 && source.image_width == 64 && source.depth_x == 8);
  const GstDa3View model = view_out("da3extract");
  // 48 columns from column 8 on become 24, 48 rows become 16.
  fail_unless(model.fx == 30 && model.fy == 20 && model.cx == 12 && model.cy == 8);
  fail_unless(model.image_width == 24 && model.image_height == 16);
  fail_unless(model.depth_x == 0 && model.depth_w == 24 && model.depth_h == 16);
  fail_unless(model.source_x == 8 && model.source_w == 48 && model.source_h == 48 &&
              model.source_width == 64);
  fail_unless(model.translation[2] == 4 && model.processed);
}
GST_END_TEST;

GST_START_TEST(test_no_view_is_invented) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  GstBuffer* in = picture(bench.info);
  attach(in, GST_DA3_TENSOR_DEPTH, FloatMap(28, 14, 2));
  GstBuffer* out = gst_harness_push_and_pull(bench.h, in);
  GstDa3View view;
  fail_if(gst_buffer_get_da3_view(out, &view));
  GstDa3Tensor tensor;
  fail_if(gst_buffer_get_da3_tensor(out, GST_DA3_TENSOR_DEPTH, &tensor));
  gst_buffer_unref(out);
}
GST_END_TEST;

GST_START_TEST(test_eos_before_any_frame) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  gst_harness_push_event(bench.h, gst_event_new_gap(0, 1));
  gst_harness_push_event(bench.h, gst_event_new_eos());
  fail_unless(events_out(bench.h) ==
              std::vector<GstEventType>({GST_EVENT_STREAM_START, GST_EVENT_SEGMENT, GST_EVENT_EOS}));
  fail_unless(bench.message(GST_MESSAGE_ERROR) == nullptr);
}
GST_END_TEST;

GST_START_TEST(test_flush_before_and_after_the_first_frame) {
  Bench bench("da3extract");
  bench.caps(kRgb64);
  for (int round = 0; round < 3; ++round) {
    gst_harness_push_event(bench.h, gst_event_new_flush_start());
    gst_harness_push_event(bench.h, gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    segment.start = round * GST_SECOND;
    gst_harness_push_event(bench.h, gst_event_new_segment(&segment));
    if (round > 0) extract(bench, depth_frame(bench, FloatMap(28, 14, 2), round * GST_SECOND));
  }
  GstEvent* event = gst_pad_get_sticky_event(bench.h->sinkpad, GST_EVENT_SEGMENT, 0);
  const GstSegment* last = nullptr;
  gst_event_parse_segment(event, &last);
  fail_unless_equals_uint64(last->start, 2 * GST_SECOND);
  gst_event_unref(event);
}
GST_END_TEST;

GST_START_TEST(test_fifty_size_changes) {
  for (const char* size : {"model", "source"}) {
    Bench bench((std::string("da3extract output-size=") + size).c_str());
    Noise noise;
    for (int i = 0; i < 50; ++i) {
      gchar* caps = g_strdup_printf("video/x-raw,format=GRAY8,width=%d,height=%d,framerate=30/1",
                                    int(noise.next(1, 200)), int(noise.next(1, 200)));
      bench.caps(caps);
      const FloatMap depth = noisy_map(int(noise.next(1, 90)), int(noise.next(1, 90)), -0.1f, 9, i);
      const int want = size[0] == 'm' ? depth.width * depth.height : bench.info.width * bench.info.height;
      fail_unless_equals_int(int(extract(bench, depth_frame(bench, depth, i * GST_SECOND / 30)).size()),
                             want);
      g_free(caps);
    }
  }
}
GST_END_TEST;

GST_START_TEST(test_properties) {
  GstElement* element = gst_element_factory_make("da3extract", nullptr);
  guint count = 0;
  GParamSpec** specs = g_object_class_list_properties(G_OBJECT_GET_CLASS(element), &count);
  int own = 0;
  for (guint i = 0; i < count; ++i) {
    if (specs[i]->owner_type != G_OBJECT_TYPE(element)) continue;
    ++own;
    fail_unless(specs[i]->flags & GST_PARAM_MUTABLE_PLAYING, "%s", specs[i]->name);
    GValue value = G_VALUE_INIT;
    g_object_get_property(G_OBJECT(element), specs[i]->name, &value);
    fail_unless(g_param_value_defaults(specs[i], &value), "%s", specs[i]->name);
    g_value_unset(&value);
  }
  fail_unless_equals_int(own, 4);
  g_free(specs);
  g_object_set(element, "depth-offset", -3.5, nullptr);
  gdouble offset = 0;
  g_object_get(element, "depth-offset", &offset, nullptr);
  fail_unless(offset == -3.5);
  gst_object_unref(element);
}
GST_END_TEST;

// --- recording
// ------------------------------------------------------------------------------------------------------

constexpr int kRecorded = 12;

// Attaches noise with every special sample to each frame of a pipeline.
GstPadProbeReturn add_depth(GstPad*, GstPadProbeInfo* info, gpointer counter) {
  GstBuffer* buffer = gst_buffer_make_writable(GST_PAD_PROBE_INFO_BUFFER(info));
  GST_PAD_PROBE_INFO_DATA(info) = buffer;
  FloatMap depth = noisy_map(70, 42, 0.001f, 70, uint32_t(++*static_cast<int*>(counter)));
  for (size_t i = 0; i < depth.values.size(); i += 9) depth.values[i] = i % 2 ? kNan : kInf;
  attach(buffer, GST_DA3_TENSOR_DEPTH, depth);
  const GstDa3View view = example_view(64, 48, GST_DA3_DEPTH_KIND_METRIC);
  gst_buffer_add_da3_view(buffer, &view);
  return GST_PAD_PROBE_OK;
}

struct Collected {
  std::vector<std::vector<uint8_t>> frames;
  std::string comment;
};

void collect(GstElement*, GstBuffer* buffer, GstPad*, gpointer out) {
  static_cast<Collected*>(out)->frames.push_back(bytes_of(buffer));
}

void run_to_end(GstElement* pipeline, Collected* out) {
  if (GstElement* sink = gst_bin_get_by_name(GST_BIN(pipeline), "c")) {
    g_object_set(sink, "signal-handoffs", TRUE, nullptr);
    g_signal_connect(sink, "handoff", G_CALLBACK(collect), out);
    gst_object_unref(sink);
  }
  GstBus* bus = gst_element_get_bus(pipeline);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  for (bool done = false; !done;) {
    GstMessage* message = gst_bus_timed_pop_filtered(
        bus, 30 * GST_SECOND, GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR | GST_MESSAGE_TAG));
    fail_unless(message != nullptr, "the pipeline does not end");
    fail_if(GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR, "%s",
            parse(gst_message_ref(message)).text.c_str());
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_TAG) {
      GstTagList* tags = nullptr;
      gst_message_parse_tag(message, &tags);
      gchar* text = nullptr;
      if (gst_tag_list_get_string(tags, GST_TAG_COMMENT, &text)) out->comment = text;
      g_free(text);
      gst_tag_list_unref(tags);
    }
    done = GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS;
    gst_message_unref(message);
  }
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(bus);
  gst_object_unref(pipeline);
}

GST_START_TEST(test_recording_is_bit_identical) {
  for (const char* name : {"avenc_ffv1", "avdec_ffv1", "matroskamux", "matroskademux"}) {
    GstElementFactory* factory = gst_element_factory_find(name);
    fail_unless(factory != nullptr, "There is no %s: gst-libav and gst-plugins-good are needed here", name);
    gst_object_unref(factory);
  }
  std::string folder = (std::filesystem::temp_directory_path() / "da3-extract-XXXXXX").string();
  fail_unless(mkdtemp(folder.data()) != nullptr);
  const std::string file = folder + "/depth.mkv";

  const std::string record =
      "videotestsrc num-buffers=" + std::to_string(kRecorded) +
      " ! video/x-raw,width=64,height=48,framerate=25/1 ! identity name=i ! da3extract ! tee name=t "
      "t. ! queue ! fakesink name=c sync=false async=false "
      "t. ! queue ! avenc_ffv1 ! matroskamux ! filesink location=" +
      file;
  GstElement* pipeline = gst_parse_launch(record.c_str(), nullptr);
  GstElement* identity = gst_bin_get_by_name(GST_BIN(pipeline), "i");
  GstPad* pad = gst_element_get_static_pad(identity, "src");
  int counter = 0;
  gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, add_depth, &counter, nullptr);
  gst_object_unref(pad);
  gst_object_unref(identity);
  Collected sent, read;
  run_to_end(pipeline, &sent);
  fail_unless_equals_int(int(sent.frames.size()), kRecorded);
  fail_unless(sent.frames[0] != sent.frames[1]);

  const std::string play =
      "filesrc location=" + file +
      " ! matroskademux ! avdec_ffv1 ! video/x-raw,format=GRAY16_LE,width=70,height=42,framerate=25/1 ! "
      "fakesink name=c sync=false";
  run_to_end(gst_parse_launch(play.c_str(), nullptr), &read);
  std::filesystem::remove_all(folder);
  fail_unless_equals_int(int(read.frames.size()), kRecorded);
  for (int i = 0; i < kRecorded; ++i) fail_unless(read.frames[i] == sent.frames[i], "frame %d", i);
  fail_unless(read.comment.find("depth-unit=metre,depth-scale=0.001") != std::string::npos, "%s",
              read.comment.c_str());
}
GST_END_TEST;

GST_START_TEST(test_downstream_frame_rate_reaches_the_source) {
  GstElement* pipeline = gst_parse_launch(
      "videotestsrc num-buffers=3 ! identity name=i ! da3extract output-size=source ! "
      "video/x-raw,framerate=7/1,width=66,height=30 ! fakesink name=c",
      nullptr);
  GstElement* identity = gst_bin_get_by_name(GST_BIN(pipeline), "i");
  GstPad* pad = gst_element_get_static_pad(identity, "src");
  int counter = 0;
  gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, add_depth, &counter, nullptr);
  gst_object_unref(pad);
  gst_object_unref(identity);
  Collected out;
  run_to_end(pipeline, &out);
  fail_unless_equals_int(int(out.frames.size()), 3);
  fail_unless_equals_int(int(out.frames[0].size()), 66 * 30 * 2);
}
GST_END_TEST;

static Suite* da3extract_stream_suite(void) {
  Suite* suite = suite_create("da3extract-stream");
  TCase* tc = tcase_create("all");
  tcase_set_timeout(tc, 120);
  suite_add_tcase(suite, tc);
  tcase_add_test(tc, test_caps_of_depth);
  tcase_add_test(tc, test_caps_of_the_other_planes);
  tcase_add_test(tc, test_source_size_keeps_size_and_aspect);
  tcase_add_test(tc, test_sizes_offered_upstream);
  tcase_add_test(tc, test_source_size_refused_downstream);
  tcase_add_test(tc, test_caps_stay_the_same_whatever_the_depth);
  tcase_add_test(tc, test_change_of_size_kind_and_plane);
  tcase_add_test(tc, test_comment_tag_once_after_caps);
  tcase_add_test(tc, test_comment_tag_joins_tags_of_upstream);
  tcase_add_test(tc, test_tags_of_the_whole_file_pass_unchanged);
  tcase_add_test(tc, test_numbers_in_the_comment_do_not_depend_on_the_locale);
  tcase_add_test(tc, test_times_and_flags_are_kept);
  tcase_add_test(tc, test_view_belongs_to_the_output);
  tcase_add_test(tc, test_no_view_is_invented);
  tcase_add_test(tc, test_eos_before_any_frame);
  tcase_add_test(tc, test_flush_before_and_after_the_first_frame);
  tcase_add_test(tc, test_fifty_size_changes);
  tcase_add_test(tc, test_properties);
  tcase_add_test(tc, test_recording_is_bit_identical);
  tcase_add_test(tc, test_downstream_frame_rate_reaches_the_source);
  return suite;
}

GST_CHECK_MAIN(da3extract_stream)
