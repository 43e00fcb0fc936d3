// SPDX-License-Identifier: MIT
/**
 * SECTION:element-da3testsrc
 * @title: da3testsrc
 * @short_description: rendered scenes with exact depth, pose and intrinsics
 *
 * Renders a made-up place (#GstDa3TestSrc:scene, one of its family for every #GstDa3TestSrc:seed) seen by a
 * camera that moves along a #GstDa3TestSrc:path. Each buffer carries what is true of it, in the metas that
 * da3infer writes, under the role truth: the view meta (K, world-to-camera pose in metres, statistics) and
 * the tensors `da3-depth-truth` (z-depth in metres, 0 where there is sky) and `da3-sky-truth` (1 for sky).
 * da3depthviz, da3extract and da3posesink use them where there is no prediction.
 *
 * The frames depend on the properties and the frame number alone, so a seek is exact and costs nothing. The
 * world has its y axis upwards; cameras have OpenCV's axes.
 *
 * ## Example
 * |[
 * gst-launch-1.0 da3testsrc scene=street path=drive num-buffers=300 ! da3depthviz layout=side-by-side !
 * videoconvert ! autovideosink
 * ]|
 */
#include "da3testsrc.h"

#include <gst/video/video.h>

#include <memory>
#include <stdexcept>
#include <utility>

#include "common/guard.h"
#include "elements.h"
#include "testsrc_frames.h"
#include "testsrc_settings.h"

GST_DEBUG_CATEGORY_STATIC(da3testsrc_debug);
#define GST_CAT_DEFAULT da3testsrc_debug

using namespace da3::plugin;

namespace {

constexpr int kDefaultWidth = 640, kDefaultHeight = 360, kDefaultRate = 30;
// Frames that a live stream may be late before some are left out.
constexpr guint64 kLateFrames = 2;

GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE(
    "src", GST_PAD_SRC, GST_PAD_ALWAYS,
    GST_STATIC_CAPS("video/x-raw, format = (string) { RGB, RGBx }, width = (int) [ 1, 8192 ], height = (int) "
                    "[ 1, 8192 ], "
                    "framerate = " GST_VIDEO_FPS_RANGE
                    ", pixel-aspect-ratio = (fraction) 1/1, interlace-mode = (string) progressive"));

// What the streaming thread works with between start() and stop().
struct Stream {
  std::unique_ptr<TestFrames> frames;
  guint64 num_frames = 0;
  gint64 timestamp_offset = 0;
  GstVideoInfo info{};
  guint64 next = 0;
  bool reverse = false;
  bool exhausted = false;  // reverse playback has shown frame 0
  GstClockTimeDiff late_base =
      0;  // running time of the clock less that of the frames, while they are in time
  bool have_late_base = false;
  bool discont = false;
};

}  // namespace

struct _GstDa3TestSrc {
  GstPushSrc parent;
  TestSrcSettings* settings;  // under the object lock
  Stream* stream;             // its info, next and reverse under the object lock as well
};

#define gst_da3_test_src_parent_class parent_class
G_DEFINE_FINAL_TYPE(GstDa3TestSrc, gst_da3_test_src, GST_TYPE_PUSH_SRC)
GST_ELEMENT_REGISTER_DEFINE(da3testsrc, "da3testsrc", GST_RANK_NONE, GST_TYPE_DA3_TEST_SRC)

static TestSrcSettings current_settings(GstDa3TestSrc* self) {
  GST_OBJECT_LOCK(self);
  const TestSrcSettings settings = *self->settings;
  GST_OBJECT_UNLOCK(self);
  return settings;
}

// --- times
// -----------------------------------------------------------------------------------------------------

static GstClockTime time_of(const GstVideoInfo& info, guint64 frame) {
  return gst_util_uint64_scale(frame, guint64(GST_VIDEO_INFO_FPS_D(&info)) * GST_SECOND,
                               guint64(GST_VIDEO_INFO_FPS_N(&info)));
}

// Frames of the stream; 0: endless.
static guint64 length(GstDa3TestSrc* self) {
  const guint64 frames = current_settings(self).num_frames;
  gint buffers = -1;
  g_object_get(self, "num-buffers", &buffers, nullptr);
  if (buffers < 0) return frames;
  return frames ? MIN(frames, guint64(buffers)) : guint64(buffers);
}

// --- base class
// --------------------------------------------------------------------------------------------------

