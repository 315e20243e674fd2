#!/usr/bin/env bash
# Builds the library and those TARGETS with flags of their own, and checks what the library computes and writes:
#   run.sh SOURCE BUILD "TARGETS" FLAGS...
set -euo pipefail
source=$1 build=$2
read -ra targets <<<"$3"
shift 3
if ! command -v "${CXX:-c++}" >/dev/null; then echo "skipped: there is no ${CXX:-c++}"; exit 77; fi
rm -rf "$build"
cmake -S "$source" -B "$build" -G Ninja -DINFINI_TESTS=ON -DINFINI_MPI=OFF -DCMAKE_COMPILE_WARNING_AS_ERROR=OFF \
  -DCMAKE_BUILD_TYPE=None -DCMAKE_C_FLAGS="$*" -DCMAKE_CXX_FLAGS="$*" >"$build.log" || { cat "$build.log"; exit 1; }
cmake --build "$build" --parallel "$(nproc)" --target capi_session capi_snapshot "${targets[@]}" >"$build.log" 2>&1 ||
  { grep -E "error|FAILED" -A5 "$build.log" | head -n 60; exit 1; }
ctest --test-dir "$build" --tests-regex '^capi_(session|snapshot)$' --output-on-failure --no-tests=error
rm -rf "$build"
