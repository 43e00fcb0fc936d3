#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# On a bare CUDA machine: builds the engine against the LibTorch inside PyTorch, checks it against the recorded results,
# measures, and writes tables. No GStreamer, no OpenCV. About ten minutes.
#
# usage: bench/cuda.sh [OUTPUT_FOLDER]        (default: bench-results)
#
#   PYTHON=...        the interpreter that has torch (default: the first of python3, python that imports it)
#   DA3_SECONDS=540   time for the whole run; works that would begin later are left out and named
#   DA3_UPSTREAM=...  a checkout of Depth-Anything-3: its PyTorch is measured beside ours, batch 1 and 16
#   DA3_INCLUDE=...   a folder with nlohmann/json.hpp, Eigen/ and doctest/doctest.h, where the system has none
#   DA3_QUICK=1       a few small runs, to see that everything works
#   DA3_DEVICE=cuda   or cuda:N, or cpu
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${1:-bench-results}
limit=${DA3_SECONDS:-540}
device=${DA3_DEVICE:-cuda}
build=$root/build-cuda
SECONDS=0

say() { printf '[%3ds] %s\n' "$SECONDS" "$*" >&2; }
die() { printf 'cuda.sh: %s\n' "$*" >&2; exit 1; }

case ${1:-} in
  -h|--help) awk 'NR > 2 && /^#/ { sub(/^# ?/, ""); print; next } NR > 2 { exit }' "$0"; exit 0 ;;
  -*) die "unknown option '$1' (only an output folder is taken)" ;;
esac
[[ $limit =~ ^[0-9]+$ ]] || die "DA3_SECONDS must be a whole number, not '$limit'"
upstream=${DA3_UPSTREAM:-}
if [[ -n $upstream ]]; then
  [[ -f $upstream/src/depth_anything_3/cfg.py ]] ||
    die "DA3_UPSTREAM '$upstream' is no checkout of Depth-Anything-3 (no src/depth_anything_3)"
  upstream=$(cd "$upstream" && pwd)
fi
mkdir -p "$out" || die "cannot make the folder '$out'"
out=$(cd "$out" && pwd)

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import torch' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}
python=$(find_python) || die "no Python with PyTorch found; install torch, or set PYTHON to an interpreter that has it"
# One call, since PyTorch takes seconds to load: folder, version, whether there is a GPU, and where pip puts programs.
mapfile -t about < <("$python" -c 'import os, sysconfig, torch
print(os.path.dirname(torch.__file__), torch.__version__, torch.cuda.is_available(), sysconfig.get_path("scripts"), sep="\n")' 2>/dev/null)
libtorch=${about[0]:-}
[[ -n $libtorch ]] || die "$python cannot load torch"
say "PyTorch ${about[1]} in $libtorch"
if [[ $device == cuda* && ${about[2]} != True ]]; then
  die "PyTorch sees no CUDA device; DA3_DEVICE=cpu runs on the CPU"
fi

# Tools: those that are there, else from pip.
tools=$build-tools
export PATH=$tools/bin:$PATH:${about[3]} PYTHONPATH=$tools${PYTHONPATH:+:$PYTHONPATH}
missing=()
command -v meson >/dev/null || missing+=(meson)
command -v ninja >/dev/null || missing+=(ninja)
command -v pkg-config >/dev/null || command -v pkgconf >/dev/null || missing+=(pkgconf)
if ((${#missing[@]})); then
  say "installing ${missing[*]}"
  "$python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 5 --target "$tools" "${missing[@]}" ||
    [[ ${missing[*]} == pkgconf ]] || die "no ${missing[*]}, and pip cannot install it; install it by other means"
fi
# Without any of them: meson asks for nothing that the descriptions below do not say.
write_pkg_config() {
  mkdir -p "$tools/bin"
  cat >"$tools/bin/pkg-config" <<'END'
#!/usr/bin/env bash
# Answers from descriptions written by bench/cuda.sh.
wanted=() name=
for word in "$@"; do
  case $word in
    --version) echo 0.29.2; exit 0 ;;
    -*) wanted+=("$word") ;;
    *) [[ -n $name || $word == [\<\>=]* ]] || name=$word ;;
  esac
done
IFS=: read -ra folders <<<"$PKG_CONFIG_PATH"
for folder in "${folders[@]}"; do
  [[ -f $folder/$name.pc ]] || continue
  for word in "${wanted[@]}"; do
    case $word in
      --modversion) sed -n 's/^Version: //p' "$folder/$name.pc" ;;
      --cflags) sed -n 's/^Cflags: //p' "$folder/$name.pc" ;;
      --libs) echo ;;
    esac
  done
  exit 0
done
exit 1
END
  chmod +x "$tools/bin/pkg-config"
}
command -v pkg-config >/dev/null || command -v pkgconf >/dev/null || write_pkg_config
if ! command -v pkg-config >/dev/null; then
  export PKG_CONFIG=pkgconf
fi
command -v c++ >/dev/null || command -v g++ >/dev/null || die "no C++ compiler; install g++ 12 or newer"

