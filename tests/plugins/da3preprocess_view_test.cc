// SPDX-License-Identifier: MIT
//
// What da3preprocess says of a picture that it changed: the view, its camera and its regions, depth.
#include <cmath>

#include "preprocess_rig.h"

using namespace da3::testing;

namespace {

GstBuffer* with_view(const Bytes& frame, const GstDa3View& view) {
  GstBuffer* buffer = buffer_of(frame);
  fail_unless(gst_buffer_add_da3_view(buffer, &view));
  return buffer;
}

GstDa3View known_view(int width, int height) {
  GstDa3View view;
  gst_da3_view_init(&view);
  view.image_width = width;
  view.image_height = height;
  view.has_intrinsics = TRUE;
  view.fx = 500;
  view.fy = 510;
  view.cx = width / 2.0;
  view.cy = height / 2.0;
  view.has_extrinsics = TRUE;
  view.rotation[0] = view.rotation[4] = view.rotation[8] = 1;
  return view;
}

}  // namespace

GST_START_TEST(view_of_a_resized_picture) {
  Rig rig(rgb_caps(1920, 1080).c_str());
  for (int i = 0; i < 3; ++i) {
    GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(1920, 1080)));
    GstDa3View v;
    fail_unless(gst_buffer_get_da3_view(out, &v));
    fail_unless(v.processed);
    fail_unless_equals_int(v.role, GST_DA3_ROLE_PREDICTION);
    fail_unless_equals_int64(v.frame, i);
    fail_unless_equals_int(v.image_width, 504);
    fail_unless_equals_int(v.image_height, 280);
    fail_unless_equals_int(v.source_width, 1920);
    fail_unless_equals_int(v.source_height, 1080);
    fail_unless_equals_float(v.source_x, 0);
    fail_unless_equals_float(v.source_w, 1920);
    fail_unless_equals_float(v.source_h, 1080);
    fail_unless_equals_float(v.depth_w, 0);
    fail_unless_equals_int(v.kind, GST_DA3_DEPTH_KIND_NONE);
    fail_if(v.has_intrinsics || v.has_extrinsics);
    gst_buffer_unref(out);
  }
}
GST_END_TEST

