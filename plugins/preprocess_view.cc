// SPDX-License-Identifier: MIT
#include "preprocess_view.h"

namespace da3::plugin {

bool crops(const image::ProcessPlan& plan) {
  return plan.crop && plan.boundary != plan.final;
}

namespace {

void forget_depth(GstDa3View& view) {
  view.depth_x = view.depth_y = view.depth_w = view.depth_h = 0;
  view.kind = GST_DA3_DEPTH_KIND_NONE;
  view.unit_scale = 0;
  view.depth = view.confidence = GstDa3Stats{};
  view.has_sky = FALSE;
  view.sky_fraction = 0;
}

// A view that belongs to a picture of another size was carried along by an element that turned or cropped it.
void forget_geometry(GstDa3View& view) {
  view.source_width = view.source_height = 0;
  view.source_x = view.source_y = view.source_w = view.source_h = 0;
  view.has_intrinsics = view.has_extrinsics = FALSE;
  forget_depth(view);
}

void map_source(GstDa3View& view, const image::Region& shown, image::Size stored) {
  if (view.source_width > 0 && view.source_w > 0) {
    const double x = view.source_w / stored.width, y = view.source_h / stored.height;
    view.source_x += shown.x * x;
    view.source_y += shown.y * y;
    view.source_w = shown.width * x;
    view.source_h = shown.height * y;
  } else {
    view.source_width = stored.width;
    view.source_height = stored.height;
    view.source_x = shown.x;
    view.source_y = shown.y;
    view.source_w = shown.width;
    view.source_h = shown.height;
  }
}

// Depth maps are scaled with the picture, but not cropped.
void map_depth(GstDa3View& view, const image::ProcessPlan& plan, image::Size stored) {
  if (view.depth_w <= 0) return;
  if (crops(plan)) return forget_depth(view);
  const double x = double(plan.final.width) / stored.width, y = double(plan.final.height) / stored.height;
  view.depth_x *= x;
  view.depth_w *= x;
  view.depth_y *= y;
  view.depth_h *= y;
}

}  // namespace

void map_view(GstDa3View& view, const image::ProcessPlan& plan, image::Size stored) {
  const bool known = view.image_width > 0 && view.image_height > 0;
  if (known && (view.image_width != stored.width || view.image_height != stored.height))
    forget_geometry(view);
  const image::Region shown = image::covered_region(plan, stored);
  if (view.has_intrinsics) {
    double k[9] = {view.fx, 0, view.cx, 0, view.fy, view.cy, 0, 0, 1};
    image::adapt_intrinsics(plan, stored, k);
    view.fx = k[0];
    view.cx = k[2];
    view.fy = k[4];
    view.cy = k[5];
  }
  map_source(view, shown, stored);
  map_depth(view, plan, stored);
  view.image_width = plan.final.width;
  view.image_height = plan.final.height;
  view.processed = TRUE;
}

}  // namespace da3::plugin
