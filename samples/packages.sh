#!/usr/bin/env bash
# Installs, by apt, those of the named kinds of packages that are missing:
# `packages.sh build [test] [fuzz] [shelf] [bindings] [page] [desktop] [mpi] [portable] [arm64] [windows]`.
# INFINI_NO_INSTALL=1 installs nothing; a machine without apt must bring the packages itself.
set -euo pipefail

# ocl-icd-opencl-dev: oneDNN's CMake package asks for it. libopenblas-serial-dev: the threads are ours.
declare -A packages=(
  [build]="cmake ninja-build g++ pkg-config libdnnl-dev ocl-icd-opencl-dev libopenblas-serial-dev libhwy-dev libpcre2-dev libutf8proc-dev libxxhash-dev libzstd-dev nlohmann-json3-dev libcli11-dev libedit-dev"
  [test]="doctest-dev librapidcheck-dev python3 clang-format gnuplot-nox libtbb-dev locales dpkg-dev"
  [shelf]="libsqlite3-dev"
  [bindings]="swig default-jdk-headless junit5 libgoogle-gson-java golang-go python3-yaml postgresql libsqlite3-dev libxerial-sqlite-jdbc-java libpostgresql-jdbc-java golang-github-lib-pq-dev golang-github-mattn-go-sqlite3-dev"
  [page]="chromium"
  [desktop]="libgtkmm-4.0-dev adwaita-icon-theme xvfb xauth xdotool"
  [mpi]="libopenmpi-dev openmpi-bin"
  [portable]="dpkg-dev debian-archive-keyring"
  [arm64]="g++-aarch64-linux-gnu qemu-user debian-archive-keyring"
  [windows]="g++-mingw-w64-x86-64-posix wine64 dpkg-dev debian-archive-keyring"
  [fuzz]="clang libclang-rt-dev libomp-dev"
)

# Whether a package, or another that does its work, is there.
installed() {
  case $1 in
    g++) command -v g++ ;;
    cmake) command -v cmake ;;
    ninja-build) command -v ninja ;;
    pkg-config) command -v pkg-config ;;
    python3) command -v python3 ;;
    clang) command -v clang++ ;;
    gnuplot-nox) command -v gnuplot ;;
    clang-format) command -v clang-format ;;
    swig) command -v swig ;;
    default-jdk-headless) command -v javac ;;
    golang-go) command -v go ;;
    g++-aarch64-linux-gnu) command -v aarch64-linux-gnu-g++ ;;
    g++-mingw-w64-x86-64-posix) command -v x86_64-w64-mingw32-g++-posix ;;
    qemu-user) command -v qemu-aarch64 ;;
    libopenblas-serial-dev) pkg-config --exists openblas ;;
    *) dpkg-query --show --showformat '${db:Status-Status}' "$1" | grep -x installed >/dev/null ;;
  esac >/dev/null 2>&1
}

missing=()
for kind in "$@"; do
  for package in ${packages[$kind]}; do installed "$package" || missing+=("$package"); done
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "${INFINI_NO_INSTALL:-0}" = 1 ]; then
  echo "Not installed, because INFINI_NO_INSTALL=1: ${missing[*]}" >&2
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "This machine has no apt-get. Install what these Debian packages hold, then set INFINI_NO_INSTALL=1: ${missing[*]}" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "Become root, or have root install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "apt-get could not install: ${missing[*]}. Install them by hand, then set INFINI_NO_INSTALL=1." >&2
  exit 1
fi
