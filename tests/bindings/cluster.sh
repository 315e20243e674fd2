#!/usr/bin/env bash
# Memories of samples/cluster outlive silos and database: cluster.sh MEMORIES SECONDS BUILD VERSION
. "$(dirname "$0")/common.sh"
need dotnet python3
need_package csharp "$3" "$4"
use_nuget "$3"
project=$3/cluster
rm -rf "$project/silo" "$project/service" # what was made of them stays
mkdir -p "$project/silo" "$project/service"
cp "$source/samples/cluster/"*.{cs,csproj,config} "$project/silo"
cp "$source/samples/csharp-service/"*.cs "$project/service"
use_our_packages "$3" "$project/silo"
if ! dotnet build --nologo --verbosity quiet --configuration Release --output "$project/out" -p:InfiniVersion="$4" \
  -p:InfiniService="$project/service" -p:BaseIntermediateOutputPath="$project/obj/" "$project/silo" >"$project/log" 2>&1; then
  cat "$project/log"
  grep -qE 'NU1101|NU1102|NU1301' "$project/log" || exit 1
  echo "skipped: NuGet does not give Orleans or Npgsql"
  exit 77
fi
python3 "$tests/cluster.py" "$source/samples/models/stories260K.gguf" "$1" "$2" dotnet "$project/out/cluster.dll"
