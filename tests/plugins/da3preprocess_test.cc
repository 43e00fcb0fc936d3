// SPDX-License-Identifier: MIT
#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#include <gst/video/gstvideometa.h>
#include <gst/video/video.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "gst/da3/da3.h"
#include "image/process_size.h"
#include "image/resize.h"

using da3::image::ProcessResMethod;
using da3::image::Size;

namespace {

using Bytes = std::vector<uint8_t>;

constexpr ProcessResMethod kMethods[] = {
    ProcessResMethod::upper_bound_resize, ProcessResMethod::upper_bound_crop,
    ProcessResMethod::lower_bound_resize, ProcessResMethod::lower_bound_crop};

// The element in a harness, with a bus for its errors.
struct Rig {
  GstHarness* h;
  GstBus* bus;

  explicit Rig(const char* caps = nullptr) : h(gst_harness_new("da3preprocess")), bus(gst_bus_new()) {
    gst_element_set_bus(h->element, bus);
    if (caps) gst_harness_set_src_caps_str(h, caps);
  }
  ~Rig() {
    gst_element_set_bus(h->element, nullptr);
    gst_harness_teardown(h);
    gst_object_unref(bus);
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  void set(const char* property, guint value) { g_object_set(h->element, property, value, nullptr); }
  void method(ProcessResMethod method) {
    g_object_set(h->element, "process-res-method", int(method), nullptr);
  }

  // The text of the only error on the bus, empty if there is none.
  std::string error() {
    std::string text;
    int count = 0;
    while (GstMessage* message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR)) {
      GError* e = nullptr;
      gst_message_parse_error(message, &e, nullptr);
      text = e->message;
      g_error_free(e);
      gst_message_unref(message);
      ++count;
    }
    fail_unless(count <= 1, "%d errors, the last one: %s", count, text.c_str());
    return text;
  }
  void assert_no_error() {
    const std::string text = error();
    fail_unless(text.empty(), "%s", text.c_str());
  }
  void assert_error(const char* part) {
    const std::string text = error();
    fail_unless(text.find(part) != std::string::npos, "expected '%s' in '%s'", part, text.c_str());
  }
};

GstVideoInfo info_of(const char* caps_text) {
  GstCaps* caps = gst_caps_from_string(caps_text);
  GstVideoInfo info;
  fail_unless(caps && gst_video_info_from_caps(&info, caps), "%s", caps_text);
  gst_caps_unref(caps);
  return info;
}

std::string rgb_caps(int width, int height) {
  return "video/x-raw,format=RGB,width=" + std::to_string(width) + ",height=" + std::to_string(height) +
         ",framerate=30/1";
}

Bytes pattern(size_t size) {
  Bytes bytes(size);
  uint32_t seed = 12345;
  for (size_t i = 0; i < size; ++i) {
    seed = seed * 1664525u + 1013904223u;
    bytes[i] = uint8_t((i / 7) + (seed >> 29));
  }
  return bytes;
}

GstBuffer* buffer_of(const Bytes& bytes) {
  GstBuffer* buffer = bytes.empty() ? gst_buffer_new() : gst_buffer_new_memdup(bytes.data(), bytes.size());
  GST_BUFFER_PTS(buffer) = 0;
  GST_BUFFER_DURATION(buffer) = GST_SECOND / 30;
  return buffer;
}

// RGB rows of GStreamer are padded to 4 bytes.
Bytes rgb_frame(int width, int height) {
  return pattern(size_t(GST_ROUND_UP_4(width * 3)) * height);
}

Bytes pixels_of(GstBuffer* buffer, int width, int height) {
  GstVideoInfo info;
  gst_video_info_set_format(&info, GST_VIDEO_FORMAT_RGB, guint(width), guint(height));
  GstVideoFrame frame;
  fail_unless(gst_video_frame_map(&frame, &info, buffer, GST_MAP_READ));
  Bytes out;
  for (int y = 0; y < height; ++y) {
    const auto* row = static_cast<uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(&frame, 0)) +
                      std::ptrdiff_t(y) * GST_VIDEO_FRAME_PLANE_STRIDE(&frame, 0);
    out.insert(out.end(), row, row + width * 3);
  }
  gst_video_frame_unmap(&frame);
  return out;
}

Bytes reference(const Bytes& frame, int width, int height, int process_res, ProcessResMethod method,
                Size* size) {
  const auto plan = da3::image::plan_process_size({width, height}, process_res, method);
  *size = plan.final;
  Bytes out(size_t(plan.final.width) * plan.final.height * 3);
  da3::image::resize_rgb({frame.data(), width, height, GST_ROUND_UP_4(width * 3)}, plan,
                         {out.data(), plan.final.width, plan.final.height, plan.final.width * 3});
  return out;
}

