// SPDX-License-Identifier: MIT
#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#include <gst/video/gstvideometa.h>
#include <gst/video/video.h>

#include <cstring>
#include <initializer_list>
#include <string>

#include "gst/da3/da3.h"

namespace {

GstDa3View full_view() {
  GstDa3View v;
  gst_da3_view_init(&v);
  v.frame = 5'000'000'000;
  v.window = 7;
  v.view_index = 1;
  v.views = 3;
  v.image_width = 640;
  v.image_height = 480;
  v.processed = TRUE;
  v.source_width = 1280;
  v.source_height = 960;
  v.source_x = 10.5;
  v.source_y = 20.25;
  v.source_w = 1000;
  v.source_h = 900;
  v.depth_x = 8;
  v.depth_y = 6;
  v.depth_w = 320;
  v.depth_h = 240;
  v.has_intrinsics = TRUE;
  v.fx = 500;
  v.fy = 510;
  v.cx = 320;
  v.cy = 240;
  v.has_extrinsics = TRUE;
  for (int i = 0; i < 9; ++i) v.rotation[i] = 0.125 * i;
  for (int i = 0; i < 3; ++i) v.translation[i] = 10 + i;
  v.kind = GST_DA3_DEPTH_KIND_METRIC;
  v.unit_scale = 0.5;
  v.depth = {1, 9, 4, 1.5, 8.5, 0.75};
  v.confidence = {1, 3, 2, 1.25, 2.75, 1};
  v.has_sky = TRUE;
  v.sky_fraction = 0.25;
  g_strlcpy(v.model, "da3-small", sizeof v.model);
  g_strlcpy(v.weights_hash, "0123456789abcdef", sizeof v.weights_hash);
  g_strlcpy(v.device, "cuda:0", sizeof v.device);
  g_strlcpy(v.precision, "fp32", sizeof v.precision);
  v.batch = 4;
  v.queued_ns = 11;
  v.inference_ns = G_MAXINT64;
  v.stale = TRUE;
  return v;
}

void assert_equal(const GstDa3View& a, const GstDa3View& b) {
  fail_unless_equals_int64(a.frame, b.frame);
  fail_unless_equals_int64(a.window, b.window);
  fail_unless_equals_int64(a.inference_ns, b.inference_ns);
  fail_unless_equals_int64(a.queued_ns, b.queued_ns);
  for (int GstDa3View::*m :
       {&GstDa3View::version, &GstDa3View::view_index, &GstDa3View::views, &GstDa3View::image_width,
        &GstDa3View::image_height, &GstDa3View::processed, &GstDa3View::source_width,
        &GstDa3View::source_height, &GstDa3View::has_intrinsics, &GstDa3View::has_extrinsics,
        &GstDa3View::has_sky, &GstDa3View::batch, &GstDa3View::stale}) {
    fail_unless_equals_int(a.*m, b.*m);
  }
  for (double GstDa3View::*m :
       {&GstDa3View::source_x, &GstDa3View::source_y, &GstDa3View::source_w, &GstDa3View::source_h,
        &GstDa3View::depth_x, &GstDa3View::depth_y, &GstDa3View::depth_w, &GstDa3View::depth_h,
        &GstDa3View::fx, &GstDa3View::fy, &GstDa3View::cx, &GstDa3View::cy, &GstDa3View::unit_scale,
        &GstDa3View::sky_fraction}) {
    fail_unless_equals_float(a.*m, b.*m);
  }
  fail_unless(std::memcmp(a.rotation, b.rotation, sizeof a.rotation) == 0);
  fail_unless(std::memcmp(a.translation, b.translation, sizeof a.translation) == 0);
  fail_unless(std::memcmp(&a.depth, &b.depth, sizeof a.depth) == 0);
  fail_unless(std::memcmp(&a.confidence, &b.confidence, sizeof a.confidence) == 0);
  fail_unless_equals_int(a.role, b.role);
  fail_unless_equals_int(a.kind, b.kind);
  fail_unless_equals_string(a.model, b.model);
  fail_unless_equals_string(a.weights_hash, b.weights_hash);
  fail_unless_equals_string(a.device, b.device);
  fail_unless_equals_string(a.precision, b.precision);
}

guint count_views(GstBuffer* buffer) {
  gpointer state = nullptr;
  guint count = 0;
  while (GstMeta* meta = gst_buffer_iterate_meta(buffer, &state)) {
    count += g_strcmp0(g_type_name(meta->info->type), GST_DA3_VIEW_META_NAME) == 0;
  }
  return count;
}

// A 640x480 frame with a full view goes through `element`; what comes out.
GstBuffer* through(const char* element) {
  GstHarness* h = gst_harness_new_parse(element);
  gst_harness_set_src_caps_str(h, "video/x-raw,format=RGB,width=640,height=480,framerate=30/1");
  GstBuffer* buffer = gst_buffer_new_allocate(nullptr, 640 * 480 * 3, nullptr);
  gst_buffer_memset(buffer, 0, 0, 640 * 480 * 3);
  GST_BUFFER_PTS(buffer) = 0;
  GST_BUFFER_DURATION(buffer) = GST_SECOND / 30;
  const GstDa3View view = full_view();
  fail_unless(gst_buffer_add_da3_view(buffer, &view));
  GstBuffer* out = gst_harness_push_and_pull(h, buffer);
  fail_unless(out != nullptr);
  gst_harness_teardown(h);
  return out;
}

}  // namespace

