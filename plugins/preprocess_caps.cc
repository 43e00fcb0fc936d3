// SPDX-License-Identifier: MIT
#include "preprocess_caps.h"

#include "common/frame_resizer.h"
#include "common/guard.h"

namespace da3::plugin {
namespace {

constexpr int kMinSide = 14, kMaxSide = 32767;

// What does not survive a conversion to progressive square sRGB pixels of another size.
void remove_picture_fields(GstStructure* structure) {
  gst_structure_remove_fields(structure, "format", "width", "height", "pixel-aspect-ratio", "colorimetry",
                              "chroma-site", "interlace-mode", "field-order", "mastering-display-info",
                              "content-light-level", nullptr);
}

bool fixed_size(const GstStructure* structure, image::Size* size) {
  return gst_structure_get_int(structure, "width", &size->width) &&
         gst_structure_get_int(structure, "height", &size->height);
}

// The plan for caps whose size is fixed; false if it is not, or if the size is refused. A refusal is not
// reported here, the caps stay open instead: the error is posted when such a picture really comes.
bool plan_structure(const GstStructure* structure, const PreprocessSettings& settings, image::Size* final) {
  image::Size size;
  if (!fixed_size(structure, &size)) return false;
  const GValue* par = gst_structure_get_value(structure, "pixel-aspect-ratio");
  if (par && !GST_VALUE_HOLDS_FRACTION(par)) return false;
  GstVideoInfo info;
  if (!gst_video_info_set_format(&info, GST_VIDEO_FORMAT_RGB, guint(size.width), guint(size.height)))
    return false;
  if (par) {
    info.par_n = gst_value_get_fraction_numerator(par);
    info.par_d = gst_value_get_fraction_denominator(par);
  }
  try {
    *final = plan_frame(info, int(settings.process_res), settings.method).final;
    return true;
  } catch (const ElementError&) {
    return false;
  }
}

GstStructure* to_source(const GstStructure* in, const PreprocessSettings& settings) {
  GstStructure* out = gst_structure_copy(in);
  remove_picture_fields(out);
  gst_structure_set(out, "format", G_TYPE_STRING, "RGB", "pixel-aspect-ratio", GST_TYPE_FRACTION, 1, 1,
                    "colorimetry", G_TYPE_STRING, GST_VIDEO_COLORIMETRY_SRGB, nullptr);
  if (image::Size size; plan_structure(in, settings, &size)) {
    gst_structure_set(out, "width", G_TYPE_INT, size.width, "height", G_TYPE_INT, size.height, nullptr);
  } else {
    gst_structure_set(out, "width", GST_TYPE_INT_RANGE, kMinSide, kMaxSide, "height", GST_TYPE_INT_RANGE,
                      kMinSide, kMaxSide, nullptr);
  }
  return out;
}

// `rgb` or any format.
GstStructure* to_sink(const GstStructure* out, bool rgb) {
  GstStructure* in = gst_structure_copy(out);
  remove_picture_fields(in);
  gst_structure_set(in, "width", GST_TYPE_INT_RANGE, 1, kMaxSide, "height", GST_TYPE_INT_RANGE, 1, kMaxSide,
                    nullptr);
  if (rgb) gst_structure_set(in, "format", G_TYPE_STRING, "RGB", nullptr);
  return in;
}

// When downstream wants a size that would not be resized at all, a source that can make any picture does best
// to make just that one.
GstStructure* to_exact_sink(const GstStructure* out, const PreprocessSettings& settings) {
  image::Size size, final;
  if (!fixed_size(out, &size)) return nullptr;
  GstStructure* in = to_sink(out, true);
  gst_structure_set(in, "width", G_TYPE_INT, size.width, "height", G_TYPE_INT, size.height,
                    "pixel-aspect-ratio", GST_TYPE_FRACTION, 1, 1, nullptr);
  if (plan_structure(in, settings, &final) && final == size) return in;
  gst_structure_free(in);
  return nullptr;
}

// Keeps the order, which is that of preference.
GstCaps* merge(GstCaps* caps, GstStructure* structure, const GstCapsFeatures* features) {
  return gst_caps_merge_structure_full(caps, structure, gst_caps_features_copy(features));
}

}  // namespace

GstCaps* preprocess_sink_caps() {
  guint count = 0;
  const GstVideoFormat* formats = gst_video_formats_raw(&count);
  const GstVideoFormat rgb = GST_VIDEO_FORMAT_RGB;
  GstCaps* caps = gst_video_make_raw_caps(&rgb, 1);
  gst_caps_append(caps, gst_video_make_raw_caps(formats, count));
  gst_caps_set_simple(caps, "width", GST_TYPE_INT_RANGE, 1, kMaxSide, "height", GST_TYPE_INT_RANGE, 1,
                      kMaxSide, nullptr);
  return caps;
}

GstCaps* preprocess_src_caps() {
  return gst_caps_from_string(
      "video/x-raw, format=(string)RGB, width=(int)[14, 32767], height=(int)[14, 32767], "
      "framerate=(fraction)[0/1, 2147483647/1], pixel-aspect-ratio=(fraction)1/1");
}

GstCaps* preprocess_other_caps(GstPadDirection direction, const GstCaps* caps,
                               const PreprocessSettings& settings) {
  GstCaps* result = gst_caps_new_empty();
  for (guint i = 0; i < gst_caps_get_size(caps); ++i) {
    const GstStructure* structure = gst_caps_get_structure(caps, i);
    const GstCapsFeatures* features = gst_caps_get_features(caps, i);
    if (direction == GST_PAD_SINK) {
      result = merge(result, to_source(structure, settings), features);
    } else {
      if (GstStructure* exact = to_exact_sink(structure, settings)) result = merge(result, exact, features);
      result = merge(result, to_sink(structure, true), features);
      result = merge(result, to_sink(structure, false), features);
    }
  }
  return result;
}

}  // namespace da3::plugin
