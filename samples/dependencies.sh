#!/usr/bin/env bash
# Builds what a portable library stands on, as static libraries that a shared one may hold, from Debian's source packages,
# and prints the folder that holds them. Whoever has built them once gets them at once; the preset `portable` runs this.
#   samples/dependencies.sh                 in INFINI_CACHE, else XDG_CACHE_HOME/infini, else ~/.cache/infini
#   samples/dependencies.sh arm64           nothing is built: unpacks Debian 12's packages for arm64, for the preset `arm64`
#   samples/dependencies.sh portable-arm64  for the preset of that name, by Debian's cross compiler: without oneDNN
#   samples/dependencies.sh windows         for the preset `windows`, by Debian's mingw-w64: without oneDNN
#   INFINI_ONEDNN_SOURCE=FOLDER             takes oneDNN's sources from there, 2.6 or 3.x
# The machine's own apt configuration, and the packages it has, stay as they are; its mirror of Debian is asked. Some ten
# minutes on two cores, most of it oneDNN; of arm64 some seconds.
set -euo pipefail

# oneDNN is Debian 13's: the sequential one with brgemm kernels, whose sources all mirrors hold. The others are Debian 12's, so that
# texts, patterns and kernels are those of a build with Debian 12's shared libraries.
declare -A suite=([onednn]=trixie [highway]=bookworm [pcre2]=bookworm [utf8proc]=bookworm [xxhash]=bookworm [libzstd]=bookworm)
what=${1:-portable} compiler=c++ cross=()
case $what in
  portable | arm64) ;;
  portable-arm64)
    unset 'suite[onednn]'
    compiler=aarch64-linux-gnu-g++
    cross=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_CXX_COMPILER=$compiler)
    ;;
  windows)
    unset 'suite[onednn]'
    compiler=x86_64-w64-mingw32-g++-posix
    cross=(-DCMAKE_SYSTEM_NAME=Windows -DCMAKE_SYSTEM_PROCESSOR=x86_64 -DCMAKE_C_COMPILER=x86_64-w64-mingw32-gcc-posix
      -DCMAKE_CXX_COMPILER=$compiler -DCMAKE_RC_COMPILER=x86_64-w64-mingw32-windres)
    ;;
  *) echo "usage: samples/dependencies.sh [arm64 | portable-arm64 | windows]" >&2; exit 1 ;;
esac

say() { echo "dependencies: $*" >&2; }
fail() { say "$*"; exit 1; }

for tool in cmake ninja pkg-config $compiler sha256sum flock; do
  command -v "$tool" >/dev/null || fail "no $tool on the path: samples/packages.sh build ${what/-/ } installs it"
done
launcher=${INFINI_LAUNCHER:-$(command -v ccache || true)}
key=$what-$( { cat "${BASH_SOURCE[0]}"; $compiler --version; echo "${INFINI_ONEDNN_SOURCE:-}"; } | sha256sum | cut -c1-12)
root=${INFINI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/infini}
prefix=$root/dependencies-$key
mkdir -p "$root"
exec 9>"$root/lock"
flock 9  # two builds at once wait for each other
if [ -f "$prefix/complete" ]; then
  echo "$prefix"
  exit
fi

work=$root/build  # always the same, for ccache
trap 'rm -rf "$work"' EXIT
rm -rf "$work"
mkdir "$work"
say "building in $work; log: $root/log"
exec 3>"$root/log"

# A private configuration of apt: the machine's mirror. configure_apt LINES, of sources.list, where @ stands for it.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
for_apt=()
apt() {
  apt-get -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" "${for_apt[@]}" "$@"
}
configure_apt() {
  [ -f "$keyring" ] || fail "no $keyring (Debian: debian-archive-keyring): it says which sources are Debian's"
  local mirror=${INFINI_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 -E '/debian/?$' || true)}
  [ -n "$mirror" ] || fail "apt's configuration names no mirror of Debian: set INFINI_DEBIAN_MIRROR to one"
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  local line
  for line in "$@"; do echo "${line/@/[signed-by=$keyring] $mirror}"; done >"$work/sources.list"
  apt update >&3 2>&1 || fail "the lists of $mirror cannot be had: $root/log says why"
}

