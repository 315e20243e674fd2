#!/usr/bin/env bash
# The ten lines of each package's README on a system that holds a JRE, .NET's runtime and Go with a C compiler, and nothing that
# the library stands on: bare.sh BINDINGS_FOLDER_OF_A_PORTABLE_BUILD VERSION SUITE
# The system is made by mmdebstrap, as root; .NET's runtime is the one of this machine, copied in.
. "$(dirname "$0")/../bindings/common.sh"
need mmdebstrap javac dotnet python3 unzip
need_package java "$1" "$2"
need_package csharp "$1" "$2"
[ "$(id -u)" = 0 ] || { echo "skipped: a chroot needs root"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
packages=$(cd "$1/packages" && pwd)

mmdebstrap --quiet --variant=minbase --include=default-jre-headless,golang-go,gcc,libc6-dev,libstdc++6 "$3" "$root" >&2 ||
  { echo "skipped: no system of $3 can be made here"; exit 77; }
# But for libgomp, which comes with GCC.
if find "$root/usr/lib" -name '*.so*' | grep -E '/lib(dnnl|openblas|hwy|utf8proc|OpenCL)\.so'; then
  echo "that system holds what the library stands on"; exit 1
fi

# The programs as the READMEs print them; Java's and C#'s are compiled here, where the compilers are.
python3 - "$source" "$work" <<'PY'
import re, sys
for language, name in ('java', 'Hello.java'), ('csharp', 'Program.cs'), ('go', 'main.go'):
    readme = open(f'{sys.argv[1]}/bindings/{language}/README.md', encoding='utf-8').read()
    open(f'{sys.argv[2]}/{name}', 'w').write(re.search(rf'^```{language}\n(// {name}\n.*?)^```$', readme, re.M | re.S)[1])
PY
home=$root/root/hello
mkdir "$home"
cp "$source/samples/models/stories260K.gguf" "$home/model.gguf"
cp "$packages/infini-$2.jar" "$home"
cp -r "$packages/infini-go-$2" "$root/root/infini"
cp "$work/main.go" "$home"
javac --release 17 -cp "$home/infini-$2.jar" -d "$home" "$work/Hello.java"
use_nuget "$1"
( mkdir "$work/hello" && cd "$work/hello" && cp ../Program.cs . && dotnet new console --force --no-restore >/dev/null && cp ../Program.cs . &&
  printf '<configuration><packageSources><add key="infini" value="%s" /></packageSources></configuration>' "$packages" >nuget.config &&
  dotnet add package Infini --version "$2" >/dev/null && dotnet publish --nologo --verbosity quiet --output "$home/cs" -p:UseAppHost=false )
dotnet=$(dirname "$(readlink -f "$(command -v dotnet)")")
mkdir -p "$root/opt/dotnet/shared"
cp -r "$dotnet/dotnet" "$dotnet/host" "$root/opt/dotnet"
cp -r "$dotnet/shared/Microsoft.NETCore.App" "$root/opt/dotnet/shared"

bare() {
  echo "== $3, $1" >&2
  chroot "$root" env -i HOME=/root PATH=/usr/bin:/bin:/opt/dotnet DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 GOPROXY=off GOFLAGS=-mod=mod \
    sh -euc "cd /root/hello; $2" | tee "$work/log"
  grep -q "there was a little girl named Lily" "$work/log"
}
mount --bind /proc "$root/proc" 2>/dev/null || mount -t proc proc "$root/proc"
trap 'umount "$root/proc"; rm -rf --one-file-system "$work"' EXIT
bare Java "java -cp infini-$2.jar:. Hello" "$3"
bare C# "dotnet cs/hello.dll" "$3"
bare Go "go mod init hello 2>/dev/null; go mod edit -require=example.org/infini@v$2 -replace=example.org/infini=../infini; go run main.go" "$3"
