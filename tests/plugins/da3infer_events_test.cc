// SPDX-License-Identifier: MIT
//
// da3infer between its pads: groups of views and what closes them, events in their place, queries.
#include <algorithm>

#include "infer_harness.h"

using namespace da3::testing;

// ---- views
// --------------------------------------------------------------------------------------------------------------

GST_START_TEST(views_are_inferred_together_in_order) {
  Infer infer("model=stub: process-res=28 views=3");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 6);
  for (int i = 0; i < 6; ++i) {
    GstBuffer* buffer = infer.pull();
    const GstDa3View view = view_of(buffer);
    fail_unless_equals_uint64(GST_BUFFER_PTS(buffer), i * kFrameTime);
    fail_unless_equals_int64(view.frame, i);
    fail_unless_equals_int64(view.window, i / 3);
    fail_unless_equals_int(view.view_index, i % 3);
    fail_unless_equals_int(view.views, 3);
    assert_near(view.translation[0], colour_of(i).r / 255.0);
    assert_near(view.translation[1], i % 3);
    assert_near(view.translation[2], 3);
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
  fail_unless_equals_int(stub_counters().submitted, 2);
}
GST_END_TEST

// The size that is left to the model is no new setting with every frame.
GST_START_TEST(views_stay_together_at_the_size_of_the_model) {
  Infer infer("model=stub:process-res=28 views=3");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 6);
  for (int i = 0; i < 6; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_int64(view_of(buffer).window, i / 3);
    fail_unless_equals_int(view_of(buffer).views, 3);
    gst_buffer_unref(buffer);
  }
  fail_unless_equals_int(stub_counters().submitted, 2);
}
GST_END_TEST

GST_START_TEST(end_of_stream_closes_a_partial_group) {
  Infer infer("model=stub: process-res=28 views=3");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 5);
  fail_unless(infer.event(gst_event_new_eos()));
  for (int i = 0; i < 5; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_uint64(GST_BUFFER_PTS(buffer), i * kFrameTime);
    fail_unless_equals_int(view_of(buffer).views, i < 3 ? 3 : 2);
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
  infer.wait_eos();
  const Da3StubCounters counters = stub_counters();
  fail_unless_equals_int(counters.submitted, 2);
  fail_unless_equals_int(counters.view_counts[0], 3);
  fail_unless_equals_int(counters.view_counts[1], 2);
}
GST_END_TEST

