# SPDX-License-Identifier: MIT
# Sourced by the recipes: what they have in common.
#
#   DA3_MODEL         model (default: da3-demo, the small checkpoint that ships)
#   DA3_PROCESS_RES   longest side that the network sees [px] (default: 0, what the model is meant for)
#   NUM_BUFFERS       stop after so many frames (default: -1, endless)
set -euo pipefail

model=${DA3_MODEL:-da3-demo}
process_res=${DA3_PROCESS_RES:-0}
num_buffers=${NUM_BUFFERS:--1}

# The checkpoint that ships lies in the source tree. Folders of the caller's come first.
models=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/models
export DA3_MODEL_PATH=${DA3_MODEL_PATH:+$DA3_MODEL_PATH:}$models

usage() {
  sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
  exit 0
}
case ${1:-} in -h | --help) usage ;; esac

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# The name of a file as the value of a property: gst-launch-1.0 would take quotes and backslashes in it for its own.
quoted() {
  local name=${1//\\/\\\\}
  printf '"%s"' "${name//\"/\\\"}"
}

# Ends the stream after exactly NUM_BUFFERS frames. The first identity ends it at the first frame too many; the queue drops
# those that a decoder with several threads still hands out then, but for one that waits where the queue is full: it is one
# too many for the second identity.
limit=("eos-after=$([ "$num_buffers" -lt 0 ] && echo -1 || echo $((num_buffers + 1)))")
limit=(queue ! identity "${limit[@]}" ! identity "${limit[@]}")

gst-inspect-1.0 da3infer >/dev/null 2>&1 ||
  fail "GStreamer does not find da3infer; run this inside 'meson devenv -C build' or install gst-da3"
