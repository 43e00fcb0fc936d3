#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Picture and depth in one Matroska file, depth without loss: 16-bit FFV1, unit and scale in its comment tag.
#
#   pipelines/lossless-recording.sh INPUT [OUTPUT.mkv]

. "$(dirname "$0")/common.sh"
[ $# -ge 1 ] || fail "which video? ($0 --help)"
[ -f "$1" ] || fail "there is no file $1"
output=${2:-recording.mkv}

exec gst-launch-1.0 -e matroskamux name=mux ! filesink location="$(quoted "$output")" \
  filesrc location="$(quoted "$1")" ! decodebin ! videoconvert ! "${limit[@]}" ! \
  da3infer model="$model" process-res="$process_res" ! tee name=results \
  results. ! queue ! videoconvert ! x264enc tune=zerolatency ! h264parse ! mux. \
  results. ! queue ! da3extract plane=depth ! avenc_ffv1 ! mux.
