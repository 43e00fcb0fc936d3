/* SPDX-License-Identifier: MIT
 *
 * libgstda3-1.0: depth, confidence, pose and intrinsics as they travel with video frames.
 * Link with `pkg-config --cflags --libs gstda3-1.0`. C, no LibTorch.
 */
#ifndef GST_DA3_H
#define GST_DA3_H

#include <gst/da3/da3api.h>
#include <gst/da3/da3tensor.h>
#include <gst/da3/da3view.h>

#endif
