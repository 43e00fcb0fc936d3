// SPDX-License-Identifier: MIT
//
// The pictures of da3preprocess: pixels and sizes, caps, frames of any layout in memory, timestamps.
#include <cstring>
#include <initializer_list>

#include "preprocess_rig.h"

using namespace da3::testing;

namespace {

GstVideoInfo info_of(const char* caps_text) {
  GstCaps* caps = gst_caps_from_string(caps_text);
  GstVideoInfo info;
  fail_unless(caps && gst_video_info_from_caps(&info, caps), "%s", caps_text);
  gst_caps_unref(caps);
  return info;
}

}  // namespace

GST_START_TEST(rgb_is_bit_exact_in_all_methods) {
  for (Size size : {Size{640, 480}, Size{321, 243}, Size{100, 333}}) {
    for (ProcessResMethod method : kMethods) {
      Rig rig;
      rig.set("process-res", 280);
      rig.method(method);
      gst_harness_set_src_caps_str(rig.h, rgb_caps(size.width, size.height).c_str());
      const Bytes frame = rgb_frame(size.width, size.height);
      Size expected_size;
      const Bytes expected = reference(frame, size.width, size.height, 280, method, &expected_size);
      GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(frame));
      assert_size(rig.h, expected_size.width, expected_size.height);
      fail_unless(pixels_of(out, expected_size.width, expected_size.height) == expected);
      gst_buffer_unref(out);
    }
  }
}
GST_END_TEST

GST_START_TEST(every_raw_format_gives_a_picture) {
  guint count = 0;
  const GstVideoFormat* formats = gst_video_formats_raw(&count);
  fail_unless(count > 80);
  Rig rig;
  rig.set("process-res", 56);
  for (guint i = 0; i < count; ++i) {
    const char* name = gst_video_format_to_string(formats[i]);
    const std::string caps = std::string("video/x-raw,format=") + name + ",width=98,height=70,framerate=30/1";
    gst_harness_set_src_caps_str(rig.h, caps.c_str());
    const GstVideoInfo info = info_of(caps.c_str());
    GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(Bytes(GST_VIDEO_INFO_SIZE(&info), 0x80)));
    fail_unless(out != nullptr, "%s", name);
    fail_unless_equals_int(gst_buffer_get_size(out), 56 * 42 * 3);
    gst_buffer_unref(out);
  }
  rig.assert_no_error();
}
GST_END_TEST

GST_START_TEST(output_caps) {
  Rig rig(
      "video/x-raw,format=NV12,width=1920,height=1080,framerate=30000/1001,pixel-aspect-ratio=1/1,"
      "interlace-mode=interleaved,colorimetry=bt709,chroma-site=mpeg2,multiview-mode=mono,camera=(string)"
      "left");
  const GstVideoInfo info = info_of("video/x-raw,format=NV12,width=1920,height=1080,framerate=30/1");
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(Bytes(GST_VIDEO_INFO_SIZE(&info), 99))));
  GstCaps* caps = gst_pad_get_current_caps(rig.h->sinkpad);
  GstCaps* expected = gst_caps_from_string(
      "video/x-raw,format=RGB,width=504,height=280,framerate=30000/1001,pixel-aspect-ratio=1/"
      "1,colorimetry=sRGB,"
      "multiview-mode=mono,camera=(string)left");
  gchar* text = gst_caps_to_string(caps);
  fail_unless(gst_caps_is_equal(caps, expected), "%s", text);
  g_free(text);
  gst_caps_unref(expected);
  gst_caps_unref(caps);
}
GST_END_TEST

GST_START_TEST(still_pictures_have_framerate_0) {
  Rig rig("video/x-raw,format=RGB,width=640,height=480,framerate=0/1");
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480))));
  assert_size(rig.h, 504, 378);
}
GST_END_TEST

GST_START_TEST(pixel_aspect_ratio_is_made_square) {
  Rig rig("video/x-raw,format=RGB,width=720,height=576,framerate=25/1,pixel-aspect-ratio=64/45");
  GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(720, 576)));
  assert_size(rig.h, 504, 280);
  GstDa3View view;
  fail_unless(gst_buffer_get_da3_view(out, &view));
  fail_unless_equals_int(view.source_width, 720);
  fail_unless_equals_float(view.source_w, 720);
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(a_free_source_is_asked_for_rgb) {
  Rig rig;
  GstPad* pad = gst_element_get_static_pad(rig.h->element, "sink");
  GstCaps* caps = gst_pad_query_caps(pad, nullptr);
  fail_unless_equals_string(gst_structure_get_string(gst_caps_get_structure(caps, 0), "format"), "RGB");
  GstCaps* nv12 = gst_caps_from_string("video/x-raw,format=NV12,width=641,height=33");
  fail_unless(gst_caps_can_intersect(caps, nv12));
  gst_caps_unref(nv12);
  gst_caps_unref(caps);
  gst_object_unref(pad);
}
GST_END_TEST

