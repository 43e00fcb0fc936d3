#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Sets up, configures and builds gst-da3.
#
#   scripts/build.sh [--builddir DIR] [--libtorch PATH] [-- MESON-OPTION...]
#
# DIR defaults to $BUILDDIR or build/. A folder that is configured already keeps its options, unless PATH is another
# one or another LibTorch is found now. DA3_JOBS=N compiles N files at a time (default: what cores and memory allow).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
builddir=${BUILDDIR:-$root/build}
libtorch=

die() {
  printf 'build: error: %s\n' "$*" >&2
  exit 1
}
usage() { sed -n '3,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

while [ $# -gt 0 ]; do
  case $1 in
    --builddir) [ $# -gt 1 ] || die "--builddir needs a DIR"; builddir=$2; shift 2 ;;
    --builddir=*) builddir=${1#*=}; shift ;;
    --libtorch) [ $# -gt 1 ] || die "--libtorch needs a PATH"; libtorch=$(realpath -m -- "$2"); shift 2 ;;
    --libtorch=*) libtorch=$(realpath -m -- "${1#*=}"); shift ;;
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    *) die "unknown option: $1 (scripts/build.sh --help lists them)" ;;
  esac
done
builddir=$(realpath -m -- "$builddir")

"$root/scripts/setup.sh" ${libtorch:+--libtorch "$libtorch"}

# The one LibTorch this folder was configured with, to notice another one.
found=$("$root/scripts/find-libtorch.py" --root "$root" --libtorch "$libtorch" 2>/dev/null || echo none)
stamp=$builddir/.da3-libtorch
if [ -f "$builddir/build.ninja" ]; then
  # Without a stamp the folder was configured by hand, and keeps what it has until a PATH is named.
  if [ -f "$stamp" ] && [ "$found" != "$(cat "$stamp")" ] || [ ! -f "$stamp" ] && [ -n "$libtorch" ]; then
    echo "build: configuring $builddir again for this LibTorch"
    meson setup --reconfigure "$builddir" "$root" -Dlibtorch="$libtorch" "$@" >"$builddir.log" 2>&1 || {
      tail -n 30 "$builddir.log" >&2
      rm -f "$builddir.log"
      die "meson could not configure $builddir"
    }
    rm -f "$builddir.log"
    printf '%s\n' "$found" >"$stamp"
  fi
else
  echo "build: configuring $builddir"
  mkdir -p "$builddir"
  meson setup "$builddir" "$root" -Dlibtorch="$libtorch" "$@" >"$builddir/configure.log" 2>&1 || {
    tail -n 30 "$builddir/configure.log" >&2
    die "meson could not configure $builddir"
  }
  printf '%s\n' "$found" >"$stamp"
fi

# A file that includes LibTorch takes 1.5 GB to compile; more jobs than memory make a small machine swap.
jobs=${DA3_JOBS:-}
if [ -z "$jobs" ]; then
  jobs=$(nproc)
  memory_gb=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo 2>/dev/null || true)
  fits=$((${memory_gb:-4} / 2))
  [ "$fits" -ge 1 ] || fits=1
  [ "$jobs" -le "$fits" ] || jobs=$fits
fi
echo "build: compiling with $jobs job(s)"
quiet=--quiet
[ ! -t 1 ] || quiet=
# shellcheck disable=SC2086
ninja -C "$builddir" -j "$jobs" $quiet || die "the build failed; the compiler's words are above"
