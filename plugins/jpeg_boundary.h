// SPDX-License-Identifier: MIT
//
// Where JPEG pictures end in a stream of bytes that says nothing about it (a file that is read in blocks).
#pragma once

#include <gst/base/gstadapter.h>

namespace da3::plugin {

class JpegBoundary {
 public:
  struct Found {
    gsize garbage = 0;  // bytes before the picture, to be thrown away
    gsize size = 0;     // of the picture that begins there; 0: it has not ended yet, or not begun. Some
                        // cameras leave out its end: the start of the next one, or far too many bytes, end it
    bool complete = false;  // it has its end
    // Pictures behind it that belong to it, as its MPF segment says (CIPA DC-007): the other eye of a stereo
    // camera, the gain map of a phone.
    gsize companions = 0;
  };
  // Looks on where it stopped, in what `adapter` has. After garbage or a picture was found, the caller takes
  // it out of the adapter, and the next search begins at its start.
  Found find(GstAdapter* adapter);
  // A picture has begun that has not ended.
  bool inside() const { return position_ > 0; }
  void reset() { *this = JpegBoundary(); }

 private:
  gsize position_ = 0;    // in the adapter: all before it is known
  gsize companions_ = 0;  // of the picture that has begun
  bool in_scan_ = false;  // between markers there is compressed data
};

}  // namespace da3::plugin
