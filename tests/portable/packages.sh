#!/usr/bin/env bash
# The packages for three systems, from one command: which libraries the jar and the NuGet package hold, what those need, and a
# program in C over each, for arm64 and Windows by their emulators; and Go's ten lines for each: packages.sh SOURCE FOLDER VERSION
set -euo pipefail
source=$1 folder=$2 version=$3
PATH=$PATH:/usr/lib/wine  # where Debian has wine64
for tool in swig javac dotnet go python3 aarch64-linux-gnu-g++ qemu-aarch64 x86_64-w64-mingw32-g++-posix wine64; do
  command -v "$tool" >/dev/null || { echo "skipped: no \`$tool\` on the path"; exit 77; }
done
bash "$source/bindings/pack.sh" "$folder"
built=$folder/portable/bindings
for package in "infini-$version.jar" "Infini.$version.nupkg"; do
  [ -e "$built/packages/$package" ] || { echo "skipped: $package was not built; \`cmake\` says why above"; exit 77; }
done
bash "$source/tests/bindings/systems.sh" "windows=$folder/windows" "arm64=$folder/portable-arm64" "$built" "$version"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m zipfile -e "$built/packages/infini-$version.jar" "$work/jar"
python3 -m zipfile -e "$built/packages/Infini.$version.nupkg" "$work/nupkg"
for natives in "$work/jar/native/linux-"{x86_64,aarch64} "$work/nupkg/runtimes/linux-"{x64,arm64}/native; do
  echo "${natives#"$work/"}:"
  bash "$source/tests/portable/link.sh" "$natives/libinfini.so.0" "$source" "$natives"/libinfini_*.so
done

arm64=(qemu-aarch64 -L /usr/aarch64-linux-gnu)
windows=(env LC_ALL=C.UTF-8 WINEPREFIX="$folder/windows/wine" WINEDEBUG=-all WINEDLLOVERRIDES=mscoree,mshtml= wine64)
# says LIBRARY COMPILER EMULATOR...: the golden transcript, through the library as it lies in the jar.
says() {
  local library=$work/jar/native/$1 compiler=$2
  shift 2
  "$compiler" -std=c99 -I"$folder/portable/include" "$source/tests/bindings/golden.c" "$library" -o "${library%/*}/golden.exe"
  ( cd "${library%/*}" && LD_LIBRARY_PATH=. "$@" ./golden.exe "$source/samples/models/stories260K.gguf" ) | tr -d '\r' |
    diff "$source/tests/bindings/golden.txt" -
  echo "${library#"$work/"}: the golden transcript"
}
says linux-x86_64/libinfini.so.0 gcc env
says linux-aarch64/libinfini.so.0 aarch64-linux-gnu-gcc "${arm64[@]}"
says windows-x86_64/infini.dll x86_64-w64-mingw32-gcc-posix "${windows[@]}"

mkdir "$work/hello"
cd "$work/hello"
python3 - "$source/bindings/go/README.md" <<'PY'
import re, sys
open('main.go', 'w').write(re.search(r'^```go\n(// main.go\n.*?)^```$', open(sys.argv[1], encoding='utf-8').read(), re.M | re.S)[1])
PY
cp "$source/samples/models/stories260K.gguf" model.gguf
export GOFLAGS=-mod=mod GOPROXY=off CGO_ENABLED=1
go mod init hello 2>/dev/null
go mod edit -require="example.org/infini@v$version" -replace="example.org/infini=$built/packages/infini-go-$version"
cp "$work/jar/native/windows-x86_64/infini.dll" .
# goes SYSTEM PROCESSOR COMPILER EMULATOR...: the ten lines of Go, over the module's library for that system.
goes() {
  local system=$1 processor=$2 compiler=$3
  shift 3
  GOOS=$system GOARCH=$processor CC=$compiler go build -o hello.exe .
  if [ "$system" = linux ] && readelf --dynamic --wide hello.exe | grep NEEDED | grep -vE '\[(lib(c|m|pthread)\.so\..|ld-linux-.*\.so\..)\]'; then return 1; fi
  "$@" ./hello.exe >said
  grep -q "there was a little girl named Lily" said
  echo "Go for $system on $processor: the ten lines, $(stat -c %s hello.exe) bytes"
}
# asks COMPILER OBJDUMP PROCESSOR: of glibc, Go's library for Linux asks for nothing newer than 2.34 either.
asks() {
  "$1" -shared -o whole.so -Wl,--whole-archive "$built/packages/infini-go-$version/internal/native/linux_$3/libinfini.a" -Wl,--no-whole-archive -lm
  newest=$("$2" --dynamic-syms whole.so | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
  [ "$(printf '%s\n' "$newest" GLIBC_2.34 | sort -V | tail -n 1)" = GLIBC_2.34 ] || { echo "Go's library for $3 needs $newest" >&2; return 1; }
}
asks gcc objdump amd64
asks aarch64-linux-gnu-gcc aarch64-linux-gnu-objdump arm64
goes linux amd64 gcc env
goes linux arm64 aarch64-linux-gnu-gcc "${arm64[@]}"
goes windows amd64 x86_64-w64-mingw32-gcc-posix "${windows[@]}"
