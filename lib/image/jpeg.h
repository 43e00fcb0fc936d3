// SPDX-License-Identifier: MIT
//
// A JPEG picture in memory -> RGB, through libjpeg. One that is far larger than what is needed of it can be
// decoded at a half, a quarter or an eighth of its size, by taking fewer terms of its cosine transform:
// faster, and close to a box average of the whole picture, but not equal to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>

#include "image/process_size.h"

namespace da3::image {

// A sentence that says what is wrong with the file.
class JpegError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Used by one thread at a time.
class JpegDecoder {
 public:
  // What is larger is refused: a header of a few bytes must not take all memory.
  static constexpr int64_t kMostPixels = int64_t(1) << 28;

  JpegDecoder();
  ~JpegDecoder();
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  // Reads the header of `file`, which must stay where it is until decode() is through. Returns the size of
  // the picture. Throws JpegError.
  Size open(const uint8_t* file, size_t bytes);
  // Chooses the smallest of 1/8, 1/4, 1/2 and 1 of the size that is not below `least` on either side, 1 when
  // none is. Returns the size that decode() writes, rounded up. (libjpeg-turbo has no fast way to the other
  // eighths.)
  Size scale_to(Size least);
  // Writes rows of 3 bytes a pixel, `stride` bytes apart; at full size unless scale_to() said otherwise.
  // Throws JpegError, also for pictures that break off or whose data are damaged; what was written until then
  // means nothing. That nothing but the end marker is missing, as some cameras have it, is no damage.
  void decode(uint8_t* rgb, size_t stride);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace da3::image