static gboolean start(GstBaseSrc* base) {
  auto* self = GST_DA3_TEST_SRC(base);
  return guard(self, FALSE, [&]() -> gboolean {
    const TestSrcSettings settings = current_settings(self);
    auto frames = std::make_unique<TestFrames>(settings);
    Stream& stream = *self->stream;
    GST_OBJECT_LOCK(self);
    stream = Stream{};
    stream.frames = std::move(frames);
    stream.num_frames = settings.num_frames;
    stream.timestamp_offset = settings.timestamp_offset;
    gst_video_info_init(&stream.info);
    GST_OBJECT_UNLOCK(self);
    return TRUE;
  });
}

static gboolean stop(GstBaseSrc* base) {
  auto* self = GST_DA3_TEST_SRC(base);
  return guard(self, FALSE, [&]() -> gboolean {
    self->stream->frames.reset();
    return TRUE;
  });
}

static GstCaps* fixate(GstBaseSrc* base, GstCaps* caps) {
  caps = gst_caps_make_writable(caps);
  for (guint i = 0; i < gst_caps_get_size(caps); ++i) {
    GstStructure* s = gst_caps_get_structure(caps, i);
    gst_structure_fixate_field_nearest_int(s, "width", kDefaultWidth);
    gst_structure_fixate_field_nearest_int(s, "height", kDefaultHeight);
    gst_structure_fixate_field_nearest_fraction(s, "framerate", kDefaultRate, 1);
  }
  return GST_BASE_SRC_CLASS(parent_class)->fixate(base, caps);
}

static gboolean set_caps(GstBaseSrc* base, GstCaps* caps) {
  auto* self = GST_DA3_TEST_SRC(base);
  return guard(self, FALSE, [&]() -> gboolean {
    GstVideoInfo info;
    if (!gst_video_info_from_caps(&info, caps)) {
      gchar* text = gst_caps_to_string(caps);
      const std::string message = std::string("These caps are not video that can be rendered: ") + text + ".";
      g_free(text);
      throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION, message);
    }
    Stream& stream = *self->stream;
    GST_OBJECT_LOCK(self);
    const GstVideoInfo before = stream.info;
    // The stream goes on at the same time in the new rate.
    if (GST_VIDEO_INFO_FPS_N(&before) > 0 && stream.next > 0 && GST_VIDEO_INFO_FPS_N(&info) > 0)
      stream.next =
          gst_util_uint64_scale_round(time_of(before, stream.next), guint64(GST_VIDEO_INFO_FPS_N(&info)),
                                      guint64(GST_VIDEO_INFO_FPS_D(&info)) * GST_SECOND);
    stream.info = info;
    GST_OBJECT_UNLOCK(self);
    stream.frames->set_rate(GST_VIDEO_INFO_FPS_N(&info), GST_VIDEO_INFO_FPS_D(&info));
    gst_base_src_set_blocksize(base, guint(GST_VIDEO_INFO_SIZE(&info)));
    return TRUE;
  });
}

static gboolean decide_allocation(GstBaseSrc* base, GstQuery* query) {
  auto* self = GST_DA3_TEST_SRC(base);
  const guint size = guint(GST_VIDEO_INFO_SIZE(&self->stream->info));
  GstBufferPool* pool = nullptr;
  guint offered = 0, min = 0, max = 0;
  const bool update = gst_query_get_n_allocation_pools(query) > 0;
  if (update) gst_query_parse_nth_allocation_pool(query, 0, &pool, &offered, &min, &max);
  if (!pool) pool = gst_video_buffer_pool_new();
  GstCaps* caps = nullptr;
  gst_query_parse_allocation(query, &caps, nullptr);
  GstStructure* config = gst_buffer_pool_get_config(pool);
  gst_buffer_pool_config_set_params(config, caps, MAX(size, offered), min, max);
  if (gst_query_find_allocation_meta(query, GST_VIDEO_META_API_TYPE, nullptr))
    gst_buffer_pool_config_add_option(config, GST_BUFFER_POOL_OPTION_VIDEO_META);
  gst_buffer_pool_set_config(pool, config);
  if (update) {
    gst_query_set_nth_allocation_pool(query, 0, pool, MAX(size, offered), min, max);
  } else {
    gst_query_add_allocation_pool(query, pool, MAX(size, offered), min, max);
  }
  gst_object_unref(pool);
  return GST_BASE_SRC_CLASS(parent_class)->decide_allocation(base, query);
}

