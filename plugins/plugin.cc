// SPDX-License-Identifier: MIT
#include <gst/gst.h>

#include "elements.h"

static gboolean plugin_init(GstPlugin* plugin) {
  gboolean any = FALSE;
#ifdef HAVE_DA3JPEGDEC
  any |= GST_ELEMENT_REGISTER(da3jpegdec, plugin);
#endif
#ifdef HAVE_DA3PREPROCESS
  any |= GST_ELEMENT_REGISTER(da3preprocess, plugin);
#endif
#ifdef HAVE_DA3INFER
  any |= GST_ELEMENT_REGISTER(da3infer, plugin);
#endif
#ifdef HAVE_DA3EXTRACT
  any |= GST_ELEMENT_REGISTER(da3extract, plugin);
#endif
#ifdef HAVE_DA3DEPTHVIZ
  any |= GST_ELEMENT_REGISTER(da3depthviz, plugin);
#endif
#ifdef HAVE_DA3POSESINK
  any |= GST_ELEMENT_REGISTER(da3posesink, plugin);
#endif
#ifdef HAVE_DA3SCORE
  any |= GST_ELEMENT_REGISTER(da3score, plugin);
#endif
#ifdef HAVE_DA3TESTSRC
  any |= GST_ELEMENT_REGISTER(da3testsrc, plugin);
#endif
  return any;
}

#define PACKAGE "gst-da3"
GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, da3, "Depth Anything 3: depth and camera pose", plugin_init,
                  DA3_VERSION, "MIT/X11", "gst-da3", "gst-da3")
