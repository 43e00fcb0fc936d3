#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Installs what gst-da3 needs to build, run and test, on Debian 12, Ubuntu 24.04 and newer.
#
#   scripts/setup.sh                    as root, or as a user with sudo
#   scripts/setup.sh --libtorch PATH    use the LibTorch in PATH (also: LIBTORCH=PATH)
#
# Does nothing that is done already: the second run takes a second. LibTorch is taken from, in this order: PATH; a torch
# that python3 can import; .venv in the project root, installed there by pip if pip offers one that fits the machine;
# Debian's libtorch-dev. Without an NVIDIA GPU, a torch that would bring CUDA packages along does not fit.
#
# DA3_LIBTORCH=debian   take Debian's package       DA3_LIBTORCH=pip    take pip's, whatever it brings along
# DA3_LIBTORCH=none     build without the engine
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
torch_version=2.13.0
packages=(
  g++ meson ninja-build pkg-config python3 python3-venv ca-certificates
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev gstreamer1.0-tools
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
  gstreamer1.0-libav
  libopencv-dev libeigen3-dev nlohmann-json3-dev doctest-dev libjpeg-dev
)
torch_packages=(libtorch-dev libopenblas0-openmp)

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: error: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '       %s\n' "$@" >&2
  exit 1
}
usage() { sed -n '3,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Runs a command with its output in the log, which is shown only when the command fails.
quietly() {
  if ! "$@" </dev/null >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    return 1
  fi
}

missing_packages() {
  local package status
  for package in "$@"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || printf '%s ' "$package"
  done
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    quietly "$@"
  elif [ -t 0 ]; then
    quietly sudo "$@"
  else
    # Nobody is there to type a password.
    quietly sudo -n "$@"
  fi
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@"; }

install_packages() {
  local missing
  missing=$(missing_packages "$@")
  missing=${missing% }
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die "no apt-get on this machine; install by hand what stands for: $missing"
  [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
    die "packages are missing, and this is neither root nor a user with sudo" "as root: apt-get install $missing"
  say "installing $missing"
  # Lists that are at hand are usually good enough; a bare image has none.
  # shellcheck disable=SC2086
  apt_get install -y --no-install-recommends $missing 2>/dev/null ||
    { apt_get update && apt_get install -y --no-install-recommends $missing; } ||
    die "apt-get could not install: $missing" "its last words are above"
}

find_libtorch() { "$root/scripts/find-libtorch.py" --root "$root" --libtorch "$libtorch" 2>"$log"; }
value_of() { sed -n "s/^$1=//p" <<<"$found" | head -n 1; }

has_nvidia_gpu() { [ -e /proc/driver/nvidia/version ] || nvidia-smi -L >/dev/null 2>&1; }

# Installs torch by pip into .venv; fails, with .venv gone, when pip is out of reach or its torch does not fit.
install_by_pip() {
  local venv=$root/.venv report plan gpu=no
  has_nvidia_gpu && gpu=yes
  [ -x "$venv/bin/python" ] || quietly python3 -m venv "$venv" || { rm -rf "$venv"; return 1; }
  report=$(mktemp -d)
  # An older pip would download the whole package to answer the question.
  "$venv/bin/python" -c 'import pip, sys; sys.exit([int(n) for n in pip.__version__.split(".")[:2]] < [23, 3])' ||
    timeout 120 "$venv/bin/python" -m pip install --quiet --upgrade pip </dev/null >"$log" 2>&1 || true
  # --no-deps: the package's own requirements say which CUDA packages would follow, without looking each one up.
  if ! timeout 600 "$venv/bin/python" -m pip install --dry-run --ignore-installed --no-deps --quiet \
    --report "$report/report.json" "torch==$torch_version" </dev/null >"$log" 2>&1; then
    say "pip offers no torch==$torch_version here ($(grep -v '^ *$' "$log" | tail -n 1 | cut -c1-160))"
    rm -rf "$report" "$venv"
    return 1
  fi
  plan=$("$venv/bin/python" "$root/scripts/pip-torch-plan.py" --gpu "$gpu" --force "${DA3_LIBTORCH:-auto}" "$report/report.json") || plan=failed
  rm -rf "$report"
  case $plan in
    alone) set -- --no-deps ;;
    with-dependencies) set -- ;;
    *)
      say "pip's torch is not taken: $plan"
      rm -rf "$venv"
      return 1
      ;;
  esac
  say "installing torch $torch_version by pip into .venv"
  quietly "$venv/bin/python" -m pip install --quiet "$@" "torch==$torch_version" || { rm -rf "$venv"; return 1; }
}

install_libtorch() {
  case ${DA3_LIBTORCH:-} in
    debian) install_packages "${torch_packages[@]}" ;;
    pip) install_by_pip || die "pip could not install torch==$torch_version" \
      "name a LibTorch with --libtorch PATH, or take Debian's with DA3_LIBTORCH=debian" ;;
    *) install_by_pip || install_packages "${torch_packages[@]}" ;;
  esac
}

libtorch=
while [ $# -gt 0 ]; do
  case $1 in
    --libtorch) [ $# -gt 1 ] || die "--libtorch needs a PATH"; libtorch=$(realpath -m -- "$2"); shift 2 ;;
    --libtorch=*) libtorch=$(realpath -m -- "${1#*=}"); shift ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown option: $1" "scripts/setup.sh --help lists them" ;;
  esac
done
case ${DA3_LIBTORCH:-} in
  "" | debian | pip | none) ;;
  *) die "DA3_LIBTORCH is '$DA3_LIBTORCH'; it can be debian, pip or none" ;;
esac

command -v dpkg-query >/dev/null || die "this script installs Debian packages; on this system install by hand:" \
  "a C++20 compiler, meson >= 1.0, ninja, pkg-config, python3 with venv," \
  "GStreamer >= 1.22 with base, good, bad, ugly and libav plugins, OpenCV 4, Eigen 3, nlohmann-json, doctest, LibTorch"
install_packages "${packages[@]}"

if [ "${DA3_LIBTORCH:-}" = none ] && [ -z "$libtorch${LIBTORCH:-}" ]; then
  say "ready, without LibTorch (DA3_LIBTORCH=none)"
  exit 0
fi
status=0
found=$(find_libtorch) || status=$?
[ "$status" -ne 2 ] || die "$(sed 's/^find-libtorch: //' "$log")"
if [ "$status" -ne 0 ]; then
  install_libtorch
  found=$(find_libtorch) || die "LibTorch was installed but is not found:" "$(cat "$log")"
fi
# Debian's LibTorch computes with whatever BLAS is installed; this one uses every core.
[ "$(value_of source)" != system ] || install_packages libopenblas0-openmp
say "ready; LibTorch $(value_of version) from $(value_of prefix) ($(value_of source), CUDA: $(value_of cuda))"
