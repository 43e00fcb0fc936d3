#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Turns a video, an image or a folder of images into a depth video and camera poses; sets up and builds first.
#
#   scripts/demo.sh [INPUT] [OUTDIR] [OPTION...]
#
#   scripts/demo.sh                                         a rendered room, with scores against its true depth
#   scripts/demo.sh walk.mp4 out --model depth-anything/DA3-SMALL
#
# Without INPUT a clip is rendered. OUTDIR defaults to da3-demo-out, the model to the small one in models/da3-demo.
# Options go to build/tools/da3-demo (--help lists them) except --builddir DIR and --libtorch PATH, which go to the build.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
builddir=${BUILDDIR:-$root/build}
build_arguments=()
options=()
words=()

die() {
  printf 'demo: error: %s\n' "$*" >&2
  exit 1
}
usage() { sed -n '4,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --builddir) [ $# -gt 1 ] || die "--builddir needs a DIR"; builddir=$2; shift 2 ;;
    --builddir=*) builddir=${1#*=}; shift ;;
    --libtorch) [ $# -gt 1 ] || die "--libtorch needs a PATH"; build_arguments+=(--libtorch "$2"); shift 2 ;;
    --libtorch=*) build_arguments+=("$1"); shift ;;
    --verbose | --*=*) options+=("$1"); shift ;;
    --*) [ $# -gt 1 ] || die "$1 needs a value"; options+=("$1" "$2"); shift 2 ;;
    *) words+=("$1"); shift ;;
  esac
done
[ "${#words[@]}" -le 2 ] || die "more than INPUT and OUTDIR: ${words[2]}"
input=${words[0]:-}
outdir=${words[1]:-da3-demo-out}
builddir=$(realpath -m -- "$builddir")
[ -z "$input" ] || [ -e "$input" ] || die "there is no $input"

# The checkpoint that ships lies in the source tree. Folders of the caller's that hold a da3-demo come first.
export DA3_MODEL_PATH=${DA3_MODEL_PATH:+$DA3_MODEL_PATH:}$root/models
has_shipped() {
  local folder
  while IFS= read -r -d : folder; do
    if [ -e "$folder/da3-demo/model.safetensors" ]; then return 0; fi
  done <<<"$DA3_MODEL_PATH:"
  return 1
}
case " ${options[*]} " in
  *" --model "* | *" --model="*) ;;
  *) has_shipped || die "models/da3-demo/model.safetensors is not in this checkout: get it again (git restore models)," \
       "or choose another model with --model, for example depth-anything/DA3-SMALL" ;;
esac

"$root/scripts/build.sh" --builddir "$builddir" "${build_arguments[@]}"
demo=$builddir/tools/da3-demo
[ -x "$demo" ] || die "$builddir was configured without the tools; build again with -Dtools=enabled"

if [ -z "$input" ]; then
  echo "demo: no INPUT given: rendering a clip of 12 seconds, whose depth and cameras are known"
  exec "$demo" "${options[@]}" --render "$outdir"
fi
exec "$demo" "${options[@]}" "$input" "$outdir"
