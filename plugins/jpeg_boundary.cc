// SPDX-License-Identifier: MIT
#include "jpeg_boundary.h"

#include <cstring>
#include <vector>

namespace da3::plugin {
namespace {

// Second bytes of markers (ITU-T T.81, table B.1).
constexpr guint8 kStartOfImage = 0xd8, kEndOfImage = 0xd9, kStartOfScan = 0xda, kTemporary = 0x01;
constexpr gsize kMostBytes = gsize(256) << 20;  // of one picture
constexpr guint8 kFirstRestart = 0xd0, kLastRestart = 0xd7, kApp2 = 0xe2;

bool stands_alone(guint8 marker) {
  return marker == kTemporary || (marker >= kFirstRestart && marker <= kLastRestart);
}

// The number of pictures in a Multi-Picture Format index: "MPF", then a TIFF structure whose first directory
// has it under tag 0xb001. 1 for what is none.
gsize pictures_of(const std::vector<guint8>& payload) {
  constexpr char kName[4] = "MPF";
  constexpr guint32 kNumberOfImages = 0xb001, kMost = 100;
  if (payload.size() < 12 || std::memcmp(payload.data(), kName, sizeof kName) != 0) return 1;
  const guint8* const tiff = payload.data() + sizeof kName;
  const gsize size = payload.size() - sizeof kName;
  const bool little = tiff[0] == 'I';
  const auto number = [&](gsize at, gsize bytes) {
    guint32 value = 0;
    for (gsize i = 0; i < bytes; ++i) value = value << 8 | tiff[at + (little ? bytes - 1 - i : i)];
    return value;
  };
  const gsize directory = number(4, 4);
  if (directory > size || size - directory < 2) return 1;
  const gsize entries = number(directory, 2);
  for (gsize i = 0; i < entries && directory + 2 + 12 * (i + 1) <= size; ++i) {
    const gsize entry = directory + 2 + 12 * i;
    if (number(entry, 2) != kNumberOfImages) continue;
    const guint32 count = number(entry + 8, 4);
    return count >= 1 && count <= kMost ? count : 1;
  }
  return 1;
}

}  // namespace

JpegBoundary::Found JpegBoundary::find(GstAdapter* adapter) {
  const gsize available = gst_adapter_available(adapter);
  if (position_ == 0) {
    if (available < 4) return {};
    const gssize start = gst_adapter_masked_scan_uint32(adapter, 0xffffff00, 0xffd8ff00, 0, available);
    // The first bytes of a start may be the last that have come.
    if (start < 0) return {available - 3, 0, false, 0};
    if (start > 0) return {gsize(start), 0, false, 0};
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
      const Found found{0, complete ? position_ + 2 : position_, complete, complete ? companions_ : 0};
      reset();
      return found;
    } else {
      const gsize length = gsize(bytes[2] << 8 | bytes[3]);
      if (marker == kApp2 && length > 2) {
        if (position_ + 2 + length > available) break;
        std::vector<guint8> payload(length - 2);
        gst_adapter_copy(adapter, payload.data(), position_ + 4, payload.size());
        if (const gsize count = pictures_of(payload); count > 1) companions_ = count - 1;
      }
      position_ += 2 + length;
      in_scan_ = marker == kStartOfScan;
    }
  }
  if (available > kMostBytes) {
    reset();
    return {0, available, false, 0};
  }
  // An end of image may be the last two bytes of all.
  if (position_ + 2 <= available && position_ + 4 > available) {
    guint8 bytes[3];
    const gsize left = available - position_;
    gst_adapter_copy(adapter, bytes, position_, left);
    for (gsize i = 0; i + 1 < left; ++i) {
      if (bytes[i] != 0xff || bytes[i + 1] != kEndOfImage) continue;
      const Found found{0, position_ + i + 2, true, companions_};
      reset();
      return found;
    }
  }
  return {};
}

}  // namespace da3::plugin
