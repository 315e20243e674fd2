#!/usr/bin/env bash
# What knows Windows compiles for it, with the header: windows.sh SOURCE_FOLDER BUILD_FOLDER. Nothing is linked, and nothing runs.
set -euo pipefail
compiler=x86_64-w64-mingw32-g++-posix
command -v $compiler >/dev/null || { echo "skipped: no \`$compiler\` on the path: samples/packages.sh windows installs it"; exit 77; }
cd "$1"
$compiler -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Wshadow -Werror -D_FILE_OFFSET_BITS=64 -Ilib -I"$2/include" -Isamples/infini \
  lib/base/platform.cc lib/base/platform_windows.cc samples/infini/system_windows.cc -x c++ capi/infini_train.h
