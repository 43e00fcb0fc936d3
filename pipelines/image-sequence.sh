#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Numbered images to 16-bit PNGs of their depth.
#
#   pipelines/image-sequence.sh PATTERN [OUTPUT-PATTERN]
#
# PATTERN as printf, e.g. shots/%04d.png, counted from FIRST (default: 0). The PNGs hold depth in steps of 0.001; 0 is
# invalid. VIEWS frames are inferred together and share one world (default: 1).

. "$(dirname "$0")/common.sh"
[ $# -ge 1 ] || fail "which images? ($0 --help)"
first=${FIRST:-0}
# shellcheck disable=SC2059
[ -f "$(printf "$1" "$first")" ] || fail "there is no image $(printf "$1" "$first")"
output=${2:-depth-%04d.png}

exec gst-launch-1.0 -e multifilesrc location="$(quoted "$1")" index="$first" num-buffers="$num_buffers" \
  caps=image/png,framerate=1/1 ! pngdec ! videoconvert ! \
  da3infer model="$model" process-res="$process_res" views="${VIEWS:-1}" ! \
  da3extract plane=depth output-size=source ! videoconvert ! video/x-raw,format=GRAY16_BE ! pngenc ! \
  multifilesink location="$(quoted "$output")"