GST_START_TEST(a_size_that_downstream_wants_reaches_the_source) {
  Rig rig;
  gst_harness_set_sink_caps_str(rig.h, "video/x-raw,format=RGB,width=504,height=280");
  GstPad* pad = gst_element_get_static_pad(rig.h->element, "sink");
  GstCaps* caps = gst_pad_query_caps(pad, nullptr);
  Size size;
  gst_structure_get_int(gst_caps_get_structure(caps, 0), "width", &size.width);
  gst_structure_get_int(gst_caps_get_structure(caps, 0), "height", &size.height);
  fail_unless((size == Size{504, 280}));
  gst_caps_unref(caps);
  gst_object_unref(pad);
  // And one that is resized to it is taken as well.
  gst_harness_set_src_caps_str(rig.h, rgb_caps(1920, 1080).c_str());
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(1920, 1080))));
  assert_size(rig.h, 504, 280);
}
GST_END_TEST

GST_START_TEST(framerate_constraints_pass_upstream) {
  Rig rig;
  gst_harness_set_sink_caps_str(rig.h, "video/x-raw,framerate=[5/1,10/1]");
  GstPad* pad = gst_element_get_static_pad(rig.h->element, "sink");
  GstCaps* caps = gst_pad_query_caps(pad, nullptr);
  GstCaps* fast = gst_caps_from_string("video/x-raw,framerate=30/1");
  GstCaps* slow = gst_caps_from_string("video/x-raw,framerate=8/1");
  fail_if(gst_caps_can_intersect(caps, fast));
  fail_unless(gst_caps_can_intersect(caps, slow));
  gst_caps_unref(fast);
  gst_caps_unref(slow);
  gst_caps_unref(caps);
  gst_object_unref(pad);
}
GST_END_TEST

GST_START_TEST(downstream_that_takes_another_size_is_named) {
  Rig rig;
  gst_harness_set_sink_caps_str(rig.h, "video/x-raw,format=RGB,width=640,height=480");
  gst_harness_set_src_caps_str(rig.h, rgb_caps(320, 240).c_str());
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(320, 240))), GST_FLOW_NOT_NEGOTIATED);
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(320, 240))), GST_FLOW_NOT_NEGOTIATED);
  rig.assert_error("504x378");
}
GST_END_TEST

GST_START_TEST(caps_change_between_frames) {
  Rig rig;
  rig.set("process-res", 112);
  const Size sizes[] = {{640, 480}, {1280, 720}, {100, 333}, {640, 480}, {321, 243}, {112, 112}, {77, 101}};
  for (const Size& size : sizes) {
    gst_harness_set_src_caps_str(rig.h, rgb_caps(size.width, size.height).c_str());
    const Bytes frame = rgb_frame(size.width, size.height);
    Size final;
    const Bytes expected = reference(frame, size.width, size.height, 112, kMethods[0], &final);
    GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(frame));
    assert_size(rig.h, final.width, final.height);
    fail_unless(pixels_of(out, final.width, final.height) == expected);
    gst_buffer_unref(out);
  }
}
GST_END_TEST

GST_START_TEST(identical_caps_change_nothing) {
  Rig rig(rgb_caps(640, 480).c_str());
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480))));
  caps_events(rig.h);
  gst_harness_set_src_caps_str(rig.h, rgb_caps(640, 480).c_str());
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480))));
  fail_unless_equals_int(caps_events(rig.h), 0);
}
GST_END_TEST

static void assert_caps_refused(const char* caps, const char* text) {
  Rig rig(caps);
  const GstVideoInfo info = info_of(caps);
  for (int i = 0; i < 3; ++i) {
    fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(Bytes(GST_VIDEO_INFO_SIZE(&info), 1))),
                           GST_FLOW_NOT_NEGOTIATED);
  }
  rig.assert_error(text);
  // Good caps heal it.
  gst_harness_set_src_caps_str(rig.h, rgb_caps(640, 480).c_str());
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480))));
  rig.assert_no_error();
}

