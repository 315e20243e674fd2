#!/usr/bin/env bash
# Installs what is needed, builds, and runs the tests through ctest, whose summary closes the run, with what was skipped and why.
#   tests/run.sh        everything labelled `ci`: the sanitizers build and run their own trees as tests of this one
#   tests/run.sh long   and everything labelled `long`
# INFINI_TEST_DATA names the folder of development data, if there is one; INFINI_NO_INSTALL=1 leaves apt alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

labels='^ci$' packages=(build test fuzz shelf bindings page desktop mpi arm64 windows)
case ${1:-} in
  '') ;;
  long) labels='^(ci|long)$' ;;
  *) echo "usage: tests/run.sh [long]" >&2; exit 1 ;;
esac

bash samples/packages.sh "${packages[@]}"
if command -v ccache >/dev/null; then  # what was compiled before, here or for the trees of sanitizers, is there at once
  export CMAKE_C_COMPILER_LAUNCHER=${CMAKE_C_COMPILER_LAUNCHER-ccache} CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER-ccache}
fi
cmake --preset developer
cmake --build --preset developer --parallel "$(nproc)"
skipped=()
left_out() { skipped+=("skipped: the tests of $1, because there is $2"); }
for language in "swig:Java and C#" javac:Java dotnet:C# go:Go xvfb-run:"the desktop sample" mpirun:"training on several processes"; do
  command -v "${language%%:*}" >/dev/null || left_out "${language#*:}" "no \`${language%%:*}\` on the path"
done
pkg-config --exists gtkmm-4.0 || left_out "the desktop sample" "no gtkmm-4.0"
pkg-config --exists sqlite3 || left_out "the sample \`shelf\`" "no SQLite"
compgen -G "build/release/bindings/packages/Infini.*.nupkg" >/dev/null || ! command -v dotnet >/dev/null ||
  left_out C# "no package of it; see \`dotnet restore\` in what cmake wrote"
# Tests that measure time, or take all cores themselves, run alone.
failed=0
ctest --test-dir build/release --parallel "$(nproc)" --label-regex "$labels" --output-on-failure --no-tests=error || failed=$?
# Whole tests that were skipped are named in ctest's summary; here is the reason, also of cases of tests that ran.
mapfile -t -O ${#skipped[@]} skipped < <(grep -hi '^skipped: ' build/release/Testing/Temporary/LastTest.log | sort -u)
if [ ${#skipped[@]} -gt 0 ]; then
  printf '\n%s\n' "Skipped here:"
  printf '  %s\n' "${skipped[@]#[Ss]kipped: }"
fi
exit "$failed"
