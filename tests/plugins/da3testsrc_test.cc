// SPDX-License-Identifier: MIT
//
// da3testsrc: frames, truth, seeking, ends, refusals.
#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#include <gst/da3/da3.h>
#include <gst/video/video.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

namespace {

struct Frame {
  guint64 offset = 0;
  GstClockTime pts = 0, duration = 0;
  std::vector<guint8> bytes;
  GstDa3View view{};
  std::vector<float> depth, sky;
  gsize rows = 0, columns = 0;
};

std::vector<float> floats(GstBuffer* buffer, const char* id, gsize* rows, gsize* columns) {
  GstDa3Tensor tensor;
  fail_unless(gst_buffer_get_da3_tensor(buffer, id, &tensor), "no tensor %s", id);
  fail_unless_equals_int(tensor.n_dims, 3);
  fail_unless_equals_int(tensor.dims[0], 1);
  *rows = tensor.dims[1];
  *columns = tensor.dims[2];
  std::vector<float> values(*rows * *columns);
  fail_unless_equals_int(gst_buffer_extract(tensor.data, 0, values.data(), values.size() * 4),
                         values.size() * 4);
  return values;
}

Frame read(GstBuffer* buffer) {
  Frame f;
  f.offset = GST_BUFFER_OFFSET(buffer);
  f.pts = GST_BUFFER_PTS(buffer);
  f.duration = GST_BUFFER_DURATION(buffer);
  f.bytes.resize(gst_buffer_get_size(buffer));
  gst_buffer_extract(buffer, 0, f.bytes.data(), f.bytes.size());
  fail_unless(gst_buffer_get_da3_view_by_role(buffer, GST_DA3_ROLE_TRUTH, &f.view));
  f.depth = floats(buffer, "da3-depth-truth", &f.rows, &f.columns);
  f.sky = floats(buffer, "da3-sky-truth", &f.rows, &f.columns);
  return f;
}

// `launch` starts with the properties of da3testsrc.
GstHarness* harness(std::string launch) {
  // A parsed bin cannot end in bare caps.
  const size_t caps = launch.find("! video/x-raw");
  if (caps != std::string::npos) launch.insert(caps + 2, "capsfilter caps=");
  GstHarness* h = gst_harness_new_parse(("da3testsrc " + launch).c_str());
  fail_unless(h != nullptr);
  return h;
}

std::vector<Frame> pull(const std::string& launch, int count) {
  GstHarness* h = harness(launch);
  gst_harness_play(h);
  std::vector<Frame> frames;
  for (int i = 0; i < count; ++i) {
    GstBuffer* buffer = gst_harness_pull(h);
    fail_unless(buffer != nullptr, "only %d frames", i);
    frames.push_back(read(buffer));
    gst_buffer_unref(buffer);
  }
  gst_harness_teardown(h);
  return frames;
}

const char* small = " ! video/x-raw,width=64,height=48,framerate=30/1";

bool same_pose(const GstDa3View& a, const GstDa3View& b) {
  return memcmp(a.rotation, b.rotation, sizeof a.rotation) == 0 &&
         memcmp(a.translation, b.translation, sizeof a.translation) == 0;
}

// A pipeline in PAUSED whose sink holds a frame.
struct Player {
  GstElement* pipeline = nullptr;
  GstElement* sink = nullptr;
  explicit Player(const std::string& properties, const std::string& caps = small) {
    GError* error = nullptr;
    pipeline = gst_parse_launch(
        ("da3testsrc noise=0 " + properties + caps + " ! fakesink name=sink sync=false").c_str(), &error);
    fail_unless(error == nullptr, "%s", error ? error->message : "");
    sink = gst_bin_get_by_name(GST_BIN(pipeline), "sink");
    gst_element_set_state(pipeline, GST_STATE_PAUSED);
    fail_unless_equals_int(gst_element_get_state(pipeline, nullptr, nullptr, GST_CLOCK_TIME_NONE),
                           GST_STATE_CHANGE_SUCCESS);
  }
  ~Player() {
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(sink);
    gst_object_unref(pipeline);
  }
  Frame current() {
    GstSample* sample = nullptr;
    g_object_get(sink, "last-sample", &sample, nullptr);
    fail_unless(sample != nullptr);
    Frame frame = read(gst_sample_get_buffer(sample));
    gst_sample_unref(sample);
    return frame;
  }
  Frame seek(GstFormat format, gint64 to) {
    fail_unless(gst_element_seek_simple(pipeline, format,
                                        GstSeekFlags(GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE), to));
    fail_unless_equals_int(gst_element_get_state(pipeline, nullptr, nullptr, GST_CLOCK_TIME_NONE),
                           GST_STATE_CHANGE_SUCCESS);
    return current();
  }
};

// Runs to EOS or an error; returns the first error or warning, or nothing.
std::string run(const std::string& launch) {
  GError* error = nullptr;
  GstElement* pipeline = gst_parse_launch(launch.c_str(), &error);
  if (error) {
    // Elements whose templates do not fit are not even linked.
    const std::string refusal = error->message;
    g_clear_error(&error);
    gst_clear_object(&pipeline);
    return refusal;
  }
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  GstBus* bus = gst_element_get_bus(pipeline);
  std::string text;
  for (bool over = false; !over;) {
    GstMessage* message = gst_bus_timed_pop_filtered(
        bus, 60 * GST_SECOND, GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR | GST_MESSAGE_WARNING));
    fail_unless(message != nullptr, "%s never ended", launch.c_str());
    GError* what = nullptr;
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) gst_message_parse_error(message, &what, nullptr);
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_WARNING) gst_message_parse_warning(message, &what, nullptr);
    if (what && text.empty()) text = what->message;
    g_clear_error(&what);
    over = GST_MESSAGE_TYPE(message) != GST_MESSAGE_WARNING;
    gst_message_unref(message);
  }
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(bus);
  gst_object_unref(pipeline);
  return text;
}

}  // namespace