Size output_size(GstHarness* h) {
  GstCaps* caps = gst_pad_get_current_caps(h->sinkpad);
  fail_unless(caps != nullptr);
  Size size;
  gst_structure_get_int(gst_caps_get_structure(caps, 0), "width", &size.width);
  gst_structure_get_int(gst_caps_get_structure(caps, 0), "height", &size.height);
  gst_caps_unref(caps);
  return size;
}

void assert_size(GstHarness* h, int width, int height) {
  const Size size = output_size(h);
  fail_unless(size.width == width && size.height == height, "%dx%d instead of %dx%d", size.width, size.height,
              width, height);
}

guint caps_events(GstHarness* h) {
  guint count = 0;
  while (GstEvent* event = gst_harness_try_pull_event(h)) {
    count += GST_EVENT_TYPE(event) == GST_EVENT_CAPS;
    gst_event_unref(event);
  }
  return count;
}

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
  fail_unless(gst_caps_is_equal(caps, expected), "%s", gst_caps_to_string(caps));
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

GST_START_TEST(events_pass) {
  Rig rig(rgb_caps(640, 480).c_str());
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480))));
  while (GstEvent* event = gst_harness_try_pull_event(rig.h)) gst_event_unref(event);
  gst_harness_push_event(rig.h, gst_event_new_tag(gst_tag_list_new(GST_TAG_TITLE, "t", nullptr)));
  gst_harness_push_event(rig.h, gst_event_new_gap(GST_SECOND, GST_SECOND));
  gst_harness_push_event(rig.h, gst_event_new_eos());
  for (GstEventType type : {GST_EVENT_TAG, GST_EVENT_GAP, GST_EVENT_EOS}) {
    GstEvent* event = gst_harness_try_pull_event(rig.h);
    fail_unless(event && GST_EVENT_TYPE(event) == type, "%s", gst_event_type_get_name(type));
    gst_event_unref(event);
  }
}
GST_END_TEST

GST_START_TEST(eos_before_any_buffer) {
  Rig rig;
  gst_harness_push_event(rig.h, gst_event_new_stream_start("test"));
  fail_unless(gst_harness_push_event(rig.h, gst_event_new_eos()));
  rig.assert_no_error();
}
GST_END_TEST

GST_START_TEST(flush_between_frames) {
  Rig rig(rgb_caps(640, 480).c_str());
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480))));
  gst_harness_push_event(rig.h, gst_event_new_flush_start());
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 480))), GST_FLOW_FLUSHING);
  gst_harness_push_event(rig.h, gst_event_new_flush_stop(TRUE));
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_harness_push_event(rig.h, gst_event_new_segment(&segment));
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480))));
  rig.assert_no_error();
}
GST_END_TEST

GST_START_TEST(upstream_may_send_padded_frames) {
  Rig rig(rgb_caps(640, 480).c_str());
  GstCaps* caps = gst_caps_from_string(rgb_caps(640, 480).c_str());
  GstQuery* query = gst_query_new_allocation(caps, TRUE);
  GstPad* pad = gst_element_get_static_pad(rig.h->element, "sink");
  fail_unless(gst_pad_query(pad, query));
  fail_unless(gst_query_find_allocation_meta(query, GST_VIDEO_META_API_TYPE, nullptr));
  gst_object_unref(pad);
  gst_query_unref(query);
  gst_caps_unref(caps);
}
GST_END_TEST

GST_START_TEST(process_res_changes_while_playing) {
  Rig rig(rgb_caps(640, 480).c_str());
  const Bytes frame = rgb_frame(640, 480);
  for (guint res : {504u, 280u, 140u, 504u}) {
    rig.set("process-res", res);
    Size final;
    const Bytes expected = reference(frame, 640, 480, int(res), kMethods[0], &final);
    GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(frame));
    assert_size(rig.h, final.width, final.height);
    fail_unless(pixels_of(out, final.width, final.height) == expected);
    gst_buffer_unref(out);
  }
}
GST_END_TEST

// Caps stay the same, so nothing is renegotiated; the picture must change all the same.
GST_START_TEST(method_changes_while_playing_at_equal_size) {
  Rig rig(rgb_caps(321, 243).c_str());
  const Bytes frame = rgb_frame(321, 243);
  Size final;
  gst_buffer_unref(gst_harness_push_and_pull(rig.h, buffer_of(frame)));
  caps_events(rig.h);
  rig.method(ProcessResMethod::upper_bound_crop);
  GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(frame));
  fail_unless_equals_int(caps_events(rig.h), 0);
  fail_unless(pixels_of(out, 504, 378) ==
              reference(frame, 321, 243, 504, ProcessResMethod::upper_bound_crop, &final));
  gst_buffer_unref(out);
}
GST_END_TEST

