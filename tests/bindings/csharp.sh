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

# The folder that the program names, and the words where what lies there cannot be loaded.
sed -i '/<\/PropertyGroup>/a <ItemGroup><RuntimeHostConfigurationOption Include="infini.library.path" Value="$(Natives)" /></ItemGroup>' "$project/Tests.csproj"
named() { # FOLDER
  dotnet test --nologo --filter FullyQualifiedName~GoldenTranscript --logger 'console;verbosity=normal' \
    -p:InfiniPackage="$packages" -p:InfiniVersion="$version" -p:Natives="$1" "$project" >"$project/log" 2>&1
}
packages=$1/packages version=$2
mkdir "$project/lacking"
for file in libinfini.so.0 libinfini_csharp.so; do sed 's/libm\.so\.6/libq.so.6/g' "$1/csharp/natives/$file" >"$project/lacking/$file"; done
named "$1/csharp/natives" || { cat "$project/log"; exit 1; }
if named "$project/lacking"; then echo "it loaded what cannot be loaded"; exit 1; fi
grep "DllNotFoundException : infini: .*The system has no libq.so.6: install it" "$project/log"
grep -q "System.DllNotFoundException : infini: the native library could not be loaded in $project/lacking, which infini.library.path names" "$project/log"
