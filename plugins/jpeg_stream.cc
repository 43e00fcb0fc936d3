// SPDX-License-Identifier: MIT
#include "jpeg_stream.h"

#include <algorithm>
#include <utility>

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

bool is_segment(const guint8* marker) {
  return marker[0] == 0xff && marker[1] >= 0xc0 && marker[1] < 0xff;
}

// `prefix`: the last bytes may be the first of one; `cut_off`: it has a segment that ends behind the last
// byte.
enum class Start { none, prefix, cut_off, whole };

// Whether a picture begins somewhere there. Films are often appended to photographs, and some bytes of one
// look like a beginning now and then: so a segment must follow it, and behind that another one.
Start find_start(GstAdapter* adapter, gsize begin, gsize end) {
  constexpr gsize kHead = 6;  // start of image, marker and length of a segment
  while (begin + kHead <= end) {
    const gssize found =
        gst_adapter_masked_scan_uint32(adapter, 0xffffff00, 0xffd8ff00, begin, end - begin - 2);
    if (found < 0) break;
    begin = gsize(found);
    guint8 head[kHead], next[2];
    gst_adapter_copy(adapter, head, begin, kHead);
    const gsize behind = begin + 4 + gsize(head[4] << 8 | head[5]);
    if (is_segment(head + 2)) {
      if (behind + 2 > end) return Start::cut_off;
      gst_adapter_copy(adapter, next, behind, sizeof next);
      if (is_segment(next) || (next[0] == 0xff && next[1] == 0xff)) return Start::whole;
    }
    ++begin;
  }
  if (begin >= end) return Start::none;
  guint8 last[kHead - 1] = {};
  const gsize left = std::min<gsize>(end - begin, sizeof last);
  gst_adapter_copy(adapter, last, end - left, left);
  for (gsize from = 0; from < left; ++from) {
    constexpr guint8 kStart[] = {0xff, 0xd8, 0xff};
    const gsize bytes = std::min<gsize>(left - from, sizeof kStart);
    if (std::equal(last + from, last + from + bytes, kStart)) return Start::prefix;
  }
  return Start::none;
}

// Whether a picture begins in the last bytes before `boundary` and goes on behind it.
bool straddles(GstAdapter* adapter, gsize boundary, gsize available) {
  for (gsize begin = boundary - std::min<gsize>(boundary, 5); begin < boundary; ++begin)
    if (starts_picture(adapter, begin, available)) return true;
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

// What the buffers are whose first one is a picture with something else behind it. One that is a file of its
// own is followed by buffers that begin with a picture or hold none.
JpegStream::Layout JpegStream::layout_beside(GstAdapter* adapter, const JpegBoundary::Found& found,
                                             gsize available, bool at_eos) const {
  const gsize end = end_of_first(available);
  if (begins_.empty() || begins_.front() != 0) return Layout::blocks;
  const Start second = found.companions > 0 ? Start::none : find_start(adapter, found.size, end);
  if (second == Start::whole) return Layout::blocks;
  for (size_t i = 1; i < begins_.size(); ++i) {
    const gsize begin = begins_[i], behind = i + 1 < begins_.size() ? begins_[i + 1] : available;
    if (starts_picture(adapter, begin, behind)) return Layout::files;
    const Start here = find_start(adapter, begin, behind);
    if (second == Start::cut_off || straddles(adapter, begin, behind) || here >= Start::cut_off)
      return Layout::blocks;
  }
  if (!at_eos) return begins_.size() > kMostMissed ? Layout::blocks : Layout::unknown;
  return begins_.size() > 1 ? Layout::files : Layout::blocks;
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
    const bool more = layout_ == Layout::unknown && !begins_at(found.size, available);
    if (more && found.complete && found.size < end_of_first(available)) {
      layout_ = layout_beside(adapter, found, available, at_eos);
      if (layout_ == Layout::unknown) return {};
      if (layout_ == Layout::files)
        return missed_.empty() ? take(What::picture, end_of_first(available), available)
                               : next_missed(available);
      these_are_blocks();
    }
    judge(found, available);
    if (layout_ == Layout::files && !missed_.empty()) return next_missed(available);
    if (std::exchange(companions_, companions_ > 0 ? companions_ - 1 : found.companions) > 0)
      return take(What::garbage, found.size, available);
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
  Start second = Start::none;
  if (found.complete && found.size < end && found.companions == 0)
    second = find_start(adapter, found.size, end);
  // The next buffer shows whether it is one.
  if ((second == Start::prefix || second == Start::cut_off) && !next_begins) {
    if (end == available && !at_eos) return {};
    if (second == Start::cut_off ? end < available : straddles(adapter, end, available))
      second = Start::whole;
  }
  const bool goes_on = found.complete && found.size > end && !next_begins;
  if (second != Start::whole && !goes_on) return take(What::picture, end, available);
  these_are_blocks();
  return take(What::picture, found.size, available);
}

}  // namespace da3::plugin