// --- what it gives
// -----------------------------------------------------------------------------------------------

GST_START_TEST(test_defaults) {
  GstHarness* h = harness("");
  gst_harness_play(h);
  GstBuffer* buffer = gst_harness_pull(h);
  GstCaps* caps = gst_pad_get_current_caps(h->sinkpad);
  GstVideoInfo info;
  fail_unless(gst_video_info_from_caps(&info, caps));
  fail_unless_equals_int(GST_VIDEO_INFO_FORMAT(&info), GST_VIDEO_FORMAT_RGB);
  fail_unless_equals_int(info.width, 640);
  fail_unless_equals_int(info.height, 360);
  fail_unless_equals_int(info.fps_n, 30);
  fail_unless_equals_int(info.fps_d, 1);
  gst_caps_unref(caps);
  const Frame f = read(buffer);
  fail_unless_equals_uint64(f.offset, 0);
  fail_unless_equals_uint64(f.pts, 0);
  fail_unless_equals_uint64(f.duration, 33333333);
  gst_buffer_unref(buffer);
  gst_harness_teardown(h);
}
GST_END_TEST;

GST_START_TEST(test_truth) {
  const std::vector<Frame> frames = pull(std::string("scene=street path=walk fov=80 seed=3") + small, 3);
  for (int i = 0; i < 3; ++i) {
    const Frame& f = frames[size_t(i)];
    const GstDa3View& v = f.view;
    fail_unless_equals_int(v.role, GST_DA3_ROLE_TRUTH);
    fail_unless_equals_int64(v.frame, i);
    fail_unless_equals_int(v.views, 1);
    fail_unless_equals_int(v.image_width, 64);
    fail_unless_equals_int(v.image_height, 48);
    fail_unless_equals_int(v.kind, GST_DA3_DEPTH_KIND_METRIC);
    fail_unless_equals_float(v.unit_scale, 1);
    fail_unless_equals_float(v.depth_w, 64);
    fail_unless_equals_float(v.depth_h, 48);
    fail_unless(v.has_intrinsics && v.has_extrinsics && v.has_sky);
    fail_unless(std::abs(2 * std::atan(32 / v.fx) * 180 / G_PI - 80) < 1e-9);
    fail_unless_equals_float(v.fx, v.fy);
    fail_unless_equals_float(v.cx, 32);
    fail_unless_equals_float(v.cy, 24);
    fail_unless_equals_int(f.rows, 48);
    fail_unless_equals_int(f.columns, 64);
    double lowest = 1e9, sky = 0;
    for (size_t p = 0; p < f.depth.size(); ++p) {
      fail_unless((f.depth[p] == 0) == (f.sky[p] == 1));
      if (f.depth[p] > 0) lowest = std::min(lowest, double(f.depth[p]));
      sky += f.sky[p];
    }
    fail_unless_equals_float(v.depth.min, lowest);
    fail_unless(std::abs(v.sky_fraction - sky / double(f.sky.size())) < 1e-12);
    fail_unless(std::abs(v.depth.valid_fraction + v.sky_fraction - 1) < 1e-12);
  }
  fail_if(same_pose(frames[0].view, frames[1].view));
}
GST_END_TEST;