GST_START_TEST(pictures_too_small) {
  assert_caps_refused("video/x-raw,format=RGB,width=1,height=1,framerate=30/1", "1x1");
  assert_caps_refused("video/x-raw,format=I420,width=13,height=13,framerate=30/1", "13x13");
  assert_caps_refused("video/x-raw,format=NV12,width=1,height=4000,framerate=30/1", "1x4000");
}
GST_END_TEST

GST_START_TEST(aspect_ratio_too_extreme) {
  assert_caps_refused("video/x-raw,format=RGB,width=20,height=4000,framerate=30/1", "aspect ratio");
  assert_caps_refused("video/x-raw,format=RGB,width=640,height=480,pixel-aspect-ratio=1000/1,framerate=30/1",
                      "too large");
}
GST_END_TEST

GST_START_TEST(refused_caps_in_mid_stream_lose_nothing_before) {
  Rig rig(rgb_caps(640, 480).c_str());
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 480))), GST_FLOW_OK);
  gst_harness_set_src_caps_str(rig.h, rgb_caps(1, 4000).c_str());
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(1, 4000))), GST_FLOW_NOT_NEGOTIATED);
  rig.assert_error("1x4000");
  fail_unless_equals_int(gst_harness_buffers_received(rig.h), 1);
}
GST_END_TEST

GST_START_TEST(what_is_no_raw_video_in_memory_is_not_accepted) {
  Rig rig;
  GstPad* pad = gst_element_get_static_pad(rig.h->element, "sink");
  for (const char* text :
       {"video/x-h264", "audio/x-raw", "video/x-raw(memory:DMABuf),format=NV12,width=640,height=480",
        "video/x-raw(format:Interlaced),format=NV12,width=640,height=480,interlace-mode=alternate",
        "video/x-raw,format=ENCODED,width=640,height=480"}) {
    GstCaps* caps = gst_caps_from_string(text);
    fail_if(gst_pad_query_accept_caps(pad, caps), "%s", text);
    gst_caps_unref(caps);
  }
  gst_object_unref(pad);
}
GST_END_TEST

GST_START_TEST(caps_without_a_size) {
  Rig rig;
  GstPad* pad = gst_element_get_static_pad(rig.h->element, "sink");
  gst_pad_send_event(pad, gst_event_new_stream_start("test"));
  GstCaps* caps = gst_caps_from_string("video/x-raw,format=RGB,framerate=30/1");
  fail_if(gst_pad_send_event(pad, gst_event_new_caps(caps)));
  gst_caps_unref(caps);
  gst_object_unref(pad);
}
GST_END_TEST

GST_START_TEST(buffer_before_caps) {
  Rig rig;
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_harness_push_event(rig.h, gst_event_new_stream_start("test"));
  gst_harness_push_event(rig.h, gst_event_new_segment(&segment));
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 480))), GST_FLOW_NOT_NEGOTIATED);
}
GST_END_TEST

GST_START_TEST(buffer_of_the_wrong_size) {
  for (gsize size : {gsize(0), gsize(100), gsize(640 * 480 * 3 - 1)}) {
    Rig rig(rgb_caps(640, 480).c_str());
    fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(Bytes(size, 1))), GST_FLOW_ERROR);
    rig.assert_error(("A buffer of " + std::to_string(size) + " bytes").c_str());
    // The next frame is fine again.
    fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 480))), GST_FLOW_OK);
  }
}
GST_END_TEST

GST_START_TEST(short_buffer_of_process_size_is_not_passed_on) {
  Rig rig(rgb_caps(504, 280).c_str());
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(Bytes(504 * 280, 1))), GST_FLOW_ERROR);
  rig.assert_error("504x280");
}
GST_END_TEST

GST_START_TEST(video_meta_that_contradicts_the_caps) {
  for (GstVideoFormat format : {GST_VIDEO_FORMAT_RGB, GST_VIDEO_FORMAT_BGR}) {
    Rig rig(rgb_caps(640, 480).c_str());
    GstBuffer* buffer = buffer_of(rgb_frame(640, 480));
    gst_buffer_add_video_meta(buffer, GST_VIDEO_FRAME_FLAG_NONE, format,
                              format == GST_VIDEO_FORMAT_RGB ? 320 : 640, 480);
    fail_unless_equals_int(gst_harness_push(rig.h, buffer), GST_FLOW_ERROR);
    rig.assert_error("640x480");
  }
}
GST_END_TEST

