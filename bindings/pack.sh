#!/usr/bin/env bash
# Makes the packages with libraries for linux-x64, linux-arm64 and win-x64, each of which needs nothing but its system:
# pack.sh [FOLDER], in which the three are built; without it build/packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(realpath -m "${1:-build/packages}")
for tool in swig javac dotnet; do
  command -v "$tool" >/dev/null || { echo "no \`$tool\` on the path, and the packages need it" >&2; exit 1; }
done
build() {  # PRESET TARGETS [OPTIONS...]
  local preset=$1 targets=$2
  shift 2
  cmake --preset "$preset" -B "$folder/$preset" -DINFINI_BINDINGS=ON -DINFINI_TESTS=OFF -DINFINI_SAMPLES=OFF "$@"
  # shellcheck disable=SC2086  # several targets
  nice -n 10 cmake --build "$folder/$preset" --parallel "$(nproc)" --target $targets
}
build portable-arm64 "infini_java_natives infini_csharp_natives infini_go_archive"
build windows "infini_java_natives infini_csharp_natives"
build portable all "-DINFINI_ARM64=$folder/portable-arm64" "-DINFINI_WINDOWS=$folder/windows"
ls -l "$folder/portable/bindings/packages"
