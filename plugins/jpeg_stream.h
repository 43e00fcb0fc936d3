// SPDX-License-Identifier: MIT
//
// Cuts a stream of bytes into JPEG pictures. Such a stream is a file that is read in blocks, of any length,
// or one file in each buffer (multifilesrc); nothing says which. A first picture that fills its buffer shows
// the latter: from then on each buffer counts as a picture, whatever it holds, so that those that are none
// are missed. One that goes on in the next buffer, or shares its buffer with another, shows that they are
// blocks. Other data behind a picture (the film of a motion photo, padding) belongs to its file, and so do
// pictures that its MPF segment names (a phone's gain map, the other eye of a stereo camera): they are no
// pictures of the stream.
#pragma once

#include <gst/base/gstadapter.h>

#include <deque>

#include "jpeg_boundary.h"

namespace da3::plugin {

class JpegStream {
 public:
  enum class What {
    need_data,
    garbage,     // bytes that belong to no picture
    picture,     // what began as one; it need not be whole
    no_picture,  // a buffer that should have been one; its bytes, if it has any here, are to be thrown away
  };
  struct Step {
    What what = What::need_data;
    gsize size = 0;   // to be taken out of the adapter before the next step
    gsize bytes = 0;  // of what is no picture
  };
  // For each call of the base class's parse() a step; after garbage another one.
  Step next(GstAdapter* adapter, bool at_eos);
  // Buffers came, all of them empty.
  bool only_empty() const { return layout_ == Layout::unknown && !missed_.empty() && bytes_ == 0; }
  void reset() { *this = JpegStream(); }

 private:
  enum class Layout { unknown, files, blocks };

  void look(gsize available, bool at_eos);
  Step next_missed(gsize available);
  Step search(GstAdapter* adapter, gsize available, bool at_eos);
  Step next_file(GstAdapter* adapter, gsize available, bool at_eos);
  Step take(What what, gsize size, gsize available, gsize bytes = 0);
  Layout layout_beside(GstAdapter* adapter, const JpegBoundary::Found& found, gsize available,
                       bool at_eos) const;
  void judge(const JpegBoundary::Found& found, gsize available);
  void miss(gsize bytes);
  gsize end_of_first(gsize available) const { return begins_.size() > 1 ? begins_[1] : available; }
  bool begins_at(gsize position, gsize available) const;
  void these_are_blocks();

  Layout layout_ = Layout::unknown;
  JpegBoundary boundary_;
  gsize known_ = 0;       // bytes of the adapter that have been seen
  gsize companions_ = 0;  // of the last picture in blocks, still to come
  bool again_ = false;    // the base class calls once more without a new buffer
  gsize bytes_ = 0;       // of the whole stream
  // Unless they are blocks: where in the adapter buffers begin, and the sizes of those without a picture that
  // have gone by before it was known what they are.
  std::deque<gsize> begins_, missed_;
};

}  // namespace da3::plugin
