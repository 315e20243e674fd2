#!/usr/bin/env bash
# Infini beside llama.cpp, from the public packages LLamaSharp and LLamaSharp.Backend.Cpu: peers.sh BUILD VERSION
# compares logits of tiny models. peers.sh BUILD VERSION OUT [MODEL...] measures whole models besides (without MODEL: random
# weights in the shapes of larger ones, which it writes to OUT, 6 GB), and writes OUT/results.json, table.md, charts.json and
# charts.svg. BUILD is the build's bindings folder; of the environment: THREADS (2; 1: the processor's time counts), DEPTHS (0,4096,16384), TEXT (a novel).
. "$(dirname "$0")/../../bindings/common.sh"
need dotnet
need_package csharp "$1" "$2"
[ "$(dotnet --version | cut -d. -f1)" -ge 10 ] || { echo "skipped: LLamaSharp chooses instructions from .NET 10 on"; exit 77; }
use_nuget "$1"
program=$1/peers
mkdir -p "$program"
cp "$source"/tests/bench/peers/{Peers.csproj,Program.cs} "$program"
dotnet build --nologo --verbosity quiet --configuration Release -r "linux-$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')" \
  --output "$program/out" -p:InfiniPackage="$1/packages" -p:InfiniVersion="$2" "$program" | tee "$program/log" || {
  grep -E 'NU1101|NU1102|NU1301' "$program/log" | grep -v 'package Infini' >/dev/null || exit 1
  echo "skipped: NuGet does not give LLamaSharp"
  exit 77
}
dotnet "$program/out/Peers.dll" logits "$source"
[ $# -gt 2 ] || exit 0
models=("${@:4}")
if [ $# = 3 ]; then
  dotnet "$program/out/Peers.dll" shapes "$3/shapes"
  models=("$3"/shapes/*.gguf)
fi
dotnet "$program/out/Peers.dll" compare "$3" "${TEXT:-$source/samples/texts/lord_jim.txt}" "${THREADS:-2}" "${DEPTHS:-0,4096,16384}" "${models[@]}"
python3 "$source/tests/bench/plot.py" "$3/charts.json" "$3/charts.svg"