GST_START_TEST(threads_change_while_playing) {
  Rig rig("video/x-raw,format=I420,width=640,height=480,framerate=30/1");
  const Bytes frame = pattern(640 * 480 * 3 / 2);
  Bytes first;
  for (guint threads : {1u, 0u, 3u, 1024u}) {
    rig.set("n-threads", threads);
    GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(frame));
    const Bytes pixels = pixels_of(out, 504, 378);
    if (first.empty()) first = pixels;
    fail_unless(pixels == first);
    gst_buffer_unref(out);
  }
}
GST_END_TEST

GST_START_TEST(settings_that_do_not_fit_the_stream_can_be_taken_back) {
  Rig rig(rgb_caps(640, 17).c_str());  // 504x14
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 17))), GST_FLOW_OK);
  rig.set("process-res", 100);
  for (int i = 0; i < 3; ++i) fail_if(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 17))) == GST_FLOW_OK);
  rig.assert_error("process-res 100");
  rig.set("process-res", 504);
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 17))), GST_FLOW_OK);
  rig.assert_no_error();
  fail_unless_equals_int(gst_harness_buffers_received(rig.h), 2);
}
GST_END_TEST

GST_START_TEST(settings_that_downstream_does_not_take) {
  Rig rig;
  gst_harness_set_sink_caps_str(rig.h, "video/x-raw,format=RGB,width=504,height=378");
  gst_harness_set_src_caps_str(rig.h, rgb_caps(640, 480).c_str());
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 480))), GST_FLOW_OK);
  rig.set("process-res", 280);
  for (int i = 0; i < 3; ++i) fail_if(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 480))) == GST_FLOW_OK);
  rig.assert_error("280x210");
  rig.set("process-res", 504);
  fail_unless_equals_int(gst_harness_push(rig.h, buffer_of(rgb_frame(640, 480))), GST_FLOW_OK);
}
GST_END_TEST

GST_START_TEST(properties_have_true_ranges_and_flags) {
  Rig rig;
  GObjectClass* klass = G_OBJECT_GET_CLASS(rig.h->element);
  for (const char* name : {"process-res", "process-res-method", "n-threads"}) {
    GParamSpec* spec = g_object_class_find_property(klass, name);
    fail_unless(spec && (spec->flags & GST_PARAM_MUTABLE_PLAYING), "%s", name);
  }
  guint res = 0, threads = 1;
  int method = -1;
  g_object_get(rig.h->element, "process-res", &res, "n-threads", &threads, "process-res-method", &method,
               nullptr);
  fail_unless_equals_int(res, 504);
  fail_unless_equals_int(threads, 0);
  fail_unless_equals_int(method, int(ProcessResMethod::upper_bound_resize));
  gst_util_set_object_arg(G_OBJECT(rig.h->element), "process-res-method", "lower_bound_crop");
  g_object_get(rig.h->element, "process-res-method", &method, nullptr);
  fail_unless_equals_int(method, int(ProcessResMethod::lower_bound_crop));
  auto* range = G_PARAM_SPEC_UINT(g_object_class_find_property(klass, "process-res"));
  fail_unless_equals_int(range->minimum, 14);
  fail_unless(range->maximum >= 4096);
}
GST_END_TEST

GST_START_TEST(restart_begins_anew) {
  Rig rig(rgb_caps(640, 480).c_str());
  for (int i = 0; i < 3; ++i) {
    GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(rgb_frame(640, 480)));
    GstDa3View v;
    fail_unless(gst_buffer_get_da3_view(out, &v));
    fail_unless_equals_int64(v.frame, 0);
    gst_buffer_unref(out);
    gst_element_set_state(rig.h->element, GST_STATE_NULL);
    gst_element_set_state(rig.h->element, GST_STATE_PLAYING);
    gst_harness_set_src_caps_str(rig.h, rgb_caps(640, 480).c_str());
  }
}
GST_END_TEST

struct Changer {
  Rig* rig;
  std::atomic<bool> done{false};
};

static gpointer change_properties(gpointer data) {
  auto* changer = static_cast<Changer*>(data);
  for (guint i = 0; !changer->done; ++i) {
    changer->rig->set("process-res", 56 + 14 * (i % 9));
    changer->rig->method(kMethods[i % 4]);
    changer->rig->set("n-threads", 1 + i % 2);
  }
  return nullptr;
}

