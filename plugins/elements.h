// SPDX-License-Identifier: MIT
//
// What plugin.cc registers; each element's .cc ends with GST_ELEMENT_REGISTER_DEFINE(name, "name", GST_RANK_NONE, TYPE).
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

GST_ELEMENT_REGISTER_DECLARE(da3preprocess)
GST_ELEMENT_REGISTER_DECLARE(da3infer)
GST_ELEMENT_REGISTER_DECLARE(da3extract)
GST_ELEMENT_REGISTER_DECLARE(da3depthviz)
GST_ELEMENT_REGISTER_DECLARE(da3posesink)
GST_ELEMENT_REGISTER_DECLARE(da3score)
GST_ELEMENT_REGISTER_DECLARE(da3testsrc)

G_END_DECLS