# Two libraries of headers: from the system, or from DA3_INCLUDE with descriptions of our own for meson.
CXX=${CXX:-$(command -v c++ || command -v g++)}
export CXX
finds() { printf '#include <%s>\n' "$1" | "$CXX" -E -x c++ "${@:2}" - >/dev/null 2>&1; }
describe() {  # name for pkg-config, header, version, package of the system
  "${PKG_CONFIG:-pkg-config}" --exists "$1" 2>/dev/null && return
  local folder
  for folder in ${DA3_INCLUDE:+"$DA3_INCLUDE" "$DA3_INCLUDE/eigen3"} "$libtorch/include" /usr/include/eigen3 \
    /usr/include /usr/local/include/eigen3 /usr/local/include; do
    [[ -f $folder/$2 ]] || continue
    finds "$2" -std=c++20 -I"$folder" || continue
    mkdir -p "$build-pkgconfig"
    printf 'Name: %s\nDescription: headers\nVersion: %s\nCflags: -I%s\n' "$1" "$3" "$folder" >"$build-pkgconfig/$1.pc"
    return
  done
  die "no $2 found; install $4, or set DA3_INCLUDE to a folder that has it"
}
# doctest has no description: meson asks the compiler.
[[ -z ${DA3_INCLUDE:-} ]] || export CPLUS_INCLUDE_PATH=$DA3_INCLUDE${CPLUS_INCLUDE_PATH:+:$CPLUS_INCLUDE_PATH}
export PKG_CONFIG_PATH=$build-pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
describe nlohmann_json nlohmann/json.hpp 3.11 nlohmann-json3-dev
describe eigen3 Eigen/Core 3.4 libeigen3-dev

# What upstream's network imports beside PyTorch. Without it its rows say what is missing.
if [[ -n $upstream ]]; then
  missing=()
  for package in numpy omegaconf addict einops; do
    "$python" -c "import $package" 2>/dev/null || missing+=("$package")
  done
  if ((${#missing[@]})); then
    say "installing ${missing[*]}"
    "$python" -m pip install --quiet --disable-pip-version-check --target "$tools" "${missing[@]}" ||
      say "pip cannot install ${missing[*]}"
  fi
fi

say "configuring"
options=(-Dplugins=disabled -Dengine=enabled -Dtools=auto -Dtests=auto -Dbench=enabled "-Dlibtorch=$libtorch"
         --buildtype=release)
# Meson remembers that there was no doctest.
if [[ -f $build/build.ninja ]] && finds doctest/doctest.h && ! ninja -C "$build" -n tests/da3-parity >/dev/null 2>&1; then
  rm -rf "$build"
fi
if [[ -f $build/build.ninja ]]; then
  meson configure "$build" "${options[@]:0:6}" >/dev/null
else
  meson setup "$build" "$root" "${options[@]}" >"$out/configure.log" 2>&1 ||
    { tail -n 25 "$out/configure.log" >&2; die "configuring failed; the whole text is in $out/configure.log"; }
fi

# Their absence shows in no figure but their own.
if [[ $device == cuda* ]] && ! grep -q DA3_CUDA_GRAPHS "$build/build.ninja"; then
  say "WARNING: CUDA's headers do not compile (crt/ missing?): no CUDA graphs in this build"
  missing=("CUDA graphs: not built, CUDA's headers do not compile; see configure.log")
else
  missing=()
fi

say "building"
targets=(bench/da3-bench lib/engine/libda3engine.so)
if ninja -C "$build" -n tests/da3-parity >/dev/null 2>&1; then
  targets+=(tests/da3-parity)
fi
ninja -C "$build" "${targets[@]}" >"$out/build.log" 2>&1 ||
  { grep -m 5 -A 5 -E 'error|FAILED' "$out/build.log" >&2; die "the build failed; the whole text is in $out/build.log"; }

failed=0
# `missing`: what was not done, for the tables.
rm -f "$out"/{parity,accuracy,left-out}.txt  # of an earlier run
# A check that hangs must not cost the figures.
checks=$((limit < 540 ? 540 : limit))
[[ $device != cuda* ]] || checks=150
# The accuracy of each precision, on the checkpoint that ships.
check_accuracy() {
  local program=$build/tests/accuracy/accuracy_test
  if ! ninja -C "$build" -n tests/accuracy/accuracy_test >/dev/null 2>&1; then
    missing+=("accuracy: not checked, doctest/doctest.h was not found")
    return 2
  fi
  say "accuracy of the checkpoint that ships"
  ninja -C "$build" tests/accuracy/accuracy_test >>"$out/build.log" 2>&1 || return 1
  DA3_TEST_DEVICE=$device DA3_SOURCE_ROOT=$root DA3_MODEL_PATH=$root/models \
    DA3_ENGINE_PATH=$build/lib/engine/libda3engine.so timeout "$checks" "$program" >"$out/accuracy.txt" 2>&1
}
if [[ -x $build/tests/da3-parity ]]; then
  say "comparing with recorded results"
  if timeout "$checks" "$build/tests/da3-parity" --device "$device" "$root/tests/data/goldens" >"$out/parity.txt" 2>&1; then
    tail -n 2 "$out/parity.txt" >&2
  else
    failed=1
    say "parity FAILED; see $out/parity.txt. Figures follow all the same."
  fi
else
  failed=1
  say "no da3-parity in this build: parity is NOT checked (doctest/doctest.h belongs into the folder DA3_INCLUDE)"
  missing+=("parity: not checked, doctest/doctest.h was not found")
fi

accuracy=0
check_accuracy || accuracy=$?
case $accuracy in
  0) ;;
  2) failed=1; say "accuracy is NOT checked in this build" ;;
  *) failed=1; say "accuracy FAILED; see $out/accuracy.txt. Figures follow all the same." ;;
