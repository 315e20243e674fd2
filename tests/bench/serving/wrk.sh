#!/usr/bin/env bash
# Load on the sample services in Go, C# and Java by wrk, a client that others wrote (Debian package wrk), in turns: wrk.sh BUILD VERSION
# MODEL prints a table. BUILD is the build's bindings folder; of the environment: CLIENTS (1 16 64), TOKENS that a request writes (32), the
# characters of its PROMPT (400), SECONDS_EACH of a row (20), SERVICES (go csharp java).
. "$(dirname "$0")/../../bindings/common.sh"
need wrk curl
use_stage "$1"
folder=$(mktemp -d)
service=
trap 'kill $service 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
export INFINI_TOKEN=secret INFINI_BATCH=16 INFINI_QUEUE=1000 INFINI_LOG=off INFINI_STORE=none TOKENS=${TOKENS:-32} PROMPT=${PROMPT:-400}
export TEXT=$source/samples/texts/lord_jim.txt
echo '| service | clients | requests/s | tokens/s | latency, s, p50 | p99 | failed |'
echo '|---|---|---|---|---|---|---|'
for NAME in ${SERVICES:-go csharp java}; do
  case $NAME in
    go)
      need go
      (cd "$source/samples/go-service" && go build -o "$folder/go" .)
      command=("$folder/go")
      ;;
    csharp)
      need_package csharp "$1" "$2"
      use_nuget "$1"
      copy_csharp_service "$1" "$folder/csharp-service"
      dotnet build --nologo --verbosity quiet --configuration Release --output "$folder/cs" -p:InfiniVersion="$2" -p:Databases=false "$folder/csharp-service" >/dev/null
      command=(dotnet "$folder/cs/csharp-service.dll")
      ;;
    java)
      need_package java "$1" "$2"
      classes=$1/packages/infini-$2.jar:/usr/share/java/gson.jar
      javac -cp "$classes" -d "$folder/java" "$source/samples/java-service/"*.java
      command=(java -cp "$classes:$folder/java" Service)
      ;;
  esac
  "${command[@]}" "$3" 127.0.0.1:0 >"$folder/$NAME.log" 2>&1 &
  service=$!
  port=$(port_of "$folder/$NAME.log" $service)
  for CLIENTS_NOW in ${CLIENTS:-1 16 64}; do
    export NAME CLIENTS_NOW
    wrk --threads 1 --connections "$CLIENTS_NOW" --duration "${SECONDS_EACH:-20}s" --timeout 600s \
      --script "$source/tests/bench/serving/completions.lua" "http://127.0.0.1:$port/v1/completions" | grep '^| '
  done
  kill $service
  wait $service || true
done
