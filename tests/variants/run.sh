#!/usr/bin/env bash
# Builds library, command and samples with other flags, and has the command write: `run.sh SOURCE BUILD FLAGS...`.
set -euo pipefail
source=$1 build=$2
shift 2
if ! command -v "${CXX:-c++}" >/dev/null; then echo "skipped: there is no ${CXX:-c++}"; exit 77; fi
cmake -S "$source" -B "$build" -G Ninja -DINFINI_TESTS=OFF -DINFINI_MPI=OFF \
  -DCMAKE_BUILD_TYPE=None -DCMAKE_C_FLAGS="$*" -DCMAKE_CXX_FLAGS="$*" >"$build.log" || { cat "$build.log"; exit 1; }
cmake --build "$build" --parallel "$(nproc)" >"$build.log" 2>&1 || { grep -E "error|FAILED" -A5 "$build.log" | head -n 60; exit 1; }
text=$("$build/samples/infini" generate "$source/samples/models/stories260K.gguf" --prompt 'Once upon' --temperature 0 \
  --max-tokens 12 --compute f32 --threads 1 2>/dev/null)
[ "$text" = "$(cat "$source/tests/variants/text.txt")" ] || { echo "it wrote: $text"; exit 1; }
rm -rf "$build"
