#!/usr/bin/env bash
# A portable build with its packages, and the tests of the core, of the C interface and of the packages in it: build.sh SOURCE BUILD
set -euo pipefail
cd "$1"
cmake --preset portable -B "$2" -DINFINI_TESTS=ON
nice -n 10 cmake --build "$2" --parallel "$(nproc)"
ctest --test-dir "$2" --output-on-failure --label-regex ci --tests-regex '^(portable|unit|capi|bindings)_'
