// SPDX-License-Identifier: MIT
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

// clang-format off: Check's header defines fail(), which the standard library's do not survive.
#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#include <gst/da3/da3.h>
// clang-format on

namespace fs = std::filesystem;

namespace {

constexpr const char* kTrueDepth = GST_DA3_TENSOR_DEPTH "-truth";
constexpr const char* kTrueSky = GST_DA3_TENSOR_SKY "-truth";
constexpr const char* kCaps = "video/x-raw,format=RGB,width=8,height=4,framerate=10/1";
constexpr int kWidth = 8, kHeight = 4;

fs::path folder;

void make_folder() {
  std::string name = (fs::temp_directory_path() / "da3-score-XXXXXX").string();
  fail_unless(mkdtemp(name.data()) != nullptr);
  folder = name;
}

void remove_folder() {
  fs::remove_all(folder);
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void assert_near(double value, double wanted, double tolerance = 1e-5) {
  fail_unless(std::abs(value - wanted) <= tolerance, "%.9g is not %.9g", value, wanted);
}

struct Map {
  int width = kWidth, height = kHeight;
  std::vector<float> values;
};

Map flat(float value, int width = kWidth, int height = kHeight) {
  return {width, height, std::vector<float>(size_t(width) * size_t(height), value)};
}

// Value of each pixel by column and row.
Map drawn(int width, int height, const std::function<float(int, int)>& value) {
  Map map{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) map.values.push_back(value(x, y));
  }
  return map;
}

void attach(GstBuffer* buffer, const char* id, const Map& map) {
  const gsize bytes = map.values.size() * sizeof(float);
  GstBuffer* data = gst_buffer_new_allocate(nullptr, bytes, nullptr);
  gst_buffer_fill(data, 0, map.values.data(), bytes);
  const gsize dims[] = {1, gsize(map.height), gsize(map.width)};
  fail_unless(gst_buffer_add_da3_tensor(buffer, id, data, 3, dims));
}

GstDa3View view_of(GstDa3Role role) {
  GstDa3View view;
  gst_da3_view_init(&view);
  view.role = role;
  view.image_width = kWidth;
  view.image_height = kHeight;
  view.depth_w = kWidth;
  view.depth_h = kHeight;
  view.kind = role == GST_DA3_ROLE_TRUTH ? GST_DA3_DEPTH_KIND_METRIC : GST_DA3_DEPTH_KIND_RELATIVE;
  view.unit_scale = role == GST_DA3_ROLE_TRUTH ? 1 : 0;
  return view;
}

void set_lens(GstDa3View* view, double focal) {
  view->has_intrinsics = TRUE;
  view->fx = view->fy = focal;
  view->cx = view->image_width / 2.0;
  view->cy = view->image_height / 2.0;
}

// A camera turned by `degrees` about its y axis, at (x, y, z).
void set_pose(GstDa3View* view, double degrees, double x, double y, double z) {
  const double a = degrees * std::numbers::pi / 180, c = std::cos(a), s = std::sin(a);
  const double r[9] = {c, 0, s, 0, 1, 0, -s, 0, c};
  view->has_extrinsics = TRUE;
  for (int i = 0; i < 9; ++i) view->rotation[i] = r[i];
  for (int i = 0; i < 3; ++i) view->translation[i] = -(r[3 * i] * x + r[3 * i + 1] * y + r[3 * i + 2] * z);
}

GstBuffer* empty_frame(int number) {
  GstBuffer* buffer = gst_buffer_new_allocate(nullptr, size_t(3) * kWidth * kHeight, nullptr);
  gst_buffer_memset(buffer, 0, guint8(number), gst_buffer_get_size(buffer));
  GST_BUFFER_PTS(buffer) = guint64(number) * 100 * GST_MSECOND;
  GST_BUFFER_DURATION(buffer) = 100 * GST_MSECOND;
  return buffer;
}

GstBuffer* frame_of(int number, const Map& prediction, const Map& truth) {
  GstBuffer* buffer = empty_frame(number);
  GstDa3View view = view_of(GST_DA3_ROLE_TRUTH);
  gst_buffer_add_da3_view(buffer, &view);
  view = view_of(GST_DA3_ROLE_PREDICTION);
  view.frame = view.window = number;
  gst_buffer_add_da3_view(buffer, &view);
  attach(buffer, GST_DA3_TENSOR_DEPTH, prediction);
  attach(buffer, kTrueDepth, truth);
  return buffer;
}

struct Structure {
  GstStructure* s = nullptr;
  explicit Structure(GstStructure* taken) : s(taken) {}
  Structure(Structure&& other) noexcept : s(std::exchange(other.s, nullptr)) {}
  ~Structure() {
    if (s) gst_structure_free(s);
  }
  bool has(const char* field) const { return gst_structure_has_field(s, field); }
  double number(const char* field) const {
    gdouble value = NAN;
    fail_unless(gst_structure_get_double(s, field, &value), "no %s", field);
    return value;
  }
  guint64 count(const char* field) const {
    const GValue* value = gst_structure_get_value(s, field);
    fail_unless(value != nullptr, "no %s", field);
    return G_VALUE_HOLDS_UINT64(value) ? g_value_get_uint64(value) : guint64(g_value_get_int64(value));
  }
};

class Score {
 public:
  explicit Score(const std::string& properties = "", bool play = true) {
    element = gst_parse_launch(("da3score " + properties).c_str(), nullptr);
    fail_unless(element != nullptr);
    gst_object_ref_sink(element);
    bus = gst_bus_new();
    gst_element_set_bus(element, bus);
    if (!play) return;
    harness = gst_harness_new_with_element(element, "sink", "src");
    gst_harness_set_src_caps_str(harness, kCaps);
  }
  ~Score() {
    gst_element_set_bus(element, nullptr);
    if (harness) gst_harness_teardown(harness);
    gst_element_set_state(element, GST_STATE_NULL);
    gst_object_unref(element);
    gst_object_unref(bus);
  }
  Score(const Score&) = delete;
  Score& operator=(const Score&) = delete;

