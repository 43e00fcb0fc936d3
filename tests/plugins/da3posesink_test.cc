// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

// clang-format off: Check's header defines fail(), which the standard library's do not survive.
#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#include <gst/da3/da3.h>
// clang-format on

namespace fs = std::filesystem;

namespace {

fs::path folder;

void make_folder() {
  std::string name = (fs::temp_directory_path() / "da3-posesink-XXXXXX").string();
  fail_unless(mkdtemp(name.data()) != nullptr);
  folder = name;
}

void remove_folder() {
  fs::remove_all(folder);
}

std::string path(const char* name) {
  return (folder / name).string();
}

std::vector<std::string> lines_of(const std::string& file_path) {
  std::ifstream file(file_path);
  fail_unless(file.good(), "%s cannot be read", file_path.c_str());
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> data_lines_of(const std::string& file_path) {
  std::vector<std::string> lines = lines_of(file_path);
  std::erase_if(lines, [](const std::string& line) { return line.starts_with("#"); });
  return lines;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void assert_equal(const std::string& got, const std::string& expected) {
  fail_unless(got == expected, "\"%s\" is not \"%s\"", got, expected.c_str());
}

void assert_contains(const std::string& text, const std::string& part) {
  fail_unless(contains(text, part), "\"%s\" is not in \"%s\"", part.c_str(), text.c_str());
}

GstDa3View example_view(gint64 frame) {
  GstDa3View view;
  gst_da3_view_init(&view);
  view.frame = frame;
  view.window = frame / 2;
  view.view_index = gint(frame % 2);
  view.views = 2;
  view.image_width = 640;
  view.image_height = 360;
  view.has_intrinsics = TRUE;
  view.fx = view.fy = 500;
  view.cx = 320;
  view.cy = 180;
  view.has_extrinsics = TRUE;
  // A quarter turn about z; the camera centre is -R^T t = (-2, 1, -3).
  const gdouble rotation[9] = {0, -1, 0, 1, 0, 0, 0, 0, 1};
  for (int i = 0; i < 9; ++i) view.rotation[i] = rotation[i];
  view.translation[0] = 1;
  view.translation[1] = 2;
  view.translation[2] = 3;
  view.kind = GST_DA3_DEPTH_KIND_RELATIVE;
  view.depth = {0.5, 9.5, 2, 0.75, 8, 1};
  g_strlcpy(view.model, "da3-small", sizeof view.model);
  return view;
}

GstBuffer* frame_with(const GstDa3View& view, GstClockTime pts) {
  GstBuffer* buffer = gst_buffer_new_allocate(nullptr, 16, nullptr);
  GST_BUFFER_PTS(buffer) = pts;
  fail_unless(gst_buffer_add_da3_view(buffer, &view));
  return buffer;
}

GstBuffer* frame(gint64 number) {
  return frame_with(example_view(number), GstClockTime(number) * 40 * GST_MSECOND);
}

// A harness with a sink of the given properties, playing, with a bus.
struct Rig {
  GstHarness* harness;
  GstBus* bus = gst_bus_new();

  // `caps` nullptr: nothing is sent yet.
  explicit Rig(const std::string& properties, const char* caps = "application/x-anything") {
    GstElement* sink = gst_parse_launch(("da3posesink " + properties).c_str(), nullptr);
    fail_unless(sink != nullptr);
    gst_element_set_bus(sink, bus);
    harness = gst_harness_new_with_element(sink, "sink", nullptr);
    gst_object_unref(sink);
    if (caps != nullptr) gst_harness_set_src_caps_str(harness, caps);
  }
  ~Rig() {
    gst_harness_teardown(harness);
    gst_object_unref(bus);
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  GstFlowReturn push(GstBuffer* buffer) { return gst_harness_push(harness, buffer); }
  void push_frames(int count) {
    for (int i = 0; i < count; ++i) fail_unless_equals_int(push(frame(i)), GST_FLOW_OK);
  }
  void eos() { fail_unless(gst_harness_push_event(harness, gst_event_new_eos())); }

  std::string message(GstMessageType type, GError** error_out = nullptr) {
    GstMessage* message = gst_bus_pop_filtered(bus, type);
    if (message == nullptr) return {};
    GError* error = nullptr;
    if (type == GST_MESSAGE_ERROR) {
      gst_message_parse_error(message, &error, nullptr);
    } else {
      gst_message_parse_warning(message, &error, nullptr);
    }
    const std::string text = error->message;
    if (error_out != nullptr) {
      *error_out = error;
    } else {
      g_error_free(error);
    }
    gst_message_unref(message);
    return text;
  }
  std::string warning() { return message(GST_MESSAGE_WARNING); }
  std::string error(GQuark domain, gint code) {
    GError* error = nullptr;
    const std::string text = message(GST_MESSAGE_ERROR, &error);
    fail_unless(error != nullptr, "no error on the bus");
    fail_unless(g_error_matches(error, domain, code), "%s: wrong domain or code %d", text.c_str(),
                error->code);
    g_error_free(error);
    fail_unless(message(GST_MESSAGE_ERROR).empty(), "more than one error on the bus");
    return text;
  }
};

// The error that going to PAUSED posts.
std::string start_error(const std::string& properties, gint code) {
  GstElement* sink = gst_parse_launch(("da3posesink " + properties).c_str(), nullptr);
  GstBus* bus = gst_bus_new();
  gst_element_set_bus(sink, bus);
  fail_unless_equals_int(gst_element_set_state(sink, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  fail_unless_equals_int(gst_element_set_state(sink, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
  GstMessage* message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
  fail_unless(message != nullptr);
  GError* error = nullptr;
  gst_message_parse_error(message, &error, nullptr);
  const std::string text = error->message;
  fail_unless(g_error_matches(error, GST_RESOURCE_ERROR, code), "%s: code %d", text.c_str(), error->code);
  g_error_free(error);
  gst_message_unref(message);
  fail_unless(gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR) == nullptr);
  gst_element_set_state(sink, GST_STATE_NULL);
  gst_object_unref(bus);
  gst_object_unref(sink);
  return text;
}

}  // namespace

GST_START_TEST(tum_writes_time_centre_and_quaternion) {
  {
    Rig rig("format=tum location=" + path("p"));
    rig.push_frames(2);
    rig.eos();
    fail_unless(rig.warning().empty());
  }
  const auto lines = data_lines_of(path("p"));
  fail_unless_equals_int(lines.size(), 2);
  assert_equal(lines[0], "0.000000000 -2 1 -3 0 0 -0.707106781 0.707106781");
  assert_equal(lines[1], "0.040000000 -2 1 -3 0 0 -0.707106781 0.707106781");
}
GST_END_TEST

GST_START_TEST(pose_direction_w2c_writes_what_the_meta_holds) {
  Rig rig("format=kitti pose-direction=w2c location=" + path("p"));
  rig.push_frames(1);
  assert_equal(lines_of(path("p")).at(0), "0 -1 0 1 1 0 0 2 0 0 1 3");
  assert_contains(lines_of(path("p.times.txt")).at(3), "w2c");
}
GST_END_TEST

GST_START_TEST(default_is_jsonl_c2w_without_sync) {
  Rig rig("location=" + path("p"));
  gboolean sync = TRUE;
  g_object_get(rig.harness->element, "sync", &sync, nullptr);
  fail_unless(!sync);
  rig.push_frames(1);
  const auto lines = lines_of(path("p"));
  assert_contains(lines.at(0), "\"type\":\"header\"");
  assert_contains(lines.at(1), "\"pose\":[[0,1,0,-2],[-1,0,0,1],[0,0,1,-3]]");
  assert_contains(lines.at(1),
                  "\"intrinsics\":{\"fx\":500,\"fy\":500,\"cx\":320,\"cy\":180,\"width\":640,\"height\":360},"
                  "\"source\":null");
}
GST_END_TEST

GST_START_TEST(jsonl_tells_the_part_of_the_original_picture) {
  Rig rig("location=" + path("p"));
  GstDa3View view = example_view(0);
  view.source_width = 1920;
  view.source_height = 1080;
  view.source_y = 2.5;
  view.source_w = 1920;
  view.source_h = 1075;
  rig.push(frame_with(view, 0));
  // A part that is empty is none.
  view.source_w = 0;
  rig.push(frame_with(view, 0));
  const auto lines = lines_of(path("p"));
  assert_contains(lines.at(1),
                  "\"source\":{\"width\":1920,\"height\":1080,\"x\":0,\"y\":2.5,\"w\":1920,\"h\":1075}");
  assert_contains(lines.at(2), "\"source\":null");
}
GST_END_TEST

GST_START_TEST(metric_lengths_are_written_in_metres) {
  Rig rig("format=jsonl pose-direction=w2c location=" + path("p"));
  GstDa3View view = example_view(0);
  view.kind = GST_DA3_DEPTH_KIND_METRIC;
  view.unit_scale = 0.5;
  rig.push(frame_with(view, 0));
  const std::string line = lines_of(path("p")).at(1);
  assert_contains(line, "\"unit\":\"metre\"");
  assert_contains(line, "\"pose\":[[0,-1,0,0.5],[1,0,0,1],[0,0,1,1.5]]");
  assert_contains(line, "\"depth\":{\"min\":0.25,\"max\":4.75,\"median\":1");
}
GST_END_TEST

GST_START_TEST(metric_without_a_scale_is_not_called_metres) {
  Rig rig("format=jsonl location=" + path("p"));
  for (double scale : {0.0, -1.0, double(NAN), double(INFINITY)}) {
    GstDa3View view = example_view(0);
    view.kind = GST_DA3_DEPTH_KIND_METRIC;
    view.unit_scale = scale;
    rig.push(frame_with(view, 0));
    assert_contains(lines_of(path("p")).back(), "\"unit\":\"relative\"");
  }
}
GST_END_TEST

GST_START_TEST(time_is_stream_time) {
  Rig rig("format=tum location=" + path("p"));
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  segment.start = 100 * GST_SECOND;
  segment.time = 7 * GST_SECOND;
  gst_harness_push_event(rig.harness, gst_event_new_segment(&segment));
  rig.push(frame_with(example_view(0), 101 * GST_SECOND));
  fail_unless(data_lines_of(path("p")).at(0).starts_with("8.000000000 "));
}
GST_END_TEST

GST_START_TEST(a_line_is_in_the_file_when_the_push_returns) {
  Rig rig("format=tum location=" + path("p"));
  for (int i = 0; i < 5; ++i) {
    rig.push(frame(i));
    fail_unless_equals_int(data_lines_of(path("p")).size(), i + 1);
  }
}
GST_END_TEST

GST_START_TEST(any_caps_and_changes_of_caps_are_fine) {
  Rig rig("format=tum location=" + path("p"), "video/x-raw,format=RGB,width=4,height=1,framerate=25/1");
  rig.push(frame(0));
  gst_harness_set_src_caps_str(rig.harness, "video/x-h264");
  rig.push(frame(1));
  gst_harness_set_src_caps_str(rig.harness, "audio/x-raw,rate=8000");
  rig.push(frame(2));
  fail_unless_equals_int(data_lines_of(path("p")).size(), 3);
}
GST_END_TEST

GST_START_TEST(a_flush_loses_no_line) {
  Rig rig("format=tum location=" + path("p"));
  rig.push_frames(2);
  gst_harness_push_event(rig.harness, gst_event_new_flush_start());
  fail_unless_equals_int(rig.push(frame(2)), GST_FLOW_FLUSHING);
  gst_harness_push_event(rig.harness, gst_event_new_flush_stop(TRUE));
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_harness_push_event(rig.harness, gst_event_new_segment(&segment));
  rig.push(frame(3));
  fail_unless_equals_int(data_lines_of(path("p")).size(), 3);
}
GST_END_TEST

GST_START_TEST(stats_count_lines_and_poses) {
  Rig rig("location=" + path("p"));
  rig.push_frames(2);
  rig.push(gst_buffer_new());
  GstStructure* stats = nullptr;
  g_object_get(rig.harness->element, "stats", &stats, nullptr);
  guint64 written = 0, with_pose = 0;
  fail_unless(gst_structure_get(stats, "written", G_TYPE_UINT64, &written, "with-pose", G_TYPE_UINT64,
                                &with_pose, nullptr));
  fail_unless_equals_uint64(written, 3);
  fail_unless_equals_uint64(with_pose, 2);
  gst_structure_free(stats);
}
GST_END_TEST

GST_START_TEST(a_second_run_overwrites_the_first) {
  Rig rig("format=tum location=" + path("p"));
  rig.push_frames(3);
  gst_element_set_state(rig.harness->element, GST_STATE_READY);
  g_object_set(rig.harness->element, "location", path("q").c_str(), nullptr);
  gst_element_set_state(rig.harness->element, GST_STATE_PLAYING);
  fail_unless(rig.warning().empty());
  fail_unless_equals_int(data_lines_of(path("p")).size(), 3);
  fail_unless(fs::exists(path("q")));
  gst_element_set_state(rig.harness->element, GST_STATE_READY);
  g_object_set(rig.harness->element, "location", path("p").c_str(), nullptr);
  gst_element_set_state(rig.harness->element, GST_STATE_PLAYING);
  fail_unless_equals_int(data_lines_of(path("p")).size(), 0);
}
GST_END_TEST

GST_START_TEST(a_fifo_is_written_to) {
  fail_unless(mkfifo(path("fifo").c_str(), 0600) == 0);
  const int reader = open(path("fifo").c_str(), O_RDONLY | O_NONBLOCK);
  Rig rig("format=kitti location=" + path("fifo"));
  rig.push_frames(1);
  char bytes[256];
  const ssize_t got = read(reader, bytes, sizeof bytes);
  assert_equal(std::string(bytes, got > 0 ? std::size_t(got) : 0), "0 1 0 -2 -1 0 0 1 0 0 1 -3\n");
  close(reader);
}
GST_END_TEST

// From here on: what goes wrong.

GST_START_TEST(location_unset) {
  assert_contains(start_error("", GST_RESOURCE_ERROR_SETTINGS), "\"location\"");
  assert_contains(start_error("location=\"\"", GST_RESOURCE_ERROR_SETTINGS), "\"location\"");
}
GST_END_TEST

GST_START_TEST(folder_missing) {
  const std::string text = start_error("location=" + path("no/such/p"), GST_RESOURCE_ERROR_OPEN_WRITE);
  assert_contains(text, path("no/such/p"));
  assert_contains(text, "the folder does not exist");
}
GST_END_TEST

GST_START_TEST(location_is_a_folder) {
  assert_contains(start_error("location=" + folder.string(), GST_RESOURCE_ERROR_OPEN_WRITE),
                  "it is a folder");
}
GST_END_TEST

GST_START_TEST(file_unwritable) {
  // Root writes everywhere, but not below a file.
  std::ofstream(path("file")) << "kept";
  assert_contains(start_error("location=" + path("file/p"), GST_RESOURCE_ERROR_OPEN_WRITE),
                  "Not a directory");
  if (geteuid() != 0) {
    fs::permissions(path("file"), fs::perms::owner_read);
    assert_contains(start_error("location=" + path("file"), GST_RESOURCE_ERROR_OPEN_WRITE),
                    "Permission denied");
  }
  assert_equal(lines_of(path("file")).at(0), "kept");
}
GST_END_TEST

GST_START_TEST(fifo_that_nobody_reads) {
  fail_unless(mkfifo(path("fifo").c_str(), 0600) == 0);
  assert_contains(start_error("location=" + path("fifo"), GST_RESOURCE_ERROR_OPEN_WRITE),
                  "start the reader first");
}
GST_END_TEST

GST_START_TEST(disk_full) {
  for (const char* format : {"jsonl", "tum", "kitti"}) {
    Rig rig(std::string("location=/dev/full format=") + format);
    fail_unless_equals_int(rig.push(frame(0)), GST_FLOW_ERROR);
    const std::string text = rig.error(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT);
    assert_contains(text, "the disk is full");
    assert_contains(text, "/dev/full");
    // Shutting down reports nothing a second time.
    gst_element_set_state(rig.harness->element, GST_STATE_NULL);
    fail_unless(rig.message(GST_MESSAGE_ERROR).empty());
  }
}
GST_END_TEST

GST_START_TEST(disk_full_without_a_frame_is_reported_at_the_end) {
  Rig rig("location=/dev/full");
  gst_element_set_state(rig.harness->element, GST_STATE_NULL);
  assert_contains(rig.error(GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT), "the disk is full");
}
GST_END_TEST

GST_START_TEST(frames_without_pose_are_counted_once_at_eos) {
  Rig rig("format=tum location=" + path("p"));
  GstDa3View view = example_view(0);
  view.has_extrinsics = FALSE;
  rig.push(frame(0));
  for (int i = 1; i < 4; ++i) rig.push(frame_with(view, GstClockTime(i)));
  rig.push(gst_buffer_new());
  view.has_extrinsics = TRUE;
  view.translation[0] = NAN;
  rig.push(frame_with(view, 9));
  fail_unless(rig.warning().empty());
  rig.eos();
  const std::string text = rig.warning();
  assert_contains(text, "5 frames of 6 are not in");
  assert_contains(text, "1 without results of da3infer");
  assert_contains(text, "3 without a pose");
  assert_contains(text, "1 with a pose that is not a finite rigid transform");
  fail_unless(rig.warning().empty());
  fail_unless_equals_int(data_lines_of(path("p")).size(), 1);
}
GST_END_TEST

GST_START_TEST(a_model_without_poses_is_named_with_those_that_have_them) {
  Rig rig("format=kitti location=" + path("p"));
  GstDa3View view = example_view(0);
  view.has_extrinsics = FALSE;
  g_strlcpy(view.model, "da3mono-large", sizeof view.model);
  for (int i = 0; i < 3; ++i)
    fail_unless_equals_int(rig.push(frame_with(view, GstClockTime(i))), GST_FLOW_OK);
  rig.eos();
  const std::string text = rig.warning();
  assert_contains(text, "The model da3mono-large computes none");
  assert_contains(text, "da3-small");
  assert_contains(text, "format=jsonl");
  fail_unless(lines_of(path("p")).empty());
}
GST_END_TEST

GST_START_TEST(jsonl_keeps_frames_of_a_model_without_poses_silently) {
  Rig rig("location=" + path("p"));
  GstDa3View view = example_view(4);
  view.has_extrinsics = FALSE;
  rig.push(frame_with(view, 5 * GST_SECOND));
  rig.eos();
  fail_unless(rig.warning().empty());
  const std::string line = lines_of(path("p")).at(1);
  assert_contains(line, "\"frame\":4,");
  assert_contains(line, "\"pts\":5.000000000,\"pose\":null");
  assert_contains(line, "\"depth\":{\"min\":0.5");
}
GST_END_TEST

GST_START_TEST(without_da3infer_the_warning_says_so) {
  for (const char* format : {"jsonl", "tum"}) {
    Rig rig(std::string("format=") + format + " location=" + path("p"));
    rig.push(gst_buffer_new());
    rig.push(gst_buffer_new());
    rig.eos();
    assert_contains(rig.warning(), "Put da3infer in front of da3posesink.");
  }
  fail_unless(data_lines_of(path("p")).empty());
}
GST_END_TEST

GST_START_TEST(frames_without_a_timestamp) {
  Rig rig("format=tum location=" + path("p"));
  rig.push(frame_with(example_view(0), GST_CLOCK_TIME_NONE));
  GstBuffer* with_dts = frame_with(example_view(1), GST_CLOCK_TIME_NONE);
  GST_BUFFER_DTS(with_dts) = 3 * GST_SECOND;
  rig.push(with_dts);
  rig.eos();
  assert_contains(rig.warning(), "1 without a timestamp");
  fail_unless(data_lines_of(path("p")).at(0).starts_with("3.000000000 "));
}
GST_END_TEST

GST_START_TEST(a_segment_that_is_no_time_gives_no_time) {
  Rig rig("location=" + path("p"));
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_BYTES);
  gst_harness_push_event(rig.harness, gst_event_new_segment(&segment));
  rig.push(frame(2));
  assert_contains(lines_of(path("p")).at(1), "\"pts\":null");
}
GST_END_TEST

GST_START_TEST(eos_before_any_buffer_leaves_a_header) {
  {
    Rig rig("format=tum location=" + path("p"), nullptr);
    rig.eos();
    fail_unless(rig.warning().empty());
  }
  fail_unless(data_lines_of(path("p")).empty());
  fail_unless(lines_of(path("p")).at(0).starts_with("# gst-da3 trajectory"));
}
GST_END_TEST

GST_START_TEST(properties_do_not_change_while_the_file_is_open) {
  Rig rig("format=tum location=" + path("p"));
  g_object_set(rig.harness->element, "location", path("q").c_str(), nullptr);
  assert_contains(rig.warning(), "\"location\" cannot be changed");
  g_object_set(rig.harness->element, "format", 2, nullptr);
  assert_contains(rig.warning(), "\"format\" cannot be changed");
  gchar* location = nullptr;
  gint format = 0;
  g_object_get(rig.harness->element, "location", &location, "format", &format, nullptr);
  assert_equal(location, path("p"));
  fail_unless_equals_int(format, 1);
  g_free(location);
  rig.push_frames(1);
  fail_unless(!fs::exists(path("q")));
  fail_unless_equals_int(data_lines_of(path("p")).size(), 1);
}
GST_END_TEST

GST_START_TEST(shutting_down_does_not_wait_for_the_reader_of_a_fifo) {
  fail_unless(mkfifo(path("fifo").c_str(), 0600) == 0);
  const int reader = open(path("fifo").c_str(), O_RDONLY | O_NONBLOCK);
  fcntl(reader, F_SETPIPE_SZ, 4096);
  GstElement* pipeline = gst_parse_launch(
      ("fakesrc sizetype=fixed sizemax=4 ! da3posesink async=false location=" + path("fifo")).c_str(),
      nullptr);
  fail_unless(pipeline != nullptr);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  // The first bytes are there, so the streaming thread runs towards a full pipe.
  char byte;
  while (read(reader, &byte, 1) != 1) g_thread_yield();
  fail_unless_equals_int(gst_element_set_state(pipeline, GST_STATE_NULL), GST_STATE_CHANGE_SUCCESS);
  gst_object_unref(pipeline);
  close(reader);
}
GST_END_TEST

GST_START_TEST(up_and_down_many_times) {
  GstElement* sink = gst_parse_launch(("da3posesink location=" + path("p")).c_str(), nullptr);
  for (int i = 0; i < 50; ++i) {
    gst_element_set_state(sink, GST_STATE_PAUSED);
    gst_element_set_state(sink, i % 2 ? GST_STATE_READY : GST_STATE_NULL);
  }
  gst_element_set_state(sink, GST_STATE_NULL);
  gst_object_unref(sink);
  const auto open_files = std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  fail_unless(open_files < 40, "%d files are open", int(open_files));
}
GST_END_TEST

static Suite* da3posesink_suite(void) {
  Suite* suite = suite_create("da3posesink");
  TCase* test_case = tcase_create("all");
  tcase_add_checked_fixture(test_case, make_folder, remove_folder);
  suite_add_tcase(suite, test_case);
  tcase_add_test(test_case, tum_writes_time_centre_and_quaternion);
  tcase_add_test(test_case, pose_direction_w2c_writes_what_the_meta_holds);
  tcase_add_test(test_case, default_is_jsonl_c2w_without_sync);
  tcase_add_test(test_case, jsonl_tells_the_part_of_the_original_picture);
  tcase_add_test(test_case, metric_lengths_are_written_in_metres);
  tcase_add_test(test_case, metric_without_a_scale_is_not_called_metres);
  tcase_add_test(test_case, time_is_stream_time);
  tcase_add_test(test_case, a_line_is_in_the_file_when_the_push_returns);
  tcase_add_test(test_case, any_caps_and_changes_of_caps_are_fine);
  tcase_add_test(test_case, a_flush_loses_no_line);
  tcase_add_test(test_case, stats_count_lines_and_poses);
  tcase_add_test(test_case, a_second_run_overwrites_the_first);
  tcase_add_test(test_case, a_fifo_is_written_to);
  tcase_add_test(test_case, location_unset);
  tcase_add_test(test_case, folder_missing);
  tcase_add_test(test_case, location_is_a_folder);
  tcase_add_test(test_case, file_unwritable);
  tcase_add_test(test_case, fifo_that_nobody_reads);
  tcase_add_test(test_case, disk_full);
  tcase_add_test(test_case, disk_full_without_a_frame_is_reported_at_the_end);
  tcase_add_test(test_case, frames_without_pose_are_counted_once_at_eos);
  tcase_add_test(test_case, a_model_without_poses_is_named_with_those_that_have_them);
  tcase_add_test(test_case, jsonl_keeps_frames_of_a_model_without_poses_silently);
  tcase_add_test(test_case, without_da3infer_the_warning_says_so);
  tcase_add_test(test_case, frames_without_a_timestamp);
  tcase_add_test(test_case, a_segment_that_is_no_time_gives_no_time);
  tcase_add_test(test_case, eos_before_any_buffer_leaves_a_header);
  tcase_add_test(test_case, properties_do_not_change_while_the_file_is_open);
  tcase_add_test(test_case, shutting_down_does_not_wait_for_the_reader_of_a_fifo);
  tcase_add_test(test_case, up_and_down_many_times);
  return suite;
}

GST_CHECK_MAIN(da3posesink);
