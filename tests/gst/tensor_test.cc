// SPDX-License-Identifier: MIT
#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#include <gst/video/video.h>

#include <initializer_list>

#include "gst/da3/da3.h"

namespace {

GstBuffer* floats(gsize count) {
  return gst_buffer_new_allocate(nullptr, count * sizeof(gfloat), nullptr);
}

GstBuffer* frame_with_depth(GstBuffer** data) {
  GstBuffer* frame = gst_buffer_new_allocate(nullptr, 640 * 480 * 3, nullptr);
  gst_buffer_memset(frame, 0, 0, 640 * 480 * 3);
  GST_BUFFER_PTS(frame) = 0;
  *data = floats(28 * 42);
  const gsize dims[] = {1, 28, 42};
  fail_unless(gst_buffer_add_da3_tensor(frame, GST_DA3_TENSOR_DEPTH, gst_buffer_ref(*data), 3, dims));
  return frame;
}

void assert_refused(GstBuffer* frame, const char* id, gsize count, guint n_dims, const gsize* dims) {
  GstBuffer* data = floats(count);
  gst_buffer_ref(data);
  gboolean added = TRUE;
  ASSERT_WARNING(added = gst_buffer_add_da3_tensor(frame, id, data, n_dims, dims));
  fail_if(added);
  ASSERT_MINI_OBJECT_REFCOUNT(data, "data", 1);  // was released
  gst_buffer_unref(data);
}

}  // namespace

GST_START_TEST(tensor_comes_back) {
  GstBuffer* data;
  GstBuffer* frame = frame_with_depth(&data);
  GstDa3Tensor t;
  fail_unless(gst_buffer_get_da3_tensor(frame, GST_DA3_TENSOR_DEPTH, &t));
  fail_unless(t.data == data);
  fail_unless_equals_int(t.n_dims, 3);
  fail_unless_equals_int(t.dims[0], 1);
  fail_unless_equals_int(t.dims[1], 28);
  fail_unless_equals_int(t.dims[2], 42);
  gst_buffer_unref(frame);
  ASSERT_MINI_OBJECT_REFCOUNT(data, "data", 1);
  gst_buffer_unref(data);
}
GST_END_TEST

GST_START_TEST(absent_tensor) {
  GstBuffer* data;
  GstBuffer* frame = frame_with_depth(&data);
  GstDa3Tensor t;
  fail_if(gst_buffer_get_da3_tensor(frame, GST_DA3_TENSOR_SKY, &t));
  fail_unless(t.data == nullptr);
  fail_if(gst_buffer_get_da3_tensor(frame, "nobody-ever-made-this-id", &t));
  gst_buffer_unref(frame);
  gst_buffer_unref(data);
}
GST_END_TEST

GST_START_TEST(several_ids) {
  GstBuffer* data;
  GstBuffer* frame = frame_with_depth(&data);
  const gsize conf[] = {1, 28, 42}, ray[] = {1, 4, 6, 6};
  fail_unless(gst_buffer_add_da3_tensor(frame, GST_DA3_TENSOR_CONFIDENCE, floats(28 * 42), 3, conf));
  fail_unless(gst_buffer_add_da3_tensor(frame, GST_DA3_TENSOR_RAY, floats(144), 4, ray));
  fail_unless(gst_buffer_add_da3_tensor(frame, GST_DA3_TENSOR_DEPTH "-truth", floats(28 * 42), 3, conf));
  GstDa3Tensor t;
  fail_unless(gst_buffer_get_da3_tensor(frame, GST_DA3_TENSOR_RAY, &t));
  fail_unless_equals_int(t.n_dims, 4);
  fail_unless_equals_int(t.dims[3], 6);
  fail_unless(gst_buffer_get_da3_tensor(frame, GST_DA3_TENSOR_DEPTH, &t));
  fail_unless(t.data == data);
  fail_unless(gst_buffer_get_da3_tensor(frame, GST_DA3_TENSOR_DEPTH "-truth", &t));
  fail_if(t.data == data);
  gst_buffer_unref(frame);
  gst_buffer_unref(data);
}
GST_END_TEST

GST_START_TEST(same_id_is_replaced) {
  GstBuffer* data;
  GstBuffer* frame = frame_with_depth(&data);
  const gsize dims[] = {1, 2, 3};
  fail_unless(gst_buffer_add_da3_tensor(frame, GST_DA3_TENSOR_DEPTH, floats(6), 3, dims));
  ASSERT_MINI_OBJECT_REFCOUNT(data, "data", 1);
  GstDa3Tensor t;
  fail_unless(gst_buffer_get_da3_tensor(frame, GST_DA3_TENSOR_DEPTH, &t));
  fail_unless_equals_int(t.dims[2], 3);
  gst_buffer_unref(frame);
  gst_buffer_unref(data);
}
GST_END_TEST

GST_START_TEST(copies_share_the_data) {
  GstBuffer* data;
  GstBuffer* frame = frame_with_depth(&data);
  GstBuffer* shallow = gst_buffer_copy(frame);
  GstBuffer* deep = gst_buffer_copy_deep(frame);
  gst_buffer_unref(frame);
  for (GstBuffer* copy : {shallow, deep}) {
    GstDa3Tensor t;
    fail_unless(gst_buffer_get_da3_tensor(copy, GST_DA3_TENSOR_DEPTH, &t));
    fail_unless(t.data == data);
    gst_buffer_unref(copy);
  }
  ASSERT_MINI_OBJECT_REFCOUNT(data, "data", 1);
  gst_buffer_unref(data);
}
GST_END_TEST