  // The frame that comes out is the one that went in, to the byte and the meta.
  void pass(GstBuffer* buffer) {
    GstBuffer* kept = gst_buffer_ref(buffer);
    fail_unless_equals_int(gst_harness_push(harness, buffer), GST_FLOW_OK);
    GstBuffer* out = gst_harness_pull(harness);
    fail_unless(out == kept, "the buffer was replaced");
    gst_buffer_unref(out);
    gst_buffer_unref(kept);
  }
  void end() { fail_unless(gst_harness_push_event(harness, gst_event_new_eos())); }
  Structure summary() {
    GstStructure* s = nullptr;
    g_object_get(element, "summary", &s, nullptr);
    fail_unless(s != nullptr);
    return Structure(s);
  }
  // The next element message of that name.
  Structure message(const char* name) {
    while (GstMessage* m = gst_bus_pop_filtered(bus, GST_MESSAGE_ELEMENT)) {
      const GstStructure* s = gst_message_get_structure(m);
      GstStructure* copy = gst_structure_has_name(s, name) ? gst_structure_copy(s) : nullptr;
      gst_message_unref(m);
      if (copy) return Structure(copy);
    }
    fail_unless(false, "no message %s", name);
    return Structure(nullptr);
  }
  // Text of the next warning or error, "" if there is none.
  std::string complaint(GstMessageType type, GQuark* domain = nullptr, gint* code = nullptr) {
    GstMessage* m = gst_bus_pop_filtered(bus, type);
    if (!m) return "";
    GError* error = nullptr;
    if (type == GST_MESSAGE_ERROR)
      gst_message_parse_error(m, &error, nullptr);
    else
      gst_message_parse_warning(m, &error, nullptr);
    const std::string text = error->message;
    if (domain) *domain = error->domain;
    if (code) *code = error->code;
    g_error_free(error);
    gst_message_unref(m);
    return text;
  }

  GstElement* element = nullptr;
  GstBus* bus = nullptr;
  GstHarness* harness = nullptr;
};

struct Camera {
  double turn = 0, x = 0, y = 0, z = 0;
};

// View `view` of `views` in `window`: where the camera was and where it is said to have been.
GstBuffer* posed_frame(int number, int window, int view, int views, const Camera& truth,
                       const Camera& estimate) {
  GstBuffer* buffer = empty_frame(number);
  GstDa3View t = view_of(GST_DA3_ROLE_TRUTH), p = view_of(GST_DA3_ROLE_PREDICTION);
  set_pose(&t, truth.turn, truth.x, truth.y, truth.z);
  set_pose(&p, estimate.turn, estimate.x, estimate.y, estimate.z);
  p.frame = number;
  p.window = window;
  p.view_index = view;
  p.views = views;
  gst_buffer_add_da3_view(buffer, &t);
  gst_buffer_add_da3_view(buffer, &p);
  return buffer;
}

}  // namespace

