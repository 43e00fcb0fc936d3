// SPDX-License-Identifier: MIT
//
// What da3infer makes of frames: order, timestamps and pixels, the content of the metas, and frames that
// da3preprocess made.
#include <algorithm>

#include "infer_harness.h"

using namespace da3::testing;

namespace {

// RGB frame at process size, of random bytes, marked as made by da3preprocess.
GstBuffer* processed_noise(int width, int height, uint32_t seed, std::vector<uint8_t>* bytes) {
  bytes->resize(size_t(width) * height * 3);
  for (uint8_t& byte : *bytes) {
    seed = seed * 1664525u + 1013904223u;
    byte = uint8_t(seed >> 24);
  }
  GstBuffer* buffer = solid_frame(width, height, {}, 0);
  GstVideoInfo info;
  gst_video_info_set_format(&info, GST_VIDEO_FORMAT_RGB, width, height);
  for (int y = 0; y < height; ++y) {
    gst_buffer_fill(buffer, gsize(y) * GST_VIDEO_INFO_PLANE_STRIDE(&info, 0),
                    bytes->data() + size_t(y) * width * 3, gsize(width) * 3);
  }
  mark_processed(buffer, width, height);
  return buffer;
}

void assert_depth_of_bytes(GstBuffer* buffer, const std::vector<uint8_t>& bytes) {
  const std::vector<float> depth = tensor_of(buffer, GST_DA3_TENSOR_DEPTH);
  fail_unless_equals_int(int(depth.size()), int(bytes.size() / 3));
  for (size_t i = 0; i < depth.size(); ++i) {
    assert_near(depth[i], stub_depth({bytes[3 * i], bytes[3 * i + 1], bytes[3 * i + 2]}));
  }
}

// By sorting, which da3infer does not.
double percentile(std::vector<float> values, double share) {
  std::sort(values.begin(), values.end());
  const double position = share * double(values.size() - 1);
  const auto low = size_t(position);
  if (low + 1 >= values.size()) return values[low];
  return values[low] + (position - double(low)) * (double(values[low + 1]) - values[low]);
}

}  // namespace

// ---- frames
// ---------------------------------------------------------------------------------------------------------

