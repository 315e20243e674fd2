#!/usr/bin/env bash
# Generation through each binding is at least 0.95 as fast as through C: overhead.sh C-PROGRAM BUILD VERSION
# All programs run in turns, and each counts with its best round, so that other work on the machine harms them alike.
. "$(dirname "$0")/common.sh"
need java javac dotnet go
need_package java "$2" "$3"
need_package csharp "$2" "$3"
use_stage "$2"
use_nuget "$2"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
jar=$2/packages/infini-$3.jar
javac -cp "$jar" -d "$folder" "$tests/overhead/Overhead.java"
cp -r "$tests/overhead/csharp" "$folder/csharp"
dotnet build --nologo --verbosity quiet --configuration Release --output "$folder/cs" \
  -p:InfiniPackage="$2/packages" -p:InfiniVersion="$3" "$folder/csharp"
(cd "$tests/overhead/go" && go build -o "$folder/go" .)

model=$source/samples/models/stories260K.gguf
declare -A best
run() {
  local speed
  speed=$("${@:2}" "$model" 2)
  [ "$speed" -lt "${best[$1]:-0}" ] || best[$1]=$speed
}
for round in {1..15}; do
  run C "$1"
  run Java java -cp "$jar:$folder" Overhead
  run C# dotnet "$folder/cs/Overhead.dll"
  run Go "$folder/go"
  slow=0
  for language in C Java C# Go; do
    ratio=$((1000 * ${best[$language]} / ${best[C]}))
    more=$((1000000000 / ${best[$language]} - 1000000000 / ${best[C]}))
    echo "$round rounds, $language: ${best[$language]} tokens/s, $((ratio / 10)).$((ratio % 10)) % of C, $more ns more a token"
    [ "$ratio" -ge 950 ] || slow=1
  done
  [ "$round" -lt 6 ] || [ $slow = 1 ] || exit 0
done
exit 1
