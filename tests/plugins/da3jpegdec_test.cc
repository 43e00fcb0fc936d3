// SPDX-License-Identifier: MIT
#include <gst/check/gstcheck.h>
#undef fail  // a macro of check that std::ios::fail() does not survive
#include <gst/check/gstharness.h>
#include <gst/video/video.h>

#include <string>
#include <vector>

#include "engine/checkpoint/synthetic.h"
#include "gst/da3/da3.h"
#include "image/jpeg.h"
#include "works/jpeg.h"

using da3::bench::encode_jpeg;
using da3::image::JpegDecoder;
using da3::image::Size;

namespace {

using Bytes = std::vector<uint8_t>;

constexpr const char* kPackets = "image/jpeg,framerate=30/1";  // one picture in each buffer
constexpr const char* kBlocks = "image/jpeg,framerate=25/1";   // in blocks, as a file is read
constexpr const char* kNoCaps = nullptr;                       // a file that nobody has looked into

GstEvent* segment_of(GstFormat format) {
  GstSegment segment;
  gst_segment_init(&segment, format);
  return gst_event_new_segment(&segment);
}

Bytes file_of(int width, int height, int seed = 0, bool progressive = false) {
  Bytes rgb(size_t(width) * size_t(height) * 3);
  da3::synthetic::fill_rgb(rgb.data(), width, height, seed);
  return encode_jpeg(rgb, width, height, 90, progressive);
}

// What the library makes of it, without padding between rows.
Bytes decoded(const Bytes& file, Size least, Size* size) {
  JpegDecoder decoder;
  decoder.open(file.data(), file.size());
  *size = decoder.scale_to(least);
  Bytes rgb(size_t(size->width) * size_t(size->height) * 3);
  decoder.decode(rgb.data(), size_t(size->width) * 3);
  return rgb;
}

struct Rig {
  GstHarness* h;
  GstElement* element;
  GstBus* bus = gst_bus_new();

  explicit Rig(const char* caps, const char* line = "da3jpegdec name=dec") : h(gst_harness_new_parse(line)) {
    element = gst_harness_find_element(h, "da3jpegdec");
    gst_element_set_bus(h->element, bus);
    if (caps != kNoCaps) {
      gst_harness_set_src_caps_str(h, caps);
    } else {
      gst_harness_push_event(h, gst_event_new_stream_start("file"));
    }
    if (caps == kBlocks || caps == kNoCaps) gst_harness_push_event(h, segment_of(GST_FORMAT_BYTES));
  }
  ~Rig() {
    gst_element_set_bus(h->element, nullptr);
    gst_object_unref(element);
    gst_harness_teardown(h);
    gst_object_unref(bus);
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  GstFlowReturn push(const Bytes& bytes, GstClockTime pts = GST_CLOCK_TIME_NONE) {
    GstBuffer* buffer = bytes.empty() ? gst_buffer_new() : gst_buffer_new_memdup(bytes.data(), bytes.size());
    GST_BUFFER_PTS(buffer) = pts;
    return gst_harness_push(h, buffer);
  }
  void end() { gst_harness_push_event(h, gst_event_new_eos()); }
  guint waiting() { return gst_harness_buffers_in_queue(h); }

  // The next picture; its bytes without padding, the size of the caps that came last.
  Bytes pull(Size* size, GstDa3View* view = nullptr, GstClockTime* pts = nullptr) {
    GstBuffer* buffer = gst_harness_try_pull(h);
    fail_unless(buffer != nullptr, "no picture came out");
    GstCaps* caps = gst_pad_get_current_caps(h->sinkpad);
    GstVideoInfo info;
    fail_unless(gst_video_info_from_caps(&info, caps));
    gst_caps_unref(caps);
    *size = {GST_VIDEO_INFO_WIDTH(&info), GST_VIDEO_INFO_HEIGHT(&info)};
    GstVideoFrame frame;
    fail_unless(gst_video_frame_map(&frame, &info, buffer, GST_MAP_READ));
    Bytes out;
    for (int y = 0; y < size->height; ++y) {
      const auto* row = static_cast<const uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(&frame, 0)) +
                        y * GST_VIDEO_FRAME_PLANE_STRIDE(&frame, 0);
      out.insert(out.end(), row, row + 3 * size->width);
    }
    gst_video_frame_unmap(&frame);
    if (view) fail_unless(gst_buffer_get_da3_view_by_role(buffer, GST_DA3_ROLE_PREDICTION, view));
    if (pts) *pts = GST_BUFFER_PTS(buffer);
    gst_buffer_unref(buffer);
    return out;
  }

