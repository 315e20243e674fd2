#!/usr/bin/env bash
# The sample services keep what samples/SERVICES.md promises, and each restores what the others saved. Those whose tools are
# missing are left out, in words. services.sh BUILD VERSION
. "$(dirname "$0")/common.sh"
need python3
python3 -c 'import yaml' 2>/dev/null || { echo "skipped: Python has no yaml (Debian package python3-yaml)"; exit 77; }
use_stage "$1"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
jar=$1/packages/infini-$2.jar
services=()
gson=/usr/share/java/gson.jar
if ! command -v javac >/dev/null || [ ! -e "$jar" ] || [ ! -e $gson ]; then
  echo "java left out: it needs \`javac\`, $(basename "$jar") and $gson (Debian package libgoogle-gson-java)"
else
  javac -Xlint:all -Werror -cp "$jar:$gson" -d "$folder/java" "$source/samples/java-service/"*.java
  services+=("java=java -Xmx256m -cp $jar:$gson:$folder/java Service")
fi
if ! command -v dotnet >/dev/null || [ ! -e "$1/packages/Infini.$2.nupkg" ]; then
  echo "csharp left out: it needs \`dotnet\` and Infini.$2.nupkg"
else
  use_nuget "$1"
  cp -r "$source/samples/csharp-service" "$folder/csharp"
  sed -i "s#value=.*packages\"#value=\"$1/packages\"#" "$folder/csharp/nuget.config"
  dotnet build --nologo --verbosity quiet --configuration Release --output "$folder/cs" \
    -p:InfiniVersion="$2" "$folder/csharp"
  services+=("csharp=dotnet $folder/cs/csharp-service.dll")
fi
if command -v go >/dev/null; then
  (cd "$source/samples/go-service" && go vet . && go build -race -o "$folder/go" .)
  services+=("go=$folder/go")
else
  echo "go left out: no \`go\` on the path"
fi
[ ${#services[@]} -gt 0 ] || exit 77
python3 "$tests/services.py" "$source/samples/models/stories260K.gguf" "${services[@]}"
