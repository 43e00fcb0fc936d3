#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A video file to a video of its depth and its camera poses.
#
#   pipelines/video-file.sh INPUT [OUTPUT.mp4] [POSES.tum]
#
# INPUT is anything that GStreamer decodes. Every frame is kept, however slow the model. VIEWS frames are inferred together
# and share one world (default: 4). Groups are not joined: POSES is one short trajectory for each group. With
# VIEWS=1 each pose is in a world of its own and says nothing about motion.

. "$(dirname "$0")/common.sh"
[ $# -ge 1 ] || fail "which video? ($0 --help)"
[ -f "$1" ] || fail "there is no file $1"
output=${2:-depth.mp4}
poses=${3:-poses.tum}

exec gst-launch-1.0 -e filesrc location="$(quoted "$1")" ! decodebin ! videoconvert ! "${limit[@]}" ! \
  da3infer model="$model" process-res="$process_res" views="${VIEWS:-4}" ! tee name=results \
  results. ! queue ! da3depthviz layout=side-by-side ! videoconvert ! x264enc tune=zerolatency ! mp4mux ! \
  filesink location="$(quoted "$output")" \
  results. ! queue ! da3posesink location="$(quoted "$poses")" format=tum
