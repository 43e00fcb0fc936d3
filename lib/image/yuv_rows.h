// SPDX-License-Identifier: MIT
//
// Rows of a Y'CbCr picture with a chroma sample for each pixel, whatever the layout of its planes.
#pragma once

#include <cstdint>
#include <vector>

#include "image/yuv.h"

namespace da3::image {

// As many samples as the picture has columns.
template <typename Code>
struct YuvRow {
  const Code *y, *u, *v;
};

// Missing chroma is put in linearly, in integers: along rows (3a + b + 2) / 4 and (a + 3b + 2) / 4 between
// two samples, or (a + b + 1) / 2 where one lies on its pixel; then between rows, as the former. At the edges
// the sample at hand is repeated. These are GstVideoConverter's bytes (GStreamer, video-chroma.c: h2, h2_cs,
// v2).
//
// For rows of ascending numbers; others are right too, but slower. Not thread-safe. `in` must outlive it. 8
// bits.
class YuvRows {
 public:
  explicit YuvRows(const ConstYuv& in);
  // Lives until the next call of at().
  YuvRow<uint8_t> at(int y);

 private:
  const uint8_t* samples(int plane, int row, int count, std::vector<uint8_t>& split) const;
  const uint8_t* chroma(int plane, int row);
  const uint8_t* chroma_between(int plane, int y);

  const ConstYuv& in_;
  std::vector<uint8_t> luma_, split_;
  // Of both chroma planes: rows of full width (that of row r at r % 2), and what lies between them.
  struct Chroma {
    std::vector<uint8_t> rows[2];
    int numbers[2] = {-1, -1};
    std::vector<uint8_t> between;
  };
  Chroma chroma_[2];
};

}  // namespace da3::image
