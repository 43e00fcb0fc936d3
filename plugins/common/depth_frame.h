// SPDX-License-Identifier: MIT
//
// What da3infer attached to a frame, as the elements behind it read it.
#pragma once

#include <gst/da3/da3.h>
#include <gst/video/video.h>

#include <optional>

namespace da3::plugin {

// A tensor of shape [1, H, W], mapped for reading as long as the object lives. Move-only.
class MapReader {
 public:
  // Empty if `frame` has no tensor of that id. Throws ElementError (STREAM/FORMAT) naming the shape if it is
  // not [1, H, W] with at least one pixel, or if the memory is smaller than that.
  static std::optional<MapReader> open(GstBuffer* frame, const char* id);
  MapReader(MapReader&& other) noexcept;
  MapReader& operator=(MapReader&&) = delete;
  ~MapReader();

  const float* data() const { return reinterpret_cast<const float*>(map_.data); }
  int width() const { return width_; }
  int height() const { return height_; }
  size_t count() const { return size_t(width_) * size_t(height_); }

 private:
  MapReader() = default;
  GstBuffer* buffer_ = nullptr;
  GstMapInfo map_ = GST_MAP_INFO_INIT;
  int width_ = 0, height_ = 0;
};

// The view meta of `frame`; all unknown if there is none.
GstDa3View read_view(GstBuffer* frame);

struct Region {
  double x = 0, y = 0, w = 0, h = 0;
  bool operator==(const Region&) const = default;
};

// The part of a picture of that size that the depth map covers [px]; the whole picture if the view does not
// say.
Region depth_region(const GstDa3View& view, int frame_width, int frame_height);

// The view of the picture that shows exactly the depth region at the size of the map: K, sizes and regions
// follow.
GstDa3View view_of_map(const GstDa3View& view, int frame_width, int frame_height, int map_width,
                       int map_height);

// Timestamps, offsets, flags and those metas that say nothing about pixels (reference timestamps, time codes,
// ...).
void copy_frame_properties(GstBuffer* from, GstBuffer* to);

}  // namespace da3::plugin