  std::vector<std::string> messages(GstMessageType type) {
    std::vector<std::string> out;
    while (GstMessage* message = gst_bus_pop_filtered(bus, type)) {
      GError* e = nullptr;
      if (type == GST_MESSAGE_ERROR)
        gst_message_parse_error(message, &e, nullptr);
      else
        gst_message_parse_warning(message, &e, nullptr);
      out.emplace_back(e->message);
      g_error_free(e);
      gst_message_unref(message);
    }
    return out;
  }
  void assert_no_messages() {
    const auto errors = messages(GST_MESSAGE_ERROR);
    fail_unless(errors.empty(), "%s", errors.empty() ? "" : errors[0].c_str());
  }
  void assert_one_error(const char* part) {
    const auto errors = messages(GST_MESSAGE_ERROR);
    ck_assert_uint_eq(errors.size(), 1);
    fail_unless(errors[0].find(part) != std::string::npos, "expected '%s' in '%s'", part, errors[0].c_str());
  }
};

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

// As cameras write them: a small picture within the header of the large one.
Bytes with_thumbnail(const Bytes& file, const Bytes& thumbnail) {
  const size_t length = thumbnail.size() + 2;
  return joined({{0xff, 0xd8, 0xff, 0xe1, uint8_t(length >> 8), uint8_t(length)},
                 thumbnail,
                 Bytes(file.begin() + 2, file.end())});
}

// As phones write them: the header names one more picture, which follows in the same file (CIPA DC-007).
Bytes with_companion(const Bytes& file, const Bytes& companion, bool little_endian = false) {
  Bytes index = {'M', 'P', 'F', 0, 'M', 'M', 0, 42, 0, 0, 0, 8,  // the directory is behind the eight
                                                                 // bytes of TIFF
                 0, 2,                                           // entries: version, number of pictures
                 0xb0, 0, 0, 7, 0, 0, 0, 4, '0', '1', '0', '0', 0xb0, 1, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2};
  if (little_endian)
    index = {'M', 'P', 'F', 0, 'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 1, 0xb0, 4, 0, 1, 0, 0, 0, 2, 0, 0, 0};
  const size_t length = index.size() + 2;
  return joined({{0xff, 0xd8, 0xff, 0xe2, uint8_t(length >> 8), uint8_t(length)},
                 index,
                 Bytes(file.begin() + 2, file.end()),
                 companion});
}

void push_in_blocks(Rig& rig, const Bytes& bytes, size_t block) {
  for (size_t at = 0; at < bytes.size(); at += block)
    ck_assert_int_eq(rig.push(Bytes(bytes.begin() + int64_t(at),
                                    bytes.begin() + int64_t(std::min(at + block, bytes.size())))),
                     GST_FLOW_OK);
}

}  // namespace

GST_START_TEST(test_reduced) {
  Rig rig(kPackets);
  const Bytes file = file_of(1280, 720);
  ck_assert_int_eq(rig.push(file, 7 * GST_SECOND), GST_FLOW_OK);
  Size size, expected;
  GstDa3View view;
  GstClockTime pts = 0;
  const Bytes out = rig.pull(&size, &view, &pts);
  fail_unless(out == decoded(file, {504, 284}, &expected));
  ck_assert_int_eq(size.width, 640);
  ck_assert_int_eq(size.height, 360);
  ck_assert_uint_eq(pts, 7 * GST_SECOND);
  ck_assert_int_eq(view.image_width, 640);
  ck_assert_int_eq(view.image_height, 360);
  ck_assert_int_eq(view.source_width, 1280);
  ck_assert_int_eq(view.source_height, 720);
  fail_unless(view.source_w == 1280 && view.source_h == 720 && !view.processed);
  rig.assert_no_messages();
}
GST_END_TEST

GST_START_TEST(test_full_size) {
  Rig rig(kPackets);
  g_object_set(rig.element, "process-res", 0, nullptr);
  const Bytes file = file_of(1290, 724);
  rig.push(file);
  Size size, expected;
  fail_unless(rig.pull(&size) == decoded(file, {1290, 724}, &expected));
  ck_assert_int_eq(size.width, 1290);
  ck_assert_int_eq(size.height, 724);
}
GST_END_TEST

// The meta of the whole picture goes on through the resize.
GST_START_TEST(test_before_preprocess) {
  Rig rig(kPackets, "da3jpegdec ! da3preprocess");
  rig.push(file_of(1280, 720));
  Size size;
  GstDa3View view;
  rig.pull(&size, &view);
  ck_assert_int_eq(size.width, 504);
  ck_assert_int_eq(size.height, 280);
  ck_assert_int_eq(view.image_width, 504);
  ck_assert_int_eq(view.source_width, 1280);
  ck_assert_int_eq(view.source_height, 720);
  fail_unless(view.source_w == 1280 && view.source_h == 720 && view.processed);
}
GST_END_TEST

// Pixels that are not square count as da3preprocess sees them.
GST_START_TEST(test_pixel_aspect_ratio) {
  Rig rig("image/jpeg,framerate=30/1,pixel-aspect-ratio=3/4");
  rig.push(file_of(2016, 1512));  // seen as 2016x2016, so 504x504 are needed
  Size size;
  rig.pull(&size);
  ck_assert_int_eq(size.width, 1008);
  ck_assert_int_eq(size.height, 756);
}
GST_END_TEST

// What sees only the smaller picture does not restrict the size of the files.
GST_START_TEST(test_sizes_downstream_are_none_of_the_input) {
  Rig rig(kPackets);
  gst_harness_set_sink_caps_str(rig.h, "video/x-raw,format=RGB,width=640,height=360,framerate=30/1");
  GstPad* pad = gst_element_get_static_pad(rig.element, "sink");
  GstCaps* wanted = gst_caps_from_string("image/jpeg,width=1280,height=720,framerate=30/1");
  GstCaps* taken = gst_pad_query_caps(pad, wanted);
  fail_unless(gst_caps_is_equal(taken, wanted));
  gst_caps_unref(taken);
  gst_caps_unref(wanted);
  gst_object_unref(pad);
  ck_assert_int_eq(rig.push(file_of(1280, 720)), GST_FLOW_OK);
  ck_assert_uint_eq(rig.waiting(), 1);
  rig.assert_no_messages();
}
GST_END_TEST

// Caps that speak of Y'CbCr and fields are not those of RGB.
GST_START_TEST(test_caps_of_what_comes_out) {
  Rig rig("image/jpeg,framerate=30/1,colorimetry=bt601,chroma-site=jpeg,interlace-mode=mixed");
  rig.push(file_of(64, 48));
  GstCaps* caps = gst_pad_get_current_caps(rig.h->sinkpad);
  GstVideoInfo info;
  fail_unless(gst_video_info_from_caps(&info, caps));
  gst_caps_unref(caps);
  fail_unless(gst_video_colorimetry_matches(&info.colorimetry, GST_VIDEO_COLORIMETRY_SRGB));
  ck_assert_int_eq(GST_VIDEO_INFO_INTERLACE_MODE(&info), GST_VIDEO_INTERLACE_MODE_PROGRESSIVE);
  ck_assert_int_eq(GST_VIDEO_INFO_FPS_N(&info), 30);
}
GST_END_TEST

// What a source knows of the whole picture becomes true of the smaller one.
GST_START_TEST(test_view_of_the_whole_picture) {
  Rig rig(kPackets);
  const Bytes file = file_of(1280, 720);
  GstBuffer* buffer = gst_buffer_new_memdup(file.data(), file.size());
  GstDa3View given;
  gst_da3_view_init(&given);
  given.role = GST_DA3_ROLE_TRUTH;
  given.frame = 42;
  given.image_width = given.source_width = 1280;
  given.image_height = given.source_height = 720;
  given.source_w = 1280;
  given.source_h = 720;
  given.has_intrinsics = TRUE;
  given.fx = 1000;
  given.fy = 900;
  given.cx = 640;
  given.cy = 360;
  fail_unless(gst_buffer_add_da3_view(buffer, &given) != FALSE);
  ck_assert_int_eq(gst_harness_push(rig.h, buffer), GST_FLOW_OK);
  GstBuffer* out = gst_harness_try_pull(rig.h);
  fail_unless(out != nullptr);
  GstDa3View view;
  fail_unless(gst_buffer_get_da3_view_by_role(out, GST_DA3_ROLE_TRUTH, &view));
  gst_buffer_unref(out);
  ck_assert_int_eq(view.frame, 42);
  ck_assert_int_eq(view.image_width, 640);
  ck_assert_int_eq(view.source_width, 1280);
  fail_unless(view.has_intrinsics && view.fx == 500 && view.fy == 450 && view.cx == 320 && view.cy == 180);
  fail_unless(!view.processed);
}
GST_END_TEST

GST_START_TEST(test_sizes_and_settings_change) {
  Rig rig(kPackets);
  Size size;
  rig.push(file_of(1280, 720));
  rig.pull(&size);
  ck_assert_int_eq(size.width, 640);
  g_object_set(rig.element, "process-res", 280, nullptr);
  rig.push(file_of(1280, 720));
  rig.pull(&size);
  ck_assert_int_eq(size.width, 320);
  g_object_set(rig.element, "process-res-method", 2, nullptr);  // lower_bound_resize: the shorter side
  rig.push(file_of(1280, 720));
  rig.pull(&size);
  ck_assert_int_eq(size.width, 640);
  rig.push(file_of(320, 200));
  rig.pull(&size);
  ck_assert_int_eq(size.width, 320);
  ck_assert_int_eq(size.height, 200);
  rig.assert_no_messages();
}
GST_END_TEST

// Files read in blocks of any length, one after the other, with rubbish between them.
GST_START_TEST(test_blocks) {
  const Bytes first = with_thumbnail(file_of(200, 120, 1), file_of(40, 24)),
              second = file_of(200, 120, 2, true), third = file_of(200, 120, 3);
  const Bytes stream = joined({{1, 2, 3, 0xff}, first, {0, 0xff, 0xd9}, second, third});
  for (const size_t block : {size_t(1), size_t(2), size_t(7), size_t(4096), stream.size()}) {
    Rig rig(kBlocks);
    push_in_blocks(rig, stream, block);
    rig.end();
    for (const Bytes& file : {first, second, third}) {
      Size size, expected;
      fail_unless(rig.pull(&size) == decoded(file, {504, 504}, &expected), "blocks of %zu", block);
    }
    ck_assert_uint_eq(rig.waiting(), 0);
    ck_assert_uint_eq(rig.messages(GST_MESSAGE_WARNING).size(), 0);
    rig.assert_no_messages();
  }
}
GST_END_TEST

// filesrc ! da3jpegdec
GST_START_TEST(test_file_without_caps) {
  const Bytes file = file_of(200, 120);
  for (const size_t block : {size_t(100), file.size()}) {
    Rig rig(kNoCaps);
    push_in_blocks(rig, file, block);
    rig.end();
    Size size, expected;
    fail_unless(rig.pull(&size) == decoded(file, {504, 504}, &expected));
    ck_assert_uint_eq(rig.waiting(), 0);
    rig.assert_no_messages();
  }
  Rig rig(kNoCaps);
  push_in_blocks(rig, Bytes(5000, 'x'), 4096);
  rig.end();
  rig.assert_one_error("no JPEG picture in the 5000 bytes");
}
GST_END_TEST

// multifilesrc: one file in each buffer, without a time. What is left out is not missing from the times.
GST_START_TEST(test_each_file_counts) {
  const Bytes good = file_of(64, 48), none, text = {'h', 'e', 'l', 'l', 'o', '\n'};
  const Bytes half(good.begin(), good.begin() + int64_t(good.size() / 2));
  const Bytes header(good.begin(),
                     good.begin() + 30);  // ends in a segment that would reach into the next file
  struct Case {
    std::vector<Bytes> files;
    std::vector<guint64> frames;  // that come out
    const char* words;            // of the last warning
  };
  const std::vector<Case> cases = {
      {{good, good, half, none, text, good},
       {0, 1, 5},
       "Picture 4 is left out. There is no JPEG picture in its 6"},
      {{none, text, none, good, good}, {3, 4}, "Picture 2 is left out. It is empty."},
      {{text, half, text, good, good}, {3, 4}, "Picture 2 is left out. There is no JPEG"},
      {{good, header, good, header, text}, {0, 2}, "Picture 4 is left out. There is no JPEG"},
      {{good, none}, {0}, "Picture 1 is left out. It is empty."},
  };
  for (const Case& c : cases) {
    Rig rig(kBlocks);
    for (const Bytes& file : c.files) ck_assert_int_eq(rig.push(file), GST_FLOW_OK);
    rig.end();
    for (const guint64 frame : c.frames) {
      Size size;
      GstDa3View view;
      GstClockTime pts = 0;
      rig.pull(&size, &view, &pts);
      ck_assert_uint_eq(pts, frame * 40 * GST_MSECOND);
      ck_assert_int_eq(view.frame, gint64(frame));
    }
    ck_assert_uint_eq(rig.waiting(), 0);
    const auto warnings = rig.messages(GST_MESSAGE_WARNING);
    ck_assert_uint_eq(warnings.size(), c.files.size() - c.frames.size());
    fail_unless(warnings.back().find(c.words) != std::string::npos, "%s", warnings.back().c_str());
    rig.assert_no_messages();
  }
}
GST_END_TEST

// Other data behind the picture of a file, as the film of a motion photo, or the padding of a camera.
GST_START_TEST(test_files_with_other_data_behind_the_picture) {
  const Bytes good = file_of(64, 48), padded = joined({good, Bytes(37, 0)});
  // The beginning of a picture, three bytes of it, belong to the film by chance.
  const Bytes film =
      joined({good, {0, 0, 0, 24, 'f', 't', 'y', 'p'}, {0xff, 0xd8, 0xff, 0x12}, Bytes(99, 7)});
  const Bytes none;
  // Bytes of erased flash memory could be the first of a beginning.
  const Bytes erased = joined({good, Bytes(64, 0xff)}), text = {'h', 'e', 'l', 'l', 'o', '\n'};
  for (const std::vector<Bytes>& files : {std::vector<Bytes>{film, none, film, padded},
                                          {padded, none, good, film},
                                          {good, none, film, film},
                                          {erased, none, erased, erased},
                                          {good, none, erased, film},
                                          {film, text, erased, good},
                                          {erased, text, film, good},
                                          {good, text, erased, film}}) {
    Rig rig(kBlocks);
    for (const Bytes& file : files) ck_assert_int_eq(rig.push(file), GST_FLOW_OK);
    rig.end();
    for (const guint64 number : {0, 2, 3}) {
      Size size, expected;
      GstClockTime pts = 0;
      fail_unless(rig.pull(&size, nullptr, &pts) == decoded(good, {504, 504}, &expected));
      ck_assert_uint_eq(pts, number * 40 * GST_MSECOND);
    }
    ck_assert_uint_eq(rig.waiting(), 0);
    const auto warnings = rig.messages(GST_MESSAGE_WARNING);
    ck_assert_uint_eq(warnings.size(), 1);
    fail_unless(warnings[0].find(files[1].empty()
                                     ? "Picture 1 is left out. It is empty."
                                     : "Picture 1 is left out. There is no JPEG") != std::string::npos);
  }
}
GST_END_TEST

// Those that belong to a picture are none of the stream, however they come.
GST_START_TEST(test_companions) {
  const Bytes first = file_of(64, 48, 1), second = file_of(64, 48, 2), gain_map = file_of(32, 24, 3);
  for (const bool little_endian : {false, true}) {
    const Bytes photo = with_companion(first, gain_map, little_endian), film = joined({photo, Bytes(70, 9)});
    for (const std::vector<Bytes>& parts : {std::vector<Bytes>{photo, second, film, second},
                                            {second, film, second, photo},
                                            {joined({photo, second, film, second})},
                                            {joined({second, film}), joined({second, photo})}}) {
      Rig rig(kBlocks);
      const bool begins_with_photo = parts[0].size() < 12 || parts[0][3] == 0xe2;
      for (const Bytes& part : parts) ck_assert_int_eq(rig.push(part), GST_FLOW_OK);
      rig.end();
      for (int i = 0; i < 4; ++i) {
        Size size, expected;
        const Bytes& file = (i % 2 == 0) == begins_with_photo ? first : second;
        fail_unless(rig.pull(&size) == decoded(file, {504, 504}, &expected), "picture %d", i);
      }
      ck_assert_uint_eq(rig.waiting(), 0);
      ck_assert_uint_eq(rig.messages(GST_MESSAGE_WARNING).size(), 0);
    }
    for (const size_t block : {size_t(1), size_t(7), size_t(4096)}) {
      Rig rig(kNoCaps);
      push_in_blocks(rig, joined({film, film}), block);
      rig.end();
      for (int i = 0; i < 2; ++i) {
        Size size, expected;
        fail_unless(rig.pull(&size) == decoded(first, {504, 504}, &expected));
      }
      ck_assert_uint_eq(rig.waiting(), 0);
      rig.assert_no_messages();
    }
  }
}
GST_END_TEST

// An index that is none: pictures are pictures.
GST_START_TEST(test_broken_index_of_companions) {
  const Bytes first = file_of(64, 48, 1), second = file_of(64, 48, 2);
  const Bytes whole = with_companion(first, second);
  const struct {
    size_t at;
    uint8_t value;
  } cases[] = {{6, 'X'}, {10, 'I'}, {14, 0xff}, {17, 0}, {17, 0xff}, {19, 1}, {33, 7}, {40, 0xff}, {43, 0}};
  for (const auto& c : cases) {
    Bytes broken = whole;
    broken.at(c.at) = c.value;
    Rig rig(kBlocks);
    ck_assert_int_eq(rig.push(broken), GST_FLOW_OK);
    rig.end();
    for (const Bytes& file : {first, second}) {
      Size size, expected;
      fail_unless(rig.pull(&size) == decoded(file, {504, 504}, &expected), "byte %zu", c.at);
    }
    ck_assert_uint_eq(rig.waiting(), 0);
  }
}
GST_END_TEST

// One alone, and one that others without a beginning of their own follow.
GST_START_TEST(test_other_data_between_blocks) {
  const Bytes file = file_of(64, 48), zeros(50, 0);
  for (const std::vector<Bytes>& parts :
       {std::vector<Bytes>{joined({file, zeros})},
        {joined({file, zeros}), joined({zeros, file}), file},
        {joined({file, {0xff}}), joined({Bytes(file.begin() + 1, file.end()), file})}}) {
    Rig rig(kBlocks);
    for (const Bytes& part : parts) ck_assert_int_eq(rig.push(part), GST_FLOW_OK);
    rig.end();
    for (size_t i = 0; i < std::min<size_t>(parts.size() * 2 - 1, 3); ++i) {
      Size size, expected;
      fail_unless(rig.pull(&size) == decoded(file, {504, 504}, &expected));
    }
    ck_assert_uint_eq(rig.waiting(), 0);
    ck_assert_uint_eq(rig.messages(GST_MESSAGE_WARNING).size(), 0);
  }
}
GST_END_TEST

// That a block ends where a picture does is chance: the next picture may go on in another one.
GST_START_TEST(test_blocks_that_look_like_files) {
  const Bytes first = file_of(64, 48, 1), second = file_of(64, 48, 2), third = file_of(64, 48, 3);
  for (const std::vector<Bytes>& parts :
       {std::vector<Bytes>{first, Bytes(second.begin(), second.begin() + 700),
                           joined({Bytes(second.begin() + 700, second.end()), third})},
        {first, joined({second, third})},
        {first, joined({{0, 0, 0}, second}), third}}) {
    Rig rig(kBlocks);
    for (const Bytes& part : parts) ck_assert_int_eq(rig.push(part), GST_FLOW_OK);
    rig.end();
    for (const Bytes& file : {first, second, third}) {
      Size size, expected;
      fail_unless(rig.pull(&size) == decoded(file, {504, 504}, &expected));
    }
    ck_assert_uint_eq(rig.waiting(), 0);
    ck_assert_uint_eq(rig.messages(GST_MESSAGE_WARNING).size(), 0);
  }
}
GST_END_TEST

// Half a picture from before a flush is not glued to what comes after it.
GST_START_TEST(test_flush) {
  Rig rig(kBlocks);
  const Bytes before = file_of(200, 120, 1), after = file_of(200, 120, 2);
  push_in_blocks(rig, Bytes(before.begin(), before.begin() + int64_t(before.size() / 2)), 512);
  gst_harness_push_event(rig.h, gst_event_new_flush_start());
  gst_harness_push_event(rig.h, gst_event_new_flush_stop(TRUE));
  gst_harness_push_event(rig.h, segment_of(GST_FORMAT_BYTES));
  push_in_blocks(rig, after, 512);
  rig.end();
  Size size, expected;
  fail_unless(rig.pull(&size) == decoded(after, {504, 504}, &expected));
  ck_assert_uint_eq(rig.waiting(), 0);
  rig.assert_no_messages();
}
GST_END_TEST

GST_START_TEST(test_damaged_picture_is_left_out) {
  Rig rig(kPackets);
  const Bytes file = file_of(200, 120);
  rig.push(file, 0);
  ck_assert_int_eq(rig.push(Bytes(file.begin(), file.begin() + int64_t(file.size() / 2)), GST_SECOND),
                   GST_FLOW_OK);
  rig.push(file, 2 * GST_SECOND);
  rig.end();
  Size size;
  GstDa3View view;
  GstClockTime pts = 0;
  rig.pull(&size);
  rig.pull(&size, &view, &pts);
  ck_assert_uint_eq(pts, 2 * GST_SECOND);
  ck_assert_int_eq(view.frame, 2);
  ck_assert_uint_eq(rig.waiting(), 0);
  const auto warnings = rig.messages(GST_MESSAGE_WARNING);
  ck_assert_uint_eq(warnings.size(), 1);
  fail_unless(warnings[0].find("Picture 1 is left out") != std::string::npos, "%s", warnings[0].c_str());
  fail_unless(warnings[0].find("damaged") != std::string::npos, "%s", warnings[0].c_str());
  rig.assert_no_messages();
}
GST_END_TEST

GST_START_TEST(test_damage_without_end) {
  Rig rig(kPackets);
  const Bytes file = file_of(64, 48);
  const Bytes half(file.begin(), file.begin() + int64_t(file.size() / 2));
  int pushed = 1;
  while (rig.push(half) == GST_FLOW_OK) fail_unless(++pushed < 100, "it never gives up");
  ck_assert_int_eq(pushed, 11);  // max-errors, and one
  rig.end();                     // does not say it again
  rig.assert_one_error("max-errors");
}
GST_END_TEST

GST_START_TEST(test_nothing_decoded) {
  const Bytes file = file_of(64, 48);
  {
    Rig rig(kPackets);
    rig.push(Bytes(file.begin(), file.begin() + int64_t(file.size() / 2)));
    rig.end();
    rig.assert_one_error("None of the 1 JPEG");
  }
  {
    Rig rig(kBlocks);
    push_in_blocks(rig, Bytes(5000, 'x'), 4096);
    rig.end();
    rig.assert_one_error("no JPEG picture in the 5000 bytes");
  }
  {
    Rig rig(kBlocks);  // the only picture breaks off
    push_in_blocks(rig, Bytes(file.begin(), file.begin() + int64_t(file.size() / 2)), 256);
    rig.end();
    rig.assert_one_error("None of the 1 JPEG");
  }
  {
    Rig rig(kBlocks);  // nothing but an empty file
    rig.push({});
    rig.end();
    rig.assert_one_error("no JPEG picture in the 0 bytes");
  }
}
GST_END_TEST

std::string logged;
void keep_log(GstDebugCategory*, GstDebugLevel level, const gchar*, const gchar*, gint, GObject*,
              GstDebugMessage* message, gpointer) {
  if (level <= GST_LEVEL_WARNING) logged += gst_debug_message_get(message);
}

// Who reads the log sees max-errors when it is exceeded, not before.
GST_START_TEST(test_log_of_damage) {
  gst_debug_set_active(TRUE);
  gst_debug_set_threshold_for_name("videodecoder", GST_LEVEL_WARNING);
  gst_debug_add_log_function(keep_log, nullptr, nullptr);
  {
    Rig rig(kPackets);
    g_object_set(rig.element, "max-errors", 1, nullptr);
    const Bytes file = file_of(64, 48), half(file.begin(), file.begin() + int64_t(file.size() / 2));
    ck_assert_int_eq(rig.push(half), GST_FLOW_OK);
    ck_assert_int_eq(rig.push(file), GST_FLOW_OK);  // they are not in a row
    GstBuffer* buffer = gst_harness_try_pull(rig.h);
    fail_unless(buffer && GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT));
    gst_buffer_unref(buffer);
    ck_assert_int_eq(rig.push(half), GST_FLOW_OK);
    fail_unless(logged.find("max-errors") == std::string::npos, "%s", logged.c_str());
    ck_assert_int_eq(rig.push(half), GST_FLOW_ERROR);
    rig.assert_one_error("max-errors allows (1); the last is picture 3.");
  }
  gst_debug_remove_log_function(keep_log);
}
GST_END_TEST

