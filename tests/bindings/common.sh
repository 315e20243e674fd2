# What the scripts here share. Each is given the build's bindings folder, which has packages/ and stage/ (an installed
# copy), and the version.
set -euo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$(cd "$tests/../.." && pwd)

# Skips the test, in words, where a command is missing.
need() {
  for command in "$@"; do
    command -v "$command" >/dev/null || { echo "skipped: no \`$command\` on the path"; exit 77; }
  done
}

# Makes the installed copy the one that compilers, pkg-config and the loader find.
use_stage() {
  local lib
  lib=$(dirname "$(find "$1/stage" -name libinfini.so -print -quit)")
  sed -i "s|^prefix=.*|prefix=$1/stage|" "$lib/pkgconfig/infini.pc" # it was not configured for this place
  export PKG_CONFIG_PATH=$lib/pkgconfig LD_LIBRARY_PATH=$lib
}

# NuGet packages are kept in the build; ours is taken anew, because its version does not change with its contents.
use_nuget() {
  export NUGET_PACKAGES=$1/nuget DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
  rm -rf "$NUGET_PACKAGES/infini"
}