// ---- depth
// ---------------------------------------------------------------------------------------------------------

GST_START_TEST(depth_is_scaled_by_its_median) {
  Score score;
  score.pass(frame_of(0, flat(2), flat(5)));
  const Structure frame = score.message("da3-score");
  assert_near(frame.number("abs_rel"), 0);
  assert_near(frame.number("delta1"), 1);
  assert_near(frame.number("scale"), 2.5);
  fail_unless_equals_uint64(frame.count("pixels"), kWidth * kHeight);
}
GST_END_TEST

GST_START_TEST(depth_is_compared_in_metres_without_scaling) {
  Score score("median-scaling=false");
  score.pass(frame_of(0, flat(2), flat(5)));
  assert_near(score.summary().number("abs_rel"), 0.6);
  assert_near(score.summary().number("delta1"), 0);
}
GST_END_TEST

GST_START_TEST(mirrored_and_upturned_depth_is_found_out) {
  const Map truth = drawn(kWidth, kHeight, [](int x, int y) { return 1.0f + 0.5f * x + 2 * y; });
  const Map mirrored = drawn(kWidth, kHeight, [](int x, int y) { return 1.0f + 0.5f * (7 - x) + 2 * y; });
  const Map upturned = drawn(kWidth, kHeight, [](int x, int y) { return 1.0f + 0.5f * x + 2 * (3 - y); });
  for (const auto& [map, wrong] : {std::pair{&truth, false}, {&mirrored, true}, {&upturned, true}}) {
    Score score;
    score.pass(frame_of(0, *map, truth));
    if (wrong)
      fail_unless(score.summary().number("abs_rel") > 0.1);
    else
      assert_near(score.summary().number("abs_rel"), 0);
  }
}
GST_END_TEST

GST_START_TEST(a_smaller_prediction_is_interpolated_at_the_pixels_of_the_truth) {
  // Linear along x: bilinear interpolation meets it wherever there are neighbours.
  const Map truth = drawn(16, 8, [](int x, int) { return 10 + (x + 0.5f) / 16; });
  const Map prediction = drawn(8, 4, [](int x, int) { return 10 + (x + 0.5f) / 8; });
  Score score("median-scaling=false");
  score.pass(frame_of(0, prediction, truth));
  const Structure frame = score.message("da3-score");
  fail_unless_equals_uint64(frame.count("pixels"), 128);
  // Two columns of sixteen have no outer neighbour and are off by 1/32.
  assert_near(frame.number("abs_rel"), 2.0 / 16 * (1.0 / 32) / 10.5, 1e-5);
}
GST_END_TEST

GST_START_TEST(what_was_cropped_away_is_left_out) {
  // The network saw columns 2 to 5.
  const Map truth = drawn(kWidth, kHeight, [](int x, int) { return x < 2 || x > 5 ? 100.0f : 1.0f + x; });
  const Map prediction = drawn(4, kHeight, [](int x, int) { return 3.0f + x; });
  Score score("median-scaling=false");
  GstBuffer* buffer = frame_of(0, prediction, truth);
  GstDa3View view = view_of(GST_DA3_ROLE_PREDICTION);
  view.depth_x = 2;
  view.depth_w = 4;
  gst_buffer_add_da3_view(buffer, &view);
  score.pass(buffer);
  const Structure frame = score.message("da3-score");
  fail_unless_equals_uint64(frame.count("pixels"), 16);
  assert_near(frame.number("abs_rel"), 0);
}
GST_END_TEST

