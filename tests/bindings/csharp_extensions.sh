#!/usr/bin/env bash
# The suite of the C# package for Microsoft.Extensions.AI, with xunit: csharp_extensions.sh BUILD VERSION
. "$(dirname "$0")/common.sh"
need dotnet python3
need_package csharp-extensions "$@"
use_nuget "$1"
project=$1/csharp-extensions/tests
rm -rf "$project"
cp -r "$tests/csharp-extensions" "$project"
properties=(-p:InfiniPackage="$1/packages" -p:InfiniVersion="$2")
if ! dotnet restore "${properties[@]}" "$project" >"$project/log" 2>&1; then
  cat "$project/log"
  # Of packages that NuGet does not give, ours are not.
  grep -E 'NU1101|NU1102|NU1301' "$project/log" | grep -qv 'package Infini' || exit 1
  echo "skipped: NuGet does not give what the tests are built with"
  exit 77
fi
chat_model "$project/chat.gguf"
export INFINI_CHAT=$project/chat.gguf INFINI_SOURCE=$source
dotnet test --no-restore --nologo --logger 'console;verbosity=normal' --blame-hang-timeout 300s --blame-hang-dump-type none \
  "${properties[@]}" "$project"