GST_START_TEST(test_determinism) {
  for (const char* scene :
       {"room", "corridor", "street", "terrain", "objects", "warehouse", "forest", "ruins"}) {
    const std::string base = std::string("seed=7 noise=0.4 path=handheld scene=") + scene;
    const std::vector<Frame> one = pull(base + " n-threads=1" + small, 2),
                             five = pull(base + " n-threads=5" + small, 2);
    for (size_t i = 0; i < 2; ++i) {
      fail_unless(one[i].bytes == five[i].bytes, "%s", scene);
      fail_unless(one[i].depth == five[i].depth);
    }
    const std::vector<Frame> other =
        pull(std::string("seed=8 noise=0.4 path=handheld scene=") + scene + small, 1);
    fail_if(one[0].bytes == other[0].bytes, "%s", scene);
  }
}
GST_END_TEST;

GST_START_TEST(test_loop_returns) {
  const std::vector<Frame> frames = pull(std::string("path=loop loop-frames=5 noise=0 seed=2") + small, 7);
  fail_unless(frames[0].bytes == frames[5].bytes);
  fail_unless(same_pose(frames[0].view, frames[5].view));
  fail_unless(same_pose(frames[1].view, frames[6].view));
  fail_unless_equals_int64(frames[5].view.frame, 5);
  fail_if(same_pose(frames[0].view, frames[2].view));
}
GST_END_TEST;

GST_START_TEST(test_rgbx) {
  const std::vector<Frame> rgb = pull(" ! video/x-raw,format=RGB,width=33,height=20", 1);
  const std::vector<Frame> rgbx = pull(" ! video/x-raw,format=RGBx,width=33,height=20", 1);
  for (size_t y = 0; y < 20; ++y) {
    for (size_t x = 0; x < 33; ++x) {
      for (size_t k = 0; k < 3; ++k)
        fail_unless_equals_int(rgb[0].bytes[y * 100 + 3 * x + k], rgbx[0].bytes[y * 132 + 4 * x + k]);
    }
  }
}
GST_END_TEST;

GST_START_TEST(test_looks) {
  const std::vector<Frame> plain = pull(std::string("noise=0 path=drive scene=street") + small, 1);
  for (const char* change :
       {"exposure=1", "motion-blur=1 speed=20", "antialias=false", "noise=0.5", "fov=90"}) {
    const std::vector<Frame> other =
        pull(std::string("noise=0 path=drive scene=street ") + change + small, 1);
    fail_if(plain[0].bytes == other[0].bytes, "%s changes nothing", change);
    // Only the lens moves the depth.
    fail_unless((plain[0].depth == other[0].depth) == !g_str_has_prefix(change, "fov"), "%s", change);
  }
}
GST_END_TEST;

// --- time
// ----------------------------------------------------------------------------------------------------------

