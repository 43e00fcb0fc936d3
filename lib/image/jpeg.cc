// SPDX-License-Identifier: MIT
#include "image/jpeg.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <string>

// After cstdio: it needs FILE.
#include <jerror.h>
#include <jpeglib.h>

namespace da3::image {

struct JpegDecoder::State {
  jpeg_decompress_struct jpeg{};
  jpeg_error_mgr errors{};
  std::jmp_buf back;
  char text[JMSG_LENGTH_MAX] = {};
  bool damaged = false;

  static State& of(j_common_ptr jpeg) { return *static_cast<State*>(jpeg->client_data); }

  // libjpeg's way out of an error. It cannot be an exception: they may not pass through C.
  [[noreturn]] static void fail(j_common_ptr jpeg) {
    State& self = of(jpeg);
    jpeg->err->format_message(jpeg, self.text);
    std::longjmp(self.back, 1);
  }

  // libjpeg only warns when part of a picture stays grey or becomes wrong. What cameras write and leaves the
  // picture as it is does not count.
  static void note(j_common_ptr jpeg, int level) {
    if (level >= 0) return;  // it tells what it does
    switch (jpeg->err->msg_code) {
      case JWRN_ADOBE_XFORM:
      case JWRN_EXTRANEOUS_DATA:
      case JWRN_JFIF_MAJOR:
      case JWRN_NOT_SEQUENTIAL:
      case JWRN_TOO_MUCH_DATA:
        return;
      default:
        break;
    }
    State& self = of(jpeg);
    if (!self.damaged) jpeg->err->format_message(jpeg, self.text);
    self.damaged = true;
  }

  // Runs `body`, which must not have anything to destroy when libjpeg leaves it.
  template <typename Body>
  void run(const Body& body) {
    if (setjmp(back) != 0) {
      jpeg_abort_decompress(&jpeg);
      throw JpegError(std::string("This JPEG picture cannot be decoded: ") + text + ".");
    }
    body();
  }
};

JpegDecoder::JpegDecoder() : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.jpeg.err = jpeg_std_error(&s.errors);
  s.errors.error_exit = State::fail;
  s.errors.emit_message = State::note;
  s.jpeg.client_data = &s;
  s.run([&s] {
    jpeg_create_decompress(&s.jpeg);
    // It forgets everything but the error manager.
    s.jpeg.client_data = &s;
  });
}

JpegDecoder::~JpegDecoder() {
  jpeg_destroy_decompress(&state_->jpeg);
}

Size JpegDecoder::open(const uint8_t* file, size_t bytes) {
  State& s = *state_;
  jpeg_abort_decompress(&s.jpeg);
  s.damaged = false;
  s.run([&] {
    jpeg_mem_src(&s.jpeg, const_cast<uint8_t*>(file), static_cast<unsigned long>(bytes));
    jpeg_read_header(&s.jpeg, TRUE);
  });
  if (s.jpeg.jpeg_color_space == JCS_CMYK || s.jpeg.jpeg_color_space == JCS_YCCK) {
    jpeg_abort_decompress(&s.jpeg);
    throw JpegError("This JPEG picture has the four colours of a printer (CMYK); convert it to RGB or grey.");
  }
  s.jpeg.out_color_space = JCS_RGB;
  return {int(s.jpeg.image_width), int(s.jpeg.image_height)};
}

Size JpegDecoder::scale_to(Size least) {
  jpeg_decompress_struct& d = state_->jpeg;
  state_->run([&] {
    d.scale_denom = 8;
    for (d.scale_num = 1;; d.scale_num *= 2) {
      jpeg_calc_output_dimensions(&d);
      const bool enough = int(d.output_width) >= least.width && int(d.output_height) >= least.height;
      if (enough || d.scale_num == 8) break;
    }
  });
  return {int(d.output_width), int(d.output_height)};
}

void JpegDecoder::decode(uint8_t* rgb, size_t stride) {
  State& s = *state_;
  jpeg_decompress_struct& d = s.jpeg;
  s.run([&] {
    jpeg_start_decompress(&d);
    constexpr unsigned kRows = 16;
    JSAMPROW rows[kRows];
    while (d.output_scanline < d.output_height) {
      const unsigned count = std::min(kRows, d.output_height - d.output_scanline);
      for (unsigned i = 0; i < count; ++i) rows[i] = rgb + size_t(d.output_scanline + i) * stride;
      jpeg_read_scanlines(&d, rows, count);
    }
    jpeg_finish_decompress(&d);
  });
  if (s.damaged) throw JpegError(std::string("This JPEG picture is damaged: ") + s.text + ".");
}

}  // namespace da3::image