// The next one ends what breaks off, and is not lost with it.
GST_START_TEST(test_broken_off_within_a_file) {
  const Bytes first = file_of(64, 48, 1), second = file_of(200, 120, 2), third = file_of(200, 120, 3);
  Bytes bare = second;
  bare.resize(bare.size() - 2);  // without the marker at its end: nothing is missing
  const Bytes stream = joined({Bytes(first.begin(), first.begin() + int64_t(first.size() / 2)), bare, third});
  for (const size_t block : {size_t(3), size_t(4096), stream.size()}) {
    Rig rig(kBlocks);
    push_in_blocks(rig, stream, block);
    rig.end();
    for (const Bytes& file : {second, third}) {
      Size size, expected;
      fail_unless(rig.pull(&size) == decoded(file, {504, 504}, &expected), "blocks of %zu", block);
    }
    ck_assert_uint_eq(rig.waiting(), 0);
    ck_assert_uint_eq(rig.messages(GST_MESSAGE_WARNING).size(), 1);
    rig.assert_no_messages();
  }
}
GST_END_TEST

GST_START_TEST(test_two_fields_are_refused) {
  Rig rig("image/jpeg,framerate=25/1,width=64,height=96");
  rig.push(file_of(64, 48));
  const auto warnings = rig.messages(GST_MESSAGE_WARNING);
  ck_assert_uint_eq(warnings.size(), 1);
  fail_unless(warnings[0].find("two fields") != std::string::npos, "%s", warnings[0].c_str());
  ck_assert_uint_eq(rig.waiting(), 0);
}
GST_END_TEST

