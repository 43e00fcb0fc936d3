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
  jpeg_source_mgr source{};
  std::jmp_buf back;
  char text[JMSG_LENGTH_MAX] = {};
  bool made = false, damaged = false, ran_out = false;

  ~State() { unmake(); }

  static State& of(j_common_ptr jpeg) { return *static_cast<State*>(jpeg->client_data); }
  static State& of(j_decompress_ptr jpeg) { return *static_cast<State*>(jpeg->client_data); }

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

  // All of the file is there from the start. Behind it libjpeg sees the marker that ends a picture; within
  // the data of one it then warns.
  static void nothing(j_decompress_ptr) {}
  static boolean run_out(j_decompress_ptr jpeg) {
    static const JOCTET end[] = {0xff, JPEG_EOI};
    of(jpeg).ran_out = true;
    jpeg->src->next_input_byte = end;
    jpeg->src->bytes_in_buffer = sizeof end;
    return TRUE;
  }
  static void skip(j_decompress_ptr jpeg, long count) {
    if (count <= 0) return;
    const size_t there = jpeg->src->bytes_in_buffer;
    if (size_t(count) > there) {
      run_out(jpeg);
    } else {
      jpeg->src->next_input_byte += count;
      jpeg->src->bytes_in_buffer -= size_t(count);
    }
  }

  // Runs `body`, which must not have anything to destroy when libjpeg leaves it.
  template <typename Body>
  void run(const Body& body) {
    if (setjmp(back) != 0) {
      unmake();
      throw JpegError(std::string("This JPEG picture cannot be decoded: ") + text + ".");
    }
    body();
  }

  // Anew for each picture: tables of one, perhaps a damaged one, are not for the next.
  void make() {
    unmake();
    jpeg.err = jpeg_std_error(&errors);
    errors.error_exit = fail;
    errors.emit_message = note;
    jpeg.client_data = this;
    run([this] {
      jpeg_create_decompress(&jpeg);
      made = true;
      jpeg.client_data = this;
    });
    source.init_source = nothing;
    source.fill_input_buffer = run_out;
    source.skip_input_data = skip;
    source.resync_to_restart = jpeg_resync_to_restart;
    source.term_source = nothing;
    jpeg.src = &source;
    damaged = ran_out = false;
  }

  void unmake() {
    if (made) jpeg_destroy_decompress(&jpeg);
    made = false;
  }
};

JpegDecoder::JpegDecoder() : state_(std::make_unique<State>()) {}
JpegDecoder::~JpegDecoder() = default;

Size JpegDecoder::open(const uint8_t* file, size_t bytes) {
  State& s = *state_;
  s.make();
  s.source.next_input_byte = file;
  s.source.bytes_in_buffer = bytes;
  s.run([&s] { jpeg_read_header(&s.jpeg, TRUE); });
  const auto refuse = [&s](const std::string& why) {
    s.unmake();
    throw JpegError(why);
  };
  if (s.jpeg.jpeg_color_space == JCS_CMYK || s.jpeg.jpeg_color_space == JCS_YCCK)
    refuse("This JPEG picture has the four colours of a printer (CMYK); convert it to RGB or grey.");
  const Size size = {int(s.jpeg.image_width), int(s.jpeg.image_height)};
  // Of a progressive one all coefficients are kept, whatever it is scaled to.
  if (int64_t(size.width) * size.height > kMostPixels)
    refuse("A JPEG picture of " + std::to_string(size.width) + "x" + std::to_string(size.height) +
           " pixels is too large.");
  s.jpeg.out_color_space = JCS_RGB;
  return size;
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
  bool progressive = false;
  s.run([&] {
    jpeg_start_decompress(&d);
    progressive = jpeg_has_multiple_scans(&d) != 0;
    constexpr unsigned kRows = 16;
    JSAMPROW rows[kRows];
    while (d.output_scanline < d.output_height && !s.damaged) {
      const unsigned count = std::min(kRows, d.output_height - d.output_scanline);
      for (unsigned i = 0; i < count; ++i) rows[i] = rgb + size_t(d.output_scanline + i) * stride;
      jpeg_read_scanlines(&d, rows, count);
    }
    if (!s.damaged) jpeg_finish_decompress(&d);
  });
  // A progressive one may break off between two passes over the picture, which nothing else shows.
  const bool incomplete = s.ran_out && progressive;
  s.unmake();
  if (s.damaged) throw JpegError(std::string("This JPEG picture is damaged: ") + s.text + ".");
  if (incomplete) throw JpegError("This JPEG picture is damaged: it breaks off.");
}

}  // namespace da3::image