GST_START_TEST(every_field_comes_back) {
  GstBuffer* buffer = gst_buffer_new();
  const GstDa3View in = full_view();
  fail_unless(gst_buffer_add_da3_view(buffer, &in));
  GstDa3View out;
  fail_unless(gst_buffer_get_da3_view(buffer, &out));
  assert_equal(in, out);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(flat_fields_for_bindings) {
  GstBuffer* buffer = gst_buffer_new();
  const GstDa3View in = full_view();
  gst_buffer_add_da3_view(buffer, &in);
  GstCustomMeta* meta = gst_buffer_get_custom_meta(buffer, GST_DA3_VIEW_META_NAME);
  fail_unless(meta != nullptr);
  const GstStructure* s = gst_custom_meta_get_structure(meta);
  for (const char* name :
       {"fx", "cy", "r00", "r22", "t0", "t2", "depth_median", "confidence_p98", "source_x"}) {
    fail_unless(gst_structure_has_field_typed(s, name, G_TYPE_DOUBLE), "%s", name);
  }
  for (const char* name : {"version", "role", "views", "image_width", "kind", "batch"}) {
    fail_unless(gst_structure_has_field_typed(s, name, G_TYPE_INT), "%s", name);
  }
  fail_unless(gst_structure_has_field_typed(s, "processed", G_TYPE_BOOLEAN));
  fail_unless(gst_structure_has_field_typed(s, "frame", G_TYPE_INT64));
  fail_unless_equals_string(gst_structure_get_string(s, "model"), "da3-small");
  double r21 = 0;
  fail_unless(gst_structure_get_double(s, "r21", &r21));
  fail_unless_equals_float(r21, in.rotation[7]);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(unknown_is_the_default) {
  GstDa3View view;
  gst_da3_view_init(&view);
  fail_unless_equals_int(view.version, GST_DA3_VIEW_VERSION);
  fail_unless_equals_int(view.views, 1);
  fail_unless_equals_int(view.kind, GST_DA3_DEPTH_KIND_NONE);
  fail_if(view.has_intrinsics || view.has_extrinsics || view.has_sky || view.processed);
  fail_unless_equals_string(view.model, "");
}
GST_END_TEST

GST_START_TEST(no_meta_no_view) {
  GstBuffer* buffer = gst_buffer_new();
  GstDa3View view;
  fail_if(gst_buffer_get_da3_view(buffer, &view));
  fail_if(gst_buffer_get_da3_view_by_role(buffer, GST_DA3_ROLE_TRUTH, &view));
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(same_role_is_replaced) {
  GstBuffer* buffer = gst_buffer_new();
  GstDa3View view = full_view();
  gst_buffer_add_da3_view(buffer, &view);
  view.fx = 1;
  gst_buffer_add_da3_view(buffer, &view);
  fail_unless_equals_int(count_views(buffer), 1);
  gst_buffer_get_da3_view(buffer, &view);
  fail_unless_equals_float(view.fx, 1);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(two_roles_live_side_by_side) {
  GstBuffer* buffer = gst_buffer_new();
  GstDa3View truth = full_view(), prediction = full_view(), out;
  truth.role = GST_DA3_ROLE_TRUTH;
  truth.fx = 2;
  gst_buffer_add_da3_view(buffer, &truth);
  gst_buffer_get_da3_view(buffer, &out);
  fail_unless_equals_int(out.role, GST_DA3_ROLE_TRUTH);
  fail_if(gst_buffer_get_da3_view_by_role(buffer, GST_DA3_ROLE_PREDICTION, &out));
  gst_buffer_add_da3_view(buffer, &prediction);
  GstBuffer* copy = gst_buffer_copy_deep(buffer);
  for (GstBuffer* b : {buffer, copy}) {
    fail_unless_equals_int(count_views(b), 2);
    fail_unless(gst_buffer_get_da3_view(b, &out));
    fail_unless_equals_int(out.role, GST_DA3_ROLE_PREDICTION);
    fail_unless(gst_buffer_get_da3_view_by_role(b, GST_DA3_ROLE_TRUTH, &out));
    fail_unless_equals_float(out.fx, 2);
  }
  gst_buffer_unref(copy);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(shared_buffer_is_refused) {
  GstBuffer* buffer = gst_buffer_new();
  gst_buffer_ref(buffer);
  const GstDa3View view = full_view();
  gboolean added = TRUE;
  ASSERT_WARNING(added = gst_buffer_add_da3_view(buffer, &view));
  fail_if(added);
  fail_unless_equals_int(count_views(buffer), 0);
  gst_buffer_unref(buffer);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(copy_is_independent) {
  GstBuffer* buffer = gst_buffer_new();
  GstDa3View view = full_view();
  gst_buffer_add_da3_view(buffer, &view);
  GstBuffer* copy = gst_buffer_copy(buffer);
  view.fx = 3;
  gst_buffer_add_da3_view(copy, &view);
  gst_buffer_get_da3_view(buffer, &view);
  fail_unless_equals_float(view.fx, 500);
  gst_buffer_unref(buffer);
  gst_buffer_get_da3_view(copy, &view);
  fail_unless_equals_float(view.fx, 3);
  gst_buffer_unref(copy);
}
GST_END_TEST

GST_START_TEST(part_of_a_buffer_has_no_view) {
  GstBuffer* buffer = gst_buffer_new_allocate(nullptr, 100, nullptr);
  GstDa3View view = full_view();
  gst_buffer_add_da3_view(buffer, &view);
  GstBuffer* part = gst_buffer_copy_region(buffer, GST_BUFFER_COPY_ALL, 10, 50);
  fail_if(gst_buffer_get_da3_view(part, &view));
  gst_buffer_unref(part);
  gst_buffer_unref(buffer);
}
GST_END_TEST

GST_START_TEST(scaler_rescales_intrinsics_and_regions) {
  GstBuffer* out = through("videoscale ! capsfilter caps=video/x-raw,width=320,height=120");
  GstDa3View v;
  fail_unless(gst_buffer_get_da3_view(out, &v));
  fail_unless_equals_int(v.image_width, 320);
  fail_unless_equals_int(v.image_height, 120);
  fail_unless_equals_float(v.fx, 250);
  fail_unless_equals_float(v.cx, 160);
  fail_unless_equals_float(v.fy, 127.5);
  fail_unless_equals_float(v.cy, 60);
  fail_unless_equals_float(v.depth_x, 4);
  fail_unless_equals_float(v.depth_w, 160);
  fail_unless_equals_float(v.depth_y, 1.5);
  fail_unless_equals_float(v.depth_h, 60);
  fail_if(v.processed);
  fail_unless_equals_float(v.source_w, 1000);
  fail_unless_equals_float(v.translation[0], 10);
  fail_unless_equals_string(v.model, "da3-small");
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(converter_keeps_all) {
  GstBuffer* out = through("videoconvert ! capsfilter caps=video/x-raw,format=I420");
  GstDa3View v;
  fail_unless(gst_buffer_get_da3_view(out, &v));
  assert_equal(full_view(), v);
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(crop_and_border_drop_it) {
  for (const char* element : {"videocrop left=10", "videobox left=-10"}) {
    GstBuffer* out = through(element);
    GstDa3View v;
    fail_if(gst_buffer_get_da3_view(out, &v), "%s kept a view that is wrong now", element);
    gst_buffer_unref(out);
  }
}
GST_END_TEST

GST_START_TEST(unknown_transform_drops_it) {
  GstBuffer* from = gst_buffer_new();
  GstBuffer* to = gst_buffer_new();
  GstDa3View view = full_view();
  gst_buffer_add_da3_view(from, &view);
  GstMeta* meta = &gst_buffer_get_custom_meta(from, GST_DA3_VIEW_META_NAME)->meta;
  fail_if(meta->info->transform_func(to, meta, from, g_quark_from_static_string("test-turn"), nullptr));
  fail_unless_equals_int(count_views(to), 0);
  gst_buffer_unref(from);
  gst_buffer_unref(to);
}
GST_END_TEST

// Written by another binding or a later version: fewer, more and wrongly typed fields.
GST_START_TEST(foreign_structure_is_read_leniently) {
  gst_da3_view_register();
  GstBuffer* buffer = gst_buffer_new();
  GstStructure* s = gst_custom_meta_get_structure(gst_buffer_add_custom_meta(buffer, GST_DA3_VIEW_META_NAME));
  gst_structure_set(s, "fx", G_TYPE_DOUBLE, 77.0, "fy", G_TYPE_STRING, "wrong", "views", G_TYPE_DOUBLE, 2.0,
                    "of_the_future", G_TYPE_UINT64, G_GUINT64_CONSTANT(1), nullptr);
  const std::string long_name(200, 'm');
  gst_structure_set(s, "model", G_TYPE_STRING, long_name.c_str(), nullptr);
  GstDa3View v;
  fail_unless(gst_buffer_get_da3_view(buffer, &v));
  fail_unless_equals_float(v.fx, 77);
  fail_unless_equals_float(v.fy, 0);
  fail_unless_equals_int(v.views, 1);
  fail_unless_equals_int(strlen(v.model), sizeof v.model - 1);
  GstBuffer* copy = gst_buffer_copy(buffer);
  s = gst_custom_meta_get_structure(gst_buffer_get_custom_meta(copy, GST_DA3_VIEW_META_NAME));
  fail_unless(gst_structure_has_field(s, "of_the_future"));
  gst_buffer_unref(copy);
  gst_buffer_unref(buffer);
}
GST_END_TEST

// Not terminated, and no UTF-8: must not be read beyond its end nor break the structure.
GST_START_TEST(bad_text_is_made_valid) {
  GstBuffer* buffer = gst_buffer_new();
  GstDa3View v = full_view();
  std::memset(v.device, 'x', sizeof v.device);
  std::memset(v.precision, 0xff, sizeof v.precision);
  fail_unless(gst_buffer_add_da3_view(buffer, &v));
  fail_unless(gst_buffer_get_da3_view(buffer, &v));
  fail_unless_equals_int(strlen(v.device), sizeof v.device - 1);
  fail_unless(g_utf8_validate(v.device, -1, nullptr));
  gst_buffer_unref(buffer);
}
GST_END_TEST

static gpointer register_and_add(gpointer) {
  for (int i = 0; i < 200; ++i) {
    GstBuffer* buffer = gst_buffer_new();
    GstDa3View view;
    gst_da3_view_init(&view);
    gst_da3_view_register();
    gst_buffer_add_da3_view(buffer, &view);
    gst_buffer_unref(buffer);
  }
  return nullptr;
}

GST_START_TEST(many_threads_register_once) {
  GThread* threads[4];
  for (GThread*& t : threads) t = g_thread_new("register", register_and_add, nullptr);
  for (GThread* t : threads) g_thread_join(t);
  fail_unless(gst_meta_get_info(GST_DA3_VIEW_META_NAME) != nullptr);
}
GST_END_TEST

static Suite* view_suite() {
  Suite* s = suite_create("view");
  TCase* t = tcase_create("general");
  suite_add_tcase(s, t);
  // First, so that nothing has registered the meta before.
  tcase_add_test(t, many_threads_register_once);
  tcase_add_test(t, every_field_comes_back);
  tcase_add_test(t, flat_fields_for_bindings);
  tcase_add_test(t, unknown_is_the_default);
  tcase_add_test(t, no_meta_no_view);
  tcase_add_test(t, same_role_is_replaced);
  tcase_add_test(t, two_roles_live_side_by_side);
  tcase_add_test(t, shared_buffer_is_refused);
  tcase_add_test(t, copy_is_independent);
  tcase_add_test(t, part_of_a_buffer_has_no_view);
  tcase_add_test(t, scaler_rescales_intrinsics_and_regions);
  tcase_add_test(t, converter_keeps_all);
  tcase_add_test(t, crop_and_border_drop_it);
  tcase_add_test(t, unknown_transform_drops_it);
  tcase_add_test(t, foreign_structure_is_read_leniently);
  tcase_add_test(t, bad_text_is_made_valid);
  return s;
}

GST_CHECK_MAIN(view)
