// SPDX-License-Identifier: MIT
#include "works/jpeg.h"

#include <algorithm>
#include <array>
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

struct Decoder {
  jpeg_decompress_struct state{};
  jpeg_error_mgr errors{};
  Decoder() {
    state.err = jpeg_std_error(&errors);
    errors.error_exit = fail;
    jpeg_create_decompress(&state);
  }
  ~Decoder() { jpeg_destroy_decompress(&state); }
};

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

void decode_jpeg(const std::vector<uint8_t>& file, int least_width, int least_height, DecodedImage* out) {
  Decoder decoder;
  jpeg_decompress_struct& d = decoder.state;
  jpeg_mem_src(&d, file.data(), static_cast<unsigned long>(file.size()));
  jpeg_read_header(&d, TRUE);
  d.out_color_space = JCS_RGB;
  if (least_width > 0 && least_height > 0) {
    d.scale_denom = 8;
    for (d.scale_num = 1; d.scale_num < 8; d.scale_num *= 2) {
      jpeg_calc_output_dimensions(&d);
      if (int(d.output_width) >= least_width && int(d.output_height) >= least_height) break;
    }
  }
  jpeg_start_decompress(&d);
  out->width = int(d.output_width);
  out->height = int(d.output_height);
  const size_t stride = size_t(out->width) * 3;
  out->rgb.resize(stride * size_t(out->height));
  std::array<JSAMPROW, 16> rows;
  while (d.output_scanline < d.output_height) {
    const unsigned count = std::min<unsigned>(rows.size(), d.output_height - d.output_scanline);
    for (unsigned i = 0; i < count; ++i) rows[i] = out->rgb.data() + (d.output_scanline + i) * stride;
    jpeg_read_scanlines(&d, rows.data(), count);
  }
  jpeg_finish_decompress(&d);
}

std::vector<uint8_t> encode_jpeg(const std::vector<uint8_t>& rgb, int width, int height, int quality) {
  Encoder encoder;
  jpeg_compress_struct& c = encoder.state;
  jpeg_mem_dest(&c, &encoder.buffer, &encoder.size);
  c.image_width = JDIMENSION(width);
  c.image_height = JDIMENSION(height);
  c.input_components = 3;
  c.in_color_space = JCS_RGB;
  jpeg_set_defaults(&c);
  jpeg_set_quality(&c, quality, TRUE);
  jpeg_start_compress(&c, TRUE);
  while (c.next_scanline < c.image_height) {
    JSAMPROW row = const_cast<uint8_t*>(rgb.data()) + size_t(c.next_scanline) * size_t(width) * 3;
    jpeg_write_scanlines(&c, &row, 1);
  }
  jpeg_finish_compress(&c);
  return {encoder.buffer, encoder.buffer + encoder.size};
}

}  // namespace da3::bench
