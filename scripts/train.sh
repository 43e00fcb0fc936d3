#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Trains the checkpoint of models/da3-demo again from nothing, on rendered scenes: about 100 minutes on two cores with
# bf16 instructions, longer without.
#
#   scripts/train.sh [FOLDER] [--libtorch PATH] [DA3-TRAIN-OPTION...]
#
# FOLDER (default: da3-train-out) gets model.safetensors, config.json, loss.svg and the state. Ctrl-C saves and stops;
# the same command goes on. --device cuda trains on a GPU; `build/tools/da3-train --help` lists the options.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
builddir=${BUILDDIR:-$root/build}
folder=da3-train-out
build_arguments=()
arguments=()
usage() { sed -n '4,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --libtorch) [ $# -gt 1 ] || { echo "train: error: --libtorch needs a PATH" >&2; exit 2; }
                build_arguments=(--libtorch "$2"); shift 2 ;;
    --libtorch=*) build_arguments=("$1"); shift ;;
    --*) [ $# -gt 1 ] || { echo "train: error: $1 needs a value" >&2; exit 2; }
         arguments+=("$1" "$2"); shift 2 ;;
    *) folder=$1; shift ;;
  esac
done

"$root/scripts/build.sh" --builddir "$builddir" "${build_arguments[@]}"
# Threads that wait must not burn what another one needs.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-20000}
exec "$builddir/tools/da3-train" "$folder" "${arguments[@]}"
