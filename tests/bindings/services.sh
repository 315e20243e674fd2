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
services=() databases=()
gson=/usr/share/java/gson.jar
if ! command -v javac >/dev/null || [ ! -e "$jar" ] || [ ! -e $gson ]; then
  echo "skipped: the service in Java, which needs \`javac\`, $(basename "$jar") and $gson (Debian package libgoogle-gson-java)"
else
  javac -Xlint:all -Werror -cp "$jar:$gson" -d "$folder/java" "$source/samples/java-service/"*.java
  drivers=/usr/share/java/sqlite-jdbc.jar:/usr/share/java/postgresql.jar
  if [ -e "${drivers%:*}" ] && [ -e "${drivers#*:}" ]; then
    databases+=(java)
  else
    echo "skipped: databases of the service in Java, which need JDBC's drivers (Debian packages libxerial-sqlite-jdbc-java, libpostgresql-jdbc-java)"
  fi
  services+=("java=java -Xmx256m -cp $jar:$gson:$drivers:$folder/java Service")
fi
if ! command -v dotnet >/dev/null || [ ! -e "$1/packages/Infini.$2.nupkg" ]; then
  echo "skipped: the service in C#, which needs \`dotnet\` and Infini.$2.nupkg"
else
  use_nuget "$1"
  copy_csharp_service "$1" "$folder/csharp"
  build=(dotnet build --nologo --verbosity quiet --configuration Release --output "$folder/cs" -p:InfiniVersion="$2" "$folder/csharp")
  if "${build[@]}" >"$folder/log" 2>&1; then
    databases+=(csharp)
  else
    grep -qE 'NU1101|NU1102|NU1301' "$folder/log" || { cat "$folder/log"; exit 1; }
    echo "skipped: databases of the service in C#, which need Microsoft.Data.Sqlite and Npgsql from NuGet"
    "${build[@]}" -p:Databases=false
  fi
  services+=("csharp=dotnet $folder/cs/csharp-service.dll")
fi
if command -v go >/dev/null; then
  cd "$source/samples/go-service"
  options=()
  sources=/usr/share/gocode/src drivers=(github.com/lib/pq github.com/mattn/go-sqlite3)
  if [ -e "$sources/${drivers[0]}/go.mod" ] && [ -e "$sources/${drivers[1]}/go.mod" ]; then
    cp go.mod "$folder"
    for driver in "${drivers[@]}"; do
      go mod edit -require="$driver@v0.0.0" -replace="$driver=$sources/$driver" "$folder/go.mod"
    done
    options=(-tags databases,libsqlite3 -modfile "$folder/go.mod")
    databases+=(go)
  else
    echo "skipped: databases of the service in Go, which need drivers (Debian packages golang-github-lib-pq-dev, golang-github-mattn-go-sqlite3-dev)"
  fi
  go vet "${options[@]}" .
  go build -race "${options[@]}" -o "$folder/go" .
  cd - >/dev/null
  services+=("go=$folder/go")
else
  echo "skipped: the service in Go, because there is no \`go\` on the path"
fi
[ ${#services[@]} -gt 0 ] || exit 77
# Clients that others wrote: OpenAI's own, the AI SDK, and a browser for samples/web; and the sample of Java's own HTTP client.
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
[ ! -e "$folder/java" ] || clients+=("bash $tests/clients/java.sh $source/samples")
INFINI_CLIENTS=$(IFS=';'; echo "${clients[*]}")
export INFINI_CLIENTS
INFINI_DATABASES="${databases[*]}" "$python" "$tests/services.py" "$source/samples/models/stories260K.gguf" "${services[@]}"