GST_START_TEST(test_seek) {
  const std::vector<Frame> played = pull(std::string("noise=0 path=walk") + small, 41);
  Player player("path=walk");
  fail_unless(player.current().bytes == played[0].bytes);
  for (int n : {40, 3, 17}) {
    const Frame by_time =
        player.seek(GST_FORMAT_TIME, gint64(gst_util_uint64_scale(guint64(n), GST_SECOND, 30)));
    fail_unless_equals_uint64(by_time.offset, guint64(n));
    fail_unless(by_time.bytes == played[size_t(n)].bytes);
    fail_unless(by_time.depth == played[size_t(n)].depth);
    fail_unless(same_pose(by_time.view, played[size_t(n)].view));
    const Frame by_number = player.seek(GST_FORMAT_DEFAULT, n);
    fail_unless_equals_uint64(by_number.offset, guint64(n));
    fail_unless(by_number.bytes == played[size_t(n)].bytes);
  }
  // Between two frames: the one that is shown then.
  fail_unless_equals_uint64(player.seek(GST_FORMAT_TIME, 350 * GST_MSECOND).offset, 10);
}
GST_END_TEST;

GST_START_TEST(test_seek_far) {
  // An hour is as near as the next frame.
  Player player("path=forward scene=corridor");
  const Frame f = player.seek(GST_FORMAT_TIME, 3600 * gint64(GST_SECOND));
  fail_unless_equals_uint64(f.offset, 108000);
  fail_unless(f.view.depth.valid_fraction > 0.3);
}
GST_END_TEST;

GST_START_TEST(test_backwards) {
  Player player("path=walk num-frames=30");
  fail_unless(gst_element_seek(player.pipeline, -1, GST_FORMAT_TIME,
                               GstSeekFlags(GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE), GST_SEEK_TYPE_SET,
                               0, GST_SEEK_TYPE_SET, 500 * GST_MSECOND));
  gst_element_get_state(player.pipeline, nullptr, nullptr, GST_CLOCK_TIME_NONE);
  // The last frame that begins before half a second, then the ones before it.
  fail_unless_equals_uint64(player.current().offset, 14);
  gst_element_set_state(player.pipeline, GST_STATE_PLAYING);
  GstBus* bus = gst_element_get_bus(player.pipeline);
  GstMessage* message =
      gst_bus_timed_pop_filtered(bus, 20 * GST_SECOND, GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  fail_unless(message != nullptr);
  fail_unless_equals_int(GST_MESSAGE_TYPE(message), GST_MESSAGE_EOS);
  gst_message_unref(message);
  gst_object_unref(bus);
  fail_unless_equals_uint64(player.current().offset, 0);
}
GST_END_TEST;

GST_START_TEST(test_duration) {
  gint64 value = 0;
  {
    Player player("num-frames=90");
    fail_unless(gst_element_query_duration(player.pipeline, GST_FORMAT_TIME, &value));
    fail_unless_equals_int64(value, 3 * GST_SECOND);
    fail_unless(gst_element_query_duration(player.pipeline, GST_FORMAT_DEFAULT, &value));
    fail_unless_equals_int64(value, 90);
  }
  {
    Player player("num-buffers=45 num-frames=60");
    fail_unless(gst_element_query_duration(player.pipeline, GST_FORMAT_TIME, &value));
    fail_unless_equals_int64(value, 1500 * GST_MSECOND);
  }
  Player endless("");
  fail_if(gst_element_query_duration(endless.pipeline, GST_FORMAT_TIME, &value) && value != -1);
}
GST_END_TEST;

GST_START_TEST(test_timestamps) {
  const std::vector<Frame> frames =
      pull("timestamp-offset=5000000000 ! video/x-raw,width=16,height=16,framerate=30000/1001", 4);
  for (size_t i = 0; i < 4; ++i) {
    fail_unless_equals_uint64(frames[i].pts,
                              5 * GST_SECOND + gst_util_uint64_scale(i, 1001 * GST_SECOND, 30000));
    if (i) fail_unless_equals_uint64(frames[i - 1].pts + frames[i - 1].duration, frames[i].pts);
  }
}
GST_END_TEST;

GST_START_TEST(test_live_leaves_out_late_frames) {
  GstHarness* h = harness(std::string("is-live=true") + " ! video/x-raw,width=16,height=16,framerate=10/1");
  gst_harness_use_testclock(h);
  gst_harness_play(h);
  fail_unless(gst_harness_crank_single_clock_wait(h));
  GstBuffer* start = gst_harness_pull(h);
  fail_unless_equals_uint64(GST_BUFFER_OFFSET(start), 0);
  gst_buffer_unref(start);
  // The source has frame 1 in hand and waits for its time; two seconds pass at once.
  fail_unless(gst_harness_wait_for_clock_id_waits(h, 1, 10));
  gst_harness_set_time(h, 2 * GST_SECOND);
  guint64 offset = 0;
  bool discont = false;
  for (int i = 0; i < 2; ++i) {
    fail_unless(gst_harness_crank_single_clock_wait(h));
    GstBuffer* buffer = gst_harness_pull(h);
    fail_unless(buffer != nullptr);
    offset = GST_BUFFER_OFFSET(buffer);
    discont = GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT);
    gst_buffer_unref(buffer);
    if (i == 0) fail_unless_equals_uint64(offset, 1);
  }
  // The next one is that of now.
  fail_unless_equals_uint64(offset, 20);
  fail_unless(discont);
  gst_harness_teardown(h);
}
GST_END_TEST;

