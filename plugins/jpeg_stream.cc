// SPDX-License-Identifier: MIT
#include "jpeg_stream.h"

#include <algorithm>

namespace da3::plugin {
namespace {

// A stream that begins with so many buffers without a picture is no series of files.
constexpr gsize kMostMissed = 64;

bool starts_picture(GstAdapter* adapter, gsize position, gsize end) {
  if (position + 3 > end) return false;
  guint8 bytes[3];
  gst_adapter_copy(adapter, bytes, position, sizeof bytes);
  return bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

// Whether a picture begins there, or may do so in the last bytes. Films are often appended to photographs,
// and three bytes of one look like a beginning now and then: so the fourth must be that of a segment.
bool may_start_picture(GstAdapter* adapter, gsize begin, gsize end) {
  while (begin + 4 <= end) {
    const gssize found = gst_adapter_masked_scan_uint32(adapter, 0xffffff00, 0xffd8ff00, begin, end - begin);
    if (found < 0) break;
    guint8 marker;
    gst_adapter_copy(adapter, &marker, gsize(found) + 3, 1);
    if (marker >= 0xc0 && marker < 0xff) return true;
    begin = gsize(found) + 1;
  }
  guint8 last[3] = {};
  const gsize left = std::min<gsize>(end - begin, sizeof last);
  gst_adapter_copy(adapter, last, end - left, left);
  for (gsize from = 0; from < left; ++from) {
    constexpr guint8 kStart[] = {0xff, 0xd8, 0xff};
    if (std::equal(last + from, last + left, kStart)) return true;
  }
  return false;
}

}  // namespace

JpegStream::Step JpegStream::next(GstAdapter* adapter, bool at_eos) {
  const gsize available = gst_adapter_available(adapter);
  look(available, at_eos);
  if (layout_ == Layout::files && !missed_.empty()) return next_missed(available);
  return layout_ == Layout::files ? next_file(adapter, available, at_eos)
                                  : search(adapter, available, at_eos);
}

// Those that went by before the first picture, now that they are known to be files.
JpegStream::Step JpegStream::next_missed(gsize available) {
  const gsize bytes = missed_.front();
  missed_.pop_front();
  return take(What::no_picture, 0, available, bytes);
}

// Notes a buffer that has come since the last call. An empty one shows in the call alone.
void JpegStream::look(gsize available, bool at_eos) {
  const bool fresh = available > known_ || (!again_ && !at_eos);
  if (fresh && layout_ != Layout::blocks) begins_.push_back(known_);
  bytes_ += available - std::min(known_, available);
  known_ = available;
  again_ = false;
}

bool JpegStream::begins_at(gsize position, gsize available) const {
  return position == available || std::find(begins_.begin(), begins_.end(), position) != begins_.end();
}

JpegStream::Step JpegStream::take(What what, gsize size, gsize available, gsize bytes) {
  std::deque<gsize> left;
  for (const gsize begin : begins_) {
    if (begin >= size) left.push_back(begin - size);
  }
  begins_.swap(left);
  known_ = available - size;
  again_ = what == What::garbage || known_ > 0;
  return {what, size, bytes};
}

void JpegStream::these_are_blocks() {
  layout_ = Layout::blocks;
  begins_.clear();
  missed_.clear();
}

void JpegStream::miss(gsize bytes) {
  missed_.push_back(bytes);
  if (missed_.size() > kMostMissed) these_are_blocks();
}

// What the picture at the head says about the buffers, which begin anywhere so far.
void JpegStream::judge(const JpegBoundary::Found& found, gsize available) {
  if (layout_ == Layout::blocks) return;
  const auto inside = std::count_if(begins_.begin(), begins_.end(),
                                    [&](gsize begin) { return begin > 0 && begin < found.size; });
  const bool aligned = !begins_.empty() && begins_.front() == 0 && begins_at(found.size, available);
  if (!aligned || (found.complete && inside > 0)) {
    these_are_blocks();
  } else if (found.complete) {
    layout_ = Layout::files;
  } else {
    // Breaks off, and buffers without a picture follow: perhaps files of their own.
    for (size_t i = 1; i < begins_.size() && begins_[i] < found.size; ++i) {
      const gsize end = i + 1 < begins_.size() ? begins_[i + 1] : available;
      missed_.push_back(end - begins_[i]);
    }
    if (missed_.size() > kMostMissed) these_are_blocks();
  }
}

// Whether the first buffer is a picture with something else behind it.
bool JpegStream::ends_in_other_data(GstAdapter* adapter, const JpegBoundary::Found& found) const {
  if (layout_ != Layout::unknown || !found.complete || begins_.empty() || begins_.front() != 0) return false;
  const gsize end = end_of_first(known_);
  return found.size < end && !may_start_picture(adapter, found.size, end);
}

JpegStream::Step JpegStream::search(GstAdapter* adapter, gsize available, bool at_eos) {
  // Empty buffers in front of what is at the head.
  while (layout_ == Layout::unknown && !boundary_.inside() && !begins_.empty() && begins_.front() == 0 &&
         end_of_first(available) == 0) {
    begins_.pop_front();
    miss(0);
  }
  const JpegBoundary::Found found = boundary_.find(adapter);
  if (found.garbage > 0) {
    // Buffers that end before the picture hold none. (What has no beginning any more has been counted.)
    for (size_t i = 0; i < begins_.size() && layout_ == Layout::unknown; ++i) {
      if (begins_[i] >= found.garbage) break;
      miss((i + 1 < begins_.size() ? begins_[i + 1] : available) - begins_[i]);
    }
    return take(What::garbage, found.garbage, available);
  }
  if (found.size > 0) {
    if (ends_in_other_data(adapter, found)) {
      // A file of its own, if the next buffer that is not empty begins with a picture.
      const gsize end = end_of_first(available);
      if (end == available && !at_eos) return {};
      if (end < available ? starts_picture(adapter, end, available) : begins_.size() > 1) {
        layout_ = Layout::files;
        return missed_.empty() ? take(What::picture, end, available) : next_missed(available);
      }
    }
    judge(found, available);
    if (layout_ == Layout::files && !missed_.empty()) return next_missed(available);
    return take(What::picture, found.size, available);
  }
  if (!at_eos || available == 0) return {};
  // What began and has no end goes to the decoder, which says so.
  const bool inside = boundary_.inside();
  boundary_.reset();
  return take(inside ? What::picture : What::garbage, available, available);
}

JpegStream::Step JpegStream::next_file(GstAdapter* adapter, gsize available, bool at_eos) {
  if (begins_.empty()) return {};
  const gsize end = end_of_first(available);
  if (!boundary_.inside() && !starts_picture(adapter, 0, end)) {
    // It may come later in the buffer.
    const gssize start =
        end < 4 ? -1 : gst_adapter_masked_scan_uint32(adapter, 0xffffff00, 0xffd8ff00, 0, end);
    if (start <= 0) {
      begins_.pop_front();
      return take(What::no_picture, end, available, end);
    }
    const Step step = take(What::garbage, gsize(start), available);
    begins_.push_front(0);
    return step;
  }
  // One that breaks off ends where the next one begins. Until then what follows may still belong to it.
  const bool next_begins = std::any_of(begins_.begin() + 1, begins_.end(), [&](gsize begin) {
    return starts_picture(adapter, begin, available);
  });
  JpegBoundary::Found found;
  if (!next_begins || !boundary_.inside()) found = boundary_.find(adapter);
  if (found.size == 0 && !next_begins && !at_eos) return {};
  boundary_.reset();
  const bool two_in_one = found.complete && found.size < end && may_start_picture(adapter, found.size, end);
  const bool goes_on = found.complete && found.size > end && !next_begins;
  if (!two_in_one && !goes_on) return take(What::picture, end, available);
  these_are_blocks();
  return take(What::picture, found.size, available);
}

}  // namespace da3::plugin