GST_START_TEST(sky_is_left_out) {
  Score score;
  GstBuffer* buffer =
      frame_of(0, flat(3), drawn(kWidth, kHeight, [](int, int y) { return y < 2 ? 999 : 3; }));
  attach(buffer, kTrueSky, drawn(kWidth, kHeight, [](int, int y) { return y < 2 ? 1 : 0; }));
  score.pass(buffer);
  const Structure frame = score.message("da3-score");
  fail_unless_equals_uint64(frame.count("pixels"), 16);
  assert_near(frame.number("abs_rel"), 0);
}
GST_END_TEST

GST_START_TEST(nothing_but_sky_is_no_score_of_depth) {
  Score score("location=" + (folder / "s.jsonl").string());
  score.pass(frame_of(0, flat(3), flat(0)));
  fail_if(score.message("da3-score").has("abs_rel"));
  fail_if(score.summary().has("abs_rel"));
  fail_unless(contains(lines_of(folder / "s.jsonl").at(0), "\"abs_rel\":null"));
}
GST_END_TEST

GST_START_TEST(depth_that_is_not_finite_is_wrong) {
  Score score;
  score.pass(frame_of(0, flat(NAN), flat(3)));
  assert_near(score.summary().number("abs_rel"), 1);
  assert_near(score.summary().number("delta1"), 0);
}
GST_END_TEST

GST_START_TEST(a_tensor_of_another_shape_is_an_error) {
  Score score;
  GstBuffer* buffer = frame_of(0, flat(1), flat(1));
  const gsize dims[] = {kHeight, kWidth};
  gst_buffer_add_da3_tensor(buffer, kTrueDepth, gst_buffer_new_allocate(nullptr, 4 * 32, nullptr), 2, dims);
  fail_unless_equals_int(gst_harness_push(score.harness, buffer), GST_FLOW_ERROR);
  fail_unless(contains(score.complaint(GST_MESSAGE_ERROR), "[4, 8]"));
}
GST_END_TEST

// ---- cameras
// -------------------------------------------------------------------------------------------------------

GST_START_TEST(angles_are_those_within_a_window) {
  Score score;
  // The first pair is 20 degrees off in rotation; in truth the camera moves along x, in the estimate along z.
  score.pass(posed_frame(0, 0, 0, 2, {}, {}));
  score.pass(posed_frame(1, 0, 1, 2, {0, 1, 0, 0}, {20, 0, 0, 1}));
  fail_if(score.message("da3-score").has("rotation_error_deg"), "the first of a window has no pair");
  const Structure second = score.message("da3-score");
  assert_near(second.number("rotation_error_deg"), 20);
  fail_unless(second.number("translation_direction_error_deg") > 60);
  // A new window has a world of its own, however far from the other.
  score.pass(posed_frame(2, 1, 0, 2, {0, 2, 0, 0}, {90, 7, 7, 7}));
  score.pass(posed_frame(3, 1, 1, 2, {0, 3, 0, 0}, {90, 8, 7, 7}));
  fail_if(score.message("da3-score").has("rotation_error_deg"));
  assert_near(score.message("da3-score").number("rotation_error_deg"), 0);
  fail_unless_equals_uint64(score.summary().count("pairs"), 2);
}
GST_END_TEST

GST_START_TEST(moving_backwards_is_180_degrees) {
  Score score;
  score.pass(posed_frame(0, 0, 0, 2, {}, {}));
  score.pass(posed_frame(1, 0, 1, 2, {0, 0, 0, 1}, {0, 0, 0, -1}));
  assert_near(score.summary().number("translation_direction_error_deg"), 180);
  assert_near(score.summary().number("auc30"), 0);
}
GST_END_TEST

GST_START_TEST(a_view_of_its_own_has_no_pose_to_compare) {
  Score score;
  for (int i = 0; i < 4; ++i) score.pass(posed_frame(i, i, 0, 1, {0, double(i), 0, 0}, {}));
  score.end();
  const Structure summary = score.message("da3-score-summary");
  fail_unless_equals_uint64(summary.count("scored"), 4);
  fail_unless_equals_uint64(summary.count("pairs"), 0);
  fail_unless_equals_uint64(summary.count("trajectories"), 0);
  fail_if(summary.has("rotation_error_deg") || summary.has("ate") || summary.has("auc30"));
}
GST_END_TEST

