#!/usr/bin/env bash
# Builds a sanitizer's preset in a folder of its own, and runs the tests whose names match one expression and not the other.
#   run.sh PRESET FOLDER TESTS EXCEPT
set -euo pipefail
preset=$1 folder=$2 tests=(--tests-regex "$3" --exclude-regex "$4")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

cmake -S "$here/../.." --preset "$preset" -B "$folder" -DINFINI_SAMPLES=OFF -DINFINI_TESTS=ON
# A test's program is the target of its name, but for what says how long it runs.
mapfile -t targets < <(ctest --test-dir "$folder" --show-only "${tests[@]}" | sed -n 's/^ *Test *#[0-9]*: *//p' | sed 's/_long$//')
cmake --build "$folder" --parallel "$(nproc)" --target "${targets[@]}"

# GCC's thread sanitizer cannot place its shadow where the kernel randomises addresses too widely.
run=()
if setarch -R true 2>/dev/null; then run=(setarch -R); fi
export TSAN_OPTIONS="suppressions=$here/thread.supp halt_on_error=1 ${TSAN_OPTIONS:-}"
export LSAN_OPTIONS="suppressions=$here/leak.supp print_suppressions=0 ${LSAN_OPTIONS:-}"
export UBSAN_OPTIONS="print_stacktrace=1 ${UBSAN_OPTIONS:-}"
unset INFINI_TEST_DATA  # large models are a matter of the release tree
export OMP_WAIT_POLICY=passive  # waiting threads take no time from the others
export INFINI_FUZZ_SECONDS=${INFINI_FUZZ_SECONDS:-20}
export INFINI_WALKS=${INFINI_WALKS:-3}
"${run[@]}" ctest --test-dir "$folder" --parallel "$(nproc)" "${tests[@]}" --output-on-failure --no-tests=error