GST_START_TEST(part_of_a_buffer_has_no_tensor) {
  if (gst_meta_get_info("GstTensorMeta")) return;  // GStreamer's own meta is copied always
  GstBuffer* data;
  GstBuffer* frame = frame_with_depth(&data);
  GstBuffer* part = gst_buffer_copy_region(frame, GST_BUFFER_COPY_ALL, 0, 640 * 3);
  GstDa3Tensor t;
  fail_if(gst_buffer_get_da3_tensor(part, GST_DA3_TENSOR_DEPTH, &t));
  gst_buffer_unref(part);
  gst_buffer_unref(frame);
  gst_buffer_unref(data);
}
GST_END_TEST

GST_START_TEST(wrong_sizes_are_refused) {
  GstBuffer* frame = gst_buffer_new();
  const gsize dims[] = {1, 4, 5}, zero[] = {1, 0, 5}, huge[] = {G_MAXSIZE / 2, G_MAXSIZE / 2, 4};
  const gsize five[] = {1, 1, 1, 1, 1};
  assert_refused(frame, GST_DA3_TENSOR_DEPTH, 19, 3, dims);
  assert_refused(frame, GST_DA3_TENSOR_DEPTH, 21, 3, dims);
  assert_refused(frame, GST_DA3_TENSOR_DEPTH, 20, 3, zero);
  assert_refused(frame, GST_DA3_TENSOR_DEPTH, 20, 3, huge);
  assert_refused(frame, GST_DA3_TENSOR_DEPTH, 1, 5, five);
  assert_refused(frame, GST_DA3_TENSOR_DEPTH, 1, 0, dims);
  assert_refused(frame, GST_DA3_TENSOR_DEPTH, 1, 3, nullptr);
  assert_refused(frame, "", 20, 3, dims);
  GstDa3Tensor t;
  fail_if(gst_buffer_get_da3_tensor(frame, GST_DA3_TENSOR_DEPTH, &t));
  gst_buffer_unref(frame);
}
GST_END_TEST

GST_START_TEST(shared_buffer_is_refused) {
  GstBuffer* frame = gst_buffer_new();
  gst_buffer_ref(frame);
  const gsize dims[] = {1, 4, 5};
  assert_refused(frame, GST_DA3_TENSOR_DEPTH, 20, 3, dims);
  gst_buffer_unref(frame);
  gst_buffer_unref(frame);
}
GST_END_TEST

// A refused replacement leaves what was there.
GST_START_TEST(refusal_keeps_the_old_tensor) {
  GstBuffer* data;
  GstBuffer* frame = frame_with_depth(&data);
  const gsize dims[] = {1, 4, 5};
  assert_refused(frame, GST_DA3_TENSOR_DEPTH, 1, 3, dims);
  GstDa3Tensor t;
  fail_unless(gst_buffer_get_da3_tensor(frame, GST_DA3_TENSOR_DEPTH, &t));
  fail_unless(t.data == data);
  gst_buffer_unref(frame);
  gst_buffer_unref(data);
}
GST_END_TEST

static void assert_through(const char* element, bool kept) {
  GstHarness* h = gst_harness_new_parse(element);
  gst_harness_set_src_caps_str(h, "video/x-raw,format=RGB,width=640,height=480,framerate=30/1");
  GstBuffer* data;
  GstBuffer* out = gst_harness_push_and_pull(h, frame_with_depth(&data));
  GstDa3Tensor t;
  const bool found = gst_buffer_get_da3_tensor(out, GST_DA3_TENSOR_DEPTH, &t);
  fail_unless(found == kept, "%s: tensor %s", element, found ? "kept" : "lost");
  if (found) {
    fail_unless(t.data == data);
    fail_unless_equals_int(t.dims[2], 42);
  }
  gst_buffer_unref(out);
  gst_harness_teardown(h);
  gst_buffer_unref(data);
}

GST_START_TEST(survives_convert_and_scale) {
  assert_through("videoconvert ! capsfilter caps=video/x-raw,format=NV12", true);
  assert_through("videoscale ! capsfilter caps=video/x-raw,width=320,height=240", true);
}
GST_END_TEST

GST_START_TEST(crop_and_border_drop_it) {
  if (gst_meta_get_info("GstTensorMeta")) return;  // there the view meta alone tells
  assert_through("videocrop left=10", false);
  assert_through("videobox left=-10", false);
}
GST_END_TEST

static Suite* tensor_suite() {
  Suite* s = suite_create("tensor");
  TCase* t = tcase_create("general");
  suite_add_tcase(s, t);
  tcase_add_test(t, tensor_comes_back);
  tcase_add_test(t, absent_tensor);
  tcase_add_test(t, several_ids);
  tcase_add_test(t, same_id_is_replaced);
  tcase_add_test(t, copies_share_the_data);
  tcase_add_test(t, part_of_a_buffer_has_no_tensor);
  tcase_add_test(t, wrong_sizes_are_refused);
  tcase_add_test(t, shared_buffer_is_refused);
  tcase_add_test(t, refusal_keeps_the_old_tensor);
  tcase_add_test(t, survives_convert_and_scale);
  tcase_add_test(t, crop_and_border_drop_it);
  return s;
}

GST_CHECK_MAIN(tensor)
