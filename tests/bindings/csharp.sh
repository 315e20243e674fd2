#!/usr/bin/env bash
# The C# package's suite, with xunit: csharp.sh BUILD VERSION
. "$(dirname "$0")/common.sh"
need dotnet python3
need_package csharp "$@"
use_nuget "$1"
project=$1/csharp/tests
rm -rf "$project"
cp -r "$tests/csharp" "$project"
chat_model "$project/chat.gguf"
export INFINI_CHAT=$project/chat.gguf
export INFINI_SOURCE=$source INFINI_TRAINING=$1/training.txt
dotnet test --nologo --logger 'console;verbosity=normal' --blame-hang-timeout 300s --blame-hang-dump-type none \
  -p:InfiniPackage="$1/packages" -p:InfiniVersion="$2" "$project"
