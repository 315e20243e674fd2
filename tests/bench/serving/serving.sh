#!/usr/bin/env bash
# Load on samples/csharp-service and on a service of LLamaSharp in ASP.NET, with the same file, in turns: serving.sh BUILD VERSION MODEL
# prints a table. BUILD is the build's bindings folder; of the environment: CLIENTS (1 16 64), TOKENS that a request writes (64), the
# characters of its PROMPT (400), PLACES in the batch of each service (16), THREADS (those of the machine), SIDES (infini llama); with
# BOOK=1 another client meanwhile feeds a book to a memory, which LLamaSharp has not.
. "$(dirname "$0")/../../bindings/common.sh"
need dotnet
need_package csharp "$1" "$2"
[ "$(dotnet --version | cut -d. -f1)" -ge 10 ] || { echo "skipped: LLamaSharp chooses instructions from .NET 10 on"; exit 77; }
use_nuget "$1"
folder=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cp -r "$source/tests/bench/serving" "$folder"
copy_csharp_service "$1" "$folder/csharp-service"
dotnet build --nologo --verbosity quiet --configuration Release --output "$folder/ours" -p:InfiniVersion="$2" -p:Databases=false "$folder/csharp-service"
dotnet build --nologo --verbosity quiet --configuration Release -r "linux-$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')" \
  --output "$folder/theirs" "$folder/serving"
threads=${THREADS:-$(nproc)} places=${PLACES:-16}
export INFINI_TOKEN=secret INFINI_BATCH=$places INFINI_QUEUE=1000 INFINI_LOG=off INFINI_STORE=none
declare -A port process
serve() { # NAME COMMAND...: starts it, and waits until it listens
  "${@:2}" >"$folder/$1.log" 2>&1 &
  pids+=($!)
  process[$1]=$!
  port[$1]=$(port_of "$folder/$1.log" "${process[$1]}")
}
for side in ${SIDES:-infini llama}; do
  case $side in
    infini) serve infini dotnet "$folder/ours/csharp-service.dll" "$3" 127.0.0.1:0 ;;
    llama) serve llama dotnet "$folder/theirs/Serving.dll" serve "$3" 127.0.0.1:0 "$threads" "$places" ;;
  esac
done
echo '| service | clients | requests | requests/s | tokens/s | tokens a second of its processor time | first token, s, p50 | p99 | KB/s of the book |'
echo '|---|---|---|---|---|---|---|---|---|'
for clients in ${CLIENTS:-1 16 64}; do
  for side in ${SIDES:-infini llama}; do
    dotnet "$folder/theirs/Serving.dll" load "$side" "${port[$side]}" "${process[$side]}" "$source/samples/texts/lord_jim.txt" \
      "${TOKENS:-64}" "${PROMPT:-400}" "${BOOK:-0}" "$clients"
  done
done
