#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A video file to a video of its depth and a trajectory.
#
#   pipelines/video-file.sh INPUT [OUTPUT.mp4] [POSES.tum]
#
# INPUT is anything that GStreamer decodes. Every frame is kept, however slow the model.

. "$(dirname "$0")/common.sh"
[ $# -ge 1 ] || fail "which video? ($0 --help)"
[ -f "$1" ] || fail "there is no file $1"
output=${2:-depth.mp4}
poses=${3:-poses.tum}

exec gst-launch-1.0 -e uridecodebin uri="file://$(realpath "$1")" ! videoconvert ! \
  identity eos-after="$([ "$num_buffers" -lt 0 ] && echo -1 || echo $((num_buffers + 1)))" ! \
  da3infer model="$model" process-res="$process_res" ! tee name=results \
  results. ! queue ! da3depthviz layout=side-by-side ! videoconvert ! x264enc tune=zerolatency ! mp4mux ! \
  filesink location="$output" \
  results. ! queue ! da3posesink location="$poses" format=tum