static gboolean is_seekable(GstBaseSrc*) {
  return TRUE;
}

static gboolean do_seek(GstBaseSrc* base, GstSegment* segment) {
  auto* self = GST_DA3_TEST_SRC(base);
  return guard(self, FALSE, [&]() -> gboolean {
    if (segment->format != GST_FORMAT_TIME) return FALSE;
    Stream& stream = *self->stream;
    const guint64 total = length(self);
    GST_OBJECT_LOCK(self);
    const GstVideoInfo info = stream.info;
    const bool timed = GST_VIDEO_INFO_FPS_N(&info) > 0;
    const auto n = guint64(GST_VIDEO_INFO_FPS_N(&info)),
               d = guint64(GST_VIDEO_INFO_FPS_D(&info)) * GST_SECOND;
    segment->time = segment->start;
    stream.reverse = segment->rate < 0;
    stream.exhausted = false;
    stream.have_late_base = false;
    stream.next = 0;
    if (timed) {
      guint64 at = segment->position;
      // Backwards from the end of the stream where the segment has none.
      if (stream.reverse && !GST_CLOCK_TIME_IS_VALID(at)) at = total ? time_of(info, total) : 0;
      stream.next = gst_util_uint64_scale_round(at, n, d);
      // The frame that is shown at that time, not the next one.
      if (stream.next > 0 && time_of(info, stream.next) > at) --stream.next;
      if (stream.reverse) {
        if (total && stream.next > total) stream.next = total;
        if (stream.next > 0 && time_of(info, stream.next) >= at) --stream.next;
      }
    }
    GST_OBJECT_UNLOCK(self);
    return TRUE;
  });
}

static gboolean query_convert(GstDa3TestSrc* self, GstQuery* query) {
  GstFormat from, to;
  gint64 value = 0, result = 0;
  gst_query_parse_convert(query, &from, &value, &to, nullptr);
  GST_OBJECT_LOCK(self);
  GstVideoInfo info = self->stream->info;
  GST_OBJECT_UNLOCK(self);
  // Before the caps are known there is nothing to convert with.
  if (GST_VIDEO_INFO_FORMAT(&info) == GST_VIDEO_FORMAT_UNKNOWN) return FALSE;
  if (!gst_video_info_convert(&info, from, value, to, &result)) return FALSE;
  gst_query_set_convert(query, from, value, to, result);
  return TRUE;
}

static gboolean query_duration(GstDa3TestSrc* self, GstQuery* query) {
  GstFormat format;
  gst_query_parse_duration(query, &format, nullptr);
  const guint64 frames = length(self);
  if (frames == 0) return FALSE;
  if (format == GST_FORMAT_DEFAULT) {
    gst_query_set_duration(query, format, gint64(frames));
    return TRUE;
  }
  GST_OBJECT_LOCK(self);
  const GstVideoInfo info = self->stream->info;
  GST_OBJECT_UNLOCK(self);
  if (format != GST_FORMAT_TIME || GST_VIDEO_INFO_FORMAT(&info) == GST_VIDEO_FORMAT_UNKNOWN ||
      GST_VIDEO_INFO_FPS_N(&info) <= 0)
    return FALSE;
  gst_query_set_duration(query, format, gint64(time_of(info, frames)));
  return TRUE;
}

// A live frame is there at its time, and whoever waits for a whole one is a frame late.
static gboolean query_latency(GstDa3TestSrc* self, GstQuery* query) {
  GST_OBJECT_LOCK(self);
  const GstVideoInfo info = self->stream->info;
  GST_OBJECT_UNLOCK(self);
  if (!gst_base_src_is_live(GST_BASE_SRC(self)) || GST_VIDEO_INFO_FORMAT(&info) == GST_VIDEO_FORMAT_UNKNOWN ||
      GST_VIDEO_INFO_FPS_N(&info) <= 0)
    return FALSE;
  gst_query_set_latency(query, TRUE, time_of(info, 1), GST_CLOCK_TIME_NONE);
  return TRUE;
}