GST_START_TEST(view_of_a_cropped_picture) {
  Rig rig;
  rig.method(ProcessResMethod::upper_bound_crop);
  gst_harness_set_src_caps_str(rig.h, rgb_caps(1008, 752).c_str());  // 504x376, cropped to 504x364
  GstBuffer* out = gst_harness_push_and_pull(rig.h, with_view(rgb_frame(1008, 752), known_view(1008, 752)));
  GstDa3View v;
  fail_unless(gst_buffer_get_da3_view(out, &v));
  fail_unless_equals_int(v.image_height, 364);
  fail_unless_equals_float(v.source_y, 12);
  fail_unless_equals_float(v.source_h, 728);
  fail_unless_equals_float(v.source_w, 1008);
  fail_unless_equals_float(v.fx, 250);
  fail_unless_equals_float(v.fy, 255);
  fail_unless_equals_float(v.cy, 188 - 6);
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(intrinsics_follow_the_picture) {
  Rig rig("video/x-raw,format=RGB,width=720,height=480,framerate=30/1,pixel-aspect-ratio=2/1");  // 504x168
  GstBuffer* out = gst_harness_push_and_pull(rig.h, with_view(rgb_frame(720, 480), known_view(720, 480)));
  GstDa3View v;
  fail_unless(gst_buffer_get_da3_view(out, &v));
  fail_unless(v.has_intrinsics && v.has_extrinsics);
  fail_unless_equals_float(v.fx, 500 * 504 / 720.0);
  fail_unless_equals_float(v.cx, 252);
  fail_unless(std::abs(v.fy - 510 * 168 / 480.0) < 1e-9);
  fail_unless(std::abs(v.cy - 84) < 1e-9);
  gst_buffer_unref(out);
}
GST_END_TEST

// A part of a picture that was cut out earlier: the region stays one of the original.
GST_START_TEST(source_regions_are_chained) {
  Rig rig(rgb_caps(640, 480).c_str());
  GstDa3View in = known_view(640, 480), v;
  in.source_width = 3840;
  in.source_height = 2160;
  in.source_x = 100;
  in.source_y = 50;
  in.source_w = 1280;
  in.source_h = 960;
  GstBuffer* out = gst_harness_push_and_pull(rig.h, with_view(rgb_frame(640, 480), in));
  fail_unless(gst_buffer_get_da3_view(out, &v));
  fail_unless_equals_int(v.source_width, 3840);
  fail_unless_equals_float(v.source_x, 100);
  fail_unless_equals_float(v.source_y, 50);
  fail_unless_equals_float(v.source_w, 1280);
  fail_unless_equals_float(v.source_h, 960);
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(a_view_of_another_size_is_stale) {
  Rig rig(rgb_caps(640, 480).c_str());
  GstDa3View in = known_view(480, 640), v;  // the picture was turned since
  in.depth_w = 480;
  in.kind = GST_DA3_DEPTH_KIND_METRIC;
  GstBuffer* out = gst_harness_push_and_pull(rig.h, with_view(rgb_frame(640, 480), in));
  fail_unless(gst_buffer_get_da3_view(out, &v));
  fail_if(v.has_intrinsics || v.has_extrinsics);
  fail_unless_equals_float(v.depth_w, 0);
  fail_unless_equals_int(v.kind, GST_DA3_DEPTH_KIND_NONE);
  fail_unless_equals_int(v.source_width, 640);
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(the_truth_of_a_source_stays_the_truth) {
  Rig rig(rgb_caps(1008, 560).c_str());
  GstDa3View in = known_view(1008, 560), v;
  in.role = GST_DA3_ROLE_TRUTH;
  GstBuffer* out = gst_harness_push_and_pull(rig.h, with_view(rgb_frame(1008, 560), in));
  fail_if(gst_buffer_get_da3_view_by_role(out, GST_DA3_ROLE_PREDICTION, &v));
  fail_unless(gst_buffer_get_da3_view(out, &v));
  fail_unless_equals_int(v.role, GST_DA3_ROLE_TRUTH);
  fail_unless_equals_float(v.fx, 250);
  fail_unless(v.processed);
  gst_buffer_unref(out);
}
GST_END_TEST

static GstBuffer* frame_with_depth(int width, int height) {
  GstDa3View view = known_view(width, height);
  view.depth_w = width;
  view.depth_h = height;
  view.kind = GST_DA3_DEPTH_KIND_METRIC;
  GstBuffer* buffer = with_view(rgb_frame(width, height), view);
  const gsize dims[] = {1, 14, 28};
  gst_buffer_add_da3_tensor(buffer, GST_DA3_TENSOR_DEPTH,
                            gst_buffer_new_allocate(nullptr, 14 * 28 * 4, nullptr), 3, dims);
  gst_buffer_add_video_region_of_interest_meta(buffer, "face", 100, 200, 50, 60);
  return buffer;
}

GST_START_TEST(depth_and_regions_are_scaled_with_the_picture) {
  Rig rig(rgb_caps(1008, 560).c_str());
  GstBuffer* out = gst_harness_push_and_pull(rig.h, frame_with_depth(1008, 560));
  GstDa3Tensor tensor;
  GstDa3View v;
  fail_unless(gst_buffer_get_da3_tensor(out, GST_DA3_TENSOR_DEPTH, &tensor));
  fail_unless(gst_buffer_get_da3_view(out, &v));
  fail_unless_equals_float(v.depth_w, 504);
  fail_unless_equals_int(v.kind, GST_DA3_DEPTH_KIND_METRIC);
  auto* roi = reinterpret_cast<GstVideoRegionOfInterestMeta*>(
      gst_buffer_get_meta(out, GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE));
  fail_unless(roi != nullptr);
  fail_unless_equals_int(roi->x, 50);
  fail_unless_equals_int(roi->h, 30);
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(depth_and_regions_of_a_cropped_picture_are_dropped) {
  Rig rig;
  rig.method(ProcessResMethod::upper_bound_crop);
  gst_harness_set_src_caps_str(rig.h, rgb_caps(1008, 752).c_str());
  GstBuffer* out = gst_harness_push_and_pull(rig.h, frame_with_depth(1008, 752));
  GstDa3Tensor tensor;
  GstDa3View v;
  if (!gst_meta_get_info("GstTensorMeta")) {
    fail_if(gst_buffer_get_da3_tensor(out, GST_DA3_TENSOR_DEPTH, &tensor));
  }
  fail_unless(gst_buffer_get_da3_view(out, &v));
  fail_unless_equals_float(v.depth_w, 0);
  fail_unless_equals_int(v.kind, GST_DA3_DEPTH_KIND_NONE);
  fail_unless(gst_buffer_get_meta(out, GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE) == nullptr);
  gst_buffer_unref(out);
}
GST_END_TEST

static Suite* da3preprocess_view_suite() {
  Suite* s = suite_create("da3preprocess-view");
  TCase* t = tcase_create("general");
  suite_add_tcase(s, t);
  tcase_set_timeout(t, 60);
  tcase_add_test(t, view_of_a_resized_picture);
  tcase_add_test(t, view_of_a_cropped_picture);
  tcase_add_test(t, intrinsics_follow_the_picture);
  tcase_add_test(t, source_regions_are_chained);
  tcase_add_test(t, a_view_of_another_size_is_stale);
  tcase_add_test(t, the_truth_of_a_source_stays_the_truth);
  tcase_add_test(t, depth_and_regions_are_scaled_with_the_picture);
  tcase_add_test(t, depth_and_regions_of_a_cropped_picture_are_dropped);
  return s;
}

GST_CHECK_MAIN(da3preprocess_view)
