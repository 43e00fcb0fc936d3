# SPDX-License-Identifier: MIT
# Sourced by the recipes: what they have in common.
#
#   DA3_MODEL         model (default: synthetic:da3-small, untrained)
#   DA3_PROCESS_RES   longest side that the network sees [px] (default: 504)
#   NUM_BUFFERS       stop after so many frames (default: -1, endless)
set -euo pipefail

model=${DA3_MODEL:-synthetic:da3-small}
process_res=${DA3_PROCESS_RES:-504}
num_buffers=${NUM_BUFFERS:--1}

usage() {
  sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
  exit 0
}
case ${1:-} in -h | --help) usage ;; esac

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

gst-inspect-1.0 da3infer >/dev/null 2>&1 ||
  fail "GStreamer does not find da3infer; run this inside 'meson devenv -C build' or install gst-da3"