// gst_video_frame_map() only looks at where planes begin.
GST_START_TEST(video_meta_of_planes_that_leave_the_buffer_or_rows_that_overlap) {
  struct {
    GstVideoFormat format;
    gint strides[3];
  } rows[] = {{GST_VIDEO_FORMAT_I420, {640, 640, 640}},   // chroma ends behind the buffer
              {GST_VIDEO_FORMAT_I420, {640, 160, 160}},   // rows of 320 samples
              {GST_VIDEO_FORMAT_I420, {640, 320, -320}},  // upwards, out of the buffer
              {GST_VIDEO_FORMAT_I420, {0, 0, 0}}};
  for (const auto& row : rows) {
    Rig rig("video/x-raw,format=I420,width=640,height=480,framerate=30/1");
    GstBuffer* buffer = buffer_of(Bytes(640 * 480 * 3 / 2, 90));
    gsize offsets[GST_VIDEO_MAX_PLANES] = {0, 640 * 480, 640 * 480 * 5 / 4};
    gint strides[GST_VIDEO_MAX_PLANES] = {row.strides[0], row.strides[1], row.strides[2]};
    if (row.strides[2] < 0) offsets[2] = 0;
    gst_buffer_add_video_meta_full(buffer, GST_VIDEO_FRAME_FLAG_NONE, row.format, 640, 480, 3, offsets,
                                   strides);
    fail_unless_equals_int(gst_harness_push(rig.h, buffer), GST_FLOW_ERROR);
    rig.assert_error("640x480");
  }
}
GST_END_TEST

static GstBuffer* padded_copy(const Bytes& frame, int width, int height, int stride, gsize offset) {
  Bytes wide(offset + size_t(stride) * height, 0xAA);
  for (int y = 0; y < height; ++y) {
    std::memcpy(wide.data() + offset + size_t(y) * stride,
                frame.data() + size_t(y) * GST_ROUND_UP_4(width * 3), size_t(width) * 3);
  }
  GstBuffer* buffer = buffer_of(wide);
  gsize offsets[GST_VIDEO_MAX_PLANES] = {offset};
  gint strides[GST_VIDEO_MAX_PLANES] = {stride};
  gst_buffer_add_video_meta_full(buffer, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_RGB, guint(width),
                                 guint(height), 1, offsets, strides);
  return buffer;
}

GST_START_TEST(padded_rows_and_offsets) {
  Rig rig(rgb_caps(321, 243).c_str());
  const Bytes frame = rgb_frame(321, 243);
  Size final;
  const Bytes expected = reference(frame, 321, 243, 504, kMethods[0], &final);
  GstBuffer* out = gst_harness_push_and_pull(rig.h, padded_copy(frame, 321, 243, 1024, 512));
  fail_unless(pixels_of(out, final.width, final.height) == expected);
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(frame_in_many_memories) {
  Rig rig(rgb_caps(640, 480).c_str());
  const Bytes frame = rgb_frame(640, 480);
  GstBuffer* buffer = gst_buffer_new();
  GST_BUFFER_PTS(buffer) = 0;
  const size_t piece = frame.size() / 12;
  for (int i = 0; i < 12; ++i) {
    GstMemory* memory = gst_allocator_alloc(nullptr, piece, nullptr);
    GstMapInfo map;
    gst_memory_map(memory, &map, GST_MAP_WRITE);
    std::memcpy(map.data, frame.data() + piece * i, piece);
    gst_memory_unmap(memory, &map);
    gst_buffer_append_memory(buffer, memory);
  }
  Size final;
  const Bytes expected = reference(frame, 640, 480, 504, kMethods[0], &final);
  GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer);
  fail_unless(pixels_of(out, final.width, final.height) == expected);
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(processed_frames_keep_their_memory) {
  Rig rig(rgb_caps(504, 280).c_str());
  const Bytes frame = rgb_frame(504, 280);
  GstBuffer* in = buffer_of(frame);
  GstMemory* memory = gst_buffer_peek_memory(in, 0);
  gst_buffer_ref(in);  // the application keeps it: it must not be changed
  GstBuffer* out = gst_harness_push_and_pull(rig.h, in);
  fail_unless(gst_buffer_peek_memory(out, 0) == memory);
  GstDa3View view;
  fail_unless(gst_buffer_get_da3_view(out, &view));
  fail_unless(view.processed);
  fail_if(gst_buffer_get_da3_view(in, &view));
  gst_buffer_unref(out);
  gst_buffer_unref(in);
}
GST_END_TEST

// Downstream may not read the stride of a video meta.
GST_START_TEST(processed_frames_with_padding_are_copied) {
  Rig rig(rgb_caps(504, 280).c_str());
  const Bytes frame = rgb_frame(504, 280);
  GstBuffer* out = gst_harness_push_and_pull(rig.h, padded_copy(frame, 504, 280, 2048, 64));
  fail_unless_equals_int(gst_buffer_get_size(out), 504 * 280 * 3);
  fail_unless(gst_buffer_memcmp(out, 0, frame.data(), frame.size()) == 0);
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(timestamps_and_flags) {
  for (int width : {640, 504}) {
    const int height = width == 640 ? 480 : 280;
    Rig rig(rgb_caps(width, height).c_str());
    gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(width, height))));
    GstBuffer* in = buffer_of(rgb_frame(width, height));
    GST_BUFFER_PTS(in) = 3 * GST_SECOND;
    GST_BUFFER_DTS(in) = 2 * GST_SECOND;
    GST_BUFFER_DURATION(in) = 40 * GST_MSECOND;
    GST_BUFFER_OFFSET(in) = 77;
    GST_BUFFER_FLAG_SET(in, GST_BUFFER_FLAG_DISCONT | GST_BUFFER_FLAG_GAP | GST_BUFFER_FLAG_CORRUPTED);
    GstBuffer* out = gst_harness_push_and_pull(rig.h, in);
    fail_unless_equals_uint64(GST_BUFFER_PTS(out), 3 * GST_SECOND);
    fail_unless_equals_uint64(GST_BUFFER_DTS(out), 2 * GST_SECOND);
    fail_unless_equals_uint64(GST_BUFFER_DURATION(out), 40 * GST_MSECOND);
    fail_unless_equals_uint64(GST_BUFFER_OFFSET(out), 77);
    for (guint flag : {GST_BUFFER_FLAG_DISCONT, GST_BUFFER_FLAG_GAP, GST_BUFFER_FLAG_CORRUPTED}) {
      fail_unless(GST_BUFFER_FLAG_IS_SET(out, flag), "flag %x at width %d", flag, width);
    }
    gst_buffer_unref(out);
  }
}
GST_END_TEST