// One row is no half of one row.
GST_START_TEST(test_one_row_is_no_field) {
  for (const int width : {1, 20}) {
    Rig rig(("image/jpeg,framerate=25/1,height=1,width=" + std::to_string(width)).c_str());
    rig.push(file_of(width, 1));
    Size size, expected;
    fail_unless(rig.pull(&size) == decoded(file_of(width, 1), {504, 504}, &expected));
    ck_assert_int_eq(size.height, 1);
    ck_assert_uint_eq(rig.messages(GST_MESSAGE_WARNING).size(), 0);
  }
  Rig rig("image/jpeg,framerate=25/1,width=20,height=2");
  rig.push(file_of(20, 1));
  ck_assert_uint_eq(rig.messages(GST_MESSAGE_WARNING).size(), 1);
  ck_assert_uint_eq(rig.waiting(), 0);
}
GST_END_TEST

GST_START_TEST(test_downstream_refuses) {
  Rig rig(kPackets);
  gst_harness_set_sink_caps_str(rig.h, "video/x-raw,format=RGB,width=100,height=100");
  ck_assert_int_eq(rig.push(file_of(200, 120)), GST_FLOW_ERROR);
  rig.assert_one_error("width=(int)200");
}
GST_END_TEST

static Suite* da3jpegdec_suite() {
  Suite* suite = suite_create("da3jpegdec");
  TCase* good = tcase_create("pictures");
  tcase_add_test(good, test_reduced);
  tcase_add_test(good, test_full_size);
  tcase_add_test(good, test_before_preprocess);
  tcase_add_test(good, test_sizes_and_settings_change);
  tcase_add_test(good, test_blocks);
  tcase_add_test(good, test_file_without_caps);
  tcase_add_test(good, test_blocks_that_look_like_files);
  tcase_add_test(good, test_other_data_between_blocks);
  tcase_add_test(good, test_companions);
  tcase_add_test(good, test_pixel_aspect_ratio);
  tcase_add_test(good, test_sizes_downstream_are_none_of_the_input);
  tcase_add_test(good, test_caps_of_what_comes_out);
  tcase_add_test(good, test_view_of_the_whole_picture);
  suite_add_tcase(suite, good);
  TCase* bad = tcase_create("faults");
  tcase_add_test(bad, test_flush);
  tcase_add_test(bad, test_damaged_picture_is_left_out);
  tcase_add_test(bad, test_each_file_counts);
  tcase_add_test(bad, test_files_with_other_data_behind_the_picture);
  tcase_add_test(bad, test_broken_index_of_companions);
  tcase_add_test(bad, test_damage_without_end);
  tcase_add_test(bad, test_log_of_damage);
  tcase_add_test(bad, test_nothing_decoded);
  tcase_add_test(bad, test_broken_off_within_a_file);
  tcase_add_test(bad, test_two_fields_are_refused);
  tcase_add_test(bad, test_one_row_is_no_field);
  tcase_add_test(bad, test_downstream_refuses);
  suite_add_tcase(suite, bad);
  return suite;
}
GST_CHECK_MAIN(da3jpegdec)