GST_START_TEST(order_timestamps_and_pixels_are_kept) {
  Infer infer("model=stub: process-res=56");
  infer.caps(64, 48);
  std::vector<GstMemory*> memories;
  for (int i = 0; i < 20; ++i) {
    GstBuffer* buffer = numbered_frame(64, 48, i);
    GST_BUFFER_DTS(buffer) = GstClockTime(i) * 7;
    if (i == 3) GST_BUFFER_FLAG_SET(buffer, GST_BUFFER_FLAG_DISCONT);
    memories.push_back(gst_buffer_peek_memory(buffer, 0));
    fail_unless_equals_int(infer.push(buffer), GST_FLOW_OK);
  }
  for (int i = 0; i < 20; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_uint64(GST_BUFFER_PTS(buffer), i * kFrameTime);
    fail_unless_equals_uint64(GST_BUFFER_DTS(buffer), i * 7);
    fail_unless_equals_uint64(GST_BUFFER_DURATION(buffer), kFrameTime);
    fail_unless_equals_uint64(GST_BUFFER_OFFSET(buffer), i);
    fail_unless_equals_int(GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT) ? 1 : 0, i == 3);
    fail_unless(gst_buffer_peek_memory(buffer, 0) == memories[i], "the pixels of frame %d were copied", i);
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(frames_without_timestamps_stay_without) {
  Infer infer("model=stub: process-res=56");
  infer.caps(64, 48);
  GstBuffer* buffer = numbered_frame(64, 48, 0);
  GST_BUFFER_PTS(buffer) = GST_BUFFER_DURATION(buffer) = GST_CLOCK_TIME_NONE;
  fail_unless_equals_int(infer.push(buffer), GST_FLOW_OK);
  buffer = infer.pull();
  fail_if(GST_BUFFER_PTS_IS_VALID(buffer) || GST_BUFFER_DURATION_IS_VALID(buffer));
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(tensors_hold_what_the_engine_computed) {
  Infer infer("model=stub:");
  infer.caps(100, 70);
  const Rgb colour{200, 100, 51};
  infer.push(solid_frame(100, 70, colour, 0));
  GstBuffer* buffer = infer.pull();
  std::vector<gsize> dims;
  const std::vector<float> depth = tensor_of(buffer, GST_DA3_TENSOR_DEPTH, &dims);
  // 100x70 -> longest side 504 -> 504x353 -> multiples of 14.
  fail_unless(dims == std::vector<gsize>({1, 350, 504}));
  fail_unless_equals_int(int(depth.size()), 350 * 504);
  assert_depth_of(buffer, colour);
  for (const float value : tensor_of(buffer, GST_DA3_TENSOR_CONFIDENCE, &dims)) {
    assert_near(value, stub_confidence(colour));
  }
  fail_unless(dims == std::vector<gsize>({1, 350, 504}));
  for (const float value : tensor_of(buffer, GST_DA3_TENSOR_SKY, &dims)) assert_near(value, stub_sky(colour));
  fail_if(has_tensor(buffer, GST_DA3_TENSOR_RAY), "nobody asked for rays");
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(process_size_is_the_models_own_unless_given) {
  const auto depth_width = [](const char* properties) {
    Infer infer(properties);
    infer.caps(100, 70);
    infer.push(solid_frame(100, 70, Rgb{9, 9, 9}, 0));
    GstBuffer* buffer = infer.pull();
    std::vector<gsize> dims;
    tensor_of(buffer, GST_DA3_TENSOR_DEPTH, &dims);
    gst_buffer_unref(buffer);
    return dims.at(2);
  };
  fail_unless_equals_int(int(depth_width("model=stub:process-res=84")), 84);
  fail_unless_equals_int(int(depth_width("model=stub:process-res=0")), 504);
  fail_unless_equals_int(int(depth_width("model=stub:process-res=84 process-res=56")), 56);
}
GST_END_TEST

GST_START_TEST(view_meta_says_where_it_comes_from) {
  Infer infer("model=stub:name=da3-test process-res=56 max-batch=3");
  infer.caps(112, 84);
  infer.push_numbered(112, 84, 0, 3);
  for (int i = 0; i < 3; ++i) {
    GstBuffer* buffer = infer.pull();
    const GstDa3View view = view_of(buffer);
    fail_unless_equals_int(view.version, GST_DA3_VIEW_VERSION);
    fail_unless_equals_int(view.role, GST_DA3_ROLE_PREDICTION);
    fail_unless_equals_int64(view.frame, i);
    fail_unless_equals_int64(view.window, i);
    fail_unless_equals_int(view.view_index, 0);
    fail_unless_equals_int(view.views, 1);
    fail_unless_equals_string(view.model, "da3-test");
    fail_unless_equals_string(view.weights_hash, "0123456789abcdef");
    fail_unless_equals_string(view.device, "cpu");
    fail_unless_equals_string(view.precision, "fp32");
    fail_unless_equals_int(view.kind, GST_DA3_DEPTH_KIND_RELATIVE);
    assert_near(view.unit_scale, 0);
    fail_unless(view.batch >= 1 && view.batch <= 3);
    fail_unless_equals_int64(view.inference_ns, 1000000);
    fail_unless(view.queued_ns >= 0);
    fail_unless_equals_int(view.image_width, 112);
    fail_unless_equals_int(view.image_height, 84);
    fail_unless_equals_int(view.source_width, 112);
    assert_near(view.source_w, 112);
    assert_near(view.source_h, 84);
    fail_if(view.processed);
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(camera_is_in_pixels_of_the_frame) {
  Infer infer("model=stub: process-res=56");
  infer.caps(1008, 560);
  infer.push(solid_frame(1008, 560, {51, 0, 0}, 0));
  GstBuffer* buffer = infer.pull();
  const GstDa3View view = view_of(buffer);
  fail_unless(view.has_intrinsics && view.has_extrinsics);
  // The stub says fx = width, fy = 2 height, principal point in the middle, of the process size.
  assert_near(view.fx, 1008, 1e-3);
  assert_near(view.fy, 1120, 1e-3);
  assert_near(view.cx, 504, 1e-3);
  assert_near(view.cy, 280, 1e-3);
  const double identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  for (int i = 0; i < 9; ++i) assert_near(view.rotation[i], identity[i]);
  assert_near(view.translation[0], 0.2);
  assert_near(view.translation[1], 0);
  assert_near(view.translation[2], 1);
  assert_near(view.depth_x, 0);
  assert_near(view.depth_w, 1008);
  assert_near(view.depth_h, 560);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(camera_of_a_frame_with_oblong_pixels) {
  Infer infer("model=stub: process-res=56");
  infer.caps("video/x-raw,format=RGB,width=100,height=100,framerate=25/1,pixel-aspect-ratio=2/1");
  infer.push(numbered_frame(100, 100, 0));
  GstBuffer* buffer = infer.pull();
  const GstDa3View view = view_of(buffer);
  std::vector<gsize> dims;
  tensor_of(buffer, GST_DA3_TENSOR_DEPTH, &dims);
  fail_unless(dims == std::vector<gsize>({1, 28, 56}), "the displayed shape is 2:1");
  assert_near(view.fx, 100, 1e-3);
  assert_near(view.fy, 200, 1e-3);
  assert_near(view.cx, 50, 1e-3);
  assert_near(view.cy, 50, 1e-3);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(crop_method_says_which_part_has_depth) {
  Infer infer("model=stub: process-res=56 process-res-method=upper_bound_crop");
  infer.caps(112, 100);
  infer.push(numbered_frame(112, 100, 0));
  GstBuffer* buffer = infer.pull();
  const GstDa3View view = view_of(buffer);
  // 112x100 -> 56x50 -> the middle 56x42.
  assert_near(view.depth_x, 0);
  assert_near(view.depth_y, 8, 1e-6);
  assert_near(view.depth_w, 112);
  assert_near(view.depth_h, 84, 1e-6);
  assert_near(view.fx, 112, 1e-3);
  assert_near(view.fy, 168, 1e-3);
  assert_near(view.cx, 56, 1e-3);
  assert_near(view.cy, 50, 1e-3);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(statistics_are_exact) {
  Infer infer("model=stub:");
  infer.caps(70, 42);
  std::vector<uint8_t> bytes;
  infer.push(processed_noise(70, 42, 5, &bytes));
  GstBuffer* buffer = infer.pull();
  const GstDa3View view = view_of(buffer);
  const auto check = [](const GstDa3Stats& stats, const std::vector<float>& values) {
    assert_near(stats.min, *std::min_element(values.begin(), values.end()), 1e-12);
    assert_near(stats.max, *std::max_element(values.begin(), values.end()), 1e-12);
    assert_near(stats.p2, percentile(values, 0.02), 1e-9);
    assert_near(stats.median, percentile(values, 0.5), 1e-9);
    assert_near(stats.p98, percentile(values, 0.98), 1e-9);
    assert_near(stats.valid_fraction, 1, 0);
  };
  check(view.depth, tensor_of(buffer, GST_DA3_TENSOR_DEPTH));
  check(view.confidence, tensor_of(buffer, GST_DA3_TENSOR_CONFIDENCE));
  const std::vector<float> sky = tensor_of(buffer, GST_DA3_TENSOR_SKY);
  const auto covered = std::count_if(sky.begin(), sky.end(), [](float v) { return v >= 0.3f; });
  fail_unless(view.has_sky && covered > 0 && size_t(covered) < sky.size());
  assert_near(view.sky_fraction, double(covered) / double(sky.size()), 1e-12);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(statistics_of_a_constant_plane) {
  Infer infer("model=stub: process-res=14");
  infer.caps(14, 14);
  infer.push(solid_frame(14, 14, {255, 255, 255}, 0));
  GstBuffer* buffer = infer.pull();
  const GstDa3View view = view_of(buffer);
  for (const double value :
       {view.depth.min, view.depth.max, view.depth.median, view.depth.p2, view.depth.p98}) {
    assert_near(value, 10);
  }
  assert_near(view.sky_fraction, 1, 0);
  gst_buffer_unref(buffer);
}
GST_END_TEST

// ---- frames from da3preprocess
// -----------------------------------------------------------------------------------------

GST_START_TEST(processed_frames_go_in_as_they_are) {
  // process-res would ask for another size: the frame's own counts.
  Infer infer("model=stub: process-res=504");
  infer.caps(70, 42);
  std::vector<uint8_t> bytes;
  GstBuffer* in = processed_noise(70, 42, 1, &bytes);
  GstMemory* memory = gst_buffer_peek_memory(in, 0);
  infer.push(in);
  GstBuffer* buffer = infer.pull();
  fail_unless(gst_buffer_peek_memory(buffer, 0) == memory);
  assert_depth_of_bytes(buffer, bytes);
  const GstDa3View view = view_of(buffer);
  fail_unless(view.processed);
  assert_near(view.fx, 70);
  assert_near(view.fy, 84);
  assert_near(view.depth_w, 70);
  assert_near(view.depth_h, 42);
  fail_unless(gst_buffer_is_writable(buffer), "somebody still holds the frame");
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(processed_frame_with_padded_rows) {
  Infer infer("model=stub:");
  infer.caps(28, 14);
  const int stride = 28 * 3 + 44, head = 12;
  GstBuffer* in = gst_buffer_new_allocate(nullptr, head + stride * 14, nullptr);
  gst_buffer_memset(in, 0, 0xff, head + stride * 14);
  std::vector<uint8_t> bytes(28 * 14 * 3);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = uint8_t(i * 31);
  for (int y = 0; y < 14; ++y) gst_buffer_fill(in, head + y * stride, bytes.data() + y * 84, 84);
  gsize offsets[GST_VIDEO_MAX_PLANES] = {gsize(head)};
  gint strides[GST_VIDEO_MAX_PLANES] = {stride};
  gst_buffer_add_video_meta_full(in, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_RGB, 28, 14, 1, offsets,
                                 strides);
  mark_processed(in, 28, 14);
  infer.push(in);
  GstBuffer* buffer = infer.pull();
  assert_depth_of_bytes(buffer, bytes);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(processed_mark_of_another_size_is_not_believed) {
  Infer infer("model=stub: process-res=56");
  infer.caps(56, 42);
  GstBuffer* in = numbered_frame(56, 42, 0);
  mark_processed(in, 112, 84);
  infer.push(in);
  // 50 is no multiple of 14.
  infer.caps(50, 50);
  in = numbered_frame(50, 50, 1);
  mark_processed(in, 50, 50);
  infer.push(in);
  for (int i = 0; i < 2; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_if(view_of(buffer).processed);
    std::vector<gsize> dims;
    tensor_of(buffer, GST_DA3_TENSOR_DEPTH, &dims);
    fail_unless(dims == (i == 0 ? std::vector<gsize>({1, 42, 56}) : std::vector<gsize>({1, 56, 56})));
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(processed_mark_on_other_formats_is_not_believed) {
  Infer infer("model=stub: process-res=28");
  infer.caps("video/x-raw,format=BGR,width=56,height=28,framerate=25/1");
  GstBuffer* in = solid_frame(56, 28, {10, 20, 250}, 0);  // as BGR: red
  mark_processed(in, 56, 28);
  infer.push(in);
  GstBuffer* buffer = infer.pull();
  std::vector<gsize> dims;
  for (const float value : tensor_of(buffer, GST_DA3_TENSOR_CONFIDENCE, &dims))
    assert_near(value, 1 + 250 / 255.0);
  fail_unless(dims == std::vector<gsize>({1, 14, 28}));
  gst_buffer_unref(buffer);
}
GST_END_TEST

// Of a model that says its size. Frames of `width`x`height` from da3preprocess; the first warning, if any.
static std::string warning_about(const std::string& properties, int width, int height, int frames = 2) {
  Infer infer(properties);
  infer.caps(width, height);
  for (int i = 0; i < frames; ++i) {
    GstBuffer* in = numbered_frame(width, height, i);
    mark_processed(in, width, height);
    fail_unless_equals_int(infer.push(in), GST_FLOW_OK);
    gst_buffer_unref(infer.pull());
  }
  infer.event(gst_event_new_eos());
  infer.wait_eos();
  const BusError first = infer.bus.pop(GST_MESSAGE_WARNING);
  fail_if(infer.bus.pop(GST_MESSAGE_WARNING).found, "more than one warning");
  if (first.found)
    fail_unless(first.domain == GST_RESOURCE_ERROR && first.code == GST_RESOURCE_ERROR_SETTINGS);
  return first.text;
}

GST_START_TEST(preprocessed_for_another_model) {
  for (const int width : {504, 112}) {
    const std::string text = warning_about("model=stub:process-res=196", width, width == 504 ? 280 : 56);
    fail_unless(text.find(width == 504 ? "504x280" : "112x56") != std::string::npos, "%s", text.c_str());
    fail_unless(text.find("da3preprocess process-res=196") != std::string::npos, "%s", text.c_str());
  }
}
GST_END_TEST

GST_START_TEST(preprocessed_well_or_on_purpose) {
  fail_unless(warning_about("model=stub:process-res=196", 196, 112).empty());
  fail_unless(warning_about("model=stub:process-res=196", 280, 154).empty());
  fail_unless(warning_about("model=stub:process-res=196", 350, 196).empty(), "its shorter side was set");
  fail_unless(warning_about("model=stub:process-res=196 process-res=504", 504, 280).empty());
  fail_unless(warning_about("model=stub:", 112, 56).empty(), "the usual size");
  // Nobody chose that size for a network.
  Infer infer("model=stub:process-res=196");
  infer.caps(504, 280);
  infer.push_numbered(504, 280, 0, 1);
  gst_buffer_unref(infer.pull());
  fail_if(infer.bus.pop(GST_MESSAGE_WARNING).found);
}
GST_END_TEST

// Grey with a palette, of a layout that only a video meta tells.
GST_START_TEST(a_palette_is_no_picture) {
  for (const int missing : {0, 1}) {
    Infer infer("model=stub: process-res=56");
    infer.caps("video/x-raw,format=RGB8P,width=56,height=28,framerate=25/1");
    const gsize pixels = 56 * 28;
    GstBuffer* in = gst_buffer_new_allocate(nullptr, pixels + 1024 - gsize(missing), nullptr);
    gst_buffer_memset(in, 0, 0, pixels);
    gst_buffer_memset(in, pixels, 0xff, 1024);  // white
    gsize offsets[GST_VIDEO_MAX_PLANES] = {0, pixels};
    gint strides[GST_VIDEO_MAX_PLANES] = {56, 4};
    gst_buffer_add_video_meta_full(in, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_RGB8P, 56, 28, 2, offsets,
                                   strides);
    if (missing > 0) {
      infer.push(in);
      infer.bus.expect_one_error(GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "RGB8P");
      continue;
    }
    fail_unless_equals_int(infer.push(in), GST_FLOW_OK);
    GstBuffer* out = infer.pull();
    assert_depth_of(out, {255, 255, 255});
    gst_buffer_unref(out);
  }
}
GST_END_TEST

GST_START_TEST(da3preprocess_in_front_changes_no_bit) {
  const auto depth_with = [](const char* before) {
    GstHarness* h = gst_harness_new_parse(("videotestsrc num-buffers=1 pattern=smpte ! "
                                           "video/x-raw,format=I420,width=203,height=150,framerate=25/1 ! " +
                                           std::string(before) + "da3infer model=stub: process-res=98")
                                              .c_str());
    gst_harness_play(h);
    GstBuffer* buffer = gst_harness_pull(h);
    fail_unless(buffer != nullptr);
    const std::vector<float> depth = tensor_of(buffer, GST_DA3_TENSOR_DEPTH);
    gst_buffer_unref(buffer);
    gst_harness_teardown(h);
    return depth;
  };
  GstElementFactory* factory = gst_element_factory_find("da3preprocess");
  fail_unless(factory != nullptr);
  gst_object_unref(factory);
  const std::vector<float> alone = depth_with(""), behind = depth_with("da3preprocess process-res=98 ! ");
  fail_unless(!alone.empty() && alone == behind);
}
GST_END_TEST

GST_START_TEST(upstream_region_and_truth_survive) {
  Infer infer("model=stub:outputs=depth process-res=28");
  infer.caps(56, 28);
  GstBuffer* in = numbered_frame(56, 28, 0);
  GstDa3View view;
  gst_da3_view_init(&view);
  view.image_width = 56;
  view.image_height = 28;
  view.source_width = 640;
  view.source_height = 480;
  view.source_x = 10;
  view.source_y = 20;
  view.source_w = 560;
  view.source_h = 280;
  gst_buffer_add_da3_view(in, &view);
  view.role = GST_DA3_ROLE_TRUTH;
  view.has_extrinsics = TRUE;
  view.translation[0] = 42;
  gst_buffer_add_da3_view(in, &view);
  infer.push(in);
  GstBuffer* buffer = infer.pull();
  const GstDa3View predicted = view_of(buffer);
  fail_unless_equals_int(predicted.source_width, 640);
  assert_near(predicted.source_x, 10);
  assert_near(predicted.source_h, 280);
  fail_if(predicted.has_extrinsics, "a pose that this model did not predict");
  GstDa3View truth;
  fail_unless(gst_buffer_get_da3_view_by_role(buffer, GST_DA3_ROLE_TRUTH, &truth));
  assert_near(truth.translation[0], 42);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(a_shared_buffer_of_upstream_is_not_touched) {
  Infer infer("model=stub: process-res=28");
  infer.caps(56, 28);
  GstBuffer* in = gst_buffer_ref(numbered_frame(56, 28, 0));
  infer.push(in);
  GstBuffer* buffer = infer.pull();
  fail_unless(buffer != in);
  fail_unless(gst_buffer_peek_memory(buffer, 0) == gst_buffer_peek_memory(in, 0), "pixels were copied");
  fail_unless(has_tensor(buffer, GST_DA3_TENSOR_DEPTH));
  fail_if(has_tensor(in, GST_DA3_TENSOR_DEPTH));
  gst_buffer_unref(buffer);
  ASSERT_MINI_OBJECT_REFCOUNT(in, "input", 1);
  gst_buffer_unref(in);
}
GST_END_TEST

GST_START_TEST(two_in_series_leave_the_last_word_to_the_second) {
  GstHarness* h = gst_harness_new_parse(
      "da3infer model=stub:name=first process-res=56 ! da3infer model=stub:name=second,outputs=depth "
      "process-res=28");
  gst_harness_set_src_caps_str(h, rgb_caps(56, 28).c_str());
  gst_harness_push(h, numbered_frame(56, 28, 0));
  GstBuffer* buffer = gst_harness_pull(h);
  const GstDa3View view = view_of(buffer);
  fail_unless_equals_string(view.model, "second");
  fail_if(view.has_sky);
  std::vector<gsize> dims;
  tensor_of(buffer, GST_DA3_TENSOR_DEPTH, &dims);
  fail_unless(dims == std::vector<gsize>({1, 14, 28}));
  gst_buffer_unref(buffer);
  gst_harness_teardown(h);
}
GST_END_TEST

static Suite* da3infer_suite() {
  Suite* suite = suite_create("da3infer");
  TCase* frames = tcase_create("frames");
  tcase_add_test(frames, order_timestamps_and_pixels_are_kept);
  tcase_add_test(frames, frames_without_timestamps_stay_without);
  tcase_add_test(frames, tensors_hold_what_the_engine_computed);
  tcase_add_test(frames, process_size_is_the_models_own_unless_given);
  tcase_add_test(frames, view_meta_says_where_it_comes_from);
  tcase_add_test(frames, camera_is_in_pixels_of_the_frame);
  tcase_add_test(frames, camera_of_a_frame_with_oblong_pixels);
  tcase_add_test(frames, crop_method_says_which_part_has_depth);
  tcase_add_test(frames, statistics_are_exact);
  tcase_add_test(frames, statistics_of_a_constant_plane);
  tcase_add_test(frames, processed_frames_go_in_as_they_are);
  tcase_add_test(frames, processed_frame_with_padded_rows);
  tcase_add_test(frames, processed_mark_of_another_size_is_not_believed);
  tcase_add_test(frames, processed_mark_on_other_formats_is_not_believed);
  tcase_add_test(frames, preprocessed_for_another_model);
  tcase_add_test(frames, preprocessed_well_or_on_purpose);
  tcase_add_test(frames, a_palette_is_no_picture);
  tcase_add_test(frames, da3preprocess_in_front_changes_no_bit);
  tcase_add_test(frames, upstream_region_and_truth_survive);
  tcase_add_test(frames, a_shared_buffer_of_upstream_is_not_touched);
  tcase_add_test(frames, two_in_series_leave_the_last_word_to_the_second);
  suite_add_tcase(suite, frames);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_suite(), "da3infer", __FILE__);
}