static gboolean query(GstBaseSrc* base, GstQuery* query) {
  auto* self = GST_DA3_TEST_SRC(base);
  return guard(self, FALSE, [&]() -> gboolean {
    switch (GST_QUERY_TYPE(query)) {
      case GST_QUERY_CONVERT:
        return query_convert(self, query);
      case GST_QUERY_DURATION:
        if (query_duration(self, query)) return TRUE;
        break;
      case GST_QUERY_LATENCY:
        if (query_latency(self, query)) return TRUE;
        break;
      default:
        break;
    }
    return GST_BASE_SRC_CLASS(parent_class)->query(base, query);
  });
}

// When a frame is due: not its timestamp, which after a seek is as far ahead as the stream was moved. Before
// the segment, where a seek between two frames leads: at once.
static GstClockTime due_time(const GstSegment& segment, GstClockTime pts) {
  guint64 running = 0;
  const int sign = gst_segment_to_running_time_full(&segment, GST_FORMAT_TIME, pts, &running);
  if (sign == 0) return GST_CLOCK_TIME_NONE;
  return sign > 0 ? running : 0;
}

static void get_times(GstBaseSrc* base, GstBuffer* buffer, GstClockTime* begin, GstClockTime* end) {
  *begin = *end = GST_CLOCK_TIME_NONE;
  if (!gst_base_src_is_live(base) || !GST_BUFFER_PTS_IS_VALID(buffer)) return;
  *begin = due_time(base->segment, GST_BUFFER_PTS(buffer));
  if (GST_CLOCK_TIME_IS_VALID(*begin) && GST_BUFFER_DURATION_IS_VALID(buffer))
    *end = *begin + GST_BUFFER_DURATION(buffer);
}

// --- frames
// ----------------------------------------------------------------------------------------------------

// A live stream that cannot keep up leaves frames out rather than fall ever further behind: how many now.
static guint64 frames_late(GstDa3TestSrc* self, Stream& stream) {
  GstBaseSrc* base = GST_BASE_SRC(self);
  if (!gst_base_src_is_live(base) || stream.reverse || GST_VIDEO_INFO_FPS_N(&stream.info) <= 0) return 0;
  GstClock* clock = gst_element_get_clock(GST_ELEMENT_CAST(self));
  if (!clock) return 0;
  const auto now = GstClockTimeDiff(gst_clock_get_time(clock)) -
                   GstClockTimeDiff(gst_element_get_base_time(GST_ELEMENT_CAST(self)));
  gst_object_unref(clock);
  const GstClockTime due =
      due_time(base->segment, GstClockTime(stream.timestamp_offset) + time_of(stream.info, stream.next));
  if (!GST_CLOCK_TIME_IS_VALID(due)) return 0;
  const GstClockTimeDiff ahead = now - GstClockTimeDiff(due);
  const auto frame = GstClockTimeDiff(double(time_of(stream.info, 1)) / base->segment.rate);
  // The base class waits for each frame's time before the next is asked for, which is then early by one. What
  // was seen just after a seek may be of the running time before it.
  const GstClockTimeDiff in_time = stream.have_late_base ? ahead + frame : ahead;
  if (!stream.have_late_base || in_time < stream.late_base) stream.late_base = in_time;
  if (!std::exchange(stream.have_late_base, true)) return 0;
  const GstClockTimeDiff late = ahead - stream.late_base;
  if (late <= GstClockTimeDiff(kLateFrames) * frame) return 0;
  // Rounded to a whole frame where it is one but for the rounding of times.
  const auto skip = guint64((double(late) + 1) / double(frame));
  GST_INFO_OBJECT(self, "%" G_GUINT64_FORMAT " frames late, left out", skip);
  stream.discont = true;
  return skip;
}