GST_START_TEST(a_trajectory_of_another_scale_is_met) {
  Score score;
  const Camera path[] = {{0, 0, 0, 0}, {0, 2, 0, 0}, {0, 2, 2, 0}, {0, 0, 2, 1}};
  for (int i = 0; i < 4; ++i) {
    const Camera& c = path[i];
    score.pass(posed_frame(i, 0, i, 4, c, {0, 5 + c.x / 10, c.y / 10, c.z / 10}));
  }
  // The window is still open.
  assert_near(score.summary().number("ate"), 0);
  score.end();
  assert_near(score.summary().number("ate_relative"), 0);
  fail_unless_equals_uint64(score.summary().count("trajectories"), 1);
}
GST_END_TEST

GST_START_TEST(a_jump_ends_the_window) {
  Score score;
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  score.pass(posed_frame(0, 0, 0, 2, {}, {}));
  gst_harness_push_event(score.harness, gst_event_new_flush_start());
  gst_harness_push_event(score.harness, gst_event_new_flush_stop(TRUE));
  gst_harness_push_event(score.harness, gst_event_new_segment(&segment));
  // The same number, as after a seek that began anew.
  score.pass(posed_frame(0, 0, 0, 2, {}, {}));
  fail_unless_equals_uint64(score.summary().count("pairs"), 0);
  fail_unless_equals_uint64(score.summary().count("frames"), 2);
}
GST_END_TEST

GST_START_TEST(the_field_of_view_is_that_of_the_picture_it_belongs_to) {
  Score score;
  GstBuffer* buffer = frame_of(0, flat(1), flat(1));
  GstDa3View t = view_of(GST_DA3_ROLE_TRUTH), p = view_of(GST_DA3_ROLE_PREDICTION);
  t.image_width = 80;
  t.image_height = 40;
  t.depth_w = 80;
  t.depth_h = 40;
  set_lens(&t, 40);
  set_lens(&p, 4);
  gst_buffer_add_da3_view(buffer, &t);
  gst_buffer_add_da3_view(buffer, &p);
  score.pass(buffer);
  assert_near(score.summary().number("fov_error"), 0);

  buffer = frame_of(1, flat(1), flat(1));
  set_lens(&p, 8);
  gst_buffer_add_da3_view(buffer, &t);
  gst_buffer_add_da3_view(buffer, &p);
  score.pass(buffer);
  score.message("da3-score");
  const double across = 1 - std::atan(0.5) / std::atan(1.0), down = 1 - std::atan(0.25) / std::atan(0.5);
  assert_near(score.message("da3-score").number("fov_error"), (across + down) / 2);
}
GST_END_TEST

// ---- what is missing
// -----------------------------------------------------------------------------------------------

GST_START_TEST(no_truth_is_one_warning_and_no_score) {
  Score score;
  for (int i = 0; i < 3; ++i) {
    GstBuffer* buffer = empty_frame(i);
    const GstDa3View view = view_of(GST_DA3_ROLE_PREDICTION);
    gst_buffer_add_da3_view(buffer, &view);
    attach(buffer, GST_DA3_TENSOR_DEPTH, flat(1));
    score.pass(buffer);
  }
  fail_unless(contains(score.complaint(GST_MESSAGE_WARNING), "da3testsrc"));
  fail_unless(score.complaint(GST_MESSAGE_WARNING).empty(), "a second warning");
  const Structure summary = score.summary();
  fail_unless_equals_uint64(summary.count("frames"), 3);
  fail_unless_equals_uint64(summary.count("scored"), 0);
  fail_unless_equals_uint64(summary.count("without_truth"), 3);
}
GST_END_TEST

GST_START_TEST(no_prediction_is_one_warning_and_no_score) {
  Score score;
  for (int i = 0; i < 3; ++i) {
    GstBuffer* buffer = empty_frame(i);
    const GstDa3View view = view_of(GST_DA3_ROLE_TRUTH);
    gst_buffer_add_da3_view(buffer, &view);
    attach(buffer, kTrueDepth, flat(1));
    score.pass(buffer);
  }
  fail_unless(contains(score.complaint(GST_MESSAGE_WARNING), "da3infer"));
  fail_unless(score.complaint(GST_MESSAGE_WARNING).empty(), "a second warning");
  fail_unless_equals_uint64(score.summary().count("without_prediction"), 3);
}
GST_END_TEST

