// SPDX-License-Identifier: MIT
#include "jpeg_boundary.h"

namespace da3::plugin {
namespace {

// Second bytes of markers (ITU-T T.81, table B.1).
constexpr guint8 kStartOfImage = 0xd8, kEndOfImage = 0xd9, kStartOfScan = 0xda, kTemporary = 0x01;
constexpr gsize kMostBytes = gsize(256) << 20;  // of one picture
constexpr guint8 kFirstRestart = 0xd0, kLastRestart = 0xd7;

bool stands_alone(guint8 marker) {
  return marker == kTemporary || (marker >= kFirstRestart && marker <= kLastRestart);
}

}  // namespace

JpegBoundary::Found JpegBoundary::find(GstAdapter* adapter) {
  const gsize available = gst_adapter_available(adapter);
  if (position_ == 0) {
    if (available < 4) return {};
    const gssize start = gst_adapter_masked_scan_uint32(adapter, 0xffffff00, 0xffd8ff00, 0, available);
    // The first bytes of a start may be the last that have come.
    if (start < 0) return {available - 3, 0, false};
    if (start > 0) return {gsize(start), 0, false};
    position_ = 2;
  }
  while (position_ + 4 <= available) {
    if (in_scan_) {
      // A zero after it, and restarts, belong to the data.
      const gssize next =
          gst_adapter_masked_scan_uint32(adapter, 0xff000000, 0xff000000, position_, available - position_);
      if (next < 0) {
        position_ = available - 3;
        break;
      }
      position_ = gsize(next);
    }
    guint8 bytes[4];
    gst_adapter_copy(adapter, bytes, position_, sizeof bytes);
    const guint8 marker = bytes[1];
    if (bytes[0] != 0xff || marker == 0xff) {
      ++position_;  // between segments: fill bytes, or such that do not belong there
    } else if (marker == 0 || stands_alone(marker)) {
      position_ += 2;
    } else if (marker == kEndOfImage || marker == kStartOfImage) {
      const bool complete = marker == kEndOfImage;
      const gsize size = complete ? position_ + 2 : position_;
      reset();
      return {0, size, complete};
    } else {
      position_ += 2 + gsize(bytes[2] << 8 | bytes[3]);
      in_scan_ = marker == kStartOfScan;
    }
  }
  if (available > kMostBytes) {
    reset();
    return {0, available, false};
  }
  // An end of image may be the last two bytes of all.
  if (position_ + 2 <= available && position_ + 4 > available) {
    guint8 bytes[3];
    const gsize left = available - position_;
    gst_adapter_copy(adapter, bytes, position_, left);
    for (gsize i = 0; i + 1 < left; ++i) {
      if (bytes[i] != 0xff || bytes[i + 1] != kEndOfImage) continue;
      const gsize size = position_ + i + 2;
      reset();
      return {0, size, true};
    }
  }
  return {};
}

}  // namespace da3::plugin
