// SPDX-License-Identifier: MIT
#include "testsrc_frames.h"

#include <gst/da3/da3.h>

#include <cmath>
#include <memory>

#include "common/guard.h"
#include "common/mapped_frame.h"
#include "infer_results.h"

namespace da3::plugin {
namespace {

constexpr int kShutterSteps = 8;

struct BufferUnref {
  void operator()(GstBuffer* buffer) const { gst_buffer_unref(buffer); }
};
using BufferPtr = std::unique_ptr<GstBuffer, BufferUnref>;

// A buffer of `count` floats that is mapped as long as this object lives.
class FloatPlane {
 public:
  explicit FloatPlane(size_t count)
      : buffer_(gst_buffer_new_allocate(nullptr, count * sizeof(float), nullptr)) {
    if (!buffer_ || !gst_buffer_map(buffer_.get(), &map_, GST_MAP_WRITE)) throw std::bad_alloc();
    mapped_ = true;
  }
  ~FloatPlane() { unmap(); }
  FloatPlane(const FloatPlane&) = delete;
  FloatPlane& operator=(const FloatPlane&) = delete;
  float* data() { return reinterpret_cast<float*>(map_.data); }
  GstBuffer* release() {
    unmap();
    return buffer_.release();
  }

 private:
  void unmap() {
    if (mapped_) gst_buffer_unmap(buffer_.get(), &map_);
    mapped_ = false;
  }
  BufferPtr buffer_;
  GstMapInfo map_ = GST_MAP_INFO_INIT;
  bool mapped_ = false;
};

void attach_plane(GstBuffer* buffer, const char* id, GstBuffer* data, int width, int height) {
  const gsize dims[] = {1, gsize(height), gsize(width)};
  if (!gst_buffer_add_da3_tensor(buffer, id, data, 3, dims))
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_FAILED,
                       std::string("Could not attach ") + id + " to a frame.");
}

}  // namespace

TestFrames::TestFrames(const TestSrcSettings& settings)
    : settings_(settings),
      scene_(scene::Scene::make(settings.family, settings.seed)),
      path_(scene::CameraPath::make(scene_, settings.path, settings.seed, settings.speed)),
      renderer_(int(settings.threads)) {
  set_rate(fps_n_, fps_d_);
}

void TestFrames::set_rate(int fps_n, int fps_d) {
  fps_n_ = fps_n;
  fps_d_ = fps_d;
  loop_frames_ = 0;
  if (settings_.path != scene::PathKind::loop) return;
  // Whole frames, so that one of them falls on the end of the round.
  const double natural = fps_n > 0 ? std::round(path_.period() * fps_n / fps_d) : 1;
  loop_frames_ = settings_.loop_frames ? settings_.loop_frames : guint64(std::max(natural, 1.0));
}

void TestFrames::set_look(const TestSrcSettings& settings) {
  settings_.noise = settings.noise;
  settings_.exposure = settings.exposure;
  settings_.motion_blur = settings.motion_blur;
  settings_.antialias = settings.antialias;
}

double TestFrames::time_of(double number) const {
  if (loop_frames_) {
    double phase = std::fmod(number, double(loop_frames_));
    if (phase < 0) phase += double(loop_frames_);
    return phase / double(loop_frames_) * path_.period();
  }
  return fps_n_ > 0 ? std::max(number, 0.0) * fps_d_ / fps_n_ : 0;
}

void TestFrames::render(guint64 number, GstBuffer* buffer, const GstVideoInfo& info) {
  const int width = GST_VIDEO_INFO_WIDTH(&info), height = GST_VIDEO_INFO_HEIGHT(&info);
  scene::Camera camera = path_.pose(time_of(double(number)));
  scene::set_intrinsics(camera, settings_.fov, width, height);
  scene::RenderOptions options;
  options.exposure = settings_.exposure;
  options.noise = settings_.noise;
  options.noise_seed = settings_.seed;
  options.frame = number;
  options.antialias = settings_.antialias;
  for (int i = 0; settings_.motion_blur > 0 && i < kShutterSteps; ++i) {
    const double offset = ((i + 0.5) / kShutterSteps - 0.5) * settings_.motion_blur;
    options.shutter.push_back(path_.pose(time_of(double(number) + offset)));
  }
  FloatPlane depth(size_t(width) * size_t(height)), sky(size_t(width) * size_t(height));
  {
    // Unmapped before metas are added: a mapped frame holds a reference.
    MappedFrame frame(buffer, info, GST_MAP_WRITE);
    const scene::RenderTarget target{static_cast<uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(frame.get(), 0)),
                                     size_t(GST_VIDEO_FRAME_PLANE_STRIDE(frame.get(), 0)),
                                     GST_VIDEO_FRAME_COMP_PSTRIDE(frame.get(), 0), depth.data(), sky.data()};
    renderer_.render(scene_, camera, width, height, options, target);
  }

  GstDa3View view;
  gst_da3_view_init(&view);
  view.role = GST_DA3_ROLE_TRUTH;
  view.frame = gint64(number);
  view.image_width = view.source_width = width;
  view.image_height = view.source_height = height;
  view.source_w = view.depth_w = width;
  view.source_h = view.depth_h = height;
  view.has_intrinsics = view.has_extrinsics = TRUE;
  view.fx = camera.fx;
  view.fy = camera.fy;
  view.cx = camera.cx;
  view.cy = camera.cy;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) view.rotation[3 * r + c] = camera.rotation(r, c);
    view.translation[r] = camera.translation[r];
  }
  view.kind = GST_DA3_DEPTH_KIND_METRIC;
  view.unit_scale = 1;
  const size_t count = size_t(width) * size_t(height);
  view.depth = plane_statistics(depth.data(), count);
  view.has_sky = TRUE;
  view.sky_fraction = 1 - view.depth.valid_fraction;
  g_strlcpy(view.model, "da3testsrc", sizeof view.model);
  attach_plane(buffer, GST_DA3_TENSOR_DEPTH "-truth", depth.release(), width, height);
  attach_plane(buffer, GST_DA3_TENSOR_SKY "-truth", sky.release(), width, height);
  if (!gst_buffer_add_da3_view(buffer, &view))
    throw ElementError(GST_CORE_ERROR, GST_CORE_ERROR_FAILED, "Could not attach the view meta to a frame.");
}

}  // namespace da3::plugin
