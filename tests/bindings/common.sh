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

# Skips the test, in words, where the package of a language was not built: need_package java|csharp|csharp-extensions BUILD VERSION
need_package() {
  local file=$2/packages/infini-$3.jar
  [ "$1" != csharp ] || file=$2/packages/Infini.$3.nupkg
  [ "$1" != csharp-extensions ] || file=$2/packages/Infini.Extensions.AI.$3.nupkg
  [ -e "$file" ] || { echo "skipped: $(basename "$file") was not built; \`cmake\` says why when it configures"; exit 77; }
}

# Makes the installed copy the one that compilers, pkg-config and the loader find.
use_stage() {
  local lib
  lib=$(dirname "$(find "$1/stage" -name libinfini.so -print -quit)")
  export PKG_CONFIG_PATH=$lib/pkgconfig LD_LIBRARY_PATH=$lib
}

# NuGet packages are kept in the build; ours are taken anew, because their version does not change with their contents.
use_nuget() {
  export NUGET_PACKAGES=$1/nuget DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
  rm -rf "$NUGET_PACKAGES/infini" "$NUGET_PACKAGES/infini.extensions.ai"
}

# Writes the small model with a chat template: chat_model FILE
chat_model() { python3 -B "$tests/chat_model.py" "$source/samples/models/stories260K.gguf" "$1"; }

# Has a project take our packages from the build: use_our_packages BUILD PROJECT
use_our_packages() { sed -i "s#value=.*packages\"#value=\"$1/packages\"#" "$2/nuget.config"; }

# Copies the service in C#, which takes our packages from the build: copy_csharp_service BUILD FOLDER
copy_csharp_service() {
  mkdir "$2"
  cp "$source/samples/csharp-service/"*.{cs,csproj,config} "$2"
  use_our_packages "$1" "$2"
}

# Prints the port of a service that is starting, once it listens: port_of LOG PROCESS
port_of() {
  until grep '^listening on ' "$1" >/dev/null 2>&1; do
    kill -0 "$2" 2>/dev/null || { cat "$1" >&2; return 1; }
    sleep 0.1
  done
  sed -n 's/^listening on .*://p' "$1"
}
