// SPDX-License-Identifier: MIT
//
// The front of the pipeline: a bin with one source pad that gives upright raw video.
#pragma once

#include "gst_ptr.h"
#include "input.h"

namespace da3::demo {

// "application error" that the bin of make_video_source() posts when a file has no video stream.
inline constexpr const char* no_video_message = "The file has no video stream.";

// Decodes the first video stream of a file; other streams are not decoded. Floating reference. Throws
// DemoError.
GstElement* make_video_source(const std::filesystem::path& file);
// True if nothing runs in a source that plays: nothing more will come of it. decodebin drops errors of an
// element while it still plugs it in, so this may be all there is to be seen of one.
bool is_idle(GstElement* video_source);
// An appsrc for an ImageFeeder. Floating reference. Throws DemoError.
GstElement* make_image_source();

// A walk through a place that no network was trained on, with truth on its frames, rendered_size wide and
// high. Endless. Floating reference. Throws DemoError.
GstElement* make_rendered_source();
inline constexpr int rendered_width = 504, rendered_height = 392;

// gst_element_factory_make() that throws DemoError, naming the package that has the element if it is known.
GstElement* make_element(const char* factory);

}  // namespace da3::demo
