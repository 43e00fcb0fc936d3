// SPDX-License-Identifier: MIT
#include "works/jpeg.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

// After cstdio: it needs FILE.
#include <jpeglib.h>

namespace da3::bench {
namespace {

[[noreturn]] void fail(j_common_ptr state) {
  char text[JMSG_LENGTH_MAX];
  state->err->format_message(state, text);
  throw std::runtime_error(std::string("JPEG: ") + text);
}

struct Encoder {
  jpeg_compress_struct state{};
  jpeg_error_mgr errors{};
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  Encoder() {
    state.err = jpeg_std_error(&errors);
    errors.error_exit = fail;
    jpeg_create_compress(&state);
  }
  ~Encoder() {
    jpeg_destroy_compress(&state);
    std::free(buffer);
  }
};

}  // namespace

std::vector<uint8_t> encode_jpeg(const std::vector<uint8_t>& pixels, int width, int height, int quality,
                                 bool progressive) {
  const bool grey = pixels.size() == size_t(width) * size_t(height);
  Encoder encoder;
  jpeg_compress_struct& c = encoder.state;
  jpeg_mem_dest(&c, &encoder.buffer, &encoder.size);
  c.image_width = JDIMENSION(width);
  c.image_height = JDIMENSION(height);
  c.input_components = grey ? 1 : 3;
  c.in_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&c);
  jpeg_set_quality(&c, quality, TRUE);
  if (progressive) jpeg_simple_progression(&c);
  jpeg_start_compress(&c, TRUE);
  while (c.next_scanline < c.image_height) {
    JSAMPROW row = const_cast<uint8_t*>(pixels.data()) +
                   size_t(c.next_scanline) * size_t(width) * size_t(c.input_components);
    jpeg_write_scanlines(&c, &row, 1);
  }
  jpeg_finish_compress(&c);
  return {encoder.buffer, encoder.buffer + encoder.size};
}

}  // namespace da3::bench