// Running time goes on from 0, where the clock still is.
void seek_live(GstHarness* h, GstClockTime to, double rate) {
  fail_unless(gst_harness_push_upstream_event(
      h, gst_event_new_seek(rate, GST_FORMAT_TIME, GstSeekFlags(GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE),
                            GST_SEEK_TYPE_SET, gint64(to), GST_SEEK_TYPE_NONE, 0)));
}

GstClockTime time_now(GstHarness* h) {
  GstTestClock* clock = gst_harness_get_testclock(h);
  const GstClockTime now = gst_clock_get_time(GST_CLOCK(clock));
  gst_object_unref(clock);
  return now;
}

// The next frame; time passes until it is due.
guint64 next_live(GstHarness* h, bool* discont = nullptr) {
  fail_unless(gst_harness_crank_single_clock_wait(h));
  GstBuffer* buffer = gst_harness_pull(h);
  fail_unless(buffer != nullptr);
  const guint64 offset = GST_BUFFER_OFFSET(buffer);
  if (discont) *discont = GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT);
  gst_buffer_unref(buffer);
  return offset;
}

// After a seek every frame comes at the rate of the stream, wherever it leads; who is really late then still
// leaves frames out.
GST_START_TEST(test_live_seek) {
  struct Case {
    GstClockTime to;
    double rate;
    guint64 first;
  };
  for (const Case& c : {Case{GST_SECOND, 1, 10},
                        {30 * GST_SECOND, 1, 300},
                        {1250 * GST_MSECOND, 1, 12},
                        {2 * GST_SECOND, 2, 20}}) {
    GstHarness* h = harness("is-live=true ! video/x-raw,width=16,height=16,framerate=10/1");
    gst_harness_use_testclock(h);
    gst_harness_play(h);
    fail_unless_equals_uint64(next_live(h), 0);
    fail_unless(gst_harness_wait_for_clock_id_waits(h, 1, 10));  // of frame 1, which the seek calls off
    seek_live(h, c.to, c.rate);
    bool discont = false;
    for (guint64 i = 0; i < 6; ++i) {
      fail_unless_equals_uint64(next_live(h, &discont), c.first + i);
      fail_unless(!discont || i == 0, "frame %d is marked", int(i));
      fail_unless(time_now(h) <= GstClockTime(double(i * 100 * GST_MSECOND) / c.rate), "late at frame %d",
                  int(i));
    }
    // It has frame 6 in hand; then it is two seconds later.
    fail_unless(gst_harness_wait_for_clock_id_waits(h, 1, 10));
    gst_harness_set_time(h, time_now(h) + 2 * GST_SECOND);
    fail_unless_equals_uint64(next_live(h, &discont), c.first + 6);
    const guint64 after = next_live(h, &discont);
    fail_unless(
        discont && after >= c.first + 6 + guint64(18 * c.rate) && after <= c.first + 6 + guint64(22 * c.rate),
        "frame %d", int(after));
    gst_harness_teardown(h);
  }
}
GST_END_TEST;