esac

# After every work: whoever stops this script keeps what is there.
tables() {
  {
    echo "# Figures of $(date -u +%Y-%m-%d)"
    for name in ceiling large largeattention largemax small smallmax scores upstream16 upstream1 compiled16 views base matrix attention \
      batching load; do
      [[ -f $out/$name.md ]] && printf '\n# %s\n\n' "$name" && cat "$out/$name.md"
    done
    for name in parity accuracy; do
      [[ -f $out/$name.txt ]] && printf '\n# %s\n\n' "$name" && sed 's/^/    /' "$out/$name.txt" | tail -n 40
    done
    [[ -f $out/left-out.txt ]] && printf '\n# Left out\n\n' && sed 's/^/* /' "$out/left-out.txt"
  } >"$out/RESULTS.md" || true
}

measure() {  # name of the table, then the words after da3-bench
  local name=$1
  shift
  if ((SECONDS > limit)); then
    say "no time left for $name"
    echo "$name: left out, $limit s were over" >>"$out/left-out.txt"
    return
  fi
  say "$name"
  # One that began in time may run for a minute beyond it.
  local rc=0
  timeout "$((limit + 60 - SECONDS))" "$build/bench/da3-bench" "$@" --device "$device" ${DA3_QUICK:+--quick} --json "$out/$name.json" \
    --markdown "$out/$name.md" --svg "$out" >"$out/$name.log" 2>&1 || rc=$?
  case $rc in
    0) ;;
    124) say "$name was stopped when the time was over; $out/$name.log has what it found"
         echo "$name: stopped when $limit s and a minute were over" >>"$out/left-out.txt" ;;
    *) failed=1
       say "$name FAILED: $(tail -n 1 "$out/$name.log")" ;;
  esac
  tables
}

((${#missing[@]} == 0)) || printf '%s\n' "${missing[@]}" >"$out/left-out.txt"
measure ceiling ceiling --seconds 5
# What the targets are about comes first.
measure large model --model synthetic:da3-large --size 504x504 --batch 1,16 --precision fp32,bf16,fp16,fp8 --runs 20 --seconds 15
# Whether the choice that was made for it is the best one.
measure largeattention model --model synthetic:da3-large --size 504x504 --batch 16 --precision bf16 \
  --attention fused,flash,cudnn,efficient --runs 10 --seconds 5
measure largemax model --model synthetic:da3-large --size 504x504 --batch 1,16 --mode max --precision bf16 --runs 20 --seconds 15
measure small model --model synthetic:da3-small --size 504x280 --batch 1,32,64 --runs 20 --seconds 10
measure smallmax model --model synthetic:da3-small --size 504x280 --batch 1,32,64 --mode max --precision bf16 --runs 20 --seconds 10
measure scores model --model da3-demo --size 196x154 --batch 1 --views 1 --precision fp32,tf32,bf16,fp16,fp8 --scenes 56 --runs 10 \
  --seconds 5
if [[ -n $upstream ]]; then
  peers=(--precision "fp32,bf16" --upstream "$upstream" --python "$python"
         --model synthetic:da3-large --size 504x504)
  eager=upstream,upstream-autocast,upstream-bf16
  measure upstream16 compare --batch 16 "${peers[@]}" --peers "$eager" --runs 5 --seconds 20
  measure upstream1 compare --batch 1 "${peers[@]}" --peers "$eager" --runs 10 --seconds 15
  # By itself: should its compilation not end in time, the others have their figures.
  measure compiled16 compare --batch 16 "${peers[@]}" --peers upstream-compile-bf16 --runs 5 --seconds 20
fi
measure views model --model synthetic:da3-large --size 504x504 --views 5,20 --runs 10 --seconds 10
measure base model --model synthetic:da3-base --size 504x504 --batch 1,16 --runs 20 --seconds 10
measure matrix matrix --precision fp32,bf16,auto --mode balanced,max --runs 5 --seconds 5
measure attention attention --seconds 3
measure batching batching --model synthetic:da3-large
measure load load --model synthetic:da3-large --runs 3 --warm-up 0 --seconds 30

tables
say "tables: $out/RESULTS.md"
exit "$failed"
