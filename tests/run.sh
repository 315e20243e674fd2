#!/usr/bin/env bash
# Installs what is needed, builds, and runs the tests through ctest. One summary, ctest's, closes the run.
#   tests/run.sh        everything labelled `ci`: the sanitizers build and run their own trees as tests of this one
#   tests/run.sh long   and everything labelled `long`
# INFINI_TEST_DATA names the folder of development data, if there is one; INFINI_NO_INSTALL=1 leaves apt alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

labels='^ci$' packages=(build test shelf)
case ${1:-} in
  '') ;;
  long) labels='^(ci|long)$' packages+=(fuzz) ;;
  *) echo "usage: tests/run.sh [long]" >&2; exit 1 ;;
esac

bash samples/packages.sh "${packages[@]}"
cmake --preset release
cmake --build --preset release --parallel "$(nproc)"
exec ctest --test-dir build/release --label-regex "$labels" --output-on-failure --no-tests=error