GST_START_TEST(depth_of_an_earlier_frame_is_no_prediction) {
  Score score;
  GstBuffer* buffer = frame_of(0, flat(2), flat(1));
  GstDa3View view = view_of(GST_DA3_ROLE_PREDICTION);
  view.stale = TRUE;
  gst_buffer_add_da3_view(buffer, &view);
  score.pass(buffer);
  fail_if(score.summary().has("abs_rel"), "it was scored");
  fail_unless(score.complaint(GST_MESSAGE_WARNING).empty(), "on-drop=reuse is nothing to warn of");
  score.pass(frame_of(1, flat(1), flat(1)));
  const Structure summary = score.summary();
  fail_unless_equals_uint64(summary.count("frames"), 2);
  fail_unless_equals_uint64(summary.count("scored"), 1);
  fail_unless_equals_uint64(summary.count("without_prediction"), 1);
}
GST_END_TEST

GST_START_TEST(truth_whose_place_is_unknown_is_no_truth) {
  // As behind an element that cropped: the map is there, but nobody knows which part it covers.
  Score score;
  GstBuffer* buffer = frame_of(0, flat(1), flat(1));
  GstDa3View view = view_of(GST_DA3_ROLE_TRUTH);
  view.depth_w = view.depth_h = 0;
  gst_buffer_add_da3_view(buffer, &view);
  score.pass(buffer);
  fail_unless_equals_uint64(score.summary().count("without_truth"), 1);
}
GST_END_TEST

GST_START_TEST(a_stream_without_frames_has_a_summary) {
  Score score("location=" + (folder / "s.jsonl").string());
  score.end();
  const Structure summary = score.message("da3-score-summary");
  fail_unless_equals_uint64(summary.count("frames"), 0);
  fail_if(summary.has("abs_rel"));
  const auto lines = lines_of(folder / "s.jsonl");
  fail_unless_equals_int(int(lines.size()), 1);
  fail_unless(contains(lines[0], "\"frames\":0") && contains(lines[0], "\"abs_rel\":null"));
  fail_if(contains(lines[0], "nan"));
}
GST_END_TEST

// ---- reports
// -------------------------------------------------------------------------------------------------------

GST_START_TEST(the_file_has_a_line_a_frame_and_a_summary) {
  const fs::path file = folder / "s.jsonl";
  {
    Score score("location=" + file.string());
    for (int i = 0; i < 3; ++i) score.pass(frame_of(i, flat(2), flat(4)));
    // Each line is there when its frame has passed.
    fail_unless_equals_int(int(lines_of(file).size()), 3);
    score.end();
  }
  const auto lines = lines_of(file);
  fail_unless_equals_int(int(lines.size()), 4);
  fail_unless(contains(lines[1], "{\"type\":\"frame\",\"frame\":1,\"time\":0.1,"), "%s", lines[1].c_str());
  fail_unless(contains(lines[3], "{\"type\":\"summary\",\"frames\":3,\"scored\":3,"), "%s", lines[3].c_str());
}
GST_END_TEST

GST_START_TEST(a_stream_that_is_stopped_has_a_summary_in_its_file) {
  const fs::path file = folder / "s.jsonl";
  {
    Score score("location=" + file.string());
    score.pass(frame_of(0, flat(2), flat(4)));
  }
  fail_unless(contains(lines_of(file).back(), "\"type\":\"summary\",\"frames\":1"));
}
GST_END_TEST