if [ "$what" = arm64 ]; then
  # As on a machine for arm64 that has nothing yet, so that all that is needed comes, to the C library.
  : >"$work/status"
  for_apt=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::status="$work/status" -o APT::Install-Recommends=false)
  configure_apt "deb @ bookworm main"
  apt install --yes --download-only libdnnl-dev libhwy-dev libpcre2-dev libutf8proc-dev libxxhash-dev libzstd-dev \
    nlohmann-json3-dev libcli11-dev libedit-dev doctest-dev librapidcheck-dev >&3 2>&1 ||
    fail "the packages for arm64 cannot be had: $root/log says why"
  for package in "$work"/cache/archives/*.deb; do dpkg-deb --extract "$package" "$work/prefix"; done
  rm -rf "$prefix"
  mv "$work/prefix" "$prefix"
  touch "$prefix/complete"
  echo "$prefix"
  exit
fi

# The folder of a package's sources.
sources() {
  local variable=INFINI_${1^^}_SOURCE own
  own=${!variable:-}
  if [ -n "$own" ]; then
    cp -a "$own" "$work/$1"
  else
    command -v dpkg-source >/dev/null || fail "no dpkg-source on the path: samples/packages.sh portable installs it"
    [ -f "$work/sources.list" ] || configure_apt "deb-src @ bookworm main" "deb-src @ trixie main"
    mkdir "$work/$1.packed"
    ( cd "$work/$1.packed" && apt source "$1/${suite[$1]}" ) >&3 2>&1 ||
      fail "the sources of $1 (Debian ${suite[$1]}) cannot be had: $root/log says why"
    mv "$work/$1.packed"/*/ "$work/$1"
  fi
}

# build NAME FOLDER OPTIONS...: by CMake, into the prefix.
build() {
  local name=$1 folder=$2
  shift 2
  say "$name"
  { cmake -S "$folder" -B "$work/build-$name" -G Ninja -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG" -DCMAKE_INSTALL_PREFIX="$work/prefix" \
      -DCMAKE_INSTALL_LIBDIR=lib -DBUILD_SHARED_LIBS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
      -DCMAKE_C_COMPILER_LAUNCHER="$launcher" -DCMAKE_CXX_COMPILER_LAUNCHER="$launcher" \
      -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" "${cross[@]}" "$@" &&
    nice -n 10 cmake --build "$work/build-$name" --parallel "$(nproc)" && cmake --install "$work/build-$name"; } >&3 2>&1 ||
    fail "$name does not build: $root/log says why"
}
# Hidden, and each function a section, of which the linker takes those that are needed.
flags="-fvisibility=hidden -ffunction-sections -fdata-sections"

[ "$what" != windows ] || flags+=" -Wa,-muse-unaligned-vector-move"  # lib/windows.cmake says why