static GstFlowReturn fill_frame(GstDa3TestSrc* self, GstBuffer* buffer) {
  Stream& stream = *self->stream;
  if (!stream.frames || GST_VIDEO_INFO_FORMAT(&stream.info) == GST_VIDEO_FORMAT_UNKNOWN)
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_NEGOTIATION,
                       "A frame is wanted before its size is known.");
  const guint64 skipped = frames_late(self, stream);
  GST_OBJECT_LOCK(self);
  stream.next += skipped;
  const guint64 number = stream.next;
  const GstVideoInfo info = stream.info;
  const bool timed = GST_VIDEO_INFO_FPS_N(&info) > 0;
  const bool over =
      stream.exhausted || (stream.num_frames && number >= stream.num_frames) || (!timed && number > 0);
  GST_OBJECT_UNLOCK(self);
  if (over) return GST_FLOW_EOS;

  stream.frames->set_look(current_settings(self));
  stream.frames->render(number, buffer, info);
  GST_BUFFER_DTS(buffer) = GST_CLOCK_TIME_NONE;
  GST_BUFFER_PTS(buffer) = GstClockTime(stream.timestamp_offset) + (timed ? time_of(info, number) : 0);
  GST_BUFFER_DURATION(buffer) =
      timed ? time_of(info, number + 1) - time_of(info, number) : GST_CLOCK_TIME_NONE;
  GST_BUFFER_OFFSET(buffer) = number;
  GST_BUFFER_OFFSET_END(buffer) = number + 1;
  if (stream.discont) GST_BUFFER_FLAG_SET(buffer, GST_BUFFER_FLAG_DISCONT);
  stream.discont = false;
  GST_OBJECT_LOCK(self);
  if (!stream.reverse) {
    ++stream.next;
  } else if (number == 0) {
    stream.exhausted = true;
  } else {
    --stream.next;
  }
  GST_OBJECT_UNLOCK(self);
  return GST_FLOW_OK;
}

static GstFlowReturn fill(GstPushSrc* base, GstBuffer* buffer) {
  auto* self = GST_DA3_TEST_SRC(base);
  return guard(self, GST_FLOW_ERROR, [&] { return fill_frame(self, buffer); });
}

// --- object
// ----------------------------------------------------------------------------------------------------

static void set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  auto* self = GST_DA3_TEST_SRC(object);
  if (id == kTestSrcIsLive) {
    gst_base_src_set_live(GST_BASE_SRC(object), g_value_get_boolean(value));
    return;
  }
  GST_OBJECT_LOCK(self);
  const bool known = set_test_src_property(*self->settings, id, value);
  GST_OBJECT_UNLOCK(self);
  if (!known) G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
}

static void get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  if (id == kTestSrcIsLive) {
    g_value_set_boolean(value, gst_base_src_is_live(GST_BASE_SRC(object)));
    return;
  }
  if (!get_test_src_property(current_settings(GST_DA3_TEST_SRC(object)), id, value))
    G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
}

static void finalize(GObject* object) {
  auto* self = GST_DA3_TEST_SRC(object);
  delete self->stream;
  delete self->settings;
  G_OBJECT_CLASS(parent_class)->finalize(object);
}

static void gst_da3_test_src_class_init(GstDa3TestSrcClass* klass) {
  GST_DEBUG_CATEGORY_INIT(da3testsrc_debug, "da3testsrc", 0, "rendered scenes with truth");
  auto* object = G_OBJECT_CLASS(klass);
  auto* element = GST_ELEMENT_CLASS(klass);
  auto* base = GST_BASE_SRC_CLASS(klass);
  object->set_property = set_property;
  object->get_property = get_property;
  object->finalize = finalize;
  install_test_src_properties(object);
  gst_type_mark_as_plugin_api(test_scene_get_type(), GstPluginAPIFlags(0));
  gst_type_mark_as_plugin_api(test_path_get_type(), GstPluginAPIFlags(0));
  base->start = GST_DEBUG_FUNCPTR(start);
  base->stop = GST_DEBUG_FUNCPTR(stop);
  base->fixate = GST_DEBUG_FUNCPTR(fixate);
  base->set_caps = GST_DEBUG_FUNCPTR(set_caps);
  base->decide_allocation = GST_DEBUG_FUNCPTR(decide_allocation);
  base->is_seekable = GST_DEBUG_FUNCPTR(is_seekable);
  base->do_seek = GST_DEBUG_FUNCPTR(do_seek);
  base->query = GST_DEBUG_FUNCPTR(query);
  base->get_times = GST_DEBUG_FUNCPTR(get_times);
  GST_PUSH_SRC_CLASS(klass)->fill = GST_DEBUG_FUNCPTR(fill);
  gst_element_class_add_static_pad_template(element, &src_template);
  gst_element_class_set_static_metadata(element, "Depth test source", "Source/Video",
                                        "Renders scenes with exact depth, camera pose and intrinsics",
                                        "gst-da3");
}

static void gst_da3_test_src_init(GstDa3TestSrc* self) {
  self->settings = new TestSrcSettings();
  self->stream = new Stream();
  gst_video_info_init(&self->stream->info);
  gst_base_src_set_format(GST_BASE_SRC(self), GST_FORMAT_TIME);
  gst_base_src_set_live(GST_BASE_SRC(self), FALSE);
}