GST_START_TEST(frames_without_time_pass) {
  Rig rig(rgb_caps(640, 480).c_str());
  GstBuffer* in = buffer_of(rgb_frame(640, 480));
  GST_BUFFER_PTS(in) = GST_BUFFER_DURATION(in) = GST_CLOCK_TIME_NONE;
  GstBuffer* out = gst_harness_push_and_pull(rig.h, in);
  fail_if(GST_BUFFER_PTS_IS_VALID(out));
  gst_buffer_unref(out);
}
GST_END_TEST

static Suite* da3preprocess_suite() {
  Suite* s = suite_create("da3preprocess");
  TCase* t = tcase_create("general");
  suite_add_tcase(s, t);
  tcase_set_timeout(t, 60);
  tcase_add_test(t, rgb_is_bit_exact_in_all_methods);
  tcase_add_test(t, every_raw_format_gives_a_picture);
  tcase_add_test(t, output_caps);
  tcase_add_test(t, still_pictures_have_framerate_0);
  tcase_add_test(t, pixel_aspect_ratio_is_made_square);
  tcase_add_test(t, a_free_source_is_asked_for_rgb);
  tcase_add_test(t, a_size_that_downstream_wants_reaches_the_source);
  tcase_add_test(t, framerate_constraints_pass_upstream);
  tcase_add_test(t, downstream_that_takes_another_size_is_named);
  tcase_add_test(t, caps_change_between_frames);
  tcase_add_test(t, identical_caps_change_nothing);
  tcase_add_test(t, pictures_too_small);
  tcase_add_test(t, aspect_ratio_too_extreme);
  tcase_add_test(t, refused_caps_in_mid_stream_lose_nothing_before);
  tcase_add_test(t, what_is_no_raw_video_in_memory_is_not_accepted);
  tcase_add_test(t, caps_without_a_size);
  tcase_add_test(t, buffer_before_caps);
  tcase_add_test(t, buffer_of_the_wrong_size);
  tcase_add_test(t, short_buffer_of_process_size_is_not_passed_on);
  tcase_add_test(t, video_meta_that_contradicts_the_caps);
  tcase_add_test(t, video_meta_of_planes_that_leave_the_buffer_or_rows_that_overlap);
  tcase_add_test(t, padded_rows_and_offsets);
  tcase_add_test(t, frame_in_many_memories);
  tcase_add_test(t, processed_frames_keep_their_memory);
  tcase_add_test(t, processed_frames_with_padding_are_copied);
  tcase_add_test(t, timestamps_and_flags);
  tcase_add_test(t, frames_without_time_pass);
  return s;
}

GST_CHECK_MAIN(da3preprocess)
