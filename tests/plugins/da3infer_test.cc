// SPDX-License-Identifier: MIT
//
// da3infer as it should work: order, content of the metas, groups of views, events, queries, life cycle.
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

// ---- kinds of models
// ----------------------------------------------------------------------------------------------------

GST_START_TEST(a_metric_model_is_metric) {
  Infer infer("model=stub:kind=metric process-res=28");
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  GstBuffer* buffer = infer.pull();
  fail_unless_equals_int(view_of(buffer).kind, GST_DA3_DEPTH_KIND_METRIC);
  assert_near(view_of(buffer).unit_scale, 1);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(a_scale_that_could_not_be_fitted_is_not_metric) {
  Infer infer("model=stub:kind=metric,metric-valid=0 process-res=28");
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  GstBuffer* buffer = infer.pull();
  fail_unless_equals_int(view_of(buffer).kind, GST_DA3_DEPTH_KIND_RELATIVE);
  assert_near(view_of(buffer).unit_scale, 0);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(focal_normalised_depth_becomes_metres_with_a_known_camera) {
  Infer infer("model=stub:focal=1,outputs=depth+sky process-res=56");
  infer.caps(112, 56);
  const Rgb colour{100, 100, 100};
  GstBuffer* in = solid_frame(112, 56, colour, 0);
  GstDa3View view;
  gst_da3_view_init(&view);
  view.image_width = 112;
  view.image_height = 56;
  view.has_intrinsics = TRUE;
  view.fx = 300;
  view.fy = 500;
  view.cx = 56;
  view.cy = 28;
  gst_buffer_add_da3_view(in, &view);
  infer.push(in);
  GstBuffer* buffer = infer.pull();
  // Half the size: fx 150, fy 250, mean 200.
  const double factor = 200.0 / 300.0;
  for (const float value : tensor_of(buffer, GST_DA3_TENSOR_DEPTH))
    assert_near(value, stub_depth(colour) * factor);
  const GstDa3View out = view_of(buffer);
  fail_unless_equals_int(out.kind, GST_DA3_DEPTH_KIND_METRIC);
  assert_near(out.unit_scale, 1);
  assert_near(out.depth.median, stub_depth(colour) * factor);
  fail_unless(out.has_intrinsics, "the known camera stays");
  assert_near(out.fx, 300);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(the_true_camera_is_no_known_camera) {
  Infer infer("model=stub:focal=1,outputs=depth+sky process-res=28");
  infer.caps(28, 28);
  GstDa3View view;
  gst_da3_view_init(&view);
  view.role = GST_DA3_ROLE_TRUTH;
  view.image_width = view.image_height = 28;
  view.has_intrinsics = view.has_extrinsics = TRUE;
  view.fx = view.fy = 600;
  GstBuffer* in = numbered_frame(28, 28, 0);
  gst_buffer_add_da3_view(in, &view);
  infer.push(in);
  GstBuffer* buffer = infer.pull();
  fail_if(view_of(buffer).has_intrinsics, "the truth became a prediction");
  fail_if(view_of(buffer).has_extrinsics);
  fail_unless_equals_int(view_of(buffer).kind, GST_DA3_DEPTH_KIND_RELATIVE);
  gst_buffer_unref(buffer);

  // One that somebody gives beside it is.
  in = numbered_frame(28, 28, 1);
  gst_buffer_add_da3_view(in, &view);
  view.role = GST_DA3_ROLE_PREDICTION;
  view.has_extrinsics = FALSE;
  view.fx = view.fy = 300;
  gst_buffer_add_da3_view(in, &view);
  infer.push(in);
  buffer = infer.pull();
  assert_near(view_of(buffer).fx, 300);
  fail_unless_equals_int(view_of(buffer).kind, GST_DA3_DEPTH_KIND_METRIC);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(focal_normalised_depth_is_relative_without_a_camera) {
  Infer infer("model=stub:focal=1,kind=metric,outputs=depth+sky process-res=28");
  infer.caps(56, 28);
  const Rgb colour{100, 100, 100};
  infer.push(solid_frame(56, 28, colour, 0));
  GstBuffer* in = solid_frame(56, 28, colour, 1);
  GstDa3View view;
  gst_da3_view_init(&view);
  view.has_intrinsics = TRUE;
  view.fx = view.fy = -1;
  gst_buffer_add_da3_view(in, &view);
  infer.push(in);
  for (int i = 0; i < 2; ++i) {
    GstBuffer* buffer = infer.pull();
    assert_depth_of(buffer, colour);
    fail_unless_equals_int(view_of(buffer).kind, GST_DA3_DEPTH_KIND_RELATIVE);
    gst_buffer_unref(buffer);
  }
}
GST_END_TEST

GST_START_TEST(what_a_model_lacks_is_not_attached) {
  Infer infer("model=stub:outputs=depth process-res=28");
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  GstBuffer* buffer = infer.pull();
  fail_if(has_tensor(buffer, GST_DA3_TENSOR_CONFIDENCE) || has_tensor(buffer, GST_DA3_TENSOR_SKY));
  const GstDa3View view = view_of(buffer);
  fail_if(view.has_intrinsics || view.has_extrinsics || view.has_sky);
  assert_near(view.confidence.valid_fraction, 0, 0);
  fail_unless_equals_int(int(stub_counters().last_outputs), 1);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(ray_pose_and_reference_view_reach_the_engine) {
  Infer infer("model=stub:outputs=depth+pose+ray process-res=56 use-ray-pose=true ref-view-strategy=middle");
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  GstBuffer* buffer = infer.pull();
  const Da3StubCounters counters = stub_counters();
  fail_unless_equals_int(counters.last_use_ray_pose, 1);
  fail_unless_equals_int(counters.last_ref_view_strategy, 1);
  std::vector<gsize> dims;
  for (const float value : tensor_of(buffer, GST_DA3_TENSOR_RAY, &dims)) assert_near(value, 0.5);
  fail_unless(dims == std::vector<gsize>({1, 2, 4, 6}));
  tensor_of(buffer, GST_DA3_TENSOR_RAY_CONFIDENCE, &dims);
  fail_unless(dims == std::vector<gsize>({1, 2, 4}));
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(rays_are_not_computed_unasked) {
  Infer infer("model=stub:outputs=depth+pose+ray process-res=56");
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  gst_buffer_unref(infer.pull());
  fail_unless_equals_int(int(stub_counters().last_outputs), 1 | 8);
  fail_unless_equals_int(stub_counters().last_ref_view_strategy, 2);
}
GST_END_TEST

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

// ---- engine and life cycle
// ----------------------------------------------------------------------------------------------

GST_START_TEST(the_engine_batches_what_waits) {
  Infer infer("model=stub:block=1 process-res=28 max-batch=4");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 8);
  stub().release(-1);
  for (int i = 0; i < 8; ++i) {
    GstBuffer* buffer = infer.pull();
    fail_unless_equals_int(view_of(buffer).batch, 4);
    assert_depth_of(buffer, colour_of(i));
    gst_buffer_unref(buffer);
  }
  fail_unless_equals_int(int(infer.stat("last-batch")), 4);
}
GST_END_TEST

GST_START_TEST(no_more_frames_wait_than_the_bound) {
  Infer infer("model=stub:block=1 process-res=28 max-batch=3");
  infer.caps(56, 28);
  std::thread pusher([&] { infer.push_numbered(56, 28, 0, 40); });
  stub().wait_submitted(6);
  fail_unless(infer.stat("queue-level") <= 6);
  stub().release(-1);
  for (int i = 0; i < 40; ++i) gst_buffer_unref(infer.pull());
  pusher.join();
  fail_unless_equals_int(stub_counters().submitted, 40);
  fail_unless(stub_counters().most_outstanding <= 6, "%d at once", stub_counters().most_outstanding);
}
GST_END_TEST

GST_START_TEST(the_bound_counts_groups_of_views) {
  Infer infer("model=stub:block=1 process-res=28 max-batch=1 views=4");
  infer.caps(56, 28);
  std::thread pusher([&] { infer.push_numbered(56, 28, 0, 24); });
  stub().wait_submitted(2);
  fail_unless(infer.stat("queue-level") <= 8);
  stub().release(-1);
  for (int i = 0; i < 24; ++i) gst_buffer_unref(infer.pull());
  pusher.join();
  fail_unless(stub_counters().most_outstanding <= 2);
}
GST_END_TEST

GST_START_TEST(two_elements_share_one_engine) {
  Infer first("model=stub: process-res=28"), second("model=stub: process-res=28");
  fail_unless_equals_int(stub_counters().engines_alive, 1);
  fail_unless_equals_int(stub_counters().opened, 2);
  first.caps(56, 28);
  second.caps(56, 28);
  for (int i = 0; i < 10; ++i) {
    first.push(numbered_frame(56, 28, i));
    second.push(numbered_frame(56, 28, 20 - i));
  }
  for (int i = 0; i < 10; ++i) {
    GstBuffer* a = first.pull();
    GstBuffer* b = second.pull();
    assert_depth_of(a, colour_of(i));
    assert_depth_of(b, colour_of(20 - i));
    gst_buffer_unref(a);
    gst_buffer_unref(b);
  }
  gst_element_set_state(first.element, GST_STATE_NULL);
  second.push(numbered_frame(56, 28, 3));
  GstBuffer* b = second.pull();
  assert_depth_of(b, colour_of(3));
  gst_buffer_unref(b);
}
GST_END_TEST

GST_START_TEST(results_outlive_the_element) {
  GstBuffer* buffer;
  {
    Infer infer("model=stub: process-res=28");
    infer.caps(56, 28);
    infer.push(numbered_frame(56, 28, 9));
    buffer = infer.pull();
  }
  fail_unless_equals_int(stub_counters().engines_alive, 0);
  assert_depth_of(buffer, colour_of(9));
  gst_buffer_unref(buffer);
  fail_unless_equals_int(stub_counters().results_alive, 0);
}
GST_END_TEST

GST_START_TEST(nothing_is_leaked) {
  GstElement* element;
  {
    Infer infer("model=stub: process-res=28 views=2");
    element = GST_ELEMENT(gst_object_ref(infer.element));
    infer.caps(56, 28);
    infer.push_numbered(56, 28, 0, 7);
    for (int i = 0; i < 3; ++i) gst_buffer_unref(infer.pull());
  }
  ASSERT_OBJECT_REFCOUNT(element, "da3infer", 1);
  gst_object_unref(element);
  const Da3StubCounters counters = stub_counters();
  fail_unless_equals_int(counters.results_alive, 0);
  fail_unless_equals_int(counters.opened, counters.closed);
  fail_unless_equals_int(counters.finished, counters.submitted);
}
GST_END_TEST

GST_START_TEST(a_hundred_cycles_with_frames_in_flight) {
  GstElement* pipeline = gst_parse_launch(
      "videotestsrc is-live=false ! video/x-raw,format=RGB,width=32,height=28 ! da3infer model=stub: "
      "process-res=28 "
      "views=2 name=infer ! fakesink sync=false",
      nullptr);
  GstElement* infer = gst_bin_get_by_name(GST_BIN(pipeline), "infer");
  const GstState states[] = {GST_STATE_PLAYING, GST_STATE_NULL, GST_STATE_PAUSED, GST_STATE_READY};
  for (int i = 0; i < 100; ++i) {
    const GstState state = states[i % 4];
    fail_unless(gst_element_set_state(pipeline, state) != GST_STATE_CHANGE_FAILURE);
    if (i % 3 == 0) gst_element_get_state(pipeline, nullptr, nullptr, GST_CLOCK_TIME_NONE);
    const guint inside = assert_accounts(infer);
    fail_unless(state >= GST_STATE_PAUSED || inside == 0, "cycle %d: %u frames are inside a stopped element",
                i, inside);
  }
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(infer);
  gst_object_unref(pipeline);
  fail_unless_equals_int(stub_counters().engines_alive, 0);
  fail_unless_equals_int(stub_counters().results_alive, 0);
}
GST_END_TEST

GST_START_TEST(what_was_chosen_is_said) {
  GstElement* element =
      make_infer("model=stub: process-res=28 performance-mode=max attention=plain precision=fp32");
  GstBus* bus = gst_bus_new();
  gst_element_set_bus(element, bus);
  gchar* attention = nullptr;
  g_object_get(element, "active-attention", &attention, nullptr);
  fail_unless(attention == nullptr, "nothing is open yet");
  gst_element_set_state(element, GST_STATE_READY);
  GstMessage* message = gst_bus_pop_filtered(bus, GST_MESSAGE_ELEMENT);
  fail_unless(message != nullptr);
  const GstStructure* plan = gst_message_get_structure(message);
  fail_unless(gst_structure_has_name(plan, "da3-plan"));
  fail_unless_equals_string(gst_structure_get_string(plan, "model"), "stub");
  fail_unless_equals_string(gst_structure_get_string(plan, "device"), "cpu");
  fail_unless_equals_string(gst_structure_get_string(plan, "precision"), "fp32");
  fail_unless_equals_string(gst_structure_get_string(plan, "attention"), "plain");
  fail_unless_equals_string(gst_structure_get_string(plan, "performance-mode"), "max");
  fail_unless_equals_string(gst_structure_get_string(plan, "plan"), "as the stub does");
  gst_message_unref(message);
  fail_unless(gst_bus_pop_filtered(bus, GST_MESSAGE_ELEMENT) == nullptr, "said once");
  g_object_get(element, "active-attention", &attention, nullptr);
  fail_unless_equals_string(attention, "plain");
  g_free(attention);
  gst_element_set_state(element, GST_STATE_NULL);
  g_object_get(element, "active-attention", &attention, nullptr);
  fail_unless(attention == nullptr, "nothing is open any more");
  gst_object_unref(element);
  gst_object_unref(bus);
}
GST_END_TEST

GST_START_TEST(figures_and_readings) {
  GstElement* element = make_infer("model=stub: process-res=28 precision=bf16");
  gchar *device = nullptr, *precision = nullptr;
  g_object_get(element, "active-device", &device, "active-precision", &precision, nullptr);
  fail_unless(device == nullptr && precision == nullptr, "nothing is open yet");
  gst_element_set_state(element, GST_STATE_READY);
  g_object_get(element, "active-device", &device, "active-precision", &precision, nullptr);
  fail_unless_equals_string(device, "cpu");
  fail_unless_equals_string(precision, "bf16");
  g_free(device);
  g_free(precision);
  gst_element_set_state(element, GST_STATE_NULL);
  gst_object_unref(element);

  Infer infer("model=stub: process-res=28 views=2");
  infer.caps(56, 28);
  infer.push_numbered(56, 28, 0, 6);
  for (int i = 0; i < 6; ++i) gst_buffer_unref(infer.pull());
  fail_unless_equals_uint64(infer.stat("frames-in"), 6);
  fail_unless_equals_uint64(infer.stat("frames-out"), 6);
  fail_unless_equals_uint64(infer.stat("groups"), 3);
  fail_unless_equals_uint64(infer.stat("frames-dropped"), 0);
  fail_unless_equals_uint64(infer.stat("queue-level"), 0);
}
GST_END_TEST

GST_START_TEST(a_remark_of_the_engine_warns_once) {
  GstElement* element = make_infer("model=stub:synthetic=1");
  Bus bus(element);
  for (int i = 0; i < 3; ++i) {
    gst_element_set_state(element, GST_STATE_READY);
    gst_element_set_state(element, GST_STATE_NULL);
  }
  const BusError warning = bus.pop(GST_MESSAGE_WARNING);
  fail_unless(warning.found && warning.text.find("not a trained model") != std::string::npos);
  fail_if(bus.pop(GST_MESSAGE_WARNING).found, "warned twice");
  gst_object_unref(element);
}
GST_END_TEST

GST_START_TEST(another_model_can_be_set_in_ready) {
  Infer infer("model=stub:name=one process-res=28");
  gst_element_set_state(infer.element, GST_STATE_READY);
  g_object_set(infer.element, "model", "stub:name=two", nullptr);
  fail_unless_equals_int(gst_element_set_state(infer.element, GST_STATE_PLAYING), GST_STATE_CHANGE_SUCCESS);
  infer.caps(56, 28);
  infer.push(numbered_frame(56, 28, 0));
  GstBuffer* buffer = infer.pull();
  const GstDa3View view = view_of(buffer);
  fail_unless_equals_string(view.model, "two");
  gst_buffer_unref(buffer);
  fail_unless_equals_int(stub_counters().engines_alive, 1);
}
GST_END_TEST

GST_START_TEST(the_model_is_not_loaded_again_for_nothing) {
  Infer infer("model=stub:");
  for (int i = 0; i < 3; ++i) {
    gst_element_set_state(infer.element, GST_STATE_READY);
    gst_element_set_state(infer.element, GST_STATE_PLAYING);
  }
  fail_unless_equals_int(stub_counters().opened, 1);
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
  tcase_add_test(frames, da3preprocess_in_front_changes_no_bit);
  tcase_add_test(frames, upstream_region_and_truth_survive);
  tcase_add_test(frames, a_shared_buffer_of_upstream_is_not_touched);
  tcase_add_test(frames, two_in_series_leave_the_last_word_to_the_second);
  suite_add_tcase(suite, frames);

  TCase* models = tcase_create("models");
  tcase_add_test(models, a_metric_model_is_metric);
  tcase_add_test(models, a_scale_that_could_not_be_fitted_is_not_metric);
  tcase_add_test(models, focal_normalised_depth_becomes_metres_with_a_known_camera);
  tcase_add_test(models, the_true_camera_is_no_known_camera);
  tcase_add_test(models, focal_normalised_depth_is_relative_without_a_camera);
  tcase_add_test(models, what_a_model_lacks_is_not_attached);
  tcase_add_test(models, ray_pose_and_reference_view_reach_the_engine);
  tcase_add_test(models, rays_are_not_computed_unasked);
  suite_add_tcase(suite, models);

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

  TCase* life = tcase_create("life");
  tcase_add_test(life, the_engine_batches_what_waits);
  tcase_add_test(life, no_more_frames_wait_than_the_bound);
  tcase_add_test(life, the_bound_counts_groups_of_views);
  tcase_add_test(life, two_elements_share_one_engine);
  tcase_add_test(life, results_outlive_the_element);
  tcase_add_test(life, nothing_is_leaked);
  tcase_add_test(life, a_hundred_cycles_with_frames_in_flight);
  tcase_add_test(life, figures_and_readings);
  tcase_add_test(life, a_remark_of_the_engine_warns_once);
  tcase_add_test(life, another_model_can_be_set_in_ready);
  tcase_add_test(life, the_model_is_not_loaded_again_for_nothing);
  tcase_add_test(life, what_was_chosen_is_said);
  suite_add_tcase(suite, life);
  return suite;
}

int main(int argc, char** argv) {
  use_stub_engine();
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_suite(), "da3infer", __FILE__);
}
