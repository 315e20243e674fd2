#!/usr/bin/env bash
# The sample services keep what samples/SERVICES.md promises, and each restores what the others saved. Those whose tools are
# missing are left out, in words. services.sh BUILD VERSION
. "$(dirname "$0")/common.sh"
need python3
for python in python3 /usr/bin/python3 ''; do # Debian's package is for Debian's Python, which may not be the first on the path
  [ -n "$python" ] || { echo "skipped: Python has no yaml (Debian package python3-yaml)"; exit 77; }
  "$python" -c 'import yaml' 2>/dev/null && break
done
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
# Clients that others wrote: OpenAI's own, the AI SDK, and a browser for samples/web.
clients=()
if command -v npm >/dev/null && npm install --silent --no-audit --no-fund --prefix "$1/npm" openai@7.59.0 ai@7.0.173 \
  @ai-sdk/openai-compatible@3.0.92 playwright-core@1.65.1 >/dev/null 2>&1; then
  clients+=("node $tests/clients/openai.mjs $1/npm" "node $tests/clients/aisdk.mjs $1/npm")
  if command -v chromium >/dev/null; then
    clients+=("node $tests/clients/page.mjs $1/npm $(command -v chromium)")
  else
    echo "skipped: the page of samples/web, which needs \`chromium\`"
  fi
else
  echo "skipped: OpenAI's client for JavaScript, the AI SDK, and the page of samples/web, which need \`npm\` and its registry"
fi
if [ -e "$folder/cs" ] && cp -r "$tests/clients" "$folder/clients" && dotnet build --nologo --verbosity quiet --configuration Release \
  --output "$folder/client" "$folder/clients" >"$folder/log" 2>&1; then
  clients+=("dotnet $folder/client/clients.dll")
elif [ -e "$folder/cs" ]; then
  grep -qE 'NU1101|NU1301' "$folder/log" || { cat "$folder/log"; exit 1; }
  echo "skipped: OpenAI's client for .NET, which needs NuGet"
fi
INFINI_CLIENTS=$(IFS=';'; echo "${clients[*]}")
export INFINI_CLIENTS
"$python" "$tests/services.py" "$source/samples/models/stories260K.gguf" "${services[@]}"