GST_START_TEST(a_file_that_cannot_be_written_is_an_error_before_the_first_frame) {
  Score score("location=" + (folder / "no/such/folder.jsonl").string(), false);
  fail_unless_equals_int(gst_element_set_state(score.element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
  GQuark domain = 0;
  gint code = 0;
  const std::string text = score.complaint(GST_MESSAGE_ERROR, &domain, &code);
  fail_unless(contains(text, "folder.jsonl"), "%s", text.c_str());
  fail_unless(domain == GST_RESOURCE_ERROR && code == GST_RESOURCE_ERROR_OPEN_WRITE);
}
GST_END_TEST

GST_START_TEST(a_full_disk_is_one_error) {
  if (!fs::exists("/dev/full")) return;
  Score score("location=/dev/full");
  fail_unless_equals_int(gst_harness_push(score.harness, frame_of(0, flat(2), flat(4))), GST_FLOW_ERROR);
  GQuark domain = 0;
  gint code = 0;
  fail_if(score.complaint(GST_MESSAGE_ERROR, &domain, &code).empty());
  fail_unless(domain == GST_RESOURCE_ERROR && code == GST_RESOURCE_ERROR_NO_SPACE_LEFT);
  gst_element_set_state(score.element, GST_STATE_NULL);
  fail_unless(score.complaint(GST_MESSAGE_ERROR).empty(), "a second error");
}
GST_END_TEST

GST_START_TEST(the_file_cannot_be_changed_while_it_is_open) {
  Score score("location=" + (folder / "s.jsonl").string());
  g_object_set(score.element, "location", (folder / "other.jsonl").c_str(), nullptr);
  fail_unless(contains(score.complaint(GST_MESSAGE_WARNING), "location"));
  fail_if(fs::exists(folder / "other.jsonl"));
}
GST_END_TEST

GST_START_TEST(messages_can_be_left_out) {
  Score score("post-messages=false");
  score.pass(frame_of(0, flat(2), flat(4)));
  score.end();
  GstMessage* message = gst_bus_pop_filtered(score.bus, GST_MESSAGE_ELEMENT);
  fail_unless(message && gst_structure_has_name(gst_message_get_structure(message), "da3-score-summary"));
  gst_message_unref(message);
}
GST_END_TEST

GST_START_TEST(words_are_there_on_demand) {
  for (const bool silent : {true, false}) {
    Score score(silent ? "" : "silent=false");
    score.pass(frame_of(7, flat(2), flat(4)));
    gchar* text = nullptr;
    g_object_get(score.element, "last-message", &text, nullptr);
    fail_unless(silent ? text == nullptr : contains(text, "frame 7: AbsRel 0.0000"), "%s", text);
    g_free(text);
  }
}
GST_END_TEST

GST_START_TEST(a_second_run_begins_anew) {
  Score score;
  score.pass(frame_of(0, flat(2), flat(4)));
  gst_element_set_state(score.element, GST_STATE_READY);
  gst_element_set_state(score.element, GST_STATE_PLAYING);
  fail_unless_equals_uint64(score.summary().count("frames"), 0);
}
GST_END_TEST

GST_START_TEST(caps_may_change) {
  Score score;
  score.pass(frame_of(0, flat(2), flat(4)));
  gst_harness_set_src_caps_str(score.harness, "video/x-raw,format=GRAY8,width=100,height=2,framerate=0/1");
  score.pass(frame_of(1, flat(2), flat(4)));
  fail_unless_equals_uint64(score.summary().count("scored"), 2);
}
GST_END_TEST

GST_START_TEST(the_truth_of_da3testsrc_is_right_when_it_is_predicted) {
  // Truth that a probe copies to where the prediction would be.
  GstElement* pipeline = gst_parse_launch(
      "da3testsrc scene=street path=drive num-buffers=5 ! video/x-raw,width=64,height=48,framerate=5/1 ! "
      "identity name=oracle ! da3score name=score ! fakesink",
      nullptr);
  fail_unless(pipeline != nullptr);
  GstElement* oracle = gst_bin_get_by_name(GST_BIN(pipeline), "oracle");
  GstPad* pad = gst_element_get_static_pad(oracle, "src");
  gst_pad_add_probe(
      pad, GST_PAD_PROBE_TYPE_BUFFER,
      [](GstPad*, GstPadProbeInfo* info, gpointer) {
        GstBuffer* buffer = gst_buffer_make_writable(GST_PAD_PROBE_INFO_BUFFER(info));
        GST_PAD_PROBE_INFO_DATA(info) = buffer;
        GstDa3View view;
        GstDa3Tensor depth;
        fail_unless(gst_buffer_get_da3_view_by_role(buffer, GST_DA3_ROLE_TRUTH, &view));
        fail_unless(gst_buffer_get_da3_tensor(buffer, kTrueDepth, &depth));
        view.role = GST_DA3_ROLE_PREDICTION;
        view.views = 5;
        view.view_index = int(view.frame);
        gst_buffer_add_da3_view(buffer, &view);
        gst_buffer_add_da3_tensor(buffer, GST_DA3_TENSOR_DEPTH, gst_buffer_ref(depth.data), depth.n_dims,
                                  depth.dims);
        return GST_PAD_PROBE_OK;
      },
      nullptr, nullptr);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  GstBus* bus = gst_element_get_bus(pipeline);
  GstMessage* end =
      gst_bus_timed_pop_filtered(bus, 60 * GST_SECOND, GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  fail_unless(end && GST_MESSAGE_TYPE(end) == GST_MESSAGE_EOS);
  gst_message_unref(end);
  GstElement* score = gst_bin_get_by_name(GST_BIN(pipeline), "score");
  GstStructure* taken = nullptr;
  g_object_get(score, "summary", &taken, nullptr);
  {
    const Structure summary(taken);
    fail_unless_equals_uint64(summary.count("scored"), 5);
    fail_unless_equals_uint64(summary.count("pairs"), 10);
    assert_near(summary.number("abs_rel"), 0);
    assert_near(summary.number("delta1"), 1);
    assert_near(summary.number("rotation_error_deg"), 0);
    assert_near(summary.number("translation_direction_error_deg"), 0);
    assert_near(summary.number("auc30"), 1);
    assert_near(summary.number("fov_error"), 0);
    assert_near(summary.number("ate_relative"), 0);
  }
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(score);
  gst_object_unref(bus);
  gst_object_unref(pad);
  gst_object_unref(oracle);
  gst_object_unref(pipeline);
}
GST_END_TEST

static Suite* da3score_suite() {
  Suite* suite = suite_create("da3score");
  TCase* tcase = tcase_create("scores");
  suite_add_tcase(suite, tcase);
  tcase_add_checked_fixture(tcase, make_folder, remove_folder);
  tcase_add_test(tcase, depth_is_scaled_by_its_median);
  tcase_add_test(tcase, depth_is_compared_in_metres_without_scaling);
  tcase_add_test(tcase, mirrored_and_upturned_depth_is_found_out);
  tcase_add_test(tcase, a_smaller_prediction_is_interpolated_at_the_pixels_of_the_truth);
  tcase_add_test(tcase, what_was_cropped_away_is_left_out);
  tcase_add_test(tcase, sky_is_left_out);
  tcase_add_test(tcase, nothing_but_sky_is_no_score_of_depth);
  tcase_add_test(tcase, depth_that_is_not_finite_is_wrong);
  tcase_add_test(tcase, a_tensor_of_another_shape_is_an_error);
  tcase_add_test(tcase, angles_are_those_within_a_window);
  tcase_add_test(tcase, moving_backwards_is_180_degrees);
  tcase_add_test(tcase, a_view_of_its_own_has_no_pose_to_compare);
  tcase_add_test(tcase, a_trajectory_of_another_scale_is_met);
  tcase_add_test(tcase, a_jump_ends_the_window);
  tcase_add_test(tcase, the_field_of_view_is_that_of_the_picture_it_belongs_to);
  tcase_add_test(tcase, no_truth_is_one_warning_and_no_score);
  tcase_add_test(tcase, no_prediction_is_one_warning_and_no_score);
  tcase_add_test(tcase, depth_of_an_earlier_frame_is_no_prediction);
  tcase_add_test(tcase, truth_whose_place_is_unknown_is_no_truth);
  tcase_add_test(tcase, a_stream_without_frames_has_a_summary);
  tcase_add_test(tcase, the_file_has_a_line_a_frame_and_a_summary);
  tcase_add_test(tcase, a_stream_that_is_stopped_has_a_summary_in_its_file);
  tcase_add_test(tcase, a_file_that_cannot_be_written_is_an_error_before_the_first_frame);
  tcase_add_test(tcase, a_full_disk_is_one_error);
  tcase_add_test(tcase, the_file_cannot_be_changed_while_it_is_open);
  tcase_add_test(tcase, messages_can_be_left_out);
  tcase_add_test(tcase, words_are_there_on_demand);
  tcase_add_test(tcase, a_second_run_begins_anew);
  tcase_add_test(tcase, caps_may_change);
  tcase_add_test(tcase, the_truth_of_da3testsrc_is_right_when_it_is_predicted);
  return suite;
}

GST_CHECK_MAIN(da3score)
