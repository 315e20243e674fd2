#!/usr/bin/env bash
# Memories of samples/cluster outlive silos and database: cluster.sh MEMORIES AT_HAND SECONDS BUILD VERSION
. "$(dirname "$0")/common.sh"
need dotnet python3
memories=$1 at_hand=$2 seconds=$3
shift 3
need_package csharp "$1" "$2"
use_nuget "$1"
project=$1/cluster
rm -rf "$project/silo" "$project/service" # what was made of them stays
mkdir -p "$project/silo" "$project/service"
cp "$source/samples/cluster/"*.{cs,csproj,config} "$project/silo"
cp "$source/samples/csharp-service/"*.cs "$project/service"
use_our_packages "$1" "$project/silo"
if ! dotnet build --nologo --verbosity quiet --configuration Release --output "$project/out" -p:InfiniVersion="$2" \
  -p:InfiniService="$project/service" -p:BaseIntermediateOutputPath="$project/obj/" "$project/silo" >"$project/log" 2>&1; then
  cat "$project/log"
  grep -qE 'NU1101|NU1102|NU1301' "$project/log" || exit 1
  echo "skipped: NuGet does not give Orleans or Npgsql"
  exit 77
fi
python3 "$tests/cluster.py" "$source/samples/models/stories260K.gguf" "$memories" "$at_hand" "$seconds" dotnet "$project/out/cluster.dll"