GST_START_TEST(test_latency) {
  for (const bool live : {true, false}) {
    GstHarness* h =
        harness(std::string(live ? "is-live=true" : "") + " ! video/x-raw,width=16,height=16,framerate=25/1");
    gst_harness_use_testclock(h);
    gst_harness_play(h);
    if (live) fail_unless(gst_harness_crank_single_clock_wait(h));
    GstBuffer* buffer = gst_harness_pull(h);
    fail_unless(buffer != nullptr);
    gst_buffer_unref(buffer);
    GstQuery* query = gst_query_new_latency();
    fail_unless(gst_pad_peer_query(h->sinkpad, query));
    gboolean is_live = FALSE;
    GstClockTime least = 0, most = 0;
    gst_query_parse_latency(query, &is_live, &least, &most);
    gst_query_unref(query);
    fail_unless_equals_int(is_live, live);
    fail_unless_equals_uint64(least, live ? 40 * GST_MSECOND : 0);
    fail_unless_equals_uint64(most, GST_CLOCK_TIME_NONE);
    gst_harness_teardown(h);
  }
}
GST_END_TEST;

// --- ends and edges
// ------------------------------------------------------------------------------------------------

GST_START_TEST(test_ends) {
  Player player("num-frames=3");
  // Behind the end there is nothing, which is no error.
  fail_unless(
      gst_element_seek_simple(player.pipeline, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH, 10 * GST_SECOND));
  gst_element_set_state(player.pipeline, GST_STATE_PLAYING);
  GstBus* bus = gst_element_get_bus(player.pipeline);
  GstMessage* message =
      gst_bus_timed_pop_filtered(bus, 20 * GST_SECOND, GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  fail_unless(message != nullptr);
  fail_unless_equals_int(GST_MESSAGE_TYPE(message), GST_MESSAGE_EOS);
  gst_message_unref(message);
  gst_object_unref(bus);
  fail_unless_equals_string(run(std::string("da3testsrc num-buffers=0") + small + " ! fakesink").c_str(), "");
}
GST_END_TEST;

GST_START_TEST(test_no_rate_is_one_frame) {
  GstHarness* h = harness(" ! video/x-raw,width=16,height=16,framerate=0/1");
  gst_harness_play(h);
  GstBuffer* buffer = gst_harness_pull(h);
  const Frame f = read(buffer);
  gst_buffer_unref(buffer);
  fail_unless_equals_uint64(f.pts, 0);
  fail_if(GST_CLOCK_TIME_IS_VALID(f.duration));
  bool ended = false;
  while (!ended) {
    GstEvent* event = gst_harness_pull_event(h);
    fail_unless(event != nullptr);
    ended = GST_EVENT_TYPE(event) == GST_EVENT_EOS;
    gst_event_unref(event);
  }
  fail_unless_equals_int(gst_harness_buffers_received(h), 1);
  gst_harness_teardown(h);
}
GST_END_TEST;

GST_START_TEST(test_tiny_frames) {
  for (const char* size : {"width=1,height=1", "width=1,height=77", "width=200,height=1"}) {
    const std::vector<Frame> frames = pull(std::string(" ! video/x-raw,") + size, 2);
    fail_unless(frames[0].view.fx > 0);
    fail_unless_equals_int(frames[0].depth.size(),
                           gsize(frames[0].view.image_width) * gsize(frames[0].view.image_height));
  }
}
GST_END_TEST;

GST_START_TEST(test_refused_caps) {
  for (const char* caps :
       {"video/x-raw,format=I420", "video/x-raw,width=8193", "video/x-raw,pixel-aspect-ratio=2/1",
        "video/x-raw,interlace-mode=interleaved", "audio/x-raw"}) {
    const std::string error = run(std::string("da3testsrc num-buffers=2 ! ") + caps + " ! fakesink");
    fail_if(error.empty(), "%s was taken", caps);
  }
}
GST_END_TEST;

GST_START_TEST(test_refused_properties) {
  GstElement* src = gst_element_factory_make("da3testsrc", nullptr);
  ASSERT_WARNING(g_object_set(src, "fov", 120.0, nullptr));
  ASSERT_WARNING(g_object_set(src, "fov", 10.0, nullptr));
  ASSERT_WARNING(g_object_set(src, "speed", 0.0, nullptr));
  ASSERT_WARNING(g_object_set(src, "noise", -1.0, nullptr));
  ASSERT_WARNING(g_object_set(src, "n-threads", 1000u, nullptr));
  ASSERT_WARNING(g_object_set(src, "scene", 99, nullptr));
  ASSERT_WARNING(g_object_set(src, "path", -1, nullptr));
  gdouble fov = 0, speed = 0;
  gint scene = -1;
  g_object_get(src, "fov", &fov, "speed", &speed, "scene", &scene, nullptr);
  fail_unless_equals_float(fov, 70);
  fail_unless_equals_float(speed, 1);
  fail_unless_equals_int(scene, 0);
  gst_object_unref(src);
  for (const char* text : {"da3testsrc scene=kitchen ! fakesink", "da3testsrc path=swim ! fakesink"}) {
    GError* error = nullptr;
    GstElement* pipeline = gst_parse_launch_full(text, nullptr, GST_PARSE_FLAG_FATAL_ERRORS, &error);
    fail_unless(pipeline == nullptr && error != nullptr, "%s was taken", text);
    g_clear_error(&error);
  }
}
GST_END_TEST;

GST_START_TEST(test_again_after_ready) {
  Player player("path=walk seed=1");
  const Frame first = player.current();
  player.seek(GST_FORMAT_DEFAULT, 9);
  gst_element_set_state(player.pipeline, GST_STATE_READY);
  gst_element_set_state(player.pipeline, GST_STATE_PAUSED);
  gst_element_get_state(player.pipeline, nullptr, nullptr, GST_CLOCK_TIME_NONE);
  fail_unless(player.current().bytes == first.bytes);
  gst_element_set_state(player.pipeline, GST_STATE_READY);
  GstIterator* sources = gst_bin_iterate_sources(GST_BIN(player.pipeline));
  GValue item = G_VALUE_INIT;
  fail_unless_equals_int(gst_iterator_next(sources, &item), GST_ITERATOR_OK);
  g_object_set(g_value_get_object(&item), "seed", guint64(2), nullptr);
  g_value_unset(&item);
  gst_iterator_free(sources);
  gst_element_set_state(player.pipeline, GST_STATE_PAUSED);
  gst_element_get_state(player.pipeline, nullptr, nullptr, GST_CLOCK_TIME_NONE);
  fail_if(player.current().bytes == first.bytes);
}
GST_END_TEST;

// --- with the elements behind it
// -----------------------------------------------------------------------------------

GST_START_TEST(test_other_elements_take_it) {
  const std::string source = std::string("da3testsrc scene=street num-buffers=3") + small;
  for (const char* behind :
       {"da3depthviz", "da3depthviz layout=side-by-side", "da3extract", "da3extract plane=disparity",
        "da3extract plane=sky", "da3posesink location=/dev/null format=tum"}) {
    const bool sink = g_str_has_prefix(behind, "da3posesink");
    const std::string said = run(source + " ! " + behind + (sink ? "" : " ! fakesink"));
    fail_unless(said.empty(), "%s: %s", behind, said.c_str());
  }
  // There is no such truth.
  fail_if(run(source + " ! da3extract plane=confidence ! fakesink").empty());
}
GST_END_TEST;

GST_START_TEST(test_extracted_depth_is_the_truth) {
  const std::vector<Frame> truth = pull(std::string("scene=room") + small, 1);
  GstHarness* h = harness(std::string("scene=room") + small + " ! da3extract");
  gst_harness_play(h);
  GstBuffer* buffer = gst_harness_pull(h);
  std::vector<guint16> samples(64 * 48);
  fail_unless_equals_int(gst_buffer_extract(buffer, 0, samples.data(), samples.size() * 2),
                         samples.size() * 2);
  GstCaps* caps = gst_pad_get_current_caps(h->sinkpad);
  fail_unless_equals_string(gst_structure_get_string(gst_caps_get_structure(caps, 0), "depth-unit"), "metre");
  gst_caps_unref(caps);
  for (size_t i = 0; i < samples.size(); ++i) {
    const double z = truth[0].depth[i];
    // A millimetre a step; what is farther than 65.534 m saturates, sky has no measurement.
    const double want = z == 0 ? 0 : std::min(z * 1000, 65535.0);
    fail_unless(std::abs(samples[i] - want) <= 1, "pixel %d: %d for %f", int(i), int(samples[i]), z);
  }
  gst_buffer_unref(buffer);
  gst_harness_teardown(h);
}
GST_END_TEST;

GST_START_TEST(test_truth_does_not_fill_gaps_of_a_prediction) {
  GstHarness* h = gst_harness_new_parse("da3extract plane=sky");
  gst_harness_set_src_caps_str(h, "video/x-raw,format=RGB,width=4,height=2,framerate=30/1");
  GstBus* bus = gst_bus_new();
  gst_element_set_bus(h->element, bus);
  GstBuffer* buffer = gst_buffer_new_allocate(nullptr, 12 * 2, nullptr);
  const gsize dims[] = {1, 2, 4};
  GstDa3View view;
  gst_da3_view_init(&view);
  view.kind = GST_DA3_DEPTH_KIND_RELATIVE;
  gst_buffer_add_da3_view(buffer, &view);
  gst_buffer_add_da3_tensor(buffer, "da3-depth", gst_buffer_new_allocate(nullptr, 32, nullptr), 3, dims);
  gst_buffer_add_da3_tensor(buffer, "da3-sky-truth", gst_buffer_new_allocate(nullptr, 32, nullptr), 3, dims);
  fail_unless_equals_int(gst_harness_push(h, buffer), GST_FLOW_ERROR);
  GstMessage* message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
  fail_unless(message != nullptr);
  gst_message_unref(message);
  gst_element_set_bus(h->element, nullptr);
  gst_object_unref(bus);
  gst_harness_teardown(h);
}
GST_END_TEST;

static Suite* da3testsrc_suite(void) {
  Suite* suite = suite_create("da3testsrc");
  TCase* tests = tcase_create("general");
  tcase_set_timeout(tests, 120);
  suite_add_tcase(suite, tests);
  tcase_add_test(tests, test_defaults);
  tcase_add_test(tests, test_truth);
  tcase_add_test(tests, test_determinism);
  tcase_add_test(tests, test_loop_returns);
  tcase_add_test(tests, test_rgbx);
  tcase_add_test(tests, test_looks);
  tcase_add_test(tests, test_seek);
  tcase_add_test(tests, test_seek_far);
  tcase_add_test(tests, test_backwards);
  tcase_add_test(tests, test_duration);
  tcase_add_test(tests, test_timestamps);
  tcase_add_test(tests, test_live_leaves_out_late_frames);
  tcase_add_test(tests, test_live_seek);
  tcase_add_test(tests, test_latency);
  tcase_add_test(tests, test_ends);
  tcase_add_test(tests, test_no_rate_is_one_frame);
  tcase_add_test(tests, test_tiny_frames);
  tcase_add_test(tests, test_refused_caps);
  tcase_add_test(tests, test_refused_properties);
  tcase_add_test(tests, test_again_after_ready);
  tcase_add_test(tests, test_other_elements_take_it);
  tcase_add_test(tests, test_extracted_depth_is_the_truth);
  tcase_add_test(tests, test_truth_does_not_fill_gaps_of_a_prediction);
  return suite;
}

GST_CHECK_MAIN(da3testsrc);
