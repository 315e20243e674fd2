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

# Skips the test, in words, where the package of a language was not built: need_package java|csharp BUILD VERSION
need_package() {
  local file=$2/packages/infini-$3.jar
  [ "$1" = java ] || file=$2/packages/Infini.$3.nupkg
  [ -e "$file" ] || { echo "skipped: $(basename "$file") was not built; \`cmake\` says why when it configures"; exit 77; }
}

# Makes the installed copy the one that compilers, pkg-config and the loader find.
use_stage() {
  local lib
  lib=$(dirname "$(find "$1/stage" -name libinfini.so -print -quit)")
  export PKG_CONFIG_PATH=$lib/pkgconfig LD_LIBRARY_PATH=$lib
}

# NuGet packages are kept in the build; ours is taken anew, because its version does not change with its contents.
use_nuget() {
  export NUGET_PACKAGES=$1/nuget DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
  rm -rf "$NUGET_PACKAGES/infini"
}