GST_START_TEST(properties_race_with_frames) {
  Rig rig(rgb_caps(322, 242).c_str());
  const Bytes frame = rgb_frame(322, 242);
  Changer changer{&rig};
  GThread* thread = g_thread_new("changer", change_properties, &changer);
  for (int i = 0; i < 300; ++i) {
    GstBuffer* out = gst_harness_push_and_pull(rig.h, buffer_of(frame));
    fail_unless(out != nullptr);
    const Size size = output_size(rig.h);
    GstDa3View v;
    fail_unless(gst_buffer_get_da3_view(out, &v));
    fail_unless_equals_int(v.image_width, size.width);
    fail_unless_equals_int(v.image_height, size.height);
    fail_unless_equals_int(gst_buffer_get_size(out), GST_ROUND_UP_4(size.width * 3) * size.height);
    gst_buffer_unref(out);
  }
  changer.done = true;
  g_thread_join(thread);
  rig.assert_no_error();
}
GST_END_TEST

// Runs a pipeline to its end and returns what the bus said: "eos" or the first error's text.
static std::string run_pipeline(const char* description) {
  GError* parse_error = nullptr;
  GstElement* pipeline = gst_parse_launch(description, &parse_error);
  fail_unless(pipeline && !parse_error, "%s", parse_error ? parse_error->message : description);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  GstBus* bus = gst_element_get_bus(pipeline);
  GstMessage* message =
      gst_bus_timed_pop_filtered(bus, 30 * GST_SECOND, GstMessageType(GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  std::string text = "timeout";
  if (message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS) text = "eos";
  if (message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
    GError* e = nullptr;
    gst_message_parse_error(message, &e, nullptr);
    text = e->message;
    g_error_free(e);
  }
  if (message) gst_message_unref(message);
  gst_object_unref(bus);
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(pipeline);
  return text;
}

GST_START_TEST(in_pipelines) {
  for (const char* description : {"videotestsrc num-buffers=5 ! "
                                  "video/x-raw,format=I420,width=1280,height=720 ! queue ! da3preprocess ! "
                                  "video/x-raw,width=504,height=280 ! videoconvert ! fakesink",
                                  "videotestsrc num-buffers=5 ! da3preprocess process-res=140 ! "
                                  "da3preprocess process-res=140 ! videoscale ! "
                                  "video/x-raw,width=64,height=64 ! fakesink"}) {
    const std::string end = run_pipeline(description);
    fail_unless(end == "eos", "%s: %s", description, end.c_str());
  }
}
GST_END_TEST

GST_START_TEST(pipelines_that_cannot_work_say_why) {
  const std::string tiny =
      run_pipeline("videotestsrc num-buffers=2 ! video/x-raw,width=1,height=1 ! da3preprocess ! fakesink");
  fail_unless(tiny.find("1x1") != std::string::npos, "%s", tiny.c_str());
  const std::string thin =
      run_pipeline("videotestsrc num-buffers=2 ! video/x-raw,width=1,height=4000 ! da3preprocess ! fakesink");
  fail_unless(thin.find("1x4000") != std::string::npos, "%s", thin.c_str());
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
  tcase_add_test(t, padded_rows_and_offsets);
  tcase_add_test(t, frame_in_many_memories);
  tcase_add_test(t, processed_frames_keep_their_memory);
  tcase_add_test(t, processed_frames_with_padding_are_copied);
  tcase_add_test(t, timestamps_and_flags);
  tcase_add_test(t, frames_without_time_pass);
  tcase_add_test(t, view_of_a_resized_picture);
  tcase_add_test(t, view_of_a_cropped_picture);
  tcase_add_test(t, intrinsics_follow_the_picture);
  tcase_add_test(t, source_regions_are_chained);
  tcase_add_test(t, a_view_of_another_size_is_stale);
  tcase_add_test(t, the_truth_of_a_source_stays_the_truth);
  tcase_add_test(t, depth_and_regions_are_scaled_with_the_picture);
  tcase_add_test(t, depth_and_regions_of_a_cropped_picture_are_dropped);
  tcase_add_test(t, events_pass);
  tcase_add_test(t, eos_before_any_buffer);
  tcase_add_test(t, flush_between_frames);
  tcase_add_test(t, upstream_may_send_padded_frames);
  tcase_add_test(t, process_res_changes_while_playing);
  tcase_add_test(t, method_changes_while_playing_at_equal_size);
  tcase_add_test(t, threads_change_while_playing);
  tcase_add_test(t, settings_that_do_not_fit_the_stream_can_be_taken_back);
  tcase_add_test(t, settings_that_downstream_does_not_take);
  tcase_add_test(t, properties_have_true_ranges_and_flags);
  tcase_add_test(t, restart_begins_anew);
  tcase_add_test(t, properties_race_with_frames);
  tcase_add_test(t, in_pipelines);
  tcase_add_test(t, pipelines_that_cannot_work_say_why);
  return s;
}

GST_CHECK_MAIN(da3preprocess)
