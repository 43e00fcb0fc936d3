#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Sets up, builds and runs all tests. The last line is `N passed, N failed, N skipped`, counted in test cases; the exit
# status is 0 when none failed.
#
#   scripts/test.sh [--builddir DIR] [--libtorch PATH] [MESON-TEST-ARGUMENT...]
#
# What it does not know goes to `meson test`: names of tests, --suite plugins, --repeat 3, --timeout-multiplier 4, ...
# DIR defaults to $BUILDDIR or build/; a new one is configured with -Dwerror=true.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
builddir=${BUILDDIR:-$root/build}
build_arguments=()
test_arguments=()
usage() { sed -n '3,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
give_up() {
  printf 'test: error: %s\n' "$*" >&2
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --builddir) [ $# -gt 1 ] || give_up "--builddir needs a DIR"; builddir=$2; shift 2 ;;
    --builddir=*) builddir=${1#*=}; shift ;;
    --libtorch) [ $# -gt 1 ] || give_up "--libtorch needs a PATH"; build_arguments+=(--libtorch "$2"); shift 2 ;;
    --libtorch=*) build_arguments+=("$1"); shift ;;
    -h | --help) usage; exit 0 ;;
    *) test_arguments+=("$1"); shift ;;
  esac
done
builddir=$(realpath -m -- "$builddir")

"$root/scripts/build.sh" --builddir "$builddir" "${build_arguments[@]}" -- -Dwerror=true ||
  give_up "nothing was tested"

log=$builddir/meson-logs/testlog.json
rm -f "$log"
# The log's name comes last, so that the summary reads what this run wrote.
meson test -C "$builddir" --print-errorlogs "${test_arguments[@]}" --logbase testlog </dev/null
status=$?
[ -f "$log" ] || give_up "meson ran no test"
"$root/scripts/test-summary.py" --meson-status "$status" "$log"