[ ${#cross[@]} = 0 ] || configure_apt "deb @ bookworm main" "deb-src @ bookworm main"
for name in "${!suite[@]}"; do sources "$name"; done
build highway "$work/highway" -DBUILD_TESTING=OFF -DHWY_ENABLE_TESTS=OFF -DHWY_ENABLE_EXAMPLES=OFF -DHWY_ENABLE_CONTRIB=OFF
build pcre2 "$work/pcre2" -DPCRE2_BUILD_PCRE2GREP=OFF -DPCRE2_BUILD_TESTS=OFF -DPCRE2_SUPPORT_JIT=ON -DPCRE2_STATIC_PIC=ON \
  -DPCRE2_SUPPORT_LIBREADLINE=OFF -DPCRE2_SUPPORT_LIBEDIT=OFF -DPCRE2_SUPPORT_LIBZ=OFF -DPCRE2_SUPPORT_LIBBZ2=OFF
build utf8proc "$work/utf8proc" -DUTF8PROC_ENABLE_TESTING=OFF
build xxhash "$work/xxhash/cmake_unofficial" -DXXHASH_BUILD_XXHSUM=OFF
build zstd "$work/libzstd/build/cmake" -DZSTD_BUILD_PROGRAMS=OFF -DZSTD_BUILD_SHARED=OFF -DZSTD_BUILD_STATIC=ON \
  -DZSTD_BUILD_TESTS=OFF -DZSTD_LEGACY_SUPPORT=OFF
if [ ${#cross[@]} -gt 0 ]; then
  # Headers alone, whatever the machine.
  ( cd "$work" && apt download nlohmann-json3-dev libcli11-dev doctest-dev ) >&3 2>&1 ||
    fail "packages of headers cannot be had: $root/log says why"
  for package in "$work"/*.deb; do dpkg-deb --extract "$package" "$work/headers"; done
  cp -a "$work/headers/usr/." "$work/prefix"
  sed -i "s|\"/usr\"|\"$prefix\"|" "$work/prefix/lib/cmake/doctest/doctestTargets.cmake"  # Debian's names no other place
else
  # Debian's patch asks for its spdlog, which a library without a log does not use. Of all primitives products are enough; what only
  # others need would take most of the time.
  sed -i '/find_package(spdlog/d' "$work/onednn/src/CMakeLists.txt"
  ( cd "$work/onednn/src/cpu" && rm -f rnn/*.cpp x64/{rnn,lrn,prelu,shuffle}/*.cpp x64/gemm/*.cpp x64/gemm/*/*.cpp x64/*{_conv.,conv_,convolution,deconv,pool,resampling,normalization,softmax}*cpp \
      x64/*_inner_product.cpp {gemm,ref,simple,nchw,nhwc,ncsp,nspc}_*{convolution,deconvolution,pooling,resampling,normalization,softmax,lrn,shuffle}*.cpp {gemm,gemm_x8s8s32x,ref}_inner_product{,_int8}.cpp ) 2>&3
  build onednn "$work/onednn" -DONEDNN_LIBRARY_TYPE=STATIC -DONEDNN_CPU_RUNTIME=SEQ -DONEDNN_GPU_RUNTIME=NONE \
    -DONEDNN_BUILD_GRAPH=OFF -DONEDNN_BUILD_DOC=OFF -DONEDNN_BUILD_EXAMPLES=OFF -DONEDNN_BUILD_TESTS=OFF \
    -DONEDNN_ENABLE_WORKLOAD=INFERENCE -DONEDNN_ENABLE_PRIMITIVE=MATMUL -DONEDNN_ENABLE_GEMM_KERNELS_ISA=NONE -DONEDNN_ENABLE_JIT_PROFILING=OFF \
    -DONEDNN_ENABLE_ITT_TASKS=OFF -DONEDNN_VERBOSE=OFF -DONEDNN_EXPERIMENTAL_LOGGING=OFF
fi

rm -rf "$prefix"
mv "$work/prefix" "$prefix"
# pkg-config's files, as the last of the libraries' own folders.
sed -i "s|$work/prefix|$prefix|g" "$prefix"/lib/pkgconfig/*.pc
# What a package that holds them says of them.
mkdir "$prefix/licenses"
for name in "${!suite[@]}"; do
  cp "$work/$name/debian/copyright" "$prefix/licenses/$name" 2>/dev/null || cp "$work/$name/LICENSE" "$prefix/licenses/$name"
done
json=/usr/share/doc/nlohmann-json3-dev/copyright  # headers alone
[ ! -f $json ] || cp $json "$prefix/licenses/nlohmann-json"
{ cd "$work" && for name in "${!suite[@]}"; do
    echo "$name $(dpkg-parsechangelog -l "$name/debian/changelog" -S Version 2>/dev/null || echo 'own sources')"
  done; } | sort >"$prefix/versions"
touch "$prefix/complete"
echo "$prefix"
