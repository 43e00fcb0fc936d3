// SPDX-License-Identifier: MIT
#pragma once

#include <gst/base/gstpushsrc.h>

G_BEGIN_DECLS

#define GST_TYPE_DA3_TEST_SRC (gst_da3_test_src_get_type())
G_DECLARE_FINAL_TYPE(GstDa3TestSrc, gst_da3_test_src, GST, DA3_TEST_SRC, GstPushSrc)

G_END_DECLS
