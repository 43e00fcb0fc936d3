/* SPDX-License-Identifier: MIT
 *
 * Reads depth and camera pose in an application: everything before appsink is a pipeline as on the command line, and
 * libgstda3-1.0 takes the results off each buffer. Build: cc depth_reader.c $(pkg-config --cflags --libs gstda3-1.0
 * gstreamer-app-1.0). Run: depth_reader "da3testsrc num-buffers=3 ! da3infer model=synthetic:da3-small"
 */
#include <gst/app/gstappsink.h>
#include <gst/da3/da3.h>

static void print_frame (GstBuffer * buffer) {
  GstDa3View view;
  GstDa3Tensor depth;
  GstMapInfo map;
  if (!gst_buffer_get_da3_view (buffer, &view)) return;
  g_print ("frame %" G_GINT64_FORMAT " (%s)", view.frame, view.model);
  if (view.has_intrinsics)
    g_print (": fx %.1f fy %.1f px", view.fx, view.fy);
  if (view.has_extrinsics)
    g_print (", t = %.3f %.3f %.3f", view.translation[0], view.translation[1], view.translation[2]);
  if (gst_buffer_get_da3_tensor (buffer, GST_DA3_TENSOR_DEPTH, &depth)
      && gst_buffer_map (depth.data, &map, GST_MAP_READ)) {
    const float *values = (const float *) map.data; /* [1, H, W] */
    gsize h = depth.dims[1], w = depth.dims[2];
    g_print (", depth in the middle %.3f %s", values[(h / 2) * w + w / 2],
        view.kind == GST_DA3_DEPTH_KIND_METRIC ? "m" : "(relative)");
    gst_buffer_unmap (depth.data, &map);
  }
  g_print ("\n");
}

int main (int argc, char **argv) {
  gst_init (&argc, &argv);
  if (argc != 2) {
    g_printerr ("usage: depth_reader 'SOURCE ! ... ! da3infer model=...'\n");
    return 2;
  }
  GError *error = NULL;
  gchar *description = g_strdup_printf ("%s ! appsink name=out sync=false", argv[1]);
  GstElement *pipeline = gst_parse_launch (description, &error);
  g_free (description);
  if (error != NULL) {
    g_printerr ("%s\n", error->message);
    return 1;
  }
  GstBus *bus = gst_element_get_bus (pipeline);
  GstAppSink *out = GST_APP_SINK (gst_bin_get_by_name (GST_BIN (pipeline), "out"));
  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  for (GstSample * sample; (sample = gst_app_sink_pull_sample (out)) != NULL; gst_sample_unref (sample))
    print_frame (gst_sample_get_buffer (sample));
  GstMessage *message = gst_bus_pop_filtered (bus, GST_MESSAGE_ERROR);
  if (message != NULL) {
    gst_message_parse_error (message, &error, NULL);
    g_printerr ("%s\n", error->message);
  }
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (out);
  gst_object_unref (bus);
  gst_object_unref (pipeline);
  return message != NULL;
}
