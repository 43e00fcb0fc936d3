#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Depth in colours over the network, as H.264 in RTP.
#
#   pipelines/stream-udp.sh [HOST] [PORT]
#
# To look at it, on HOST (default: 127.0.0.1, port 5004):
#   gst-launch-1.0 udpsrc port=5004 caps=application/x-rtp,media=video,encoding-name=H264,payload=96 ! \
#     rtph264depay ! avdec_h264 ! videoconvert ! autovideosink

. "$(dirname "$0")/common.sh"
host=${1:-127.0.0.1}
port=${2:-5004}

exec gst-launch-1.0 -e da3testsrc scene=street path=drive is-live=true num-buffers="$num_buffers" ! \
  video/x-raw,width=640,height=360,framerate=15/1 ! queue leaky=downstream max-size-buffers=1 ! \
  da3infer model="$model" process-res="$process_res" max-batch=1 ! da3depthviz layout=side-by-side ! videoconvert ! \
  x264enc tune=zerolatency key-int-max=30 ! rtph264pay ! udpsink host="$host" port="$port"
