// SPDX-License-Identifier: MIT
#pragma once

#include <gst/video/gstvideodecoder.h>

G_BEGIN_DECLS

#define GST_TYPE_DA3_JPEG_DEC (gst_da3_jpeg_dec_get_type())
G_DECLARE_FINAL_TYPE(GstDa3JpegDec, gst_da3_jpeg_dec, GST, DA3_JPEG_DEC, GstVideoDecoder)

G_END_DECLS