GST_START_TEST(end_of_stream_before_any_frame) {
  Infer infer("model=stub: views=4");
  infer.caps(56, 28);
  fail_unless(infer.event(gst_event_new_eos()));
  infer.wait_eos();
  fail_unless_equals_int(infer.received(), 0);
  fail_unless_equals_int(stub_counters().submitted, 0);
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(end_of_stream_before_caps) {
  Infer infer("model=stub:");
  fail_unless(infer.event(gst_event_new_stream_start("s")));
  fail_unless(infer.event(gst_event_new_eos()));
  infer.wait_eos();
  infer.bus.expect_no_error();
}
GST_END_TEST

GST_START_TEST(new_caps_close_a_group_and_lose_nothing) {
  Infer infer("model=stub: process-res=56 views=4");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  infer.caps(28, 56);
  infer.push_numbered(28, 56, 2, 1);
  infer.caps(112, 112);
  infer.push_numbered(112, 112, 3, 4);
  const int widths[] = {56, 56, 28, 112, 112, 112, 112};
  const int views[] = {2, 2, 1, 4, 4, 4, 4};
  for (int i = 0; i < 7; ++i) {
    GstBuffer* buffer = infer.pull();
    const GstDa3View view = view_of(buffer);
    fail_unless_equals_uint64(GST_BUFFER_PTS(buffer), i * kFrameTime);
    fail_unless_equals_int(view.image_width, widths[i]);
    fail_unless_equals_int(view.views, views[i]);
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
  fail_unless_equals_int(stub_counters().submitted, 3);
}
GST_END_TEST

GST_START_TEST(the_same_caps_again_close_nothing) {
  Infer infer("model=stub: process-res=28 views=2");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  infer.event(gst_event_new_caps(gst_caps_from_string(rgb_caps(56, 28).c_str())));
  infer.push_numbered(56, 28, 1, 1);
  for (int i = 0; i < 2; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_int(view_of(buffer).views, 2);
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(a_new_segment_closes_a_group) {
  Infer infer("model=stub: process-res=28 views=3");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  segment.start = segment.time = 2 * kFrameTime;
  infer.event(gst_event_new_segment(&segment));
  infer.push_numbered(56, 28, 2, 3);
  for (int i = 0; i < 5; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_int(view_of(buffer).views, i < 2 ? 2 : 3);
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(other_settings_close_a_group) {
  Infer infer("model=stub: process-res=28 views=3");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  g_object_set(infer.element, "process-res", 56, nullptr);
  infer.push_numbered(56, 28, 1, 3);
  std::vector<gsize> dims;
  for (int i = 0; i < 4; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_int(view_of(buffer).views, i < 1 ? 1 : 3);
    tensor_of(buffer, GST_DA3_TENSOR_DEPTH, &dims);
    fail_unless(dims == (i < 1 ? std::vector<gsize>({1, 14, 28}) : std::vector<gsize>({1, 28, 56})));
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(fewer_views_while_a_large_group_is_open) {
  // 9 frames wait for their tenth; the new bound is smaller than that.
  Infer infer("model=stub: process-res=28 views=10 max-batch=1");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 9);
  g_object_set(infer.element, "views", 1, nullptr);
  infer.push_numbered(56, 28, 9, 2);
  for (int i = 0; i < 11; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_int(view_of(buffer).views, i < 9 ? 9 : 1);
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

// ---- events and queries
// ---------------------------------------------------------------------------------------------------

namespace {

struct Log {
  std::vector<std::string> lines;
  std::mutex mutex;
};

GstPadProbeReturn write_log(GstPad*, GstPadProbeInfo* info, gpointer user) {
  auto* log = static_cast<Log*>(user);
  const std::lock_guard lock(log->mutex);
  if (info->type & GST_PAD_PROBE_TYPE_BUFFER) {
    log->lines.push_back("frame " + std::to_string(GST_BUFFER_OFFSET(GST_PAD_PROBE_INFO_BUFFER(info))));
  } else {
    log->lines.emplace_back(GST_EVENT_TYPE_NAME(GST_PAD_PROBE_INFO_EVENT(info)));
  }
  return GST_PAD_PROBE_OK;
}

}  // namespace

GST_START_TEST(events_keep_their_place_between_frames) {
  Infer infer("model=stub: process-res=28 views=2");
  Log log;
  infer.caps(56, 28);
  gst_pad_add_probe(infer.harness->sinkpad,
                    GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM),
                    write_log, &log, nullptr);
  infer.push_numbered(56, 28, 0, 1);
  infer.event(gst_event_new_tag(gst_tag_list_new(GST_TAG_TITLE, "t", nullptr)));
  infer.push_numbered(56, 28, 1, 1);
  infer.event(gst_event_new_gap(2 * kFrameTime, kFrameTime));
  infer.event(gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM, gst_structure_new_empty("mine")));
  infer.push_numbered(56, 28, 3, 1);
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  const std::lock_guard lock(log.mutex);
  // What came before the first frame (stream-start, caps, segment) may or may not have passed the probe.
  const auto first = std::find(log.lines.begin(), log.lines.end(), "frame 0");
  const std::vector<std::string> tail(first, log.lines.end());
  fail_unless(tail == std::vector<std::string>(
                          {"frame 0", "tag", "frame 1", "gap", "custom-downstream", "frame 3", "eos"}));
}
GST_END_TEST

GST_START_TEST(gap_frames_pass_without_inference) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 1);
  GstBuffer* gap = gst_buffer_new();
  GST_BUFFER_FLAG_SET(gap, GST_BUFFER_FLAG_GAP);
  GST_BUFFER_PTS(gap) = kFrameTime;
  fail_unless_equals_int(infer.push(gap), GST_FLOW_OK);
  infer.push_numbered(56, 28, 2, 1);
  for (int i = 0; i < 3; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_uint64(GST_BUFFER_PTS(buffer), i * kFrameTime);
    fail_unless(has_tensor(buffer, GST_DA3_TENSOR_DEPTH) == (i != 1));
    gst_buffer_unref(buffer);
  }
  fail_unless_equals_int(stub_counters().submitted, 2);
}
GST_END_TEST

GST_START_TEST(segments_and_upstream_events_pass) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  segment.rate = 2;
  segment.start = segment.position = 4 * kFrameTime;
  segment.time = 8 * kFrameTime;
  GstEvent* event = gst_event_new_segment(&segment);
  const guint32 number = gst_event_get_seqnum(event);
  infer.event(event);
  infer.push_numbered(56, 28, 4, 1);
  gst_buffer_unref(infer.pull());
  event = gst_pad_get_sticky_event(infer.harness->sinkpad, GST_EVENT_SEGMENT, 0);
  const GstSegment* got = nullptr;
  gst_event_parse_segment(event, &got);
  fail_unless(gst_segment_is_equal(got, &segment));
  fail_unless_equals_int(gst_event_get_seqnum(event), number);
  gst_event_unref(event);

  gst_harness_push_upstream_event(
      infer.harness, gst_event_new_seek(1, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH, GST_SEEK_TYPE_SET,
                                        GST_SECOND, GST_SEEK_TYPE_NONE, 0));
  bool seek = false;
  while (GstEvent* up = gst_harness_try_pull_upstream_event(infer.harness)) {
    seek |= GST_EVENT_TYPE(up) == GST_EVENT_SEEK;
    gst_event_unref(up);
  }
  fail_unless(seek);
}
GST_END_TEST

GST_START_TEST(a_new_stream_after_the_end) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 2);
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  infer.event(gst_event_new_stream_start("second"));
  infer.caps(28, 28);
  infer.push_numbered(28, 28, 5, 1);
  for (int i = 0; i < 3; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_int64(view_of(buffer).frame, i < 2 ? i : 0);
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(drain_waits_for_the_frames_before_it) {
  Infer infer("model=stub: process-res=28 views=4");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 3);
  GstQuery* query = gst_query_new_drain();
  gst_pad_peer_query(infer.harness->srcpad, query);
  gst_query_unref(query);
  fail_unless_equals_int(infer.received(), 3);
}
GST_END_TEST

GST_START_TEST(allocation_is_what_downstream_says_with_room_for_our_frames) {
  Infer infer("model=stub: process-res=28 max-batch=2");
  infer.caps(56, 28);
  gst_harness_add_propose_allocation_meta(infer.harness, GST_VIDEO_META_API_TYPE, nullptr);
  const auto add_pool = [](GstPad*, GstPadProbeInfo* info, gpointer) {
    GstQuery* query = GST_PAD_PROBE_INFO_QUERY(info);
    if (GST_QUERY_TYPE(query) == GST_QUERY_ALLOCATION)
      gst_query_add_allocation_pool(query, nullptr, 4704, 1, 2);
    return GST_PAD_PROBE_OK;
  };
  gst_pad_add_probe(infer.harness->sinkpad,
                    GstPadProbeType(GST_PAD_PROBE_TYPE_QUERY_DOWNSTREAM | GST_PAD_PROBE_TYPE_PULL), add_pool,
                    nullptr, nullptr);
  GstCaps* caps = gst_caps_from_string(rgb_caps(56, 28).c_str());
  GstQuery* query = gst_query_new_allocation(caps, TRUE);
  fail_unless(gst_pad_peer_query(infer.harness->srcpad, query));
  fail_unless(gst_query_find_allocation_meta(query, GST_VIDEO_META_API_TYPE, nullptr));
  fail_unless_equals_int(int(gst_query_get_n_allocation_pools(query)), 1);
  guint size, min, max;
  gst_query_parse_nth_allocation_pool(query, 0, nullptr, &size, &min, &max);
  fail_unless(max >= 2 + 4, "a pool of %u would run dry", max);
  gst_query_unref(query);
  gst_caps_unref(caps);
}
GST_END_TEST

GST_START_TEST(latency_is_learned) {
  Infer infer("model=stub:queued-us=1000 process-res=28 views=3 max-batch=1 drop-policy=never", Source::live);
  gst_harness_use_testclock(infer.harness);  // no time passes but what the stub says
  infer.caps(56, 28);
  gst_harness_set_upstream_latency(infer.harness, 5 * GST_MSECOND);
  // Unknown yet, but the first of three views waits for two more frames of 40 ms.
  fail_unless_equals_uint64(gst_harness_query_latency(infer.harness), 85 * GST_MSECOND);
  infer.push_numbered(56, 28, 0, 12);
  for (int i = 0; i < 12; ++i) gst_buffer_unref(infer.pull());
  // The stub says 1 ms in its queue and 1 ms of forward pass.
  fail_unless_equals_uint64(gst_harness_query_latency(infer.harness), 87 * GST_MSECOND);
}
GST_END_TEST

namespace {

// A live source that can hold back frames for 20 ms.
gboolean answer_latency(GstPad* pad, GstObject* parent, GstQuery* query) {
  if (GST_QUERY_TYPE(query) != GST_QUERY_LATENCY) return gst_pad_query_default(pad, parent, query);
  gst_query_set_latency(query, TRUE, 5 * GST_MSECOND, 20 * GST_MSECOND);
  return TRUE;
}

void expect_latency(Infer& infer, GstClockTime min, GstClockTime max) {
  GstQuery* query = gst_query_new_latency();
  fail_unless(gst_pad_peer_query(infer.harness->sinkpad, query));
  gboolean live = FALSE;
  GstClockTime found_min = 0, found_max = 0;
  gst_query_parse_latency(query, &live, &found_min, &found_max);
  gst_query_unref(query);
  fail_unless(live);
  fail_unless_equals_uint64(found_min, min);
  fail_unless_equals_uint64(found_max, max);
}

}  // namespace

GST_START_TEST(a_latency_that_ends_upstream_ends_here) {
  const std::string rated = rgb_caps(56, 28);
  const size_t rate = rated.find("25/1");
  for (const std::string& caps : {rated, std::string(rated).replace(rate, 4, "0/1")}) {
    Infer infer("model=stub:queued-us=1000 process-res=28 max-batch=2 drop-policy=never", Source::live);
    gst_harness_use_testclock(infer.harness);
    gst_pad_set_query_function(infer.harness->srcpad, answer_latency);
    infer.caps(caps);
    // Four frames fit into the list, which is a time if that of a frame is known.
    const bool known = caps == rated;
    expect_latency(infer, 5 * GST_MSECOND, known ? 20 * GST_MSECOND + 4 * kFrameTime : 20 * GST_MSECOND);
    infer.push_numbered(56, 28, 0, 4);
    for (int i = 0; i < 4; ++i) gst_buffer_unref(infer.pull());
    expect_latency(infer, 7 * GST_MSECOND, known ? 20 * GST_MSECOND + 4 * kFrameTime : 22 * GST_MSECOND);
  }
}
GST_END_TEST

GST_START_TEST(caps_pass_through_both_ways) {
  Infer infer("model=stub:");
  gst_harness_set_sink_caps_str(infer.harness, "video/x-raw,format=NV12,width=320");
  GstCaps* caps = gst_pad_peer_query_caps(infer.harness->srcpad, nullptr);
  GstCaps* good = gst_caps_from_string("video/x-raw,format=NV12,width=320,height=200,framerate=25/1");
  GstCaps* other = gst_caps_from_string("video/x-raw,format=RGB,width=320,height=200,framerate=25/1");
  GstCaps* memory = gst_caps_from_string("video/x-raw(memory:GLMemory),format=NV12,width=320,height=200");
  fail_unless(gst_caps_can_intersect(caps, good));
  fail_if(gst_caps_can_intersect(caps, other));
  fail_if(gst_caps_can_intersect(caps, memory));
  for (GstCaps* each : {caps, good, other, memory}) gst_caps_unref(each);
}
GST_END_TEST

static Suite* da3infer_events_suite() {
  Suite* suite = suite_create("da3infer-events");
  TCase* views = tcase_create("views");
  tcase_add_test(views, views_are_inferred_together_in_order);
  tcase_add_test(views, views_stay_together_at_the_size_of_the_model);
  tcase_add_test(views, end_of_stream_closes_a_partial_group);
  tcase_add_test(views, end_of_stream_before_any_frame);
  tcase_add_test(views, end_of_stream_before_caps);
  tcase_add_test(views, new_caps_close_a_group_and_lose_nothing);
  tcase_add_test(views, the_same_caps_again_close_nothing);
  tcase_add_test(views, a_new_segment_closes_a_group);
  tcase_add_test(views, other_settings_close_a_group);
  tcase_add_test(views, fewer_views_while_a_large_group_is_open);
  suite_add_tcase(suite, views);

  TCase* events = tcase_create("events");
  tcase_add_test(events, events_keep_their_place_between_frames);
  tcase_add_test(events, gap_frames_pass_without_inference);
  tcase_add_test(events, segments_and_upstream_events_pass);
  tcase_add_test(events, a_new_stream_after_the_end);
  tcase_add_test(events, drain_waits_for_the_frames_before_it);
  tcase_add_test(events, allocation_is_what_downstream_says_with_room_for_our_frames);
  tcase_add_test(events, latency_is_learned);
  tcase_add_test(events, a_latency_that_ends_upstream_ends_here);
  tcase_add_test(events, caps_pass_through_both_ways);
  suite_add_tcase(suite, events);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_events_suite(), "da3infer_events", __FILE__);
}
