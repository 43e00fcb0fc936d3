#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Depth of a live camera, in colours beside the picture.
#
#   pipelines/live-camera.sh [DEVICE]
#
# DEVICE defaults to /dev/video0; without a camera a rendered room, live, stands in. SINK is the video sink (default:
# autovideosink). A leaky queue keeps the newest frame: what is shown is now, however slow the model.

. "$(dirname "$0")/common.sh"
device=${1:-/dev/video0}
sink=${SINK:-autovideosink}

if [ -c "$device" ]; then
  source=(v4l2src device="$device" num-buffers="$num_buffers" ! videoconvert)
else
  echo "no camera at $device: a rendered room stands in" >&2
  source=(da3testsrc scene=room path=handheld is-live=true num-buffers="$num_buffers" !
    video/x-raw,width=640,height=360,framerate=30/1)
fi

# shellcheck disable=SC2086
exec gst-launch-1.0 -e "${source[@]}" ! queue leaky=downstream max-size-buffers=1 ! \
  da3infer model="$model" process-res="$process_res" max-batch=1 ! \
  da3depthviz layout=side-by-side ! videoconvert ! $sink
